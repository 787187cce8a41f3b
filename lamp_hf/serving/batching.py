"""Run the jobs of concurrent requests, one after the other or together."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .limits import Limits
from .tasks import Job, Task

__all__ = ["JobQueue"]


@dataclass(eq=False)
class _Waiting:
    """A job that waits for its results."""

    task: Task
    job: Job
    results: asyncio.Future
    arrived: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> Hashable:
        """Value that is the same for jobs that can run together."""
        return (self.task.name, self.job.key) if self.task.batches else id(self)


class JobQueue:
    """A queue of jobs and the thread that runs them.

    Jobs run in the order of their arrival. A job whose task `batches` waits up to `limits.max_wait_s` for jobs with the
    same key, and they run together. Jobs that arrive while others run are ready when these end, so a busy server does
    not wait at all.

    Args:
        limits: Limits of the server.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        # One thread, because PyTorch itself uses all cores.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lamp-hf-serve")
        self._worker: asyncio.Task | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        """Start to run jobs, in the event loop of the caller."""
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        """Run the jobs that wait, then stop."""
        self._closing = True
        self._changed.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def run(self, task: Task, job: Job) -> list[Any]:
        """Run a job and return its results.

        Raises:
            Exception: What the pipeline raises for this job.
        """
        results = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(task, job, results))
        self._changed.set()
        return await results

    async def _work(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                await self._change(None)
                continue
            first = self._waiting[0]
            ready = first.arrived + self._limits.max_wait_s
            while not self._closing and first.task.batches and self._size(first) < self._limits.max_batch:
                if (left := ready - time.monotonic()) <= 0:
                    break
                await self._change(left)
            if batch := self._take(first):
                outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, _run, batch)
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    if waiting.results.done():  # the request was canceled
                        continue
                    if isinstance(outcome, BaseException):
                        waiting.results.set_exception(outcome)
                    else:
                        waiting.results.set_result(outcome)

    async def _change(self, seconds: float | None) -> None:
        """Wait until a job arrives, or for some seconds."""
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _size(self, first: _Waiting) -> int:
        return sum(waiting.job.size for waiting in self._waiting if waiting.key == first.key)

    def _take(self, first: _Waiting) -> list[_Waiting]:
        """Remove the first job, and the jobs to run together with it, from the queue; canceled jobs are left out."""
        same = [waiting for waiting in self._waiting if waiting.key == first.key and not waiting.results.done()]
        sizes = itertools.accumulate(waiting.job.size for waiting in same)
        batch = [
            waiting
            for place, (waiting, size) in enumerate(zip(same, sizes, strict=True))
            if not place or size <= self._limits.max_batch
        ]
        self._waiting = deque(
            waiting for waiting in self._waiting if waiting not in batch and not waiting.results.done()
        )
        return batch


def _run(batch: Sequence[_Waiting]) -> list[Any]:
    """Return the results, or the exception, of each job of a batch."""
    task, jobs = batch[0].task, [waiting.job for waiting in batch]
    try:
        return task.run(jobs)
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    # One of the jobs is invalid. Pipelines check all inputs before they start, so little time is lost.
    return [outcome for waiting in batch for outcome in _run([waiting])]

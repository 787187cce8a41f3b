"""Compare the speed of LaMP in this checkout with that of another checkout, in one run.

python benchmarks/lamp_speed.py --against ../other-checkout [--path FOLDER ...] [--rounds 15]

The two checkouts run in separate processes and take turns, so the ratio does not depend on the load of the machine.
`--path` adds folders to the path of the other checkout, such as one with the release of transformers that it needs
(`pip install --target FOLDER transformers==5.23.0`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# Runs of each task per round, so that a round takes a few tenths of a second.
TASKS = {"forward": 2, "queries": 5, "text features": 8, "pretraining step": 1, "caption": 2}
BATCH, FRAMES, WORDS = 16, 96, 14


def main() -> None:
    """Time both checkouts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the other checkout of this repository")
    parser.add_argument(
        "--path", type=Path, action="append", default=[], help="folder of packages for the other checkout"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    if arguments.against is None or not (arguments.against / "modeling").is_dir():
        parser.error("--against needs a checkout of this repository")
    before = Worker(arguments.against.resolve(), arguments.path)
    after = Worker(HERE, [])
    print(f"before: {before.versions}; after: {after.versions}\n{'':18}{'before':>10}{'after':>10}   after / before")
    for task in TASKS:
        before.seconds(task), after.seconds(task)  # warm up
        pairs = []
        for number in range(arguments.rounds):
            order = (before, after) if number % 2 else (after, before)
            times = {worker: worker.seconds(task) for worker in order}
            pairs.append((times[before], times[after]))
        ratio = statistics.median(b / a for a, b in pairs)
        old, new = (statistics.median(side) * 1000 for side in zip(*pairs, strict=True))
        print(f"{task:18}{old:7.1f} ms{new:7.1f} ms   {ratio:.3f}", flush=True)


class Worker:
    """A process that runs tasks in one checkout on request."""

    def __init__(self, checkout: Path, packages: list[Path]) -> None:
        path = os.pathsep.join(str(folder) for folder in (checkout, *packages))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            cwd=checkout,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.versions = self._line()

    def seconds(self, task: str) -> float:
        """Run a task and return its seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{task}\n")
        self.process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the worker in {self.process.args!r} ended; run it with --serve to see why")
        return line


def serve() -> None:
    """Read names of tasks, one per line, and run them."""
    tasks = make_tasks()
    import transformers

    import lamp_hf

    print(f"{Path(lamp_hf.__file__).parent.parent} with transformers {transformers.__version__}", flush=True)
    for line in sys.stdin:
        name = line.strip()
        start = time.perf_counter()
        for _ in range(TASKS[name]):
            tasks[name]()
        print(time.perf_counter() - start, flush=True)


def make_tasks() -> dict[str, Callable[[], object]]:
    """Return the tasks: passes of the embedded LaMP on random motions and texts of various lengths."""
    import torch

    from lamp_hf.modeling.modeling_lamp_decoder_captioning import LampDecoderForMotionCaptioning
    from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    model = LampDecoderForMotionCaptioning.from_pretrained(Path("lamp_hf/checkpoints/lamp-small")).eval()
    lamp = model.lamp
    motion = torch.randn(BATCH, FRAMES, 263, generator=generator)
    motion_mask = (torch.arange(FRAMES) < 40 + 3 * torch.arange(BATCH)[:, None]).long()
    words = torch.randint(10, 20_000, (BATCH, WORDS), generator=generator)
    words_mask = (torch.arange(WORDS) < 6 + torch.arange(BATCH)[:, None] % 9).long()
    encoded = lamp.encode_motion(motion, motion_mask)
    # Older checkouts return a tuple; newer ones an output with these three first.
    embeds, token_mask, codes = tuple(encoded.to_tuple() if hasattr(encoded, "to_tuple") else encoded)[:3]
    # The layer has another name in older checkouts.
    states = getattr(lamp, "motion_to_states", lamp.motion_projection)(embeds).detach()
    learner = LampForPreTraining(lamp.config)
    learner.lamp.load_state_dict(lamp.state_dict())
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], 1e-5)

    def step() -> None:
        learner.train()
        loss = learner(
            motion_embeds=embeds,
            motion_token_mask=token_mask,
            motion_codes=codes,
            input_ids=words,
            attention_mask=words_mask,
            negatives=(torch.arange(BATCH).roll(1), torch.arange(BATCH).roll(2)),
        ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    no_grad = torch.no_grad()
    return {
        "forward": no_grad(lambda: lamp(motion, motion_mask, words, words_mask)),
        "queries": no_grad(lambda: lamp.query(states, token_mask)),
        "text features": no_grad(lambda: lamp.get_text_features(words, words_mask)),
        "pretraining step": step,
        "caption": no_grad(
            lambda: model.generate(motion[:2], motion_mask[:2], num_beams=4, min_new_tokens=12, max_new_tokens=12)
        ),
    }


if __name__ == "__main__":
    main()

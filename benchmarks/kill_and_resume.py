"""Kill a training run with SIGKILL at many points, resume it, and compare all weights bit by bit.

python benchmarks/kill_and_resume.py [--data DATA] [--stage motion-vqvae] [--random 6] [--results FILE]

There are two kinds of points: random moments, and moments while a checkpoint or the finished model is being written.
For the second kind, the benchmark watches the folder of the run, and kills the run when a certain file appears or a
checkpoint is removed. Each point has its own run. A watched file may be written faster than a signal arrives, so the
table shows what the folder contained after the kill. Then the same call starts the run again, until it ends.
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tiny_training import add_arguments, compare, make_data, save_results, short_recipe, weights_of

from lamp_hf.training import STAGES, Recipe, train
from lamp_hf.training.trainer import UNFINISHED

STEPS, SAVE_STEPS = 8, 2
WATCH_EVERY_S = 0.0002
# A fork server that has imported everything starts processes quickly.
PROCESSES = multiprocessing.get_context("forkserver")


def run(recipe: Recipe, folder: Path, log: Path) -> None:
    """Train in a child process, with the output in a log file."""
    torch.set_num_threads(1)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    train(recipe, folder)


def start(recipe: Recipe, folder: Path) -> multiprocessing.process.BaseProcess:
    """Start a run in its own process."""
    process = PROCESSES.Process(target=run, args=(recipe, folder, folder.with_suffix(".log")))
    process.start()
    return process


def finish(recipe: Recipe, folder: Path) -> float:
    """Run to the end and return the seconds that it took."""
    started = time.perf_counter()
    process = start(recipe, folder)
    process.join()
    if process.exitcode:
        raise SystemExit(f"a run ended with {process.exitcode}:\n{folder.with_suffix('.log').read_text()[-3000:]}")
    return time.perf_counter() - started


def kill_when(recipe: Recipe, folder: Path, happened: Callable[[], bool]) -> bool:
    """Start a run and kill it as soon as `happened` returns true; return `False` if the run ended before."""
    process = start(recipe, folder)
    while process.is_alive():
        if happened():
            process.kill()
            process.join()
            return True
        time.sleep(WATCH_EVERY_S)
    return False


def files_of(folder: Path) -> list[str]:
    """Return the names of the files in a folder, in the order in which they were written."""
    return [path.name for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)]


def points(whole: Path, seconds: float, count: int) -> Iterator[tuple[str, Callable[[Path], Callable[[], bool]]]]:
    """Yield the name of each moment, and a function that creates its test for the folder of a run.

    Args:
        whole: Folder of an uninterrupted run, for the names of its checkpoint files.
        seconds: Duration of that run.
        count: Number of random moments.
    """
    step = STEPS // SAVE_STEPS // 2 * SAVE_STEPS
    checkpoint = f"checkpoint-{step}"
    yield "the first checkpoint begins", lambda run: appears(run / UNFINISHED)
    for file in files_of(whole / f"checkpoint-{STEPS}"):
        place = Path(UNFINISHED, checkpoint, file)
        yield f"{checkpoint}: {file} appears", lambda run, place=place: appears(run / place, run / checkpoint)
    yield f"{checkpoint} is put in place", lambda run: appears(run / checkpoint)
    yield "a checkpoint is removed", goes
    for file in ("model.safetensors", "config.json"):
        place = Path(UNFINISHED, "model", file)
        yield f"the finished {file} is written", lambda run, place=place: appears(run / place, run / place.name)
        yield f"the finished {file} is put in place", lambda run, file=file: appears(run / file)
    yield "training.json is put in place", lambda run: appears(run / "training.json")
    draws = random.Random(0)
    for _ in range(count):
        moment = draws.uniform(0.1, 1.0) * seconds
        yield f"after {moment:.1f} s", lambda run, moment=moment: after(moment)


def appears(*paths: Path) -> Callable[[], bool]:
    """Return a test that is true once any of the files exists; give later files too, in case it misses the first."""
    return lambda: any(path.exists() for path in paths)


def goes(run: Path) -> Callable[[], bool]:
    """Return a test that is true once the removal of a checkpoint has begun."""
    models = [run / f"checkpoint-{step}" / "model.safetensors" for step in range(SAVE_STEPS, STEPS + 1, SAVE_STEPS)]
    seen: set[Path] = set()

    def happened() -> bool:
        there = {model for model in models if model.exists()}
        seen.update(there)
        return seen > there

    return happened


def after(seconds: float) -> Callable[[], bool]:
    """Return a test that is true after that many seconds."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= end


def found_in(run: Path) -> tuple[str, str]:
    """Describe the folder of a killed run: its whole checkpoints, and the unfinished files."""
    if not run.is_dir():
        return "", ""
    whole = sorted((path.name.removeprefix("checkpoint-") for path in run.glob("checkpoint-*")), key=int)
    unfinished = sorted((run / UNFINISHED).glob("*/*")) or sorted((run / UNFINISHED).glob("*"))
    where = unfinished[0].parent.name if unfinished else ""
    return ", ".join(whole), f"{where}: {len(unfinished)} files" if unfinished else ""


def main() -> None:
    """Kill and resume runs, compare their weights and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--stage", default="motion-vqvae", choices=[name for name in STAGES if name != "captioning"])
    parser.add_argument("--random", type=int, default=6, help="number of random moments")
    parser.add_argument("--work", type=Path, help="folder to keep the runs in; defaults to a temporary one")
    arguments = parser.parse_args()
    PROCESSES.set_forkserver_preload(["lamp_hf.training.run", "lamp_hf.pipelines", "datasets", "transformers.trainer"])
    table = Table(title=f"{arguments.stage}, {STEPS} steps, a checkpoint every {SAVE_STEPS}")
    columns = ("killed when", "checkpoints left", "unfinished", "weights after resuming")
    for column in columns:
        table.add_column(column)
    failed = inside = late = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        data = make_data(arguments, work / "data")
        steps = {"max_steps": STEPS, "eval_steps": SAVE_STEPS, "save_steps": SAVE_STEPS}
        recipe = short_recipe(arguments.stage, data, per_device_train_batch_size=4, **steps)
        finish(recipe, work / "whole")
        seconds = finish(recipe, work / "again")  # the first one also imports modules
        wanted = weights_of(work / "whole")
        if compare(weights_of(work / "again"), wanted)[0]:
            raise SystemExit("two uninterrupted runs differ")
        for number, (name, watch) in enumerate(points(work / "whole", seconds, arguments.random)):
            folder = work / f"killed-{number:02d}"
            killed = kill_when(recipe, folder, watch(folder))
            left, unfinished = found_in(folder)
            finish(recipe, folder)
            difference, where = compare(weights_of(folder), wanted)
            result = "equal, bit for bit" if difference == 0 else f"differ by {difference:.1e} in {where}"
            if (folder / UNFINISHED).exists():
                result += f"; {UNFINISHED}/ still exists"
            inside += bool(unfinished)
            late += not killed
            failed += result != "equal, bit for bit"
            row = (name if killed else f"{name}: the run ended before", left, unfinished, result)
            table.add_row(*row)
            print(*row, sep=" | ", flush=True)
    Console(width=150).print(table)
    print(f"{table.row_count} kills, {inside} of them while files were being written")
    figures = {"kills": table.row_count, "while_files_were_written": inside, "after_the_end": late}
    save_results(arguments, arguments.stage, {**figures, "other_weights_than_unkilled": failed})
    raise SystemExit(f"{failed} runs ended with different weights" if failed else 0)


if __name__ == "__main__":
    main()

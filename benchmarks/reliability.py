"""Test reliability: parallel requests, kills at any moment, many processes in one folder, and a full disk.

python benchmarks/reliability.py [threads] [kills] [opens] [disk] [--kills 40] [--requests 100] [--results FILE]

threads  Eight threads share a processor (1,000 requests each) and each of the three pipelines (100 each), each in its
         own order. Every answer must equal the answer to the same request alone.
kills    The commands generate, index (new and extended) and convert-motion are killed with SIGKILL, half of them at
         random moments and half as soon as a file appears. No half-written file may be left.
opens    Four processes open the index of one folder twelve times each, in parallel. Every attempt must succeed.
disk     Files, an index, a conversion and a checkpoint are written to a file system of 20 MB that is nearly full. Each
         must end with an error in one line that names the file, and existing files must stay. Needs the right to mount.

Everything runs with lamp-small and motions that it generates. Exits with 1 if any check fails.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging

import lamp_hf
from lamp_hf.cli import main as command
from lamp_hf.publishing.export import export_checkpoint
from lamp_hf.retrieval import FolderSource, MotionIndex, MotionTextEncoder, build_index, open_index

THREADS, PROCESSING = 8, 1000
PROCESSES, OPENS = 4, 12
FILES = 16
DISK_MB = 20
COMMANDS = ("generate", "index", "extend", "convert-motion")
SENTENCES = ("a person walks", "the person bows", "a man waves with the right hand", "someone runs in place")
# A fork server that has imported everything starts processes quickly.
SERVER = multiprocessing.get_context("forkserver")


# ---- motions and encoder ----------------------------------------------------------------------------------


def make_motions(folder: Path, count: int, first: int = 0) -> Path:
    """Write that many different motion files to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = transformers.pipeline("text-to-motion", device="cpu")
    for number in range(first, first + count):
        made = pipe(SENTENCES[number % len(SENTENCES)], seed=number, duration=2.0 + 0.2 * (number % 5))["motion"]
        made.save(folder / f"take{number:03d}.bvh")
    return folder


def encoder() -> MotionTextEncoder:
    """Return the encoder of lamp-small."""
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained("lamp-small").eval()
    return MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained("lamp-small"))


# ---- threads ----------------------------------------------------------------------------------------------


def differing(ask: Callable[[int], Any], count: int) -> int:
    """Count the answers of eight threads that differ from those of single requests; each thread has its own order."""
    alone = [ask(number) for number in range(count)]

    def work(seed: int) -> int:
        return sum(ask(int(number)) != alone[number] for number in np.random.default_rng(seed).permutation(count))

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(work, range(THREADS)))


def threads(folder: Path, requests: int) -> Iterator[tuple[str, int, int]]:
    """Yield what was called, how often, and how many answers differed."""
    texts = [f"{SENTENCES[k % 4]} {'and waves ' * (k % 23)}{'quickly' * (k % 3)}".strip() for k in range(PROCESSING)]
    processor = lamp_hf.LampProcessor.from_pretrained("lamp-small")

    def process(number: int) -> Any:
        how: dict[str, Any] = {"padding": "max_length", "max_length": 8 + number % 20} if number % 2 else {}
        found = processor(text=[texts[number], "a person"], **how)
        processor.tokenizer(texts[number], padding="max_length", truncation=True, max_length=5)  # as others may
        return found["input_ids"].tolist(), processor.cut_words(texts[number])

    yield "processor", THREADS * PROCESSING, differing(process, PROCESSING)

    make = transformers.pipeline("text-to-motion", device="cpu")

    def generate(number: int) -> bytes:
        made = make(SENTENCES[number % 4], seed=number, num_frames=8 + 4 * (number % 3), num_inference_steps=2)
        return made["motion"].features.tobytes()

    yield "text-to-motion", THREADS * requests, differing(generate, requests)

    motions = [lamp_hf.Motion.load(path) for path in sorted(folder.glob("*.bvh"))]
    tell = transformers.pipeline("motion-captioning", device="cpu")

    def caption(number: int) -> Any:
        return tell(motions[number % len(motions)], num_beams=1 + number % 3, max_new_tokens=4)

    yield "motion-captioning", THREADS * requests, differing(caption, requests)

    find = transformers.pipeline("motion-retrieval", index=folder, device="cpu", num_proc=1)

    def search(number: int) -> Any:
        query = texts[number] if number % 2 else motions[number % len(motions)]
        return find(query, top_k=1 + number % 5, rerank=4 * (number % 4 == 1))

    yield "motion-retrieval", THREADS * requests, differing(search, requests)


# ---- kills ------------------------------------------------------------------------------------------------


def run(arguments: list[str], log: Path) -> None:
    """Run one command of `lamp-hf` in a child process, with the output in a log file."""
    torch.set_num_threads(1)
    with log.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    command(arguments)


def start(arguments: list[Any], log: Path) -> multiprocessing.process.BaseProcess:
    """Start a command in its own process."""
    process = SERVER.Process(target=run, args=([str(argument) for argument in arguments], log))
    process.start()
    return process


def files_in(folder: Path) -> set[Path]:
    """Return all files below a folder except lock files."""
    return {path for path in folder.rglob("*") if path.name != ".lock" and path.is_file()}


def kill(arguments: list[Any], output: Path, after_s: float | None, log: Path) -> bool:
    """Kill a command after that many seconds, or when a file appears in its output; return `False` if it had ended."""
    before = files_in(output)
    process = start(arguments, log)
    ends = None if after_s is None else time.perf_counter() + after_s
    while process.is_alive():
        if time.perf_counter() >= ends if ends is not None else files_in(output) - before:
            process.kill()
            break
        time.sleep(0.0002)
    process.join()
    return process.exitcode == -9


def kills(folder: Path, scratch: Path, count: int, commands: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield what was killed, how often, and how often it left something half-written."""
    draws = random.Random(0)
    reader = encoder()
    query = reader.encode_texts(["a person walks"])
    few = make_motions(scratch / "few", 4)
    built = build_index(scratch / "built", FolderSource(few, num_proc=1), reader, progress=False).path

    def whole_motions(output: Path) -> bool:
        """Check that all visible files can be read."""
        for path in files_in(output):
            if not path.name.startswith("."):
                assert lamp_hf.Motion.load(path).num_frames >= 20
        return True

    def whole_index(output: Path, at_least: int) -> bool:
        """Return whether the index, if it exists, opens and still has at least that many motions."""
        if not (output / "index.json").is_file():
            return at_least == 0
        index = MotionIndex.open(output)
        [found] = index.find_motions(query, top_k=999)
        return len(found) == len(index) >= at_least

    cases: dict[str, tuple[Callable[[Path], list[Any]], Callable[[Path], Any], Callable[[Path], bool]]] = {
        "generate": (
            lambda output: ["generate", *SENTENCES, "-d", "2", "-o", output / "made.npz"],
            lambda output: output.mkdir(),
            whole_motions,
        ),
        "index": (
            lambda output: ["index", folder, "-o", output, "--num-proc", "1"],
            lambda output: None,
            lambda output: whole_index(output, 0),
        ),
        "extend": (
            lambda output: ["index", folder, "-o", output, "--num-proc", "1"],
            lambda output: shutil.copytree(built, output),
            lambda output: whole_index(output, 4),
        ),
        "convert-motion": (
            lambda output: ["convert-motion", folder, output, "--to", "npz"],
            lambda output: None,
            whole_motions,
        ),
    }
    for name in commands:
        arguments, prepare, is_whole = cases[name]
        prepare(scratch / name)
        began = time.perf_counter()
        process = start(arguments(scratch / name), scratch / f"{name}.log")
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name} failed:\n{(scratch / f'{name}.log').read_text()}")
        seconds = time.perf_counter() - began
        killed = bad = 0
        while killed < count:
            output = scratch / f"{name}-{killed}"
            shutil.rmtree(output, ignore_errors=True)
            prepare(output)
            after_s = draws.uniform(0, seconds) if killed % 2 else None
            if not kill(arguments(output), output, after_s, scratch / f"{name}.log"):
                continue
            killed += 1
            try:
                bad += not is_whole(output)
                again = start(arguments(output), scratch / f"{name}.log") if killed % 10 == 0 else None
                if again is not None:  # the same command must succeed afterwards
                    again.join()
                    bad += bool(again.exitcode) or not is_whole(output)
            except Exception as error:
                bad += 1
                print(f"{name} after {after_s}: {type(error).__name__}: {error}")
        yield f"{name} killed", killed, bad


# ---- one folder, many processes ---------------------------------------------------------------------------


def open_often(folder: Path, cache: str, begin: Any, answers: Any) -> None:
    """Open the index of a folder and search it, twelve times, in a child process."""
    os.environ["LAMP_HF_CACHE"] = cache
    torch.set_num_threads(1)
    reader = encoder()
    begin.wait()
    for _ in range(OPENS):
        try:
            index = open_index(folder, reader, num_proc=1, progress=False)
            [found] = index.find_motions(reader.encode_texts(["a person walks"]), top_k=3)
            answers.put((len(index), len(found)))
        except Exception as error:
            answers.put(f"{type(error).__name__}: {error}")


def opens(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Yield how often the index was opened, and how often that failed."""
    with SERVER.Manager() as manager:
        begin, answers = manager.Barrier(PROCESSES), manager.Queue()
        arguments = (folder, os.environ["LAMP_HF_CACHE"], begin, answers)
        processes = [SERVER.Process(target=open_often, args=arguments) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        found = [answers.get() for _ in range(answers.qsize())]
    good = sum(answer == (len(list(folder.iterdir())), 3) for answer in found)
    yield "parallel opens", PROCESSES * OPENS, PROCESSES * OPENS - good


# ---- a full disk ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a file system of 20 MB; yield `None` if that is not possible."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # lazy, because indexes are memory-mapped


def fill(folder: Path, leaving: int) -> None:
    """Fill the disk up to that many free bytes."""
    (folder / "filler").unlink(missing_ok=True)
    (folder / "filler").write_bytes(bytes(max(shutil.disk_usage(folder).free - leaving, 0)))


def disk(folder: Path, scratch: Path) -> Iterator[tuple[str, int, int]]:
    """Yield what was written to a full disk, how often, and how often that went wrong."""
    reader = encoder()
    few = make_motions(scratch / "first", 4)
    with small_disk(scratch / "disk") as place:
        if place is None:
            print("disk: skipped, because a file system cannot be mounted here")
            return
        old = lamp_hf.Motion.load(few / "take000.bvh")
        index = build_index(place / "index", FolderSource(few, num_proc=1), reader, progress=False).path
        kept = len(MotionIndex.open(index))
        for name in ("old.bvh", "old.glb", "old.gif"):
            old.save(place / name)
        saved = {path: path.read_bytes() for path in place.glob("old.*")}
        tries: dict[str, list[Any]] = {
            **{f"a {path.suffix[1:]}": ["generate", SENTENCES[0], "-o", path] for path in sorted(saved)},
            "an index": ["index", folder, "-o", index, "--num-proc", "1"],
            "a conversion": ["convert-motion", folder, place / "out", "--to", "npz"],
        }
        for name, arguments in tries.items():
            count = bad = 0
            for leaving in (0, 4_096, 20_000):
                fill(place, leaving)
                log = scratch / "disk.log"
                log.unlink(missing_ok=True)
                process = start(arguments, log)
                process.join()
                lines = log.read_text().splitlines()
                count += 1
                reported = [line for line in lines if str(place) in line and "No space left" in line]
                hidden = [path for path in files_in(place) if path.name.startswith(".")]
                intact = all(path.read_bytes() == content for path, content in saved.items())
                if process.exitcode == 0:  # there was enough space
                    saved |= {path: path.read_bytes() for path in saved}
                elif len(reported) != 1 or "Traceback" in log.read_text() or hidden or not intact:
                    bad += 1
                    print(name, leaving, hidden, *lines[-3:], sep="\n")
                bad += len(MotionIndex.open(index)) < kept
                shutil.rmtree(place / "out", ignore_errors=True)
            yield f"{name} on a full disk", count, bad
        fill(place, 15_000_000)
        model = lamp_hf.LampForTextToMotion.from_pretrained("lamp-small")
        model.config.save_pretrained(place / "model")
        message = ""
        try:
            export_checkpoint("lamp-small", place / "model")
        except OSError as error:
            message = str(error)
        left = {path.name for path in files_in(place / "model")} | {p.name for p in place.iterdir() if p.name[0] == "."}
        yield "a checkpoint on a full disk", 1, int("No space left" not in message or left != {"config.json"})
        print(f"  {message}")


# ---- command line -----------------------------------------------------------------------------------------


def main() -> None:
    """Run the selected campaigns and print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "campaigns", nargs="*", metavar="CAMPAIGN", help="threads, kills, opens or disk; defaults to all"
    )
    parser.add_argument("--kills", type=int, default=40, help="number of kills per command")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS, help="commands to kill")
    parser.add_argument("--requests", type=int, default=100, help="requests per pipeline and thread")
    parser.add_argument("--results", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    known = ("threads", "kills", "opens", "disk")
    if unknown := sorted(set(arguments.campaigns) - set(known)):
        parser.error(f"unknown campaign {unknown[0]}; choose from {', '.join(known)}")
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    SERVER.set_forkserver_preload(["__main__"])
    rows = []
    with tempfile.TemporaryDirectory(prefix="lamp_hf-") as folder:
        scratch = Path(folder)
        os.environ["LAMP_HF_CACHE"] = str(scratch / "cache")
        motions = make_motions(scratch / "motions", FILES)
        campaigns = {
            "threads": lambda: threads(motions, arguments.requests),
            "kills": lambda: kills(motions, scratch, arguments.kills, arguments.commands),
            "opens": lambda: opens(motions),
            "disk": lambda: disk(motions, scratch),
        }
        for name in arguments.campaigns or known:
            began = time.perf_counter()
            for what, count, bad in campaigns[name]():
                seconds = time.perf_counter() - began
                print(f"{what}: {count - bad:,} of {count:,} correct, {seconds:.0f} s", flush=True)
                rows.append({"what": what, "count": count, "bad": bad, "seconds": round(seconds, 1)})
                began = time.perf_counter()
    if arguments.results:
        arguments.results.write_text(json.dumps(rows, indent=2) + "\n")
    raise SystemExit(any(row["bad"] for row in rows))


if __name__ == "__main__":
    main()

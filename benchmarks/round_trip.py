"""Measure how far joints move when BVH files are read, written as BVH and read again.

    python benchmarks/round_trip.py cmu_bvh.tar.xz other_files/ --files 300 --seed 0

Searches folders and tar archives for BVH files. For each place, prints how many files were read, the largest and mean
distance of a joint, and the number of rejected files by reason.
"""

import argparse
import collections
import logging
import random
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.bvh import read_bvh, write_bvh


def find_files(place: Path, scratch: Path) -> Iterator[Path]:
    """Yield the BVH files of a folder, and of the tar archives in it, after unpacking them."""
    archives = [place] if place.is_file() else sorted(place.glob("*.tar*"))
    for archive in archives:
        with tarfile.open(archive) as content:
            content.extractall(scratch / archive.stem, filter="data")
        yield from sorted((scratch / archive.stem).rglob("*.bvh"))
    if place.is_dir():
        yield from sorted(place.rglob("*.bvh"))


def main() -> None:
    """Read, write and read again; print the results of each place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", type=Path, help="folders or tar archives")
    parser.add_argument("--files", type=int, default=0, help="number of random files per place; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for place in options.places:
        with tempfile.TemporaryDirectory() as folder:
            files = list(find_files(place, Path(folder)))
            if options.files:
                random.Random(options.seed).shuffle(files)
                files = files[: options.files]
            start = time.perf_counter()
            refused: collections.Counter[str] = collections.Counter()
            largest: list[tuple[float, str]] = []
            means, frames = [], 0
            for path in files:
                try:
                    motion = read_bvh(path)
                except MotionFormatError as error:
                    refused[str(error).partition(":")[2][:60]] += 1
                    continue
                again = Path(folder) / "again.bvh"
                write_bvh(motion, again)
                distance = np.linalg.norm(read_bvh(again).joints - motion.joints, axis=-1)
                largest.append((float(distance.max()), path.name))
                means.append(float(distance.mean()))
                frames += len(distance)
        largest.sort(reverse=True)
        seconds = time.perf_counter() - start
        print(f"{place}: {len(largest)} of {len(files)} files, {frames} frames in {seconds:.0f} s", flush=True)
        if largest:
            over = sum(error > 0.01 for error, _ in largest)
            worst = ", ".join(f"{name} {100 * error:.2f}" for error, name in largest[:5])
            print(f"  mean {100 * np.mean(means):.3f} cm, {over} files beyond 1 cm; the largest (cm): {worst}")
        for reason, count in refused.most_common():
            print(f"  rejected {count}: {reason}")


if __name__ == "__main__":
    main()

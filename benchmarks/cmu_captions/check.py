"""Check captions of CMU takes: their form, their times, and their claims against measurements of the motion.

python benchmarks/cmu_captions/check.py BVH_FOLDER captions.jsonl [more.jsonl ...] [--quiet]

Prints a line for each problem and each doubt, and their numbers. A doubt is a caption to look at again; it is not
always an error. Exits with 1 if there are problems.
"""

import argparse
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from lamp_hf.data.cmu.claims import doubts
from lamp_hf.data.cmu.facts import packaged_facts
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import MAX_SECONDS, Segment, fitted_frames, read_segments
from lamp_hf.data.cmu.takes import MIN_SECONDS, clean_joints

FPS = 20.0
MIN_CAPTIONS = 4
SHORTEST_S = 2.0
_FORBIDDEN = re.compile(
    r"\bsubject\b|\bactor\b|\bmocap\b|\bskeleton\b|\bfigure\b|\bsubject [ab]\b|\bsegment\b|\btake\b \d"
)


def main() -> None:
    """Check the captions and print a report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with BVH files of takes, at any depth")
    parser.add_argument("captions", type=Path, nargs="+")
    parser.add_argument("--quiet", action="store_true", help="only print the counts")
    arguments = parser.parse_args()
    segments = [segment for path in arguments.captions for segment in read_segments(path)]
    paths = {path.stem: path for path in arguments.folder.rglob("*.bvh")}
    by_take: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        by_take[segment.take].append(segment)
    problems: list[str] = []
    doubted: list[str] = []
    words: Counter[str] = Counter()
    left_over = 0.0
    for take, parts in by_take.items():
        if take not in paths:
            problems.append(f"{take}: no such take in {arguments.folder}")
            continue
        joints, sound = clean_joints(paths[take], packaged_facts()[take].capture_fps)
        measures = Measures(joints, FPS)
        parts.sort(key=lambda segment: segment.start)
        problems += form_problems(parts, sound)
        covered = sum(part.end - part.start for part in parts)
        left_over += max(0.0, sound.sum() / FPS - covered)
        for part in parts:
            words.update(word for caption in part.captions for word in re.findall(r"[a-z']+", caption.lower()))
            doubted += [f"{part.id}: {doubt}" for doubt in doubts(part.captions, measures.part(part.start, part.end))]
    if not arguments.quiet:
        for line in (*(f"PROBLEM {line}" for line in problems), *(f"doubt {line}" for line in doubted)):
            print(line)
    hours = sum(segment.end - segment.start for segment in segments) / 3600
    captions = sum(len(segment.captions) for segment in segments)
    print(
        f"{len(by_take)} takes, {len(segments)} segments, {hours:.3f} hours ({left_over / 3600:.3f} left over), "
        f"{captions} captions, {len(words)} distinct words; {len(problems)} problems, {len(doubted)} doubts"
    )
    sys.exit(bool(problems))


def form_problems(parts: list[Segment], sound: np.ndarray) -> list[str]:
    """Return the problems of the segments of a take, which are ordered by start."""
    found = []
    length = len(sound) / FPS
    for index, part in enumerate(parts):
        seconds = part.end - part.start
        shortest = SHORTEST_S if length >= SHORTEST_S + 0.3 else MIN_SECONDS
        if not shortest - 0.1 <= seconds <= MAX_SECONDS + 1e-6:
            found.append(f"{part.id}: {seconds:.2f} s; expected {shortest:g} to {MAX_SECONDS:g}")
        if isinstance(reason := fitted_frames(part, sound, FPS), str):
            found.append(f"{part.id}: {reason}")
        if index and part.start < parts[index - 1].end - 1e-6:
            found.append(f"{part.id}: overlaps {parts[index - 1].id}")
        if len({caption.lower().strip(". ") for caption in part.captions}) < len(part.captions):
            found.append(f"{part.id}: says the same twice")
        if len(part.captions) < MIN_CAPTIONS:
            found.append(f"{part.id}: {len(part.captions)} captions; expected at least {MIN_CAPTIONS}")
        for caption in part.captions:
            if match := _FORBIDDEN.search(caption.lower()):
                found.append(f'{part.id}: "{match[0]}" in "{caption}"')
            if not caption.isascii() or len(caption.split()) > 45:
                found.append(f'{part.id}: too long, or letters that are not English, in "{caption}"')
    return found


if __name__ == "__main__":
    main()

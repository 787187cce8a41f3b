"""Print the figures of the captions of the CMU database, and random examples.

    python benchmarks/cmu_captions/figures.py [--examples 20] [--seed 0]

Verbs are counted by their form: words after a subject such as "a person", and words in -ing.
"""

import argparse
import random
import re
from collections import Counter

from lamp_hf.data.cmu.segments import packaged_segments
from lamp_hf.pipelines.familiarity import stem

_SUBJECTS = (
    "person man woman someone somebody boxer dancer performer actor player figure walker child character he she they"
)
_VERB = re.compile(
    rf"\b(?:{'|'.join(_SUBJECTS.split())}) (?:slowly |quickly |then |carefully )?([a-z]+s)\b|\b([a-z]{{3,}}ing)\b"
)
_NOT_VERBS = {
    "is", "has", "was", "legs", "arms", "hands", "steps", "thing", "something", "nothing", "anything", "ring", "king",
    "wing", "string", "ceiling", "during", "evening", "morning", "spring", "swing", "bring", "sing", "sling",
}  # fmt: skip


def verbs(caption: str) -> set[str]:
    """Return the stems of the verbs of a caption."""
    found = (match.group(1) or match.group(2) for match in _VERB.finditer(caption.lower()))
    return {stem(word) for word in found if word not in _NOT_VERBS}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in ("captions", "rewordings"):
        segments = packaged_segments(name)
        captions = [caption for segment in segments for caption in segment.captions]
        words = Counter(word for caption in captions for word in re.findall(r"[a-z']+", caption.lower()))
        hours = sum(segment.end - segment.start for segment in segments) / 3600
        takes = len({segment.take for segment in segments})
        print(
            f"{name}: {len(segments)} segments of {takes} takes, {hours:.2f} hours, {len(captions)} captions "
            f"({len(captions) / len(segments):.2f} a segment, {len(set(captions))} distinct), "
            f"{len(words)} distinct words, {len(set().union(*map(verbs, captions)))} distinct verbs, "
            f"{sum(words.values()) / len(captions):.1f} words a caption"
        )
    for segment in random.Random(arguments.seed).sample(list(packaged_segments("captions")), arguments.examples):
        print(f"\n{segment.id}")
        for caption in segment.captions:
            print(f"  {caption}")


if __name__ == "__main__":
    main()

"""Motions from sentences: one, several takes, an edit, a storyboard.

    python examples/text_to_motion.py "a tired person walks" out/

Each is written as BVH, for animation software, and as a page that plays it in the browser.
"""

from pathlib import Path

import typer
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)


def main(text: str, folder: str) -> None:
    """Write the motions."""
    pipe = pipeline("text-to-motion")
    motions = {f"take{number}": take["motion"] for number, take in enumerate(pipe(text, num_motions_per_prompt=3))}
    first = motions["take0"]
    # The first take again, with a bow in place of its last second.
    motions["edited"] = pipe("a person bows", motion=first, edit=(first.duration - 1.0, first.duration))["motion"]
    motions["scene"] = pipe.storyboard([(text, 3.0), ("the person bows", 2.5), ("the person waves", 3.0)])["motion"]

    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, motion in motions.items():
        for suffix in (".bvh", ".html"):
            motion.save(Path(folder) / f"{name}{suffix}")
        print(f"{folder}/{name}: {motion.duration:.1f} s, feet skate in {motion.foot_skating():.0%} of their steps")


if __name__ == "__main__":
    typer.run(main)

"""Motions from sentences: several takes of each, to choose from.

    python examples/text_to_motion.py "a tired person walks" "a person bows" -o my_mocap/

Each take is written as BVH, for animation software, and as a page that plays it in the browser.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)


def main(
    texts: Annotated[list[str], typer.Argument(help="What the person does, a sentence for each motion.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder where the takes go.")] = Path("takes"),
    takes: Annotated[int, typer.Option(min=2, help="How many of each sentence.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Of the first takes; drawn without it.")] = None,
) -> None:
    """Write several motions of every sentence."""
    output.mkdir(parents=True, exist_ok=True)
    pipe = pipeline("text-to-motion")
    for result in chain.from_iterable(pipe(texts, num_motions_per_prompt=takes, seed=seed)):
        motion = result["motion"]
        # The seed belongs to the motion: by text, seed and duration it can be made again, alone or in any batch.
        stem = f"{'-'.join(result['text'].split())}-{result['seed']}"
        for suffix in (".bvh", ".html"):
            motion.save(output / f"{stem}{suffix}")
        skating = motion.foot_skating()  # a hint which take to look at first
        print(f"{output / stem}: {motion.duration:.1f} s, feet slide in {skating:.0%} of their time on the floor")


if __name__ == "__main__":
    run(main)

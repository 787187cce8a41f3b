"""Motions from a sentence: several takes of it, to choose from.

    python examples/text_to_motion.py "a tired person walks" my_mocap/

Each take is written as BVH, for animation software, and as a page that plays it in the browser.
"""

from pathlib import Path
from typing import Annotated

import typer
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)


def main(
    text: Annotated[str, typer.Argument(help="What the person does.")],
    folder: Annotated[Path, typer.Argument(help="Where the takes go.")] = Path("takes"),
    takes: Annotated[int, typer.Option(min=2, help="How many.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Of the first take; drawn without it.")] = None,
) -> None:
    """Write several motions of one sentence."""
    pipe = pipeline("text-to-motion")
    results = pipe(text, num_motions_per_prompt=takes, seed=seed)

    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        motion = result["motion"]
        # The seed belongs to the motion: by text, seed and duration it can be made again, alone or in any batch.
        stem = f"{'-'.join(text.split())}-{result['seed']}"
        for suffix in (".bvh", ".html"):
            motion.save(folder / f"{stem}{suffix}")
        skating = motion.foot_skating()  # a hint which take to look at first
        print(f"{folder / stem}: {motion.duration:.1f} s, feet slide in {skating:.0%} of their time on the floor")


if __name__ == "__main__":
    typer.run(main)

"""Generate several takes of each sentence, to choose from.

    python examples/text_to_motion.py "a tired person walks" "a person bows" -o my_mocap/

Each take is saved as BVH for animation software and as an HTML player for the browser.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the pipeline)


def main(
    texts: Annotated[list[str], typer.Argument(help="Sentences that describe the motions.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder for the takes.")] = Path("takes"),
    takes: Annotated[int, typer.Option(min=2, help="Number of takes per sentence.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Seed of the first takes. Defaults to a random one.")] = None,
) -> None:
    """Write several motions for every sentence."""
    output.mkdir(parents=True, exist_ok=True)
    pipe = pipeline("text-to-motion")
    for result in chain.from_iterable(pipe(texts, num_motions_per_prompt=takes, seed=seed)):
        motion = result["motion"]
        # The same text, seed and duration give the same motion again, alone or in any batch.
        stem = f"{'-'.join(result['text'].split())}-{result['seed']}"
        for suffix in (".bvh", ".html"):
            motion.save(output / f"{stem}{suffix}")
        skating = motion.foot_skating()  # helps to choose the take to look at first
        print(f"{output / stem}: {motion.duration:.1f} s, feet slide in {skating:.0%} of their time on the floor")


if __name__ == "__main__":
    run(main)

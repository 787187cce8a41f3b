"""Generate one continuous motion from several scenes.

    python examples/storyboard.py scene.glb "3.0 a person walks" "2.5 the person bows" "3.0 the person waves"

The suffix sets the format: .bvh and .glb for animation software, .mp4, .gif and .html for viewing.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the pipeline)

SCENES = ["3.0 a person walks forward", "2.5 the person bows", "2.0 the person waves with both hands"]


def main(
    output: Annotated[Path, typer.Argument(help="Output file.")] = Path("scene.html"),
    scenes: Annotated[list[str] | None, typer.Argument(help="Seconds and text of each scene.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed; the same seed gives the same motion.")] = None,
) -> None:
    """Write the motion, and print the start and end of each scene."""
    script = []
    for scene in scenes or SCENES:
        seconds, _, text = scene.partition(" ")
        try:
            script.append((text, float(seconds)))
        except ValueError:
            raise ValueError(f'{scene!r} is not a scene; expected seconds and a text, such as "{SCENES[0]}"') from None

    # The model generates about ten seconds at most. A storyboard generates each scene separately, then regenerates the
    # frames around each seam with both sides as context. This avoids jumps, and the whole motion can have any length.
    result = pipeline("text-to-motion").storyboard(script, seed=seed)
    scenes = {"scenes": result["scenes"]} if output.suffix == ".html" else {}  # on the player's time line
    result["motion"].save(output, **scenes)
    for text, start, end in result["scenes"]:
        print(f"{start:5.1f} to {end:4.1f} s  {text}")
    print(f"saved {output}, seed {result['seed']}")


if __name__ == "__main__":
    run(main)

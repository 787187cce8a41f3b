"""One continuous motion of several scenes, of any length.

    python examples/storyboard.py scene.glb "3.0 a person walks" "2.5 the person bows" "3.0 the person waves"

The suffix chooses the format: .bvh and .glb for animation software, .mp4, .gif and .html to look at.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)

SCENES = ["3.0 a person walks forward", "2.5 the person bows", "2.0 the person waves with both hands"]


def main(
    output: Annotated[Path, typer.Argument(help="File of the motion.")] = Path("scene.html"),
    scenes: Annotated[list[str] | None, typer.Argument(help="Each one's seconds and what happens in it.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same motion.")] = None,
) -> None:
    """Write the motion, and say which seconds show what."""
    script = []
    for scene in scenes or SCENES:
        seconds, _, text = scene.partition(" ")
        try:
            script.append((text, float(seconds)))
        except ValueError:
            raise ValueError(f'{scene!r} is no scene; expected seconds and a text, as in "{SCENES[0]}"') from None

    # The model makes at most some ten seconds at once. A storyboard makes each scene by itself, and then anew what
    # lies around each seam, with both sides in view: so nothing jumps, and nothing limits the whole.
    result = pipeline("text-to-motion").storyboard(script, seed=seed)
    result["motion"].save(output)
    for text, start, end in result["scenes"]:
        print(f"{start:5.1f} to {end:4.1f} s  {text}")
    print(f"written: {output}, seed {result['seed']}")


if __name__ == "__main__":
    run(main)

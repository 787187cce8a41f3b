"""Change a part of a motion by words, and leave the rest as it is.

    python examples/motion_editing.py walk.bvh "a person waves" 1.0 2.5 -o wave.bvh

Beside the edited motion a picture shows both, one above the other.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _command_line import run
from transformers import pipeline

from lamp_hf import Motion
from lamp_hf.motion.formats.video import contact_sheet


def main(
    file: Annotated[Path, typer.Argument(help="A motion: BVH, NPZ or NPY.")],
    text: Annotated[str, typer.Argument(help="What the person shall do in that part.")],
    start: Annotated[float, typer.Argument(help="Its first second.")],
    end: Annotated[float, typer.Argument(help="Its last second.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The edited motion.")] = Path("edited.bvh"),
    seed: Annotated[int | None, typer.Option(help="Another seed makes another edit.")] = None,
) -> None:
    """Write the edited motion, and a picture of before and after."""
    pipe = pipeline("text-to-motion")
    # Files of motion capture have 30 to 120 frames a second; the model thinks in its own.
    motion = Motion.load(file).resample(pipe.fps)
    edited = pipe(text, motion=motion, edit=(start, end), seed=seed)["motion"]

    # Features say how the body is posed and how it moves from frame to frame. Those outside the span are the same
    # numbers as before; in the room the body may stand elsewhere after the edit, since it has moved differently.
    # Motions that are made of joints have features for all frames but the last.
    kept = (motion.features == edited.features[: len(motion.features)]).all(axis=1)
    moved = np.linalg.norm(motion.joints[-1, 0] - edited.joints[-1, 0])
    print(f"{kept.sum()} of {len(kept)} frames are kept bit for bit; the last one is {moved:.2f} m from where it was")

    edited.save(output)
    picture = output.with_suffix(".png")
    contact_sheet([motion.with_text(f"before: {file.name}"), edited], picture, columns=1, frames_per_motion=10)
    print(f"written: {output} and {picture}")


if __name__ == "__main__":
    run(main)

"""Regenerate a part of a motion from text, and keep the rest.

    python examples/motion_editing.py walk.bvh "a person waves" 1.0 2.5 -o wave.bvh

The script also writes a picture with the motion before and after the edit.
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
    file: Annotated[Path, typer.Argument(help="Motion file, such as BVH, GLB or NPZ.")],
    text: Annotated[str, typer.Argument(help="What the person does in that part.")],
    start: Annotated[float, typer.Argument(help="Start of the part, in seconds.")],
    end: Annotated[float, typer.Argument(help="End of the part, in seconds.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Output file.")] = Path("edited.bvh"),
    seed: Annotated[int | None, typer.Option(help="Random seed; different seeds give different edits.")] = None,
) -> None:
    """Write the edited motion, and a picture of the motion before and after."""
    pipe = pipeline("text-to-motion")
    # Motion capture files have 30 to 120 frames per second; resample to the frame rate of the model.
    motion = Motion.load(file).resample(pipe.fps)
    edited = pipe(text, motion=motion, edit=(start, end), seed=seed)["motion"]

    # Features describe the pose and its change from frame to frame. Outside the span they stay the same, but after the
    # edit the body may stand in another place, because it has moved differently. A motion that was loaded from joint
    # positions has features for all frames except the last.
    kept = (motion.features == edited.features[: len(motion.features)]).all(axis=1)
    moved = np.linalg.norm(motion.joints[-1, 0] - edited.joints[-1, 0])
    print(f"{kept.sum()} of {len(kept)} frames are kept bit for bit; the last one is {moved:.2f} m from where it was")

    edited.save(output)
    picture = output.with_suffix(".png")
    contact_sheet([motion.with_text(f"before: {file.name}"), edited], picture, columns=1, frames_per_motion=10)
    print(f"saved {output} and {picture}")


if __name__ == "__main__":
    run(main)

"""Look at motions in Rerun: the skeleton over time, and curves of the feet.

    python examples/rerun_motion.py my_mocap/ -o mocap.rrd

Open the file with `rerun mocap.rrd`. Without -o, the viewer opens. Needs `pip install rerun-sdk`.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from _command_line import run

from lamp_hf import Motion
from lamp_hf.motion.files import READERS
from lamp_hf.motion.inputs import as_motion, find_motion_files

FEET = ("left_foot", "right_foot")


def main(
    source: Annotated[Path, typer.Argument(help=f"Motion file ({' '.join(READERS)}) or a folder of them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Recording to write (.rrd). Defaults to opening the viewer.")
    ] = None,
) -> None:
    """Log motion files with the Rerun SDK."""
    try:
        import rerun
    except ImportError:
        raise ImportError("rerun_motion.py: the Rerun SDK is not installed; run pip install rerun-sdk") from None

    files = find_motion_files(source).files if source.is_dir() else [source]
    motions = {file.stem: as_motion(file) for file in files}  # read everything before the recording starts
    if not motions:
        raise FileNotFoundError(f"{source}: expected a folder with motion files ({' '.join(READERS)})")
    rerun.init("lamp_hf", spawn=output is None)
    if output is not None:
        rerun.save(output)
    rerun.log("/", rerun.ViewCoordinates.RIGHT_HAND_Y_UP, static=True)
    for name, motion in motions.items():
        log_motion(rerun, name, motion)
        print(f"{name}: {motion}")
    rerun.disconnect()


def log_motion(rerun, name: str, motion: Motion) -> None:
    """Log a motion as an entity with its caption, its skeleton, and the heights of its toes."""
    skeleton = motion.skeleton
    # Rerun draws the bones and names the joints from this description.
    bones = [pair for chain in skeleton.chains for pair in pairwise(chain)]
    joints = list(enumerate(skeleton.joint_names))
    body = rerun.ClassDescription(info=(0, name), keypoint_annotations=joints, keypoint_connections=bones)
    rerun.log(f"{name}/body", rerun.AnnotationContext(body), static=True)
    if motion.text:
        rerun.log(f"{name}/caption", rerun.TextDocument(motion.text), static=True)
    time = rerun.TimeColumn("time", duration=np.arange(motion.num_frames) / motion.fps)
    positions = rerun.Points3D.columns(positions=motion.joints.reshape(-1, 3))
    rerun.send_columns(f"{name}/body", [time], positions.partition([skeleton.num_joints] * motion.num_frames))
    # These two hold at all times.
    ids = rerun.Points3D.from_fields(class_ids=0, keypoint_ids=range(skeleton.num_joints), radii=0.02)
    rerun.log(f"{name}/body", ids, static=True)
    for foot in FEET:
        if foot in skeleton.joint_names:
            height = motion.joints[:, skeleton.joint_names.index(foot), 1]
            rerun.send_columns(f"{name}/height/{foot}", [time], rerun.Scalars.columns(scalars=height))


if __name__ == "__main__":
    run(main)

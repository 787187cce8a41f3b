"""Time the conversion from joints to HumanML3D features and back, clip by clip and in batches.

python benchmarks/features_speed.py [--frames 80] [--clips 64] [--repeats 5]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from lamp_hf.motion.features import features_to_joints, joints_to_features, normalize_joints
from lamp_hf.motion.kinematics import forward_kinematics, inverse_kinematics
from lamp_hf.motion.rotations import about_axis
from lamp_hf.motion.skeleton import HUMANML3D_22


def moving_clips(clips: int, frames: int) -> np.ndarray:
    """Return joints (clips, frames, 22, 3) in meters of bodies that move forward while all joints swing."""
    rng = np.random.default_rng(0)
    time_s = np.arange(frames) / 20.0
    joints = []
    for _ in range(clips):
        angles = rng.normal(0, 0.4, 22) * np.sin(2 * np.pi * rng.uniform(0.3, 1.5, 22) * time_s[:, None])
        local = about_axis("x", angles)
        root = np.stack([np.zeros(frames), np.full(frames, 0.93), time_s], axis=-1)
        joints.append(forward_kinematics(local, root, HUMANML3D_22.rest_offsets, HUMANML3D_22.parents))
    return np.stack(joints)


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Return the best time of several runs in milliseconds, after one warm-up run."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    """Time each conversion and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=80, help="frames per clip; 80 (4 s at 20 fps) is the median")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    joints = moving_clips(arguments.clips, arguments.frames)
    features = joints_to_features(joints)
    error = np.abs(features_to_joints(features) - normalize_joints(joints)[:, :-1])
    rows: dict[str, Callable[[], object]] = {
        "joints to features, one by one": lambda: [joints_to_features(clip) for clip in joints],
        "joints to features, one batch": lambda: joints_to_features(joints),
        "features to joints, one by one": lambda: [features_to_joints(clip) for clip in features],
        "features to joints, one batch": lambda: features_to_joints(features),
        "joints to rotations, one by one": lambda: [inverse_kinematics(clip, HUMANML3D_22) for clip in joints],
    }
    print(f"{arguments.clips} clips of {arguments.frames} frames, ms per clip")
    for name, function in rows.items():
        print(f"{name:32} {milliseconds(function, arguments.repeats) / arguments.clips:7.3f}")
    print(f"joints to features and back: largest error {error.max():.1e} m")


if __name__ == "__main__":
    main()

"""Motions to order and their BVH files."""

from collections.abc import Callable

import numpy as np
import pytest

from lamp_hf.motion.bvh import write_bvh
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

MakeMotion = Callable[..., Motion]


def _make_motion(seed: int = 0, *, num_frames: int = 16, fps: float = 30.0) -> Motion:
    """A body that walks ahead and waves its right arm, otherwise for every seed."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((HUMANML3D_22.num_joints, 3))
    for joint, parent in enumerate(HUMANML3D_22.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D_22.rest_offsets[joint]
    joints = np.repeat(pose[None], num_frames, axis=0)
    time_s = np.arange(num_frames) / fps
    joints[:, :, 2] += (rng.uniform(0.5, 1.5) * time_s)[:, None]
    joints[:, 19] += 0.1 * np.stack([np.sin(6 * time_s + rng.uniform(0, 3)), np.cos(6 * time_s), 0 * time_s], axis=-1)
    joints[:, 21] += 0.2 * np.stack([np.sin(6 * time_s), 2 + np.cos(6 * time_s), 0 * time_s], axis=-1)
    return Motion(joints=joints.astype(np.float32), fps=fps)


@pytest.fixture(scope="session")
def make_motion() -> MakeMotion:
    """A function that makes a motion from a seed."""
    return _make_motion


@pytest.fixture(scope="session")
def bvh_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """A function that gives the BVH file of a made motion."""
    folder = tmp_path_factory.mktemp("bvh")

    def get(seed: int) -> bytes:
        path = folder / f"{seed}.bvh"
        if not path.is_file():
            write_bvh(_make_motion(seed), path)
        return path.read_bytes()

    return get

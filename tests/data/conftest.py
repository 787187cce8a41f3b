"""Motions by seed and their BVH files."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lamp_hf.data import load_bandai_namco, with_numpy_motion
from lamp_hf.motion.formats.bvh import write_bvh
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

MakeMotion = Callable[..., Motion]


def _make_motion(seed: int = 0, *, num_frames: int = 16, fps: float = 30.0) -> Motion:
    """Create a body that walks ahead and waves its right arm, differently for every seed."""
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
    """Function that creates a motion from a seed."""
    return _make_motion


@pytest.fixture(scope="session")
def bvh_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """Function that returns the BVH file of such a motion."""
    folder = tmp_path_factory.mktemp("bvh")

    def get(seed: int) -> bytes:
        path = folder / f"{seed}.bvh"
        if not path.is_file():
            write_bvh(_make_motion(seed), path)
        return path.read_bytes()

    return get


# At least two seconds, so that parts of them are long enough; early in the archive.
_REAL_CLIPS = {
    "train": ("bow_active", "bow_musical", "bye_active", "bye_happy"),
    "val": ("bye_old",),
    "test": ("guide_chimpira",),
}


@pytest.fixture(scope="session")
def real_field_sets(
    bandai_archive: Path, field_sets: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, SimpleNamespace]:
    """HumanML3D and KIT-ML of six real clips and their mirror images: `root`, and by name `clips` and `captions`.

    Each file in `texts` has two captions of the whole motion, and in its third line one for 0.5 to 2.5 s.
    """
    folder = tmp_path_factory.mktemp("real")
    names = [f"dataset-1_{clip}_001" for clips in _REAL_CLIPS.values() for clip in clips]
    (folder / "train.txt").write_text("\n".join(names))  # only these have mirror images
    loaded = load_bandai_namco(
        bandai_archive, names=names, split_dir=folder, cache_dir=folder / "cache", num_proc=1, progress=False
    )
    rows = {row["id"]: row for row in with_numpy_motion(loaded["train"])}
    sets = {name: SimpleNamespace(root=folder / name, clips={}, captions={}) for name in ("humanml3d", "kit-ml")}
    texts: dict[str, str] = {}
    splits: dict[str, list[str]] = {split: [] for split in _REAL_CLIPS}
    split_of = [split for split, clips in _REAL_CLIPS.items() for _ in clips]
    for number, (clip, split) in enumerate(zip(names, split_of, strict=True)):
        for prefix, row in (("", rows[clip]), ("M", rows[f"{clip}-mirrored"])):
            name = f"{prefix}{number:06d}"
            motion = Motion(features=row["motion"], fps=20.0)
            sets["humanml3d"].clips[name] = row["motion"]
            sets["kit-ml"].clips[name] = field_sets.kit_features(np.array(motion.resample(12.5).joints))
            said = [caption["text"] for caption in row["captions"][:3]]
            tokens = [" ".join(f"{word}/OTHER" for word in text.split()) for text in said]
            times = ("0.0#0.0", "0.0#0.0", "0.5#2.5")
            texts[name] = "".join(f"{t}#{k}#{s}\n" for t, k, s in zip(said, tokens, times, strict=True))
            splits[split].append(name)
            for made in sets.values():
                made.captions[name] = said
    for made in sets.values():
        field_sets.write(made.root, made.clips, texts, splits)
    return sets

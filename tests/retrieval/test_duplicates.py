"""Near-duplicates: copies are found, other recordings of the same action are not."""

from pathlib import Path

import numpy as np
import pytest

import lamp_hf
from lamp_hf.motion.motion import Motion
from lamp_hf.retrieval import FolderSource, MotionIndex, MotionTextEncoder, build_index, near_duplicates
from lamp_hf.retrieval.duplicates import same_recording


def test_similarity_of_two_recordings() -> None:
    rng = np.random.default_rng(0)
    motion = rng.normal(size=(20, 6))
    assert same_recording(motion, motion) == 1.0
    assert same_recording(motion, motion[1:]) == 1.0  # shorter by a token
    assert same_recording(motion[2:], motion) == 1.0
    assert same_recording(motion, motion[:-3]) == 1.0
    assert same_recording(motion, motion[:12]) == -np.inf  # too much is missing
    assert same_recording(motion, motion + 0.1 * rng.normal(size=motion.shape)) == pytest.approx(0.9, abs=0.03)
    assert same_recording(motion, rng.normal(size=(20, 6))) < 0


@pytest.fixture(scope="module")
def small() -> MotionTextEncoder:
    """The embedded checkpoint, because random weights would not distinguish motions."""
    path = lamp_hf.embedded_checkpoint()
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(path)
    return MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained(path))


def names(index: MotionIndex, groups: list) -> list[list[str]]:
    return [[hit["id"] for hit in index.motion_hits(group)] for group in groups]


def test_near_duplicates_are_listed(small, procedural, cache, tmp_path: Path) -> None:
    folder = tmp_path / "mocap"
    folder.mkdir()
    walk, wave = procedural.walker(80), procedural.waver(64)
    walk.save(folder / "walk.npz")
    walk.save(folder / "walk_copy.bvh")
    walk.resample(30).save(folder / "walk_at_30_fps.bvh")
    noise = np.random.default_rng(0).normal(scale=0.001, size=walk.joints.shape)
    Motion(joints=walk.joints + noise, fps=20.0).save(folder / "walk_noisy.npz")
    procedural.walker(80, speed=0.4).save(folder / "other_walk.npz")
    procedural.walker(80, turn=0.6).save(folder / "turn.npz")
    wave.save(folder / "wave.bvh")
    wave.crop(0.2).save(folder / "wave_cut.bvh")
    wave.mirror().save(folder / "wave_left.bvh")
    index = build_index(tmp_path / "index", FolderSource(folder, num_proc=1), small, progress=False)
    groups = near_duplicates(index)
    assert names(index, groups) == [
        ["walk.npz", "walk_at_30_fps.bvh", "walk_copy.bvh", "walk_noisy.npz"],
        ["wave.bvh", "wave_cut.bvh"],
    ]
    assert all(group[0].score == 1.0 and min(found.score for found in group) >= 0.85 for group in groups)
    for name in ("walk.npz", "wave.bvh"):
        (folder / name).unlink()
    index.add(FolderSource(folder, num_proc=1), small, progress=False)
    assert names(index, near_duplicates(index)) == [["walk_at_30_fps.bvh", "walk_copy.bvh", "walk_noisy.npz"]]
    assert near_duplicates(index, threshold=1.0) == []


def test_empty_index_has_no_duplicates(small, tmp_path: Path) -> None:
    assert near_duplicates(MotionIndex.create(tmp_path / "index", small)) == []

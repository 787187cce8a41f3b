"""Features of motions: equal to the published numbers, and correct by their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from lamp_hf.motion.features import (
    features_to_joints,
    joints_to_features,
    mirror_features,
    mirror_joints,
    normalize_joints,
    resample_joints,
)
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, skeleton_for_feature_dim

ROTATIONS = slice(67, 193)


def clips(numbers: dict[str, np.ndarray]) -> list[str]:
    return sorted({name.split("/")[0] for name in numbers if "/" in name})


def largest(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max())


def test_features_equal_the_reference(golden, parity):
    numbers = load_file(golden / "golden_features.safetensors")
    assert len(clips(numbers)) == 7
    for clip in clips(numbers):
        features = joints_to_features(numbers[f"{clip}/joints"])
        expected = numbers[f"{clip}/features"]
        rest = np.delete(np.arange(263), np.arange(263)[ROTATIONS])
        parity("features, rotations", features[:, ROTATIONS], expected[:, ROTATIONS], 1e-3)
        parity("features, the others", features[:, rest], expected[:, rest])
        parity("features to joints", features_to_joints(expected), numbers[f"{clip}/recovered"], 1e-5)
        parity("joints normalized", normalize_joints(numbers[f"{clip}/joints"]), numbers[f"{clip}/global_positions"])


def test_heading_wrap_of_the_reference_is_fixed_by_default(golden):
    numbers = load_file(golden / "golden_features_wrapcase.safetensors")
    for clip in clips(numbers):
        joints, expected = numbers[f"{clip}/joints"], numbers[f"{clip}/features"]
        same = joints_to_features(joints, reference_heading_wrap=True)
        assert largest(same[:, :67], expected[:, :67]) < 1e-4, clip
        world = numbers[f"{clip}/global_positions"][:-1]
        mended = features_to_joints(joints_to_features(joints))
        assert largest(mended, world) < 2e-5, clip
        assert largest(numbers[f"{clip}/recovered"], world) > 0.05, clip  # the reference loses the heading


@settings(max_examples=25, deadline=None)
@given(
    turn=st.floats(-3, 3),
    heading=st.floats(-3.1, 3.1),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    speed=st.floats(0.2, 2),
)
def test_position_and_first_heading_of_a_clip_do_not_matter(procedural, turn, heading, shift, speed):
    joints = procedural.walker(24, turn=turn, speed=speed).joints.astype(np.float64)
    c, s = np.cos(heading), np.sin(heading)
    moved = joints @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) + np.array(shift)
    np.testing.assert_allclose(joints_to_features(moved), joints_to_features(joints), atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(turn=st.floats(-4, 4), speed=st.floats(0.2, 2), frames=st.integers(2, 40))
def test_features_round_trip_to_joints(procedural, turn, speed, frames):
    joints = procedural.walker(frames, turn=turn, speed=speed).joints
    back = features_to_joints(joints_to_features(joints))
    np.testing.assert_allclose(back, normalize_joints(joints)[:-1], atol=1e-4)


def test_batch_equals_its_clips(procedural):
    joints = np.stack([procedural.walker(30, turn=t).joints for t in (-1.0, 0.0, 2.0)])
    features = joints_to_features(joints)
    assert features.shape == (3, 29, 263)
    for row in range(3):
        np.testing.assert_array_equal(features[row], joints_to_features(joints[row]))
    np.testing.assert_array_equal(features_to_joints(features)[1], features_to_joints(features[1]))


def test_left_turn_gives_negative_turning_features(procedural):
    assert joints_to_features(procedural.walker(30, turn=1.0).joints)[2:, 0].mean() < -0.01
    assert joints_to_features(procedural.walker(30, turn=-1.0).joints)[2:, 0].mean() > 0.01


def test_contacts_are_where_feet_stand(waver):
    assert waver.features[:, -4:].min() == 1.0


def test_mirroring_twice_changes_nothing(walker):
    np.testing.assert_array_equal(mirror_joints(mirror_joints(walker.joints)), walker.joints)
    np.testing.assert_array_equal(mirror_features(mirror_features(walker.features)), walker.features)


def test_mirroring_moves_a_wave_to_the_other_hand(procedural):
    right = procedural.waver(40, side="right")
    left = procedural.waver(40, side="left")
    np.testing.assert_allclose(
        mirror_joints(right.joints)[:, 20], left.joints[:, 20], atol=0.03
    )  # wrists; the two arms of the data set's body differ by a centimeter
    assert right.joints[-1, 21, 1] > right.joints[-1, 20, 1] + 0.3


def test_resampling_keeps_the_first_frame_and_the_speed(procedural):
    joints = procedural.walker(91, fps=30.0).joints
    slow = resample_joints(joints, 30, 20)
    assert len(slow) == 61  # floor(90 · 2/3) + 1
    np.testing.assert_array_equal(slow[0], joints[0])
    np.testing.assert_allclose(slow[2::2], joints[3::3], atol=1e-6)


def test_kit_has_251_numbers_and_needs_bone_lengths(procedural):
    assert skeleton_for_feature_dim(251) is KIT_21
    assert (KIT_21.feature_dim, HUMANML3D_22.feature_dim) == (251, 263)
    rng = np.random.default_rng(0)
    offsets = rng.normal(size=(21, 3)) * 0.2
    joints = np.zeros((30, 21, 3))
    for joint, parent in enumerate(KIT_21.parents):
        if parent >= 0:
            joints[:, joint] = joints[:, parent] + offsets[joint]
    joints += np.linspace(0, 1, 30)[:, None, None] * np.array([0.3, 0.0, 1.0])
    with pytest.raises(ValueError, match="bone"):
        joints_to_features(joints, KIT_21)
    features = joints_to_features(joints, KIT_21, retarget=False)
    assert features.shape == (29, 251)
    back = features_to_joints(features, KIT_21)
    np.testing.assert_allclose(back, normalize_joints(joints, KIT_21, retarget=False)[:-1], atol=1e-4)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected joints of shape \(..., T, 22, 3\), got \(5, 21, 3\)"):
        joints_to_features(np.zeros((5, 21, 3)))


def test_long_clips_are_computed_in_pieces(procedural, monkeypatch):
    joints = procedural.walker(90, turn=1.0).joints
    whole = joints_to_features(joints)
    kept = joints.copy()
    for frames in (1, 7, 89, 90):
        monkeypatch.setattr("lamp_hf.motion.features._CHUNK_FRAMES", frames)
        np.testing.assert_array_equal(joints_to_features(joints), whole)
        stacked = np.stack([joints, joints[::-1]]).astype(np.float64)
        np.testing.assert_array_equal(joints_to_features(stacked)[0], whole)
        np.testing.assert_array_equal(
            joints_to_features(stacked, retarget=False)[1], joints_to_features(stacked[1], retarget=False)
        )
    np.testing.assert_array_equal(joints, kept)

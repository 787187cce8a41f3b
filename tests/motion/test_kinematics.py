"""Convert positions to rotations and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamp_hf.motion import rotations
from lamp_hf.motion.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    rest_offsets,
    t_pose_directions,
)
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)


def random_clip(skeleton, seed, *, num_frames=6, degrees=60.0):
    """Return joints (T, J, 3) of a T-pose body that moves at random, with their rotations and offsets."""
    random = np.random.default_rng(seed)
    num_joints = skeleton.num_joints
    directions = t_pose_directions(skeleton)
    # Hips are below the pelvis and collars above the chest, as in a real body.
    for joint in range(1, num_joints):
        if abs(directions[joint, 0]) > 0.5 and list(skeleton.parents).count(skeleton.parents[joint]) > 1:
            directions[joint, 1] = -1.0 if skeleton.parents[joint] == 0 else 1.0
    lengths = random.uniform(0.1, 0.4, num_joints)
    lengths[0] = 0.0
    offsets = rotations.normalize(directions) * lengths[:, None]
    angles = np.radians(random.uniform(-degrees, degrees, (num_frames, num_joints, 3))) / np.sqrt(3)
    angles[:, 0] *= 180.0 / degrees
    local = rotations.from_euler(angles, "zxy")
    root = random.normal(size=(num_frames, 3))
    return forward_kinematics(local, root, offsets, skeleton.parents), local, offsets


def test_forward_kinematics_of_an_arm_matches_a_hand_computed_value():
    quarter = rotations.about_axis("z", np.pi / 2)
    local = np.stack([quarter, quarter, [1.0, 0.0, 0.0, 0.0]])
    offsets = np.array([[9.0, 9.0, 9.0], [1.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    joints = forward_kinematics(local, np.array([0.0, 0.0, 5.0]), offsets, (-1, 0, 1))
    np.testing.assert_allclose(joints, [[0, 0, 5], [0, 1, 5], [-2, 1, 5]], atol=1e-12)


@SKELETONS
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_rigid_bodies_round_trip_exactly(skeleton, seed):
    joints, _, offsets = random_clip(skeleton, seed)
    local, root, found_offsets = inverse_kinematics(joints, skeleton)
    rebuilt = forward_kinematics(local, root, found_offsets, skeleton.parents)
    np.testing.assert_allclose(rebuilt, joints, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(found_offsets, axis=-1), np.linalg.norm(offsets, axis=-1), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(local, axis=-1), 1.0, atol=1e-12)
    assert (np.sum(local[1:] * local[:-1], axis=-1) >= 0).all()


@SKELETONS
def test_rest_pose_needs_no_rotation(skeleton):
    _, _, offsets = random_clip(skeleton, 1)
    still = np.tile([1.0, 0.0, 0.0, 0.0], (3, skeleton.num_joints, 1))
    joints = forward_kinematics(still, np.zeros((3, 3)), offsets, skeleton.parents)
    local, _, found_offsets = inverse_kinematics(joints, skeleton)
    np.testing.assert_allclose(found_offsets, offsets, atol=1e-9)
    np.testing.assert_allclose(local, still, atol=1e-9)


@SKELETONS
def test_turning_the_world_turns_only_the_root(skeleton):
    joints, _, _ = random_clip(skeleton, 2)
    turn = rotations.normalize([0.3, -0.5, 0.7, 0.2])
    before, _, offsets_before = inverse_kinematics(joints, skeleton)
    after, _, offsets_after = inverse_kinematics(rotations.rotate(turn, joints), skeleton)
    np.testing.assert_allclose(offsets_after, offsets_before, atol=1e-9)
    same_sign = np.sign(np.sum(after * before, axis=-1, keepdims=True))[:, 1:]
    np.testing.assert_allclose(after[:, 1:] * same_sign, before[:, 1:], atol=1e-9)
    root = rotations.multiply(turn, before[:, 0])
    np.testing.assert_allclose(np.abs(np.sum(root * after[:, 0], axis=-1)), 1.0, atol=1e-9)


@SKELETONS
def test_t_pose_has_the_shape_of_a_t(skeleton):
    directions = dict(zip(skeleton.joint_names, t_pose_directions(skeleton), strict=True))
    for part in ("shoulder", "elbow", "wrist"):
        np.testing.assert_array_equal(directions[f"left_{part}"], [1, 0, 0])
        np.testing.assert_array_equal(directions[f"right_{part}"], [-1, 0, 0])
    for part in ("knee", "ankle"):
        np.testing.assert_array_equal(directions[f"left_{part}"], [0, -1, 0])
    np.testing.assert_array_equal(directions["head"], [0, 1, 0])
    np.testing.assert_array_equal(directions["left_foot"], [0, 0, 1])
    np.testing.assert_array_equal(directions["right_hip"], [-1, 0, 0])


def test_varying_bone_lengths_cause_small_errors_that_do_not_accumulate():
    joints, _, _ = random_clip(HUMANML3D_22, 3, num_frames=40, degrees=30.0)
    noisy = joints + np.random.default_rng(0).normal(scale=0.004, size=joints.shape)
    local, root, offsets = inverse_kinematics(noisy, HUMANML3D_22)
    errors = np.linalg.norm(forward_kinematics(local, root, offsets, HUMANML3D_22.parents) - noisy, axis=-1)
    assert errors.mean() < 0.006
    wrists = errors[:, [20, 21]].mean()
    assert wrists < 0.008  # five bones away from the pelvis


@settings(max_examples=25, deadline=None)
@given(
    scale=st.sampled_from([0.0, 1e-12, 1e-3, 1e6]),
    num_frames=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_finite_points_give_finite_rotations(scale, num_frames, seed):
    joints = np.random.default_rng(seed).normal(size=(num_frames, 22, 3)) * scale
    joints[:, ::3] = joints[:, :1]  # bones of length zero
    local, root, offsets = inverse_kinematics(joints, HUMANML3D_22)
    assert np.isfinite(local).all()
    assert np.isfinite(offsets).all()
    np.testing.assert_allclose(np.linalg.norm(local, axis=-1), 1.0, atol=1e-9)
    np.testing.assert_array_equal(root, joints[:, 0])


def test_bone_lengths_are_the_medians():
    joints, _, offsets = random_clip(HUMANML3D_22, 4, num_frames=5)
    joints[2, 20] += 1.0  # one bad frame
    lengths = np.linalg.norm(rest_offsets(joints, HUMANML3D_22), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(offsets, axis=-1), atol=1e-9)

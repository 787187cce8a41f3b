"""Camera and appearance of a body: left and right are correct, and nothing is cut off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamp_hf.motion.formats.drawing import Camera, Figure, camera_track, floor_height, joint_radii, limbs
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)


def test_left_side_of_a_body_that_faces_the_camera_is_on_the_right():
    camera = Camera(azimuth=0.0, elevation=0.0, distance=4.0, center=(50.0, 60.0), focal=100.0)
    left, up, nearer = camera.project(np.eye(3), np.zeros(3))
    np.testing.assert_allclose(left, [75.0, 60.0, 4.0])
    np.testing.assert_allclose(up, [50.0, 35.0, 4.0])
    np.testing.assert_allclose(nearer, [50.0, 60.0, 3.0])


def test_camera_moves_to_the_left_of_the_body_and_up():
    left = Camera(azimuth=np.pi / 2, elevation=0.0, distance=4.0, center=(0.0, 0.0), focal=1.0)
    np.testing.assert_allclose(left.project(np.array([1.0, 0.0, 0.0]), np.zeros(3)), [0, 0, 3], atol=1e-12)
    above = Camera(azimuth=0.0, elevation=np.pi / 2, distance=4.0, center=(0.0, 0.0), focal=1.0)
    np.testing.assert_allclose(above.project(np.array([0.0, 1.0, 0.0]), np.zeros(3)), [0, 0, 3], atol=1e-12)
    assert above.project(np.array([0.0, 0.0, 1.0]), np.zeros(3))[1] > 0  # closer points are lower in the picture


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    azimuth=st.floats(-4, 4),
    elevation=st.floats(-1.5, 1.5),
    spread=st.floats(0.01, 20),
)
def test_framing_shows_all_points_tightly(seed, azimuth, elevation, spread):
    points = np.random.default_rng(seed).normal(size=(40, 3)) * spread
    left, top, right, bottom = viewport = (10.0, 30.0, 310.0, 190.0)
    camera = Camera.framing(points, viewport, margin=0.0, azimuth=azimuth, elevation=elevation)
    x, y, depth = camera.project(points, np.zeros(3)).T
    assert (depth > 0).all()
    assert left - 1e-6 <= x.min()
    assert x.max() <= right + 1e-6
    assert top - 1e-6 <= y.min()
    assert y.max() <= bottom + 1e-6
    if camera.distance > 0.5:
        fill = max((x.max() - x.min()) / (right - left), (y.max() - y.min()) / (bottom - top))
        assert fill > 0.9


@SKELETONS
def test_limbs_follow_the_skeleton_and_have_a_side(skeleton):
    bones = limbs(skeleton)
    assert [bone.joint for bone in bones] == list(range(1, skeleton.num_joints))
    for bone in bones:
        assert bone.parent == skeleton.parents[bone.joint]
        side = skeleton.joint_names[bone.joint].partition("_")[0]
        assert bone.side == (side if side in ("left", "right") else "center")
    radii = joint_radii(skeleton)
    np.testing.assert_array_equal(radii, radii[skeleton.mirror_permutation])


@SKELETONS
def test_small_body_has_thin_limbs_and_keeps_its_heading(make_motion, skeleton):
    joints = np.asarray(make_motion(skeleton=skeleton).joints, dtype=np.float64)
    figure = Figure.of(joints, skeleton)
    small = Figure.of(0.5 * joints, skeleton)
    np.testing.assert_allclose(small.radii, 0.5 * figure.radii, rtol=1e-6)
    assert small.head_radius == pytest.approx(0.5 * figure.head_radius)
    assert figure.facing == pytest.approx(0.0, abs=1e-6)
    neck = joints[:, skeleton.parents[skeleton.joint_names.index("head")]]
    assert (figure.head[:, 1] > neck[:, 1]).all()


def test_camera_follows_a_steady_walk_without_lag_and_is_otherwise_still(make_motion):
    motion = make_motion(num_frames=50)
    figure = Figure.of(np.asarray(motion.joints), motion.skeleton)
    following = camera_track(figure, follow=True, fps=motion.fps)
    np.testing.assert_allclose(following[:, [0, 2]], figure.joints[:, 0, [0, 2]], atol=1e-4)
    standing = camera_track(figure, follow=False, fps=motion.fps)
    assert np.ptp(standing, axis=0).max() == 0.0
    assert np.ptp(following[:, 1]) == 0.0


def test_floor_is_at_zero_unless_the_body_is_elsewhere():
    joints = np.zeros((2, 22, 3))
    joints[..., 1] = np.linspace(-0.1, 1.6, 22)
    assert floor_height(joints) == 0.0
    for rise, floor in ((5.0, 4.9), (-0.9, -1.0)):
        assert floor_height(joints + np.array([0.0, rise, 0.0])) == pytest.approx(floor)

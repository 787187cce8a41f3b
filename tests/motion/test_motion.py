"""`Motion`: an immutable value with two representations, statistics and files."""

import numpy as np
import pytest

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.text import swap_sides


def test_views_agree_and_are_cached(walker):
    made = Motion(features=walker.features)
    assert made.features is made.features
    np.testing.assert_array_equal(made.joints, features_to_joints(walker.features))
    np.testing.assert_array_equal(made.features, walker.features)  # bit-equal
    assert (walker.num_frames, made.num_frames) == (60, 59)
    assert walker.duration == 3.0


def test_motion_is_immutable(walker):
    with pytest.raises(AttributeError, match="Motion is immutable: fps cannot be set"):
        walker.fps = 30
    with pytest.raises(ValueError, match="read-only"):
        walker.joints[0, 0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        walker.features[0, 0] = 1.0
    joints = np.zeros((4, 22, 3), dtype=np.float32)
    motion = Motion(joints=joints)
    joints[0, 0, 0] = 9.0
    assert motion.joints[0, 0, 0] == 0.0


def test_equality(walker):
    assert Motion(features=walker.features) == Motion(features=walker.features, name="other")
    assert walker != walker.with_text("another")
    assert walker != walker.crop(0, 1)
    assert walker.__eq__(3) is NotImplemented


def test_crop_is_in_seconds(walker):
    part = walker.crop(0.5, 2.0)
    np.testing.assert_array_equal(part.joints, walker.joints[10:40])
    assert part.text == walker.text
    features = Motion(features=walker.features).crop(1.0)
    np.testing.assert_array_equal(features.features, walker.features[20:])
    with pytest.raises(ValueError, match=r"cannot crop 2 s to 4 s of a motion of 3 s"):
        walker.crop(2, 4)


def test_mirror_also_swaps_words(waver):
    mirrored = waver.mirror()
    assert mirrored.text == "a person waves with the left hand"
    assert mirrored.joints[-1, 20, 1] > mirrored.joints[-1, 21, 1] + 0.3
    assert mirrored.mirror() == waver


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Left, then RIGHT", "Right, then LEFT"),
        ("leftward and right-handed", "rightward and left-handed"),
        ("the bright cleft", "the bright cleft"),
        ("", ""),
    ],
)
def test_sides_in_words_are_swapped(text, expected):
    assert swap_sides(text) == expected
    assert swap_sides(expected) == text


def test_resample(walker):
    assert walker.resample(20) is walker
    double = walker.resample(40)
    assert (double.fps, double.num_frames) == (40, 119)
    np.testing.assert_allclose(double.joints[::2], walker.joints, atol=1e-6)


def test_measures_distinguish_standing_from_skating(waver):
    standing = waver.report()
    assert standing.foot_skating == 0
    assert standing.distance_m == 0
    sliding = Motion(joints=waver.joints + np.linspace(0, 3, 60)[:, None, None] * np.array([0, 0, 1.0]))
    report = sliding.report()
    assert report.foot_skating == 1.0
    assert report.foot_slide_m_per_s == pytest.approx(3 / 59 * 20, rel=1e-3)
    assert report.distance_m == pytest.approx(3.0, rel=1e-3)
    assert "feet skate in 100.0%" in str(report)


def test_jitter_measures_the_third_derivative():
    time = np.arange(50) / 20.0
    joints = np.zeros((50, 22, 3))
    joints[..., 1] = (5.0 * time**3)[:, None]  # third derivative 30 m/s³ everywhere
    assert Motion(joints=joints).jitter() == pytest.approx(30.0, rel=1e-2)
    assert Motion(joints=joints[:3]).jitter() == 0.0


def test_rotations_reproduce_the_joints(waver):
    from lamp_hf.motion.kinematics import forward_kinematics

    quaternions, root, offsets = waver.rotations
    back = forward_kinematics(quaternions, root, offsets, waver.skeleton.parents)
    assert np.linalg.norm(back - waver.joints, axis=-1).mean() < 0.005


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "neither was passed"),
        ({"joints": np.zeros((5, 21, 3))}, r"expected joints of shape \(frames, 22, 3\).*found \(5, 21, 3\)"),
        ({"features": np.zeros((5, 251))}, r"expected features of shape \(frames, 263\)"),
        ({"joints": np.zeros((0, 22, 3))}, "have no frames"),
        ({"joints": np.full((3, 22, 3), np.nan)}, "not finite, first in frame 0"),
        ({"joints": np.zeros((3, 22, 3)), "fps": 0}, "expected fps from 1 to 1000 frames per second, got fps=0"),
    ],
)
def test_invalid_input_is_refused(arguments, message):
    with pytest.raises(MotionFormatError, match=message):
        Motion(**arguments)


def test_unknown_suffix_and_missing_file(tmp_path, walker):
    with pytest.raises(MotionFormatError, match=r"walk.fbx: cannot write this format; expected one of .bvh"):
        walker.save(tmp_path / "walk.fbx")
    with pytest.raises(FileNotFoundError, match="no such file"):
        Motion.load(tmp_path / "walk.bvh")
    (tmp_path / "walk.txt").write_text("x")
    with pytest.raises(MotionFormatError, match=r"walk.txt: cannot read this"):
        Motion.load(tmp_path / "walk.txt")


def test_notebook_view_is_a_player(walker):
    assert "<iframe" in walker._repr_html_()

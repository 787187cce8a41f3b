"""Detection of unit, up axis and handedness from joints alone."""

import numpy as np
import pytest

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.detection import METERS_PER_UNIT, UP_AXES, detect, read_units, standardize
from lamp_hf.motion.skeleton import KIT_21

# Coordinates in a file with this up axis of a point (x, y, z) with Y up, written out on purpose.
TURNED = {
    "y": lambda x, y, z: (x, y, z),
    "-y": lambda x, y, z: (x, -y, -z),
    "z": lambda x, y, z: (x, -z, y),
    "-z": lambda x, y, z: (x, z, -y),
    "x": lambda x, y, z: (y, -x, z),
    "-x": lambda x, y, z: (-y, x, z),
}


def turned(joints, axis):
    return np.stack(TURNED[axis](*np.moveaxis(np.asarray(joints, dtype=np.float64), -1, 0)), axis=-1)


@pytest.fixture
def walk(make_motion):
    return make_motion(num_frames=30).joints


@pytest.mark.parametrize("unit", METERS_PER_UNIT)
@pytest.mark.parametrize("axis", UP_AXES)
def test_every_unit_and_axis_gives_the_same_person(unit, axis, walk):
    joints, detection = standardize(turned(walk, axis) / METERS_PER_UNIT[unit])
    assert (detection.unit, detection.up_axis) == (unit, axis)
    np.testing.assert_allclose(joints, walk, atol=1e-5)
    assert joints.dtype == np.float32


@pytest.mark.parametrize("axis", ["x", "-x", "-y", "-z"])
def test_unusual_axes_cause_a_warning(axis, walk, caplog):
    standardize(turned(walk, axis), file_name="take.npy")
    assert f"take.npy: the body stands along {axis} (share 1.00), which is unusual" in caplog.text
    with pytest.raises(MotionFormatError, match=r"take\.npy: the body stands along"):
        standardize(turned(walk, axis), file_name="take.npy", strict=True)


def test_given_unit_and_up_axis_are_used(walk, caplog):
    joints, detection = standardize(walk * 100, unit="m", up_axis="y")
    np.testing.assert_allclose(joints, walk * 100, rtol=1e-6)
    assert not detection.doubts
    assert not caplog.text
    with pytest.raises(MotionFormatError, match="expected unit among m, dm, cm, mm, inch, foot, cmu, got 'ell'"):
        standardize(walk, unit="ell")
    with pytest.raises(MotionFormatError, match="expected up_axis among y, z, x, -y, -z, -x, got 'w'"):
        standardize(walk, up_axis="w")


@pytest.mark.parametrize("height", [0.75, 0.9, 1.1, 1.4, 1.75, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("legs", [0.42, 0.474, 0.52])
@pytest.mark.parametrize("unit", METERS_PER_UNIT)
def test_toddlers_and_giants_are_read_or_cause_a_warning(unit, height, legs):
    """For any unit and size, a wrong reading lists the correct one as an alternative."""
    readings = read_units(legs * height / METERS_PER_UNIT[unit])
    assert unit in [reading.unit for reading in readings]  # if there are several, all are listed


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
@pytest.mark.parametrize("height", [1.45, 1.6, 1.75, 1.85])
def test_adults_in_common_units_have_one_reading(unit, height, walk, caplog):
    _, detection = standardize(walk * (0.474 * height / 0.83) / METERS_PER_UNIT[unit])
    assert [reading.unit for reading in detection.unit_readings] == [unit]
    assert not caplog.text


@pytest.mark.parametrize("unit", ["dm", "inch", "cmu"])
def test_usual_unit_is_certain_only_for_adults(unit, walk, caplog):
    assert detect(walk / METERS_PER_UNIT[unit]).doubts
    assert not detect(walk / METERS_PER_UNIT[unit], usual_unit=unit).doubts
    for size in (0.45, 1.7):
        detection = detect(size * walk / METERS_PER_UNIT[unit], usual_unit=unit)
        assert detection.unit == unit or any(f"{unit} (leg" in doubt for doubt in detection.doubts)


def test_close_units_cause_a_warning(walk, caplog):
    """A leg of 0.52 m in inches could also be 1.14 m in the CMU database's unit."""
    _, detection = standardize(walk * (0.515 / 0.83) / 0.0254, file_name="child.npy")
    assert detection.unit == "inch"
    assert "child.npy: taking the unit as inch (leg 0.5" in caplog.text
    assert "it could be cmu (leg 1.1" in caplog.text


def test_size_that_is_not_human_is_refused(walk):
    for factor in (250.0 / 0.83, 1e-3, 0.0, 1e7):
        with pytest.raises(MotionFormatError, match="not a human size in any of m, dm, cm"):
            standardize(walk * factor)


def test_error_names_invalid_values(walk):
    walk = walk.copy()
    walk[3, 2, 1] = np.nan
    with pytest.raises(MotionFormatError, match=r"take\.npy: frame 4 has a joint that is not finite"):
        standardize(walk, file_name="take.npy")


def test_mirrored_data_are_reported(walk, caplog):
    _, right = standardize(walk)
    assert right.facing > 0.9
    assert not right.mirrored
    for mirror in ([-1, 1, 1], [1, 1, -1]):
        _, detection = standardize(walk * mirror)
        assert detection.mirrored
        assert detection.facing < -0.9
    assert "left and right contradict the direction of the feet" in caplog.text


def lying(walk, way):
    """Test the walk with its body laid on the floor, Y up, head to +Z, -Z, +X or -X, 3 m from the origin."""
    x, y, z = np.moveaxis(walk.astype(np.float64) - walk[:, :1], -1, 0)
    axes = {"+z": (x, -z, y), "-z": (x, z, -y), "+x": (y, -x, z), "-x": (-y, x, z)}[way]
    body = np.stack(axes, axis=-1)
    return body + np.array([3.0, 0.05 - body[..., 1].min(), 5.0])


@pytest.mark.parametrize("crawls", [False, True])
@pytest.mark.parametrize("way", ["+z", "-z", "+x", "-x"])
@pytest.mark.parametrize("axis", ["y", "z"])
def test_lying_body_is_never_stood_up_silently(axis, way, crawls, walk):
    body = lying(walk, way)
    if crawls:
        step = 0.1 * (1.0 if way[0] == "+" else -1.0)
        body[..., 2 if way[1] == "z" else 0] += step * np.arange(len(body))[:, None]
    for rest in (None, turned(walk[0], axis)):
        detection = detect(turned(body, axis), rest=rest, unit="m")
        # A body that lies along -X with Z up looks like one that stands with -X up; both are reported as unusual.
        assert detection.up_axis == axis or detection.doubts


def test_someone_who_falls_keeps_the_up_axis_of_the_floor(walk):
    """As in take 90_18 of the CMU database, the body lies in most frames, and no axis is certain."""
    clip = np.concatenate([walk[:6], lying(walk, "-z")[:20]])
    detection = detect(clip, unit="m")
    assert detection.up_axis == "y"
    assert "with a share of only 0.7" in detection.doubts[0]


def test_lying_body_is_doubtful(walk, caplog):
    lying = turned(walk[:1], "z")  # Y up, the head along Z
    lying[..., 1] -= lying[..., 1].min()
    lying[..., 2] += 20.0
    _, detection = standardize(lying)
    assert "or it lies on a floor with Y up" in caplog.text
    bent = np.array([lying[0], walk[0], turned(walk[:1], "x")[0]])
    _, detection = standardize(bent)
    assert detection.up_axis == "y"
    assert "the body does not stand" in caplog.text
    detection = detect(bent, rest=turned(walk[:1], "z")[0])  # a rest pose determines the up axis
    assert detection.up_axis == "z"


def test_kit_joints_in_millimeters(make_motion):
    walk = make_motion(skeleton=KIT_21).joints
    joints, detection = standardize(walk * 1000, skeleton=KIT_21)
    assert detection.unit == "mm"
    np.testing.assert_allclose(joints, walk, atol=1e-5)

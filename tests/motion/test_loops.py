"""Options for animators: loops, motions in place, motions at the origin, and their combination."""

import json
import math

import numpy as np
import pytest

from lamp_hf.motion.features import facing_angles
from lamp_hf.motion.loops import turn_about_up
from lamp_hf.motion.motion import Motion

GROUND = np.array([1.0, 0.0, 1.0])


def seam(motion: Motion) -> tuple[float, float]:
    """Return the largest distance in meters, and difference in velocity in m/s, of a joint between end and start.

    Both are relative to the heading of the body and the root's projection on the floor.
    """
    joints = motion.joints.astype(np.float64)
    turn = facing_angles(joints[-1]) - facing_angles(joints[0])
    back = turn_about_up(joints[-2:] - joints[-1, 0] * GROUND, -turn)
    front = joints[:2] - joints[0, 0] * GROUND
    pose = np.linalg.norm(back[1] - front[0], axis=-1).max()
    velocity = np.linalg.norm((back[1] - back[0]) - (front[1] - front[0]), axis=-1).max() * motion.fps
    return float(pose), float(velocity)


def largest_change(motion: Motion) -> float:
    """Return the largest change of a joint's velocity from one frame to the next, m/s."""
    return float(np.linalg.norm(np.diff(motion.joints, 2, axis=0), axis=-1).max()) * motion.fps


def bone_lengths(motion: Motion) -> np.ndarray:
    parents = list(motion.skeleton.parents)
    return np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, parents[1:]], axis=-1)


@pytest.mark.parametrize(("speed", "turn", "frames"), [(1.1, 0.0, 60), (0.9, 0.6, 75), (1.3, -0.4, 53)])
def test_walk_becomes_a_loop(procedural, speed, turn, frames):
    walk = procedural.walker(frames, speed=speed, turn=turn)
    assert seam(walk)[0] > 0.03
    loop = walk.loop()
    pose, velocity = seam(loop)
    assert pose < 1e-5
    assert velocity < largest_change(walk) / 5
    assert frames / 2 <= loop.num_frames <= frames
    # A walk is cut after whole strides of 20 / 0.9 frames, so little blending is needed.
    assert abs(math.remainder((loop.num_frames - 1) * 0.9 / 20, 1.0)) < 0.06
    np.testing.assert_allclose(bone_lengths(loop), bone_lengths(walk)[: loop.num_frames], atol=1e-5)
    # The body still walks, and repetitions continue in the direction in which the last one ended.
    assert loop.report().speed_m_per_s == pytest.approx(speed, rel=0.03)


def test_loop_is_as_smooth_as_the_motion(procedural):
    walk = procedural.walker(60)
    loop = walk.loop()
    twice = np.concatenate([loop.joints[:-1], loop.joints + (loop.joints[-1, 0] - loop.joints[0, 0])])
    assert largest_change(Motion(twice)) < 1.1 * largest_change(walk)
    assert Motion(twice).jitter() < 1.1 * walk.jitter()


def test_standing_body_returns_to_its_start(waver):
    drift = np.linspace([0.0, 0.0, 0.0], [0.1, 0.0, -0.05], waver.num_frames)[:, None]
    joints = turn_about_up(waver.joints, np.linspace(0.0, 0.2, waver.num_frames)) + drift
    loop = Motion(joints).loop()
    np.testing.assert_array_equal(loop.joints[-1], loop.joints[0])
    assert seam(loop)[1] < 0.1
    assert np.abs(np.diff(loop.joints[:, 0], axis=0)).max() < 0.01  # no jump between
    assert np.linalg.norm(np.ptp(Motion(joints).loop(root_motion=True).joints[[0, -1], 0], axis=0)) > 0.05


def test_walk_can_return_to_its_start(walker):
    there_and_back = walker.loop(root_motion=False)
    np.testing.assert_array_equal(there_and_back.joints[-1], there_and_back.joints[0])


def test_loop_in_place_ends_where_it_starts(procedural):
    walk = procedural.walker(60, speed=1.2)
    for loop in (walk.loop().in_place(), walk.in_place().loop()):
        np.testing.assert_allclose(loop.joints[-1], loop.joints[0], atol=2e-6)
        assert seam(loop)[1] < largest_change(walk) / 5


def test_short_and_motionless_clips(walker):
    still = Motion(np.repeat(walker.joints[:1], 30, axis=0))
    np.testing.assert_allclose(still.loop().joints, still.joints, atol=1e-6)
    assert still.loop().num_frames == 30
    assert seam(walker.crop(0, 0.2).loop())[0] < 1e-5
    with pytest.raises(ValueError, match="a motion of 3 frames cannot loop; at least 4 are needed"):
        walker.crop(0, 0.15).loop()


def test_in_place_keeps_the_pose(procedural):
    walk = procedural.walker(60, turn=0.5)
    still = walk.in_place()
    np.testing.assert_array_equal(still.joints[:, 0, ::2], np.repeat(walk.joints[:1, 0, ::2], 60, axis=0))
    np.testing.assert_allclose(
        still.joints - still.joints[:, :1] * GROUND, walk.joints - walk.joints[:, :1] * GROUND, atol=1e-6
    )
    np.testing.assert_array_equal(still.joints[..., 1], walk.joints[..., 1])
    assert (still.text, still.fps) == (walk.text, walk.fps)


@pytest.mark.parametrize("angle", [0.7, -3.0])
def test_to_origin(walker, angle):
    away = Motion(turn_about_up(walker.joints, angle) + np.array([3.0, 0.5, -2.0]))
    home = away.to_origin()
    np.testing.assert_array_equal(home.joints[0, 0, ::2], 0.0)
    assert abs(float(facing_angles(home.joints[0]))) < 1e-6
    np.testing.assert_allclose(home.joints - np.array([0.0, 0.5, 0.0]), walker.to_origin().joints, atol=2e-6)
    assert home.joints[-1, 0, 2] == pytest.approx(1.1 * 59 / 20, rel=1e-3)  # it walks along +Z


def test_generated_feet_are_planted_before_the_loop_and_not_after(walker, monkeypatch):
    generated = Motion(features=walker.features)
    assert not generated.final_feet
    for made in (generated.loop(), generated.in_place(), generated.plant_feet()):
        assert made.final_feet
        assert made.mirror().final_feet
    np.testing.assert_array_equal(generated.in_place().joints, generated.plant_feet().in_place().joints)
    kept = generated.in_place(plant_feet=False)
    np.testing.assert_allclose(kept.joints[..., 1], generated.joints[..., 1])
    np.testing.assert_array_equal(walker.in_place().joints[:, 7, 1], walker.joints[:, 7, 1])  # a recording
    assert not np.array_equal(walker.in_place(plant_feet=True).joints, walker.in_place().joints)


def test_files_keep_the_final_feet_flag(walker, tmp_path, monkeypatch):
    generated = Motion(features=walker.features)
    loop = generated.loop()
    loop.save(tmp_path / "loop.npz")
    back = Motion.load(tmp_path / "loop.npz")
    assert back == loop
    assert (back.final_feet, back.own_body) == (True, False)
    generated.save(tmp_path / "walk.npz")
    assert not Motion.load(tmp_path / "walk.npz").final_feet

    planted = []
    monkeypatch.setattr("lamp_hf.motion.feet.plant_joints", lambda joints, *_, **__: planted.append(1) or joints)
    back.save(tmp_path / "loop.bvh")
    assert not planted
    back.save(tmp_path / "loop.bvh", plant_feet=True)
    assert planted


def test_file_of_a_loop_loops(walker, tmp_path):
    loop = Motion(features=walker.features).loop()
    loop.save(tmp_path / "loop.bvh")
    back = Motion.load(tmp_path / "loop.bvh")
    pose, velocity = seam(back)
    assert pose < 1e-3
    assert velocity < largest_change(back)


def test_adjust_applies_all_steps_in_order(walker):
    assert walker.adjust() is walker
    made = walker.adjust(fps=40, mirror=True, loop=True, in_place=True, origin=True)
    assert made == walker.resample(40).mirror().loop().in_place().to_origin()
    np.testing.assert_array_equal(made.joints[:, 0, ::2], 0.0)
    assert seam(made)[0] < 1e-5
    planted = walker.adjust(loop=True, in_place=True, plant_feet=True)
    np.testing.assert_array_equal(planted.joints, walker.plant_feet().loop().in_place().joints)


def test_to_dict_is_json(walker):
    values = json.loads(json.dumps(walker.to_dict()))
    np.testing.assert_array_equal(np.array(values["positions"], np.float32), walker.joints)
    assert Motion(values["positions"], fps=values["fps"], text=values["text"]) == walker
    assert values["joint_names"][values["parents"][20]] == "left_elbow"
    assert "rotations" not in values
    with_rotations = walker.to_dict(rotations=True)
    names = ("rotations", "root_positions", "offsets")
    for name, expected in zip(names, walker.rotations, strict=True):
        np.testing.assert_array_equal(with_rotations[name], expected)


def test_to_pandas(walker, monkeypatch):
    table = walker.to_pandas()
    assert table.shape == (60, 66)
    assert table.index[20] == 1.0
    np.testing.assert_array_equal(table["left_wrist"]["y"], walker.joints[:, 20, 1])
    assert table.attrs == {"fps": 20.0, "skeleton": "humanml3d_22", "text": "a person walks forward"}
    monkeypatch.setattr("lamp_hf.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"Motion.to_pandas: pandas is not installed; run pip install pandas"):
        walker.to_pandas()

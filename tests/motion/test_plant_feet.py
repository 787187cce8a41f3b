"""Planted feet do not move; the rest of a motion is unchanged."""

import doctest

import numpy as np
import pytest
from typer.testing import CliRunner

from lamp_hf.cli.app import app
from lamp_hf.motion import rotations
from lamp_hf.motion.feet import find_plants, plant_joints
from lamp_hf.motion.kinematics import default_body, forward_kinematics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, Skeleton

SKELETONS = pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)


def standing(
    *, seconds: float = 2.0, fps: float = 20.0, skeleton: Skeleton = HUMANML3D_22, bend: float = 0.3, path=None
) -> Motion:
    """Return a body with bent knees whose root follows `path` (T, 3), a function of seconds (T,), with its feet."""
    time = np.arange(max(1, round(seconds * fps))) / fps
    local = np.tile([1.0, 0.0, 0.0, 0.0], (len(time), skeleton.num_joints, 1))
    for side in ("left", "right"):
        for part, turn in (("hip", -bend), ("knee", 2.0 * bend), ("ankle", -bend)):
            local[:, skeleton.joint_names.index(f"{side}_{part}")] = rotations.about_axis("x", turn)
    root = np.zeros((len(time), 3)) if path is None else np.asarray(path(time), dtype=float)
    joints = forward_kinematics(local, root, default_body(skeleton), skeleton.parents)
    joints[..., 1] -= joints[..., 1].min()
    return Motion(joints=joints, fps=fps, skeleton=skeleton, own_body=False)


def drifting(time: np.ndarray) -> np.ndarray:
    """Slide sideways at 4 cm/s."""
    return time[:, None] * [0.04, 0.0, 0.0]


def feet(motion: Motion) -> np.ndarray:
    return motion.joints[:, list(motion.skeleton.contact_joints)]


def slide(motion: Motion, plants: np.ndarray) -> float:
    speed = np.linalg.norm(np.diff(feet(motion)[..., ::2], axis=0), axis=-1) * motion.fps
    return float(speed[plants[1:] & plants[:-1]].mean())


def lengths(motion: Motion) -> np.ndarray:
    parents = np.array(motion.skeleton.parents)[1:]
    return np.linalg.norm(motion.joints[:, 1:] - motion.joints[:, parents], axis=-1)


def knees_forward(motion: Motion) -> np.ndarray:
    """Return how far the knees are in front of the lines from hip to ankle, for bodies that face +Z."""
    names = motion.skeleton.joint_names
    found = []
    for side in ("left", "right"):
        hip, knee, ankle = (motion.joints[:, names.index(f"{side}_{part}")] for part in ("hip", "knee", "ankle"))
        way = ankle - hip
        share = np.sum((knee - hip) * way, axis=-1) / np.sum(way * way, axis=-1)
        found.append((knee - hip - share[:, None] * way)[:, 2])
    return np.stack(found)


@SKELETONS
@pytest.mark.parametrize("fps", [3.0, 12.5, 20.0, 60.0, 120.0])
def test_feet_of_a_drifting_body_stand_still(skeleton, fps):
    motion = standing(fps=fps, skeleton=skeleton, path=drifting)
    plants = motion.foot_plants()
    assert plants.all()
    planted = motion.plant_feet()
    assert slide(motion, plants) == pytest.approx(0.04, rel=0.01)
    assert slide(planted, plants) < 1e-4
    np.testing.assert_allclose(feet(planted)[..., 1], feet(motion)[..., 1], atol=1e-4)
    np.testing.assert_allclose(feet(planted).mean(axis=0), feet(motion).mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(lengths(planted), lengths(motion), atol=1e-5)
    np.testing.assert_allclose(
        planted.joints[:, 0], motion.joints[:, 0], atol=1e-6
    )  # the legs reach, so the body does not move
    assert knees_forward(planted).min() > 0.05
    assert (planted.fps, planted.skeleton, planted.own_body) == (fps, skeleton, False)


@SKELETONS
def test_step_keeps_both_footholds_and_the_path_between(skeleton):
    """Feet that slide 5 cm while they stand, with a step of 30 cm between: the step is not shortened."""

    def path(time):
        way = 0.05 * time + 0.3 * np.clip((time - 1.0) / 0.2, 0.0, 1.0)
        return np.stack([np.zeros_like(time), np.zeros_like(time), way], axis=-1)

    motion = standing(seconds=2.2, skeleton=skeleton, path=path)
    plants = motion.foot_plants()
    assert plants[:18].all()
    assert plants[27:].all()
    assert not plants[20:24].any()
    planted = motion.plant_feet()
    assert slide(planted, plants) < 0.002
    before, after = (feet(clip)[30:, :, 2].mean() - feet(clip)[:18, :, 2].mean() for clip in (motion, planted))
    assert after == pytest.approx(before, abs=0.01)
    steps = np.linalg.norm(np.diff(feet(planted), axis=0), axis=-1)
    assert steps.max() < 1.4 * np.linalg.norm(np.diff(feet(motion), axis=0), axis=-1).max()  # no jumps


def test_foot_in_the_air_is_not_planted():
    motion = standing(seconds=3.0, path=drifting)
    joints = motion.joints.copy()
    names = HUMANML3D_22.joint_names
    for part, forward, up in (("knee", 0.35, 0.3), ("ankle", 0.2, 0.35), ("foot", 0.25, 0.4)):
        joints[:, names.index(f"right_{part}")] += np.array([0.0, up, forward]) * np.ones((60, 1))
    # Two frames on the floor, from which the foot came, define the height of the floor.
    joints[:2] = motion.joints[:2]
    lifted = Motion(joints=joints)
    plants = lifted.foot_plants()
    assert plants[:, :2].all()
    assert not plants[2:, 2:].any()
    planted = lifted.plant_feet()
    right = [names.index(f"right_{part}") for part in ("hip", "knee", "ankle", "foot")]
    np.testing.assert_allclose(planted.joints[8:, right], joints[8:, right], atol=1e-6)


@SKELETONS
def test_handstand_is_unchanged(skeleton):
    motion = standing(skeleton=skeleton, path=drifting)
    joints = motion.joints * np.array([1.0, -1.0, -1.0], dtype=np.float32)
    joints[..., 1] -= joints[..., 1].min()
    upside_down = Motion(joints=joints, skeleton=skeleton)
    assert not upside_down.foot_plants().any()
    np.testing.assert_array_equal(upside_down.plant_feet().joints, upside_down.joints)


def test_intended_slides_are_unchanged():
    def skate(time):
        return np.stack([np.zeros_like(time), np.zeros_like(time), 2.0 * time], axis=-1)

    motion = standing(path=skate)
    np.testing.assert_array_equal(motion.plant_feet().joints, motion.joints)


def test_slowly_creeping_foot_is_planted_in_pieces():
    motion = standing(seconds=8.0, path=lambda time: time[:, None] * [0.06, 0.0, 0.0])  # 48 cm
    plants = motion.foot_plants()
    assert 0.7 < plants.mean() < 1.0
    planted = motion.plant_feet()
    assert slide(planted, plants) < 0.002
    assert np.linalg.norm(planted.joints[:, 0] - motion.joints[:, 0], axis=-1).max() < 0.02


def test_hips_follow_slightly_and_smoothly_if_a_leg_is_too_short():
    motion = standing(seconds=3.0, bend=0.02, path=lambda time: time[:, None] * [0.0, 0.0, 0.045])
    planted = motion.plant_feet()
    shift = planted.joints[:, 0] - motion.joints[:, 0]
    assert 0.001 < np.linalg.norm(shift, axis=-1).max() < 0.02
    assert np.abs(np.diff(shift, 2, axis=0)).max() < 0.001
    np.testing.assert_allclose(lengths(planted), lengths(motion), atol=1e-5)
    assert knees_forward(planted).min() > -1e-4
    assert feet(planted)[..., 1].min() > feet(motion)[..., 1].min() - 1e-6


def test_planting_does_not_amplify_decoder_noise():
    rng = np.random.default_rng(0)
    motion = standing(seconds=4.0, path=drifting)
    noisy = Motion(joints=motion.joints + rng.normal(scale=0.003, size=motion.joints.shape), own_body=False)
    plants, planted = noisy.foot_plants(), noisy.plant_feet()
    assert slide(noisy, plants) > 0.07
    assert slide(planted, plants) < 0.01
    assert planted.jitter() < 1.02 * noisy.jitter()
    legs = [
        HUMANML3D_22.joint_names.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle")
    ]
    columns = [leg - 1 for leg in legs]
    np.testing.assert_allclose(lengths(planted)[:, columns], lengths(noisy)[:, columns], atol=1e-5)
    toes = [HUMANML3D_22.joint_names.index(f"{side}_foot") - 1 for side in ("left", "right")]
    assert np.ptp(lengths(planted)[:, toes], axis=0).max() < 1e-5  # the same length in all frames
    np.testing.assert_allclose(lengths(planted)[0, toes], np.median(lengths(noisy)[:, toes], axis=0), atol=1e-5)


@SKELETONS
def test_single_frame_is_unchanged(skeleton):
    motion = standing(seconds=0.05, skeleton=skeleton)
    assert motion.num_frames == 1
    np.testing.assert_allclose(motion.plant_feet().joints, motion.joints, atol=1e-6)


@SKELETONS
@pytest.mark.filterwarnings("error")
def test_degenerate_bodies_stay_finite(skeleton):
    shape = (30, skeleton.num_joints, 3)
    rng = np.random.default_rng(0)
    collapsed = np.zeros(shape)
    no_feet = standing(seconds=1.5, skeleton=skeleton, path=drifting).joints.copy()
    heels, toes = list(skeleton.contact_joints[::2]), list(skeleton.contact_joints[1::2])
    no_feet[:, toes] = no_feet[:, heels]
    for joints in (collapsed, no_feet, rng.normal(size=shape), rng.normal(scale=0.01, size=shape)):
        assert np.isfinite(Motion(joints=joints, skeleton=skeleton).plant_feet().joints).all()


def test_contact_labels_can_prevent_planting():
    motion = standing(path=drifting)
    labels = np.ones((motion.num_frames, 4))
    labels[:, 2:] = 0.0
    assert find_plants(motion.joints, 20.0, labels=labels).all(axis=0).tolist() == [True, True, False, False]
    kit = standing(skeleton=KIT_21, fps=12.5, path=drifting)
    assert find_plants(kit.joints, 12.5, KIT_21, labels=np.zeros((kit.num_frames, 4))).all()


def test_planting_twice_changes_little():
    motion = standing(seconds=3.0, path=drifting)
    once = motion.plant_feet()
    np.testing.assert_allclose(once.plant_feet().joints, once.joints, atol=1e-4)


def test_motion_without_contacts_is_copied_exactly():
    motion = standing(path=drifting)
    made = plant_joints(motion.joints, 20.0, plants=np.zeros((motion.num_frames, 4), dtype=bool))
    np.testing.assert_array_equal(made, motion.joints)


def test_example_in_the_docs_runs():
    examples = doctest.DocTestParser().get_doctest(Motion.plant_feet.__doc__ or "", {}, "plant_feet", None, 0)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.fixture(scope="module")
def generated() -> Motion:
    """Return features of a sliding body, as a model might generate them."""
    return Motion(features=standing(seconds=2.05, path=drifting).features, text="a person stands")


@pytest.mark.parametrize("suffix", [".bvh", ".glb"])
def test_files_of_generated_motions_have_planted_feet(generated, suffix, tmp_path):
    found = {}
    for choice in (None, True, False):
        path = tmp_path / f"{choice}{suffix}"
        generated.save(path, plant_feet=choice)
        read = Motion.load(path)
        found[choice] = slide(read, generated.foot_plants()[: read.num_frames])
    assert found[None] == found[True] < 0.002
    assert found[False] == pytest.approx(0.04, rel=0.05)


def test_recording_is_written_unchanged(generated, tmp_path):
    recording = Motion(joints=generated.joints)
    assert recording.own_body
    recording.save(tmp_path / "recording.bvh")
    recording.save(tmp_path / "as-it-is.bvh", plant_feet=False)
    recording.save(tmp_path / "planted.bvh", plant_feet=True)
    files = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert files["recording"] == files["as-it-is"] != files["planted"]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".html"])
def test_pictures_show_the_same_motion_as_files(generated, suffix, tmp_path):
    options = {"size": 64} if suffix == ".gif" else {}
    for name, choice in (("default", None), ("planted", True), ("as-it-is", False)):
        generated.save(tmp_path / f"{name}{suffix}", plant_feet=choice, **options)
    files = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert files["default"] == files["planted"] != files["as-it-is"]


def test_arrays_contain_the_unchanged_motion(generated, tmp_path):
    generated.save(tmp_path / "joints.npy")
    generated.save(tmp_path / "features.npy", view="features")
    generated.save(tmp_path / "all.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "joints.npy"), generated.joints)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), generated.features)
    assert Motion.load(tmp_path / "all.npz") == generated


def test_convert_motion_plants_features_but_not_recordings(generated, tmp_path):
    generated.save(tmp_path / "generated.npy", view="features")
    Motion(joints=generated.joints).save(tmp_path / "recording.bvh")

    def converted(source: str, *options: str) -> str:
        target = tmp_path / "made.bvh"
        target.unlink(missing_ok=True)
        result = CliRunner().invoke(app, ["convert-motion", str(tmp_path / source), str(target), *options])
        assert result.exit_code == 0, result.output
        return target.read_text(encoding="utf-8")

    assert converted("generated.npy") == converted("generated.npy", "--plant-feet")
    assert converted("generated.npy") != converted("generated.npy", "--no-plant-feet")
    assert converted("recording.bvh") == converted("recording.bvh", "--no-plant-feet")
    assert converted("recording.bvh") != converted("recording.bvh", "--plant-feet")
    refused = CliRunner().invoke(
        app, ["convert-motion", str(tmp_path / "recording.bvh"), str(tmp_path / "made.npy"), "--plant-feet"]
    )
    assert refused.exit_code == 2
    assert not (tmp_path / "made.npy").exists()

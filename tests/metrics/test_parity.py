"""The metrics equal those of the released code."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional import retrieval

METRICS, RETRIEVAL = "metrics.io", "retrieval.io"
TOLERANCE = 1e-5


@pytest.fixture
def metrics(golden):
    return load_file(golden / "metrics.io.safetensors")


@pytest.fixture
def pairs(golden):
    return load_file(golden / "retrieval.io.safetensors")


@pytest.fixture
def same(parity):
    def compare(file, actual, expected):
        parity(file, np.atleast_1d(np.asarray(actual, np.float64)), np.asarray(expected, np.float64), TOLERANCE)

    return compare


def in_batches(metric, size=20, **inputs):
    """Feed a metric batch by batch."""
    longest = max(map(len, inputs.values()))
    for start in range(0, longest, size):
        parts = {name: values[start : start + size] for name, values in inputs.items()}
        metric.add_batch(**{name: part for name, part in parts.items() if len(part)})
    return metric


def test_distances_and_ranks(metrics, same):
    distances = measures.pairwise_distances(metrics["text_emb"], metrics["motion_emb"])
    same(METRICS, distances, metrics["dist_matrix"])
    same(METRICS, distances.diagonal(), metrics["matching_score_per_sample"])
    similarity = measures.embedding_similarity(metrics["motion_emb"], metrics["text_emb"], "euclidean")
    right = np.eye(64, dtype=bool)
    among = retrieval.wrong_before_right(similarity.T, right)[:, None] < np.arange(1, 11)
    same(METRICS, among, metrics["R_precision_all_top10_mat"])
    recall = retrieval.recall_in_pools(similarity, right, [np.arange(64)], ranks=range(1, 11))
    for way in ("text_to_motion", "motion_to_text"):
        found = [64 * recall[f"{way}_r{k}"] for k in range(1, 11)]
        same(METRICS, found, metrics[f"R_precision_all_sum_top10_{way}"])


def test_r_precision(load, metrics, same):
    metric = in_batches(load("r_precision"), predictions=metrics["motion_emb"], references=metrics["text_emb"])
    scores = metric.compute(repeats=None)  # the released code does not shuffle
    same(METRICS, [64 * scores[f"r_precision_{k}"] for k in (1, 2, 3)], metrics["R_precision_batch32_sum_top3"])


def test_mm_dist(load, metrics, pairs, same):
    metric = in_batches(load("mm_dist"), predictions=metrics["motion_emb"], references=metrics["text_emb"])
    same(METRICS, metric.compute()["mm_dist"], metrics["matching_score_sum"] / 64)
    same(METRICS, metrics["matching_batch32_trace_sum"] / 64, metrics["matching_score_sum"] / 64)
    metric = in_batches(load("mm_dist"), predictions=pairs["motion_embedding"], references=pairs["text_embedding"])
    same(RETRIEVAL, metric.compute()["mm_dist"], pairs["matching"])


def test_fid(load, metrics, same):
    fid = in_batches(load("motion_fid"), predictions=metrics["motion_emb"], references=metrics["motion_emb_other"])
    scores = fid.compute()
    same(METRICS, scores["fid"], metrics["fid"])
    assert (scores["num_predictions"], scores["num_references"]) == (64, 73)
    same(
        METRICS,
        fid.compute(predictions=metrics["motion_emb"], references=metrics["motion_emb"])["fid"],
        metrics["fid_same"],
    )


def test_diversity(load, metrics, pairs, same):
    metric = in_batches(load("diversity", seed=5), predictions=metrics["motion_emb"])
    same(METRICS, metric.compute(num_pairs=20)["diversity"], metrics["diversity"])
    metric = in_batches(load("diversity", seed=3), predictions=pairs["motion_embedding"])
    same(RETRIEVAL, metric.compute(num_pairs=100)["diversity"], pairs["diversity"])


def test_multimodality(load, metrics, same):
    metric = in_batches(load("multimodality", seed=6), size=3, predictions=metrics["mm_emb"])
    same(METRICS, metric.compute()["multimodality"], metrics["multimodality"])


def test_retrieval(load, pairs, same):
    metric = load("motion_retrieval")
    in_batches(metric, predictions=pairs["motion_embedding"], references=pairs["text_embedding"])
    whole = metric.compute(protocols="all", similarity="euclidean")["all"]
    for way in ("text_to_motion", "motion_to_text"):
        expected = pairs[f"FULLSET_R_at_1_10_{way}"]
        same(RETRIEVAL, [whole[f"{way}_r{k}"] for k in (1, 2, 3, 5, 10)], expected[[0, 1, 2, 4, 9]])
    similarity = measures.embedding_similarity(pairs["motion_embedding"], pairs["text_embedding"], "euclidean")
    recall = retrieval.pool_recall(similarity, range(128), repeats=None, ranks=range(1, 11))
    found = [recall[f"motion_to_text_r{k}"] for k in range(1, 11)]
    same(RETRIEVAL, found, pairs["R_at_1_10_batch32_motion_to_text"])

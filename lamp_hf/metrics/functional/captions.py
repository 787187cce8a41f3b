"""Scores of captions against references: BLEU (sacrebleu), ROUGE-L (rouge-score) and CIDEr-D.

All scores are computed on [`plain`] text, so case and punctuation have no effect.
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
    """Lowercase a sentence and remove punctuation: "The person's arm, raised!" → "the person's arm raised"."""
    return " ".join(_WORD.findall(text.lower()))


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]], order: int) -> float:
    """Compute corpus BLEU without smoothing, from 0 to 1, with sacrebleu.

    Args:
        captions: One for each motion.
        references: One or more for each motion.
        order: Longest n-grams. Published tables have 1 and 4.

    Raises:
        ModuleNotFoundError: sacrebleu is missing.
    """
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("BLEU needs sacrebleu: pip install 'lamp_hf[evaluate]'") from error
    # sacrebleu expects the first reference of every caption, then the second …, and None where there is none.
    most = max(map(len, references))
    columns: Any = [[plain(texts[k]) if k < len(texts) else None for texts in references] for k in range(most)]
    # The text is already tokenized; "force" turns off sacrebleu's warning about that.
    measure = BLEU(max_ngram_order=order, smooth_method="none", tokenize="none", force=True)
    return float(measure.corpus_score([plain(text) for text in captions], columns).score) / 100


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Compute ROUGE-L of each caption with its best reference, from 0 to 1, with rouge-score.

    ROUGE-L is the F-measure with equal weights of precision and recall, without stemming.

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
    """Compute CIDEr-D (Vedantam et al., 2015, section 6), which the COCO caption evaluation reports as CIDEr.

    For each n from 1 to 4, a sentence is a vector over n-grams. Each entry is the count of the n-gram times its inverse
    document frequency ln(N / df), for N motions of which df (at least 1) have the n-gram in a reference. A caption and
    a reference are compared by the cosine of their vectors, where the dot product clips the caption's entries to the
    reference's. The cosine is multiplied by exp(-d² / (2 · 6²)) if the lengths differ by d words. The score is the mean
    over n and over references, times 10.

    Unlike in the COCO code, the words come from [`plain`] and not from Stanford's tokenizer. As in the COCO code, but
    unlike in the paper, words are not stemmed. Inverse document frequencies need a corpus: with a single motion, all
    of them are 0, and so is the score.

    Args:
        captions: One for each motion.
        references: One or more for each motion.

    Returns:
        `(N,)`, 0 to 10. Published tables show the mean times 100.
    """
    counted = [[_ngrams(text) for text in texts] for texts in references]
    frequency = Counter(ngram for group in counted for ngram in set().union(*group))
    total = np.log(len(counted))
    scores = []
    for text, group in zip(captions, counted, strict=True):
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
    """Return the mean over n of the clipped cosine of two sentences, with a penalty for different lengths."""
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

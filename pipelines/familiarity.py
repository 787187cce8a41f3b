"""Measures how close a sentence is to the sentences that a model was trained on, by the words of the action.

Words such as "a person …" or "… with the right hand" appear in most sentences. They say nothing about the action and
raise every similarity, so they are left out. The other words are compared with the known sentences, word by word and as
a whole, by the word embeddings of the model, which cover far more words than its training data.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from lamp_hf.modeling.text_encoding import TextEncoder

from .actions import split_actions

__all__ = ["THRESHOLD", "Familiarity", "KnownSentences"]

# Of 159 paraphrases of sentences that lamp-small knows, 3 are below this; of 158 sentences that it does not know, 135
# are (benchmarks/familiarity.py).
THRESHOLD = 0.55
KNOWN_SEQUENCE = 0.85  # from this familiarity on, a text of several actions resembles one in the training data
NEAREST = 3
SMALLEST_GROUP = 2


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that do not describe the action: who does it, on which side, auxiliaries and particles.
_FRAME = _set_of(
    """a about above actor again all along also am an and animation any anybody anyone are around as at avatar be been
    being boy by can character child did do does doing done down each for from full gets getting girl give given gives
    giving going guy had has have having he her hers herself him himself his human i if in individual into is it its
    itself kid lady let make makes making man manner may me men mocap my now of off on one onto or other our out over
    people perform performer performing performs person plays player see seen she show showing shows so some somebody
    someone something still style take takes taking than that the their them themselves then there these they this
    those through to together two under up upon very was way we were what when where which while who whole whom whose
    will with without woman women would you your fashion figure"""
) - {"plays"}
# Words that many actions share; groups of sentences are not named after them.
_SHARED = _set_of(
    """arm arms hand hands left right leg legs foot feet forward forwards ahead back front head body both side sides
    like straight leftward rightward high upper two-handed handed line torso forearm direction looks look looking
    movements full energy facing diagonally toward towards upward active air holds hold masculine guest seems
    feminine last"""
)


@dataclass(frozen=True)
class Familiarity:
    """Familiarity of a model with a text.

    Args:
        score: 1 for a text in the training data, less for texts that are further from it; see `THRESHOLD`.
        nearest: The nearest known sentences, nearest first.
    """

    score: float
    nearest: tuple[str, ...]

    @property
    def is_low(self) -> bool:
        """True if a generated motion may not match the text."""
        return self.score < THRESHOLD

    @property
    def is_known_sequence(self) -> bool:
        """True if the text resembles one in the training data that names several actions."""
        return self.score >= KNOWN_SEQUENCE and any(len(split_actions(sentence)) > 1 for sentence in self.nearest)


class KnownSentences:
    """The sentences that a model was trained on.

    It never changes, so threads may share it.

    Args:
        sentences: Sentences in the training data.
        encoder: Splits words into word pieces.
        embeddings: Embeddings of the word pieces, `(vocabulary, H)`.
    """

    def __init__(self, sentences: Sequence[str], encoder: TextEncoder, embeddings: torch.Tensor):
        self.sentences = list(dict.fromkeys(sentences))
        self._encoder = encoder
        self._embeddings = embeddings.detach()
        words = [action_words(sentence) for sentence in self.sentences]
        self._by_stem: dict[str, str] = {}
        for word in dict.fromkeys(word for sentence in words for word in sentence):
            self._by_stem.setdefault(stem(word), word)
        self._words = torch.stack([self._embed(word) for word in self._by_stem.values()])
        self._wholes = torch.stack([self._whole(sentence) for sentence in words])
        self._counts = Counter(stem(word) for sentence in words for word in set(sentence))

    def familiarity(self, text: str) -> Familiarity:
        """Return how well the model knows a text.

        The score is the mean of two similarities: that of each action word and the closest known word (averaged), and
        that of all action words together and the closest known sentence.
        """
        vectors = self._vectors(text)
        by_word = (vectors @ self._words.T).amax(-1).mean()
        wholes = self._wholes @ F.normalize(vectors.mean(0), dim=0)
        order = wholes.argsort(descending=True, stable=True)[:NEAREST].tolist()
        score = (float(by_word) + float(wholes[order[0]])) / 2
        return Familiarity(min(1.0, max(0.0, score)), tuple(self.sentences[index] for index in order))

    def suggest(self, text: str, count: int = 5) -> list[str]:
        """Return the known sentences nearest to a text, nearest first, with different action words."""
        vectors = self._vectors(text)
        wholes = self._wholes @ F.normalize(vectors.mean(0), dim=0)
        chosen: dict[frozenset[str], str] = {}
        for index in wholes.argsort(descending=True, stable=True).tolist():
            sentence = self.sentences[index]
            chosen.setdefault(frozenset(map(stem, action_words(sentence))), sentence)
            if len(chosen) == count:
                break
        return list(chosen.values())

    def groups(self) -> dict[str, list[str]]:
        """Group the known sentences by their most common action word.

        The largest group comes first, and in each group the shortest sentence. Sentences without a group of at least
        two are in the last group, "other".
        """
        found: dict[str, list[str]] = {}
        for sentence in self.sentences:
            stems = [stem(word) for word in action_words(sentence) if word not in _SHARED]
            best = max(stems, key=lambda item: self._counts[item], default="")
            found.setdefault(self._by_stem.get(best, "other"), []).append(sentence)
        for name in [name for name in found if name != "other" and len(found[name]) < SMALLEST_GROUP]:
            found.setdefault("other", []).extend(found.pop(name))
        names = sorted(found, key=lambda name: (name == "other", -len(found[name]), name))
        return {name: sorted(found[name], key=len) for name in names}

    def _vectors(self, text: str) -> torch.Tensor:
        """Return the unit vectors of the action words of a text; forms of a known word have its vector."""
        return torch.stack([self._embed(self._by_stem.get(stem(word), word)) for word in action_words(text)])

    def _embed(self, word: str) -> torch.Tensor:
        """Return the unit vector of a word, the mean of its pieces."""
        ids = self._encoder.pieces(word)
        return F.normalize(F.normalize(self._embeddings[ids].float().cpu(), dim=-1).mean(0), dim=0)

    def _whole(self, words: Sequence[str]) -> torch.Tensor:
        return F.normalize(torch.stack([self._embed(word) for word in words]).mean(0), dim=0)


def action_words(text: str) -> list[str]:
    """Return the words of a text that describe the action, or all its words if none do."""
    words = re.findall(r"\w+", text.lower())
    return [word for word in words if word not in _FRAME] or words or [text]


def stem(word: str) -> str:
    """Remove endings of verbs and plurals from a word: "waving", "waves" and "wave" have one stem."""
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + rest
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word

"""How near a sentence is to those that a model was trained on, measured on the words of the action.

"a person …", "… with the right hand": what all sentences have in common says nothing about the action, and lifts every
similarity. It is left out here. What remains is compared with the known sentences word by word and as a whole, by the
word embeddings of the model, which know far more words than its training had.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from lamp_hf.modeling.text_encoding import TextEncoder

__all__ = ["THRESHOLD", "Familiarity", "KnownSentences"]

# Of 159 sentences that lamp-small knows, in other words, 3 are below it, and 135 of 158 that it does not know:
# benchmarks/familiarity.py.
THRESHOLD = 0.55
NEAREST = 3
SMALLEST_GROUP = 2


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words of the frame of a caption: who does it, on which side, with auxiliaries and particles.
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
# Words that many actions share, and that are not what a group of sentences is called by.
_SHARED = _set_of(
    """arm arms hand hands left right leg legs foot feet forward forwards ahead back front head body both side sides
    like straight leftward rightward high upper two-handed handed line torso forearm direction looks look looking
    movements full energy facing diagonally toward towards upward active air holds hold masculine guest seems
    feminine last"""
)


@dataclass(frozen=True)
class Familiarity:
    """How well a model knows a text.

    Args:
        score: 1 for what it was trained on, less the farther it is from that; see `THRESHOLD`.
        nearest: The known sentences nearest to it, nearest first.
    """

    score: float
    nearest: tuple[str, ...]

    @property
    def is_low(self) -> bool:
        """Whether a motion may have little to do with the text."""
        return self.score < THRESHOLD


class KnownSentences:
    """The sentences that a model was trained on, and how near others are to them.

    Nothing of it changes after it was made: threads may share it.

    Args:
        sentences: Examples of what the model knows.
        encoder: Splits words into pieces.
        embeddings: Of its word pieces, `(vocabulary, H)`.
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
        """How well the model knows a text.

        The score is the mean of two similarities: of each word of the action to the closest known word, and of all of
        them together to the closest known sentence.
        """
        vectors = self._vectors(text)
        by_word = (vectors @ self._words.T).amax(-1).mean()
        wholes = self._wholes @ F.normalize(vectors.mean(0), dim=0)
        order = wholes.argsort(descending=True, stable=True)[:NEAREST].tolist()
        score = (float(by_word) + float(wholes[order[0]])) / 2
        return Familiarity(min(1.0, max(0.0, score)), tuple(self.sentences[index] for index in order))

    def suggest(self, text: str, count: int = 5) -> list[str]:
        """Known sentences nearest to a text, nearest first, of which no two have the same words of the action."""
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
        """Known sentences by the word that most of those like them share, largest group first, shortest first in each.

        Sentences of smaller groups than two are in the last one, "other".
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
        """Unit vectors of a text's words; forms of a known word are that word."""
        return torch.stack([self._embed(self._by_stem.get(stem(word), word)) for word in action_words(text)])

    def _embed(self, word: str) -> torch.Tensor:
        """Unit vector of a word, the mean of its pieces."""
        ids = self._encoder.pieces(word)
        return F.normalize(F.normalize(self._embeddings[ids].float().cpu(), dim=-1).mean(0), dim=0)

    def _whole(self, words: Sequence[str]) -> torch.Tensor:
        return F.normalize(torch.stack([self._embed(word) for word in words]).mean(0), dim=0)


def action_words(text: str) -> list[str]:
    """Words of a text that say what is done; all of its words if that leaves none."""
    words = re.findall(r"\w+", text.lower())
    return [word for word in words if word not in _FRAME] or words or [text]


def stem(word: str) -> str:
    """A word without the endings of verbs and plurals: "waving", "waves" and "wave" are one."""
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + rest
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls" else word

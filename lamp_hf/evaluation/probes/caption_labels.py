"""Find the action, style and side that a caption names, from the wordings of the data set's grammar."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.motion.text import SIDE

__all__ = ["CaptionLabels", "CaptionReader", "naming_accuracy"]

_CONTENT_SLOTS = ("finite", "gerund", "base", "imperative", "noun")
_STYLE_SLOTS = ("adj", "adv", "ly", "look", "manner", "extra", "character", "who")
_POSSESSIVE = re.compile(r"\b(their|his|her|your)\b")
_ARTICLE = re.compile(r"\ban? ")


@dataclass(frozen=True)
class CaptionLabels:
    """Labels that a caption names.

    Args:
        contents: Possible actions. There may be several, because some actions share wordings.
        styles: Possible styles, empty if the caption does not name a style.
        sides: `"left"`, `"right"`, both or none.
    """

    contents: frozenset[str]
    styles: frozenset[str]
    sides: frozenset[str]


class CaptionReader:
    """Finds the labels that captions name. If a caption contains several wordings, the longest one decides."""

    def __init__(self, grammar: CaptionGrammar):
        styles = grammar.styles
        of_content: dict[str, set[str]] = {}
        of_style: dict[str, set[str]] = {}
        for content in grammar.contents:
            for style in styles:
                words = grammar.words(content, style)
                _add(of_content, content, words, _CONTENT_SLOTS)
                _add(of_style, style, words, _STYLE_SLOTS)
        self._contents = _Wordings(of_content)
        # A phrase that occurs with every style, such as "person", does not name a style.
        common = {phrase for phrase, labels in of_style.items() if len(labels) == len(styles)}
        self._styles = _Wordings({phrase: labels for phrase, labels in of_style.items() if phrase not in common})

    def read(self, caption: str) -> CaptionLabels:
        """Return the labels that a caption names."""
        text = _plain(caption)
        contents, rest = self._contents.longest(text)
        styles, _ = self._styles.longest(rest)
        return CaptionLabels(frozenset(contents), frozenset(styles), frozenset(SIDE.findall(text)))


class _Wordings:
    """Phrases and the labels that each one stands for."""

    def __init__(self, labels: Mapping[str, Iterable[str]]):
        self.labels = {phrase: set(found) for phrase, found in labels.items()}
        self.by_first: dict[str, list[list[str]]] = {}
        for phrase in self.labels:
            words = phrase.split()
            self.by_first.setdefault(words[0], []).append(words)

    def longest(self, text: str) -> tuple[set[str], str]:
        """Return the labels of the longest phrases in a text, and the text without the first of these phrases."""
        words = text.split()
        best, place = 0, 0
        found: set[str] = set()
        for start, word in enumerate(words):
            for phrase in self.by_first.get(word, ()):
                size = len(phrase)
                if size >= max(best, 1) and words[start : start + size] == phrase:
                    if size > best:
                        best, found, place = size, set(), start
                    found |= self.labels[" ".join(phrase)]
        return found, " ".join(words[:place] + words[place + best :])


def _add(labels: dict[str, set[str]], label: str, words: Mapping[str, Sequence[str]], slots: Iterable[str]) -> None:
    for slot in slots:
        for phrase in words.get(slot, ()):
            labels.setdefault(_plain(phrase), set()).add(label)


def _plain(text: str) -> str:
    """Lowercase a text, remove punctuation, and unify articles and possessives, which depend on the sentence."""
    text = re.sub(r"[^a-z0-9' -]", " ", text.lower())
    return " ".join(_ARTICLE.sub("a ", _POSSESSIVE.sub("their", text)).split())


def naming_accuracy(
    reader: CaptionReader, captions: Sequence[str], contents: Sequence[str], styles: Sequence[str], *, neutral: str
) -> dict[str, float]:
    """Measure how often captions name the labels of their motions.

    Args:
        reader: Caption reader for the grammar of the labels.
        captions, contents, styles: Caption and labels of each motion.
        neutral: The style of a caption that does not name a style.

    Returns:
        `content_named` and `style_named`, the shares of captions where one of the possible labels is right, and
        `side_wrong`, the share of captions that name only the other side, among motions whose label has a side.
    """
    read = [reader.read(caption) for caption in captions]
    wrong = [
        labels.sides == {"right" if "left" in content else "left"}
        for labels, content in zip(read, contents, strict=True)
        if SIDE.search(content)
    ]
    return {
        "content_named": float(np.mean([c in labels.contents for labels, c in zip(read, contents, strict=True)])),
        "style_named": float(
            np.mean(
                [
                    s in labels.styles or (s == neutral and not labels.styles)
                    for labels, s in zip(read, styles, strict=True)
                ]
            )
        ),
        "side_wrong": float(np.mean(wrong)) if wrong else 0.0,
    }

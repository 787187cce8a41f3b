"""Labels are recovered from captions with the words of the grammar."""

import random

import pytest

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.evaluation.probes.caption_labels import CaptionReader, naming_accuracy


@pytest.fixture(scope="module")
def grammar() -> CaptionGrammar:
    return CaptionGrammar.load()


@pytest.fixture(scope="module")
def reader(grammar: CaptionGrammar) -> CaptionReader:
    return CaptionReader(grammar)


def test_labels_are_recovered_from_composed_captions(grammar: CaptionGrammar, reader: CaptionReader) -> None:
    rng = random.Random(0)
    pairs = [(content, style) for content in grammar.contents for style in grammar.styles]
    captions = [grammar.compose(content, style, rng) for content, style in pairs]
    contents, styles = zip(*pairs, strict=True)
    scores = naming_accuracy(reader, captions, contents, styles, neutral="normal")
    assert scores["content_named"] > 0.99
    assert scores["style_named"] > 0.99
    assert scores["side_wrong"] == 0.0


def test_wrong_labels_are_detected(reader: CaptionReader) -> None:
    captions = ["a person waves with the left hand", "a person bows"]
    scores = naming_accuracy(reader, captions, ["wave-right-hand", "run"], ["normal", "tired"], neutral="normal")
    assert scores == {"content_named": 0.0, "style_named": 0.5, "side_wrong": 1.0}


def test_other_captions_have_no_label(reader: CaptionReader) -> None:
    found = reader.read("the stock market crashed")
    assert not found.contents
    assert not found.styles
    assert not found.sides

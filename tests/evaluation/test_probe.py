"""The judges of generated motion: paraphrases that are not in the training captions, probes, and sides."""

import random

import numpy as np
import pytest

from lamp_hf.data import CaptionGrammar, bandai_namco_grammar
from lamp_hf.evaluation.probes.bandai_namco import paraphrase, paraphrases
from lamp_hf.evaluation.probes.probe import MotionProbe, flipped, probe_features


@pytest.fixture(scope="module")
def grammar() -> CaptionGrammar:
    return CaptionGrammar.load()


def test_paraphrases_are_not_among_the_training_captions(grammar):
    check_independence(grammar)


def test_paraphrases_are_not_among_the_captions_next_to_the_data(bandai_archive):
    check_independence(bandai_namco_grammar(bandai_archive))


def check_independence(grammar: CaptionGrammar) -> None:
    """Check that no paraphrase is part of a training phrase, and no longer training phrase part of a paraphrase."""
    parts = paraphrases()
    slots = {
        "clauses": ("finite", "gerund", "base", "imperative", "noun"),
        "styles": ("adj", "look", "adv", "manner", "extra", "character"),
    }
    pairs = [(content, "normal") for content in grammar.contents]
    # The extras of a style depend on the kind of content, so take one of each kind.
    pairs += [(content, style) for content in ("walk", "bye", "bow") for style in grammar.styles]
    for group, names in slots.items():
        words = [grammar.words(*pair) for pair in pairs]
        phrases = {phrase.lower() for w in words for name in names for phrase in w.get(name, [])}
        assert len(phrases) > 300
        for label, wordings in parts[group].items():
            for wording in wordings:
                assert not any(wording in phrase for phrase in phrases), (label, wording)
                padded = f" {wording.replace(',', ' ')} "
                clash = [phrase for phrase in phrases if " " in phrase and f" {phrase} " in padded]
                assert not clash, (label, wording, clash)


def test_paraphrases_cover_every_label_and_mention_the_side(grammar):
    parts = paraphrases()
    assert set(parts["clauses"]) == set(grammar.contents)
    assert set(parts["styles"]) == set(grammar.styles) - {"normal"}
    for content, clauses in parts["clauses"].items():
        assert len(set(clauses)) >= 4, content
        for side in ("left", "right"):
            if content.endswith(side) or f"-{side}-" in content:
                assert all(side in clause for clause in clauses), content
    assert all(len(wordings) >= 3 for wordings in parts["styles"].values())
    assert paraphrase("bow", "normal", random.Random(1)).endswith(tuple(parts["clauses"]["bow"]))


def test_probe_distinguishes_walks_from_waves(procedural):
    pytest.importorskip("sklearn")
    walks = [procedural.walker(30 + i, speed=0.7 + 0.05 * i).joints for i in range(8)]
    waves = [procedural.waver(30 + i, side=side).joints for i in range(4) for side in ("left", "right")]
    probe = MotionProbe().fit(walks[:6] + waves[:6], ["walk"] * 6 + ["wave"] * 6)
    assert probe.predict(walks[6:] + waves[6:]) == ["walk"] * 2 + ["wave"] * 2
    assert probe.accuracy(walks[6:], ["wave", "walk"]) == 0.5


def test_probe_features_do_not_depend_on_the_position(walker):
    moved = walker.joints + np.array([3.0, 0.0, -2.0], dtype=np.float32)
    np.testing.assert_allclose(probe_features(moved), probe_features(walker.joints), atol=1e-4)
    assert np.isfinite(probe_features(walker.joints[:1])).all()


def test_probe_distinguishes_left_from_right(procedural):
    right, left = procedural.waver(side="right").joints, procedural.waver(side="left").joints
    assert flipped(right, "bye") is False
    assert flipped(left, "bye") is True
    assert flipped(left, "wave-left-hand") is False
    turn_left = procedural.walker(turn=0.5).joints
    assert flipped(turn_left, "walk-turn-left") is False
    assert flipped(turn_left, "walk-turn-right") is True
    assert flipped(turn_left, "run") is None

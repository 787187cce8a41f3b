"""The judges of generated motion: paraphrases training never saw, probes, and the check of sides."""

import random

import numpy as np
import pytest

from lamp_hf.data import CaptionGrammar
from lamp_hf.evaluation.probe import MotionProbe, flipped, probe_features
from lamp_hf.evaluation.text_to_motion import paraphrase, paraphrases


@pytest.fixture(scope="module")
def grammar() -> CaptionGrammar:
    return CaptionGrammar.load()


def test_paraphrases_are_no_part_of_the_training_captions(grammar):
    parts = paraphrases()
    rng = random.Random(0)
    captions = [
        grammar.compose(content, style, rng)
        for content in grammar.contents
        for style in grammar.styles
        for _ in range(8)
    ]
    text = "\n".join(captions).lower()
    for group in ("clauses", "styles"):
        for label, wordings in parts[group].items():
            for wording in wordings:
                assert wording.lower() not in text, (label, wording)


def test_paraphrases_cover_every_label_and_name_the_side(grammar):
    parts = paraphrases()
    assert set(parts["clauses"]) == set(grammar.contents)
    assert set(parts["styles"]) == set(grammar.styles) - {"normal"}
    for content, clauses in parts["clauses"].items():
        assert len(clauses) >= (2 if content.startswith("dance") else 4)
        for side in ("left", "right"):
            if content.endswith(side) or f"-{side}-" in content:
                assert all(side in clause for clause in clauses), content
    assert all(len(wordings) >= 3 for wordings in parts["styles"].values())
    assert paraphrase("bow", "normal", random.Random(1)).endswith(tuple(parts["clauses"]["bow"]))


def test_probe_tells_walks_from_waves(procedural):
    pytest.importorskip("sklearn")
    walks = [procedural.walker(30 + i, speed=0.7 + 0.05 * i).joints for i in range(8)]
    waves = [procedural.waver(30 + i, side=side).joints for i in range(4) for side in ("left", "right")]
    probe = MotionProbe().fit(walks[:6] + waves[:6], ["walk"] * 6 + ["wave"] * 6)
    assert probe.predict(walks[6:] + waves[6:]) == ["walk"] * 2 + ["wave"] * 2
    assert probe.accuracy(walks[6:], ["wave", "walk"]) == 0.5


def test_probe_features_do_not_depend_on_the_place(walker):
    moved = walker.joints + np.array([3.0, 0.0, -2.0], dtype=np.float32)
    np.testing.assert_allclose(probe_features(moved), probe_features(walker.joints), atol=1e-4)
    assert np.isfinite(probe_features(walker.joints[:1])).all()


def test_sides_are_seen(procedural):
    right, left = procedural.waver(side="right").joints, procedural.waver(side="left").joints
    assert flipped(right, "bye") is False
    assert flipped(left, "bye") is True
    assert flipped(left, "wave-left-hand") is False
    turn_left = procedural.walker(turn=0.5).joints
    assert flipped(turn_left, "walk-turn-left") is False
    assert flipped(turn_left, "walk-turn-right") is True
    assert flipped(turn_left, "run") is None

"""Composition of captions: correct English, correct sides, styles, and variety."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar, CaptionGrammarError, inflect, swap_sides

SIDED = {
    "walk-turn-left": "left",
    "walk-turn-right": "right",
    "walk-left": "left",
    "walk-right": "right",
    "bye": "right",
    "guide": "right",
    "respond": "left",
    "wave-left-hand": "left",
    "wave-right-hand": "right",
    "raise-up-left-hand": "left",
    "raise-up-right-hand": "right",
}
STYLE_SLOTS = {"adj", "adv", "ly", "look", "manner", "extra", "character"}
WORDS = st.sampled_from(
    [
        "left",
        "right",
        "Left",
        "RIGHT",
        "left-handed",
        "rightward",
        "leftwards",
        "bright",
        "cleft",
        "upright",
        "a",
    ]
)


@pytest.fixture(scope="module")
def own() -> CaptionGrammar:
    return CaptionGrammar.load()


def sample(grammar: CaptionGrammar, content: str, style: str, count: int, **options: bool) -> list[str]:
    rng = random.Random(f"{content} {style}")
    return [grammar.compose(content, style, rng, **options) for _ in range(count)]


@pytest.mark.parametrize(
    ("verb", "finite", "gerund"),
    [
        ("walk", "walks", "walking"),
        ("wave", "waves", "waving"),
        ("see", "sees", "seeing"),
        ("run", "runs", "running"),
        ("step", "steps", "stepping"),
        ("hit", "hits", "hitting"),
        ("bow", "bows", "bowing"),
        ("box", "boxes", "boxing"),
        ("carry", "carries", "carrying"),
        ("say", "says", "saying"),
        ("go", "goes", "going"),
        ("reach", "reaches", "reaching"),
        ("lean", "leans", "leaning"),
        ("swing", "swings", "swinging"),
        ("deliver", "delivers", "delivering"),
        ("continue", "continues", "continuing"),
    ],
)
def test_verbs_are_inflected(verb: str, finite: str, gerund: str) -> None:
    assert inflect(f"[{verb}] on", "finite") == f"{finite} on"
    assert inflect(f"[{verb}] on", "gerund") == f"{gerund} on"
    assert inflect(f"[{verb}] on", "base") == f"{verb} on"


@given(st.lists(WORDS))
def test_swapping_sides_twice_changes_nothing(words: list[str]) -> None:
    text = " ".join(words)
    assert swap_sides(swap_sides(text)) == text


def test_only_sides_are_swapped() -> None:
    assert swap_sides("Left turn, right-handed, leftwards") == "Right turn, left-handed, rightwards"
    assert swap_sides("an upright, bright cleft") == "an upright, bright cleft"


def test_grammar_has_many_captions(own: CaptionGrammar) -> None:
    assert len(own.contents) == 25
    assert len(own.styles) == 19
    for content in own.contents:
        words = own.words(content, "happy")
        assert len(set(words["finite"])) >= 10, content
        assert len(set(words["gerund"])) >= 6, content
        assert len(set(words["noun"])) >= 4, content
    for style in own.styles:
        words = own.words("walk", style)
        assert len(set(words["adj"])) >= 5, style
        assert len(set(words["adv"])) >= 5, style
        assert len(set(words["extra"])) >= 3, style
    assert len(own.all("wave-left-hand", "happy")) > 20_000
    assert len(own.all("walk", "normal")) > 5_000


def test_clauses_mention_only_their_own_side(own: CaptionGrammar) -> None:
    for content in own.contents:
        side = SIDED.get(content)
        for form in ("finite", "gerund", "base", "imperative", "noun"):
            for clause in own.words(content, "happy")[form]:
                named = set(re.findall(r"\b(left|right)", clause))
                assert named == ({side} if side else set()), (content, clause)


def test_styles_mention_no_side(own: CaptionGrammar) -> None:
    for style in own.styles:
        for slot in STYLE_SLOTS:
            assert not any(re.search(r"\b(left|right)", word) for word in own.words("walk", style).get(slot, []))


def test_every_caption_mentions_its_style_unless_neutral(own: CaptionGrammar) -> None:
    for style in own.styles:
        for template in own.templates("walk", style):
            if style != "normal":
                assert STYLE_SLOTS & set(re.findall(r"\{(\w+)\}", template)), template


def test_styles_do_not_share_words(own: CaptionGrammar) -> None:
    owner: dict[str, str] = {}
    for style in own.styles:
        words = own.words("walk", style)
        for word in {word for slot in STYLE_SLOTS for word in words.get(slot, [])}:
            assert owner.setdefault(word, style) == style


def test_synonymous_styles_share_words_if_only_one_was_recorded(own: CaptionGrammar) -> None:
    assert "old" in own.words("wave-left-hand", "elderly")["adj"]
    assert "old" not in own.words("walk", "elderly")["adj"]
    assert "elderly" in own.words("bow", "old")["adj"]


def test_captions_are_well_formed(own: CaptionGrammar) -> None:
    wrong = re.compile(r"\ba [aeiou](?!ne)|\ban [^aeiou]|[][{}]|\b(\w+) \1\b|  |,,|^ | $")
    for content in own.contents:
        for style in own.styles:
            for caption in sample(own, content, style, 20):
                assert not wrong.search(caption), caption


def test_possessives_agree_with_the_subject() -> None:
    grammar = CaptionGrammar(
        [
            {
                "lists": {"subj": ["she"]},
                "templates_for_normal": ["{imperative}"],
                "templates": ["{subj} {finite} {adv}"],
                "contents": {"nod": {"clauses": ["[shake] their head"]}},
                "styles": {"normal": {}, "old": {"adverbs": ["with their back bent", "like an old man"]}},
            }
        ]
    )
    assert grammar.all("nod", "normal") == ["shake your head"]
    assert grammar.all("nod", "old") == [
        "she shakes her head with her back bent",
        "she shakes her head like an old man",
    ]


def test_mirrored_contents(own: CaptionGrammar) -> None:
    assert own.mirrored_content("walk-left") == "walk-right"
    assert own.mirrored_content("raise-up-right-hand") == "raise-up-left-hand"
    assert own.mirrored_content("bye") == "bye"
    # The label of a mirrored walk-left already says right; the label of a mirrored bye has no side.
    assert all("right" in caption for caption in sample(own, "walk-right", "sad", 50, mirrored=True))
    for content, side in (("bye", "left"), ("guide", "left"), ("respond", "right")):
        for caption in sample(own, content, "sad", 50, mirrored=True):
            assert set(re.findall(r"\b(left|right)", caption)) == {side}


def test_composition_is_reproducible_with_a_seed(own: CaptionGrammar) -> None:
    assert sample(own, "kick", "angry", 10) == sample(own, "kick", "angry", 10)
    chosen = own.compose_many("kick", "angry", 16, random.Random(3))
    assert len(set(chosen)) == 16
    assert set(chosen) <= set(own.all("kick", "angry"))


def test_error_names_unknown_labels(own: CaptionGrammar) -> None:
    with pytest.raises(CaptionGrammarError, match=r"clip 7: .*no content 'swim' \(it has walk, .*captions="):
        own.check("swim", "happy", where="clip 7")
    with pytest.raises(CaptionGrammarError, match="no style 'wet'"):
        own.check("walk", "wet", where="clip 7")


def test_grammar_file_extends_the_built_in_grammar(tmp_path: Path, own: CaptionGrammar) -> None:
    path = tmp_path / "more.json"
    path.write_text(
        json.dumps(
            {
                "templates": ["{adv} {noun}"],
                "contents": {
                    "swim": {"clauses": ["[swim] ahead"], "nouns": ["swim"]},
                    "bye": {"finite": ["waves one hand", "flaps the right hand"]},
                },
                "styles": {"wet": {"adverbs": ["drippingly"]}},
            }
        )
    )
    both = CaptionGrammar.load(path)
    assert both.digest != own.digest
    assert "drippingly swim" in both.all("swim", "wet")
    assert "happily swim" in both.all("swim", "happy")
    assert "a person is swimming ahead drippingly" in both.all("swim", "wet")
    finite = both.words("bye", "happy")["finite"]
    assert "flaps the right hand" in finite
    assert "waves one hand" not in finite  # it does not mention which hand
    assert CaptionGrammar.load(path, include_own=False).contents == ["swim", "bye"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("templates: [", "flow"),
        ("- a\n- b\n", "expected a mapping, found list"),
        ("templates: [go]\nverbs: []\n", "unknown key 'verbs'"),
        ("templates: ['a {mood} person']\n", "unknown slot {mood}"),
        ("styles: {wet: {adverb: []}}\n", "style 'wet': unknown key 'adverb'"),
        ("contents: {swim: {finite: swims}}\n", "finite: expected a list of strings, found 'swims'"),
        ("contents: {swim-left: {mirror_of: swim-right}}\n", "'swim-right', which does not exist"),
        ("contents: [swim]\n", "contents: expected a mapping"),
        ("contents: {swim: [swims]}\n", "swim: expected a mapping"),
        ("synonyms: [{styles: [old]}]\n", "synonyms"),
    ],
)
def test_error_names_malformed_grammars(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CaptionGrammarError, match=r"bad\.yaml: not a caption grammar") as caught:
        CaptionGrammar.load(path)
    assert message in str(caught.value)


def test_published_grammar_is_consistent(shared_dir: Path, own: CaptionGrammar) -> None:
    path = shared_dir / "data" / "captions.json"
    both = CaptionGrammar.load(path)
    assert set(both.contents) == set(own.contents)
    assert "a happy person strolls forwards in a straight line" in both.all("walk", "happy")
    alone = set(CaptionGrammar.load(path, include_own=False).all("kick", "angry"))
    drawn = {caption in alone for caption in sample(both, "kick", "angry", 300)}
    assert drawn == {True, False}
    assert not any("one hand" in caption for caption in both.all("bye", "happy"))

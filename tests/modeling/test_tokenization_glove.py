"""The tokenizer of the released evaluator: pairs of word and part of speech."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lamp_hf import GloveTokenizer, LampFeatureExtractor, LampProcessor
from lamp_hf.modeling.tokenization_glove import POS_TAGS, is_annotated

WORDS = ["unk", "sos", "eos", "a", "person", "walk", "left", "two"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> GloveTokenizer:
    (tmp_path / "words.json").write_text(json.dumps(WORDS))
    return GloveTokenizer(tmp_path / "words.json", model_max_length=6)


def pairs(tokenizer: GloveTokenizer, ids: list[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


def test_annotation_is_read_like_in_the_released_code(tokenizer: GloveTokenizer) -> None:
    # A group of words replaces the part of speech, unless the word has no vector.
    said = "a/DET person/NOUN walk/VERB left/ADV two/NUM jump/VERB person/PROPN"
    assert tokenizer.tokenize(said) == [
        *("a/DET", "person/NOUN", "walk/Act_VIP", "left/Loc_VIP", "two/NUM", "unk/OTHER", "person/OTHER"),
    ]
    ids = tokenizer(said)["input_ids"]
    assert ids[1] == WORDS.index("a") * 15 + POS_TAGS.index("DET")
    assert pairs(tokenizer, tokenizer(said, truncation=True)["input_ids"]) == [
        *("sos", "a/DET", "person/NOUN", "walk/Act_VIP", "left/Loc_VIP", "eos"),
    ]
    assert tokenizer.decode(ids[1:4]) == "a/DET person/NOUN walk/Act_VIP"
    assert len(POS_TAGS) == 15


def test_texts_are_not_mistaken_for_annotations() -> None:
    assert is_annotated("a/DET person/NOUN")
    for text in ("a person walks", "", "left/right turns", "he/she/PRON", "and/or", "a/DET person"):
        assert not is_annotated(text)


def test_processor_pads_and_is_saved(tokenizer: GloveTokenizer, tmp_path: Path) -> None:
    LampProcessor(LampFeatureExtractor(), tokenizer).save_pretrained(tmp_path / "saved")
    processor = LampProcessor.from_pretrained(tmp_path / "saved")
    assert isinstance(processor.tokenizer, GloveTokenizer)
    assert processor.tokenizer.words == WORDS
    batch = processor(text=["a/DET", "a/DET person/NOUN walk/VERB walk/VERB walk/VERB"])
    assert batch["attention_mask"].sum(1).tolist() == [3, 6]
    assert pairs(processor.tokenizer, batch["input_ids"][0].tolist())[3:] == ["unk"] * 3
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").model_max_length == 6


@pytest.mark.parametrize("words", [["a", "b"], ["unk", "a", "a"], {"unk": 0}, ["unk", 1]])
def test_invalid_words_are_refused(words: object, tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match=r"words\.json: "):
        GloveTokenizer(tmp_path / "words.json")


def test_texts_without_tags_are_tagged(tokenizer: GloveTokenizer, tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy", reason="needs spaCy")
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    for word, (tag, lemma) in {
        "walks": ("VERB", "walk"),
        "left": ("VERB", "leave"),
        "two": ("NUM", "two"),
        "a": ("DET", "a"),
        "person": ("NOUN", "person"),
    }.items():
        ruler.add([[{"LOWER": word}]], {"POS": tag, "LEMMA": lemma})
    nlp.to_disk(tmp_path / "tagger")
    tokenizer.tagger = str(tmp_path / "tagger")
    # Without hyphens, punctuation and capitals; "left" is not lemmatized.
    assert tokenizer.tokenize("A per-son walks left, two!") == [
        *("a/DET", "person/NOUN", "walk/Act_VIP", "left/Loc_VIP", "two/NUM"),
    ]


def test_error_names_a_missing_tagger(tokenizer: GloveTokenizer) -> None:
    pytest.importorskip("spacy", reason="needs spaCy")
    tokenizer.tagger = "no_such_model"
    with pytest.raises(OSError, match="no_such_model: spaCy does not have this model; install it with python -m spacy"):
        tokenizer("a person walks")

"""The processor: truncation and padding of texts, threads, invalid arguments, saving."""

import copy
import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import lamp_hf
from lamp_hf import LampFeatureExtractor, LampProcessor, Motion

WORDS = ["a", "person", "the", "walks", "waves", "bows", "quixotically", "naïve", "日本語", "😀", "[MASK]", "[SEP]"]
WORDS += ["\x1b[31m", "left-handed,", "don't"]


@pytest.fixture
def processor(tiny_checkpoint: Path) -> LampProcessor:
    return LampProcessor.from_pretrained(tiny_checkpoint)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Short, long, empty and unusual sentences."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.choice([0, 1, 3, 5, 8, 40]))) for _ in range(count)]


# ---- texts ------------------------------------------------------------------------------------------------


def test_texts_are_padded_to_the_longest_or_to_a_fixed_length(tiny_checkpoint: Path, tmp_path: Path) -> None:
    processor = lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)
    assert processor.text_padding == "longest"
    ids = processor(text=["the person", "the person walks"])["input_ids"]
    assert ids.shape == (2, 5)  # [CLS] and [SEP] around three words
    fixed = lamp_hf.LampProcessor(processor.feature_extractor, processor.tokenizer, text_padding="max_length")
    fixed.save_pretrained(tmp_path)
    loaded = lamp_hf.LampProcessor.from_pretrained(tmp_path)
    encoded = loaded(text="the person walks")
    assert encoded["input_ids"].shape == (1, 16)
    assert encoded["input_ids"][0, :5].tolist() == ids[1].tolist()
    assert encoded["attention_mask"].sum() == 5
    with pytest.raises(ValueError, match="text_padding='never' is not 'longest' or 'max_length'"):
        lamp_hf.LampProcessor(processor.feature_extractor, processor.tokenizer, text_padding="never")


@pytest.mark.parametrize("side", ["right", "left"])
def test_ids_equal_those_of_the_tokenizer(processor: LampProcessor, tiny_checkpoint: Path, side: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    processor.tokenizer.truncation_side = tokenizer.truncation_side = side
    processor.tokenizer.padding_side = tokenizer.padding_side = side
    texts = sentences(60)
    for options in (
        {"padding": "max_length", "max_length": 20},
        {"padding": True},
        {"padding": "longest", "max_length": 6},
        {"padding": True, "truncation": False},
    ):
        expected = tokenizer(texts, return_tensors="pt", **{"truncation": True, **options})
        found = processor(text=texts, **options)
        assert torch.equal(found["input_ids"], expected["input_ids"])
        assert torch.equal(found["attention_mask"], expected["attention_mask"])
    unpadded = processor(text=texts, padding=False, return_tensors=None)["input_ids"]
    assert unpadded == tokenizer(texts, truncation=True)["input_ids"]


def test_added_tokens_are_used(processor: LampProcessor) -> None:
    before = processor(text="somersault")["input_ids"]
    processor.tokenizer.add_tokens(["somersault"])
    after = processor(text="somersault")["input_ids"]
    assert after.shape == (1, 3)
    assert before.shape[1] > 3


def test_internal_tokenizer_copy_is_not_saved(processor: LampProcessor, tmp_path: Path) -> None:
    expected = processor(text="the person walks")["input_ids"]
    for copied in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
        assert torch.equal(copied(text="the person walks")["input_ids"], expected)
    processor.save_pretrained(tmp_path)
    assert "text_encoder" not in (tmp_path / "processor_config.json").read_text()


# ---- threads ----------------------------------------------------------------------------------------------


def in_threads(work: Callable[[str], Any], requests: list[str], threads: int = 8) -> list[list[Any]]:
    """Return the results of the requests, which each thread makes in a different order."""

    def all_of_them(seed: int) -> list[Any]:
        order = list(range(len(requests)))
        random.Random(seed).shuffle(order)
        answers: dict[int, Any] = {index: work(requests[index]) for index in order}
        return [answers[index] for index in range(len(requests))]

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(all_of_them, range(threads)))


def test_threads_do_not_change_each_others_ids(processor: LampProcessor) -> None:
    texts = sentences(1000)

    def ids(text: str) -> list[int]:
        return processor(text=text)["input_ids"][0].tolist()

    expected = [ids(text) for text in texts]
    assert len({len(row) for row in expected}) > 3
    for found in in_threads(ids, texts):
        assert found == expected


def test_setting_the_tokenizer_in_a_thread_changes_nothing(processor: LampProcessor) -> None:
    texts = sentences(400)

    def ids_and_cut(text: str) -> Any:
        found = processor(text=[text, "a person"], padding="max_length", max_length=12)
        processor.tokenizer(text, padding="max_length", truncation=True, max_length=7)  # as other code may do
        return found["input_ids"].tolist(), processor.cut_words(text)

    expected = [ids_and_cut(text) for text in texts]
    for found in in_threads(ids_and_cut, texts):
        assert found == expected


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "give text=, motion= or both"),
        ({"text": "a", "paddin": True}, TypeError, "unexpected keyword argument 'paddin'"),
        ({"text": ["a", 3]}, TypeError, "text contains 3, a int; expected strings"),
        ({"text": "a", "padding": "wide"}, ValueError, "padding='wide' is not 'longest', 'max_length', True or False"),
        ({"text": "a", "max_length": 0}, ValueError, "max_length=0 is not a whole number of at least 1"),
        ({"text": "a", "max_length": True}, ValueError, "max_length=True is not a whole number of at least 1"),
        ({"text": "a", "truncation": "longest_first"}, ValueError, "is not True or False"),
        ({"text": ["a", "a person"], "padding": False}, ValueError, "texts of 3 to 4 tokens do not make one tensor"),
        ({"text": ["a", "b"], "motion": np.zeros((8, 263))}, ValueError, "2 texts were given for 1 motions"),
    ],
)
def test_invalid_arguments_are_refused(
    processor: LampProcessor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        processor(**arguments)


def test_tokenizer_without_a_maximum_length_cannot_pad_to_it(processor: LampProcessor) -> None:
    processor.tokenizer.model_max_length = int(1e30)
    assert processor(text="walks " * 40)["input_ids"].shape == (1, 42)
    with pytest.raises(ValueError, match="no model_max_length for padding; give max_length="):
        processor(text="walks", padding="max_length")


def test_feature_extractor_refuses_unknown_arguments(processor: LampProcessor, walker: Motion) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'paddding'"):
        processor.feature_extractor(walker, paddding=True)
    with pytest.raises(TypeError, match="unexpected keyword arguments: fpz"):
        LampFeatureExtractor(fpz=30)

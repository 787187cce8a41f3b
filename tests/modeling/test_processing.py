"""The processor: how far it pads texts, and that it remembers."""

from pathlib import Path

import pytest

import lamp_hf


def test_texts_are_padded_to_each_other_or_to_a_fixed_length(tiny_checkpoint: Path, tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="text_padding='never' is neither 'longest' nor 'max_length'"):
        lamp_hf.LampProcessor(processor.feature_extractor, processor.tokenizer, text_padding="never")

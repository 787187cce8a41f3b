"""Tokenizers for converted models. The authors' files do not contain any; their code loads them by name."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertTokenizer

from lamp_hf.modeling.configuration_lamp import LampConfig
from lamp_hf.modeling.tokenization_glove import POS_TAGS, GloveTokenizer, write_words

__all__ = ["glove_tokenizer", "load_language_model_tokenizer", "load_text_tokenizer"]

DECODING_TOKEN = "[DEC]"
# Hub id of the released captioner's language model, by its width.
LANGUAGE_MODELS = {2560: "facebook/opt-2.7b"}


def load_text_tokenizer(name_or_path: str, config: LampConfig) -> Any:
    """Load BERT's tokenizer for a LaMP, add `[DEC]`, and set the ids of its special tokens in the configuration.

    Args:
        name_or_path: Hub id, or a folder with a tokenizer or only BERT's `vocab.txt`.
        config: Configuration of the LaMP; changed in place.

    Raises:
        FileNotFoundError: If the tokenizer is not found.
        ValueError: If it does not have as many word pieces as LaMP has embeddings, or is not a BERT tokenizer.
    """
    tokenizer = _load(name_or_path, "--text-tokenizer")
    if DECODING_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([DECODING_TOKEN], special_tokens=True)
    if len(tokenizer) != config.vocab_size or tokenizer.convert_tokens_to_ids(DECODING_TOKEN) != config.vocab_size - 1:
        raise ValueError(
            f"{name_or_path}: this text tokenizer has {len(tokenizer)} word pieces including {DECODING_TOKEN}, but the "
            f"checkpoint was trained with {config.vocab_size}, of which {DECODING_TOKEN} is the last; pass another one "
            "(--text-tokenizer)"
        )
    if tokenizer.sep_token_id is None or tokenizer.pad_token_id is None:
        raise ValueError(
            f"{name_or_path}: this text tokenizer has no [SEP] or no [PAD], so it is not a BERT tokenizer; pass "
            "another  one (--text-tokenizer)"
        )
    config.eos_token_id = tokenizer.sep_token_id
    config.pad_token_id = tokenizer.pad_token_id
    tokenizer.model_max_length = config.max_text_length
    return tokenizer


def load_language_model_tokenizer(name_or_path: str | None, file: Path, width: int, rows: int) -> tuple[Any, int]:
    """Load the tokenizer of a captioner's language model, and find the line break that ends its captions.

    Args:
        name_or_path: Folder or Hub id. `None`: the released captioner's, if `width` is its width.
        file: Path of the captioner, for errors.
        width: Hidden size of the language model.
        rows: Number of its word embeddings.

    Returns:
        The tokenizer, and the id of the line break.

    Raises:
        FileNotFoundError: If the tokenizer is not found.
        ValueError: If it does not fit, or is `None` for a language model that is not the released one.
    """
    if name_or_path is None:
        if width not in LANGUAGE_MODELS:
            raise ValueError(
                f"{file}: its language model has the width {width}, so it is not OPT-2.7b; pass its tokenizer "
                "(--language-model-tokenizer)"
            )
        name_or_path = LANGUAGE_MODELS[width]
    tokenizer = _load(name_or_path, "--language-model-tokenizer")
    if len(tokenizer) > rows:
        raise ValueError(
            f"{name_or_path}: this tokenizer has {len(tokenizer)} tokens, but the language model in {file} has {rows}; "
            "pass another one (--language-model-tokenizer)"
        )
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if len(line_break) != 1:
        raise ValueError(
            f"{name_or_path}: this tokenizer has no single token for a line break, which ends captions; pass another "
            "one  (--language-model-tokenizer)"
        )
    return tokenizer, int(line_break[0])


def glove_tokenizer(words: Sequence[str], max_words: int, num_pos_tags: int, file: Path) -> GloveTokenizer:
    """Return the tokenizer of an evaluator.

    Args:
        words: Words of its GloVe vectors.
        max_words: Number of words of a text that are read.
        num_pos_tags: Number of parts of speech that it was trained with.
        file: Path of the evaluator, for the error.

    Raises:
        ValueError: The parts of speech are not those of the released code.
    """
    if num_pos_tags != len(POS_TAGS):
        raise ValueError(
            f"{file}: was trained with {num_pos_tags} parts of speech, but the released code has {len(POS_TAGS)}, so "
            "texts cannot be tagged for it; convert it without GloVe vectors"
        )
    with tempfile.TemporaryDirectory() as folder:
        # two more for the beginning and the end
        return GloveTokenizer(write_words(words, folder), model_max_length=max_words + 2)


def _load(name_or_path: str, option: str) -> Any:
    folder = Path(name_or_path)
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "vocab.txt" in files and not files & {"tokenizer.json", "tokenizer_config.json"}:
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)
    if not folder.is_dir() and (len(folder.parts) > 2 or name_or_path.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{name_or_path}: no such folder; pass a folder with a tokenizer ({option})")
    try:
        return AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise FileNotFoundError(
            f"{name_or_path}: cannot load this tokenizer ({reason[0] if reason else type(error).__name__}); pass a "
            f"folder  with a tokenizer, or a Hub id ({option})"
        ) from error

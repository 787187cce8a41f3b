"""Tokenizers for converted models: the authors' files hold none, they load theirs by name."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, BertTokenizer

from lamp_hf.modeling.configuration_lamp import LampConfig

__all__ = ["load_language_model_tokenizer", "load_text_tokenizer"]

DECODING_TOKEN = "[DEC]"
# The language model of the released captioner, by its width.
LANGUAGE_MODELS = {2560: "facebook/opt-2.7b"}


def load_text_tokenizer(name_or_path: str, config: LampConfig) -> Any:
    """BERT's word pieces and `[DEC]` for a LaMP, whose ids of special tokens are set to theirs.

    Args:
        name_or_path: Folder (of a tokenizer, or with BERT's `vocab.txt` alone) or Hub id.
        config: Of the LaMP.

    Raises:
        FileNotFoundError: There is no such tokenizer.
        ValueError: It does not have as many word pieces as LaMP has embeddings.
    """
    tokenizer = _load(name_or_path, "--text-tokenizer")
    if DECODING_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([DECODING_TOKEN], special_tokens=True)
    if len(tokenizer) != config.vocab_size or tokenizer.convert_tokens_to_ids(DECODING_TOKEN) != config.vocab_size - 1:
        raise ValueError(
            f"the text tokenizer {name_or_path} has {len(tokenizer)} word pieces with {DECODING_TOKEN}, this "
            f"checkpoint was trained with {config.vocab_size}, {DECODING_TOKEN} the last: give another "
            "(--text-tokenizer)"
        )
    if tokenizer.sep_token_id is None or tokenizer.pad_token_id is None:
        raise ValueError(f"the text tokenizer {name_or_path} has no [SEP] or no [PAD]: it is none of BERT's")
    config.eos_token_id = tokenizer.sep_token_id
    config.pad_token_id = tokenizer.pad_token_id
    tokenizer.model_max_length = config.max_text_length
    return tokenizer


def load_language_model_tokenizer(name_or_path: str | None, file: Path, width: int, rows: int) -> tuple[Any, int]:
    """Tokenizer of a captioner's language model, and the id of the line break that ends its captions.

    Args:
        name_or_path: Folder or Hub id; `None`: that of the released captioner, if `width` is its width.
        file: The captioner, for errors.
        width: Hidden size of the language model.
        rows: Its word embeddings.

    Raises:
        FileNotFoundError: There is no such tokenizer.
        ValueError: It does not fit, or none was given for a language model that is not the released one.
    """
    if name_or_path is None:
        if width not in LANGUAGE_MODELS:
            raise ValueError(
                f"{file}: its language model is not OPT-2.7b but {width} numbers wide: give its tokenizer "
                "(--language-model-tokenizer)"
            )
        name_or_path = LANGUAGE_MODELS[width]
    tokenizer = _load(name_or_path, "--language-model-tokenizer")
    if len(tokenizer) > rows:
        raise ValueError(
            f"the tokenizer {name_or_path} has {len(tokenizer)} tokens, the language model in {file} knows {rows}: "
            "give another (--language-model-tokenizer)"
        )
    line_break = tokenizer("\n", add_special_tokens=False)["input_ids"]
    if len(line_break) != 1:
        raise ValueError(f"the tokenizer {name_or_path} has no token for a line break, which ends captions")
    return tokenizer, int(line_break[0])


def _load(name_or_path: str, option: str) -> Any:
    folder = Path(name_or_path)
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "vocab.txt" in files and not files & {"tokenizer.json", "tokenizer_config.json"}:
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return BertTokenizer(vocab={word: number for number, word in enumerate(words)}, do_lower_case=True)
    if not folder.is_dir() and (len(folder.parts) > 2 or name_or_path.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{name_or_path}: no such folder; it should hold a tokenizer ({option})")
    try:
        return AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise FileNotFoundError(
            f"the tokenizer {name_or_path} cannot be loaded: give a folder with it, or a Hub id ({option}). "
            f"{reason[0] if reason else ''}"
        ) from error

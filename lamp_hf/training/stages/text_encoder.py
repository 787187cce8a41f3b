"""Tokenizer of a new LaMP or evaluator, built from that of a pretrained text encoder."""

from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerBase

__all__ = ["DECODER_TOKEN", "lamp_tokenizer"]

DECODER_TOKEN = "[DEC]"  # starts a generated caption


def lamp_tokenizer(
    text_encoder: str, vocabulary: str, max_text_length: int
) -> tuple[PreTrainedTokenizerBase, list[int | None]]:
    """Build the tokenizer of a new LaMP.

    Args:
        text_encoder: Folder or Hub id of the pretrained encoder.
        vocabulary: `"full"`, or `"ascii"` to keep only the word pieces of plain ASCII text, which saves a tenth of the
            embeddings and still covers English.
        max_text_length: Maximum length of a caption in word pieces, including special tokens.

    Returns:
        The tokenizer, with `[DEC]` as its last token, and for each of its ids the encoder's id (`None` if new).

    Raises:
        ValueError: `vocabulary` is unknown.
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

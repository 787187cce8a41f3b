"""Splits texts into token ids without touching what threads share.

A fast tokenizer of transformers keeps how it cuts and pads in one place, and every call sets it: a call in one thread
changes what another is in the middle of. Here nothing is set. Texts are encoded whole, by a copy that nobody else has,
then cut, completed with special tokens and padded one by one.
"""

from collections.abc import Sequence
from typing import Any

import tokenizers

__all__ = ["TextEncoder"]


class TextEncoder:
    """Encodes texts as a fast tokenizer of transformers does, in any number of threads.

    Args:
        tokenizer: Of transformers; one without a fast backend sets nothing and is called as it is.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer)
        self._num_special_tokens = tokenizer.num_special_tokens_to_add()
        self._backend: tokenizers.Tokenizer | None = None
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
            self._backend = tokenizers.Tokenizer.from_str(backend.to_str())
            self._backend.no_truncation()
            self._backend.no_padding()

    def fits(self, tokenizer: Any) -> bool:
        """Whether this is the encoder of a tokenizer as it stands: tokens may have been added since."""
        return self.tokenizer is tokenizer and self.vocab_size == len(tokenizer)

    def __call__(self, texts: Sequence[str], max_length: int | None) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and attention masks, not padded.

        Args:
            texts: Any number.
            max_length: Longer texts are cut to so many tokens, special tokens included; `None` keeps all.
        """
        if self._backend is None:
            cut = {"truncation": max_length is not None, "max_length": max_length}
            found = self.tokenizer(list(texts), padding=False, **cut)
            return found["input_ids"], found["attention_mask"]
        encoded = []
        for encoding in self._backend.encode_batch(list(texts), add_special_tokens=False):
            if max_length is not None:
                kept = max(0, max_length - self._num_special_tokens)
                encoding.truncate(kept, direction=self.tokenizer.truncation_side)
            encoded.append(self._backend.post_process(encoding, None, True))
        return [encoding.ids for encoding in encoded], [encoding.attention_mask for encoding in encoded]

    def pieces(self, word: str) -> list[int]:
        """Token ids of a word by itself, without special tokens."""
        if self._backend is None:
            return self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return self._backend.encode(word, add_special_tokens=False).ids

    def pad(self, ids: list[list[int]], mask: list[list[int]], length: int) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and masks, filled up to a length on the tokenizer's side of padding."""

        def filled(rows: list[list[int]], value: int) -> list[list[int]]:
            fills = [[value] * (length - len(row)) for row in rows]
            left = self.tokenizer.padding_side == "left"
            return [fill + row if left else row + fill for row, fill in zip(rows, fills, strict=True)]

        return filled(ids, self.tokenizer.pad_token_id), filled(mask, 0)

    def cut_words(self, text: str, max_length: int) -> str:
        """The end of a text that does not fit into `max_length` tokens, from the first word that loses a piece."""
        if self._backend is None:
            return ""  # which words it cuts is not known
        [encoding] = self._backend.encode_batch([text], add_special_tokens=False)
        kept = max(0, max_length - self._num_special_tokens)
        if len(encoding) <= kept:
            return ""
        start = encoding.offsets[kept][0]
        while start and not text[start - 1].isspace():
            start -= 1
        return text[start:].strip()

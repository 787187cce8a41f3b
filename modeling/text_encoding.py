"""Thread-safe tokenization of texts.

A fast tokenizer of transformers stores its truncation and padding, and every call sets them, so threads disturb each
other. Here nothing is set: a private copy of the tokenizer encodes whole texts, which are then truncated, completed
with special tokens and padded one by one.
"""

from collections.abc import Sequence
from typing import Any

import tokenizers

__all__ = ["TextEncoder"]


class TextEncoder:
    """Encodes texts as a fast tokenizer of transformers does, in any number of threads.

    Args:
        tokenizer: Tokenizer of transformers. Without a fast backend, it stores no settings and is called directly.
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
        """Return whether this encoder matches a tokenizer, to which tokens may have been added since."""
        return self.tokenizer is tokenizer and self.vocab_size == len(tokenizer)

    def __call__(self, texts: Sequence[str], max_length: int | None) -> tuple[list[list[int]], list[list[int]]]:
        """Return token ids and attention masks without padding.

        Args:
            texts: Any number of texts.
            max_length: Largest number of tokens of a text, including special tokens; longer texts are truncated. `None`
                for no limit.
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
        """Return the token ids of a single word, without special tokens."""
        if self._backend is None:
            return self.tokenizer(word, add_special_tokens=False)["input_ids"]
        return self._backend.encode(word, add_special_tokens=False).ids

    def pad(self, ids: list[list[int]], mask: list[list[int]], length: int) -> tuple[list[list[int]], list[list[int]]]:
        """Pad token ids and masks to a length, on the padding side of the tokenizer."""

        def filled(rows: list[list[int]], value: int) -> list[list[int]]:
            fills = [[value] * (length - len(row)) for row in rows]
            left = self.tokenizer.padding_side == "left"
            return [fill + row if left else row + fill for row, fill in zip(rows, fills, strict=True)]

        return filled(ids, self.tokenizer.pad_token_id), filled(mask, 0)

    def cut_words(self, text: str, max_length: int) -> str:
        """Return the end of a text that exceeds `max_length` tokens, from the first truncated word."""
        if self._backend is None:
            return ""  # the truncated words are not known
        [encoding] = self._backend.encode_batch([text], add_special_tokens=False)
        kept = max(0, max_length - self._num_special_tokens)
        if len(encoding) <= kept:
            return ""
        start = encoding.offsets[kept][0]
        while start and not text[start - 1].isspace():
            start -= 1
        return text[start:].strip()

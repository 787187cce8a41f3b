"""One object for text and motion going into the models, and motion coming out of them."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from transformers import BatchFeature, ProcessorMixin

from lamp_hf.checkpoints.files import EXTRACTOR_FILES, PROCESSOR_FILES, checked_name, explained
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .base_lamp import PublishedProcessor
from .feature_extraction_lamp import LampFeatureExtractor, MotionInput
from .text_encoding import TextEncoder

__all__ = ["LampProcessor"]

LONGEST = 1_000_000  # tokens of a text


class LampProcessor(PublishedProcessor, ProcessorMixin):
    """Joins a [`LampFeatureExtractor`] for motion and a BERT tokenizer for text.

    Args:
        feature_extractor: Normalizes and pads motion.
        tokenizer: Splits text into word pieces; its `model_max_length` is the model's `max_text_length`.
        text_padding: `"longest"` pads texts to the longest beside them. `"max_length"` pads all to `model_max_length`,
            as the released code does, whose text condition depends on it (T4).
        example_texts: Captions of what the model was trained on: what it can be asked for, and what it rehearses
            when it learns something new.
    """

    def __init__(
        self,
        feature_extractor: LampFeatureExtractor,
        tokenizer: Any,
        text_padding: Literal["longest", "max_length"] = "longest",
        example_texts: Sequence[str] = (),
        **kwargs: Any,
    ):
        super().__init__(feature_extractor, tokenizer, **kwargs)
        self._text_encoder: TextEncoder | None = None
        if text_padding not in ("longest", "max_length"):
            raise ValueError(f"text_padding={text_padding!r} is neither 'longest' nor 'max_length'")
        self.text_padding = text_padding
        self.example_texts = list(example_texts)
        self.feature_extractor: LampFeatureExtractor
        self.tokenizer: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """As for any processor of transformers.

        Raises:
            CheckpointError: The checkpoint lacks the feature extractor's file or the tokenizer's, or one is damaged.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, PROCESSOR_FILES, kwargs, blamed=(*EXTRACTOR_FILES, "tokenizer_config.json")):
            # Without that, transformers asks whether to run code of the checkpoint.
            return super().from_pretrained(name, **{"trust_remote_code": False, **kwargs})

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        motion: MotionInput | None = None,
        return_tensors: str | None = "pt",
        *,
        padding: bool | str | None = None,
        truncation: bool = True,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Prepare text, motion or both.

        Nothing of a call is kept: threads may share a processor.

        ```python
        >>> batch = processor(text="a person walks", padding="max_length", max_length=20)
        >>> batch["input_ids"].shape
        torch.Size([1, 20])

        ```

        Args:
            text: A caption or a list; longer ones than the model takes are cut at the end.
            motion: As for [`LampFeatureExtractor`].
            return_tensors: `"pt"`, `"np"`, or `None` for lists of token ids, which need no padding.
            padding: Of texts: `"longest"` (or `True`), `"max_length"`, or `False` for none; `text_padding` of the
                processor if not given.
            truncation: Cut texts of more tokens than `max_length`.
            max_length: Tokens of a text, special tokens included; the tokenizer's `model_max_length` if not given.

        Returns:
            `input_ids` and `attention_mask` `(B, L)` of the text, `motion_values` `(B, T, D)` and
            `motion_attention_mask` `(B, T)` of the motion.

        Raises:
            TypeError: Text that is not text.
            ValueError: Neither is given, or both in different numbers; texts of different lengths as one tensor.
        """
        if text is None and motion is None:
            raise ValueError("give text=, motion= or both")
        result: dict[str, Any] = {}
        if text is not None:
            result.update(self._encode_texts(text, return_tensors, padding, truncation, max_length))
        if motion is not None:
            result.update(self.feature_extractor(motion, return_tensors=return_tensors))
        if text is not None and motion is not None:
            sizes = len(result["input_ids"]), len(result["motion_values"])
            if sizes[0] != sizes[1]:
                raise ValueError(f"{sizes[0]} texts were given for {sizes[1]} motions; they go in pairs")
        return BatchFeature(result)

    def _encode_texts(
        self,
        text: str | Sequence[str],
        return_tensors: str | None,
        padding: bool | str | None,
        truncation: bool,
        max_length: int | None,
    ) -> BatchFeature:
        texts = [text] if isinstance(text, str) else list(text)
        for item in texts:
            if not isinstance(item, str):
                raise TypeError(f"text holds {item!r}, a {type(item).__name__}; expected strings")
        how: Any = self.text_padding if padding is None else padding
        if isinstance(how, bool):
            how = "longest" if how else None
        if how not in ("longest", "max_length", None):
            raise ValueError(f"padding={padding!r} is not 'longest', 'max_length', True or False")
        if truncation not in (True, False):
            raise ValueError(f"truncation={truncation!r} is neither True nor False")
        if max_length is None:
            max_length = self.tokenizer.model_max_length
        elif isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length={max_length!r} is not a whole number of at least 1")
        if max_length > LONGEST:  # what transformers writes where a tokenizer names no length
            if how == "max_length":
                raise ValueError("the tokenizer has no model_max_length to pad to; give max_length=")
            truncation = False
        encoder = self.text_encoder
        ids, mask = encoder(texts, max_length if truncation else None)
        if how is not None:
            length = max(map(len, ids)) if how == "longest" else max_length
            ids, mask = encoder.pad(ids, mask, length)
        lengths = sorted({len(row) for row in ids})
        if return_tensors is not None and len(lengths) > 1:
            raise ValueError(
                f"texts of {lengths[0]} to {lengths[-1]} tokens do not make one tensor; give padding=True, or "
                "return_tensors=None for lists"
            )
        return BatchFeature({"input_ids": ids, "attention_mask": mask}, tensor_type=return_tensors)

    @property
    def text_encoder(self) -> TextEncoder:
        """What encodes texts for this processor."""
        encoder = self._text_encoder
        if encoder is None or not encoder.fits(self.tokenizer):
            # Two threads may both get here; what they make is the same.
            encoder = self._text_encoder = TextEncoder(self.tokenizer)
        return encoder

    def cut_words(self, text: str) -> str:
        """The end of a text that is cut off because the model reads no more, from the first word that loses a piece."""
        return self.text_encoder.cut_words(text, self.tokenizer.model_max_length)

    def post_process_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor,
        text: Sequence[str | None] | None = None,
    ) -> list[Motion]:
        """Motions of a model's output.

        Args:
            motion_values: Normalized features `(B, T, D)`.
            motion_attention_mask: `(B, T)`, 1 on real frames.
            text: Caption that each motion keeps.

        Returns:
            One [`Motion`] a row, in meters, at the extractor's frame rate.
        """
        extractor = self.feature_extractor
        values = motion_values.detach().to("cpu", torch.float32).numpy()
        lengths = motion_attention_mask.long().sum(-1).tolist()
        captions = [None] * len(lengths) if text is None else list(text)
        return [
            Motion(
                features=extractor.denormalize(row[:length]),
                fps=extractor.fps,
                skeleton=SKELETONS[extractor.skeleton],
                text=caption,
            )
            for row, length, caption in zip(values, lengths, captions, strict=True)
        ]

"""Processor: prepares texts and motions for the models, and turns their output into motions."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from transformers import BatchFeature, ProcessorMixin

from lamp_hf.checkpoints.files import EXTRACTOR_FILES, PROCESSOR_FILES, checked_name, explained
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .base_lamp import PublishedProcessor
from .feature_extraction_lamp import ExtractorInput, LampFeatureExtractor
from .text_encoding import TextEncoder

__all__ = ["LampProcessor"]

LONGEST = 1_000_000  # tokens of a text


class LampProcessor(PublishedProcessor, ProcessorMixin):
    """Combines a [`LampFeatureExtractor`] for motion and a BERT tokenizer for text.

    Args:
        feature_extractor: Normalizes and pads motion.
        tokenizer: Splits text into word pieces; its `model_max_length` is the model's `max_text_length`.
        text_padding: `"longest"` pads texts to the longest one of a batch. `"max_length"` pads them to
            `model_max_length`, as the released code does, whose text condition depends on the padding (T4).
        example_texts: Captions from the training data. Pipelines suggest them and compare texts with them, and
            fine-tuning rehearses them.
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
            raise ValueError(f"text_padding={text_padding!r} is not 'longest' or 'max_length'")
        self.text_padding = text_padding
        self.example_texts = list(example_texts)
        self.feature_extractor: LampFeatureExtractor
        self.tokenizer: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a processor as in transformers, also by the name of an embedded checkpoint.

        Raises:
            CheckpointError: A file of the feature extractor or the tokenizer is missing or damaged.
        """
        name = checked_name(pretrained_model_name_or_path, kwargs)
        with explained(name, PROCESSOR_FILES, kwargs, blamed=(*EXTRACTOR_FILES, "tokenizer_config.json")):
            # Otherwise, transformers asks whether to run code of the checkpoint.
            return super().from_pretrained(name, **{"trust_remote_code": False, **kwargs})

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        motion: ExtractorInput | None = None,
        return_tensors: str | None = "pt",
        *,
        padding: bool | str | None = None,
        truncation: bool = True,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Prepare text, motion or both.

        Threads may share a processor, because calls do not change it.

        ```python
        >>> batch = processor(text="a person walks", padding="max_length", max_length=20)
        >>> batch["input_ids"].shape
        torch.Size([1, 20])

        ```

        Args:
            text: A caption or a list of captions; captions that are too long are truncated at the end.
            motion: A [`Motion`], an array `(T, D)` of unnormalized features, or a list of them.
            return_tensors: `"pt"`, `"np"`, or `None` for lists of token ids, which need no padding.
            padding: Padding of texts: `"longest"` (or `True`), `"max_length"`, or `False`. Defaults to `text_padding`
                of the processor.
            truncation: Whether to truncate texts to `max_length` tokens.
            max_length: Largest number of tokens of a text, including special tokens. Defaults to `model_max_length` of
                the tokenizer.

        Returns:
            A batch with `input_ids` and `attention_mask` `(B, L)` of the texts, and `motion_values` `(B, T, D)` and
            `motion_attention_mask` `(B, T)` of the motions.

        Raises:
            TypeError: A text is not a string.
            ValueError: There are no inputs, the numbers of texts and motions differ, texts of different lengths do not
                make one tensor, or a value is invalid.
        """
        if text is None and motion is None:
            raise ValueError("the inputs are missing: give text=, motion= or both")
        result: dict[str, Any] = {}
        if text is not None:
            result.update(self._encode_texts(text, return_tensors, padding, truncation, max_length))
        if motion is not None:
            result.update(self.feature_extractor(motion, return_tensors=return_tensors))
        if text is not None and motion is not None:
            sizes = len(result["input_ids"]), len(result["motion_values"])
            if sizes[0] != sizes[1]:
                raise ValueError(f"{sizes[0]} texts were given for {sizes[1]} motions; give one text per motion")
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
                raise TypeError(f"text contains {item!r}, a {type(item).__name__}; expected strings")
        how: Any = self.text_padding if padding is None else padding
        if isinstance(how, bool):
            how = "longest" if how else None
        if how not in ("longest", "max_length", None):
            raise ValueError(f"padding={padding!r} is not 'longest', 'max_length', True or False")
        if truncation not in (True, False):
            raise ValueError(f"truncation={truncation!r} is not True or False")
        if max_length is None:
            max_length = self.tokenizer.model_max_length
        elif isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length={max_length!r} is not a whole number of at least 1")
        if max_length > LONGEST:  # transformers sets a huge number if a tokenizer has no length
            if how == "max_length":
                raise ValueError("the tokenizer has no model_max_length for padding; give max_length=")
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
        """Encoder of the texts for this processor."""
        encoder = self._text_encoder
        if encoder is None or not encoder.fits(self.tokenizer):
            # Two threads may both get here, but they create equal encoders.
            encoder = self._text_encoder = TextEncoder(self.tokenizer)
        return encoder

    def cut_words(self, text: str) -> str:
        """Return the end of a text that is too long for the model, from the first truncated word."""
        return self.text_encoder.cut_words(text, self.tokenizer.model_max_length)

    def post_process_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor,
        text: Sequence[str | None] | None = None,
    ) -> list[Motion]:
        """Turn the output of a model into motions.

        Args:
            motion_values: Normalized features, `(B, T, D)`.
            motion_attention_mask: `(B, T)`, 1 on real frames.
            text: Caption of each motion.

        Returns:
            One [`Motion`] per row, in meters, at the frame rate of the extractor.
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

"""One object for text and motion going into the models, and motion coming out of them."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from transformers import BatchFeature, ProcessorMixin

from lamp_hf.checkpoint_files import (
    EXTRACTOR_FILES,
    PROCESSOR_FILES,
    checked_name,
    explained,
)
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .checkpoints import PublishedProcessor
from .feature_extraction_lamp import LampFeatureExtractor, MotionInput

__all__ = ["LampProcessor"]


class LampProcessor(PublishedProcessor, ProcessorMixin):
    """Joins a [`LampFeatureExtractor`] for motion and a BERT tokenizer for text.

    Args:
        feature_extractor: Normalises and pads motion.
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
            return super().from_pretrained(name, **kwargs)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        motion: MotionInput | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare text, motion or both.

        Args:
            text: A caption or a list; longer ones than the model takes are cut at the end.
            motion: As for [`LampFeatureExtractor`].
            return_tensors: `"pt"` or `"np"`.

        Returns:
            `input_ids` and `attention_mask` `(B, L)` of the text, `motion_values` `(B, T, D)` and
            `motion_attention_mask` `(B, T)` of the motion.

        Raises:
            ValueError: Neither is given, or both in different numbers.
        """
        if text is None and motion is None:
            raise ValueError("give text=, motion= or both")
        result: dict[str, Any] = {}
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            encoded = self.tokenizer(texts, padding=self.text_padding, truncation=True, return_tensors=return_tensors)
            result["input_ids"], result["attention_mask"] = encoded["input_ids"], encoded["attention_mask"]
        if motion is not None:
            result.update(self.feature_extractor(motion, return_tensors=return_tensors))
        if text is not None and motion is not None:
            sizes = len(result["input_ids"]), len(result["motion_values"])
            if sizes[0] != sizes[1]:
                raise ValueError(f"{sizes[0]} texts were given for {sizes[1]} motions; they go in pairs")
        return BatchFeature(result)

    def post_process_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor,
        text: Sequence[str | None] | None = None,
    ) -> list[Motion]:
        """Motions of a model's output.

        Args:
            motion_values: Normalised features `(B, T, D)`.
            motion_attention_mask: `(B, T)`, 1 on real frames.
            text: Caption that each motion keeps.

        Returns:
            One [`Motion`] a row, in metres, at the extractor's frame rate.
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

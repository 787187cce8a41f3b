"""The pipelines that the studio works with."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline
from lamp_hf.pipelines.motion_retrieval import MotionRetrievalPipeline
from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline
from lamp_hf.retrieval.encoder import MotionTextEncoder
from lamp_hf.serving import Limits

__all__ = ["StudioModels", "load_models"]


@dataclass(frozen=True, eq=False)
class StudioModels:
    """The pipelines of a checkpoint and the limits of the studio; threads may share it.

    Attributes:
        writer: Generates and edits motions.
        captioner: Describes motions.
        encoder: Compares motions with sentences.
        search: Searches the motions of the studio, if it has an index.
        limits: Limits of what a user can ask for and upload.
    """

    writer: TextToMotionPipeline
    captioner: MotionCaptioningPipeline
    encoder: MotionTextEncoder
    search: MotionRetrievalPipeline | None = None
    limits: Limits = field(default_factory=Limits)

    @cached_property
    def known_sentences(self) -> list[str]:
        """Sentences that the checkpoint was trained on; empty if it does not list them."""
        known = self.writer.known_sentences
        return [] if known is None else known.sentences

    @cached_property
    def known_vectors(self) -> np.ndarray:
        """Vectors `(N, P)` of the known sentences."""
        return self.encoder.encode_texts(self.known_sentences)


def load_models(
    model: str | None = None, *, index: Any = None, device: Any = None, limits: Limits | None = None
) -> StudioModels:
    """Load the pipelines of a text-to-motion checkpoint.

    Args:
        model: Folder of the checkpoint, a Hub id, or the name of an embedded checkpoint; the default checkpoint if
            `None`.
        index: Index or folder of motions to search, see [`MotionRetrievalPipeline`].
        device: Device, as in `transformers.pipeline`.
        limits: Limits; defaults to `Limits()`.

    Raises:
        OSError: The checkpoint does not exist.
        TypeError: The checkpoint is not for text to motion.
    """
    import transformers

    from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
    from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval

    checkpoint = resolve_checkpoint(model or DEFAULT_CHECKPOINT)
    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    writer: TextToMotionPipeline = create("text-to-motion", model=checkpoint, device=device)
    captioner = create("motion-captioning", model=checkpoint, device=device)
    search = None
    if index is not None:
        search = create("motion-retrieval", model=checkpoint, device=device, index=index)
        encoder = search.encoder
    else:
        retrieval = cast(Any, LampForMotionTextRetrieval).from_pretrained(checkpoint).to(writer.model.device)
        encoder = MotionTextEncoder(retrieval, writer.processor)
    return StudioModels(writer, captioner, encoder, search, limits or Limits())

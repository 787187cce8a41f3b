"""Summaries of texts by a frozen text side, each computed once."""

import copy
from collections.abc import Sequence

import torch

from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor

__all__ = ["TextSummaries"]


class TextSummaries:
    """Returns the text summaries of a model whose text side is not trained, and remembers them.

    Args:
        model: Model with `config.train_text_to_condition=False`. It is copied, because the trainer may shard the
            original.
        processor: Its processor.
    """

    def __init__(self, model: LampForTextToMotion, processor: LampProcessor):
        self.model = copy.deepcopy(model).eval()
        self.processor = processor
        self._known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the summaries `(B, 2, H)` of texts; see [`LampForTextToMotion.summarize_text`]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            inputs = self.processor(text=new).to(self.model.device)
            self._known |= zip(new, self.model.summarize_text(**inputs).cpu(), strict=True)
        return torch.stack([self._known[text] for text in texts]).to(self.model.device)

"""Text encoders that can give the condition of text to motion instead of LaMP, to compare the two."""

from typing import Any, cast

import torch
from torch.nn import functional as F
from transformers import AutoModel, CLIPTextModelWithProjection, PreTrainedModel

from .configuration_lamp import LampTextToMotionConfig

__all__ = ["masked_mean", "new_text_encoder", "text_features"]


def new_text_encoder(config: LampTextToMotionConfig) -> PreTrainedModel:
    """Create the text encoder of a configuration with random weights."""
    if config.text_condition == "clip":
        return CLIPTextModelWithProjection(config.text_encoder_config)
    return cast(PreTrainedModel, AutoModel.from_config(config.text_encoder_config))


@torch.no_grad()
def text_features(
    encoder: Any, config: LampTextToMotionConfig, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
) -> torch.Tensor:
    """Return the features `(B, H)` of texts.

    The features of CLIP are the projected state of the end of the text, as in MDM and MoMask, which do not normalize
    them either. Those of a sentence encoder are pooled as `config.text_pooling` says and have unit length, as in
    sentence-transformers.

    Args:
        encoder: Text encoder.
        config: Configuration of the text-to-motion model.
        input_ids, attention_mask: Texts, `(B, L)`.
    """
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    output = encoder(input_ids=input_ids, attention_mask=attention_mask)
    if config.text_condition == "clip":
        return output.text_embeds
    states = output.last_hidden_state
    pooled = states[:, 0] if config.text_pooling == "cls" else masked_mean(states, attention_mask)
    return F.normalize(pooled.float(), dim=-1)


def masked_mean(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean `(B, H)` of states `(B, L, H)` where `mask` `(B, L)` is 1, or of all with `None`."""
    if mask is None:
        return states.mean(1)
    weights = mask.to(states.dtype)[..., None]
    return (states * weights).sum(1) / weights.sum(1)

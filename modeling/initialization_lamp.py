"""Initialize a LaMP from a pretrained BERT, as in the LaMP paper."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, cast

import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertModel

from .configuration_lamp import LampConfig
from .modeling_lamp import LampModel
from .modeling_lamp_qformer import LampQFormerLayer

__all__ = ["init_from_bert", "text_encoder_parameters"]


@torch.no_grad()
def init_from_bert(
    lamp: LampModel,
    bert: str | PathLike | BertModel | BertForMaskedLM,
    token_ids: Sequence[int | None] | None = None,
) -> None:
    """Copy the weights of a pretrained BERT, `bert-base-uncased` in the paper, into a LaMP.

    Copies the embeddings (the constant token type is added to the positions), the self-attention and feed-forward of
    the first layers, and the word-prediction head if the checkpoint has one. The feed-forward of the queries starts as
    a copy too, of every k-th neuron if it is narrower. Cross-attention is not changed.

    Args:
        lamp: Model to change.
        bert: BERT with the same width and heads and at least as many layers, or its folder or Hub id.
        token_ids: Id in BERT of each word piece of LaMP. Word pieces that BERT does not have are `None` or left out at
            the end; their embeddings are the mean of the others. By default, ids are equal.

    Raises:
        ValueError: The sizes do not fit.
    """
    source, head = _load_bert(bert)
    _check_bert(source.config, lamp.config)

    if token_ids is None:
        token_ids = range(min(source.config.vocab_size, lamp.config.vocab_size))
    rows = torch.tensor([row for row, token in enumerate(token_ids) if token is not None])
    tokens = torch.tensor([token for token in token_ids if token is not None])

    def take(target: torch.Tensor, pretrained: torch.Tensor) -> None:
        target.copy_(pretrained[tokens].mean(0).expand_as(target))
        target[rows] = pretrained[tokens].to(target.dtype)

    ours, theirs = lamp.qformer.embeddings, source.embeddings
    take(ours.word_embeddings.weight, theirs.word_embeddings.weight)
    positions = theirs.position_embeddings.weight + theirs.token_type_embeddings.weight[0]
    ours.position_embeddings.weight.copy_(positions[: lamp.config.max_position_embeddings])
    ours.layernorm.load_state_dict(theirs.LayerNorm.state_dict())
    for ours_at, theirs_at in zip(lamp.qformer.encoder.layer, source.encoder.layer, strict=False):
        layer, pretrained = cast(LampQFormerLayer, ours_at), cast(Any, theirs_at)
        layer.attention.attention.load_state_dict(pretrained.attention.self.state_dict())
        layer.attention.output.load_state_dict(pretrained.attention.output.state_dict())
        layer.intermediate.load_state_dict(pretrained.intermediate.state_dict())
        layer.output.load_state_dict(pretrained.output.state_dict())
        width = layer.intermediate_query.dense.out_features
        neurons = torch.linspace(0, source.config.intermediate_size - 1, width).round().long()
        layer.intermediate_query.dense.weight.copy_(pretrained.intermediate.dense.weight[neurons])
        layer.intermediate_query.dense.bias.copy_(pretrained.intermediate.dense.bias[neurons])
        layer.output_query.load_state_dict(
            {**pretrained.output.state_dict(), "dense.weight": pretrained.output.dense.weight[:, neurons]}
        )
    if head is not None:
        lamp.lm_head.dense.load_state_dict(head.transform.dense.state_dict())
        lamp.lm_head.layer_norm.load_state_dict(head.transform.LayerNorm.state_dict())
        take(lamp.lm_head.decoder.bias, head.bias)


def text_encoder_parameters(lamp: LampModel) -> list[nn.Parameter]:
    """Return the parameters that [`init_from_bert`] sets, without those of the queries and the word-prediction head."""
    modules: list[nn.Module] = [lamp.qformer.embeddings]
    for each in lamp.qformer.encoder.layer:
        layer = cast(LampQFormerLayer, each)
        modules += [layer.attention, layer.intermediate, layer.output]
    return [parameter for module in modules for parameter in module.parameters()]


def _check_bert(bert: BertConfig, config: LampConfig) -> None:
    for name in ("hidden_size", "num_attention_heads", "intermediate_size"):
        if getattr(bert, name) != getattr(config, name):
            raise ValueError(
                f"{name} is {getattr(bert, name)} in BERT and {getattr(config, name)} here; use the value of BERT"
            )
    for name in ("num_hidden_layers", "max_position_embeddings"):
        if getattr(bert, name) < getattr(config, name):
            raise ValueError(
                f"{name} is {getattr(bert, name)} in BERT, fewer than {getattr(config, name)} here; lower it"
            )
    if (config.query_intermediate_size or 0) > bert.intermediate_size:
        raise ValueError(
            f"query_intermediate_size={config.query_intermediate_size} exceeds BERT's "
            f"intermediate_size={bert.intermediate_size}, from which it is copied; lower it"
        )


def _load_bert(bert: str | PathLike | BertModel | BertForMaskedLM) -> tuple[BertModel, Any]:
    """Return a BERT and its word-prediction head, or `None` if the checkpoint has no head."""
    if isinstance(bert, BertModel):
        return bert, None
    if isinstance(bert, BertForMaskedLM):
        return bert.bert, bert.cls.predictions
    loaded, report = cast(tuple[BertForMaskedLM, dict], BertForMaskedLM.from_pretrained(bert, output_loading_info=True))
    missing = any(name.startswith("cls.predictions.transform") for name in report["missing_keys"])
    return loaded.bert, None if missing else loaded.cls.predictions

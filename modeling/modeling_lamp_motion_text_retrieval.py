"""Retrieval between motions and texts with LaMP's encoders and its matching head (LaMP, section 4.3)."""

import torch
from transformers.utils import can_return_tuple

from .configuration_lamp import LampConfig, LampTextToMotionConfig
from .modeling_lamp import (
    LampEmbeddingsMixin,
    LampModel,
    LampMotionEncoding,
    LampOutput,
    LampPreTrainedModel,
    own_lamp_config,
)

__all__ = ["LampForMotionTextRetrieval"]


class LampForMotionTextRetrieval(LampEmbeddingsMixin, LampPreTrainedModel):
    """Finds motions for texts and texts for motions with a [`LampModel`].

    Loads from checkpoints of LaMP, of its pretraining and of text-to-motion, which contain LaMP. The released code
    compares a text with the mean of the queries by Euclidean distance (L8). Here, as in the paper and in training, the
    similarity is the cosine of the text and the best query.

    For inputs see [`LampModel`]. Below, Q is the number of queries, P the projection size and n the number of motion
    tokens.
    """

    def __init__(self, config: LampConfig | LampTextToMotionConfig):
        super().__init__(own_lamp_config(config))
        self.lamp = LampModel(self.config)
        self.post_init()
        self.lamp._freeze()

    def encode_motion(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        output_codes: bool = True,
    ) -> LampMotionEncoding:
        """Encode motions, for example for an index that matches them with texts; see [`LampModel.encode_motion`]."""
        return self.lamp.encode_motion(motion_values, motion_attention_mask, output_codes)

    def get_motion_features(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return features `(B, Q, P)` of motions, one per query, of unit length.

        Args:
            motion_values, motion_attention_mask: Motions.
            motion_embeds, motion_token_mask: Output of [`encode_motion`], instead of `motion_values`.

        Raises:
            ValueError: The motion is missing.
        """
        lamp = self.lamp
        if motion_embeds is not None:
            states = lamp.motion_to_states(motion_embeds.to(self.dtype))
            return lamp.project_motion(lamp.query(states, motion_token_mask))
        if motion_values is None:
            raise ValueError("the motion is missing: give motion_values, or motion_embeds from encode_motion")
        return lamp.get_motion_features(motion_values, motion_attention_mask)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return features `(B, P)` of texts, of unit length."""
        return self.lamp.get_text_features(input_ids, attention_mask)

    def similarity(self, motion_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the cosines `(M, T)` of texts `(T, P)` and the best query of each motion `(M, Q, P)`."""
        return self.lamp.similarity(motion_features, text_features)

    def matching_logits(
        self,
        motion_embeds: torch.Tensor,
        motion_token_mask: torch.Tensor | None,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the log-odds `(B,)` that the b-th text describes the b-th motion.

        Motion and text are read together. This is slower than [`similarity`] and meant for candidates found by
        similarity. The sigmoid of the log-odds is [`LampModel.matching_score`].

        Args:
            motion_embeds, motion_token_mask: Output of [`encode_motion`], `(B, n, code_dim)` and `(B, n)`.
            input_ids, attention_mask: Texts, `(B, L)`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.lamp.motion_to_states(motion_embeds.to(self.dtype))
        logits = self.lamp.match(states, motion_token_mask, input_ids, attention_mask).float()
        return logits[:, 1] - logits[:, 0]

    def rerank_scores(self, similarities: torch.Tensor, matching_logits: torch.Tensor) -> torch.Tensor:
        """Return scores for reranking: the sum of the scaled similarities and the log-odds of a match.

        Both are logits of the same event. With the sum, a head that learned little from hard negatives changes the
        order little; used alone, it could undo the order by similarity. BLIP-2, on which LaMP is based, adds the two
        too.

        Args:
            similarities, matching_logits: Similarities and log-odds of the same pairs, `(B,)`.
        """
        return similarities * self.lamp.scale().to(similarities.device) + matching_logits

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LampOutput:
        """Compare M motions with T texts; see [`LampModel.forward`].

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForMotionTextRetrieval, LampProcessor

        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> model = LampForMotionTextRetrieval.from_pretrained("lamp-small")
        >>> texts = processor(text=["a person walks", "a person waves", "a person bows"])
        >>> model(torch.zeros(2, 40, 263), **texts).logits_per_text.shape
        torch.Size([3, 2])

        ```
        """
        return self.lamp(
            motion_values,
            motion_attention_mask,
            input_ids,
            attention_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )

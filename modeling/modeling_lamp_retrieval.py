"""Retrieval between motions and texts: LaMP's two encoders, and its matching head for a second look (section 4.3)."""

import torch
from transformers.utils import can_return_tuple

from .configuration_lamp import LampConfig, LampTextToMotionConfig
from .modeling_lamp import (
    BESIDES_LAMP,
    LampEmbeddingsMixin,
    LampModel,
    LampOutput,
    LampPreTrainedModel,
    own_lamp_config,
)

__all__ = ["LampForMotionTextRetrieval"]


class LampForMotionTextRetrieval(LampEmbeddingsMixin, LampPreTrainedModel):
    """Finds motions for texts and texts for motions with a [`LampModel`].

    Loads from a checkpoint of LaMP, of its pretraining and of text-to-motion, which holds all of LaMP. The
    released code compares texts with the mean of the queries by Euclidean distance (L8); here, as in the paper
    and in training, the query that fits best decides, by cosine.

    Inputs are those of [`LampModel`]; below, Q is the number of queries, P the projection size, n the number of
    motion tokens.
    """

    _keys_to_ignore_on_load_unexpected = BESIDES_LAMP

    def __init__(self, config: LampConfig | LampTextToMotionConfig):
        super().__init__(own_lamp_config(config))
        self.lamp = LampModel(self.config)
        self.post_init()
        self.lamp._freeze()

    def get_motion_features(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Features `(B, Q, P)` of motions, one a query, of unit length."""
        return self.lamp.get_motion_features(motion_values, motion_attention_mask)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features `(B, P)` of texts, of unit length."""
        return self.lamp.get_text_features(input_ids, attention_mask)

    def encode_motion(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What an index keeps of motions: enough to find them, and to match them with texts later.

        Returns:
            Features `(B, Q, P)` of unit length, latents of the motion encoder `(B, n, code_dim)`, and their
            boolean mask `(B, n)`.
        """
        latents, token_mask, _ = self.lamp.encode_motion(motion_values, motion_attention_mask)
        query_output = self.lamp.query(self.lamp.motion_projection(latents), token_mask)
        return self.lamp.project_motion(query_output), latents, token_mask

    def similarity(self, motion_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Cosine `(M, T)` of texts `(T, P)` with the best-fitting query of motions `(M, Q, P)`."""
        return self.lamp.similarity(motion_features, text_features)

    def matching_logits(
        self,
        latents: torch.Tensor,
        token_mask: torch.Tensor | None,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-odds `(B,)` that the b-th text describes the b-th motion, whose latents [`encode_motion`] gave.

        Motion and text are read together, which is slower than [`similarity`]: it is meant for the candidates that
        similarity has found. The sigmoid is [`LampModel.matching_score`].

        Args:
            latents, token_mask: Of motions, `(B, n, code_dim)` and `(B, n)`.
            input_ids, attention_mask: Texts, `(B, L)`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.lamp.motion_projection(latents.to(self.dtype))
        logits = self.lamp.match(states, token_mask, input_ids, attention_mask).float()
        return logits[:, 1] - logits[:, 0]

    def rerank_scores(self, similarities: torch.Tensor, matching_logits: torch.Tensor) -> torch.Tensor:
        """Scores that order candidates anew: scaled similarity and log-odds of a match, added up.

        Both are logits of the same question. A head that learned little from hard negatives then changes little,
        where alone it would undo what similarity found; BLIP-2, after which LaMP is made, adds the two likewise.

        Args:
            similarities, matching_logits: Of the same pairs, `(B,)`.
        """
        return similarities * self.lamp.scale().to(similarities.device) + matching_logits

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> LampOutput:
        """Features and scaled similarities of M motions and T texts."""
        return self.lamp(motion_values, motion_attention_mask, input_ids, attention_mask, return_dict=True)

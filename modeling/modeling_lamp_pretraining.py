"""Pretraining of LaMP: the losses of its four tasks (LaMP, section 3.2)."""

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_lamp import LampConfig
from .distributed import gather_rows, global_mean, uniform_rows
from .modeling_lamp import LampEmbeddingsMixin, LampModel, used_length
from .modeling_lamp_qformer import LampPreTrainedModel, LampQFormerModelOutput, requested_outputs
from .motion_quantizers import IGNORED_CODE, first_codes

__all__ = ["LampForPreTraining", "LampForPreTrainingOutput"]


@dataclass
class LampForPreTrainingOutput(ModelOutput):
    """Result of [`LampForPreTraining`].

    Args:
        loss: Sum of the four losses below, times their weights in the configuration, `()`. A loss with the weight 0
            is `None`, as is what only its task computes.
        contrastive_loss: Mean cross-entropy of finding the text of a motion and the motion of a text, `()`.
        matching_loss: Cross-entropy of distinguishing true pairs from hard negatives, `()`.
        captioning_loss: Cross-entropy of the next word given the motion, `()`.
        motion_token_loss: Cross-entropy of the motion tokens given the text, `()`.
        logits_per_motion: Scaled similarities `(B, N)` of the motions of this process and the N texts of all processes.
        logits_per_text: Scaled similarities `(B, N)` of the texts of this process and the N motions of all processes.
        matching_logits: Logits for no match and match, `(B + negatives, 2)`: true pairs, then each text with its
            negative motion, then each motion with its negative text.
        motion_token_logits: `(B, n, num_codes)`.
        model_output: Output of the Q-Former for motions and captions, queries first, with `hidden_states`, `attentions`
            and `cross_attentions` if requested.
    """

    loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None
    matching_loss: torch.Tensor | None = None
    captioning_loss: torch.Tensor | None = None
    motion_token_loss: torch.Tensor | None = None
    logits_per_motion: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    matching_logits: torch.Tensor | None = None
    motion_token_logits: torch.Tensor | None = None
    model_output: LampQFormerModelOutput | None = None


class LampForPreTraining(LampEmbeddingsMixin, LampPreTrainedModel):
    """[`LampModel`] with its four losses, each of weight 1 unless the configuration says otherwise (L7).

    With `torch.distributed`, similarities and hard negatives come from the joint batch of all processes, and the mean
    of the losses of all processes equals the loss of one process on the joint batch (L4).
    """

    def __init__(self, config: LampConfig):
        super().__init__(config)
        self.lamp = LampModel(config)
        self.post_init()
        self.lamp._freeze()

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
        motion_codes: torch.Tensor | None = None,
        pair_groups: torch.Tensor | None = None,
        negatives: tuple[torch.Tensor, torch.Tensor] | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LampForPreTrainingOutput:
        """Compute the losses of B pairs of motion and caption.

        Args:
            motion_values, motion_attention_mask, input_ids, attention_mask: Motions and captions; see [`LampModel`].
            motion_embeds, motion_token_mask, motion_codes: Output of [`LampModel.encode_motion`], instead of
                `motion_values`. If tokens have several codes, the first is used.
            pair_groups: Label of each pair, `(B,)`, if the data set has labels. Pairs with the same label are positives
                of each other, as pairs with equal captions are.
            negatives: Index of a negative motion for each caption and of a negative caption for each motion, `(B,)`
                each, -1 for none. Drawn by similarity by default.
            return_loss: Whether to compute the losses. If not, only features and similarities are computed.
            output_hidden_states, output_attentions: Whether to return them in `model_output`.

        Raises:
            ValueError: The motions or the captions are missing.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampForPreTraining, LampProcessor

        >>> processor = LampProcessor.from_pretrained("lamp-small")
        >>> model = LampForPreTraining.from_pretrained("lamp-small")
        >>> output = model(torch.randn(2, 40, 263), **processor(text=["a person walks", "a person bows"]))
        >>> output.loss.ndim, output.logits_per_motion.shape
        (0, torch.Size([2, 2]))

        ```
        """
        lamp = self.lamp
        if input_ids is None:
            raise ValueError("input_ids is missing: pretraining needs a caption for every motion")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if motion_values is not None:
            encoded = lamp.encode_motion(motion_values, motion_attention_mask)
            motion_embeds, motion_codes = encoded.motion_embeds, encoded.motion_codes
            motion_token_mask = encoded.motion_token_mask
        if motion_embeds is None or motion_codes is None:
            raise ValueError(
                "the motion is missing: give motion_values, or motion_embeds and motion_codes from encode_motion"
            )
        motion_codes = first_codes(motion_codes)
        if motion_token_mask is None:
            motion_token_mask = motion_codes >= 0

        # Remove columns that are padding in every row: they cost time and change nothing.
        length, tokens = used_length(attention_mask), used_length(motion_token_mask)
        input_ids, attention_mask = input_ids[:, :length], attention_mask[:, :length]
        motion_embeds, motion_codes = motion_embeds[:, :tokens].to(self.dtype), motion_codes[:, :tokens]
        motion_token_mask = motion_token_mask[:, :tokens]
        caption_ids = lamp.caption_ids(input_ids)

        config = self.config
        requested = requested_outputs(output_hidden_states, output_attentions)
        writes = bool(config.captioning_loss_weight) or not return_loss
        # The matching task draws its negatives by similarity, also if similarities are not trained.
        draws = bool(config.matching_loss_weight) and negatives is None
        compares = bool(config.contrastive_loss_weight) or not return_loss
        logits_per_motion = logits_per_text = model_output = word_output = None
        if writes or compares or draws or requested:
            states = lamp.motion_to_states(motion_embeds)
            if writes or requested:
                model_output = lamp.query_and_caption(
                    states, motion_token_mask, caption_ids, attention_mask, **requested
                )
                queries = config.num_query_tokens
                query_output, word_output = model_output.last_hidden_state.split([queries, length], 1)
            else:
                query_output = lamp.query(states, motion_token_mask)
            if compares or draws:
                with torch.set_grad_enabled(torch.is_grad_enabled() and compares):
                    logits_per_motion, logits_per_text = self._similarities(query_output, input_ids, attention_mask)
        if not return_loss:
            return LampForPreTrainingOutput(
                logits_per_motion=logits_per_motion, logits_per_text=logits_per_text, model_output=model_output
            )

        losses: dict[str, torch.Tensor] = {}
        matching_logits = motion_token_logits = None
        if logits_per_motion is not None and logits_per_text is not None:
            positives, targets = self._positives(input_ids, attention_mask, motion_codes, pair_groups)
            if compares:
                losses["contrastive_loss"] = self.contrastive_loss(logits_per_motion, logits_per_text, targets)
            if draws:
                negatives = draw_negatives(logits_per_text, positives), draw_negatives(logits_per_motion, positives)
        if config.matching_loss_weight:
            assert negatives is not None
            losses["matching_loss"], matching_logits = self.matching_loss(
                motion_embeds, motion_token_mask, input_ids, attention_mask, negatives
            )
        if config.captioning_loss_weight:
            assert word_output is not None
            losses["captioning_loss"] = self.captioning_loss(word_output, caption_ids, attention_mask)
        if config.motion_token_loss_weight:
            losses["motion_token_loss"], motion_token_logits = self.motion_token_loss(
                caption_ids, attention_mask, motion_codes
            )
        weighted = [getattr(config, f"{name}_weight") * loss for name, loss in losses.items()]
        return LampForPreTrainingOutput(
            loss=sum(weighted[1:], weighted[0]),
            **{name: loss.detach() for name, loss in losses.items()},
            logits_per_motion=logits_per_motion,
            logits_per_text=logits_per_text,
            matching_logits=matching_logits,
            motion_token_logits=motion_token_logits,
            model_output=model_output,
        )

    def _similarities(
        self, query_output: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scaled similarities `(B, N)` of the motions, and of the texts, with those of all processes."""
        lamp = self.lamp
        motion_features = lamp.project_motion(query_output)
        text_features = lamp.get_text_features(input_ids, attention_mask)
        return (
            lamp.similarity(motion_features, gather_rows(text_features)[0]) * lamp.scale(),
            lamp.similarity(gather_rows(motion_features)[0], text_features).T * lamp.scale(),
        )

    def _positives(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        motion_codes: torch.Tensor,
        pair_groups: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `(B, N)`, true for pairs that belong together, and true for the targets of the contrastive loss."""
        pair_ids = input_ids.masked_fill(attention_mask == 0, -1)
        captions, first = gather_rows(pair_ids, -1)
        clips, _ = gather_rows(motion_codes, IGNORED_CODE)
        positives = same_rows(pair_ids, captions) | same_rows(motion_codes, clips)
        if pair_groups is not None:
            positives |= pair_groups[:, None] == gather_rows(pair_groups[:, None])[0][:, 0]
        if self.config.contrastive_targets == "equal_pairs":
            return positives, positives
        own = torch.arange(len(positives), device=positives.device) + first
        return positives, own[:, None] == torch.arange(len(captions), device=positives.device)

    def contrastive_loss(
        self, logits_per_motion: torch.Tensor, logits_per_text: torch.Tensor, positives: torch.Tensor
    ) -> torch.Tensor:
        """Compute the contrastive loss: smoothed cross-entropy, averaged over both directions.

        Args:
            logits_per_motion, logits_per_text: Scaled similarities `(B, N)`.
            positives: `(B, N)`, true for positive pairs; the target is spread evenly over them.
        """
        target = positives.float() / positives.sum(-1, keepdim=True)
        losses = [
            F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=self.config.label_smoothing)
            for logits in (logits_per_motion, logits_per_text)
        ]
        return global_mean((losses[0] + losses[1]) / 2, len(positives))

    def matching_loss(
        self,
        motion_embeds: torch.Tensor,
        motion_token_mask: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        negatives: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the matching loss of true pairs and hard negatives, and its logits; for arguments see [`forward`]."""
        negative_motion, negative_text = negatives
        texts, motions = negative_motion >= 0, negative_text >= 0
        # Latents come from a frozen encoder, so gathering them needs no gradient.
        all_embeds, _ = gather_rows(motion_embeds)
        all_masks, _ = gather_rows(motion_token_mask.long())
        all_ids, _ = gather_rows(input_ids, self.config.pad_token_id or 0)
        all_attention, _ = gather_rows(attention_mask)
        tokens, length = all_embeds.shape[1] - motion_embeds.shape[1], all_ids.shape[1] - input_ids.shape[1]
        motion_embeds = F.pad(motion_embeds, (0, 0, 0, tokens))
        motion_token_mask = F.pad(motion_token_mask.long(), (0, tokens))
        input_ids = F.pad(input_ids, (0, length), value=self.config.pad_token_id or 0)
        attention_mask = F.pad(attention_mask, (0, length))

        chosen = negative_motion[texts]
        others = negative_text[motions]
        logits = self.lamp.match(
            self.lamp.motion_to_states(torch.cat([motion_embeds, all_embeds[chosen], motion_embeds[motions]])),
            torch.cat([motion_token_mask, all_masks[chosen], motion_token_mask[motions]]),
            torch.cat([input_ids, input_ids[texts], all_ids[others]]),
            torch.cat([attention_mask, attention_mask[texts], all_attention[others]]),
        )
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        labels[: len(input_ids)] = 1
        total = F.cross_entropy(logits.float(), labels, reduction="sum")
        return global_mean(total, len(labels)), logits

    def captioning_loss(
        self, word_output: torch.Tensor, caption_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Compute the captioning loss: smoothed cross-entropy of each next word, without padding."""
        real = attention_mask[:, 1:].bool()
        logits = self.lamp.lm_head(word_output[:, :-1][real])
        total = F.cross_entropy(
            logits.float(),
            caption_ids[:, 1:][real],
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return global_mean(total, real.sum())

    def motion_token_loss(
        self, caption_ids: torch.Tensor, attention_mask: torch.Tensor, motion_codes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of motion tokens given the caption, and its logits; query i predicts token i (L5).

        Tokens after the last query are not predicted.
        """
        motion_codes = motion_codes[:, : self.config.num_query_tokens]
        query_output = self.lamp.query_words(caption_ids, attention_mask, keep=motion_codes.shape[1])
        logits = self.lamp.motion_token_head(query_output)
        total = F.cross_entropy(
            logits.float().flatten(0, 1),
            motion_codes.flatten(),
            ignore_index=IGNORED_CODE,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return global_mean(total, (motion_codes >= 0).sum()), logits


def same_rows(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return a boolean `(B, N)`, true where row b of `rows` `(B, L)` equals row n of `others` `(N, M)`, M at least L.

    Negative numbers are padding.
    """
    rows = F.pad(rows, (0, others.shape[1] - rows.shape[1]), value=-1)
    return ((rows[:, None] == others[None]) | ((rows[:, None] < 0) & (others[None] < 0))).all(-1)


@torch.no_grad()
def draw_negatives(logits: torch.Tensor, positives: torch.Tensor) -> torch.Tensor:
    """Draw one hard negative per row of `logits` `(B, N)`, by their softmax over non-positives; -1 if none (L2)."""
    # The argmax of logits with Gumbel noise is a sample from their softmax, and the noise does not depend on how many
    # processes share the batch.
    noise = -torch.log(
        -torch.log(uniform_rows(len(logits), logits.shape[1], logits.device).clamp(min=torch.finfo(torch.float32).tiny))
    )
    chosen = (logits.float() + noise).masked_fill(positives, -torch.inf).argmax(-1)
    return chosen.masked_fill(positives.all(-1), -1)

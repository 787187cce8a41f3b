"""Evaluation networks: encoders of motions and texts into one space (T2M, section 5.1).

R-Precision, FID and the other metrics of the field are computed on the features of these two encoders.
"""

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .base_lamp import LampBaseModel
from .configuration_lamp import MotionTextEvaluatorConfig
from .distributed import gather_rows, global_mean
from .modeling_motion_vqvae import length_mask, masked, refuse_short

__all__ = ["MotionTextEvaluatorModel", "MotionTextEvaluatorOutput"]

NUM_CONTACTS = 4  # foot contacts, the last numbers of a frame
NEGATIVE_SLOPE = 0.2


@dataclass
class MotionTextEvaluatorOutput(ModelOutput):
    """Result of [`MotionTextEvaluatorModel`].

    Args:
        loss: Sum of the two losses below, `()`; only with motions and texts.
        positive_loss: Mean squared distance between a text and its motion, `()`.
        negative_loss: Mean square of the amount by which the distance of a mismatched pair is below the margin, `()`.
        motion_features: Features of the motions, `(B, D)`.
        text_features: Features of the texts, `(B, D)`.
        hidden_states: With `output_hidden_states`, the output of the movement encoder, `(B, T // 4, movement_size)`.
    """

    loss: torch.Tensor | None = None
    positive_loss: torch.Tensor | None = None
    negative_loss: torch.Tensor | None = None
    motion_features: torch.Tensor | None = None
    text_features: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class MotionTextEvaluatorMovementEncoder(nn.Module):
    """Encodes frames `(B, T, motion_dim - 4)` into movements `(B, T // 4, movement_size)`."""

    def __init__(self, config: MotionTextEvaluatorConfig):
        super().__init__()
        self.conv1 = nn.Conv1d(config.motion_dim - NUM_CONTACTS, config.movement_hidden_size, 4, stride=2, padding=1)
        self.conv2 = nn.Conv1d(config.movement_hidden_size, config.movement_size, 4, stride=2, padding=1)
        self.projection = nn.Linear(config.movement_size, config.movement_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode; `lengths` `(B,)` is the number of real frames of each clip, `None` if all are real."""
        hidden = frames.transpose(1, 2)
        hidden = masked(hidden, None if lengths is None else length_mask(lengths, hidden.shape[-1]))
        for conv in (self.conv1, self.conv2):
            hidden = F.leaky_relu(self.dropout(conv(hidden)), NEGATIVE_SLOPE)
            if lengths is not None:
                lengths = lengths // 2
                hidden = masked(hidden, length_mask(lengths, hidden.shape[-1]))
        return self.projection(hidden.transpose(1, 2))


class MotionTextEvaluatorBiGRU(GradientCheckpointingLayer):
    """Bidirectional GRU with learned initial states; the feature is computed from the two last states."""

    def __init__(self, input_size: int, hidden_size: int, config: MotionTextEvaluatorConfig):
        super().__init__()
        self.initial_state = nn.Parameter(torch.zeros(2, 1, hidden_size))
        self.input_projection = nn.Linear(input_size, hidden_size)
        self.gru = nn.GRU(hidden_size, hidden_size, batch_first=True, bidirectional=True)
        self.fc1 = nn.Linear(2 * hidden_size, hidden_size)
        self.layer_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.fc2 = nn.Linear(hidden_size, config.projection_dim)

    def forward(self, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the features `(B, D)` of sequences `(B, S, input_size)` with `lengths` `(B,)` real steps.

        The order of the rows does not change; the released code sorts them by length.
        """
        hidden = self.input_projection(states)
        packed = pack_padded_sequence(hidden, lengths.cpu(), batch_first=True, enforce_sorted=False)
        start = self.initial_state.to(hidden.dtype).expand(-1, len(lengths), -1).contiguous()
        last = self.gru(packed, start)[1]
        return self.fc2(F.leaky_relu(self.layer_norm(self.fc1(torch.cat([last[0], last[1]], -1))), NEGATIVE_SLOPE))


class MotionTextEvaluatorModel(LampBaseModel):
    """Encodes motions and texts into one space, in which matching pairs are close.

    Padding is masked, so features do not depend on the other items of a batch.

    In all methods, `motion_values` `(B, T, motion_dim)` are normalized features, and `motion_attention_mask` `(B, T)`
    is 1 on real frames (`None` if all are real); padding is on the right. `config.text_input` decides the form of
    texts: `input_ids` `(B, L)` with `"embeddings"`; with `"glove"`, `word_embeddings` `(B, L, word_embedding_size)` and
    `pos_one_hots` `(B, L, num_pos_tags)` or, if the model contains word vectors (`config.num_word_vectors`), the
    `input_ids` of a [`GloveTokenizer`]. `attention_mask` `(B, L)` is 1 on real words (`None` if all are real).
    """

    config: MotionTextEvaluatorConfig
    config_class = MotionTextEvaluatorConfig
    base_model_prefix = "motion_text_evaluator"
    main_input_name = "motion_values"
    input_modalities = ["motion", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True  # no attention here; a model that contains this one may use any
    _no_split_modules = ["MotionTextEvaluatorMovementEncoder", "MotionTextEvaluatorBiGRU"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(MotionTextEvaluatorMovementEncoder, capture_initial_hidden_state=False)
    }
    word_embeddings: nn.Embedding | None
    word_vectors: nn.Embedding | None
    pos_projection: nn.Linear | None

    def __init__(self, config: MotionTextEvaluatorConfig):
        super().__init__(config)
        self.movement_encoder = MotionTextEvaluatorMovementEncoder(config)
        self.motion_encoder = MotionTextEvaluatorBiGRU(config.movement_size, config.motion_hidden_size, config)
        self.text_encoder = MotionTextEvaluatorBiGRU(config.word_embedding_size, config.text_hidden_size, config)
        self.word_vectors = None
        if config.text_input == "glove":
            self.word_embeddings = None
            if config.num_word_vectors:
                self.word_vectors = nn.Embedding(config.num_word_vectors, config.word_embedding_size)
            self.pos_projection = nn.Linear(config.num_pos_tags, config.word_embedding_size)
        else:
            self.word_embeddings = nn.Embedding(config.vocab_size, config.word_embedding_size)
            self.pos_projection = None
        self.post_init()
        self._freeze()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # As in the original training: Xavier normal, zero biases, and PyTorch's default for recurrent layers.
        if isinstance(module, (nn.Conv1d, nn.Linear)):
            init.xavier_normal_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            bound = module.hidden_size**-0.5
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, MotionTextEvaluatorBiGRU):
            init.normal_(module.initial_state)

    def get_input_embeddings(self) -> nn.Module:
        if self.word_embeddings is not None:
            return self.word_embeddings
        if self.word_vectors is not None:
            return self.word_vectors
        raise NotImplementedError("this evaluator has no word embeddings; it takes word vectors as input")

    def set_input_embeddings(self, value: nn.Module) -> None:
        if self.config.text_input == "glove":
            self.word_vectors = cast(nn.Embedding, value)
        else:
            self.word_embeddings = cast(nn.Embedding, value)

    def _freeze(self) -> None:
        if self.word_embeddings is not None and self.config.freeze_word_embeddings:
            self.word_embeddings.requires_grad_(False)
        if self.word_vectors is not None:
            self.word_vectors.requires_grad_(False)  # constants, as in the released code

    def train(self, mode: bool = True) -> Self:
        """Set training mode; frozen word embeddings stay frozen, also after `from_pretrained`, which calls this."""
        super().train(mode)
        self._freeze()
        return self

    @torch.no_grad()
    def init_word_embeddings(self, table: torch.Tensor) -> None:
        """Initialize the word embeddings from another model with the same word pieces.

        The embeddings are reduced to `config.word_embedding_size` principal components, which keeps similar words
        similar.

        Args:
            table: Word embeddings, `(vocab_size, H)`, H at least `config.word_embedding_size`.

        Raises:
            ValueError: The shape is wrong, or this model has no word embeddings.
        """
        if self.word_embeddings is None:
            raise ValueError("an evaluator with text_input='glove' has no word embeddings to initialize")
        rows, size = self.word_embeddings.weight.shape
        if len(table) != rows or table.shape[1] < size:
            raise ValueError(
                f"table has the shape {tuple(table.shape)}, which does not fit this evaluator; expected "
                f"({rows}, {size} or more)"
            )
        centered = table.double() - table.double().mean(0)
        _, axes = torch.linalg.eigh(centered.T @ centered)  # ascending
        components = centered @ axes[:, -size:].flip(-1)
        self.word_embeddings.weight.copy_(components / components.std())

    # ---- features -----------------------------------------------------------------------------------------

    def get_motion_features(
        self, motion_values: torch.Tensor, motion_attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the features `(B, D)` of motions; for arguments see the class.

        Raises:
            ValueError: The number of features is wrong, or a clip is shorter than four frames.
        """
        batch, frames, dim = motion_values.shape
        if dim != self.config.motion_dim:
            raise ValueError(
                f"motion_values has {dim} numbers per frame, this evaluator was built for {self.config.motion_dim} "
                "(263: HumanML3D, 22 joints; 251: KIT-ML, 21 joints)"
            )
        if motion_attention_mask is None:
            lengths = torch.full((batch,), frames, device=motion_values.device)
        else:
            lengths = motion_attention_mask.long().sum(-1)
        size = self.config.frames_per_token
        refuse_short(lengths, size)
        frames_values = motion_values[..., :-NUM_CONTACTS].to(self.dtype)
        if self.config.mask_motion_padding:
            movements = self.movement_encoder(frames_values, lengths)
        else:
            missing = max(0, (self.config.padded_frames or 0) - frames)
            movements = self.movement_encoder(F.pad(frames_values, (0, 0, 0, missing)))
        return self.motion_encoder(movements, lengths // size)

    def get_text_features(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        word_embeddings: torch.Tensor | None = None,
        pos_one_hots: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the features `(B, D)` of texts; for arguments see the class.

        Raises:
            ValueError: The form of the texts does not fit `config.text_input`, or a text has no words.
        """
        if self.word_embeddings is not None:
            if input_ids is None or word_embeddings is not None or pos_one_hots is not None:
                raise ValueError("this evaluator has text_input='embeddings': give only input_ids=")
            states = self.word_embeddings(input_ids)
        else:
            assert self.pos_projection is not None
            if input_ids is not None and self.word_vectors is not None and word_embeddings is None:
                tags = self.config.num_pos_tags
                word_embeddings = self.word_vectors(input_ids // tags)
                pos_one_hots = F.one_hot(input_ids % tags, tags)
            elif input_ids is not None or word_embeddings is None or pos_one_hots is None:
                ids = " or only" if self.word_vectors is not None else ", not"
                raise ValueError(
                    f"this evaluator has text_input='glove': give word_embeddings= and pos_one_hots={ids} input_ids="
                )
            states = word_embeddings.to(self.dtype) + self.pos_projection(pos_one_hots.to(self.dtype))
        if attention_mask is None:
            lengths = torch.full((len(states),), states.shape[1], device=states.device)
        else:
            lengths = attention_mask.long().sum(-1)
        if not torch.compiler.is_compiling() and int(lengths.min()) < 1:
            raise ValueError("a text has no words; every row of attention_mask needs a 1")
        return self.text_encoder(states, lengths)

    def similarity(self, motion_features: torch.Tensor, text_features: torch.Tensor) -> torch.Tensor:
        """Return the negative Euclidean distances `(M, T)` of motions `(M, D)` and texts `(T, D)`."""
        return -_distances(motion_features, text_features)

    # ---- training -----------------------------------------------------------------------------------------

    @capture_outputs
    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        word_embeddings: torch.Tensor | None = None,
        pos_one_hots: torch.Tensor | None = None,
        pair_groups: torch.Tensor | None = None,
        return_loss: bool = True,
        output_hidden_states: bool | None = None,
    ) -> MotionTextEvaluatorOutput:
        """Compute features of motions, of texts, or of pairs with their loss.

        The loss is that of the original training (`TextMotionMatchTrainer` of EricGuo5513/text-to-motion): the squared
        distance of matching pairs plus, for mismatched pairs, the square of the amount by which their distance is below
        the margin. The original movement encoder was pretrained in an autoencoder and frozen; here it is trained too.

        Args:
            motion_values, motion_attention_mask: Motions; see the class.
            input_ids, attention_mask, word_embeddings, pos_one_hots: Texts; see the class.
            pair_groups: Label of each pair, `(B,)`; pairs with the same label are not mismatches. `None` if all labels
                differ.
            return_loss: Whether to compute the loss of pairs.
            output_hidden_states: Whether to return `hidden_states`.

        Raises:
            ValueError: There are no inputs, or the numbers of motions and texts differ.

        Example:

        ```python
        >>> import numpy as np
        >>> from lamp_hf import LampProcessor, MotionTextEvaluatorModel

        >>> evaluator = MotionTextEvaluatorModel.from_pretrained("lamp-small-evaluator")
        >>> processor = LampProcessor.from_pretrained("lamp-small-evaluator")
        >>> inputs = processor(text="a person waves", motion=np.zeros((40, 263), dtype=np.float32))
        >>> output = evaluator(**inputs)
        >>> output.motion_features.shape == output.text_features.shape == (1, evaluator.config.projection_dim)
        True

        ```
        """
        motion = text = None
        if motion_values is not None:
            motion = self.get_motion_features(motion_values, motion_attention_mask)
        if input_ids is not None or word_embeddings is not None:
            text = self.get_text_features(input_ids, attention_mask, word_embeddings, pos_one_hots)
        if motion is None and text is None:
            raise ValueError("the inputs are missing: give motion_values=, a text, or both")
        if motion is not None and text is not None and len(motion) != len(text):
            raise ValueError(f"{len(text)} texts were given for {len(motion)} motions; give one text per motion")
        loss = positive_loss = negative_loss = None
        if motion is not None and text is not None and return_loss:
            positive_loss, negative_loss = self._losses(motion.float(), text.float(), pair_groups)
            loss = positive_loss + negative_loss
            positive_loss, negative_loss = positive_loss.detach(), negative_loss.detach()
        return MotionTextEvaluatorOutput(
            loss=loss,
            positive_loss=positive_loss,
            negative_loss=negative_loss,
            motion_features=motion,
            text_features=text,
        )

    def _losses(
        self, motion: torch.Tensor, text: torch.Tensor, pair_groups: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of the texts of this process with the motions of all processes."""
        motions, first = gather_rows(motion)
        total = len(motions)
        columns = torch.arange(total, device=motion.device)
        own = columns[first : first + len(text)]
        groups = columns if pair_groups is None else gather_rows(pair_groups)[0]
        mismatched = groups[own, None] != groups[None, :]
        if self.config.mismatches == "shifted" and total > 1:
            # The original may also draw a shift of zero, which pushes matching pairs apart.
            shift = int(torch.randint(1, total, ()))
            mismatched = mismatched & (columns[None, :] == (own[:, None] + shift) % total)
        lacking = F.relu(self.config.loss_margin - _distances(text, motions)[mismatched])
        positive_loss = global_mean((text - motion).pow(2).sum(), len(text))
        return positive_loss, global_mean(lacking.pow(2).sum(), mismatched.sum())


def _distances(rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean distances `(N, M)` of rows `(N, D)` and columns `(M, D)` in float32, exact if small."""
    with torch.autocast(rows.device.type, enabled=False):
        return torch.cdist(rows.float(), columns.float(), compute_mode="donot_use_mm_for_euclid_dist")

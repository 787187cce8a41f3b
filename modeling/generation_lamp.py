"""Generation of motions by iterated masked decoding (LaMP, section 3.3): from texts, for edits and for storyboards.

All three decode windows: parts of a token sequence in which some tokens are decoded and the others are given. A motion
from a text is a window without given tokens; an edit has some. A storyboard is one sequence. Its parts are decoded
first, each from its own text, and then the tokens around each seam, from both texts and with both sides visible.

With a residual tokenizer, whose tokens have several codes, masked decoding gives the first code of each token. The
other codes follow, one codebook after the other, from all codes decoded so far (MoMask, Guo et al., CVPR 2024).

**The same text, seed and length give the same tokens in any batch.** Noise is drawn per window on the CPU. The last
bits of a matrix product depend on its number of rows, and they can change a token and all tokens after it. Every
forward pass therefore has the same number of windows: one on a CPU, where more would save little, and `ROWS_PER_PASS`
on an accelerator, where fewer would save nothing.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME, logging
from transformers.utils.generic import ModelOutput

from lamp_hf.checkpoints.files import explained

from .configuration_generation_lamp import SEEDS, MaskedMotionGenerationConfig, is_seed, whole
from .configuration_lamp import LampTextToMotionConfig
from .masked_decoding import (
    Window,
    decode_residuals,
    decode_windows,
    draw_seed,
    equal_passes,
    part_generator,
    plan_seam,
    plan_windows,
)
from .modeling_lamp import LampModel
from .modeling_motion_length_estimator import MotionLengthEstimator
from .motion_quantizers import IGNORED_CODE

__all__ = ["MaskedMotionGenerationMixin", "MaskedMotionGenerationOutput", "StepCallback"]

logger = logging.get_logger(__name__)

ROWS_PER_PASS = 16
# Limit on all motions of a call together, five and a half hours at 20 frames per second. More is likely a mistake and
# would take hours or all of the memory.
MAX_TOKENS = 100_000
LENGTH_STEP = 8  # on an accelerator, lengths are padded to multiples of this

# Called after every step with the number of steps done, the total number of steps, and the token ids of every sequence,
# which are the mask's id where no token is decoded yet. With a residual tokenizer, each codebook after the first is a
# step too, and the ids are the codes of the first codebook.
StepCallback = Callable[[int, int, list[torch.Tensor]], None]


@dataclass
class MaskedMotionGenerationOutput(ModelOutput):
    """Result of `generate` and `generate_storyboard`.

    Args:
        motion_codes: Token ids `(B, n)`, or `(B, n, num_quantizers)` with a residual tokenizer; -100 on padding.
        motion_values: Normalized features `(B, 4 n, motion_dim)`, zero on padding.
        motion_attention_mask: `(B, 4 n)`, 1 on real frames.
        num_tokens: Number of tokens of each motion.
        seeds: Seed of each motion. With the same text and length, it gives the same motion again.
        part_tokens: Number of tokens of each part of a storyboard.
    """

    motion_codes: torch.Tensor | None = None
    motion_values: torch.Tensor | None = None
    motion_attention_mask: torch.Tensor | None = None
    num_tokens: list[int] | None = None
    seeds: list[int] | None = None
    part_tokens: list[int] | None = None


class MaskedMotionModel(Protocol):
    """The parts of [`LampForTextToMotion`] that decoding uses."""

    config: LampTextToMotionConfig
    generation_config: GenerationConfig
    lamp: LampModel
    length_estimator: MotionLengthEstimator | None

    @property
    def device(self) -> torch.device: ...

    def get_text_condition(
        self, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None
    ) -> torch.Tensor: ...

    def predict_tokens(
        self, token_ids: torch.Tensor, condition: torch.Tensor, token_mask: torch.Tensor | None = None
    ) -> torch.Tensor: ...

    def predict_residuals(
        self,
        motion_codes: torch.Tensor,
        condition: torch.Tensor,
        codebooks: torch.Tensor,
        token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


def per_item(name: str, value: Any, count: int) -> list[Any]:
    """Return one value for each of `count` motions, given one value for all or a list."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} motions; give one for each, or one for all")
    return list(value)


def seeds_of(value: Any, count: int) -> list[int | None]:
    """Return the seeds of `count` motions, given one seed for all or a list.

    Raises:
        ValueError: A value is not a seed, or their number is wrong.
    """
    seeds = per_item("seed", value, count)
    if wrong := [seed for seed in seeds if seed is not None and not is_seed(seed)]:
        raise ValueError(f"seed={wrong[0]!r} is not {SEEDS}")
    return seeds


def refuse_more_tokens(tokens: int, frames_per_token: int) -> None:
    """Check the number of tokens of a call.

    Raises:
        ValueError: The motions of a call have more than `MAX_TOKENS`.
    """
    if tokens > MAX_TOKENS:
        raise ValueError(
            f"{tokens:,} motion tokens ({tokens * frames_per_token:,} frames) are more than one call generates; "
            f"request at most {MAX_TOKENS:,} ({MAX_TOKENS * frames_per_token:,} frames) for all motions together"
        )


def call_config(generation_config: GenerationConfig, values: dict[str, Any]) -> MaskedMotionGenerationConfig:
    """Copy generation settings and set values of one call in the copy.

    Raises:
        ValueError: A name is unknown, or a value is invalid.
    """
    known = MaskedMotionGenerationConfig.fields
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(
            f"unknown arguments {', '.join(unknown)}; use arguments of generate or the generation settings "
            f"{', '.join(known)}"
        )
    config = copy.deepcopy(generation_config)
    config.update(**values)
    return cast(MaskedMotionGenerationConfig, config)


class MotionDecoder:
    """Runs a model on texts, windows and token sequences, in forward passes of a fixed number of rows.

    Args:
        model: Model in evaluation mode.
        config: Generation settings.
    """

    def __init__(self, model: MaskedMotionModel, config: MaskedMotionGenerationConfig):
        self.model = model
        self.config = config
        self.on_cpu = model.device.type == "cpu"
        self.rows = 1 if self.on_cpu else ROWS_PER_PASS

    def padded(self, length: int) -> int:
        """Return the length to which a sequence is padded; on a CPU there is no padding."""
        return length if self.on_cpu else -(-length // LENGTH_STEP) * LENGTH_STEP

    def read(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, list[int] | None]:
        """Return the conditions `(B, H)` and the estimated numbers of tokens of texts; equal texts are encoded once.

        Without a length estimator, the numbers are `None`.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        rows = list(zip(input_ids.tolist(), attention_mask.tolist(), strict=True))
        config = self.model.config
        text_config = config.get_text_config()
        if config.mask_text_padding:  # otherwise, padding is read as part of the text (T4)
            rows = [(ids[: sum(mask)], mask[: sum(mask)]) for ids, mask in rows]
        texts = list(dict.fromkeys((tuple(ids), tuple(mask)) for ids, mask in rows))
        sizes = [len(ids) for ids, _ in texts]
        if config.mask_text_padding:
            sizes = [min(self.padded(size), text_config.max_position_embeddings) for size in sizes]
        estimator = self.model.length_estimator
        read: dict[tuple, tuple[torch.Tensor, int]] = {}
        for indices in equal_passes(sizes, self.rows):
            size = sizes[indices[0]]
            ids = torch.full((len(indices), size), text_config.pad_token_id or 0)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(indices):
                text, real = texts[index]
                ids[row, : len(text)] = torch.tensor(text)
                mask[row, : len(text)] = torch.tensor(real)
            condition = self.model.get_text_condition(ids.to(self.model.device), mask.to(self.model.device))
            lengths = [0] * len(condition) if estimator is None else estimator.num_tokens(condition).tolist()
            for row, index in enumerate(indices):
                read[texts[index]] = condition[row], lengths[row]
        found = [read[tuple(ids), tuple(mask)] for ids, mask in rows]
        conditions = torch.stack([condition for condition, _ in found])
        return conditions, None if estimator is None else [length for _, length in found]

    def predict(self, windows: list[Window], guidance_scale: float, codebook: int = 0) -> list[torch.Tensor]:
        """Return guided logits `(n, num_codes)` of one codebook for each window, on the CPU.

        Logits of the first codebook (0) depend on its current codes, logits of another codebook on the codes of the
        codebooks before it.
        """
        guided = guidance_scale != 1
        results: list[torch.Tensor | None] = [None] * len(windows)
        hides_padding = self.model.config.mask_token_padding  # otherwise, there must be no padding (T2)
        sizes = [
            (len(window.conditions), self.padded(len(window)) if hides_padding else len(window)) for window in windows
        ]
        device = self.model.device
        for indices in equal_passes(sizes, self.rows):
            num_texts, size = sizes[indices[0]]
            copies = num_texts + guided
            padding = IGNORED_CODE if codebook else self.model.config.motion_pad_token_id
            ids = torch.full((len(indices), copies, size, max(codebook, 1)), padding)
            conditions = []
            for row, index in enumerate(indices):
                window = windows[index]
                ids[row, :, : len(window), 0] = window.tokens
                if codebook:
                    ids[row, :, : len(window), 1:] = window.residual_tokens[:, : codebook - 1]
                conditions.append(window.conditions)
                if guided:
                    conditions.append(window.unconditional[None])
            ids = ids.flatten(0, 1).to(device)
            mask = None if self.on_cpu else ids[..., 0] != padding
            logits = self._logits(ids, torch.cat(conditions), codebook, mask)
            logits = logits.float().unflatten(0, (len(indices), copies))
            for row, index in enumerate(indices):
                window = windows[index]
                conditional = logits[row, :num_texts, : len(window)]
                if window.weights is None:
                    mixed = conditional[0]
                else:
                    mixed = (conditional * window.weights.to(device)[..., None]).sum(0)
                if guided:
                    unconditional = logits[row, num_texts, : len(window)]
                    mixed = unconditional + guidance_scale * (mixed - unconditional)
                results[index] = mixed.cpu()
        return cast(list[torch.Tensor], results)

    def _logits(
        self, codes: torch.Tensor, condition: torch.Tensor, codebook: int, mask: torch.Tensor | None
    ) -> torch.Tensor:
        if codebook == 0:
            return self.model.predict_tokens(codes[..., 0], condition, mask)
        codebooks = torch.full((len(codes),), codebook, device=codes.device)
        return self.model.predict_residuals(codes, condition, codebooks, mask)

    def run(self, rounds: list[list[Window]], sequences: list[torch.Tensor], callback: StepCallback | None) -> None:
        """Decode rounds of windows one after the other; windows of a round are decoded together."""
        steps = self.config.num_inference_steps + self.model.config.num_quantizers - 1
        done, total = 0, len(rounds) * steps

        def on_step() -> None:
            nonlocal done
            done += 1
            if callback is not None:
                callback(done, total, [sequence[:, 0].clone() for sequence in sequences])

        for windows in rounds:
            decode_windows(windows, self.predict, self.config, self.model.config.motion_mask_token_id, on_step)
            decode_residuals(windows, self.predict, self.config, on_step)

    def output(self, sequences: list[torch.Tensor], seeds: list[int]) -> MaskedMotionGenerationOutput:
        """Decode sequences of tokens into motions, padded to the longest."""
        tokenizer, device = self.model.lamp.motion_vqvae, self.model.device
        frames = self.model.config.motion_vqvae_config.frames_per_token
        longest = max(len(sequence) for sequence in sequences)
        layers = self.model.config.num_quantizers
        all_codes = torch.full((len(sequences), longest, layers), IGNORED_CODE)
        values = torch.zeros(
            len(sequences),
            frames * longest,
            tokenizer.config.motion_dim,
            dtype=tokenizer.dtype,
            device=device,
        )
        mask = torch.zeros(values.shape[:2], dtype=torch.long, device=device)
        sizes = [self.padded(len(sequence)) for sequence in sequences]
        for indices in equal_passes(sizes, self.rows):
            codes = torch.full((len(indices), sizes[indices[0]], layers), IGNORED_CODE)
            for row, index in enumerate(indices):
                codes[row, : len(sequences[index])] = sequences[index]
            motions = tokenizer.decode((codes[..., 0] if layers == 1 else codes).to(device))
            for row, index in enumerate(indices):
                length = frames * len(sequences[index])
                all_codes[index, : len(sequences[index])] = sequences[index]
                values[index, :length] = motions[row, :length]
                mask[index, :length] = 1
        return MaskedMotionGenerationOutput(
            motion_codes=(all_codes[..., 0] if layers == 1 else all_codes).to(device),
            motion_values=values,
            motion_attention_mask=mask,
            num_tokens=[len(sequence) for sequence in sequences],
            seeds=seeds,
        )

    def negatives(
        self,
        conditions: torch.Tensor,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the conditions that guidance steers away from, `(B, H)`: empty, or of negative texts."""
        if input_ids is None:
            return torch.zeros_like(conditions)
        if len(input_ids) not in (1, len(conditions)):
            raise ValueError(
                f"{len(input_ids)} negative texts for {len(conditions)} texts; give one for each, or one for all"
            )
        negatives = torch.zeros_like(conditions[: len(input_ids)])
        given = torch.ones(len(input_ids)).bool() if attention_mask is None else attention_mask.bool().any(-1).cpu()
        if given.any():
            mask = None if attention_mask is None else attention_mask[given]
            negatives[given] = self.read(input_ids[given], mask)[0]
        return negatives.expand(len(conditions), -1)

    def sequences(
        self,
        texts: int,
        num_tokens: Any,
        estimated: list[int] | None,
        motion_codes: torch.Tensor | None,
        edit_mask: torch.Tensor | None,
        copies: int = 1,
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the token ids and the editable mask for each text; `copies` motions will be generated of each."""
        if (motion_codes is None) != (edit_mask is None):
            raise ValueError("motion_codes and edit_mask must be given together: a motion and the tokens to change")
        if motion_codes is None or edit_mask is None:
            lengths = estimated if num_tokens is None else per_item("num_tokens", num_tokens, texts)
            if lengths is None:
                raise ValueError(
                    "this checkpoint has no length estimator; give num_tokens (in a pipeline: duration or num_frames)"
                )
            if wrong := [length for length in lengths if not whole(length)]:
                raise ValueError(f"num_tokens={wrong[0]!r} is not a whole number of at least 1")
            refuse_more_tokens(sum(lengths) * copies, self.model.config.motion_vqvae_config.frames_per_token)
            return [(self.undecided(int(n)), torch.ones(int(n), dtype=torch.bool)) for n in lengths]
        if num_tokens is not None:
            raise ValueError(
                "num_tokens and motion_codes were both given; leave out num_tokens, as an edit keeps the length"
            )
        layers = self.model.config.num_quantizers
        shape = tuple(edit_mask.shape) if layers == 1 else (*edit_mask.shape, layers)
        if tuple(motion_codes.shape) != shape or edit_mask.ndim != 2 or len(edit_mask) not in (1, texts):
            codebooks = (
                "" if layers == 1 else f", with codes of {layers} codebooks in the last dimension of motion_codes"
            )
            raise ValueError(
                f"motion_codes {tuple(motion_codes.shape)} and edit_mask {tuple(edit_mask.shape)} must be "
                f"(1, n) or ({texts}, n){codebooks}"
            )
        refuse_more_tokens(edit_mask.shape[1] * texts * copies, self.model.config.motion_vqvae_config.frames_per_token)
        if (largest := int(motion_codes.max())) >= self.model.config.num_codes:
            raise ValueError(
                f"motion_codes contain {largest}, but the tokenizer has only {self.model.config.num_codes} codes"
            )
        pairs = []
        for row, chosen in zip(motion_codes.cpu().view(*edit_mask.shape, layers), edit_mask.cpu().bool(), strict=True):
            length = int((row[:, 0] >= 0).sum())
            if length < 1 or not bool((row[:length] >= 0).all()):
                raise ValueError(
                    "every row of motion_codes must start with a code, and padding (-100) must be at the end"
                )
            pairs.append((row[:length].clone(), chosen[:length]))
        # True if a given token follows one to decode.
        self.warn_if_blind(any(bool((e.cumsum(0).bool() & ~e).any()) for _, e in pairs))
        return pairs if len(pairs) == texts else pairs * texts

    def undecided(self, length: int) -> torch.Tensor:
        """Return a sequence of masked tokens, `(length, num_quantizers)`."""
        config = self.model.config
        sequence = torch.full((length, config.num_quantizers), IGNORED_CODE)
        sequence[:, 0] = config.motion_mask_token_id
        return sequence

    def warn_if_blind(self, sees_after: bool) -> None:
        """Warn if tokens follow an edit or a seam and the model cannot see them."""
        # With causal attention, a token is predicted from the tokens before it, so an edit connects to its beginning
        # but not to its end. With "none", and with the released code's "soft_causal", the model sees both sides.
        if sees_after and self.model.config.attention_bias == "causal":
            logger.warning_once(
                'This checkpoint was trained with attention_bias="causal", so an edit or a seam does not take '
                "the motion after it into account. Only a model without causal attention connects to both sides."
            )


class MaskedMotionGenerationMixin:
    """`generate` and `generate_storyboard` of [`LampForTextToMotion`]."""

    generation_config: GenerationConfig  # always a `MaskedMotionGenerationConfig`

    def adjust_generation_fn(
        self,
        generation_config: GenerationConfig | None,
        from_auto_class: bool,
        from_pipeline: str | None,
        pretrained_model_name_or_path: str,
        **kwargs: Any,
    ) -> None:
        """Load `generation_config.json` as a [`MaskedMotionGenerationConfig`]; called by `from_pretrained`."""
        if generation_config is not None and not isinstance(generation_config, MaskedMotionGenerationConfig):
            values = {name: value for name, value in generation_config.to_dict().items() if value is not None}
            generation_config = MaskedMotionGenerationConfig.from_dict(values)
        if generation_config is not None:
            self.generation_config = generation_config
            return
        names = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
        found = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        name = pretrained_model_name_or_path
        try:
            with explained(name, (), found, blamed=(GENERATION_CONFIG_NAME,)):
                self.generation_config = MaskedMotionGenerationConfig.from_pretrained(name, **found)
        except OSError:
            logger.info("There is no generation_config.json; the default generation settings are used.")

    @torch.no_grad()
    def generate(
        self: MaskedMotionModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        num_tokens: int | Sequence[int] | torch.Tensor | None = None,
        seed: int | Sequence[int] | None = None,
        negative_input_ids: torch.Tensor | None = None,
        negative_attention_mask: torch.Tensor | None = None,
        num_motions_per_prompt: int = 1,
        motion_codes: torch.Tensor | None = None,
        edit_mask: torch.Tensor | None = None,
        step_callback: StepCallback | None = None,
        generation_config: MaskedMotionGenerationConfig | None = None,
        **kwargs: Any,
    ) -> MaskedMotionGenerationOutput:
        """Generate motions from texts, or change parts of given motions.

        The same text, seed and length give the same motion alone and in any batch, in any order.

        Args:
            input_ids, attention_mask: Texts, `(B, L)`.
            num_tokens: Length of the motions in tokens (of 4 frames), one for all texts or one for each. Defaults to an
                estimate from the text, if the model has a length estimator. A motion longer than `max_motion_tokens` is
                decoded in several windows, each of which sees the end of the one before.
            seed: One seed for all texts or one for each. The j-th motion of a text (from 0) has the seed `seed + j`.
                Defaults to the seed in the generation config; without that, seeds are drawn and returned.
            negative_input_ids, negative_attention_mask: Texts that guidance steers away from, one for all or one for
                each. A text with an `attention_mask` of zeros is the empty text, which is the default.
            num_motions_per_prompt: Number of motions per text; motions of one text are adjacent in the output.
            motion_codes: Motions to change, `(B or 1, n)`, or `(B or 1, n, num_quantizers)` with a residual tokenizer;
                -100 on padding. Tokens to decode again may have any code.
            edit_mask: Mask of the tokens to decode again, `(B or 1, n)`. All other tokens are kept.
            step_callback: Called after every step with the number of steps done, the total number of steps, and the
                token ids of every motion, which are `config.motion_mask_token_id` where no token is decoded yet.
            generation_config: Generation settings to use instead of the model's.
            kwargs: Values of [`MaskedMotionGenerationConfig`] for this call.

        Returns:
            The motions, in the order of the texts.

        Raises:
            ValueError: An argument is unknown, a value is invalid, or a list has the wrong length.
        """
        config = call_config(self.generation_config if generation_config is None else generation_config, kwargs)
        if not whole(num_motions_per_prompt, MAX_TOKENS):
            raise ValueError(
                f"num_motions_per_prompt={num_motions_per_prompt!r} is not a whole number from 1 to {MAX_TOKENS:,}"
            )
        texts, copies = len(input_ids), num_motions_per_prompt
        decoder = MotionDecoder(self, config)
        conditions, estimated = decoder.read(input_ids, attention_mask)
        negatives = decoder.negatives(conditions, negative_input_ids, negative_attention_mask)
        starts = seeds_of(config.seed if seed is None else seed, texts)
        sequences = decoder.sequences(texts, num_tokens, estimated, motion_codes, edit_mask, copies)
        seeds = [draw_seed() if start is None else int(start) + copy for start in starts for copy in range(copies)]
        sequences = [(codes.clone(), editable) for codes, editable in sequences for _ in range(copies)]

        rounds: dict[Hashable, list[Window]] = defaultdict(list)
        for item, (codes, editable) in enumerate(sequences):
            generator = part_generator(seeds[item], 0)
            text = item // copies
            planned = plan_windows(editable, self.config.max_motion_tokens)
            for turn, (start, _, chosen) in enumerate(planned):
                rounds[turn].append(
                    Window(
                        codes[:, 0],
                        start,
                        chosen,
                        generator,
                        conditions[text : text + 1],
                        negatives[text],
                        residuals=codes[:, 1:],
                    )
                )
        decoder.run(list(rounds.values()), [codes for codes, _ in sequences], step_callback)
        return decoder.output([codes for codes, _ in sequences], seeds)

    @torch.no_grad()
    def generate_storyboard(
        self: MaskedMotionModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *,
        num_tokens: int | Sequence[int] | torch.Tensor | None = None,
        seed: int | None = None,
        negative_input_ids: torch.Tensor | None = None,
        negative_attention_mask: torch.Tensor | None = None,
        seam_tokens: int = 3,
        step_callback: StepCallback | None = None,
        generation_config: MaskedMotionGenerationConfig | None = None,
        **kwargs: Any,
    ) -> MaskedMotionGenerationOutput:
        """Generate one motion of any length from a sequence of texts.

        Each part is decoded from its own text, as in `generate`. Then the tokens around each seam are decoded again
        from both texts, with both sides visible; the weights of the texts change from token to token. The tokenizer
        decodes the whole sequence at once, so the motion is continuous across seams.

        Args:
            input_ids, attention_mask: The P texts, `(P, L)`.
            num_tokens: Length of each part in tokens; estimated by default.
            seed: Seed of the whole motion.
            seam_tokens: Number of tokens to decode again on each side of a seam, at most half of a part.
            negative_input_ids, negative_attention_mask, step_callback, generation_config, kwargs: See [`generate`].

        Returns:
            A batch of one motion, with `part_tokens`.

        Raises:
            ValueError: An argument is unknown, a value is invalid, or a list has the wrong length.
        """
        config = call_config(self.generation_config if generation_config is None else generation_config, kwargs)
        longest = self.config.max_motion_tokens
        if not whole(seam_tokens, least=0):
            raise ValueError(f"seam_tokens={seam_tokens!r} is not a whole number of at least 0")
        (chosen_seed,) = seeds_of(config.seed if seed is None else seed, 1)
        decoder = MotionDecoder(self, config)
        conditions, estimated = decoder.read(input_ids, attention_mask)
        negatives = decoder.negatives(conditions, negative_input_ids, negative_attention_mask)
        parts = decoder.sequences(len(input_ids), num_tokens, estimated, None, None)
        lengths = [len(codes) for codes, _ in parts]
        used_seed = draw_seed() if chosen_seed is None else int(chosen_seed)

        codes = decoder.undecided(sum(lengths))
        rounds: dict[Hashable, list[Window]] = defaultdict(list)
        for part, length in enumerate(lengths):
            generator = part_generator(used_seed, 2 * part)
            offset = sum(lengths[:part])
            planned = plan_windows(torch.ones(length, dtype=torch.bool), longest)
            for turn, (start, _, chosen) in enumerate(planned):
                rounds[turn].append(
                    Window(
                        codes[:, 0],
                        offset + start,
                        chosen,
                        generator,
                        conditions[part : part + 1],
                        negatives[part],
                        residuals=codes[:, 1:],
                    )
                )
        # Windows of neighboring seams overlap, so every second seam is decoded after the others.
        for parity in (0, 1):
            seams = range(parity, len(lengths) - 1, 2)
            for seam in seams:
                start, end, first, last = plan_seam(lengths, seam, seam_tokens, longest)
                positions = torch.arange(start, end)
                editable = (positions >= first) & (positions < last)
                if editable.any():
                    later = ((positions - first + 0.5) / (last - first)).clamp(0, 1)
                    generator = part_generator(used_seed, 2 * seam + 1)
                    rounds["seams", parity].append(
                        Window(
                            codes[:, 0],
                            start,
                            editable,
                            generator,
                            conditions[seam : seam + 2],
                            negatives[seam],
                            torch.stack([1 - later, later]),
                            codes[:, 1:],
                        )
                    )
        decoder.warn_if_blind(len(lengths) > 1)
        decoder.run(list(rounds.values()), [codes], step_callback)
        output = decoder.output([codes], [used_seed])
        output["part_tokens"] = lengths
        return output

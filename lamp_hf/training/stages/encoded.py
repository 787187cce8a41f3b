"""Latents and token ids of every clip from the frozen motion tokenizer, computed once before training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.motion_quantizers import IGNORED_CODE
from lamp_hf.processes import progress_bar

from .draws import random_part

__all__ = ["EncodedClip", "encode_clips", "pad_codes"]


@dataclass(frozen=True)
class EncodedClip:
    """One clip as tokens, encoded from each of its first frames.

    A token covers four frames, so the same motion cut one frame later has other tokens. Training sees all of them.

    Args:
        latents: For every first frame, latents before quantization `(n, code_dim)`, float16.
        codes: For every first frame, token ids `(n,)`, or `(n, num_quantizers)` with several codebooks.
    """

    latents: tuple[np.ndarray, ...]
    codes: tuple[np.ndarray, ...]

    def draw(self, rng: np.random.Generator, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Return latents and codes from a random first frame, cropped at random to at most `max_tokens`."""
        start = int(rng.integers(len(self.codes)))
        latents, codes = self.latents[start], self.codes[start]
        part = random_part(len(codes), max_tokens, rng)
        return latents[part], codes[part]


@torch.no_grad()
def encode_clips(
    model: MotionVQVAEModel,
    extractor: LampFeatureExtractor,
    clips: Sequence[np.ndarray],
    *,
    all_starts: bool,
    batch_size: int = 32,
) -> list[EncodedClip]:
    """Encode clips of unnormalized features `(T, D)`.

    Args:
        all_starts: Encode every clip from each of its first four frames instead of only from the first.

    Raises:
        ValueError: A clip is shorter than one token.
    """
    size = model.config.frames_per_token
    jobs = [
        (index, start)
        for index, clip in enumerate(clips)
        for start in range(size if all_starts else 1)
        if start == 0 or len(clip) - start >= size
    ]
    jobs.sort(key=lambda job: len(clips[job[0]]))  # clips of similar length share a batch
    latents: dict[tuple[int, int], np.ndarray] = {}
    codes: dict[tuple[int, int], np.ndarray] = {}
    model.eval()
    for first in progress_bar(range(0, len(jobs), batch_size), "encoding clips", "batch"):
        batch = jobs[first : first + batch_size]
        inputs = extractor([clips[index][start:] for index, start in batch]).to(model.device)
        batch_latents, mask = model.get_latents(**inputs)
        batch_codes = model.codes_of(batch_latents, mask)
        for row, job in enumerate(batch):
            count = int(mask[row].sum())
            latents[job] = batch_latents[row, :count].cpu().numpy().astype(np.float16)
            codes[job] = batch_codes[row, :count].cpu().numpy()
    starts: list[list[int]] = [[] for _ in clips]
    for index, start in sorted(jobs):
        starts[index].append(start)
    return [
        EncodedClip(
            latents=tuple(latents[index, start] for start in clip_starts),
            codes=tuple(codes[index, start] for start in clip_starts),
        )
        for index, clip_starts in enumerate(starts)
    ]


def pad_codes(codes: Sequence[np.ndarray]) -> torch.Tensor:
    """Stack the token ids of clips into `(B, n)` or `(B, n, num_quantizers)`, with -100 on padding."""
    return pad_sequence([torch.from_numpy(row) for row in codes], batch_first=True, padding_value=IGNORED_CODE)

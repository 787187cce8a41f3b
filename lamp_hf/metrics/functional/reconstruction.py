"""Reconstruction by the motion tokenizer: MPJPE and codebook use."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from lamp_hf.batches import batch_starts
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import SKELETONS

if TYPE_CHECKING:
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel

__all__ = [
    "Reconstruction",
    "codebook_use",
    "evaluate_reconstruction",
    "joint_errors",
    "reconstruct",
]


class Reconstruction(NamedTuple):
    """A reconstructed clip.

    Attributes:
        place: Index of the clip.
        original: Its unnormalized features, `(T, D)`, in whole tokens.
        features: Those of the reconstruction, `(T, D)`.
        codes: The codes that were used. Those of a second codebook are numbered after those of the first.
    """

    place: int
    original: np.ndarray
    features: np.ndarray
    codes: set[int]


def joint_errors(real: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean distance of joints in each frame.

    Args:
        real: `(T, J, 3)`, meters.
        made: `(T, J, 3)`, meters, the same frames of the other motion.

    Returns:
        `(T,)` and `(T,)`, meters: with the pelvises aligned, as in MoMask and MotionGPT, and without alignment, so the
        drift of the root counts.

    Raises:
        ValueError: The motions differ in frames or joints.
    """
    if real.shape != made.shape:
        raise ValueError(
            f"joints {made.shape} cannot be compared with joints {real.shape}: frames or skeletons differ; crop or "
            "convert one of the motions"
        )
    aligned = np.linalg.norm((real - real[:, :1]) - (made - made[:, :1]), axis=-1).mean(-1)
    return aligned, np.linalg.norm(real - made, axis=-1).mean(-1)


@torch.no_grad()
def reconstruct(
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    clips: Sequence[np.ndarray],
    batch_size: int = 32,
) -> Iterator[Reconstruction]:
    """Reconstruct whole clips, those of similar length together.

    Args:
        model: The tokenizer, in eval mode.
        extractor: Its feature extractor.
        clips: Unnormalized features `(T, D)`. Clips shorter than one token are left out.
        batch_size: Clips per batch.
    """
    frames_per_token = model.config.frames_per_token
    # Clips of similar length share a batch, because padding costs as much time as frames.
    order = sorted((i for i, clip in enumerate(clips) if len(clip) >= frames_per_token), key=lambda i: len(clips[i]))
    for start in batch_starts(len(order), batch_size):
        places = order[start : start + batch_size]
        batch = [clips[i][: len(clips[i]) // frames_per_token * frames_per_token] for i in places]
        output = model(**extractor(batch).to(model.device))
        made = extractor.denormalize(output.reconstruction.float().cpu().numpy())
        for place, features, rebuilt, codes in zip(places, batch, made, output.codes, strict=True):
            yield Reconstruction(
                place, features, rebuilt[: len(features)], _used_codes(codes[None], model.config.num_codes)
            )


def evaluate_reconstruction(
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    clips: Sequence[np.ndarray],
    batch_size: int = 32,
) -> dict[str, float]:
    """Score the reconstruction of clips; see [`reconstruct`] for the arguments.

    Returns:
        `mpjpe_mm` and `global_mpjpe_mm`, the [`joint_errors`] with and without aligned pelvises, averaged over the
        frames of all clips, and `codebook_use`, see [`codebook_use`].
    """
    skeleton = SKELETONS[extractor.skeleton]
    errors, used = [], set()
    for _, original, features, codes in reconstruct(model, extractor, clips, batch_size):
        errors.append(joint_errors(features_to_joints(original, skeleton), features_to_joints(features, skeleton)))
        used |= codes
    aligned, drifting = (np.concatenate([pair[k] for pair in errors] or [np.empty(0)]) for k in (0, 1))
    return {
        "mpjpe_mm": 1000 * float(aligned.mean()),
        "global_mpjpe_mm": 1000 * float(drifting.mean()),
        "codebook_use": codebook_use(model, used),
    }


def codebook_use(model: "MotionVQVAEModel", used: set[int]) -> float:
    """Return the share of a tokenizer's codes, over all codebooks, that were used at least once."""
    return len(used) / (model.config.num_codes * model.config.num_quantizers)


def _used_codes(codes: torch.Tensor, num_codes: int) -> set[int]:
    if codes.ndim == 3:
        codes = codes + torch.arange(codes.shape[-1], device=codes.device) * num_codes * (codes >= 0)
    return set(codes[codes >= 0].unique().tolist())

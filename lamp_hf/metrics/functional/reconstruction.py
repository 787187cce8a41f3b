"""Reconstruction by the motion tokenizer: MPJPE and codebook use."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lamp_hf.batches import batch_starts
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import SKELETONS

if TYPE_CHECKING:
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel

__all__ = ["codebook_use", "evaluate_reconstruction", "joint_errors", "reconstruction_errors"]


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
def reconstruction_errors(
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    clips: Sequence[np.ndarray],
    batch_size: int = 32,
) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Reconstruct whole clips and measure the errors.

    Args:
        model: The tokenizer, in eval mode.
        extractor: Its feature extractor.
        clips: Unnormalized features `(T, D)`. Clips shorter than one token are left out.
        batch_size: Clips per batch.

    Returns:
        [`joint_errors`] of all frames of all clips, meters, with and without aligned pelvises, and the set of codes
        that were used. The codes of a second codebook are numbered after those of the first.
    """
    skeleton = SKELETONS[extractor.skeleton]
    frames_per_token = model.config.frames_per_token
    # Clips of similar length share a batch, because padding costs as much time as frames.
    order = sorted((i for i, clip in enumerate(clips) if len(clip) >= frames_per_token), key=lambda i: len(clips[i]))
    errors: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    used: set[int] = set()
    for start in batch_starts(len(order), batch_size):
        places = order[start : start + batch_size]
        batch = [clips[i][: len(clips[i]) // frames_per_token * frames_per_token] for i in places]
        output = model(**extractor(batch).to(model.device))
        used |= _used_codes(output.codes, model.config.num_codes)
        reconstruction = extractor.denormalize(output.reconstruction.float().cpu().numpy())
        for place, features, rebuilt in zip(places, batch, reconstruction, strict=True):
            errors[place] = joint_errors(
                features_to_joints(features, skeleton), features_to_joints(rebuilt[: len(features)], skeleton)
            )
    if not errors:
        return np.empty(0), np.empty(0), used
    aligned, drifting = zip(*(errors[place] for place in sorted(errors)), strict=True)
    return np.concatenate(aligned), np.concatenate(drifting), used


def evaluate_reconstruction(
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    clips: Sequence[np.ndarray],
    batch_size: int = 32,
) -> dict[str, float]:
    """Score the reconstruction of clips; see [`reconstruction_errors`] for the arguments.

    Returns:
        `mpjpe_mm` and `global_mpjpe_mm`, the [`joint_errors`] with and without aligned pelvises, averaged over the
        frames of all clips, and `codebook_use`, see [`codebook_use`].
    """
    aligned, drifting, used = reconstruction_errors(model, extractor, clips, batch_size)
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

"""How well the motion tokenizer keeps a motion: MPJPE and use of the codebook."""

from collections.abc import Sequence

import numpy as np
import torch

from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import SKELETONS

__all__ = ["evaluate_reconstruction"]


@torch.no_grad()
def evaluate_reconstruction(
    model: MotionVQVAEModel,
    extractor: LampFeatureExtractor,
    clips: Sequence[np.ndarray],
    batch_size: int = 32,
) -> dict[str, float]:
    """Reconstruct whole clips.

    Args:
        model: The tokenizer, in eval mode.
        extractor: Its feature extractor.
        clips: Unnormalised features `(T, D)`; clips shorter than one token are left out.
        batch_size: Clips at a time.

    Returns:
        `mpjpe_mm`: mean distance of joints after putting both pelvises at one place, as MoMask and MotionGPT
        measure it, averaged over frames of all clips; `global_mpjpe_mm`: the same with the root's drift left in;
        `codebook_use`: share of codes used at least once.
    """
    skeleton = SKELETONS[extractor.skeleton]
    frames_per_token = model.config.frames_per_token
    # Clips of like length share a batch: padding costs as much as frames do.
    order = sorted((i for i, clip in enumerate(clips) if len(clip) >= frames_per_token), key=lambda i: len(clips[i]))
    aligned: list[np.ndarray] = []
    drifting: list[np.ndarray] = []
    used = torch.zeros(model.config.num_codes, dtype=torch.bool)
    for start in range(0, len(order), batch_size):
        batch = [clips[i][: len(clips[i]) // frames_per_token * frames_per_token] for i in order[start:][:batch_size]]
        inputs = extractor(batch).to(model.device)
        output = model(**inputs)
        used[output.codes[output.codes >= 0].cpu()] = True
        reconstruction = extractor.denormalize(output.reconstruction.float().cpu().numpy())
        for features, rebuilt in zip(batch, reconstruction, strict=True):
            real = features_to_joints(features, skeleton)
            made = features_to_joints(rebuilt[: len(features)], skeleton)
            drifting.append(np.linalg.norm(real - made, axis=-1).mean(-1))
            aligned.append(np.linalg.norm((real - real[:, :1]) - (made - made[:, :1]), axis=-1).mean(-1))
    return {
        "mpjpe_mm": 1000 * float(np.concatenate(aligned).mean()),
        "global_mpjpe_mm": 1000 * float(np.concatenate(drifting).mean()),
        "codebook_use": float(used.float().mean()),
    }

"""Reconstruction protocol: the motion tokenizer encodes and decodes whole clips."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional.reconstruction import codebook_use, joint_errors, reconstruction_errors
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import SKELETONS
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, derangement, estimate, spread

if TYPE_CHECKING:
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel

__all__ = ["PROTOCOLS", "evaluate_reconstruction_protocol"]

VERSION = 1
PROTOCOLS = ("whole-clips",)


def evaluate_reconstruction_protocol(
    name: str,
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    data: EvaluationSet,
    *,
    repeats: int = 20,
    seed: int = 0,
    on_estimate: OnEstimate | None = None,
) -> EvaluationRecord:
    """Encode and decode whole clips and measure the errors.

    The reference "real motions" compares the clips with themselves. "another clip" compares each clip with a random
    other one, over the frames that both have: the score of a tokenizer that returns random real motions.

    Args:
        name: Name of the checkpoint.
        model: The tokenizer, in eval mode.
        extractor: Its feature extractor.
        data: At least two clips.
        repeats: Number of draws of other clips.
        seed: Seed of the first draw.
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record. All rows have `mpjpe_mm`, with the pelvises aligned, and `global_mpjpe_mm`, without alignment. The
        model also has `codebook_use`, the share of codes used at least once.

    Raises:
        ValueError: There are fewer than two clips, or all clips are shorter than a token.
    """
    if len(data) < 2:
        raise ValueError(
            f"reconstructions are compared with another clip, but there is only {len(data)} clip; use at least 2"
        )

    def work(clips: list[np.ndarray]) -> list[Any]:
        return [reconstruction_errors(model, extractor, clips)]

    estimate(on_estimate, data.clips, work, len(data), f"reconstructing {len(data)} clips")
    done = spread(data.clips, work)
    aligned, drifting = (np.concatenate([part[k] for part in done]) for k in (0, 1))
    if not len(aligned):
        raise ValueError(
            f"all clips are shorter than a token of {model.config.frames_per_token} frames; use longer ones"
        )
    used = set().union(*(part[2] for part in done))
    skeleton = SKELETONS[extractor.skeleton]
    joints = [features_to_joints(clip, skeleton) for clip in data.clips]
    chance = []
    for repeat in range(repeats):
        others = derangement(len(joints), np.random.default_rng(seed + repeat))
        errors = [_common_errors(clip, joints[other]) for clip, other in zip(joints, others, strict=True)]
        chance.append(_scores(*(np.concatenate([pair[k] for pair in errors]) for k in (0, 1))))
    real = [joint_errors(clip, clip) for clip in joints]
    scores = {**_scores(aligned, drifting), "codebook_use": codebook_use(model, used)}
    return EvaluationRecord(
        model=name,
        model_hash=weights_digest(model),
        lamp_hf=__version__,
        protocol=Protocol(
            "reconstruction",
            "whole-clips",
            VERSION,
            None,
            None,
            data.name,
            data.digest,
            data.split,
            len(data),
            repeats,
            seed,
        ),
        rows={name: {metric: Estimate(value) for metric, value in scores.items()}},
        references={
            "real motions": Estimate.of_rows([_scores(*(np.concatenate([pair[k] for pair in real]) for k in (0, 1)))]),
            "another clip": Estimate.of_rows(chance),
        },
    )


def _common_errors(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames = min(len(first), len(second))
    return joint_errors(first[:frames], second[:frames])


def _scores(aligned: np.ndarray, drifting: np.ndarray) -> dict[str, float]:
    return {"mpjpe_mm": 1000 * float(aligned.mean()), "global_mpjpe_mm": 1000 * float(drifting.mean())}

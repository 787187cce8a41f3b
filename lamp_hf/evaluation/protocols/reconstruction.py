"""Reconstruction protocol: the motion tokenizer encodes and decodes whole clips."""

from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional.reconstruction import codebook_use, joint_errors, reconstruct
from lamp_hf.metrics.functional.retrieval import require_pool
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS
from lamp_hf.version import __version__

from .common import (
    EvaluationSet,
    OnEstimate,
    derangement,
    embed_motions,
    embed_texts,
    estimate,
    shown_name,
    spread,
)
from .released import REAL, feature_rows

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel

__all__ = ["PROTOCOLS", "evaluate_reconstruction_protocol"]

VERSION = 1
PROTOCOLS = ("whole-clips",)
POOL_SIZE = 32
DIVERSITY_PAIRS = 300
OTHER = "another clip"


def evaluate_reconstruction_protocol(
    name: str,
    model: "MotionVQVAEModel",
    extractor: "LampFeatureExtractor",
    data: EvaluationSet,
    *,
    evaluator: "Embedder | None" = None,
    repeats: int = 20,
    seed: int = 0,
    pool_size: int = POOL_SIZE,
    on_estimate: OnEstimate | None = None,
) -> EvaluationRecord:
    """Encode and decode whole clips and measure the errors.

    The reference "real motions" compares the clips with themselves. "another clip" compares each clip with a random
    other one, over the frames that both have: the score of a tokenizer that returns random real motions.

    With an evaluator, FID, Diversity, R-Precision and MM-Dist are computed on the features of the first 196 frames of
    each reconstruction, with the clip's caption 0, as for generated motions.

    Args:
        name: Name of the checkpoint.
        model: The tokenizer, in eval mode.
        extractor: Its feature extractor.
        data: At least two clips, with an evaluator at least as many as a pool.
        evaluator: Embeds motions and captions. If it cannot embed sentences, R-Precision and MM-Dist are left out.
        repeats: Number of draws of other clips, of pools and of pairs.
        seed: Seed of the first draw.
        pool_size: Pairs in a pool of R-Precision. Smaller pools are easier, and their scores are not comparable.
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record. All rows have `mpjpe_mm`, with the pelvises aligned, and `global_mpjpe_mm`, without alignment. The
        model also has `codebook_use`, the share of codes used at least once. With an evaluator, they have the metrics
        above, except for `fid` and `diversity` of "another clip", which are those of real motions.

    Raises:
        ValueError: There are too few clips, or all clips are shorter than a token.
    """
    # Clips shorter than a token have no reconstruction.
    judged = [place for place, clip in enumerate(data.clips) if len(clip) >= model.config.frames_per_token]
    if evaluator is not None:
        require_pool(len(judged), pool_size)
    if len(data) < 2:
        raise ValueError(
            f"reconstructions are compared with another clip, but there is only {len(data)} clip; use at least 2"
        )

    def work(clips: list[np.ndarray]) -> list[Any]:
        found = {each.place: each for each in reconstruct(model, extractor, clips)}
        return [found.get(place) for place in range(len(clips))]

    estimate(on_estimate, data.clips, work, len(data), f"reconstructing {len(data)} clips")
    done = spread(data.clips, work)
    if not any(done):
        raise ValueError(
            f"all clips are shorter than a token of {model.config.frames_per_token} frames; use longer ones"
        )
    skeleton = SKELETONS[extractor.skeleton]
    used = set().union(*(each.codes for each in done if each is not None))
    errors = [
        joint_errors(features_to_joints(each.original, skeleton), features_to_joints(each.features, skeleton))
        for each in done
        if each is not None
    ]
    aligned, drifting = (np.concatenate([pair[k] for pair in errors]) for k in (0, 1))
    joints = [features_to_joints(clip, skeleton) for clip in data.clips]
    chance = []
    for repeat in range(repeats):
        others = derangement(len(joints), np.random.default_rng(seed + repeat))
        pairs = [_common_errors(clip, joints[other]) for clip, other in zip(joints, others, strict=True)]
        chance.append(_scores(*(np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))))
    real = [joint_errors(clip, clip) for clip in joints]
    scores = {**_scores(aligned, drifting), "codebook_use": codebook_use(model, used)}
    rows: dict[str, dict[str, Estimate]] = {
        name: {metric: Estimate(value) for metric, value in scores.items()},
        REAL: Estimate.of_rows([_scores(*(np.concatenate([pair[k] for pair in real]) for k in (0, 1)))]),
        OTHER: Estimate.of_rows(chance),
    }
    if evaluator is not None:
        rebuilt = [done[place].features for place in judged]
        for row, found in _feature_estimates(data.at(judged), rebuilt, evaluator, pool_size, repeats, seed).items():
            rows[row or name] |= found
    return EvaluationRecord(
        model=name,
        model_hash=weights_digest(model),
        lamp_hf=__version__,
        protocol=Protocol(
            "reconstruction",
            "whole-clips",
            VERSION,
            shown_name(evaluator.name) if evaluator else None,
            weights_digest(evaluator.model) if evaluator else None,
            data.name,
            data.digest,
            data.split,
            len(data),
            repeats,
            seed,
            {"pool_size": pool_size, "diversity_pairs": min(DIVERSITY_PAIRS, len(judged))} if evaluator else {},
        ),
        rows={name: rows.pop(name)},
        references=rows,
    )


def _feature_estimates(
    data: EvaluationSet, rebuilt: list[np.ndarray], evaluator: "Embedder", pool_size: int, repeats: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Return the metrics on an evaluator's features of the model (`""`), of real motions and of other clips."""
    motions = [
        Motion(features=features[:MAX_CLIP_FRAMES], fps=motion.fps, skeleton=motion.skeleton)
        for motion, features in zip(data.motions, rebuilt, strict=True)
    ]
    texts = embed_texts(evaluator, data)
    made, real = embed_motions(evaluator, motions), embed_motions(evaluator, data.motions)
    found: dict[str, list[dict[str, float]]] = {}
    for repeat in range(repeats):
        options: dict[str, Any] = {"groups": data.groups, "pool_size": pool_size}
        options["pairs"] = min(DIVERSITY_PAIRS, len(data))
        rows = feature_rows(made, real, texts, seed + repeat, **options)
        found.setdefault("", []).append(rows[""])
        found.setdefault(REAL, []).append(rows[REAL])
        if texts is not None:
            # The same draws: in a derangement of the clips, each has another one's motion.
            others = derangement(len(data), np.random.default_rng(seed + repeat))
            matches = feature_rows(real[others], real, texts, seed + repeat, **options)[""]
            found.setdefault(OTHER, []).append({k: v for k, v in matches.items() if k not in ("fid", "diversity")})
    return {row: Estimate.of_rows(scores) for row, scores in found.items()}


def _common_errors(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames = min(len(first), len(second))
    return joint_errors(first[:frames], second[:frames])


def _scores(aligned: np.ndarray, drifting: np.ndarray) -> dict[str, float]:
    return {"mpjpe_mm": 1000 * float(aligned.mean()), "global_mpjpe_mm": 1000 * float(drifting.mean())}

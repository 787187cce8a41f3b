"""Find near-duplicates in an index: one recording saved twice, not two recordings of one action."""

import numpy as np
import torch

from .candidates import group_means
from .index import Found, MotionIndex

__all__ = ["near_duplicates", "same_recording"]

# The model was trained to match motions with descriptions, so different takes of one action can be as similar as
# copies. Feature similarity therefore only selects the pairs whose latents are compared.
MIN_SIMILARITY = 0.9
NEIGHBORS = 32
BLOCK_ROWS = 1024
MAX_SHIFT_TOKENS = 2
MIN_OVERLAP = 0.8  # of the longer clip


def near_duplicates(index: MotionIndex, threshold: float = 0.85) -> list[list[Found]]:
    """Find groups of motions that appear to be copies of one recording.

    The search finds copies that were saved in another format, resampled, or perturbed by a millimeter, and most copies
    that were cut by whole tokens (4 frames). It may miss copies cut by part of a token, because one latent encodes all
    frames of a token. It does not find clips that only overlap, or mirror images. Different takes in which the body
    hardly moves may be reported as copies. A lower threshold finds more copies and more such false matches.

    Args:
        index: The index.
        threshold: Minimum [`same_recording`] score between a motion and an earlier one.

    Returns:
        Groups of rows, largest first. The rows of a group are in ascending order. The score of a row is that with its
        most similar earlier row; the first row has score 1.
    """
    rows = np.flatnonzero(index.alive)
    if not len(rows):
        return []
    one_group = [0] * index.features.shape[0]
    blocks = index.features.blocks(BLOCK_ROWS)
    means = np.concatenate([group_means(block, one_group)[:, 0] for _, block in blocks])[rows]
    leader = np.arange(len(rows))
    scores = np.ones(len(rows))
    vectors = torch.from_numpy(means)
    for first in range(0, len(rows), BLOCK_ROWS):
        similarities = vectors[first : first + BLOCK_ROWS] @ vectors.T
        values, neighbors = similarities.topk(min(NEIGHBORS + 1, len(rows)), dim=1)
        for k in range(len(values)):
            this = first + k
            near = neighbors[k][values[k] >= MIN_SIMILARITY].numpy()
            others = np.sort(near[near < this])
            if not len(others):
                continue
            latents = index.latents(rows[[this, *others]])
            compared = [same_recording(latents[0], other) for other in latents[1:]]
            if max(compared) >= threshold:
                leader[this] = leader[others[int(np.argmax(compared))]]
                if leader[this] != this:
                    scores[this] = max(compared)
    return _groups(rows, leader, scores)


def _groups(rows: np.ndarray, leader: np.ndarray, scores: np.ndarray) -> list[list[Found]]:
    groups: dict[int, list[Found]] = {}
    for row, first, score in zip(rows, leader, scores, strict=True):
        groups.setdefault(int(first), []).append(Found(int(row), float(score)))
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group[0].row))


def same_recording(first: np.ndarray, second: np.ndarray) -> float:
    """Score how likely two motions are the same recording, from their latents `(n, C)`.

    The score is 1 minus the norm of the difference relative to the norm of the latents, at the best shift. It is 1 for
    equal latents and 0 or less for unrelated ones.
    """
    longer = max(len(first), len(second))
    best = -np.inf
    for shift in range(-MAX_SHIFT_TOKENS, MAX_SHIFT_TOKENS + 1):
        a, b = first[max(shift, 0) :], second[max(-shift, 0) :]
        length = min(len(a), len(b))
        if length < MIN_OVERLAP * longer:
            continue
        a, b = a[:length], b[:length]
        size = np.sqrt((np.square(a).sum() + np.square(b).sum()) / 2)
        best = max(best, 1 - float(np.linalg.norm(a - b) / max(size, 1e-12)))
    return best

"""Near-duplicates in an index: the same recording saved twice, not two recordings of the same action."""

import numpy as np
import torch

from .candidates import group_means
from .index import Found, MotionIndex

__all__ = ["near_duplicates", "same_recording"]

# Takes of one action are as like as copies to a model that learned what actions are called. So likeness only finds
# whom to compare frame by frame.
LIKE = 0.9
NEIGHBORS = 32
BLOCK_ROWS = 1024
MAX_SHIFT_TOKENS = 2
MIN_OVERLAP = 0.8  # of the longer clip


def near_duplicates(index: MotionIndex, threshold: float = 0.85) -> list[list[Found]]:
    """Groups of motions that seem to be copies of one recording.

    Copies that were saved in another format, resampled or disturbed by a millimeter are found, and most that were
    cut by whole tokens (4 frames). Copies cut by a part of a token may be missed, for the latents of a token are
    those of its frames together; and clips that merely overlap are. Mirror images are no copies. Takes in which
    the body hardly moves may be taken for copies: lower thresholds find more of both.

    Args:
        index: The index.
        threshold: The least [`same_recording`] of a motion with one that came before it.

    Returns:
        Each group's rows in order, each with its score beside the one before it that it is most like, and the
        first with 1; largest groups first.
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
        likeness = vectors[first : first + BLOCK_ROWS] @ vectors.T
        values, neighbors = likeness.topk(min(NEIGHBORS + 1, len(rows)), dim=1)
        for k in range(len(values)):
            this = first + k
            near = neighbors[k][values[k] >= LIKE].numpy()
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
    """How far two motions are one recording: 1 if their latents `(n, C)` are equal, 0 or less if they differ wholly.

    It is one less the difference of the latents relative to their size, at the shift that fits best.
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

"""Random training examples that depend only on the seed and the number of the draw.

A run that resumes at step k therefore sees the same clips, crops and captions as a run without interruption.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

__all__ = ["ClipDraws", "balanced_weights", "random_part"]


def balanced_weights(labels: Sequence[Any], balance: float) -> np.ndarray:
    """Return the probability of each clip, such that a label's share is proportional to its count ** (1 - balance).

    Args:
        labels: Label of each clip.
        balance: With 0, all clips are equally likely; with 1, all labels are.

    Raises:
        ValueError: `balance` is outside [0, 1].
    """
    if not 0 <= balance <= 1:
        raise ValueError(f"balance={balance} is outside [0, 1]; choose a number in between")
    _, label, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    weights = counts[label].astype(np.float64) ** -balance
    return weights / weights.sum()


def random_part(length: int, size: int, rng: np.random.Generator) -> slice:
    """Return a random slice of `size` out of `length`, or all of it if `length` is not larger than `size`."""
    first = int(rng.integers(max(length - size, 0) + 1))
    return slice(first, first + size)


class ClipDraws(Dataset):
    """Dataset of `num_draws` random examples, each created by `make(clip_index, rng)` with its own generator.

    Args:
        make: Creates an example from the number of a clip and a random generator. The number is added to the example
            as `clip_number`.
        weights: Probability of each clip.
        num_draws: Length of the dataset: steps times batch size.
        seed: Seed of all draws.
        size: Returns the length of an example, to form batches of similar length, which saves padding. `None`: batches
            are random.
        batch_size: Examples of one optimization step, over all processes.
    """

    GROUPED_BATCHES = 16  # batches that are drawn together, sorted by length, and then shuffled

    def __init__(
        self,
        make: Callable[[int, np.random.Generator], dict[str, Any]],
        weights: np.ndarray,
        num_draws: int,
        seed: int,
        size: Callable[[dict[str, Any]], int] | None = None,
        batch_size: int = 1,
    ):
        self.make = make
        self.cumulative = np.cumsum(weights)
        self.num_draws = num_draws
        self.seed = seed
        self.size = size
        self.batch_size = batch_size
        self._group: tuple[int, list[dict[str, Any]]] = (-1, [])  # the last one, by its number

    def __len__(self) -> int:
        return self.num_draws

    def __getitem__(self, draw: int) -> dict[str, Any]:
        if self.size is None:
            return self._draw(int(draw))
        number, place = divmod(int(draw), self.GROUPED_BATCHES * self.batch_size)
        if self._group[0] != number:
            self._group = (number, self._grouped(number, self.size))
        return self._group[1][place]

    def _grouped(self, number: int, size: Callable[[dict[str, Any]], int]) -> list[dict[str, Any]]:
        """Draw the examples of several batches, and give each batch those of similar length."""
        first = number * self.GROUPED_BATCHES * self.batch_size
        stop = min(first + self.GROUPED_BATCHES * self.batch_size, self.num_draws)
        examples = sorted((self._draw(draw) for draw in range(first, stop)), key=size)
        starts = np.arange(0, len(examples), self.batch_size)
        np.random.default_rng((self.seed, number, 0)).shuffle(starts)
        return [example for start in starts for example in examples[start : start + self.batch_size]]

    def _draw(self, draw: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, int(draw)))
        clip = int(np.searchsorted(self.cumulative, rng.random() * self.cumulative[-1], side="right"))
        clip = min(clip, len(self.cumulative) - 1)
        return {**self.make(clip, rng), "clip_number": clip}

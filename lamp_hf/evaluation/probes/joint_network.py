"""A small network that recognizes actions from joint positions and velocities."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from lamp_hf.motion.limits import MAX_CLIP_FRAMES

from .body_series import body_series, mirrored_joints

__all__ = ["JointNetworkProbe"]

_CHANNELS = 135
_LONGEST = (MAX_CLIP_FRAMES + 1) // 2
_WIDTHS = (64, 96, 128)
_BATCH_SIZE = 64
_LABEL_SMOOTHING = 0.1


class _Network(nn.Module):
    """Convolutions over time, followed by mean and maximum pooling over the frames without padding."""

    def __init__(self, num_classes: int):
        super().__init__()
        sizes = (_CHANNELS, *_WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv1d(size, width, 5, stride=2 if layer < 2 else 1, padding=2)
            for layer, (size, width) in enumerate(pairwise(sizes))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in _WIDTHS)
        self.dropout = nn.Dropout(0.4)
        self.classify = nn.Linear(2 * _WIDTHS[-1] + 1, num_classes)

    def forward(self, series: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return class scores `(B, C)` of normalized series `(B, T, 135)` with `lengths` frames before the padding."""
        hidden, seconds = series.transpose(1, 2), lengths[:, None] / _LONGEST
        for layer, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            hidden = F.gelu(norm(conv(hidden).transpose(1, 2)))
            if layer < 2:
                lengths = (lengths + 1) // 2
            real = (torch.arange(hidden.shape[1]) < lengths[:, None])[..., None]
            hidden = (hidden * real).transpose(1, 2)
        lowest = hidden.masked_fill(~real.transpose(1, 2), -torch.inf)
        pooled = torch.cat([hidden.sum(-1) / lengths[:, None], lowest.amax(-1), seconds], dim=-1)
        return self.classify(self.dropout(pooled))


class JointNetworkProbe:
    """A network of three convolutions over [`body_series`], trained on clips and their mirror images.

    Training is deterministic: equal clips and seeds give equal weights on the same machine.

    Args:
        epochs: Number of passes over the clips. In each pass, a random half of them is mirrored.
        learning_rate: Highest learning rate of the one-cycle schedule.
        seed: Seed of the weights, the order of the clips and the mirroring.
    """

    kind = "joint network"

    def __init__(self, *, epochs: int = 24, learning_rate: float = 3e-3, seed: int = 0):
        self.epochs, self.learning_rate, self.seed = epochs, learning_rate, seed
        self.classes: list[str] = []

    def fit(self, clips: Sequence[np.ndarray], labels: Sequence[str]) -> "JointNetworkProbe":
        """Train on joints `(T, 22, 3)` of clips at 20 fps and their labels."""
        self.classes = sorted(set(labels))
        targets = torch.tensor([self.classes.index(label) for label in labels])
        versions = [[body_series(clip) for clip in clips], [body_series(mirrored_joints(clip)) for clip in clips]]
        every = np.concatenate(versions[0] + versions[1])
        self._mean = torch.from_numpy(every.mean(0))
        self._scale = torch.from_numpy(np.maximum(every.std(0), 0.05))
        versions = [[self._normalized(series) for series in version] for version in versions]  # type: ignore[misc]
        counts = torch.bincount(targets, minlength=len(self.classes)).float()
        # Weights of 1 / sqrt(count) are a compromise between equal weights for clips and equal weights for actions.
        weights = counts.rsqrt() / counts.rsqrt().mean()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._network = _Network(len(self.classes))
            self._train(versions, targets, weights)  # type: ignore[arg-type]
        return self

    def _train(self, versions: list[list[torch.Tensor]], targets: torch.Tensor, weights: torch.Tensor) -> None:
        network, rng = self._network.train(), np.random.default_rng(self.seed)
        count = len(targets)
        per_epoch = -(-count // _BATCH_SIZE)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.epochs * per_epoch, pct_start=0.2
        )
        for _ in range(self.epochs):
            order = rng.permutation(count)
            mirrored = rng.integers(2, size=count)
            for start in range(0, count, _BATCH_SIZE):
                rows = order[start : start + _BATCH_SIZE]
                series, lengths = _padded([versions[mirrored[row]][row] for row in rows])
                loss = F.cross_entropy(
                    network(series, lengths), targets[rows], weights, label_smoothing=_LABEL_SMOOTHING
                )
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
        network.eval()

    @torch.no_grad()
    def probabilities(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Return the probabilities `(N, C)` of the classes, in the order of `classes`."""
        found = []
        for start in range(0, len(clips), _BATCH_SIZE):
            part = clips[start : start + _BATCH_SIZE]
            found.append(self._network(*_padded([self._normalized(body_series(clip)) for clip in part])).softmax(-1))
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.classes)))

    def _normalized(self, series: np.ndarray) -> torch.Tensor:
        return ((torch.from_numpy(series) - self._mean) / self._scale).clamp(-8.0, 8.0)

    def save(self, path: Path) -> None:
        """Save weights, statistics and classes as safetensors."""
        tensors = {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {"mean": self._mean, "scale": self._scale}
        save_file(tensors, path, metadata={"classes": "\n".join(self.classes)})

    @classmethod
    def load(cls, path: Path) -> "JointNetworkProbe":
        """Load a probe that [`save`] wrote.

        Raises:
            FileNotFoundError: There is no such file.
        """
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            classes = file.metadata()["classes"].split("\n")
        tensors = load_file(path)
        probe = cls()
        probe.classes = classes
        probe._mean, probe._scale = tensors.pop("mean"), tensors.pop("scale")
        probe._network = _Network(len(classes))
        probe._network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in tensors.items()})
        probe._network.eval()
        return probe


def _padded(series: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(item) for item in series])
    return nn.utils.rnn.pad_sequence(list(series), batch_first=True), lengths

"""MPJPE and codebook usage for a tokenizer with a known error."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor


class ShiftingTokenizer:
    """Reconstructs motions with one feature shifted by some meters; the codes count the tokens of a clip."""

    device = torch.device("cpu")
    config = SimpleNamespace(frames_per_token=4, num_codes=20, num_quantizers=1)

    def __init__(self, feature: int, shift: float):
        self.feature, self.shift = feature, shift

    def __call__(self, motion_values, motion_attention_mask):
        tokens = motion_attention_mask[:, ::4]
        codes = torch.arange(tokens.shape[1]).expand(tokens.shape).masked_fill(tokens == 0, -100)
        reconstruction = motion_values.clone()
        reconstruction[..., self.feature] += self.shift
        return SimpleNamespace(codes=codes, reconstruction=reconstruction)


@pytest.fixture
def clips(procedural) -> list[np.ndarray]:
    return [procedural.walker(frames, turn=0.3).features for frames in (42, 3, 23)]


def test_height_errors_are_separated_from_pose_errors(clips):
    extractor = LampFeatureExtractor()
    root_height, knee_height = 3, 4 + 3 * (4 - 1) + 1
    root = evaluate_reconstruction(ShiftingTokenizer(root_height, 0.022), extractor, clips)
    # The heights of the other joints are separate features, so only the pelvis moves.
    assert root["global_mpjpe_mm"] == pytest.approx(1.0, abs=1e-3)
    assert root["mpjpe_mm"] == pytest.approx(21.0, abs=1e-3)
    knee = evaluate_reconstruction(ShiftingTokenizer(knee_height, 0.022), extractor, clips)
    assert knee["mpjpe_mm"] == pytest.approx(1.0, abs=1e-3)
    assert knee["global_mpjpe_mm"] == pytest.approx(1.0, abs=1e-3)


def test_each_code_counts_once_and_padding_does_not_count(clips):
    # 42 frames of joints give 41 of features, ten tokens; the clip of two frames has none.
    assert evaluate_reconstruction(ShiftingTokenizer(0, 0.0), LampFeatureExtractor(), clips) == {
        "mpjpe_mm": 0.0,
        "global_mpjpe_mm": 0.0,
        "codebook_use": 0.5,
    }


def test_root_drift_is_removed(clips):
    forward_velocity = 2
    drifting = evaluate_reconstruction(ShiftingTokenizer(forward_velocity, 0.01), LampFeatureExtractor(), clips)
    assert drifting["mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)
    assert drifting["global_mpjpe_mm"] > 50

"""Fixtures of the model tests."""

from collections.abc import Callable

import pytest
import torch

from lamp_hf.modeling.configuration_lamp import LampConfig, LampTextToMotionConfig, MotionVQVAEConfig
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion


@pytest.fixture(scope="session")
def released_lamp_config() -> Callable[..., LampConfig]:
    """Builds the configuration of the LaMP in the reference files, with the released code's values."""

    def build(max_text_length: int = 12, **changes) -> LampConfig:
        return LampConfig(
            motion_vqvae_config=MotionVQVAEConfig(hidden_size=32, code_dim=16, num_codes=32),
            vocab_size=155,
            bos_token_id=154,
            eos_token_id=3,
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=96,
            max_position_embeddings=64,
            num_query_tokens=7,
            motion_hidden_size=64,
            projection_dim=24,
            mask_motion_padding=False,
            mask_text_padding=False,
            separate_motion_encoder=True,
            max_text_length=max_text_length,
            **changes,
        )

    return build


@pytest.fixture(scope="session")
def tiny_text_to_motion() -> Callable[..., LampForTextToMotion]:
    """Builds a small text-to-motion model whose weights are large enough for its inputs to matter."""

    def build(seed: int = 0, lamp: dict | None = None, num_quantizers: int = 1, **changes) -> LampForTextToMotion:
        torch.manual_seed(seed)
        lamp_config = LampConfig(
            **{
                "motion_vqvae_config": MotionVQVAEConfig(
                    hidden_size=16, code_dim=8, num_codes=24, num_quantizers=num_quantizers
                ),
                "vocab_size": 40,
                "bos_token_id": 39,
                "eos_token_id": 2,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 48,
                "max_position_embeddings": 24,
                "num_query_tokens": 5,
                "motion_hidden_size": 20,
                "projection_dim": 12,
                "max_text_length": 16,
                "initializer_range": 0.2,
                **(lamp or {}),
            }
        )
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "attention_bias": "none",
            "max_motion_tokens": 12,
            "length_hidden_sizes": [16],
            "initializer_range": 0.3,
        }
        return LampForTextToMotion(LampTextToMotionConfig(lamp_config=lamp_config, **{**sizes, **changes})).eval()

    return build

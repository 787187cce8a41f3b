"""Configuration of the decoding of motion tokens."""

import math
from typing import Any

import numpy as np
from transformers import GenerationConfig

__all__ = ["MaskedMotionGenerationConfig"]

MAX_STEPS = 1_000  # more is likely a mistake and would take hours


class MaskedMotionGenerationConfig(GenerationConfig):
    """Generation settings of [`LampForTextToMotion`]; saved as `generation_config.json` (T5).

    Args:
        num_inference_steps: Number of decoding steps, up to 1,000. Each step keeps the most confident tokens. More
            steps than a motion has tokens do not help.
        guidance_scale: Scale of classifier-free guidance. 1 turns guidance off; larger values follow the text more
            closely.
        temperature: Sampling temperature; 0 always takes the most likely code.
        top_k: Number of most likely codes to sample from. Defaults to a tenth of all codes, as in the released code.
        top_p: Sample from the smallest set of most likely codes whose probabilities sum to this value. `None` turns
            the filter off.
        remasking_noise: Scale of the Gumbel noise added to the log probabilities that decide which tokens are masked
            again; it fades with the share of masked tokens (MaskGIT, Chang et al., 2022, appendix). Without noise, as
            in the released code, tokens of poses that most motions share, such as standing, are kept first, and the
            other tokens follow them.
        seed: Seed of calls that do not give one. With `None`, a seed is drawn for every motion.
    """

    fields = ("num_inference_steps", "guidance_scale", "temperature", "top_k", "top_p", "remasking_noise", "seed")

    def __init__(
        self,
        *,
        num_inference_steps: int = 10,
        guidance_scale: float = 4.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        remasking_noise: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        self.num_inference_steps = num_inference_steps
        self.remasking_noise = remasking_noise
        self.seed = seed
        super().__init__(guidance_scale=guidance_scale, temperature=temperature, top_k=top_k, top_p=top_p, **kwargs)

    @classmethod
    def from_model_config(cls, model_config: Any) -> "MaskedMotionGenerationConfig":
        """Return the defaults; a model's configuration has no generation settings."""
        return cls()

    def validate(self, strict: bool = False, user_set_attributes: set[str] | None = None) -> None:
        """Check all values.

        Raises:
            ValueError: A value has the wrong type or is out of bounds; the message gives its name and value.
        """
        rules: tuple[tuple[str, str, bool], ...] = (
            (
                "num_inference_steps",
                f"a whole number from 1 to {MAX_STEPS:,}",
                whole(self.num_inference_steps, MAX_STEPS),
            ),
            ("guidance_scale", "a number of at least 0", at_least_0(self.guidance_scale)),
            ("temperature", "a number of at least 0", at_least_0(self.temperature)),
            ("top_k", "None or a whole number of at least 1", self.top_k is None or whole(self.top_k)),
            (
                "top_p",
                "None or a number above 0 and up to 1",
                self.top_p is None or (at_least_0(self.top_p) and 0 < self.top_p <= 1),
            ),
            ("remasking_noise", "a number of at least 0", at_least_0(self.remasking_noise)),
            ("seed", SEEDS, self.seed is None or is_seed(self.seed)),
        )
        for name, expected, valid in rules:
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)!r} is not {expected}")


def whole(value: Any, most: int | None = None, least: int = 1) -> bool:
    """Return whether a value is a whole number within these bounds; `True` is not a number."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_whole and value >= least and (most is None or value <= most)


def at_least_0(value: Any) -> bool:
    """Return whether a value is a finite number of at least 0; `True` is not a number."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


SEEDS = "None or a whole number of at least 0 and below 2**63"


def is_seed(value: Any) -> bool:
    """Return whether torch's generators accept a value as seed."""
    return whole(value, 2**63 - 1, least=0)

"""Configuration of the decoding of motion tokens."""

import math
from typing import Any

import numpy as np
from transformers import GenerationConfig

__all__ = ["MaskedMotionGenerationConfig"]

MAX_STEPS = 1_000  # more would take hours, which nobody means


class MaskedMotionGenerationConfig(GenerationConfig):
    """How motion tokens are decoded; saved as `generation_config.json` (T5).

    Args:
        num_inference_steps: Passes of the network, in each of which the surest tokens are kept, up to 1,000. More
            than a motion has tokens serve no purpose.
        guidance_scale: Weight of the text: 1 is the plain model, more follows the text more closely.
        temperature: Of the draw of codes; 0 takes the likeliest.
        top_k: Only that many of the likeliest codes may be drawn; `None` means a tenth of all, as released.
        top_p: Only the likeliest codes that together reach this probability may be drawn; `None`: no limit.
        remasking_noise: Gumbel noise on the log probabilities by which the least sure tokens are masked again, fading
            with the share of masked tokens (MaskGIT, Chang et al., 2022, appendix). Without it, as released, tokens
            of poses that all motions have in common, such as standing, are sure first, and the others follow them.
        seed: Seed of calls that give none; `None` draws one for every motion.
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
        """The defaults: a model's configuration says nothing about decoding."""
        return cls()

    def validate(self, strict: bool = False, user_set_attributes: set[str] | None = None) -> None:
        """Refuse values that cannot work, by name and value.

        Raises:
            ValueError: A value is of another type than expected, or out of bounds.
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
        for name, expected, holds in rules:
            if not holds:
                raise ValueError(f"{name}={getattr(self, name)!r} is not {expected}")


def whole(value: Any, most: int | None = None, least: int = 1) -> bool:
    """Whether a value is a whole number of these bounds; `True` is not one."""
    whole_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return whole_number and value >= least and (most is None or value <= most)


def at_least_0(value: Any) -> bool:
    """Whether a value is a finite number of at least 0; `True` is not one."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and 0 <= value < math.inf


SEEDS = "None or a whole number from 0 and below 2**63"


def is_seed(value: Any) -> bool:
    """Whether torch's generators take it."""
    return whole(value, 2**63 - 1, least=0)

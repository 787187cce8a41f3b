"""Score motions generated for Bandai-Namco's labels with probes trained on the real clips."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from datasets import Dataset, DatasetDict

from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion

from .probe import MotionProbe, flipped

__all__ = ["LabeledClips", "TextToMotionJudge", "paraphrase", "paraphrases"]

_SIDED_WITHOUT_PARTNER = ("bye", "guide", "respond")  # no label describes their mirror images


@cache
def paraphrases() -> dict[str, Any]:
    """Return wordings that no training caption uses: `subjects`, `clauses` by content, and `styles` by style."""
    text = (files("lamp_hf.data.bandai_namco") / "paraphrases.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def paraphrase(content: str, style: str, rng: random.Random) -> str:
    """Compose a sentence for a pair of labels. The style "normal" is not mentioned."""
    parts = paraphrases()
    sentence = f"{rng.choice(parts['subjects'])} {rng.choice(parts['clauses'][content])}"
    return sentence if style == "normal" else f"{sentence}, {rng.choice(parts['styles'][style])}"


@dataclass(frozen=True)
class LabeledClips:
    """Clips as joints `(T, 22, 3)`, with their labels."""

    joints: list[np.ndarray]
    contents: list[str]
    styles: list[str]

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> "LabeledClips":
        """Load the clips of a split, cropped to 196 frames, without mirror images that no label describes."""
        rows = [
            row
            for row in with_numpy_motion(dataset)
            if not (row["mirrored"] and row["content"] in _SIDED_WITHOUT_PARTNER)
        ]
        return cls(
            joints=[Motion(features=row["motion"][:MAX_CLIP_FRAMES]).joints for row in rows],
            contents=[row["content"] for row in rows],
            styles=[row["style"] for row in rows],
        )


class TextToMotionJudge:
    """Scores motions with probes for content and style, trained on the training split.

    Args:
        dataset: Bandai-Namco's splits `train` and `validation`.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, dataset: DatasetDict):
        train = LabeledClips.from_dataset(dataset["train"])
        self.validation = LabeledClips.from_dataset(dataset["validation"])
        self._content = MotionProbe(regularization=0.1).fit(train.joints, train.contents)
        self._style = MotionProbe(regularization=0.1).fit(train.joints, train.styles)

    def judge(self, joints: Sequence[np.ndarray], contents: Sequence[str], styles: Sequence[str]) -> dict[str, float]:
        """Score motions against the labels that they were generated for.

        Returns:
            `content_accuracy` and `style_accuracy`, the shares whose label is recognized; `flips`, the share of actions
            with a side that are performed on the other side; `foot_skating` (see `Motion.foot_skating`), and `jitter`
            (m/s³).
        """
        found_contents, found_styles = self._content.predict(joints), self._style.predict(joints)
        sides = [flipped(clip, content) for clip, content in zip(joints, contents, strict=True)]
        known = [side for side in sides if side is not None]
        motions = [Motion(joints=clip) for clip in joints]
        return {
            "content_accuracy": float(np.mean([a == b for a, b in zip(found_contents, contents, strict=True)])),
            "style_accuracy": float(np.mean([a == b for a, b in zip(found_styles, styles, strict=True)])),
            "flips": float(np.mean(known)) if known else 0.0,
            "foot_skating": float(np.mean([motion.foot_skating() for motion in motions])),
            "jitter": float(np.mean([motion.jitter() for motion in motions])),
        }

    def content_accuracies(self, joints: Sequence[np.ndarray], contents: Sequence[str]) -> dict[str, float]:
        """Return the share of motions whose content is recognized, for each content."""
        hits: dict[str, list[bool]] = {}
        for found, content in zip(self._content.predict(joints), contents, strict=True):
            hits.setdefault(content, []).append(found == content)
        return {content: float(np.mean(hits[content])) for content in sorted(hits)}

    def judge_validation(self) -> dict[str, float]:
        """Score the real validation clips."""
        clips = self.validation
        return self.judge(clips.joints, clips.contents, clips.styles)

    def generate_and_judge(
        self, pipe: Any, texts: Sequence[str], *, seed: int = 0, batch_size: int = 32, real_lengths: bool = True
    ) -> tuple[dict[str, float], list[Motion]]:
        """Generate one motion for every validation clip and score them.

        Args:
            pipe: A text-to-motion pipeline.
            texts: One for every validation clip.
            seed: Seed of the first motion; each following motion uses the next number.
            batch_size: Motions per batch.
            real_lengths: Use the lengths of the real clips. If `False`, the model estimates the lengths.

        Returns:
            The scores of [`judge`], and the motions.
        """
        from lamp_hf.pipelines.text_warnings import for_measurement

        clips = self.validation
        lengths = {"num_frames": [max(4, len(clip) // 4 * 4) for clip in clips.joints]} if real_lengths else {}
        with for_measurement():
            results = pipe(list(texts), seed=[seed + i for i in range(len(texts))], batch_size=batch_size, **lengths)
        motions = [result["motion"] for result in results]
        return self.judge([motion.joints for motion in motions], clips.contents, clips.styles), motions

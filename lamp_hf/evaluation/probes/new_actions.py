"""Whether a fine-tuned model does what it was taught, and still what it could do before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.protocols.text_to_motion import generate_for_clips

from .probe import MotionProbe

if TYPE_CHECKING:
    from lamp_hf.evaluation.protocols.common import EvaluationSet
    from lamp_hf.motion.motion import Motion

__all__ = ["ActionJudge", "motions_of"]

KNOWN = "(what the base did before)"
UNLABELED = "(new)"
BATCH_SIZE = 32


class ActionJudge:
    """A probe that tells the actions of new clips from each other and from all that the base did before.

    It is trained on real clips and on motions of the base, and asked about motions that a model makes for the captions
    of other clips. Clips without labels are one action.

    Args:
        train: New clips to learn from.
        validation: New clips whose captions are asked for.
        known: Motions of the base, to learn from.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """

    def __init__(self, train: "EvaluationSet", validation: "EvaluationSet", known: Sequence["Motion"]):
        self.validation = validation
        self.actions = _actions(validation)
        joints = [motion.joints for motion in train.motions] + [motion.joints for motion in known]
        self._probe = MotionProbe(regularisation=0.1).fit(joints, _actions(train) + [KNOWN] * len(known))

    def real(self) -> float:
        """Share of the real validation clips whose action is recognized."""
        return self._probe.accuracy([motion.joints for motion in self.validation.motions], self.actions)

    def generated(self, pipe: Any, seed: int) -> dict[str, float]:
        """Share of a model's motions in which the action asked for is recognized: of all, and by action.

        Args:
            pipe: A text-to-motion pipeline; it makes a motion for caption 0 of every validation clip, of its length.
            seed: Of the first motion; the others count on.
        """
        jobs = [(clip, seed + clip) for clip in range(len(self.validation))]
        motions = generate_for_clips(pipe, self.validation, jobs)
        hits = np.asarray(self._recognized(motions)) == np.asarray(self.actions)
        by_action = {
            action: float(hits[np.asarray(self.actions) == action].mean()) for action in sorted(set(self.actions))
        }
        return {"all": float(hits.mean()), **({} if len(by_action) == 1 else by_action)}

    def kept(self, motions: Sequence["Motion"]) -> float:
        """Share of a model's motions, for texts that the base knew, that are not taken for one of the new actions."""
        return float(np.mean([found == KNOWN for found in self._recognized(motions)]))

    def _recognized(self, motions: Sequence["Motion"]) -> list[str]:
        return self._probe.predict([motion.joints for motion in motions])


def _actions(clips: "EvaluationSet") -> list[str]:
    return [content or UNLABELED for content in clips.contents]


def motions_of(pipe: Any, texts: Sequence[str], seed: int) -> list["Motion"]:
    """A motion for each text, of the length that the model chooses; the seeds count on from `seed`."""
    from lamp_hf.pipelines.text_warnings import for_measurement

    seeds = [seed + number for number in range(len(texts))]
    with for_measurement():
        return [result["motion"] for result in pipe(list(texts), seed=seeds, batch_size=BATCH_SIZE)]

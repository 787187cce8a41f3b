"""Motions: their values, their mathematics and their files. Needs NumPy, but no neural network."""

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.motion import Motion, MotionReport
from lamp_hf.motion.retarget import Character, CharacterMotion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, Skeleton

__all__ = [
    "HUMANML3D_22",
    "KIT_21",
    "Character",
    "CharacterMotion",
    "Motion",
    "MotionFormatError",
    "MotionReport",
    "Skeleton",
]

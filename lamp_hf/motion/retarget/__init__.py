"""Retarget motions onto characters: GLB, VRM and BVH files with a skeleton of any rig, proportions and rest pose."""

from lamp_hf.motion.retarget.animation import CharacterMotion
from lamp_hf.motion.retarget.character import Character
from lamp_hf.motion.retarget.retargeting import retarget

__all__ = ["Character", "CharacterMotion", "retarget"]

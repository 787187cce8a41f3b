"""Retarget motions onto characters: GLB, VRM and BVH files with a skeleton of any rig, proportions and rest pose."""

from lamp_hf.motion.retarget.animation import OUTPUT_SUFFIXES, CharacterMotion, check_output
from lamp_hf.motion.retarget.character import Character
from lamp_hf.motion.retarget.retargeting import retarget

__all__ = ["OUTPUT_SUFFIXES", "Character", "CharacterMotion", "check_output", "retarget"]

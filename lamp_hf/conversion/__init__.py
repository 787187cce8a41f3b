"""Conversion of the authors' original checkpoints to checkpoints of lamp_hf."""

from .converter import convert

__all__ = ["convert"]

"""The authors' original checkpoints become checkpoints of lamp_hf."""

from .converter import convert

__all__ = ["convert"]

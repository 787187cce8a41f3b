"""Exchange with the outside: model cards and the authors' original checkpoints."""

from typing import Any

__all__ = ["convert"]


def __getattr__(name: str) -> Any:
    if name == "convert":  # it loads torch, which `lamp-hf info` does without
        from lamp_hf.hub.conversion import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

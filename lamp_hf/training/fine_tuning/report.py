"""What fine-tuning did, as its folder keeps it."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lamp_hf.files import atomic_path

__all__ = ["REPORT", "Clock", "FineTuning"]

REPORT = "fine-tuning.json"


@dataclass
class FineTuning:
    """What [`fine_tune`] did; `fine-tuning.json` in its folder.

    Args:
        base, data, lora, overrides, seed: As they were asked for.
        clips: SHA-256 of the ids, lengths and captions of all clips.
        stages: What became of each part of the model, and why.
        scores: By measure: `before` and `after`, on validation clips, and `real` where real clips have it too.
        minutes: By what took them.
        finished: Whether everything is done.
    """

    base: str
    data: str
    lora: bool
    overrides: list[str]
    seed: int
    clips: str = ""
    stages: dict[str, str] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    minutes: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What it must have in common with an earlier one to go on from there."""
        return {name: getattr(self, name) for name in ("base", "data", "lora", "overrides", "seed")}

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / REPORT) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Clock:
    """Minutes of each part of the work, those of earlier runs included."""

    def __init__(self, report: FineTuning):
        self.minutes = report.minutes
        self.part = ""

    def __call__(self, part: str) -> "Clock":
        self.part = part
        return self

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.minutes[self.part] = self.minutes.get(self.part, 0.0) + (time.monotonic() - self.start) / 60

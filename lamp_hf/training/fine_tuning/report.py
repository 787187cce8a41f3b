"""Report of a fine-tuning run, saved in its output folder."""

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
    """Report of [`fine_tune`], saved as `fine-tuning.json` in the output folder.

    Args:
        base, data, lora, overrides, seed: Arguments of [`fine_tune`].
        clips: SHA-256 of the ids, lengths and captions of all clips.
        stages: For each part of the model, whether it was trained or kept, and why.
        scores: For each metric, its values `before` and `after` on validation clips, and on `real` clips if it is
            defined for them.
        minutes: Minutes of each part of the work.
        finished: Whether the run is complete.
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
        """Arguments that must be the same to resume an earlier run."""
        return {name: getattr(self, name) for name in ("base", "data", "lora", "overrides", "seed")}

    def save(self, folder: Path) -> None:
        """Save the report in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / REPORT) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


class Clock:
    """Context manager that adds up the minutes of each part of the work, including earlier, interrupted runs."""

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

"""Facts about the takes of the CMU database: true frame rates, splits, copies, and the database's descriptions."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import StringIO
from pathlib import Path

CLAIMED_FPS = 120  # every public BVH conversion specifies this rate, even for takes captured at 60
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class TakeFacts:
    """Facts about a take.

    Attributes:
        take: Number of the take, such as "01_01".
        capture_fps: Frames per second at which it was captured, 120 or 60.
        evidence: Evidence for `capture_fps`: "annotated", "same subject", "physics" or "assumed".
        split: "train", "validation" or "test"; empty if the take has no split.
        copy_of: The take that contains the same motion under another number, or empty.
        two_people: Whether another person was recorded in the same take.
        description: The database's description, or empty.
    """

    take: str
    capture_fps: int = CLAIMED_FPS
    evidence: str = "assumed"
    split: str = ""
    copy_of: str = ""
    two_people: bool = False
    description: str = ""

    @property
    def subject(self) -> str:
        """Number of the person, such as "01"."""
        return self.take.split("_")[0]

    @property
    def speed_factor(self) -> float:
        """Factor by which the take plays too fast in a file that specifies 120 frames per second."""
        return CLAIMED_FPS / self.capture_fps


@cache
def packaged_facts() -> Mapping[str, TakeFacts]:
    """Return the facts of 2,498 takes by number. Takes that have neither a split nor `copy_of` are not used."""
    return _read_facts(files(__package__).joinpath("takes.csv").read_text(encoding="utf-8"), "takes.csv")


@cache
def subject_categories() -> Mapping[str, str]:
    """Return the database's description of what each subject does, by subject number."""
    text = files(__package__).joinpath("subjects.csv").read_text(encoding="utf-8")
    return {row["subject"]: row["category"] for row in csv.DictReader(StringIO(text))}


def facts_beside(root: Path) -> Mapping[str, TakeFacts]:
    """Return the packaged facts, overridden for the takes that are listed in a `takes.csv` in this folder.

    Raises:
        ValueError: The table lacks a column, or one of its lines is invalid.
    """
    table = root / "takes.csv"
    if not table.is_file():
        return packaged_facts()
    given = _read_facts(table.read_text(encoding="utf-8-sig"), str(table))
    # A listed take is loaded even if the packaged facts call it a copy of another take.
    return {**packaged_facts(), **given}


def _read_facts(text: str, where: str) -> dict[str, TakeFacts]:
    reader = csv.DictReader(StringIO(text))
    columns = reader.fieldnames or []
    for column in ("take", "capture_fps", "split"):
        if column not in columns:
            raise ValueError(f"{where}: expected the columns take, capture_fps and split, found {', '.join(columns)}")
    facts = {}
    for row in reader:
        line = f"{where} line {reader.line_num}"
        if not (row["capture_fps"] or "").isdigit() or int(row["capture_fps"]) == 0:
            raise ValueError(f"{line}: expected capture_fps as a whole number, found {row['capture_fps']!r}")
        split = row["split"] or ""
        if split and split not in _SPLITS:
            raise ValueError(f"{line}: expected split to be one of {', '.join(_SPLITS)}, found {split!r}")
        description = row.get("description") or ""
        if row.get("informative", "yes") == "no":
            description = (row.get("other_descriptions") or "").split("|")[0]
        facts[row["take"]] = TakeFacts(
            take=row["take"],
            capture_fps=int(row["capture_fps"]),
            evidence=row.get("evidence") or row.get("fps_evidence") or "assumed",
            split=_SPLITS.get(split, ""),
            copy_of=row.get("copy_of") or "",
            two_people=row.get("two_people") in ("1", "yes"),
            description=description.strip(),
        )
    return facts

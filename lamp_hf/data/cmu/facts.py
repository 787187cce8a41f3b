"""What is known of the takes of the CMU database: true frame rates, splits, copies, and the database's own words."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import StringIO
from pathlib import Path

CLAIMED_FPS = 120  # what every public BVH conversion says, whatever the take was captured at
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True)
class TakeFacts:
    """What is known of a take.

    Attributes:
        take: its number, such as "01_01".
        capture_fps: frames per second at which it was captured, 120 or 60.
        evidence: how that is known: "annotated", "same subject", "physics" or "assumed".
        split: "train", "validation" or "test"; empty for takes that no list names.
        copy_of: the take that has the same motion under another number, or empty.
        two_people: whether another person was recorded in the same take.
        description: the database's own words, or empty.
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
        """How many times too fast the take plays in a file that claims 120 frames per second."""
        return CLAIMED_FPS / self.capture_fps


@cache
def packaged_facts() -> Mapping[str, TakeFacts]:
    """Facts of 2,498 takes by their numbers; those without a split and not a copy belong to no list."""
    return _read_facts(files(__package__).joinpath("takes.csv").read_text(encoding="utf-8"), "takes.csv")


@cache
def subject_categories() -> Mapping[str, str]:
    """What the database says each subject does, by the subject's number."""
    text = files(__package__).joinpath("subjects.csv").read_text(encoding="utf-8")
    return {row["subject"]: row["category"] for row in csv.DictReader(StringIO(text))}


def facts_beside(root: Path) -> Mapping[str, TakeFacts]:
    """The packaged facts, and those of a `takes.csv` in this folder, which takes precedence for its takes.

    Raises:
        ValueError: the table lacks a column, or a line of it cannot be used.
    """
    table = root / "takes.csv"
    if not table.is_file():
        return packaged_facts()
    given = _read_facts(table.read_text(encoding="utf-8-sig"), str(table))
    # A take that the table lists is one to load, though the package may know it as the copy of another.
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
            raise ValueError(f"{line}: expected split to be among {', '.join(_SPLITS)}, found {split!r}")
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

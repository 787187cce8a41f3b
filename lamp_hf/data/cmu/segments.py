"""Segments of takes with captions: the lines of `captions.jsonl`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from lamp_hf.data.cmu.facts import TakeFacts, subject_categories
from lamp_hf.data.cmu.takes import MIN_SECONDS
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.skeleton import HUMANML3D_22

MAX_SECONDS = MAX_CLIP_FRAMES / HUMANML3D_22.default_fps  # 9.8 s
_ROUNDING_S = 0.11  # times have one decimal, and features have one frame less than the take


@dataclass(frozen=True)
class Segment:
    """Part of a take with its captions.

    Attributes:
        take: Number of the take.
        start, end: Seconds in the take.
        captions: Sentences, each true for the whole segment.
    """

    take: str
    start: float
    end: float
    captions: tuple[str, ...]

    @property
    def id(self) -> str:
        """Unique name, such as "01_01@2.5-6s"."""
        return f"{self.take}@{self.start:g}-{self.end:g}s"

    def frames(self, fps: float) -> slice:
        """Return the frames of the segment in the take."""
        return slice(round(self.start * fps), round(self.end * fps))


def packaged_segments(name: str = "captions") -> tuple[Segment, ...]:
    """Return the segments with the captions of this package.

    Args:
        name: "captions", or "rewordings" for independently written captions of some segments. Use the latter only to
            measure how a model handles other wordings, not for training.
    """
    file_name = f"{name}.jsonl"
    return tuple(parse_segments(files(__package__).joinpath(file_name).read_text(encoding="utf-8"), file_name))


def read_segments(path: Path) -> tuple[Segment, ...]:
    """Read segments from a file with one JSON object per line: take, start, end, captions.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A line is invalid; the message names it.
    """
    return tuple(parse_segments(path.read_text(encoding="utf-8"), str(path)))


def parse_segments(text: str, where: str) -> Iterator[Segment]:
    """Yield the segments in the text of such a file; raises the errors of `read_segments`.

    Args:
        text: The text.
        where: Name of the file for error messages.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{where} line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{place}: not valid JSON: {error}") from error
        if not isinstance(row, dict) or not {"take", "start", "end", "captions"} <= set(row):
            raise ValueError(f"{place}: expected an object with take, start, end and captions")
        captions = row["captions"]
        if (
            not isinstance(captions, list)
            or not captions
            or not all(isinstance(c, str) and c.strip() for c in captions)
        ):
            raise ValueError(f"{place}: expected captions to be a list of sentences, found {captions!r}")
        try:
            start, end = float(row["start"]), float(row["end"])
        except (TypeError, ValueError):
            raise ValueError(f"{place}: expected start and end in seconds") from None
        if not 0.0 <= start < end:
            raise ValueError(f"{place}: expected 0 ≤ start < end, found {start:g} and {end:g} seconds")
        yield Segment(str(row["take"]), start, end, tuple(caption.strip() for caption in captions))


def described_segments(facts: TakeFacts, sound: np.ndarray, fps: float) -> Iterator[Segment]:
    """Yield the sound stretches of a take without captions, with the database's own description as the caption.

    Args:
        facts: Facts about the take.
        sound: `(T,)` bool, whether each frame is sound.
        fps: Frames per second.
    """
    text = facts.description or subject_categories().get(facts.subject, "")
    if text:
        for start, stop in stretches(sound):
            if (stop - start) / fps >= MIN_SECONDS:
                yield Segment(facts.take, start / fps, stop / fps, (text,))


def stretches(sound: np.ndarray) -> list[tuple[int, int]]:
    """Return the first frame and the frame after the last one of each run of True in `(T,)` bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sound, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def fitted_frames(segment: Segment, sound: np.ndarray, fps: float) -> slice | str:
    """Return the frames of a segment in a take, or the reason why it cannot be used.

    Args:
        segment: The segment.
        sound: `(T,)` bool, whether each frame of the take is sound.
        fps: Frames per second.
    """
    frames = segment.frames(fps)
    if frames.stop > len(sound) + round(_ROUNDING_S * fps):
        return f"it ends at {segment.end:g} s, but the take at {len(sound) / fps:.2f} s"
    frames = slice(frames.start, min(frames.stop, len(sound)))
    if frames.stop - frames.start < round(MIN_SECONDS * fps) - 2:
        return f"it has {frames.stop - frames.start} frames; expected at least {MIN_SECONDS:g} s"
    if broken := int((~sound[frames]).sum()):
        return f"{broken} of its {frames.stop - frames.start} frames are broken (marker swaps or pops)"
    return frames

"""Parse BVH files into channel values, and compute joint positions from these.

The parser accepts any BVH skeleton: any channel order, position channels on any joint, End Sites, several roots. Small
faults in headers and rows are repaired with a warning that names the line, or refused if the caller is strict. Files
are not trusted: all declared sizes are checked against fixed limits and the actual file size before memory is
allocated, the code does not recurse, and each refusal is a `MotionFormatError` with a line number.
"""

import codecs
import logging
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.limits import MAX_FPS, MAX_VALUES, MIN_FPS

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 256 * 2**20
MAX_LINE_CHARS = 2**20
MAX_JOINTS = 1000
MAX_NAME_CHARS = 200
MAX_FILE_FRAMES = 500_000  # over an hour at 120 fps
MAX_DURATION_S = 24 * 3600

END_SITE_SUFFIX = " End"  # the End Site of joint "Foot" is called "Foot End"

_AXES = {"xposition": 0, "yposition": 1, "zposition": 2, "xrotation": 3, "yrotation": 4, "zrotation": 5}
_SCALES = {"xscale": 6, "yscale": 7, "zscale": 8}  # they occupy columns but are ignored
_CHANNELS = _AXES | _SCALES
_JOINT_LINE = re.compile(r"\s*(ROOT|JOINT)\b([^{}]*)(.*)", re.IGNORECASE)  # matches in linear time
_FRAMES_LINE = re.compile(r"\s*(?:number\s+of\s+)?frames?\s*[:=]?\s*([^\s:=]\S*)\s*$", re.IGNORECASE)
_FRAME_TIME_LINE = re.compile(
    r"\s*(?:frame[\s_]*time|(fps|frame[\s_]*rate))\s*[:=]?\s*([^\s:=]\S*?)\s*(s|secs?|seconds?|ms|fps|hz)?\s*$",
    re.IGNORECASE,
)
_PLAIN_FRAMES = re.compile(r"\s*frames\s*:\s*\S+\s*$", re.IGNORECASE)
_PLAIN_FRAME_TIME = re.compile(r"\s*frame\s+time\s*:\s*\S+\s*$", re.IGNORECASE)
_COMMENT = re.compile(r"\s*(#|//|/\*|;|%)")
_NUMBER_LIKE = re.compile(r"[+-]?(\d|[.,]\d|nan|inf)", re.IGNORECASE)
_USUAL_FPS: tuple[float, ...] = (
    *(10, 12, 12.5, 15, 20, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60, 72, 75, 90, 100, 120, 144, 150, 200, 240),
    *(250, 300, 360, 480, 500, 1000),
)
_ASSUMED_FPS = 30.0
_MAX_EXTRA_VALUES = 6
_MAX_WARNINGS = 20
_MAX_END_SITE_WORDS = 20
_HEAD_BYTES = 2**17  # joint names are at the beginning
_JAPANESE = ("左", "右", "センター", "上半身")
_Take = Callable[[str], str]  # returns the next word, or raises an error that says what was expected
_CHUNK_JOINT_FRAMES = 100_000  # bounds the memory of the forward kinematics of long files


@dataclass(frozen=True)
class BvhClip:
    """Contents of a BVH file.

    Attributes:
        joint_names: joints and End Sites (named "<joint> End") in file order; parents precede their children.
        parents: index of each joint's parent, -1 for a root.
        offsets: (J, 3), rest position relative to the parent, in the file's unit.
        channels: channels of each joint as indices: 0-2 position x, y, z; 3-5 rotation about x, y, z; 6-8 scale.
        values: (T, C) float64, channel values of every frame; degrees and the file's unit.
        fps: frames per second.
        warnings: descriptions of all repairs, with line numbers.
    """

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    channels: tuple[tuple[int, ...], ...]
    values: np.ndarray
    fps: float
    warnings: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.values.shape[0])

    def rest_positions(self) -> np.ndarray:
        """Return the positions (J, 3) of the joints when no joint is rotated, in the file's unit."""
        positions = self.offsets.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                positions[joint] += positions[parent]
        return positions

    def path_to_root(self, joint: int) -> list[int]:
        """Return the joint, its parent, and so on up to the root."""
        path = []
        while joint >= 0:
            path.append(joint)
            joint = self.parents[joint]
        return path

    def positions(self, joints: Sequence[int], frames: slice = slice(None)) -> np.ndarray:
        """Compute world positions by forward kinematics.

        Position channels replace the OFFSET of their joint. Rotations are applied in the order in which the channels
        are listed, the first one outermost.

        Args:
            joints: indices of the requested joints.
            frames: slice of the requested frames.

        Returns:
            (T, len(joints), 3) float64 in the file's unit.
        """
        values = self.values[frames]
        needed = sorted({index for joint in joints for index in self.path_to_root(joint)})
        result = np.empty((len(values), len(joints), 3))
        step = max(1, _CHUNK_JOINT_FRAMES // len(needed))
        for start in range(0, len(values), step):
            chunk = values[start : start + step]
            result[start : start + step] = self._chunk_positions(chunk, needed, joints)
        return result

    def _chunk_positions(self, values: np.ndarray, needed: list[int], joints: Sequence[int]) -> np.ndarray:
        first_column = np.cumsum([0, *(len(channels) for channels in self.channels)])
        local = self._local_rotations(values, needed, first_column)
        world: dict[int, np.ndarray] = {}
        position: dict[int, np.ndarray] = {}
        for joint in needed:
            shift = np.broadcast_to(self.offsets[joint], (len(values), 3))
            moving = [(k, axis) for k, axis in enumerate(self.channels[joint]) if axis < 3]
            if moving:
                shift = shift.copy()
                for k, axis in moving:
                    shift[:, axis] = values[:, first_column[joint] + k]
            parent = self.parents[joint]
            if parent < 0:
                position[joint], world[joint] = shift, local[joint]
            else:
                position[joint] = position[parent] + np.matmul(world[parent], shift[..., None])[..., 0]
                world[joint] = np.matmul(world[parent], local[joint]) if joint in local else world[parent]
        return np.stack([position[joint] for joint in joints], axis=1)

    def _local_rotations(
        self, values: np.ndarray, needed: list[int], first_column: np.ndarray
    ) -> dict[int, np.ndarray]:
        """Compute the rotation matrices (T, 3, 3) of the joints; joints with the same channel order are batched."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for joint in needed:
            order = tuple(axis - 3 for axis in self.channels[joint] if 3 <= axis < 6)
            if order or self.parents[joint] < 0:
                groups.setdefault(order, []).append(joint)
        local: dict[int, np.ndarray] = {}
        for order, members in groups.items():
            columns = [
                [first_column[joint] + k for k, axis in enumerate(self.channels[joint]) if 3 <= axis < 6]
                for joint in members
            ]
            angles = np.radians(values.T[np.asarray(columns, dtype=np.intp)])  # (members, len(order), T)
            matrices = _euler_matrices(np.moveaxis(angles, 1, -1), order)
            local.update(zip(members, matrices, strict=True))
        return local


def _euler_matrices(angles: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Convert Euler angles (..., len(order)), radians, first axis outermost, to rotation matrices (..., 3, 3)."""
    columns = list(np.broadcast_to(np.eye(3)[:, None], (3, int(np.prod(angles.shape[:-1], dtype=int)), 3)))
    for k, axis in enumerate(order):
        angle = angles[..., k].reshape(-1, 1)
        cosine, sine = np.cos(angle), np.sin(angle)
        # Multiplication from the right by a rotation about one axis only mixes the two other columns.
        second, third = (axis + 1) % 3, (axis + 2) % 3
        columns[second], columns[third] = (
            cosine * columns[second] + sine * columns[third],
            cosine * columns[third] - sine * columns[second],
        )
    return np.stack(columns, axis=-1).reshape(*angles.shape[:-1], 3, 3)


def parse_bvh(path: str | os.PathLike[str], *, fps: float | None = None, strict: bool = False) -> BvhClip:
    """Parse a BVH file.

    Small faults are repaired, and a warning in the log names the line.

    Args:
        path: a regular file.
        fps: frames per second; overrides the file's frame time.
        strict: refuse files that need repairs.

    Returns:
        The hierarchy and the channel values.

    Raises:
        FileNotFoundError: the file does not exist.
        MotionFormatError: the file is not BVH, is damaged, or exceeds the limits of this module.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise MotionFormatError(f"{path.name}: expected a BVH file, found a folder or a device")
    if status.st_size > MAX_FILE_BYTES:
        raise MotionFormatError(
            f"{path.name}: expected at most {MAX_FILE_BYTES} bytes, found {status.st_size} (cut the take into parts)"
        )
    with open(path, "rb") as binary:
        encoding = _find_encoding(binary.read(_HEAD_BYTES))
    with open(path, encoding=encoding, errors="surrogateescape", newline=None) as stream:
        return _Parser(path.name, stream, status.st_size, encoding, fps, strict).parse()


def _find_encoding(head: bytes) -> str:
    """Detect the encoding of a file from its first bytes.

    UTF-8 and UTF-16 are detected reliably. The choice among older encodings only affects names: cp932 if it yields
    words that Japanese rigs use, otherwise cp1252.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding, high in (("utf-16-le", head[1:40:2]), ("utf-16-be", head[0:40:2])):
        if len(high) > 4 and not any(high):
            return encoding
    if _decodes(head, "utf-8") is not None:
        return "utf-8-sig"
    japanese = _decodes(head, "cp932")
    if japanese is not None and any(word in japanese for word in _JAPANESE):
        return "cp932"
    return "cp1252" if _decodes(head, "cp1252") is not None else "latin-1"


def _decodes(head: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError:
        return None


class _Parser:
    """Single-pass parser of one file."""

    def __init__(
        self, name: str, stream: TextIO, num_bytes: int, encoding: str, fps: float | None, strict: bool
    ) -> None:
        self._name = name
        self._stream = stream
        self._num_bytes = num_bytes
        self._encoding = None if encoding in ("utf-8-sig", "utf-16") else encoding  # logged as a warning
        self._fps = fps
        self._strict = strict
        self._line = 0
        self._reads_rows = False
        self._again: str | None = None  # a line to read again
        self._warnings: list[str] = []
        self._kinds: set[str] = set()
        self._joint_names: list[str] = []
        self._names: set[str] = set()
        self._parents: list[int] = []
        self._offsets: list[list[float] | None] = []
        self._channels: list[tuple[int, ...] | None] = []
        self._is_end_site: list[bool] = []

    def parse(self) -> BvhClip:
        self._parse_hierarchy()
        num_frames, fps = self._parse_motion_header()
        values = self._parse_rows(num_frames)
        self._check_scales(values)
        return BvhClip(
            joint_names=tuple(self._joint_names),
            parents=tuple(self._parents),
            offsets=np.asarray(self._offsets, dtype=np.float64),
            channels=tuple(channels or () for channels in self._channels),
            values=values,
            fps=fps,
            warnings=tuple(self._warnings),
        )

    # Reading lines and tokens

    def _fail(self, expected: str, found: str, hint: str = "") -> NoReturn:
        found = found if len(found) <= 60 else found[:57] + "..."
        message = f"{self._name} line {self._line}: expected {expected}, found {found}"
        message = message.encode("utf-8", "backslashreplace").decode()
        raise MotionFormatError(message + (f" ({hint})" if hint else "")) from None

    def _repair(self, kind: str, expected: str, found: str, remedy: str, hint: str = "") -> None:
        """Warn about a repaired fault, once for each kind; raise an error if the caller is strict."""
        if self._strict:
            self._fail(expected, found, hint)
        if kind in self._kinds or len(self._warnings) >= _MAX_WARNINGS:
            return
        self._kinds.add(kind)
        found = found if len(found) <= 60 else found[:57] + "..."
        warning = f"line {self._line}: expected {expected}, found {found}; {remedy}"
        self._warnings.append(warning)
        logger.warning("%s %s", self._name, warning)

    def _next_line(self) -> str | None:
        """Return the next line that is not blank, or None at the end of the file."""
        if self._again is not None:
            line, self._again = self._again, None
            return line
        while True:
            self._line += 1
            try:
                line = self._stream.readline(MAX_LINE_CHARS + 1)
            except UnicodeDecodeError:
                self._fail("text", "other bytes", "binary file?")
            if len(line) > MAX_LINE_CHARS:
                self._fail(f"at most {MAX_LINE_CHARS} characters in a line", "more")
            if "\0" in line and self._reads_rows and not line.strip("\0\x1a \t\n"):
                self._repair("zeros", "the end of the file", "zero bytes", "they are ignored")
                return None
            if "\0" in line:
                self._fail("text", "a zero byte", "binary file or UTF-16 text?")
            if not line:
                return None
            if self._encoding is not None and not line.isascii():
                found = f"what looks like {self._encoding}"
                self._repair("encoding", "UTF-8, or UTF-16 with a byte order mark", found, "it is read as such")
            if not line.isspace():
                return line

    def _next_content(self) -> str | None:
        """Return the next line that is neither blank nor a comment, without a trailing comment."""
        while (line := self._next_line()) is not None:
            if not _COMMENT.match(line):
                return line
            self._repair("comment", "no comments", repr(line.strip()), "it is skipped")
        return None

    def _tokens(self) -> Iterator[str]:
        """Yield the words of the hierarchy; a joint name is one word even if it contains spaces."""
        while (line := self._next_content()) is not None:
            joint = _JOINT_LINE.match(line)
            if joint:
                yield joint[1]
                if name := joint[2].strip():
                    yield name
                line = joint[3]
            yield from re.sub(r"\s(#|//).*", "", line).replace("{", " { ").replace("}", " } ").split()

    # Hierarchy

    def _parse_hierarchy(self) -> None:
        tokens = self._tokens()

        def take(expected: str) -> str:
            token = next(tokens, None)
            if token is None:
                self._fail(expected, "the end of the file", "file truncated?")
            return token

        first: str | None = take("HIERARCHY")
        if first is not None and first.upper() == "ROOT":
            self._repair("hierarchy", "HIERARCHY", repr(first), "the line is assumed to be missing")
        elif first is not None and first.upper() == "HIERARCHY":
            first = None
        else:
            self._fail("HIERARCHY", repr(first), "not a BVH file?")
        open_nodes: list[int] = []
        while True:
            token = first if first is not None else take("a joint or MOTION")
            first = None
            keyword = token.upper()
            if not open_nodes:
                if keyword == "MOTION" and self._joint_names:
                    break
                if keyword != "ROOT":
                    self._fail("ROOT or MOTION" if self._joint_names else "ROOT", repr(token))
                open_nodes.append(self._open_node(take("a joint name"), -1, take))
                continue
            node = open_nodes[-1]
            if keyword == "}":
                self._close_node(open_nodes.pop())
            elif keyword == "OFFSET":
                if self._offsets[node] is not None:
                    self._fail("one OFFSET", f"a second one in {self._joint_names[node]!r}")
                self._offsets[node] = [self._number(take("three OFFSET numbers")) for _ in range(3)]
            elif keyword == "CHANNELS":
                if self._is_end_site[node]:
                    self._repair("end channels", "OFFSET or }", repr(token), "End Site channels are accepted")
                self._channels[node] = self._parse_channels(node, take)
            elif self._is_end_site[node]:
                self._fail("OFFSET or }", repr(token))
            elif keyword == "JOINT":
                open_nodes.append(self._open_node(take("a joint name"), node, take))
            elif keyword in ("END", "ENDSITE", "END_SITE"):
                words = [token]
                while (word := take("{")) != "{":
                    words.append(word)
                    if len(words) > _MAX_END_SITE_WORDS:
                        self._fail("{", repr(word))
                if [word.lower() for word in words] != ["end", "site"]:
                    self._repair("end site", "'End Site'", repr(" ".join(words)), "it is read as an End Site")
                open_nodes.append(self._open_node(None, node, take))
            else:
                self._fail("OFFSET, CHANNELS, JOINT, End Site or }", repr(token))
        if not any(self._channels):
            self._fail("at least one channel", "none in the hierarchy")

    def _open_node(self, name: str | None, parent: int, take: _Take) -> int:
        """Add a joint, or an End Site (no name) whose opening brace was already read."""
        if len(self._joint_names) >= MAX_JOINTS:
            self._fail(f"at most {MAX_JOINTS} joints", "more")
        is_end_site = name is None
        if name is None:
            name = self._joint_names[parent] + END_SITE_SUFFIX
            if name in self._names:  # some files give a joint several End Sites
                name += f" {self._parents.count(parent) + 1}"
            name = self._unused(name)
        elif name == "{":
            name = self._unused(f"joint {len(self._joint_names) + 1}")
            self._repair("no name", "a joint name", "'{'", f"the joint is called {name!r}")
        else:
            if len(name) > MAX_NAME_CHARS:
                self._fail(f"joint names of at most {MAX_NAME_CHARS} characters", f"one of {len(name)}")
            if name in self._names:
                unused = self._unused(name)
                remedy = f"the second is called {unused!r}"
                self._repair(f"name {name}", "unique joint names", f"{name!r} twice", remedy)
                name = unused
            if (brace := take("{")) != "{":
                self._fail("{", repr(brace))
        self._joint_names.append(name)
        self._names.add(name)
        self._parents.append(parent)
        self._offsets.append(None)
        self._channels.append(None)
        self._is_end_site.append(is_end_site)
        return len(self._joint_names) - 1

    def _unused(self, name: str) -> str:
        number = 2
        while f"{name} #{number}" in self._names:
            number += 1
        return name if name not in self._names else f"{name} #{number}"

    def _close_node(self, node: int) -> None:
        if self._offsets[node] is None:
            expected = f"an OFFSET in {self._joint_names[node]!r}"
            if not self._is_end_site[node]:
                self._fail(expected, "}")
            self._repair("offset", expected, "}", "0 0 0 is used")
            self._offsets[node] = [0.0, 0.0, 0.0]

    def _parse_channels(self, node: int, take: _Take) -> tuple[int, ...]:
        if self._channels[node] is not None:
            self._fail("one CHANNELS", f"a second one in {self._joint_names[node]!r}")
        count = take("a number of channels")
        if not re.fullmatch("[0-9]", count):
            self._fail("0 to 9 channels", repr(count))
        channels = []
        for _ in range(int(count)):
            word = take("a channel name")
            if word.lower() not in _CHANNELS:
                self._fail("a channel such as Xposition or Zrotation", repr(word))
            channels.append(_CHANNELS[word.lower()])
        if len(set(channels)) != len(channels):
            self._fail("each channel once", f"a repeated channel in {self._joint_names[node]!r}")
        return tuple(channels)

    # Motion

    def _parse_motion_header(self) -> tuple[int | None, float]:
        """Return the number of frames, or None if unknown, and the frames per second."""
        lines = self._header_lines()
        line, self._line = lines["frames"]
        match = _FRAMES_LINE.match(line)
        if line and not _PLAIN_FRAMES.match(line):
            self._repair("frames line", "'Frames: <number>'", repr(line.strip()), "it is accepted")
        num_frames: int | None = None
        if match and re.fullmatch(r"[0-9]{1,18}", match[1]) and int(match[1]) >= 1:
            num_frames = int(match[1])
        elif match:
            self._repair("frames", "at least one frame", repr(match[1]), "the frames that follow are counted")
        num_channels = sum(len(channels or ()) for channels in self._channels)
        if num_frames is not None and (num_frames > MAX_FILE_FRAMES or num_frames * num_channels > MAX_VALUES):
            self._fail(
                f"at most {MAX_FILE_FRAMES} frames and {MAX_VALUES} channel values",
                f"{num_frames} frames of {num_channels} channels",
                "cut the take into parts",
            )
        line, self._line = lines["frame time"]
        match = _FRAME_TIME_LINE.match(line)
        if line and not _PLAIN_FRAME_TIME.match(line):
            self._repair("frame time line", "'Frame Time: <seconds>'", repr(line.strip()), "it is accepted")
        fps = (
            self._read_frame_time(match[2], (match[1] or match[3] or "").lower())
            if match
            else self._fps or _ASSUMED_FPS
        )
        self._line = lines["rows"][1]
        if num_frames is not None and num_frames / fps > MAX_DURATION_S:
            self._fail(f"at most {MAX_DURATION_S} seconds", f"{num_frames} frames at {fps:g} fps")
        return num_frames, fps

    def _header_lines(self) -> dict[str, tuple[str, int]]:
        """Read the lines "frames" and "frame time", in any order, with their line numbers; missing lines are empty."""
        lines: dict[str, tuple[str, int]] = {}
        while len(lines) < 2:
            line = self._next_content() or ""
            kind = "frame time" if _FRAME_TIME_LINE.match(line) else "frames" if _FRAMES_LINE.match(line) else "rows"
            wanted = "'Frames: <number>'" if "frames" not in lines else "'Frame Time: <seconds>'"
            found = repr(line.strip()) if line else "the end of the file"
            if kind == "rows":
                if not _NUMBER_LIKE.match(line.strip()):
                    self._fail(wanted, found)
                self._again = line
                for missing in {"frames", "frame time"} - set(lines):
                    lines[missing] = "", self._line
                    remedy = "the frames that follow are counted"
                    if missing == "frame time":
                        remedy = f"taking {self._fps or _ASSUMED_FPS:g} frames per second (pass fps= if wrong)"
                    self._repair(f"no {missing}", wanted, "channel values", remedy, "pass fps=")
                break
            if kind in lines:
                self._fail(wanted, found)
            if not lines and kind != "frames":
                self._repair("order", wanted, found, "this order is accepted")
            lines[kind] = line, self._line
        return {**lines, "rows": ("", self._line)}

    def _read_frame_time(self, text: str, unit: str) -> float:
        """Return frames per second from a time in seconds, or from variants that some tools write, such as "33 ms"."""
        expected = f"a frame time from {1 / MAX_FPS} to {1 / MIN_FPS} seconds"
        if self._fps is not None:  # the caller's value overrides the file's
            return self._fps
        frame_time = self._number(text.removeprefix("1/"))
        if unit not in ("", "s", "sec", "secs", "second", "seconds") or text.startswith("1/"):
            fps = frame_time if unit != "ms" else 1e3 / frame_time if frame_time > 0 else 0.0
            if not MIN_FPS <= fps <= MAX_FPS:
                self._fail(expected, repr(f"{text} {unit}".strip()), "pass fps=")
            usual = min(_USUAL_FPS, key=lambda rate: abs(rate - fps))
            fps = float(usual) if abs(fps - usual) < 0.002 * usual else fps
            self._repair("frame time", expected, repr(f"{text} {unit}".strip()), f"taking {fps:g} frames per second")
            return fps
        if 1 / MAX_FPS <= frame_time <= 1 / MIN_FPS:
            return _frame_rate(text.replace(",", "."), frame_time)
        if frame_time == 0:
            remedy = f"taking {_ASSUMED_FPS:g} frames per second (pass fps= or --source-fps if wrong)"
            self._repair("frame time", expected, repr(text), remedy, "pass fps=")
            return _ASSUMED_FPS
        for what, fps in _readings_of_frame_time(frame_time):
            remedy = f"taking it as {what}, {fps:g} frames per second (pass fps= or --source-fps if wrong)"
            self._repair("frame time", expected, repr(text), remedy, f"pass fps=; {fps:g}?")
            return fps
        self._fail(expected, repr(text), "pass fps=")

    def _parse_rows(self, num_frames: int | None) -> np.ndarray:
        num_channels = sum(len(channels or ()) for channels in self._channels)
        # A value takes at least two bytes, a digit and a blank.
        most = min(MAX_FILE_FRAMES, MAX_VALUES // num_channels, self._num_bytes // (2 * num_channels) + 1)
        values = np.empty((min(num_frames or most, most), num_channels))
        count = 0
        self._reads_rows = True
        pending: list[float] = []  # values of a frame that continues in the next line
        while (line := self._next_line()) is not None:
            words = line.split()
            row: Sequence[float] | np.ndarray | None = None
            if len(words) == num_channels and not pending:
                try:
                    row = np.fromiter(map(float, words), np.float64, num_channels)
                except ValueError:
                    row = None
                if row is not None and ("_" in line or not np.isfinite(row).all()):
                    row = None
            if row is None:
                pending += self._read_odd_row(line, count + 1, num_channels, len(pending))
                if len(pending) < num_channels:
                    continue
                rows = [pending[k : k + num_channels] for k in range(0, len(pending), num_channels)]
                pending = []
            else:
                rows = [row]  # type: ignore[list-item]
            for each in rows:
                if count == len(values):
                    if count >= most:
                        self._fail(f"at most {most} frames", "more", "cut the take into parts")
                    values = np.concatenate([values, np.empty((min(len(values) + 100, most - count), num_channels))])
                values[count] = each
                count += 1
        if pending:
            self._repair(
                *("cut", f"{num_channels} channel values", str(len(pending)), "the frame is ignored"),
                "file truncated?",
            )
        if count == 0:
            self._fail(f"frames of {num_channels} channel values", "none", "file truncated?")
        if num_frames is not None and count != num_frames:
            hint = "file truncated?" if count < num_frames else "wrong number in 'Frames:'?"
            self._repair("count", f"{num_frames} frames", str(count), f"using the {count} frames found", hint)
        return values[:count]

    def _read_odd_row(self, line: str, frame: int, num_channels: int, num_pending: int) -> list[float]:
        """Read the values of a line that does not consist of exactly one frame."""
        if _COMMENT.match(line):
            self._repair("comment", "no comments", repr(line.strip()), "it is skipped")
            return []
        if len(line) > len(line := re.sub(r"\s(#|//).*", "", line)):
            self._repair("comment", "no comments", "one", "it is skipped")
        if ";" in line:
            self._repair("commas", "blanks between numbers", "semicolons", "they are read as such")
            line = line.replace(";", " ")
        if "," in line:
            words = line.split()
            is_decimal = "." not in line and len(words) > 1 and all(word.count(",") <= 1 for word in words)
            kind = "decimal commas" if is_decimal and not line.rstrip().endswith(",") else "commas between values"
            self._repair("commas", "numbers such as 0.5, separated by blanks", kind, "they are read as such")
            line = line.replace(",", "." if kind == "decimal commas" else " ")
        words = line.split()
        if not any(_NUMBER_LIKE.match(word) for word in words):
            self._repair("text", "channel values", repr(line.strip()), "the line is skipped")
            return []
        if num_pending + len(words) > num_channels and (num_pending or len(words) % num_channels):
            extra = num_pending + len(words) - num_channels
            if num_pending or extra > _MAX_EXTRA_VALUES:
                found = f"{num_pending} in the lines before and {len(words)}" if num_pending else str(len(words))
                self._fail(f"{num_channels} channel values", found)
            self._repair("extra", f"{num_channels} channel values", str(len(words)), "the extra values are ignored")
            words = words[:num_channels]
        elif len(words) != num_channels:
            what = "one frame in several lines" if len(words) < num_channels else "several frames in a line"
            hint = "file truncated?" if len(words) < num_channels else ""
            self._repair("wrapped", f"{num_channels} channel values", str(len(words)), f"reading {what}", hint)
        return [self._number(word, f" in frame {frame}") for word in words]

    def _check_scales(self, values: np.ndarray) -> None:
        channels = [channel for channels in self._channels for channel in channels or ()]
        columns = [column for column, channel in enumerate(channels) if channel > 5]
        if columns and np.abs(values[:, columns] - 1.0).max() > 1e-3:
            self._repair("scale", "scale channels of 1", "others", "scales are ignored")

    def _number(self, word: str, where: str = "") -> float:
        if "," in word and "." not in word and word.count(",") == 1:
            self._repair("commas", "numbers such as 0.5", repr(word), "the comma is read as a decimal point")
            word = word.replace(",", ".")
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or "_" in word:
            self._fail(f"a finite number{where}", repr(word))
        return number


def _readings_of_frame_time(value: float) -> Iterator[tuple[str, float]]:
    """Yield possible meanings of a frame time that is not in seconds, most plausible first."""
    readings = [("a rate", value), ("milliseconds", 1e3 / value if value > 0 else 0.0)]
    readings.append(("microseconds", 1e6 / value if value > 0 else 0.0))
    allowed = [(what, fps) for what, fps in readings if value > 1 and MIN_FPS <= fps <= MAX_FPS]
    for what, fps in allowed:
        usual = min(_USUAL_FPS, key=lambda rate: abs(rate - fps))
        if abs(fps - usual) < 0.002 * usual:
            yield what, float(usual)
    yield from allowed


def _frame_rate(text: str, frame_time: float) -> float:
    """Convert a frame time to frames per second; round to an integer if the digits allow it (0.0333333 gives 30)."""
    decimals = re.fullmatch(r"\d*\.(\d+)", text)
    last_digit = 10.0 ** -len(decimals[1]) if decimals else 0.0
    tolerance = min(last_digit, 0.02 * frame_time)  # 0.08 is 12.5 frames per second
    whole = max(1, round(1 / frame_time))
    return float(whole) if abs(1 / whole - frame_time) <= tolerance else 1 / frame_time

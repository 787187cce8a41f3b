"""Parse the text of BVH files into channel values and turn these into joint positions.

The parser takes any BVH skeleton: every channel order, position channels on any joint, End Sites, several
roots. Files come from strangers, so all that a file declares is checked against fixed limits and its real
size before memory is set aside, nothing recurses, and each refusal is a `MotionFormatError` with a line
number.
"""

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

MAX_FILE_BYTES = 256 * 2**20
MAX_LINE_CHARS = 2**20
MAX_JOINTS = 1000
MAX_NAME_CHARS = 200
MAX_FRAMES = 500_000  # over an hour at 120 fps
MAX_VALUES = 40_000_000  # frames x channels; 320 MB as float64
MIN_FPS, MAX_FPS = 1.0, 1000.0

END_SITE_SUFFIX = " End"  # the End Site of joint "Foot" is called "Foot End"

_AXES = {"xposition": 0, "yposition": 1, "zposition": 2, "xrotation": 3, "yrotation": 4, "zrotation": 5}
_JOINT_LINE = re.compile(r"\s*(ROOT|JOINT)\s+([^{}]+)(.*)", re.IGNORECASE)  # takes linear time
_FRAMES_LINE = re.compile(r"\s*frames\s*:\s*(\S+)\s*$", re.IGNORECASE)
_FRAME_TIME_LINE = re.compile(r"\s*frame\s+time\s*:\s*(\S+)\s*$", re.IGNORECASE)
_Take = Callable[[str], str]  # returns the next word, or fails saying what was expected
_CHUNK_JOINT_FRAMES = 100_000  # bounds the memory of the forward kinematics of long files


@dataclass(frozen=True)
class BvhClip:
    """What a BVH file holds.

    Attributes:
        joint_names: joints and End Sites (named "<joint> End") in file order; parents precede their children.
        parents: index of each joint's parent, -1 for a root.
        offsets: (J, 3), rest position relative to the parent, in the file's unit.
        channels: per joint, its channels as indices: 0-2 position x, y, z; 3-5 rotation about x, y, z.
        values: (T, C) float64, channel values of every frame; degrees and the file's unit.
        fps: frames per second.
    """

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    channels: tuple[tuple[int, ...], ...]
    values: np.ndarray
    fps: float

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.values.shape[0])

    def path_to_root(self, joint: int) -> list[int]:
        """Return the joint, its parent, and so on up to the root."""
        path = []
        while joint >= 0:
            path.append(joint)
            joint = self.parents[joint]
        return path

    def positions(self, joints: Sequence[int], frames: slice = slice(None)) -> np.ndarray:
        """World positions by forward kinematics.

        Position channels replace the OFFSET of their joint. Rotations apply in the order in which the
        channels are listed, the first one outermost.

        Args:
            joints: indices of the joints wanted.
            frames: which frames.

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
        """Rotation matrices (T, 3, 3) of the joints; those with equal channel order are computed together."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for joint in needed:
            order = tuple(axis - 3 for axis in self.channels[joint] if axis >= 3)
            if order or self.parents[joint] < 0:
                groups.setdefault(order, []).append(joint)
        local: dict[int, np.ndarray] = {}
        for order, members in groups.items():
            columns = [
                [first_column[joint] + k for k, axis in enumerate(self.channels[joint]) if axis >= 3]
                for joint in members
            ]
            angles = np.radians(values.T[np.asarray(columns, dtype=np.intp)])  # (members, len(order), T)
            matrices = _euler_matrices(np.moveaxis(angles, 1, -1), order)
            local.update(zip(members, matrices, strict=True))
        return local


def _euler_matrices(angles: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Rotation matrices (..., 3, 3) of Euler angles (..., len(order)) in radians, first axis outermost."""
    columns = list(np.broadcast_to(np.eye(3)[:, None], (3, int(np.prod(angles.shape[:-1], dtype=int)), 3)))
    for k, axis in enumerate(order):
        angle = angles[..., k].reshape(-1, 1)
        cosine, sine = np.cos(angle), np.sin(angle)
        # Multiplying by a rotation about one axis on the right mixes the two other columns.
        second, third = (axis + 1) % 3, (axis + 2) % 3
        columns[second], columns[third] = (
            cosine * columns[second] + sine * columns[third],
            cosine * columns[third] - sine * columns[second],
        )
    return np.stack(columns, axis=-1).reshape(*angles.shape[:-1], 3, 3)


def parse_bvh(path: str | os.PathLike[str]) -> BvhClip:
    """Parse a BVH file.

    Args:
        path: a regular file.

    Returns:
        The hierarchy and the channel values.

    Raises:
        FileNotFoundError: there is no such file.
        MotionFormatError: the file is not BVH, is damaged, or is larger than the limits of this module.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise MotionFormatError(f"{path.name}: expected a BVH file, found a folder or a device")
    if status.st_size > MAX_FILE_BYTES:
        raise MotionFormatError(
            f"{path.name}: expected at most {MAX_FILE_BYTES} bytes, found {status.st_size} (cut the take into parts)"
        )
    with open(path, encoding="utf-8-sig", newline=None) as stream:
        return _Parser(path.name, stream, status.st_size).parse()


class _Parser:
    """One pass over the lines of one file."""

    def __init__(self, name: str, stream: TextIO, num_bytes: int) -> None:
        self._name = name
        self._stream = stream
        self._num_bytes = num_bytes
        self._line = 0
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
        return BvhClip(
            joint_names=tuple(self._joint_names),
            parents=tuple(self._parents),
            offsets=np.asarray(self._offsets, dtype=np.float64),
            channels=tuple(channels or () for channels in self._channels),
            values=values,
            fps=fps,
        )

    # Reading lines and tokens

    def _fail(self, expected: str, found: str, hint: str = "") -> NoReturn:
        found = found if len(found) <= 60 else found[:57] + "..."
        message = f"{self._name} line {self._line}: expected {expected}, found {found}"
        raise MotionFormatError(message + (f" ({hint})" if hint else "")) from None

    def _next_line(self) -> str | None:
        """Return the next line that is not blank, None at the end of the file."""
        while True:
            self._line += 1
            try:
                line = self._stream.readline(MAX_LINE_CHARS + 1)
            except UnicodeDecodeError:
                self._fail("UTF-8 text", "other bytes", "binary file or other text encoding?")
            if len(line) > MAX_LINE_CHARS:
                self._fail(f"at most {MAX_LINE_CHARS} characters in a line", "more")
            if "\0" in line:
                self._fail("text", "a zero byte", "binary file or UTF-16 text?")
            if not line:
                return None
            if not line.isspace():
                return line

    def _tokens(self) -> Iterator[str]:
        """Yield the words of the hierarchy; a joint's name is one word even where it holds spaces."""
        while (line := self._next_line()) is not None:
            joint = _JOINT_LINE.match(line)
            if joint:
                yield joint[1]
                if name := joint[2].strip():
                    yield name
                line = joint[3]
            yield from line.replace("{", " { ").replace("}", " } ").split()

    # Hierarchy

    def _parse_hierarchy(self) -> None:
        tokens = self._tokens()

        def take(expected: str) -> str:
            token = next(tokens, None)
            if token is None:
                self._fail(expected, "the end of the file", "file truncated?")
            return token

        if (first := take("HIERARCHY")).upper() != "HIERARCHY":
            self._fail("HIERARCHY", repr(first), "not a BVH file?")
        open_nodes: list[int] = []
        while True:
            token = take("a joint or MOTION")
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
            elif self._is_end_site[node]:
                self._fail("OFFSET or }", repr(token))
            elif keyword == "CHANNELS":
                self._channels[node] = self._parse_channels(node, take)
            elif keyword == "JOINT":
                open_nodes.append(self._open_node(take("a joint name"), node, take))
            elif keyword == "END":
                if (site := take("Site")).upper() != "SITE":
                    self._fail("'End Site'", repr(f"{token} {site}"))
                open_nodes.append(self._open_node(None, node, take))
            else:
                self._fail("OFFSET, CHANNELS, JOINT, End Site or }", repr(token))
        if not any(self._channels):
            self._fail("at least one channel", "none in the hierarchy")

    def _open_node(self, name: str | None, parent: int, take: _Take) -> int:
        if len(self._joint_names) >= MAX_JOINTS:
            self._fail(f"at most {MAX_JOINTS} joints", "more")
        is_end_site = name is None
        if name is None:
            name = self._joint_names[parent] + END_SITE_SUFFIX
            siblings = self._parents.count(parent)
            if name in self._names:  # some files give a joint several End Sites
                name += f" {siblings + 1}"
        if name in self._names:
            self._fail("joint names that differ", f"{name!r} twice")
        if len(name) > MAX_NAME_CHARS:
            self._fail(f"joint names of at most {MAX_NAME_CHARS} characters", f"one of {len(name)}")
        if (brace := take("{")) != "{":
            self._fail("{", repr(brace))
        self._joint_names.append(name)
        self._names.add(name)
        self._parents.append(parent)
        self._offsets.append(None)
        self._channels.append(None)
        self._is_end_site.append(is_end_site)
        return len(self._joint_names) - 1

    def _close_node(self, node: int) -> None:
        if self._offsets[node] is None:
            self._fail(f"an OFFSET in {self._joint_names[node]!r}", "}")

    def _parse_channels(self, node: int, take: _Take) -> tuple[int, ...]:
        if self._channels[node] is not None:
            self._fail("one CHANNELS", f"a second one in {self._joint_names[node]!r}")
        count = take("a number of channels")
        if count not in {"0", "1", "2", "3", "4", "5", "6"}:
            self._fail("0 to 6 channels", repr(count))
        channels = []
        for _ in range(int(count)):
            word = take("a channel name")
            if word.lower() not in _AXES:
                self._fail("a channel like Xposition or Zrotation", repr(word))
            channels.append(_AXES[word.lower()])
        if len(set(channels)) != len(channels):
            self._fail("each channel once", f"one twice in {self._joint_names[node]!r}")
        return tuple(channels)

    # Motion

    def _parse_motion_header(self) -> tuple[int, float]:
        line = self._next_line() or ""
        match = _FRAMES_LINE.match(line)
        if not match:
            self._fail("'Frames: <number>'", repr(line.strip()) if line else "the end of the file")
        if not re.fullmatch(r"[0-9]{1,18}", match[1]) or int(match[1]) < 1:
            self._fail("at least one frame", repr(match[1]))
        num_frames = int(match[1])
        num_channels = sum(len(channels or ()) for channels in self._channels)
        if num_frames > MAX_FRAMES or num_frames * num_channels > MAX_VALUES:
            self._fail(
                f"at most {MAX_FRAMES} frames and {MAX_VALUES} channel values",
                f"{num_frames} frames of {num_channels} channels",
                "cut the take into parts",
            )
        if 2 * num_frames * num_channels > self._num_bytes:  # a value takes a digit and a blank at least
            self._fail(
                f"{num_frames} frames of {num_channels} channel values",
                f"only {self._num_bytes} bytes in the file",
                "file truncated?",
            )
        line = self._next_line() or ""
        match = _FRAME_TIME_LINE.match(line)
        if not match:
            self._fail("'Frame Time: <seconds>'", repr(line.strip()) if line else "the end of the file")
        frame_time = self._number(match[1])
        if not 1 / MAX_FPS <= frame_time <= 1 / MIN_FPS:
            self._fail(f"a frame time from {1 / MAX_FPS} to {1 / MIN_FPS} seconds", repr(match[1]))
        return num_frames, _frame_rate(match[1], frame_time)

    def _parse_rows(self, num_frames: int) -> np.ndarray:
        num_channels = sum(len(channels or ()) for channels in self._channels)
        values = np.empty((num_frames, num_channels))
        for frame in range(num_frames):
            line = self._next_line()
            if line is None:
                expected = f"frame {frame + 1} of {num_frames} ({num_channels} channel values)"
                self._fail(expected, "the end of the file", "file truncated?")
            words = line.split()
            if len(words) != num_channels:
                hint = "file truncated?" if len(words) < num_channels else ""
                self._fail(f"{num_channels} channel values", str(len(words)), hint)
            try:
                values[frame] = np.fromiter(map(float, words), np.float64, num_channels)
                valid = bool(np.isfinite(values[frame]).all()) and "_" not in line
            except ValueError:
                valid = False
            if not valid:
                for word in words:  # names the culprit; "nan", "inf" and "1_0" are floats to Python
                    self._number(word)
        if self._next_line() is not None:
            self._fail(f"the end of the file after {num_frames} frames", "more text", "wrong number in 'Frames:'?")
        return values

    def _number(self, word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or "_" in word:
            self._fail("a finite number", repr(word))
        return number


def _frame_rate(text: str, frame_time: float) -> float:
    """Frames per second; whole where the digits allow it, as 0.0333333 stands for 30 and not 30.00003."""
    decimals = re.fullmatch(r"\d*\.(\d+)", text)
    last_digit = 10.0 ** -len(decimals[1]) if decimals else 0.0
    tolerance = min(last_digit, 0.02 * frame_time)  # 0.08 is 12.5 frames per second
    whole = max(1, round(1 / frame_time))
    return float(whole) if abs(1 / whole - frame_time) <= tolerance else 1 / frame_time

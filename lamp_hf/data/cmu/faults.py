"""Find faults in captured motion: marker swaps and pops, joints that move too fast, and T-poses before the motion."""

from dataclasses import dataclass

import numpy as np

from lamp_hf.motion.rotations import normalize
from lamp_hf.motion.skeleton import HUMANML3D_22

MAX_SPEED_M_PER_S = 15.0
_MAX_JUMP_DEGREES = 90.0  # maximum turn of a bone between two frames at 24 fps
_MAX_JUMP_SLOW_DEGREES = 120.0  # the same at 12 fps, where a limb turns farther between two frames
_MERGE_S = 0.5  # jumps closer than this are one fault: the frames between a jump and the jump back are broken too
_MAX_LEAD_S = 2.0  # a T-pose before the motion lasts at most this long
_MENDABLE_S = 0.5  # faults of the toes up to this length are repaired
_TOES = [HUMANML3D_22.joint_names.index(name) for name in ("left_foot", "right_foot")]
_STILL_M_PER_S = 0.3  # below this speed, the pose was inserted by software rather than held by a person


@dataclass(frozen=True)
class Fault:
    """Broken span of a take.

    Attributes:
        start: First broken frame.
        stop: Frame after the last broken one.
        kind: "joint too fast", "bone jumps" or "T-pose".
        joint: Joint with the largest value.
        value: Largest speed in meters per second, or largest turn in degrees.
        toes: Joint indices of the broken toes, if only toes are broken and for at most half a second. Then the toes are
            repaired and the span is kept. Toe markers often swap at the top of a kick, and kicks should not be lost.
    """

    start: int
    stop: int
    kind: str
    joint: str
    value: float
    toes: tuple[int, ...] = ()

    @property
    def mendable(self) -> bool:
        """Whether the span can be repaired."""
        return bool(self.toes)

    def describe(self, fps: float) -> str:
        """Return a description in one line, with times in seconds."""
        size = f"{self.value:.0f} m/s" if self.kind == "joint too fast" else f"{self.value:.0f}°"
        return f"{self.start / fps:.2f} to {self.stop / fps:.2f} s: {self.kind} ({self.joint}, {size})"


def find_faults(joints: np.ndarray, fps: float) -> list[Fault]:
    """Find the broken spans of a take.

    Args:
        joints: `(T, 22, 3)`, meters, at the frame rate of the capture or reduced to 12 to 30 fps.
        fps: Frames per second.

    Returns:
        The spans in order, without overlaps.
    """
    if len(joints) < 2:
        return []
    joints = np.asarray(joints, dtype=np.float64)
    speeds = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * fps
    parents = np.array(HUMANML3D_22.parents)
    bones = normalize(joints[:, 1:] - joints[:, parents[1:]])
    cosines = np.clip((bones[1:] * bones[:-1]).sum(axis=-1), -1.0, 1.0)
    turns = np.pad(np.degrees(np.arccos(cosines)), ((0, 0), (1, 0)))
    limit = _MAX_JUMP_DEGREES if fps > 18.0 else _MAX_JUMP_SLOW_DEGREES
    too_fast, jumping = speeds > MAX_SPEED_M_PER_S, turns > limit
    broken = np.flatnonzero((too_fast | jumping).any(axis=1))  # step k leads from frame k to k + 1
    if not len(broken):
        return []
    groups = np.split(broken, np.flatnonzero(np.diff(broken) > round(_MERGE_S * fps)) + 1)
    return [_fault(group, joints, speeds, turns, too_fast, fps) for group in groups]


def _fault(
    steps: np.ndarray, joints: np.ndarray, speeds: np.ndarray, turns: np.ndarray, too_fast: np.ndarray, fps: float
) -> Fault:
    first, last = int(steps[0]), int(steps[-1])
    fast = bool(too_fast[steps].any())
    values = (speeds if fast else turns)[steps]
    worst = np.unravel_index(int(values.argmax()), values.shape)
    joint = HUMANML3D_22.joint_names[int(worst[1])]
    limit = _MAX_JUMP_DEGREES if fps > 18.0 else _MAX_JUMP_SLOW_DEGREES
    bad = set(np.flatnonzero((too_fast[steps] | (turns[steps] > limit)).any(axis=0)).tolist())
    mendable = bad <= set(_TOES) and (last + 2 - first) / fps <= _MENDABLE_S
    kind, start = "joint too fast" if fast else "bone jumps", max(0, first)
    before = speeds[:first]
    if fast and first / fps <= _MAX_LEAD_S and (not len(before) or before.mean() < _STILL_M_PER_S):
        kind, start = "T-pose", 0  # the body stands at the origin and then jumps elsewhere
    toes = tuple(sorted(bad)) if mendable and kind != "T-pose" else ()
    return Fault(start, min(len(joints), last + 2), kind, joint, float(values[worst]), toes)


def bridge_faults(joints: np.ndarray, faults: list[Fault]) -> np.ndarray:
    """Interpolate linearly over broken spans, so that they do not affect the floor and the heading of the other frames.

    In a mendable fault, only the toes are interpolated, relative to their ankles.

    Args:
        joints: `(T, 22, 3)`.
        faults: Spans from `find_faults`.

    Returns:
        Joints `(T, 22, 3)`, a copy. Joints without any sound frame are not changed.
    """
    mended = joints.copy()
    for toe in _TOES:
        spans = [fault for fault in faults if toe in fault.toes]
        ankle = HUMANML3D_22.parents[toe]
        foot = joints[:, toe] - joints[:, ankle]
        straight = normalize(_bridge(foot, spans)) * np.median(np.linalg.norm(foot, axis=-1))
        for fault in spans:
            span = slice(fault.start, fault.stop)
            mended[span, toe] = mended[span, ankle] + straight[span]
    return _bridge(mended, [fault for fault in faults if not fault.mendable])


def _bridge(values: np.ndarray, faults: list[Fault]) -> np.ndarray:
    sound = np.ones(len(values), dtype=bool)
    for fault in faults:
        sound[fault.start : fault.stop] = False
    if sound.all() or not sound.any():
        return values
    frames, kept = np.arange(len(values)), np.flatnonzero(sound)
    flat = values.reshape(len(values), -1)
    bridged = np.stack([np.interp(frames, kept, column[kept]) for column in flat.T], axis=-1)
    return bridged.reshape(values.shape).astype(values.dtype)

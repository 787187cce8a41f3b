"""Measure properties of a motion that captions mention: speed, turning, heights, steps, jumps, posture."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lamp_hf.motion.features import facing_angles, normalize_joints
from lamp_hf.motion.skeleton import HUMANML3D_22

SIDES = ("left", "right")
_INDEX = {name: index for index, name in enumerate(HUMANML3D_22.joint_names)}
_SMOOTHING_S = 0.2
_FOOT_HEIGHT_M = 0.07  # a foot is off the floor if its ankle and toe are this much above their standing height
_SWING_M_PER_S = 0.8  # a foot that moves faster is taking a step
_STANCE_M_PER_S = 0.45  # a foot that moves slower has landed
_STEP_LENGTH_M = 0.12
_FLIGHT_S = 0.15
_FLIGHT_ACCELERATION = -3.5  # m/s²; free flight has -9.8, but smoothing and a moving pelvis reduce it


@dataclass(frozen=True)
class Event:
    """Event in a motion.

    Attributes:
        time: Seconds.
        kind: "step", "jump", "kick" or "reach" (a hand moves out fast, as in a punch or a throw).
        side: "left", "right", or "" for both.
        size: Length of a step or height of a jump or kick, in meters; speed of a reach, in m/s.
    """

    time: float
    kind: str
    side: str
    size: float


class Measures:
    """Measures of a motion for each frame, smoothed over 0.2 seconds.

    Left and right are from the person's point of view. The motion is scaled to the body of HumanML3D, whose pelvis is
    at 0.93 m when standing.

    Args:
        joints: `(T, 22, 3)`, meters, Y up, of any body. Its lowest joint is assumed to touch the floor.
        fps: Frames per second.
    """

    def __init__(self, joints: np.ndarray, fps: float = 20.0) -> None:
        self.joints = np.asarray(normalize_joints(joints), dtype=np.float64)
        self.fps = fps
        # The lowest joint of a take is not always a foot, and in some recordings the feet sink into the floor. The
        # standing height of a foot is therefore its lowest height, limited to a range around that of a standing body.
        self._standing = {
            name: float(np.clip(np.percentile(self.height(name), 5), height - 0.06, height + 0.1))
            for side in SIDES
            for name, height in ((f"{side}_ankle", _STANDING_ANKLE_M), (f"{side}_foot", _STANDING_TOE_M))
        }

    def part(self, start: float, end: float) -> "Measures":
        """Return the measures of the part between two times in seconds, with the floor of the whole motion."""
        part = object.__new__(Measures)
        part.fps, part._standing = self.fps, self._standing
        part.joints = self.joints[max(0, round(start * self.fps)) : max(2, round(end * self.fps))]
        return part

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return len(self.joints) / self.fps

    def place(self, joint: str) -> np.ndarray:
        """Return the positions `(T, 3)` of a joint by name."""
        return self.joints[:, _INDEX[joint]]

    def _smooth(self, values: np.ndarray, seconds: float = _SMOOTHING_S) -> np.ndarray:
        reach = max(1, round(seconds * self.fps / 2))
        kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
        flat = values.reshape(len(values), -1)
        padded = np.pad(flat, ((reach, reach), (0, 0)), mode="edge")
        return np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], axis=-1).reshape(values.shape)

    def _velocity(self, values: np.ndarray) -> np.ndarray:
        return np.gradient(values, 1.0 / self.fps, axis=0) if len(values) > 1 else np.zeros_like(values)

    @cached_property
    def heading(self) -> np.ndarray:
        """Heading of the body, unwrapped: radians to the left of +Z, `(T,)`.

        A body that lies or stands on its hands does not have a heading; there, the heading is interpolated.
        """
        angles = facing_angles(self.joints)
        trunk = self.place("neck") - self.place("pelvis")
        upright = np.flatnonzero(trunk[:, 1] > 0.5 * np.linalg.norm(trunk, axis=-1))
        if not len(upright):
            upright = np.arange(len(angles))
        return np.asarray(self._smooth(np.interp(np.arange(len(angles)), upright, np.unwrap(angles[upright]))))

    @cached_property
    def turning(self) -> np.ndarray:
        """Turning rate in degrees per second, positive to the left, `(T,)`."""
        return np.asarray(np.degrees(self._velocity(self.heading)))

    @property
    def turned(self) -> float:
        """Degrees between the first and the last heading, positive to the left."""
        return float(np.degrees(self.heading[-1] - self.heading[0]))

    @cached_property
    def travel(self) -> np.ndarray:
        """Horizontal velocity of the pelvis in m/s relative to the heading: forward and left, `(T, 2)`."""
        velocity = self._velocity(self._smooth(self.place("pelvis"), 0.4))[:, ::2]
        sine, cosine = np.sin(self.heading), np.cos(self.heading)
        forward = velocity[:, 0] * sine + velocity[:, 1] * cosine
        left = velocity[:, 0] * cosine - velocity[:, 1] * sine
        return np.stack([forward, left], axis=-1)

    @cached_property
    def speed(self) -> np.ndarray:
        """Horizontal speed of the pelvis in m/s, `(T,)`."""
        return np.asarray(np.linalg.norm(self.travel, axis=-1))

    def height(self, joint: str) -> np.ndarray:
        """Return the height of a joint above the floor in meters, `(T,)`."""
        return self.place(joint)[:, 1]

    def wrist_above(self, side: str, joint: str) -> np.ndarray:
        """Return the height of a wrist above another joint, such as the shoulder or the head, in meters, `(T,)`."""
        return self.height(f"{side}_wrist") - self.height(joint)

    @cached_property
    def hands_apart(self) -> np.ndarray:
        """Distance between the wrists in meters, `(T,)`."""
        return np.asarray(np.linalg.norm(self.place("left_wrist") - self.place("right_wrist"), axis=-1))

    def in_body(self, joint: str) -> np.ndarray:
        """Return the position of a joint relative to the pelvis: left, up and forward, in meters, `(T, 3)`."""
        offset = self.place(joint) - self.place("pelvis")
        sine, cosine = np.sin(self.heading), np.cos(self.heading)
        left = offset[:, 0] * cosine - offset[:, 2] * sine
        forward = offset[:, 0] * sine + offset[:, 2] * cosine
        return np.stack([left, offset[:, 1], forward], axis=-1)

    @cached_property
    def lean(self) -> np.ndarray:
        """Lean of the trunk in degrees, forward and left, `(T, 2)`; 90 is horizontal, 180 is upside down."""
        left, up, forward = self.in_body("neck").T
        level = np.hypot(left, forward)
        tilt = np.degrees(np.arctan2(level, up))
        share = np.stack([forward, left], axis=-1) / np.maximum(level, 1e-6)[:, None]
        return share * tilt[:, None]

    def knee(self, side: str) -> np.ndarray:
        """Return the bend of a knee in degrees, `(T,)`; 0 is straight."""
        thigh = self.place(f"{side}_hip") - self.place(f"{side}_knee")
        shin = self.place(f"{side}_ankle") - self.place(f"{side}_knee")
        cosine = (thigh * shin).sum(-1) / np.maximum(
            np.linalg.norm(thigh, axis=-1) * np.linalg.norm(shin, axis=-1), 1e-9
        )
        return np.asarray(180.0 - np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def foot_height(self, side: str) -> np.ndarray:
        """Return the height of a foot above its standing height in meters, `(T,)`: the lower of ankle and toe."""
        ankle, toe = f"{side}_ankle", f"{side}_foot"
        return np.minimum(self.height(ankle) - self._standing[ankle], self.height(toe) - self._standing[toe])

    def _foot_speed(self, side: str) -> np.ndarray:
        way = self._velocity(self._smooth(self.place(f"{side}_ankle"), 0.1))
        return np.asarray(np.linalg.norm(way[:, ::2], axis=-1))

    def on_floor(self, side: str) -> np.ndarray:
        """Return whether a foot stands on the floor, `(T,)` bool."""
        return (self.foot_height(side) < _FOOT_HEIGHT_M) & (self._foot_speed(side) < _SWING_M_PER_S)

    @cached_property
    def flights(self) -> list[tuple[int, int]]:
        """First and last frame of each span in which the body is in the air."""
        off = np.minimum(self.foot_height("left"), self.foot_height("right")) > 0.03
        fall = self._velocity(self._velocity(self._smooth(self.joints[:, _BODY].mean(axis=1)[:, 1], 0.1)))
        falling = self._smooth(fall, 0.15) < _FLIGHT_ACCELERATION
        return [run for run in runs(off & falling) if (run[1] - run[0] + 1) / self.fps >= _FLIGHT_S]

    @cached_property
    def events(self) -> list[Event]:
        """Steps, jumps, kicks and reaches in order of time."""
        found = [*self._steps(), *self._jumps(), *self._kicks(), *self._reaches()]
        return sorted(found, key=lambda event: event.time)

    def count(self, kind: str, side: str | None = None) -> int:
        """Return the number of events of a kind, for one side or for all."""
        return sum(event.kind == kind and side in (None, event.side) for event in self.events)

    def _steps(self) -> list[Event]:
        found = []
        for side in SIDES:
            speed, place = self._foot_speed(side), self.place(f"{side}_ankle")[:, ::2]
            swinging, start = False, 0
            for frame, value in enumerate(speed):
                if not swinging and value > _SWING_M_PER_S:
                    swinging, start = True, frame
                elif swinging and value < _STANCE_M_PER_S:
                    swinging = False
                    length = float(np.linalg.norm(place[frame] - place[max(0, start - 1)]))
                    if length > _STEP_LENGTH_M and self.foot_height(side)[frame] < 2 * _FOOT_HEIGHT_M:
                        found.append(Event(frame / self.fps, "step", side, length))
        return found

    def _jumps(self) -> list[Event]:
        """Return the flights in which the pelvis rises more than 0.1 m. Lower ones, as in running, are steps."""
        found = []
        pelvis = self.height("pelvis")
        for first, last in self.flights:
            around = slice(max(0, first - round(0.4 * self.fps)), first + 1)
            rise = float(pelvis[first : last + 1].max() - pelvis[around].min())
            if rise > 0.1:
                found.append(Event(first / self.fps, "jump", "", rise))
        return found

    def _kicks(self) -> list[Event]:
        found = []
        for side, other in zip(SIDES, SIDES[::-1], strict=True):
            height = self.height(f"{side}_ankle")
            speed = np.linalg.norm(self._velocity(self.place(f"{side}_ankle")), axis=-1)
            upright = np.linalg.norm(self.lean, axis=-1) < 60
            high = upright & (height > 0.5) & (self.foot_height(other) < 0.15) & (self.height("pelvis") > 0.6)
            for first, last in runs(high):
                if speed[max(0, first - 4) : last + 1].max() > 2.0 and self.knee(side)[first : last + 1].min() < 70:
                    peak = first + int(height[first : last + 1].argmax())
                    found.append(Event(peak / self.fps, "kick", side, float(height[peak])))
        return found

    def _reaches(self) -> list[Event]:
        """Return the times at which an arm straightens fast: punches, throws, thrusts."""
        found = []
        for side in SIDES:
            arm = np.linalg.norm(self.place(f"{side}_wrist") - self.place(f"{side}_shoulder"), axis=-1)
            speed = self._velocity(self._smooth(arm, 0.1))
            for first, last in runs(speed > 1.0):
                if arm[min(last + 1, len(arm) - 1)] > 0.4:
                    peak = first + int(speed[first : last + 1].argmax())
                    found.append(Event(peak / self.fps, "reach", side, float(speed[peak])))
        return found

    @cached_property
    def posture(self) -> np.ndarray:
        """Posture in each frame, `(T,)`.

        One of "standing", "bending", "crouching", "sitting", "kneeling", "all fours", "lying" and "upside down".
        """
        pelvis, tilt = self.height("pelvis"), np.linalg.norm(self.lean, axis=-1)
        knees = np.minimum(self.knee("left"), self.knee("right"))
        knee_height = np.minimum(self.height("left_knee"), self.height("right_knee"))
        hands = np.minimum(self.height("left_wrist"), self.height("right_wrist"))
        feet = np.maximum(self.foot_height("left"), self.foot_height("right"))
        posture = np.full(len(pelvis), "standing", dtype="<U12")
        posture[(tilt > 50) & (pelvis > 0.55)] = "bending"
        posture[(pelvis < 0.72) & (knees > 60)] = "crouching"
        thighs_level = [np.abs(self.height(f"{side}_hip") - self.height(f"{side}_knee")) < 0.22 for side in SIDES]
        posture[(pelvis < 0.75) & (pelvis > 0.3) & (tilt < 50) & (thighs_level[0] & thighs_level[1])] = "sitting"
        posture[(pelvis < 0.35) & (tilt < 60)] = "sitting"
        posture[(knee_height < 0.16) & (pelvis > 0.35) & (pelvis < 0.8) & (tilt < 55)] = "kneeling"
        posture[(hands < 0.25) & (tilt > 45) & (pelvis > 0.3)] = "all fours"
        posture[(pelvis < 0.32) & (tilt > 55)] = "lying"
        posture[(tilt > 130) & (feet > 0.6)] = "upside down"
        return posture


_BODY = [_INDEX[name] for name in ("pelvis", "spine3", "head", "left_knee", "right_knee", "left_elbow", "right_elbow")]
_STANDING_ANKLE_M = 0.07  # heights of ankle and toe of the standing HumanML3D body
_STANDING_TOE_M = 0.02


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last frame of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(start), int(stop) - 1) for start, stop in edges.reshape(-1, 2)]

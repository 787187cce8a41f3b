"""Appearance of the body in pictures, videos, 3D files and the player: limbs, colors, and the camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lamp_hf.motion.features import facing_angles
from lamp_hf.motion.skeleton import Skeleton

Color = tuple[int, int, int]
Style = Literal["mannequin", "skeleton"]  # a shaded body, or a rod for each bone

# Blue and orange can be distinguished by people with red-green color blindness.
COLORS: dict[str, Color] = {"left": (38, 105, 196), "right": (226, 114, 31), "center": (96, 102, 112)}
# The mannequin is light, so that its shading shows; only its hands and feet have the color of their side.
MANNEQUIN_COLORS: dict[str, Color] = {"left": (66, 128, 214), "right": (236, 134, 58), "center": (206, 203, 197)}

HEAD_RADIUS_M = 0.095
HEAD_RISE_M = 0.05  # center of the head above the head joint, which is at the base of the skull
_RADII_M = {
    "pelvis": 0.07,
    "root": 0.07,
    "hip": 0.062,
    "knee": 0.047,
    "ankle": 0.034,
    "foot": 0.026,
    "toe": 0.02,
    "collar": 0.05,
    "shoulder": 0.044,
    "elbow": 0.034,
    "wrist": 0.03,
    "neck": 0.045,
    "head": 0.045,
}
_SPINE_RADIUS_M = 0.072
_ADULT_LEG_M = 0.82  # hip to ankle of the body for which the radii are chosen
_FLOOR_TOLERANCE_M = 0.3


def check_style(style: str) -> None:
    """Raise an error for an unknown style.

    Raises:
        ValueError: the style is unknown.
    """
    if style not in get_args(Style):
        raise ValueError(f"style: expected {' or '.join(map(repr, get_args(Style)))}, got {style!r}")


@dataclass(frozen=True)
class Limb:
    """A bone to draw: a rod between two joints, thicker at one end.

    Attributes:
        parent: index of the joint where it starts.
        joint: index of the joint where it ends.
        side: "left", "right" or "center", a key of `COLORS`.
    """

    parent: int
    joint: int
    side: str


def limbs(skeleton: Skeleton) -> tuple[Limb, ...]:
    """List the bones of a skeleton, parents before children, with the side of the joint where each ends."""
    sides = dict.fromkeys(range(skeleton.num_joints), "center")
    for left, right in skeleton.mirror_pairs:
        sides[left], sides[right] = "left", "right"
    return tuple(Limb(parent, joint, sides[joint]) for joint, parent in enumerate(skeleton.parents) if parent >= 0)


def head_joint(skeleton: Skeleton) -> int:
    """Return the index of the head joint."""
    return skeleton.joint_names.index("head")


@dataclass(frozen=True)
class Figure:
    """A motion prepared for drawing.

    Attributes:
        joints: (T, J, 3) float64, meters, Y up.
        head: (T, 3), center of the ball that represents the head.
        head_radius: radius of the ball, meters.
        radii: (J,), thickness of the body at each joint, meters.
        limbs: the bones.
        floor: height of the floor, meters.
        facing: direction that the body faces in the first frame, radians from +Z toward +X.
    """

    joints: np.ndarray
    head: np.ndarray
    head_radius: float
    radii: np.ndarray
    limbs: tuple[Limb, ...]
    floor: float
    facing: float

    @classmethod
    def of(cls, joints: np.ndarray, skeleton: Skeleton) -> "Figure":
        """Prepare joints (T, J, 3), meters, for drawing."""
        joints = np.asarray(joints, dtype=np.float64)
        size = body_size(joints, skeleton)
        head = head_joint(skeleton)
        way = joints[:, head] - joints[:, skeleton.parents[head]]
        way = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-9)
        return cls(
            joints=joints,
            head=joints[:, head] + way * (HEAD_RISE_M * size),
            head_radius=HEAD_RADIUS_M * size,
            radii=joint_radii(skeleton) * size,
            limbs=limbs(skeleton),
            floor=floor_height(joints),
            facing=float(facing_angles(joints[0], skeleton)),
        )


def joint_radii(skeleton: Skeleton) -> np.ndarray:
    """Return the radii (J,) of an adult body at each joint, in meters."""
    stems = (name.rpartition("_")[2] for name in skeleton.joint_names)
    return np.array([_RADII_M.get(stem, _SPINE_RADIUS_M) for stem in stems])


def body_size(joints: np.ndarray, skeleton: Skeleton) -> float:
    """Return the leg length in joints (T, J, 3), meters, relative to an adult's, to scale the thickness of limbs."""
    lower = list(skeleton.leg_joints)
    upper = [skeleton.parents[joint] for joint in lower]
    leg = float(np.median(np.linalg.norm(joints[:, lower] - joints[:, upper], axis=-1).sum(axis=-1)))
    return leg / _ADULT_LEG_M


def floor_height(joints: np.ndarray) -> float:
    """Estimate the height of the floor under joints (T, J, 3).

    Y = 0 unless the lowest joint is far from it: small gaps between foot and floor are part of the motion and should be
    visible.
    """
    lowest = float(joints[..., 1].min())
    return 0.0 if abs(lowest) <= _FLOOR_TOLERANCE_M else lowest


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at a point. Depths are in meters along the line of sight.

    At azimuth 0, a body that faces +Z looks at the viewer, and its left hand is on the viewer's right.

    Attributes:
        azimuth: position of the camera, radians about the vertical from +Z toward +X.
        elevation: radians above the horizon.
        distance: meters from the camera's target.
        center: pixel (x, y) at which the target appears.
        focal: pixels per meter at a depth of one meter.
    """

    azimuth: float
    elevation: float
    distance: float
    center: tuple[float, float]
    focal: float

    @property
    def axes(self) -> np.ndarray:
        """Unit vectors (3, 3): to the right of the picture, up, and away from the viewer."""
        return _view_axes(self.azimuth, self.elevation)

    def project(self, points: np.ndarray, focus: np.ndarray) -> np.ndarray:
        """Project points (..., 3), looking at focus (3,), to (..., 3): pixel x, pixel y (down) and depth."""
        seen = (points - focus) @ self.axes.T
        depth = np.maximum(seen[..., 2] + self.distance, 0.05)
        scale = self.focal / depth
        return np.stack([self.center[0] + seen[..., 0] * scale, self.center[1] - seen[..., 1] * scale, depth], axis=-1)

    @classmethod
    def framing(
        cls,
        points: np.ndarray,
        viewport: Sequence[float],
        *,
        margin: float,
        azimuth: float,
        elevation: float,
        field_of_view: float = 0.6,
    ) -> "Camera":
        """Place a camera as close as possible with all points in the picture.

        Args:
            points: (N, 3), meters, relative to the camera's target.
            viewport: left, top, right and bottom of the part of the picture to use, pixels.
            margin: meters around every point that must be in the picture too.
            azimuth: radians, see `Camera`.
            elevation: radians.
            field_of_view: vertical angle of the viewport, radians.

        Returns:
            The camera.
        """
        low, high = np.reshape(np.asarray(viewport, dtype=np.float64), (2, 2))
        focal = (high[1] - low[1]) / (2.0 * np.tan(field_of_view / 2.0))
        seen = np.asarray(points) @ _view_axes(azimuth, elevation).T
        # The target need not appear at the center of the picture. Of several positions across (and then up and down),
        # choose the one at which the smallest distance shows all points.
        distance, center = 0.5, []
        for axis, direction in ((0, 1.0), (1, -1.0)):
            after = focal * (direction * seen[:, axis] + margin)
            before = focal * (margin - direction * seen[:, axis])
            places = np.linspace(low[axis], high[axis], 65)[1:-1].tolist()
            needed = [
                float((np.maximum(after / (high[axis] - place), before / (place - low[axis])) - seen[:, 2]).max())
                for place in places
            ]
            best = int(np.argmin(needed))
            center.append(places[best])
            distance = max(distance, needed[best] + margin)
        return cls(azimuth, elevation, distance, (center[0], center[1]), float(focal))


def _view_axes(azimuth: float, elevation: float) -> np.ndarray:
    back = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    return np.stack([right, np.cross(back, right), -back])


def camera_track(figure: Figure, *, follow: bool, fps: float) -> np.ndarray:
    """Choose the target of the camera in each frame.

    Args:
        figure: the body.
        follow: whether the camera follows the body smoothly; otherwise it does not move and shows the whole path.
        fps: frames per second.

    Returns:
        (T, 3), meters. The height is constant, in the middle of the clip's vertical range.
    """
    joints = figure.joints
    low, high = joints.min(axis=(0, 1)), joints.max(axis=(0, 1))
    low[1] = min(low[1], figure.floor)
    high[1] = max(high[1], float(figure.head[:, 1].max()) + figure.head_radius)
    track = np.tile((low + high) / 2.0, (len(joints), 1))
    if follow:
        track[:, ::2] = _smooth(joints[:, 0, ::2], round(0.5 * fps))
    return track


def _smooth(values: np.ndarray, reach: int) -> np.ndarray:
    """Average values (T, N) over `reach` frames on both sides, twice; the first and last values are repeated."""
    window = 2 * reach + 1
    for _ in range(2):
        padded = np.pad(values, ((reach + 1, reach), (0, 0)), mode="reflect", reflect_type="odd")
        sums = np.cumsum(padded, axis=0)
        values = (sums[window:] - sums[:-window]) / window
    return values

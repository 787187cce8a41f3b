"""Orientations of body segments from joint positions: hips, chest, and limbs that bend about a hinge.

All coordinates are canonical: x to the body's left, y up, z to its front. The rest pose of a character and each frame
of a motion get their orientations from the same functions, so the turn from one to the other moves the character's
segment from its own rest pose, whatever that is, to the pose of the motion.
"""

import numpy as np

from lamp_hf.motion import rotations

__all__ = ["basis", "hinge", "limb_turns", "smoothed", "turn_between", "twist_about"]

_WEAK = np.radians((8.0, 35.0))  # the plane of a limb is unknown below the first bend, and known above the second
_FAR = np.radians((110.0, 150.0))  # twists that are implausible at a weak bend
_FAR_BEND = np.radians((40.0, 70.0))  # bends at which even they are believed
_PRIOR = 0.05
_CONTEXT_S = 0.25


def basis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return rotations (..., 3, 3) whose x axis is `first` and whose y axis is as close as possible to `second`."""
    x = rotations.normalize(first, (1.0, 0.0, 0.0))
    other = np.eye(3)[np.argmin(np.abs(x), axis=-1)]
    y = second - np.sum(x * second, axis=-1, keepdims=True) * x
    y = rotations.normalize(np.where(np.linalg.norm(y, axis=-1, keepdims=True) > 1e-9, y, np.cross(other, x)))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def turn_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the rotations (..., 4) that turn one basis (..., 3, 3) into another."""
    return rotations.from_matrix(np.matmul(after, np.swapaxes(before, -1, -2)))


def smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth values (T,) over time with a Gaussian of `sigma` frames; real or complex."""
    radius = int(np.ceil(3.0 * sigma))
    if radius < 1:
        return values
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, radius, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def hinge(
    upper: np.ndarray, lower: np.ndarray, body: np.ndarray, rest: tuple[np.ndarray, np.ndarray], fps: float
) -> np.ndarray:
    """Return the axis about which a knee or an elbow bends.

    It is perpendicular to both bones while the limb is bent. A straight limb has no plane: its axis follows the frames
    before and after, and the twist-free axis of the body. Therefore it does not jump when the limb straightens, or when
    noise bends it backward.

    Args:
        upper: (T, 3), unit directions of the upper bone.
        lower: (T, 3), unit directions of the lower bone.
        body: (T, 4), orientation of the hips or the chest.
        rest: direction (3,) of the upper bone and axis (3,) in a relaxed body, from which twist is measured.
        fps: frames per second.

    Returns:
        (T, 3), unit vectors perpendicular to `upper`.
    """
    direction, axis = rest
    local = rotations.rotate(rotations.conjugate(body), upper)
    free = rotations.rotate(body, rotations.rotate(rotations.between(direction, local), axis))
    across = np.cross(upper, lower)
    bend = np.arctan2(np.linalg.norm(across, axis=-1), np.sum(upper * lower, axis=-1))
    twist = np.arctan2(np.sum(np.cross(free, across) * upper, axis=-1), np.sum(free * across, axis=-1))
    sure = step(bend, *_WEAK)
    unlikely = step(np.abs(twist), *_FAR) * (1.0 - step(bend, *_FAR_BEND))
    sure = sure * (1.0 - unlikely)
    weighted = sure * np.exp(1j * twist)
    total = weighted / (1.02 - sure) + 0.5 * smoothed(weighted, _CONTEXT_S * fps) + _PRIOR
    return rotations.rotate(twist_about(upper, np.angle(total)), free)


def twist_about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return rotations (..., 4) about unit axes (..., 3) by angles (...)."""
    return rotations.from_vector(axis * np.asarray(angle)[..., None])


def limb_turns(
    bones: tuple[np.ndarray, np.ndarray],
    axis: np.ndarray,
    rest_bones: tuple[np.ndarray, np.ndarray],
    rest_axis: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the turns (T, 4) of upper and lower bone from the rest pose to directions (T, 3) with a hinge (T, 3)."""
    upper, lower = (
        turn_between(basis(before, rest_axis), basis(after, axis))
        for before, after in zip(rest_bones, bones, strict=True)
    )
    return upper, lower

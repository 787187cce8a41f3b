"""Rotations in NumPy: quaternions, matrices, the 6D representation and Euler angles, with any leading dimensions.

Quaternions are (w, x, y, z) with the Hamilton product, vectors are columns, and angles are in radians.
"""

import numpy as np
from numpy.typing import ArrayLike

_AXES = {"x": 0, "y": 1, "z": 2}
_TINY = 1e-12


def multiply(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Multiply quaternions (..., 4): rotate by b first, then by a."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(quaternions: ArrayLike) -> np.ndarray:
    """Negate the vector part of quaternions (..., 4), which inverts unit quaternions."""
    return np.asarray(quaternions) * np.array([1.0, -1.0, -1.0, -1.0])


def normalize(vectors: ArrayLike, fallback: ArrayLike = 0.0) -> np.ndarray:
    """Scale vectors (..., N) to length 1; replace vectors of length 0 by `fallback`, which is broadcast."""
    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.sqrt(np.sum(vectors * vectors, axis=-1, keepdims=True))
    return np.where(length > _TINY, vectors / np.maximum(length, _TINY), fallback)


def rotate(quaternions: ArrayLike, vectors: ArrayLike) -> np.ndarray:
    """Rotate vectors (..., 3) by unit quaternions (..., 4)."""
    quaternions, vectors = np.asarray(quaternions), np.asarray(vectors)
    w, axis = quaternions[..., :1], quaternions[..., 1:]
    twice = 2.0 * np.cross(axis, vectors)
    return np.asarray(vectors + w * twice + np.cross(axis, twice))


def between(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """Compute the shortest rotation of directions a (..., 3) onto directions b (..., 3).

    If they are opposite, rotate by half a turn about an axis perpendicular to a. If one of them is zero, do not rotate.

    Returns:
        (..., 4), unit quaternions.
    """
    a, b = np.broadcast_arrays(normalize(a), normalize(b))
    dot = np.sum(a * b, axis=-1, keepdims=True)
    quaternions = np.concatenate([1.0 + dot, np.cross(a, b)], axis=-1)
    opposite = np.sum(quaternions**2, axis=-1, keepdims=True) < 1e-24
    if opposite.any():
        # The coordinate axis with the smallest component of a is never parallel to a.
        other = np.eye(3)[np.argmin(np.abs(a), axis=-1)]
        half_turn = np.concatenate([np.zeros_like(dot), np.cross(a, other)], axis=-1)
        quaternions = np.where(opposite, half_turn, quaternions)
    return normalize(quaternions, fallback=(1.0, 0.0, 0.0, 0.0))


def slerp(a: ArrayLike, b: ArrayLike, share: ArrayLike) -> np.ndarray:
    """Interpolate between unit quaternions (..., 4) at constant speed, along the shorter arc.

    Args:
        a: rotations at `share` 0.
        b: rotations at `share` 1.
        share: (...), fractions in [0, 1].
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    share = np.asarray(share, dtype=np.float64)[..., None]
    dot = np.sum(a * b, axis=-1, keepdims=True)
    b = np.where(dot < 0.0, -b, b)
    # Unlike arccos, the half angle from chord lengths is accurate for both small and large angles.
    angle = 2.0 * np.arctan2(
        np.linalg.norm(b - a, axis=-1, keepdims=True), np.linalg.norm(b + a, axis=-1, keepdims=True)
    )
    sine = np.sin(angle)
    close = sine < 1e-9
    sine = np.where(close, 1.0, sine)
    weight_a = np.where(close, 1.0 - share, np.sin((1.0 - share) * angle) / sine)
    weight_b = np.where(close, share, np.sin(share * angle) / sine)
    return normalize(weight_a * a + weight_b * b, fallback=(1.0, 0.0, 0.0, 0.0))


def to_matrix(quaternions: ArrayLike) -> np.ndarray:
    """Convert unit quaternions (..., 4) to matrices (..., 3, 3)."""
    w, x, y, z = np.moveaxis(np.asarray(quaternions), -1, 0)
    rows = [
        *(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        *(2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        *(2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    ]
    stacked = np.stack(rows, axis=-1)
    return stacked.reshape(*stacked.shape[:-1], 3, 3)


def from_matrix(matrices: ArrayLike) -> np.ndarray:
    """Convert rotation matrices (..., 3, 3) to unit quaternions (..., 4) with w >= 0."""
    m = np.asarray(matrices, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Row i is the quaternion times four times its i-th component. The row with the largest component is most accurate.
    yz, zx, xy = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    sum_xy, sum_xz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0]
    sum_yz = m[..., 2, 1] + m[..., 1, 2]
    candidates = np.stack(
        [
            np.stack([1.0 + xx + yy + zz, yz, zx, xy], axis=-1),
            np.stack([yz, 1.0 + xx - yy - zz, sum_xy, sum_xz], axis=-1),
            np.stack([zx, sum_xy, 1.0 - xx + yy - zz, sum_yz], axis=-1),
            np.stack([xy, sum_xz, sum_yz, 1.0 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)[..., None, None]
    quaternions = normalize(np.take_along_axis(candidates, best, axis=-2)[..., 0, :])
    return np.where(quaternions[..., :1] < 0.0, -quaternions, quaternions)


def to_6d(quaternions: ArrayLike) -> np.ndarray:
    """Convert unit quaternions (..., 4) to the first two columns of their matrices, concatenated: (..., 6).

    Source: Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    w, x, y, z = np.moveaxis(np.asarray(quaternions), -1, 0)
    return np.stack(
        [
            *(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
            *(2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        ],
        axis=-1,
    )


def about_axis(axis: str, angles: ArrayLike) -> np.ndarray:
    """Compute rotations about a coordinate axis.

    Args:
        axis: "x", "y" or "z".
        angles: (...), radians.

    Returns:
        (..., 4), unit quaternions.
    """
    half = np.asarray(angles, dtype=np.float64) / 2.0
    quaternions = np.zeros((*half.shape, 4))
    quaternions[..., 0] = np.cos(half)
    quaternions[..., 1 + _AXES[axis]] = np.sin(half)
    return quaternions


def from_vector(vectors: ArrayLike) -> np.ndarray:
    """Convert rotation vectors (..., 3), axis times angle in radians, to unit quaternions (..., 4)."""
    vectors = np.asarray(vectors, dtype=np.float64)
    half = np.linalg.norm(vectors, axis=-1, keepdims=True) / 2.0
    # np.sinc(x) is sin(pi x) / (pi x), which avoids a division by zero.
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * vectors], axis=-1)


def from_euler(angles: ArrayLike, order: str) -> np.ndarray:
    """Convert Euler angles to quaternions.

    Args:
        angles: (..., 3), radians, in the order of the letters.
        order: three axes, outermost first: "zxy" means R = Rz·Rx·Ry, "Zrotation Xrotation Yrotation" in BVH.

    Returns:
        (..., 4), unit quaternions.
    """
    angles = np.asarray(angles, dtype=np.float64)
    first, second, third = (about_axis(axis, angles[..., i]) for i, axis in enumerate(order.lower()))
    return multiply(multiply(first, second), third)


def to_euler(quaternions: ArrayLike, order: str) -> np.ndarray:
    """Convert unit quaternions to Euler angles.

    Args:
        quaternions: (..., 4).
        order: three different axes, as in `from_euler`.

    Returns:
        (..., 3), radians, in the order of the letters: the first and third in [-π, π], the second in [-π/2, π/2]. If
        the second is ±π/2 (gimbal lock), the third is 0.

    Raises:
        ValueError: the order does not consist of three different axes.
    """
    if sorted(order.lower()) != ["x", "y", "z"]:
        raise ValueError(f"expected an order of three different axes such as 'zxy', got {order!r}")
    i, j, k = (_AXES[axis] for axis in order.lower())
    sign = 1.0 if (j - i) % 3 == 1 else -1.0  # parity of the permutation
    m = to_matrix(quaternions)
    cosine = np.hypot(m[..., i, i], m[..., i, j])
    locked = cosine < 1e-7
    first = np.where(
        locked,
        np.arctan2(sign * m[..., k, j], m[..., j, j]),
        np.arctan2(-sign * m[..., j, k], m[..., k, k]),
    )
    second = np.arctan2(sign * m[..., i, k], cosine)
    third = np.where(locked, 0.0, np.arctan2(-sign * m[..., i, j], m[..., i, i]))
    return np.stack([first, second, third], axis=-1)

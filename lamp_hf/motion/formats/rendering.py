"""Render a shaded mannequin and its shadow in NumPy, seen by a camera."""

from dataclasses import dataclass

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.features import resample_joints
from lamp_hf.motion.feet import planted_kinematics
from lamp_hf.motion.formats.drawing import MANNEQUIN_COLORS, Camera, Color, floor_height
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.mannequin import SIDES, Mannequin, fit_mannequin, world_rotations
from lamp_hf.motion.motion import Motion

# The light comes from above the viewer's left shoulder, so shadows fall away from the viewer.
_LIGHT_AZIMUTH, _LIGHT_ELEVATION = np.radians([-38.0, 58.0])
_SKY, _GROUND = 0.76, 0.46  # brightness of surfaces that face up and down, without the light
_LIGHT = 0.44
_WRAP = 0.3  # how far the light reaches around a surface
_RIM = 0.10
_SHINE, _SHARPNESS = 0.09, 22.0
_SHADOW = 0.42
_SHADOW_HEIGHT_M = 0.75  # the shadow of a part at this height is half as dark
_SHADOW_SCALE = 4  # the shadow is drawn smaller by this factor, and blurred
_SHADOW_BLUR = 1.6
_SHADOW_RIM_M = 0.3  # the shadow fades out before the rim of the floor

# The same for the player; its names are those of player.js.
LOOK = {
    "lightAzimuth": round(float(_LIGHT_AZIMUTH), 4),
    "lightElevation": round(float(_LIGHT_ELEVATION), 4),
    "tone": [_SKY, _GROUND, _LIGHT, _WRAP],
    "gloss": [_RIM, _SHINE, _SHARPNESS],
    "shadow": _SHADOW,
    "shadowHeight": _SHADOW_HEIGHT_M,
}

_SIDE_COLORS = np.array([MANNEQUIN_COLORS[side] for side in SIDES], dtype=np.float32)


@dataclass(frozen=True)
class Actor:
    """A mannequin that plays a motion.

    Attributes:
        mannequin: the mesh.
        joints: (T, J, 3), meters, positions of the joints.
        turns: (T, J, 4), rotations of the joints from the rest pose, in world space.
    """

    mannequin: Mannequin
    joints: np.ndarray
    turns: np.ndarray

    @classmethod
    def of(
        cls, motion: Motion, *, own_body: bool | None = None, plant_feet: bool | None = None, fps: float | None = None
    ) -> "Actor":
        """Fit the mannequin to a motion.

        Args:
            motion: the motion.
            own_body, plant_feet: see `lamp_hf.motion.formats.bvh.write_bvh`.
            fps: frames per second of the result; defaults to the motion's.
        """
        skeleton = motion.skeleton
        local, root, offsets, wanted = planted_kinematics(motion, own_body=own_body, plant_feet=plant_feet)
        mannequin = fit_mannequin(local, root, offsets, skeleton, floor_height(wanted))
        joints = forward_kinematics(local, root, offsets, skeleton.parents)
        turns = world_rotations(local, skeleton.parents)
        if fps is None or fps == motion.fps:
            return cls(mannequin, joints, turns)
        joints = np.asarray(resample_joints(joints, motion.fps, fps), dtype=np.float64)
        place = np.minimum(np.arange(len(joints)) * motion.fps / fps, len(turns) - 1)
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, len(turns) - 1)
        return cls(mannequin, joints, rotations.slerp(turns[before], turns[after], (place - before)[:, None]))

    def reach(self) -> np.ndarray:
        """Return the outermost points (T, N, 3) of the body, meters, to place a camera."""
        outline = self.mannequin.outline
        return np.stack([outline.pose(*pose)[0] for pose in zip(self.joints, self.turns, strict=True)])

    def pose(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the vertices (V, 3) and the normals (V, 3) in a frame."""
        return self.mannequin.pose(self.joints[frame], self.turns[frame])


def shades() -> dict[str, list[Color]]:
    """List the colors that occur on the body, for the palette of a GIF: from dark to light for each side."""
    count = {"center": 56, "left": 34, "right": 34}
    found = {}
    for side, color in MANNEQUIN_COLORS.items():
        steps = np.linspace(_GROUND, _SKY + _LIGHT, count[side])[:, None]
        shine = 255.0 * _SHINE * np.linspace(0.0, 1.0, count[side])[:, None] ** 3
        levels = np.clip(np.round(np.array(color) * steps + shine), 0, 255).astype(int)
        found[side] = [(red, green, blue) for red, green, blue in levels.tolist()]
    return found


def shaded(color: Color, share: float) -> Color:
    """Return the color of a floor in the shadow; `share` is from 0 (no shadow) to 1 (the darkest)."""
    red, green, blue = (round(part * (1.0 - _SHADOW * share)) for part in color)
    return red, green, blue


def light_direction(azimuth: float) -> np.ndarray:
    """Return the unit vector (3,) to the light for the azimuth of a camera, in radians."""
    around = azimuth + _LIGHT_AZIMUTH
    level = np.cos(_LIGHT_ELEVATION)
    return np.array([np.sin(around) * level, np.sin(_LIGHT_ELEVATION), np.cos(around) * level])


def render_shadow(
    canvas: np.ndarray, camera: Camera, focus: np.ndarray, actor: Actor, frame: int, floor: float, radius: float
) -> None:
    """Darken the floor in a picture (H, W, 3), uint8, in place, where the body blocks the light.

    Args:
        canvas: the picture.
        camera: the camera.
        focus: (3,), the camera's target.
        actor: the body.
        frame: index of the frame.
        floor: height of the floor, meters.
        radius: radius of the floor around the target, meters.
    """
    from PIL import Image, ImageFilter

    if camera.elevation <= 0.0:
        return
    points, _ = actor.pose(frame)
    light = light_direction(camera.azimuth)
    height = np.maximum(points[:, 1] - floor, 0.0)
    flat = points - light * (height / light[1])[:, None]
    flat[:, 1] = floor
    away = np.hypot(flat[:, 0] - focus[0], flat[:, 2] - focus[2])
    strength = np.clip((radius - away) / _SHADOW_RIM_M, 0.0, 1.0) / (1.0 + (height / _SHADOW_HEIGHT_M) ** 2)
    seen = camera.project(flat, focus).astype(np.float32)
    seen[:, :2] /= _SHADOW_SCALE
    seen[:, 2] = -strength
    rows, columns = (-(-side // _SHADOW_SCALE) for side in canvas.shape[:2])
    triangles = actor.mannequin.triangles
    # Both faces cast a shadow; the strongest wins.
    both = np.concatenate([triangles, triangles[:, ::-1]])
    pixels, owners, shares = rasterize(seen, both, columns, rows)
    mask = np.zeros(rows * columns, dtype=np.float32)
    mask[pixels] = np.einsum("nk,nk->n", shares, strength.astype(np.float32)[both[owners]])
    soft = Image.fromarray(np.round(255.0 * mask.reshape(rows, columns)).astype(np.uint8), "L")
    soft = soft.filter(ImageFilter.GaussianBlur(_SHADOW_BLUR))
    box = soft.getbbox()
    if box is None:
        return
    left, top, right, bottom = box
    soft = soft.crop(box).resize(
        ((right - left) * _SHADOW_SCALE, (bottom - top) * _SHADOW_SCALE), Image.Resampling.BILINEAR
    )
    part = canvas[top * _SHADOW_SCALE : bottom * _SHADOW_SCALE, left * _SHADOW_SCALE : right * _SHADOW_SCALE]
    dark = np.asarray(soft)[: part.shape[0], : part.shape[1], None].astype(np.float32) * (_SHADOW / 255.0)
    part[:] = (part * (1.0 - dark) + 0.5).astype(np.uint8)


def render_body(
    canvas: np.ndarray, camera: Camera, focus: np.ndarray, actor: Actor, frame: int, *, fade: float = 0.0
) -> None:
    """Draw the body into a picture (H, W, 3), uint8, in place; `fade` makes it transparent, for earlier poses."""
    points, normals = actor.pose(frame)
    triangles = actor.mannequin.triangles
    seen = camera.project(points, focus).astype(np.float32)
    height, width = canvas.shape[:2]
    pixels, owners, shares = rasterize(seen, triangles, width, height)
    light, toward = light_direction(camera.azimuth), -camera.axes[2]
    half = (light + toward) / np.linalg.norm(light + toward)
    lit, facing, shine = (normals @ np.stack([light, toward, half], axis=-1).astype(np.float32)).T
    brightness = _GROUND + (_SKY - _GROUND) * (0.5 + 0.5 * normals[:, 1])
    brightness += _LIGHT * np.clip((lit + _WRAP) / (1.0 + _WRAP), 0.0, None)
    white = _SHINE * np.clip(shine, 0.0, None) ** _SHARPNESS + _RIM * np.clip(1.0 - facing, 0.0, 1.0) ** 3
    # Light is computed at the vertices and interpolated, which is enough for triangles of two centimeters.
    shades = np.stack([brightness, 255.0 * white], axis=-1).astype(np.float32)[triangles[owners]]
    shade = shades[:, 0] * shares[:, :1] + shades[:, 1] * shares[:, 1:2] + shades[:, 2] * shares[:, 2:]
    colors = np.minimum(_SIDE_COLORS[actor.mannequin.sides[owners]] * shade[:, :1] + shade[:, 1:], 255.0)
    flat = canvas.reshape(-1, 3)
    if fade > 0.0:
        colors = colors * (1.0 - fade) + flat[pixels] * fade
    flat[pixels] = (colors + 0.5).astype(np.uint8)


def rasterize(
    points: np.ndarray, triangles: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the visible pixels of a closed mesh of small triangles.

    Args:
        points: (V, 3) float32: pixel x, pixel y (down) and depth.
        triangles: (F, 3), counterclockwise as seen from outside; those that face away are left out.
        width, height: size of the picture, pixels.

    Returns:
        Indices (N,) of pixels, row by row, each at most once; the triangle (N,) that is nearest at each pixel, compared
        by the mean depth of the triangles; and the weights (N, 3) of its corners, float32.
    """
    corners = points[triangles]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    limits = np.array([width, height])
    # Pixels have their centers at half coordinates.
    low = np.clip(np.ceil(corners[:, :, :2].min(axis=1) - 0.5), 0, limits).astype(np.int32)
    high = np.clip(np.floor(corners[:, :, :2].max(axis=1) - 0.5), -1, limits - 1).astype(np.int32)
    spans = np.maximum(high - low + 1, 0)
    counts = spans[:, 0] * spans[:, 1]
    kept = np.flatnonzero((area < -1e-6) & (counts > 0))
    kept = kept[np.argsort(-corners[kept, :, 2].sum(axis=1), kind="stable")]  # nearest last
    a, b, c, area, low, counts = a[kept], b[kept], c[kept], area[kept], low[kept], counts[kept]
    # All pixels of the boxes around the triangles, box by box. 32-bit numbers make this twice as fast.
    index = np.repeat(np.arange(len(kept)), counts)
    within = np.arange(len(index), dtype=np.int32)
    within -= np.repeat((np.cumsum(counts) - counts).astype(np.int32), counts)
    row, column = np.divmod(within, spans[kept, 0][index])
    # Weights of two corners as functions of the pixel: k0 + kx x + ky y.
    slopes = np.stack([b[:, 1] - c[:, 1], c[:, 0] - b[:, 0], c[:, 1] - a[:, 1], a[:, 0] - c[:, 0]]) / area
    start = (low - c[:, :2] + 0.5).astype(np.float32)
    offsets = [slopes[k] * start[:, 0] + slopes[k + 1] * start[:, 1] for k in (0, 2)]
    x, y = column.astype(np.float32), row.astype(np.float32)
    first = offsets[0][index] + slopes[0][index] * x + slopes[1][index] * y
    second = offsets[1][index] + slopes[2][index] * x + slopes[3][index] * y
    third = 1.0 - first - second
    edge = -1e-4  # pixels on an edge belong to both triangles, so there are no gaps
    inside = np.flatnonzero((first >= edge) & (second >= edge) & (third >= edge))
    corner = low[index[inside]]
    pixel = (corner[:, 1] + row[inside]) * width + corner[:, 0] + column[inside]
    nearest = np.full(width * height, -1, dtype=np.int64)
    nearest[pixel] = inside  # of equal indices, NumPy assigns the last
    pixels = np.flatnonzero(nearest >= 0)
    visible = nearest[pixels]
    shares = np.stack([first[visible], second[visible], third[visible]], axis=-1)
    return pixels, kept[index[visible]], shares.astype(np.float32)

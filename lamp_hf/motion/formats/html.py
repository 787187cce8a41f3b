"""Create a self-contained HTML player of motions, for files and notebooks."""

import base64
import gzip
import json
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion.feet import planted_motion
from lamp_hf.motion.files import find_writer
from lamp_hf.motion.formats import painting, rendering
from lamp_hf.motion.formats.drawing import (
    COLORS,
    HEAD_RISE_M,
    MANNEQUIN_COLORS,
    Color,
    Figure,
    Style,
    body_size,
    camera_track,
    check_style,
    head_joint,
)
from lamp_hf.motion.limits import MAX_SIDE_BY_SIDE
from lamp_hf.motion.mannequin import SIDES, Mannequin
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import Skeleton

logger = logging.getLogger(__name__)

Scene = tuple[str, float, float]

_STEP_M = 0.001
_LARGEST_INT16 = 32767
_AZIMUTH_DEG, _ELEVATION_DEG = 40.0, 16.0
_NOTEBOOK_HEIGHT = 460
_PAGE_FRAMES = 20_000  # about 7 MB
_NOTEBOOK_FRAMES = 6_000
_DOWNLOADS = ("bvh", "glb")
_DOWNLOAD_FRAMES = 600  # half a minute at 20 fps; the files add about 0.5 MB to a page
_TRAIL_S = 1.2


def motion_to_html(
    motion: Motion | Sequence[Motion],
    *,
    height: int = _NOTEBOOK_HEIGHT,
    plant_feet: bool | None = None,
    style: Style = "mannequin",
    scenes: Sequence[Scene] = (),
    downloads: Sequence[str] | None = (),
    span: tuple[float, float] | None = None,
) -> str:
    """Create an HTML fragment with a player, for a notebook or any other page.

    The player is in a sandboxed frame: a page can contain many, and player and page cannot access each other. A player
    that is not visible uses no graphics memory.

    With `span`, the viewer can choose a span of time: by dragging over the time line, or with the arrow keys on its two
    handles. After each choice, the player sends the message `{type: "lamp-hf-span", start, end}` (seconds) to the page,
    and it shows a span that the page sends in the same form.

    Args:
        motion: the motion, or up to 12 motions that are played side by side.
        height: height in pixels; the width is the width of the page, at most 1.5 times the height for each motion.
        plant_feet, style, scenes: see `write_html`.
        downloads: see `write_html`; by default, there are no download buttons.
        span: start and end in seconds of the span to begin with; by default, there is none to choose.

    Returns:
        An `<iframe>` that contains the whole player: about 40 kB, 120 kB for the mannequin, and 6.5 kB per second at 20
        fps (3.5 kB for the skeleton). Positions are rounded to 1 mm. If there are more than 6,000 frames, every second,
        third, ... frame is shown, at the correct speed.

    Raises:
        ValueError: there are no motions or more than 12, or the style, the scenes, the downloads or the span are
            invalid.
    """
    motions = _checked(motion, style, scenes, downloads)
    if span is not None and not 0.0 <= span[0] <= span[1] < math.inf:
        raise ValueError(f"span: expected (start, end) with 0 ≤ start ≤ end, got {span}")
    page = escape(_page(motions, _NOTEBOOK_FRAMES, plant_feet, style, scenes, downloads, span), quote=True)
    width = height * 3 // 2 * min(len(motions), 3)
    return (
        f'<iframe srcdoc="{page}" sandbox="allow-scripts allow-downloads" loading="lazy" '
        f'title="Motion player" style="width:100%;max-width:{width}px;height:{height}px;'
        'border:1px solid #ddd;border-radius:6px"></iframe>'
    )


def write_html(
    motion: Motion | Sequence[Motion],
    path: str | os.PathLike[str],
    *,
    plant_feet: bool | None = None,
    style: Style = "mannequin",
    scenes: Sequence[Scene] = (),
    downloads: Sequence[str] | None = None,
) -> None:
    """Write a page with a player that needs no server and no network.

    Drag to look around, scroll or pinch to zoom. The controls show the paths of hands and feet, and pale bodies every
    n frames, and change the speed and the style.

    Args:
        motion: the motion, or up to 12 motions that are played side by side; their texts are shown.
        path: file to write; it appears only when complete. If there are more than 20,000 frames, every second, third,
            ... frame is shown, at the correct speed, and a warning is logged.
        plant_feet: whether to keep feet that stand on the floor in place, see `Motion.plant_feet`. Defaults to `True`
            if the motion was generated, `False` if it was read from a file (`own_body`) or its feet are final.
        style: "mannequin" is a shaded body with blue hands and feet on its left and orange ones on its right, which can
            be switched to the skeleton; "skeleton" shows only the joints, without any fitting.
        scenes: text, start and end in seconds of each scene, as in the result of
            `TextToMotionPipeline.storyboard`; they are shown on the time line.
        downloads: files to embed, "bvh" and "glb", with a button for each. Defaults to both if all motions together
            have at most 600 frames, and to none otherwise.

    Raises:
        ValueError: there are no motions or more than 12, or the style, the scenes or the downloads are invalid.
    """
    motions = _checked(motion, style, scenes, downloads)
    page = _page(motions, _PAGE_FRAMES, plant_feet, style, scenes, downloads)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _checked(
    motion: Motion | Sequence[Motion], style: str, scenes: Sequence[Scene], downloads: Sequence[str] | None
) -> list[Motion]:
    motions = [motion] if isinstance(motion, Motion) else list(motion)
    check_style(style)
    if not 1 <= len(motions) <= MAX_SIDE_BY_SIDE:
        raise ValueError(f"motion: expected 1 to {MAX_SIDE_BY_SIDE} motions, got {len(motions)}; write several pages")
    for text, start, end in scenes:
        if not (isinstance(text, str) and math.isfinite(end) and 0.0 <= start < end):
            raise ValueError(f"scenes: expected (text, start, end) with 0 ≤ start < end, got {(text, start, end)}")
    if unknown := set(downloads or ()) - set(_DOWNLOADS):
        raise ValueError(f"downloads: expected {' or '.join(map(repr, _DOWNLOADS))}, got {sorted(unknown)}")
    return motions


def _page(
    motions: Sequence[Motion],
    max_frames: int,
    plant_feet: bool | None,
    style: Style,
    scenes: Sequence[Scene],
    downloads: Sequence[str] | None,
    span: tuple[float, float] | None = None,
) -> str:
    """Insert motions into the template of the player."""
    if downloads is None:
        downloads = _DOWNLOADS if sum(motion.num_frames for motion in motions) <= _DOWNLOAD_FRAMES else ()
    text = motions[0].text or motions[0].name or "motion"
    captions = (
        f'<div class="caption" id="caption-{number}" dir="auto">{escape(motion.text or "")}</div>'
        for number, motion in enumerate(motions)
    )
    marks = (
        f'<button class="scene" dir="auto" data-start="{start:g}" data-end="{end:g}">{escape(text)}</button>'
        for text, start, end in scenes
    )
    filled = {
        "@TITLE@": escape(" ".join(text.split())[:120]),
        "@PANELS@": "".join(f'<div class="panel">{caption}</div>' for caption in captions),
        "@SCENES@": "".join(marks),
        "@MOTION@": _packed(_data(motions, max_frames, plant_feet, style) | {"span": span}),
        "@FILES@": _packed([_files(motion, plant_feet, downloads) for motion in motions] if downloads else []),
        "@SCRIPT@": _template("player.js"),
    }
    parts = []
    rest = _template("player.html")
    # Fill all placeholders in one pass so that a placeholder in a caption remains text.
    for placeholder, value in filled.items():
        before, rest = rest.split(placeholder, 1)
        parts += [before, value]
    return "".join([*parts, rest])


@cache
def _template(name: str) -> str:
    return resources.files("lamp_hf.motion.formats").joinpath(name).read_text(encoding="utf-8")


def _packed(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def _data(motions: Sequence[Motion], max_frames: int, plant_feet: bool | None, style: Style) -> dict[str, Any]:
    """Collect the player's data: numbers, base64 and colors, never text from the user."""
    bodies: list[Mannequin] = []
    shown = []
    for motion in motions:
        every = -(-motion.num_frames * len(motions) // max_frames)
        fps, plant = motion.fps / every, plant_feet
        if every > 1:
            logger.warning(
                "%d frames are too many for a player: 1 in %d is shown, %g per second (crop the motion to see all)",
                *(motion.num_frames, every, fps),
            )
            thin = planted_motion(motion, plant).joints[::every]
            motion, plant = Motion(joints=thin, skeleton=motion.skeleton, own_body=motion.own_body), False
        if style == "skeleton":
            shown.append(_joint_data(np.asarray(planted_motion(motion, plant).joints), motion.skeleton, fps))
            continue
        actor = rendering.Actor.of(motion, plant_feet=plant)
        if not any(actor.mannequin is body for body in bodies):
            bodies.append(actor.mannequin)
        number = next(k for k, body in enumerate(bodies) if body is actor.mannequin)
        data = _joint_data(actor.joints, motion.skeleton, fps)
        shown.append(data | _turn_data(actor.turns, motion.skeleton) | {"mesh": number})
    return {"motions": shown, "meshes": [_mesh(body) for body in bodies], "look": _look()}


def _joint_data(joints: np.ndarray, skeleton: Skeleton, fps: float) -> dict[str, Any]:
    """Pack joints (T, J, 3), meters, and what the skeleton and the camera need."""
    figure = Figure.of(joints, skeleton)
    joints = figure.joints
    low, high = joints.min(axis=(0, 1)), joints.max(axis=(0, 1))
    origin = np.round((low + high) / 2.0, 3)
    track = camera_track(figure, follow=True, fps=fps)
    points = np.concatenate([joints, track[:, None]], axis=1) - origin
    unit = max(_STEP_M, float(np.abs(points).max()) / _LARGEST_INT16)
    head = head_joint(skeleton)
    hands = [skeleton.joint_names.index(f"{side}_wrist") for side in ("left", "right")]
    feet = [skeleton.contact_joints[1], skeleton.contact_joints[3]]
    return {
        "fps": fps,
        "numFrames": len(joints),
        "positions": _base64(np.round(points / unit).astype("<i2")),
        "origin": origin.tolist(),
        "unit": unit,
        "radii": np.round(figure.radii, 4).tolist(),
        "limbs": [[limb.parent, limb.joint, limb.side] for limb in figure.limbs],
        "head": {
            "joint": head,
            "parent": skeleton.parents[head],
            "rise": round(HEAD_RISE_M * body_size(joints, skeleton), 4),
            "radius": round(figure.head_radius, 4),
        },
        "trails": [
            [joint, side] for pair in (hands, feet) for joint, side in zip(pair, ("left", "right"), strict=True)
        ],
        "floor": round(figure.floor, 4),
        "home": {
            "azimuth": round(figure.facing + math.radians(_AZIMUTH_DEG), 4),
            "elevation": round(math.radians(_ELEVATION_DEG), 4),
            "distance": round(max(1.0, 2.0 * float(high[1] - min(low[1], figure.floor))), 3),
        },
    }


def _turn_data(turns: np.ndarray, skeleton: Skeleton) -> dict[str, Any]:
    """Pack the rotations (T, J, 4) of joints in world space; joints at the end of a limb turn with their parents."""
    turning = sorted({parent for parent in skeleton.parents if parent >= 0})
    chosen = turns[:, turning]
    chosen = np.where(chosen[..., :1] < 0.0, -chosen, chosen)[..., 1:]
    slots = [turning.index(j if j in turning else parent) for j, parent in enumerate(skeleton.parents)]
    return {
        "turns": _base64(np.round(chosen * _LARGEST_INT16).astype("<i2")),
        "numTurns": len(turning),
        "turnOf": slots,
    }


def _mesh(body: Mannequin) -> dict[str, Any]:
    """Pack a mannequin: positions, normals, joints and weights of all vertices, and the triangles of each side."""
    unit = float(np.abs(body.positions).max()) / _LARGEST_INT16
    order = np.argsort(body.sides, kind="stable")
    arrays = (
        np.round(body.positions / unit).astype("<i2"),
        np.round(body.normals * 127.0).astype(np.int8),
        body.joints,
        body.weights,
        body.triangles[order].astype("<u2"),
    )
    return {
        "numVertices": len(body.positions),
        "counts": [3 * int((body.sides == side).sum()) for side in range(len(SIDES))],
        "unit": unit,
        "rest": np.round(body.rest, 5).tolist(),
        "data": base64.b64encode(b"".join(array.tobytes() for array in arrays)).decode("ascii"),
    }


def _look() -> dict[str, Any]:
    """Return colors from 0 to 1 and the light, which are those of pictures and videos."""
    return rendering.LOOK | {
        "mannequin": [_rgb(MANNEQUIN_COLORS[side]) for side in SIDES],
        "skeleton": [_rgb(COLORS[side]) for side in SIDES],
        "trails": {side: _rgb(MANNEQUIN_COLORS[side]) for side in SIDES[1:]},
        "trail": _TRAIL_S,
        "background": _rgb(painting.BACKGROUND),
        "floor": _rgb(painting.FLOOR),
        "grid": _rgb(painting.GRID),
        "behind": _rgb(painting.PATH_BEHIND),
        "ahead": _rgb(painting.PATH_AHEAD),
    }


def _rgb(color: Color) -> list[float]:
    return [round(part / 255.0, 4) for part in color]


def _files(motion: Motion, plant_feet: bool | None, kinds: Sequence[str]) -> dict[str, str]:
    """Write a motion in each format; return the compressed files as base64."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder, f"motion.{kind}")
            find_writer(path)(motion, path, plant_feet=plant_feet)
            files[kind] = base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode("ascii")
    return files


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")

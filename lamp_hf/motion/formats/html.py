"""Create a self-contained HTML player of a motion, for files and notebooks."""

import base64
import json
import logging
import math
import os
from functools import cache
from html import escape
from importlib import resources

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion.feet import planted_motion
from lamp_hf.motion.formats.drawing import COLORS, HEAD_RISE_M, Color, Figure, body_size, camera_track, head_joint
from lamp_hf.motion.motion import Motion

logger = logging.getLogger(__name__)

_STEP_M = 0.001
_LARGEST_INT16 = 32767
_AZIMUTH_DEG, _ELEVATION_DEG = 40.0, 16.0
_NOTEBOOK_HEIGHT = 460
_PAGE_FRAMES = 20_000  # about 4 MB
_NOTEBOOK_FRAMES = 6_000


def motion_to_html(motion: Motion, *, height: int = _NOTEBOOK_HEIGHT, plant_feet: bool | None = None) -> str:
    """Create an HTML fragment with a player, for a notebook or any other page.

    The player is in a sandboxed frame: a page can contain many, and player and page cannot access each other.

    Args:
        motion: the motion.
        height: height in pixels; the width is the width of the page, at most 1.5 times the height.
        plant_feet: whether to keep feet that stand on the floor in place, see `Motion.plant_feet`. Defaults to `True`
            if the motion was generated, `False` if it was read from a file (`own_body`) or its feet are final.

    Returns:
        An `<iframe>` that contains the whole player. Positions are rounded to 1 mm; ten seconds at 20 fps take about
        50 kB. If there are more than 6,000 frames, every second, third, ... frame is shown, at the correct speed.
    """
    page = escape(_page(planted_motion(motion, plant_feet), _NOTEBOOK_FRAMES), quote=True)
    return (
        f'<iframe srcdoc="{page}" sandbox="allow-scripts" loading="lazy" '
        f'title="Motion player" style="width:100%;max-width:{height * 3 // 2}px;height:{height}px;'
        'border:1px solid #ddd;border-radius:6px"></iframe>'
    )


def write_html(motion: Motion, path: str | os.PathLike[str], *, plant_feet: bool | None = None) -> None:
    """Write a page with a player: drag to look around, scroll to zoom, scrub, loop.

    Args:
        motion: the motion; its text is shown.
        path: file to write; it appears only when complete. If there are more than 20,000 frames, every second, third,
            ... frame is shown, at the correct speed, and a warning is logged.
        plant_feet: see `motion_to_html`.
    """
    page = _page(planted_motion(motion, plant_feet), _PAGE_FRAMES)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _page(motion: Motion, max_frames: int) -> str:
    """Insert a motion into the template of the player."""
    text = motion.text or ""
    every = -(-motion.num_frames // max_frames)
    if every > 1:
        logger.warning(
            "%d frames are too many for a player: 1 in %d is shown, %g per second (crop the motion to see all)",
            *(motion.num_frames, every, motion.fps / every),
        )
    title = escape(" ".join((text or motion.name or "motion").split())[:120])
    filled = {"@TITLE@": title, "@CAPTION@": escape(text), "@MOTION@": _data(motion, every)}
    parts = []
    rest = _template()
    # Fill all placeholders in one pass so that a placeholder in a caption remains text.
    for placeholder, value in filled.items():
        before, rest = rest.split(placeholder, 1)
        parts += [before, value]
    return "".join([*parts, rest])


@cache
def _template() -> str:
    return resources.files("lamp_hf.motion.formats").joinpath("player.html").read_text(encoding="utf-8")


def _data(motion: Motion, every: int) -> str:
    """Pack the player's data as JSON: numbers, base64 and colors, never text from the user."""
    skeleton = motion.skeleton
    fps = motion.fps / every
    figure = Figure.of(np.asarray(motion.joints[::every]), skeleton)
    joints = figure.joints
    low, high = joints.min(axis=(0, 1)), joints.max(axis=(0, 1))
    origin = np.round((low + high) / 2.0, 3)
    track = camera_track(figure, follow=True, fps=fps)
    points = np.concatenate([joints, track[:, None]], axis=1) - origin
    unit = max(_STEP_M, float(np.abs(points).max()) / _LARGEST_INT16)
    steps = np.round(points / unit).astype("<i2")
    head = head_joint(skeleton)
    data = {
        "fps": fps,
        "numFrames": len(joints),
        "positions": base64.b64encode(steps.tobytes()).decode("ascii"),
        "origin": origin.tolist(),
        "unit": unit,
        "radii": np.round(figure.radii, 4).tolist(),
        "limbs": [[limb.parent, limb.joint, limb.side] for limb in figure.limbs],
        "head": {
            "joint": head,
            "parent": skeleton.parents[head],
            "rise": round(HEAD_RISE_M * body_size(joints, skeleton), 4),
            "radius": round(figure.head_radius, 4),
            "color": "center",
        },
        "colors": {side: {"fill": _css(rgb, 1.0), "edge": _css(rgb, 0.55)} for side, rgb in COLORS.items()},
        "floor": round(figure.floor, 4),
        "home": {
            "azimuth": round(figure.facing + math.radians(_AZIMUTH_DEG), 4),
            "elevation": round(math.radians(_ELEVATION_DEG), 4),
            "distance": round(max(1.0, 2.0 * float(high[1] - min(low[1], figure.floor))), 3),
        },
    }
    return json.dumps(data, separators=(",", ":"))


def _css(color: Color, brightness: float) -> str:
    return "#" + "".join(f"{round(part * brightness):02x}" for part in color)

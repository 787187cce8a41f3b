"""Draw a body on a floor, seen by a camera, with Pillow."""

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lamp_hf.motion.formats.drawing import COLORS, Camera, Color, Figure

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

BACKGROUND: Color = (250, 250, 248)
FLOOR: Color = (235, 236, 233)
GRID: Color = (206, 208, 205)
SHADOW: Color = (190, 192, 191)
PATH_AHEAD: Color = (205, 190, 214)
PATH_BEHIND: Color = (142, 84, 165)
INK: Color = (40, 42, 46)
FAINT_INK: Color = (120, 122, 126)

OVERSAMPLING = 2  # pictures are drawn larger and averaged because Pillow does not smooth edges
_GRID_STEP_M = 0.5
_MAX_PATH_POINTS = 1000  # approximate limit; without it, drawing time would be quadratic in the duration
_OUTLINE = 0.55  # factor from a limb's color to the color of its outline
# Found by name on Linux, macOS and Windows; all but the first three include Chinese, Japanese and Korean.
_FONTS = (
    *("DejaVuSans.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansCJKjp-Regular.otf", "NotoSansKR-Regular.otf"),
    *("SourceHanSans-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "unifont.ttf"),
    *("Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "STHeiti Light.ttc"),
    *("msyh.ttc", "YuGothM.ttc", "meiryo.ttc", "malgun.ttf", "simsun.ttc", "msgothic.ttc"),
)
_NO_LETTER = "\U0010ffff"


def mix(color: Color, other: Color, share: float) -> Color:
    """Blend two colors; `share` is the weight of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def font(pixels: int, text: str = "") -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    """Load the first font on the machine that has every letter of a text, or else the first font."""
    fonts = _fonts(pixels)
    return next((font for font in fonts if all(_has(font, letter) for letter in set(text))), fonts[0])


def drawable(text: str, pixels: int) -> str:
    """Remove letters that cannot be drawn with any font on the machine, since they would appear as boxes."""
    fonts = _fonts(pixels)
    best = max(fonts, key=lambda font: sum(_has(font, letter) for letter in text[:2000]))
    kept = "".join(letter for letter in text if _has(best, letter))
    if kept != text:
        logger.warning(
            "no font on this machine has all letters of %r; the picture omits missing letters (install a font such as "
            "Noto Sans CJK)",
            text[:60],
        )
    return " ".join(kept.split())


@lru_cache(maxsize=8)
def _fonts(pixels: int) -> "list[ImageFont.FreeTypeFont | ImageFont.ImageFont]":
    from PIL import ImageFont

    fonts: list[ImageFont.FreeTypeFont | ImageFont.ImageFont] = []
    for name in _FONTS:
        try:
            fonts.append(ImageFont.truetype(name, pixels))
        except OSError:
            continue
    return fonts or [ImageFont.load_default(pixels)]


@lru_cache(maxsize=4096)
def _has(font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", letter: str) -> bool:
    """Return whether a font has a letter, which it then draws differently from an undefined one."""
    if letter.isspace() or (letter.isascii() and letter.isprintable()):
        return True
    if not letter.isprintable():
        return False
    try:
        drawn, missing = font.getmask(letter), font.getmask(_NO_LETTER)
        return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))
    except (UnicodeEncodeError, OSError):  # Pillow's built-in font only has Latin letters
        return False


def wrap_text(text: str, pixels: int, width: float, max_lines: int) -> list[str]:
    """Break a text into lines for a font size and a width in pixels; text that does not fit is cut with "…"."""
    lines: list[str] = []
    # Do not measure captions of a million words: no picture has room for more than this.
    start = drawable(text[: 200 * max_lines], pixels)
    ruler = font(pixels, start + "…")
    for word in start.split():
        while word:
            start = f"{lines[-1]} " if lines and lines[-1] else ""
            if ruler.getlength(start + word) <= width:
                lines[-1:] = [start + word]
                break
            if start:
                lines.append("")
                continue
            kept = _longest_start(word, ruler, width)
            lines[-1:] = [word[:kept], ""]
            word = word[kept:]
    lines = [line for line in lines if line]
    if lines and (len(lines) > max_lines or len(text) > 200 * max_lines):
        lines = lines[:max_lines]
        last = lines[-1]
        while last and ruler.getlength(last + "…") > width:
            last = last[:-1]
        lines[-1] = last.rstrip() + "…"
    return lines


def _longest_start(word: str, ruler: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: float) -> int:
    kept = len(word)
    while kept > 1 and ruler.getlength(word[:kept]) > width:
        kept -= 1
    return kept


def paint_floor(draw: "ImageDraw.ImageDraw", camera: Camera, focus: np.ndarray, floor: float, radius: float) -> None:
    """Draw a round floor around the camera's target, with grid lines every 0.5 m in world coordinates."""
    angles = np.linspace(0.0, 2.0 * np.pi, 73)
    rim = np.stack([np.cos(angles), np.zeros_like(angles), np.sin(angles)], axis=-1) * radius
    center = np.array([focus[0], floor, focus[2]])
    draw.polygon(_pixels(camera.project(center + rim, focus)), fill=FLOOR)
    for axis in (0, 2):
        first = np.ceil((center[axis] - radius) / _GRID_STEP_M)
        places = np.arange(first * _GRID_STEP_M, center[axis] + radius, _GRID_STEP_M)
        half_chords = np.sqrt(np.maximum(radius**2 - (places - center[axis]) ** 2, 0.0))
        ends = np.tile(center, (len(places), 2, 1))
        ends[:, :, axis] = places[:, None]
        ends[:, 0, 2 - axis] -= half_chords
        ends[:, 1, 2 - axis] += half_chords
        for line in camera.project(ends, focus):
            draw.line(_pixels(line), fill=GRID, width=OVERSAMPLING)


def paint_path(
    draw: "ImageDraw.ImageDraw",
    camera: Camera,
    focus: np.ndarray,
    figure: Figure,
    frame: int,
    radius: float,
) -> None:
    """Draw the path of the root on the floor: dark behind it, light ahead of it."""
    num_frames = len(figure.joints)
    stride = max(1, num_frames // _MAX_PATH_POINTS)
    frames = np.union1d(np.arange(0, num_frames, stride), [frame, num_frames - 1])
    path = figure.joints[frames, 0]
    path[:, 1] = figure.floor
    inside = np.hypot(path[:, 0] - focus[0], path[:, 2] - focus[2]) <= radius
    now = int(np.searchsorted(frames, frame))
    for start, stop, color in ((now, len(path), PATH_AHEAD), (0, now + 1, PATH_BEHIND)):
        kept = np.flatnonzero(inside[start:stop]) + start
        for piece in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1):
            if len(piece) > 1:
                pixels = _pixels(camera.project(path[piece], focus))
                draw.line(pixels, fill=color, width=2 * OVERSAMPLING, joint="curve")


def paint_shadow(draw: "ImageDraw.ImageDraw", camera: Camera, focus: np.ndarray, figure: Figure, frame: int) -> None:
    """Draw the shadow of a body under a light from above, which shows which foot is on the floor."""
    flat = np.concatenate([figure.joints[frame], figure.head[frame, None]])
    flat[:, 1] = figure.floor
    radii = np.append(figure.radii, figure.head_radius) * 0.8
    seen = camera.project(flat, focus)
    thickness = camera.focal * radii / seen[:, 2]
    for limb in figure.limbs:
        _rod(draw, seen[limb.parent], seen[limb.joint], thickness[limb.parent], thickness[limb.joint], SHADOW)
    _disc(draw, seen[-1], thickness[-1], SHADOW)


def paint_body(
    draw: "ImageDraw.ImageDraw",
    camera: Camera,
    focus: np.ndarray,
    figure: Figure,
    frame: int,
    *,
    fade: float = 0.0,
) -> None:
    """Draw a body, farthest limb first; `fade` blends it into the background, for earlier poses."""
    seen = camera.project(np.concatenate([figure.joints[frame], figure.head[frame, None]]), focus)
    thickness = camera.focal * np.append(figure.radii, figure.head_radius) / seen[:, 2]
    edge = max(1.0, 0.12 * float(np.median(thickness)))
    depths = [(seen[limb.parent, 2] + seen[limb.joint, 2]) / 2.0 for limb in figure.limbs]
    depths.append(seen[-1, 2] - figure.head_radius)
    for index in np.argsort(depths)[::-1]:
        limb = figure.limbs[index] if index < len(figure.limbs) else None
        fill = COLORS[limb.side if limb else "center"]
        outline = mix((0, 0, 0), fill, _OUTLINE)
        for color, extra in ((outline, edge), (fill, 0.0)):
            color = mix(color, BACKGROUND, fade)
            if limb is None:
                _disc(draw, seen[-1], thickness[-1] + extra, color)
            else:
                start, end = thickness[limb.parent] + extra, thickness[limb.joint] + extra
                _rod(draw, seen[limb.parent], seen[limb.joint], start, end, color)


def shrink(picture: "Image.Image") -> "Image.Image":
    """Average a picture that was drawn larger down to its final size."""
    return picture.reduce(OVERSAMPLING)


def _pixels(points: np.ndarray) -> Sequence[float]:
    return np.asarray(points)[:, :2].ravel().tolist()  # type: ignore[no-any-return]


def _disc(draw: "ImageDraw.ImageDraw", center: np.ndarray, radius: float, color: Color) -> None:
    x, y = float(center[0]), float(center[1])
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)


def _rod(
    draw: "ImageDraw.ImageDraw",
    start: np.ndarray,
    end: np.ndarray,
    start_radius: float,
    end_radius: float,
    color: Color,
) -> None:
    """Draw two discs and the area between their outer tangents."""
    _disc(draw, start, start_radius, color)
    _disc(draw, end, end_radius, color)
    x, y, end_x, end_y = float(start[0]), float(start[1]), float(end[0]), float(end[1])
    length = math.hypot(end_x - x, end_y - y)
    if length <= abs(start_radius - end_radius) + 1e-6:
        return  # one disc covers the other
    along_x, along_y = (end_x - x) / length, (end_y - y) / length
    lean = (start_radius - end_radius) / length
    rise = math.sqrt(1.0 - lean * lean)
    corners: list[float] = []
    for side, ends in ((rise, (0, 1)), (-rise, (1, 0))):
        out_x, out_y = along_x * lean - along_y * side, along_y * lean + along_x * side
        for at_end in ends:
            if at_end:
                corners += [end_x + out_x * end_radius, end_y + out_y * end_radius]
            else:
                corners += [x + out_x * start_radius, y + out_y * start_radius]
    draw.polygon(corners, fill=color)

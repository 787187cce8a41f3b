"""Write motions as GIF and MP4 videos of a figure, and as still pictures with poses side by side."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion.features import resample_joints
from lamp_hf.motion.feet import planted_motion
from lamp_hf.motion.formats import painting, rendering
from lamp_hf.motion.formats.drawing import COLORS, Camera, Color, Figure, Style, camera_track, check_style
from lamp_hf.motion.motion import Motion

if TYPE_CHECKING:
    from PIL import Image

View = tuple[float, float]
DEFAULT_VIEW: View = (40.0, 16.0)

_GIF_MAX_FPS = 50.0  # browsers show frames shorter than 0.02 s for 0.1 s
_SIZES = (64, 4096)
_FOLLOW_FACTOR = 1.7
_CAPTION_LINES = 3
_GHOST_AGES_S = (0.3, 0.15)


def write_video(
    motion: Motion,
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    size: int = 480,
    caption: str | None = None,
    view: View = DEFAULT_VIEW,
    plant_feet: bool | None = None,
    style: Style = "mannequin",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a motion as a square video: a body on a floor, with its shadow.

    The camera is fixed if it can show the whole path well; otherwise, it follows the body.

    Args:
        motion: the motion.
        path: file to write; ".gif" is an endless loop, ".mp4" is H.264. It appears only when complete.
        fps: frames per second of the video, which does not change the speed of the body; defaults to the motion's
            (at most 50 for GIF).
        size: width and height in pixels.
        caption: text at the top; defaults to the motion's. Pass "" for no caption.
        view: azimuth and elevation of the camera in degrees: from the direction that the body faces in the first frame
            toward its left, and above the horizon.
        plant_feet: whether to keep feet that stand on the floor in place, see `Motion.plant_feet`. Defaults to `True`
            if the motion was generated, `False` if it was read from a file (`own_body`) or its feet are final.
        style: "mannequin" is a shaded body with blue hands and feet on its left and orange ones on its right;
            "skeleton" shows the joints without any fitting, with flat limbs that are blue on the left and orange on the
            right, and is drawn much faster.
        progress: called after each frame with the number of finished frames and the total.

    Raises:
        ValueError: the suffix, size, fps, view or style is not supported.
    """
    check_style(style)
    suffix = Path(path).suffix.lower()
    if suffix not in _ENCODERS:
        raise ValueError(f"{Path(path).name}: expected a name ending in {' or '.join(_ENCODERS)}")
    if not _SIZES[0] <= size <= _SIZES[1] or (suffix == ".mp4" and size % 2):
        even = "an even " if suffix == ".mp4" else "a "
        raise ValueError(f"expected {even}size from {_SIZES[0]} to {_SIZES[1]} pixels, got {size}")
    if fps is None:
        fps = min(motion.fps, _GIF_MAX_FPS) if suffix == ".gif" else motion.fps
    elif not 0 < fps <= (_GIF_MAX_FPS if suffix == ".gif" else 240.0):
        raise ValueError(f"expected fps greater than 0 and at most 50 (GIF) or 240 (MP4), got {fps}")
    text = motion.text or "" if caption is None else caption
    scene = _Scene.of(_Body.of(motion, plant_feet, style, fps), fps, size, text, view)
    with atomic_path(path) as temporary:
        _ENCODERS[suffix](scene, temporary, progress)


def write_png(
    motion: Motion,
    path: str | os.PathLike[str],
    *,
    num_poses: int = 6,
    caption: str | None = None,
    view: View = DEFAULT_VIEW,
    plant_feet: bool | None = None,
    style: Style = "mannequin",
) -> None:
    """Write poses of a motion side by side, like a film strip.

    Args:
        motion: the motion.
        path: file to write; it appears only when complete.
        num_poses: number of poses, spread evenly from the first frame to the last.
        caption: text at the top; defaults to the motion's. Pass "" for no caption.
        view, plant_feet, style: see `write_video`.
    """
    contact_sheet(
        [motion if caption is None else motion.with_text(caption)],
        path,
        columns=1,
        frames_per_motion=num_poses,
        pose_height=240,
        view=view,
        plant_feet=plant_feet,
        style=style,
    )


def contact_sheet(
    motions: Sequence[Motion],
    path: str | os.PathLike[str],
    *,
    columns: int = 2,
    frames_per_motion: int = 6,
    pose_height: int = 150,
    view: View = DEFAULT_VIEW,
    plant_feet: bool | None = False,
    style: Style = "mannequin",
) -> None:
    """Write an overview picture of several motions, each a strip of poses under its text.

    Behind each pose, the poses 0.15 s and 0.3 s earlier are shown faintly, and the path of the root is drawn on the
    floor.

    Args:
        motions: the motions, row by row.
        path: PNG file to write; it appears only when complete.
        columns: number of strips per row.
        frames_per_motion: number of poses per strip, spread evenly from the first frame to the last.
        pose_height: height of a pose in pixels.
        view: see `write_video`; the camera does not turn with the body.
        plant_feet, style: see `write_video`; by default, feet are drawn where they are.

    Raises:
        ValueError: there are no motions, a number is too small, or the style is unknown.
    """
    from PIL import Image

    check_style(style)

    if not motions:
        raise ValueError("expected at least one motion")
    if min(columns, frames_per_motion) < 1 or pose_height < 32:
        raise ValueError(
            "expected columns and frames_per_motion of at least 1 and pose_height of at least 32, "
            f"got {columns}, {frames_per_motion} and {pose_height}"
        )
    strips = [
        _strip(motion, _Body.of(motion, plant_feet, style), frames_per_motion, pose_height, view) for motion in motions
    ]
    columns = min(columns, len(strips))
    gap = max(4, pose_height // 15)
    rows = [strips[start : start + columns] for start in range(0, len(strips), columns)]
    heights = [max(strip.height for strip in row) for row in rows]
    width = columns * strips[0].width + (columns + 1) * gap
    sheet = Image.new("RGB", (width, sum(heights) + (len(rows) + 1) * gap), (255, 255, 255))
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, strip in enumerate(row):
            sheet.paste(strip, (gap + column * (strip.width + gap), top))
        top += height + gap
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


@dataclass(frozen=True)
class _Body:
    """A body to draw in one of the styles.

    Attributes:
        figure: the joints.
        actor: the mannequin that moves with them; None if the skeleton is drawn.
    """

    figure: Figure
    actor: rendering.Actor | None

    @classmethod
    def of(cls, motion: Motion, plant_feet: bool | None, style: Style, fps: float | None = None) -> "_Body":
        """Prepare a motion, at another frame rate if `fps` is given."""
        if style == "mannequin":
            actor = rendering.Actor.of(motion, plant_feet=plant_feet, fps=fps)
            return cls(Figure.of(actor.joints, motion.skeleton), actor)
        joints = np.asarray(planted_motion(motion, plant_feet).joints)
        if fps is not None and fps != motion.fps:
            joints = resample_joints(joints, motion.fps, fps)
        return cls(Figure.of(joints, motion.skeleton), None)

    def framing(self, track: np.ndarray, viewport: Sequence[float], view: View) -> Camera:
        """Place a camera that shows the whole body and the floor under it in all frames."""
        azimuth, elevation = view
        if not (math.isfinite(azimuth) and -89.0 <= elevation <= 89.0):
            raise ValueError(f"expected a view of (azimuth, elevation from -89 to 89) in degrees, got {view}")
        figure = self.figure
        under = figure.joints[:, :1].copy()
        under[..., 1] = figure.floor
        if self.actor is None:
            margin = 1.15 * figure.head_radius
            points = np.concatenate([figure.joints, figure.head[:, None], under], axis=1)
        else:
            margin = 0.2 * figure.head_radius
            points = np.concatenate([self.actor.reach(), under], axis=1)
        return Camera.framing(
            (points - track[:, None]).reshape(-1, 3),
            viewport,
            margin=margin,
            azimuth=figure.facing + math.radians(azimuth),
            elevation=math.radians(elevation),
        )

    def floor_radius(self, track: np.ndarray, margin: float) -> float:
        """Return the radius of the floor around the camera's target, meters: the reach of the feet, and a margin."""
        away = self.figure.joints[..., ::2] - track[:, None, ::2]
        return float(np.hypot(away[..., 0], away[..., 1]).max()) + margin

    def paint(
        self,
        picture: "Image.Image",
        camera: Camera,
        focus: np.ndarray,
        frame: int,
        radius: float,
        ghosts: Sequence[tuple[int, float]] = (),
    ) -> "Image.Image":
        """Draw the path, the shadow and the body over a picture, and earlier poses (frame, fade) behind the body."""
        from PIL import Image, ImageDraw

        draw = ImageDraw.Draw(picture)
        painting.paint_path(draw, camera, focus, self.figure, frame, radius)
        if self.actor is None:
            painting.paint_shadow(draw, camera, focus, self.figure, frame)
            for before, fade in ghosts:
                painting.paint_body(draw, camera, focus, self.figure, before, fade=fade)
            painting.paint_body(draw, camera, focus, self.figure, frame)
            return picture
        canvas = np.array(picture)
        rendering.render_shadow(canvas, camera, focus, self.actor, frame, self.figure.floor, radius)
        for before, fade in ghosts:
            rendering.render_body(canvas, camera, focus, self.actor, before, fade=fade)
        rendering.render_body(canvas, camera, focus, self.actor, frame)
        return Image.fromarray(canvas)


def _strip(motion: Motion, body: _Body, num_poses: int, pose_height: int, view: View) -> "Image.Image":
    """Draw the poses of one motion under its text."""
    from PIL import Image, ImageDraw

    figure = body.figure
    scale = painting.OVERSAMPLING
    width, height = round(0.8 * pose_height) * scale, pose_height * scale
    track = camera_track(figure, follow=True, fps=motion.fps)
    camera = body.framing(track, (0, 0.03 * height, width, 0.97 * height), view)
    radius = body.floor_radius(track, 0.6)
    frames = np.linspace(0, motion.num_frames - 1, num_poses).round().astype(int)
    poses = Image.new("RGB", (width * num_poses, height), painting.BACKGROUND)
    for slot, frame in enumerate(frames.tolist()):
        pose = Image.new("RGB", (width, height), painting.BACKGROUND)
        painting.paint_floor(ImageDraw.Draw(pose), camera, track[frame], figure.floor, radius)
        before = [(frame - round(age * motion.fps), 0.8 - 0.15 * order) for order, age in enumerate(_GHOST_AGES_S)]
        ghosts = [ghost for ghost in before if ghost[0] >= 0]
        pose = body.paint(pose, camera, track[frame], frame, radius, ghosts)
        poses.paste(pose, (slot * width, 0))
    poses = painting.shrink(poses)
    pixels = max(10, pose_height // 11)
    label = motion.text if motion.text is not None else motion.name or ""
    lines = painting.wrap_text(label, pixels, poses.width - pixels, 2)
    line_height = round(1.3 * pixels)
    top = line_height * len(lines) + pixels // 2
    strip = Image.new("RGB", (poses.width, top + poses.height), painting.BACKGROUND)
    strip.paste(poses, (0, top))
    draw = ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        draw.text(
            (pixels // 2, pixels // 3 + row * line_height), line, painting.INK, painting.font(pixels, "".join(lines))
        )
    for slot, frame in enumerate(frames.tolist()):
        corner = (slot * poses.width // num_poses + 3, strip.height - pixels - 2)
        clock = f"{frame / motion.fps:.1f} s"
        draw.text(corner, clock, painting.FAINT_INK, painting.font(max(8, pixels * 3 // 4)))
    return strip


@dataclass(frozen=True)
class _Scene:
    """Constant parts of a video; draws its frames."""

    body: _Body
    fps: float
    size: int
    camera: Camera
    track: np.ndarray
    floor_radius: float
    caption: list[str]
    font_size: int
    stage: "Image.Image | None"

    @classmethod
    def of(cls, body: _Body, fps: float, size: int, caption: str, view: View) -> "_Scene":
        figure = body.figure
        font_size = max(10, size // 26)
        lines = painting.wrap_text(caption, font_size, size - 2 * font_size, _CAPTION_LINES)
        scale = painting.OVERSAMPLING
        top = scale * (round(1.3 * font_size) * len(lines) + 0.04 * size)
        viewport = (0.03 * size * scale, top, 0.97 * size * scale, 0.95 * size * scale)
        shots = []
        for follow in (False, True):
            track = camera_track(figure, follow=follow, fps=fps)
            shots.append((track, body.framing(track, viewport, view)))
        (still, far), (moving, near) = shots
        follows = far.distance > _FOLLOW_FACTOR * near.distance
        track, camera = (moving, near) if follows else (still, far)
        scene = cls(
            body=body,
            fps=fps,
            size=size,
            camera=camera,
            track=track,
            floor_radius=body.floor_radius(track, 1.2 if follows else 0.6),
            caption=lines,
            font_size=font_size,
            stage=None,
        )
        return scene if follows else cls(**{**vars(scene), "stage": scene._empty(track[0])})

    @property
    def num_frames(self) -> int:
        return len(self.body.figure.joints)

    def _empty(self, focus: np.ndarray) -> "Image.Image":
        """Draw the parts that only move with the camera."""
        from PIL import Image, ImageDraw

        side = self.size * painting.OVERSAMPLING
        picture = Image.new("RGB", (side, side), painting.BACKGROUND)
        draw = ImageDraw.Draw(picture)
        painting.paint_floor(draw, self.camera, focus, self.body.figure.floor, self.floor_radius)
        return picture

    def frame(self, index: int) -> "Image.Image":
        """Draw a frame as an RGB picture of the video's size."""
        from PIL import ImageDraw

        focus = self.track[index]
        picture = self._empty(focus) if self.stage is None else self.stage.copy()
        picture = painting.shrink(self.body.paint(picture, self.camera, focus, index, self.floor_radius))
        draw = ImageDraw.Draw(picture)
        for row, line in enumerate(self.caption):
            place = (self.font_size, 0.6 * self.font_size + row * round(1.3 * self.font_size))
            draw.text(place, line, painting.INK, painting.font(self.font_size, "".join(self.caption)))
        small = max(9, self.font_size * 2 // 3)
        clock = f"{index / self.fps:.2f} s   {index + 1}/{self.num_frames}"
        corner = (self.size - small * 0.7, self.size - small * 0.7)
        draw.text(corner, clock, painting.FAINT_INK, painting.font(small), anchor="rs")
        return picture

    def frames(self, progress: Callable[[int, int], None] | None) -> Iterator[np.ndarray]:
        """Draw all frames, each (size, size, 3) uint8."""
        for index in range(self.num_frames):
            yield np.asarray(self.frame(index))
            if progress is not None:
                progress(index + 1, self.num_frames)


def _write_mp4(scene: _Scene, path: Path, progress: Callable[[int, int], None] | None) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=_rate(scene.fps))
        stream.width = stream.height = scene.size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for picture in scene.frames(progress):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _write_gif(scene: _Scene, path: Path, progress: Callable[[int, int], None] | None) -> None:
    """Encode with FFmpeg, frame by frame: Pillow keeps all frames in memory and is slower."""
    import av

    palette, nearest = _palette(scene.body.actor is not None)
    with av.open(str(path), "w", format="gif", options={"loop": "0"}) as container:
        stream: Any = container.add_stream("gif", rate=_rate(scene.fps))
        stream.width = stream.height = scene.size
        stream.pix_fmt = "pal8"
        for picture in scene.frames(progress):
            # Look up each color in a table by 6 bits each of red, green and blue.
            six = (picture >> 2).astype(np.uint32)
            indices = nearest[(six[..., 0] << 12) | (six[..., 1] << 6) | six[..., 2]]
            frame = av.VideoFrame.from_ndarray((indices, palette), format="pal8")  # type: ignore[arg-type]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


_ENCODERS: dict[str, Callable[[_Scene, Path, Callable[[int, int], None] | None], None]] = {
    ".gif": _write_gif,
    ".mp4": _write_mp4,
}


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


@lru_cache(maxsize=2)
def _palette(shaded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Choose the palette of a GIF: the drawn colors and the shades between them, for smooth edges.

    Args:
        shaded: whether the mannequin is drawn, not the skeleton.

    Returns:
        (256, 4) uint8, colors as alpha, red, green and blue, of which the last is transparent; (262144,) uint8, the
        index of the nearest color for 6 bits each of red, green and blue.
    """
    chosen = np.array(_shaded_colors() if shaded else _flat_colors())
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[: len(chosen), 0] = 255
    palette[: len(chosen), 1:] = chosen
    level = np.arange(2, 256, 4, dtype=np.float32)
    lengths = (chosen**2).sum(axis=-1)
    nearest = []
    for red in level:  # in parts, to save memory
        levels = np.stack(np.meshgrid([red], level, level, indexing="ij"), axis=-1).reshape(-1, 3)
        nearest.append((lengths - 2.0 * (levels @ chosen.T.astype(np.float32))).argmin(axis=-1))
    return palette, np.concatenate(nearest).astype(np.uint8)


def _mixed(colors: dict[Color, None], pairs: Sequence[tuple[Color, Color]], shares: Sequence[float]) -> list[Color]:
    """Add colors between the pairs, up to 255 colors."""
    for share in shares:
        for a, b in pairs:
            if len(colors) < 255:
                colors[painting.mix(a, b, share)] = None
    return list(colors)


def _flat_colors() -> list[Color]:
    flat = [painting.BACKGROUND, painting.FLOOR, painting.GRID, painting.SHADOW]
    flat += [painting.PATH_AHEAD, painting.PATH_BEHIND, painting.INK, painting.FAINT_INK]
    fills = list(COLORS.values())
    edges = [painting.mix((0, 0, 0), fill, 0.55) for fill in fills]
    pairs = [(a, b) for a in fills + edges for b in flat[:4] + fills + edges if a != b]
    pairs += [(painting.BACKGROUND, b) for b in flat[1:]] + [(painting.FLOOR, b) for b in flat[2:6]]
    return _mixed(dict.fromkeys(flat + fills + edges), pairs, (0.5, 0.25, 0.75, 0.125))


def _shaded_colors() -> list[Color]:
    flat = [painting.BACKGROUND, painting.FLOOR, painting.GRID]
    flat += [painting.PATH_AHEAD, painting.PATH_BEHIND, painting.INK, painting.FAINT_INK]
    ramps = rendering.shades()
    dark = [rendering.shaded(color, step / 16) for color in flat[1:3] for step in range(1, 17)]
    pairs = [(color, floor) for side in ("left", "right") for color in ramps[side][2::10] for floor in flat[:2]]
    pairs += [(painting.BACKGROUND, b) for b in flat[2:]] + [(painting.FLOOR, b) for b in flat[2:5]]
    colors = dict.fromkeys(flat + [color for ramp in ramps.values() for color in ramp] + dark)
    return _mixed(colors, pairs, (0.5, 0.25, 0.75))

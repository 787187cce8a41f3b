"""Draw contact sheets of CMU takes and write their measurements, for people who caption them.

python benchmarks/cmu_captions/sheets.py BVH_FOLDER --output SHEETS [--takes 01_01 05_02]

`SHEETS/<subject>/<take>.png` shows the body every second (every half second in takes shorter than 6 s), always from the
same direction: from the front left of the initial pose. Left limbs are blue and right limbs are orange; an arrow on the
floor shows where the body faces. The last picture shows the path on the floor from above. `<take>.txt` contains the
measurements of every second, and the proposed cuts. `page-01.png`, `page-01.txt` and so on combine the takes of a
subject. `LEGEND.txt` explains the columns.
"""

import argparse
import math
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from propose import propose

from lamp_hf.data.cmu.facts import CLAIMED_FPS, packaged_facts, subject_categories
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import stretches
from lamp_hf.data.cmu.takes import clean_joints
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.drawing import COLORS, Camera, Figure
from lamp_hf.motion.formats.painting import BACKGROUND, GRID, INK, OVERSAMPLING, font, paint_body, paint_shadow, shrink
from lamp_hf.motion.skeleton import HUMANML3D_22

FPS = 20.0
COLUMNS, CELL = 10, (118, 140)
ROWS_PER_SHEET = 6
PAGE_HEIGHT = 1100
_AZIMUTH = math.radians(30.0)  # of the camera, from the initial heading of the body towards its left
_ELEVATION = math.radians(14.0)
_VIEW_M = 2.2  # height of a cell in meters
_ARROW = (196, 40, 60)


def main() -> None:
    """Draw and measure every take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with BVH files of takes, at any depth")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--takes", nargs="*", help="these takes only")
    arguments = parser.parse_args()
    facts = packaged_facts()
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "LEGEND.txt").write_text(LEGEND + "\n", encoding="utf-8")
    for path in sorted(arguments.folder.rglob("*.bvh")):
        take = path.stem
        if take not in facts or (arguments.takes and take not in arguments.takes):
            continue
        folder = arguments.output / facts[take].subject
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / f"{take}.txt").is_file():
            continue
        try:
            joints, sound = clean_joints(path, facts[take].capture_fps)
        except MotionFormatError as error:
            print(f"skipped {take}: {error}", flush=True)
            continue
        measures = Measures(joints, FPS)
        for number, sheet in enumerate(draw_sheets(measures, take, sound), start=1):
            sheet.save(folder / f"{take}{f'-{number}' if number > 1 else ''}.png", optimize=True)
        (folder / f"{take}.txt").write_text(describe(measures, take, sound), encoding="utf-8")
    for folder in sorted(path for path in arguments.output.iterdir() if path.is_dir()):
        put_on_pages(folder)


def draw_sheets(measures: Measures, take: str, sound: np.ndarray) -> list[Image.Image]:
    """Draw the sheets of a take, in order; long takes have several."""
    step = 0.5 if measures.duration < 6.0 else 1.0
    times = np.arange(0.0, measures.duration, step)
    cells = [_draw_moment(measures, time, bool(sound[min(round(time * FPS), len(sound) - 1)])) for time in times]
    cells.append(_draw_path(measures))
    per_sheet = COLUMNS * ROWS_PER_SHEET
    return [
        _arrange(cells[start : start + per_sheet], f"{take}  {measures.duration:.1f} s")
        for start in range(0, len(cells), per_sheet)
    ]


def put_on_pages(folder: Path) -> None:
    """Combine the sheets of a subject into pages, and their texts into one file per page."""
    for old in folder.glob("page-*"):
        old.unlink()
    pages: list[list[tuple[Path, Image.Image]]] = [[]]
    for text in sorted(folder.glob("*_*.txt"), key=lambda path: tuple(map(int, path.stem.split("_")))):
        for picture in sorted(folder.glob(f"{text.stem}.png")) + sorted(folder.glob(f"{text.stem}-*.png")):
            sheet = Image.open(picture).convert("RGB")
            if pages[-1] and sum(s.height + 4 for _, s in pages[-1]) + sheet.height > PAGE_HEIGHT:
                pages.append([])
            pages[-1].append((text, sheet))
    for number, page in enumerate(pages, start=1):
        whole = Image.new("RGB", (COLUMNS * CELL[0], sum(sheet.height + 4 for _, sheet in page)), (255, 255, 255))
        top = 0
        for _, sheet in page:
            whole.paste(sheet, (0, top))
            top += sheet.height + 4
        whole.quantize(64).save(folder / f"page-{number:02d}.png", optimize=True)
        texts = dict.fromkeys(text for text, _ in page)
        (folder / f"page-{number:02d}.txt").write_text("\n".join(text.read_text() for text in texts))


def _arrange(cells: list[Image.Image], title: str) -> Image.Image:
    width, height = CELL
    columns, rows = min(COLUMNS, len(cells)), math.ceil(len(cells) / COLUMNS)
    sheet = Image.new("RGB", (columns * width, rows * height + 16), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((3, 1), f"{title}   blue = left, orange = right", fill=INK, font=font(12))
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % COLUMNS * width, 16 + index // COLUMNS * height))
    return sheet.quantize(64)


def _draw_moment(measures: Measures, time: float, sound: bool) -> Image.Image:
    frame = min(round(time * FPS), len(measures.joints) - 1)
    width, height = CELL[0] * OVERSAMPLING, CELL[1] * OVERSAMPLING
    picture = Image.new("RGB", (width, height), BACKGROUND if sound else (250, 205, 200))
    draw = ImageDraw.Draw(picture)
    figure = Figure.of(measures.joints[frame : frame + 1], HUMANML3D_22)
    root = figure.joints[0, 0]
    # The floor has the same place in all cells, to make heights comparable; the camera follows climbers.
    focus = np.array([root[0], max(0.9, root[1] - 0.25), root[2]])
    distance = 8.0
    camera = Camera(_AZIMUTH, _ELEVATION, distance, (width / 2, height * 0.45), height / _VIEW_M * distance)
    _draw_floor(draw, camera, focus, root)
    heading = measures.heading[frame]
    tip = np.array([root[0] + 0.6 * math.sin(heading), 0.0, root[2] + 0.6 * math.cos(heading)])
    start = np.array([root[0], 0.0, root[2]])
    paint_shadow(draw, camera, focus, figure, 0)
    _line(draw, camera, focus, np.stack([start, tip]), _ARROW, 3 * OVERSAMPLING)
    for turn in (2.6, -2.6):
        barb = tip + 0.2 * np.array([math.sin(heading + turn), 0.0, math.cos(heading + turn)])
        _line(draw, camera, focus, np.stack([tip, barb]), _ARROW, 3 * OVERSAMPLING)
    paint_body(draw, camera, focus, figure, 0)
    picture = shrink(picture)
    ImageDraw.Draw(picture).text((3, 1), f"{time:g}s", fill=INK, font=font(12))
    return picture


def _draw_floor(draw: ImageDraw.ImageDraw, camera: Camera, focus: np.ndarray, root: np.ndarray) -> None:
    for axis in (0, 2):
        for place in np.arange(math.ceil(root[axis] - 0.8), root[axis] + 0.8, 0.5):
            ends = np.tile([root[0], 0.0, root[2]], (2, 1))
            ends[:, axis] = place
            ends[:, 2 - axis] += (-0.8, 0.8)
            _line(draw, camera, focus, ends, GRID, OVERSAMPLING)


def _line(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    focus: np.ndarray,
    points: np.ndarray,
    color: tuple[int, int, int],
    width: int,
) -> None:
    draw.line(camera.project(points, focus)[:, :2].ravel().tolist(), fill=color, width=width)


def _draw_path(measures: Measures) -> Image.Image:
    """Draw the path of the pelvis from above; up is where the body faces at first, and its left is on the left."""
    width, height = CELL
    picture = Image.new("RGB", CELL, (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    path = measures.place("pelvis")[:, ::2] * [-1.0, -1.0]
    low, high = path.min(axis=0), path.max(axis=0)
    size = max(1.0, float((high - low).max()))
    scale = (width - 24) / size
    pixels = (path - (low + high) / 2) * scale + [width / 2, (height + 14) / 2]
    draw.line(pixels.ravel().tolist(), fill=(142, 84, 165), width=2)
    for index, frame in enumerate(range(0, len(pixels), round(FPS))):
        x, y = pixels[frame].tolist()
        heading = measures.heading[frame]
        draw.line((x, y, x - 7 * math.sin(heading), y - 7 * math.cos(heading)), fill=_ARROW, width=1)
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=COLORS["center"])
        if index % max(1, math.ceil(measures.duration / 8)) == 0:
            draw.text((x + 3, y - 5), str(index), fill=INK, font=font(10))
    draw.text((3, 1), f"from above, {size:.1f} m", fill=INK, font=font(11))
    return picture


# ---- measurements -------------------------------------------------------------------------------------------

LEGEND = """\
t: start in seconds | fwd: m/s forward (- back) | left: m/s sideways (- right) | turn: deg/s (+ left)
pel: pelvis height, m (stands .93) | LW, RW: height of left, right wrist above its shoulder, m (hanging -.5; 0 shoulder;
* above the head) | apart: m between the wrists | lean: trunk, deg forward (- back) / left (- right)
step: feet that landed | air: share of the time with both feet off the floor | posture"""


def describe(measures: Measures, take: str, sound: np.ndarray) -> str:
    """Describe the measurements of a take as text: totals, one line per second, and events."""
    facts = packaged_facts()[take]
    words, category = facts.description or "(none)", subject_categories().get(facts.subject, "")
    lines = [
        f"{take} | {measures.duration:.1f} s | database: {words} | subject: {category}"
        + (" | a second person is not shown" if facts.two_people else "")
        + (f" | captured at {facts.capture_fps}" if facts.capture_fps != CLAIMED_FPS else ""),
        _totals(measures),
    ]
    broken = [(start / FPS, stop / FPS) for start, stop in stretches(~sound)]
    if broken:
        lines.append("BROKEN, leave out: " + ", ".join(f"{start:.1f}-{stop:.1f} s" for start, stop in broken))
    lines += [" t   fwd  left turn  pel    LW    RW apart lean     step air posture"]
    step = 0.5 if measures.duration < 6.0 else 1.0
    lines += [_second(measures, time, step) for time in np.arange(0.0, measures.duration - 0.2, step)]
    events = [event for event in measures.events if event.kind != "step"]
    if events:
        lines.append(
            "events: "
            + ", ".join(
                f"{event.time:.1f} {' '.join(filter(None, (event.side, event.kind)))} {event.size:.1f}"
                for event in events
            )
        )
    cuts = propose(measures, sound)
    lines.append("proposed: " + " ".join(f"{start:g}-{end:g}" for start, end in cuts))
    return "\n".join(lines) + "\n"


def _totals(measures: Measures) -> str:
    path = float(measures.speed.mean() * measures.duration)
    way = measures.place("pelvis")[-1] - measures.place("pelvis")[0]
    counts = ", ".join(
        f"{measures.count(kind, 'left')} left + {measures.count(kind, 'right')} right {name}"
        for kind, name in (("step", "steps"), ("kick", "kicks"), ("reach", "arm thrusts"))
        if measures.count(kind)
    )
    first = next((event.side for event in measures.events if event.kind == "step"), "")
    return (
        f"path {path:.1f} m, ends {way[2]:+.1f} m ahead and {way[0]:+.1f} m to the left of its start, "
        f"turned {measures.turned:+.0f} deg (+ left); {measures.count('jump')} jumps"
        + (f"; {counts}" if counts else "")
        + (f"; first step {first}" if first else "")
    )


def _second(measures: Measures, time: float, step: float) -> str:
    frames = slice(round(time * FPS), max(round(time * FPS) + 1, round((time + step) * FPS)))
    forward, left = measures.travel[frames].mean(axis=0)
    lean, aside = measures.lean[frames].mean(axis=0)
    wrists = []
    for side in ("left", "right"):
        above = float(measures.wrist_above(side, f"{side}_shoulder")[frames].mean())
        over_head = float(measures.wrist_above(side, "head")[frames].mean()) > 0.05
        wrists.append(f"{above:+.2f}{'*' if over_head else ' '}")
    steps = "".join(
        event.side[0].upper() for event in measures.events if event.kind == "step" and time <= event.time < time + step
    )
    flying = np.zeros(len(measures.joints))
    for first, last in measures.flights:
        flying[first : last + 1] = 1.0
    postures = [name for name, _ in groupby(measures.posture[frames][::4].tolist())]
    return (
        f"{time:4.1f} {forward:+5.2f} {left:+5.2f} {measures.turning[frames].mean():+4.0f} "
        f"{measures.height('pelvis')[frames].mean():4.2f} {wrists[0]} {wrists[1]} "
        f"{measures.hands_apart[frames].mean():4.2f} {lean:+4.0f}/{aside:+4.0f} {steps:5s} "
        f"{flying[frames].mean():3.1f} {'>'.join(dict.fromkeys(postures))}"
    )


if __name__ == "__main__":
    main()

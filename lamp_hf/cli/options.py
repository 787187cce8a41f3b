"""Options shared by several commands of `lamp-hf`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lamp_hf.motion.files import EXACT_FORMATS, SHOWN_FORMATS
from lamp_hf.motion.limits import MAX_FPS, MIN_FPS

__all__ = [
    "DeviceOption",
    "FpsOption",
    "InPlaceOption",
    "LoopOption",
    "MappingOption",
    "MirrorOption",
    "ModelOption",
    "OriginOption",
    "PlantFeetOption",
    "SourceFpsOption",
    "StyleOption",
    "UnitOption",
    "UpAxisOption",
    "adjust_options",
    "reading_options",
    "showing_options",
]

_UNITS = ("m", "dm", "cm", "mm", "inch", "foot", "cmu")
_UP_AXES = ("x", "-x", "y", "-y", "z", "-z")

UnitOption = Annotated[
    str | None,
    typer.Option("--unit", help=f"Unit of the motion files, to override the detected one: {', '.join(_UNITS)}."),
]
UpAxisOption = Annotated[
    str | None,
    typer.Option(
        "--up-axis", help=f"Up axis of the motion files, to override the detected one: {', '.join(_UP_AXES)}."
    ),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        help="JSON file that maps joint names of lamp_hf to those of the file, for a rig that is not recognized.",
    ),
]
SourceFpsOption = Annotated[
    float | None,
    typer.Option("--source-fps", help="Frame rate of the motion files, if theirs is missing or wrong."),
]
FpsOption = Annotated[
    float | None, typer.Option("--fps", help="Frame rate of the output. Defaults to the rate of the motion.")
]
MirrorOption = Annotated[bool, typer.Option("--mirror", help="Swap left and right.")]
LoopOption = Annotated[
    bool, typer.Option("--loop", help="Make a seamless loop: the last frames lead into the first. It may be shorter.")
]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Keep the body in one place, for game engines that move it themselves.")
]
OriginOption = Annotated[bool, typer.Option("--origin", help="Start at the origin, facing forward (+Z).")]
PlantFeetOption = Annotated[
    bool | None,
    typer.Option(
        "--plant-feet/--no-plant-feet",
        help="Keep feet that stand on the floor from sliding. Defaults to yes for generated motions and no for "
        "recordings.",
        show_default=False,
    ),
]
StyleOption = Annotated[
    Literal["mannequin", "skeleton"] | None,
    typer.Option(
        "--style",
        help=f"How to show the body in {', '.join(SHOWN_FORMATS)} files. Defaults to mannequin.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Checkpoint: a folder, a Hub id or a built-in name. Defaults to lamp-small."),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="Device, such as cpu, cuda or mps. Defaults to an accelerator if there is one."),
]


def adjust_options(
    suffix: str,
    *,
    fps: float | None,
    mirror: bool,
    loop: bool,
    in_place: bool,
    origin: bool,
    plant_feet: bool | None,
) -> dict[str, Any]:
    """Return the keyword arguments of `Motion.adjust` for these options and the suffix of the output.

    Raises:
        typer.BadParameter: If the frame rate is out of range, or feet cannot be planted in files of this format.
    """
    if fps is not None and not MIN_FPS <= fps <= MAX_FPS:
        raise typer.BadParameter(f"--fps expects a frame rate from {MIN_FPS:g} to {MAX_FPS:g}, got {fps:g}")
    if plant_feet and suffix.lower() in EXACT_FORMATS and not (loop or in_place):
        raise typer.BadParameter(f"--plant-feet does not work with {suffix} files, which store the motion unchanged")
    return {
        "fps": fps,
        "mirror": mirror,
        "loop": loop,
        "in_place": in_place,
        "origin": origin,
        "plant_feet": plant_feet,
    }


def showing_options(suffix: str, style: str | None) -> dict[str, Any]:
    """Return the keyword arguments of `Motion.save` for `--style` and the suffix of the output.

    Raises:
        typer.BadParameter: If files of this format do not show a body.
    """
    if style is None:
        return {}
    if suffix.lower() not in SHOWN_FORMATS:
        raise typer.BadParameter(f"--style does not work with {suffix} files; write one of {', '.join(SHOWN_FORMATS)}")
    return {"style": style}


def reading_options(
    mapping: Path | None, source_fps: float | None, unit: str | None, up_axis: str | None
) -> dict[str, Any]:
    """Return the keyword arguments of `as_motion` for these options.

    Raises:
        typer.BadParameter: If the unit or axis is unknown, the frame rate is not positive, or the mapping is not a
            JSON object.
    """
    for option, value, known in (("--unit", unit, _UNITS), ("--up-axis", up_axis, _UP_AXES)):
        if value is not None and value not in known:
            raise typer.BadParameter(f"{option} expects one of {', '.join(known)}, got {value}")
    if source_fps is not None and not 0 < source_fps < float("inf"):
        raise typer.BadParameter(f"--source-fps expects a frame rate above 0, got {source_fps:g}")
    given = {
        "mapping": None if mapping is None else _read_mapping(mapping),
        "fps": source_fps,
        "unit": unit,
        "up_axis": up_axis,
    }
    return {name: value for name, value in given.items() if value is not None}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise typer.BadParameter(f"--mapping {path}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"--mapping {path} is not valid JSON: {error}") from error
    if not isinstance(mapping, dict):
        raise typer.BadParameter(f'--mapping {path}: expected a JSON object such as {{"left_hip": "LeftThigh"}}')
    return mapping

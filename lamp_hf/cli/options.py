"""Options shared by several commands of `lamp-hf`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lamp_hf.motion.files import EXACT_FORMATS, SHOWN_FORMATS
from lamp_hf.motion.limits import MAX_FPS, MIN_FPS

if TYPE_CHECKING:
    from lamp_hf.motion.retarget import Character

__all__ = [
    "CharacterMappingOption",
    "CharacterOption",
    "DeviceOption",
    "FpsOption",
    "InPlaceOption",
    "LoopOption",
    "MappingOption",
    "MirrorOption",
    "ModelOption",
    "OriginOption",
    "PlantFeetOption",
    "RigOption",
    "SourceFpsOption",
    "StyleOption",
    "UnitOption",
    "UpAxisOption",
    "adjust_options",
    "find_character",
    "reading_options",
    "showing_options",
]

_UNITS = ("m", "dm", "cm", "mm", "inch", "foot", "cmu")
_RIGS = ("mixamo", "unreal", "unity", "vrm", "rigify", "smpl")
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
CharacterOption = Annotated[
    Path | None,
    typer.Option(
        "--character",
        help="Figure to animate: a .glb, .vrm or .bvh file with a skeleton. The output is this file with the motion, "
        "as .glb, .vrm or .bvh, or an animation for VRM figures, as .vrma.",
    ),
]
CharacterMappingOption = Annotated[
    Path | None,
    typer.Option(
        "--character-mapping",
        help="JSON file that maps joint names of lamp_hf to those of --character, if its rig is not recognized.",
    ),
]
RigOption = Annotated[
    str | None,
    typer.Option(
        "--rig",
        help="Joint names and hierarchy of the output, for a figure of average proportions, instead of --character: "
        f"{', '.join(_RIGS)}.",
    ),
]


def find_character(character: Path | None, rig: str | None, mapping: Path | None, output: Path) -> "Character | None":
    """Load the character of `--character` or `--rig`, and check that it can be saved to the output file.

    Raises:
        typer.BadParameter: If both options are used, or the rig is unknown.
        MotionFormatError: If the file is not a character, or cannot be saved to the output.
    """
    if mapping is not None and character is None:
        raise typer.BadParameter("--character-mapping only applies to --character")
    if character is None and rig is None:
        return None
    if character is not None and rig is not None:
        raise typer.BadParameter("--character and --rig exclude each other; leave one out")
    if rig is not None and rig not in _RIGS:
        raise typer.BadParameter(f"--rig expects one of {', '.join(_RIGS)}, got {rig}")
    from lamp_hf.motion.retarget import Character, check_output

    if character is None:
        found = Character.of_rig(rig or "")
    else:
        found = Character.load(
            character, mapping=None if mapping is None else _read_mapping(mapping, "--character-mapping")
        )
    check_output(found, output)
    return found


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


def showing_options(suffix: str, style: str | None, *, character: "Character | None" = None) -> dict[str, Any]:
    """Return the keyword arguments of `Motion.save` for `--style` and the suffix of the output.

    Raises:
        typer.BadParameter: If files of this format do not show a body, or the character has its own.
    """
    if style is None:
        return {}
    if character is not None:
        raise typer.BadParameter(f"--style does not apply to {character.name}, which has its own body; leave it out")
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


def _read_mapping(path: Path, option: str = "--mapping") -> dict[str, Any]:
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise typer.BadParameter(f"{option} {path}: {error.strerror}") from error
    except ValueError as error:
        raise typer.BadParameter(f"{option} {path} is not valid JSON: {error}") from error
    if not isinstance(mapping, dict):
        raise typer.BadParameter(f'{option} {path}: expected a JSON object such as {{"left_hip": "LeftThigh"}}')
    return mapping

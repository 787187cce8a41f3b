"""`lamp-hf convert-motion`."""

import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamp_hf.cli.common import FORMATS, fail, save, say
from lamp_hf.cli.options import (
    CharacterMappingOption,
    CharacterOption,
    FpsOption,
    InPlaceOption,
    LoopOption,
    MappingOption,
    MirrorOption,
    OriginOption,
    PlantFeetOption,
    RigOption,
    SourceFpsOption,
    StyleOption,
    UnitOption,
    UpAxisOption,
    adjust_options,
    find_character,
    reading_options,
    showing_options,
)
from lamp_hf.motion.files import READERS, find_writer
from lamp_hf.terminal import quiet_readers

if TYPE_CHECKING:
    from lamp_hf.motion.retarget import Character

__all__ = ["convert_motion"]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # a full or read-only disk


def convert_motion(
    source: Annotated[Path, typer.Argument(help=f"Motion file ({' '.join(READERS)}) or a folder of them.")],
    destination: Annotated[
        Path, typer.Argument(help=f"Output file ({FORMATS}), or an output folder if the source is a folder.")
    ],
    to: Annotated[str | None, typer.Option("--to", help=f"Output format for a folder: {FORMATS}")] = None,
    fps: FpsOption = None,
    mirror: MirrorOption = False,
    loop: LoopOption = False,
    in_place: InPlaceOption = False,
    origin: OriginOption = False,
    plant_feet: PlantFeetOption = None,
    style: StyleOption = None,
    character: CharacterOption = None,
    character_mapping: CharacterMappingOption = None,
    rig: RigOption = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
) -> None:
    """Convert motion files between formats. Originals are never overwritten.

    `lamp-hf convert-motion walk.bvh walk.glb`

    `lamp-hf convert-motion take.bvh hero_take.glb --character hero.glb`

    `lamp-hf convert-motion my_mocap/ players/ --to .html`

    `lamp-hf convert-motion walk.bvh cycle.glb --loop --in-place --fps 30`
    """
    reading = reading_options(mapping, source_fps, unit, up_axis)
    suffix = f".{to.lstrip('.')}" if to is not None else destination.suffix
    adjust = adjust_options(
        suffix, fps=fps, mirror=mirror, loop=loop, in_place=in_place, origin=origin, plant_feet=plant_feet
    )
    target = find_character(
        character, rig, character_mapping, Path(f"motion{suffix}") if source.is_dir() else destination
    )
    showing = showing_options(suffix, style, character=target)
    if source.is_dir():
        _convert_folder(source, destination, to, reading, adjust, showing, target)
        return
    if to is not None:
        raise typer.BadParameter(
            f"--to is for folders, but {source} {'is a file' if source.exists() else 'does not exist'}"
        )
    if target is None:
        find_writer(destination)
    _refuse_originals({source: destination})
    say(_convert_file(source, destination, reading, adjust, showing, target))


def _convert_file(
    source: Path,
    target: Path,
    reading: dict[str, Any],
    adjust: dict[str, Any],
    showing: dict[str, Any],
    character: "Character | None",
) -> str:
    from lamp_hf.motion.inputs import as_motion

    return save(as_motion(source, **reading), target, adjust, showing, character)


def _convert_folder(
    source: Path,
    destination: Path,
    to: str | None,
    reading: dict[str, Any],
    adjust: dict[str, Any],
    showing: dict[str, Any],
    character: "Character | None",
) -> None:
    from lamp_hf.motion.inputs import failure, find_motion_files, no_motion_files

    if to is None:
        raise typer.BadParameter(f"{source} is a folder: choose the output format with --to, one of {FORMATS}")
    suffix = f".{to.lstrip('.')}"
    if character is None:
        find_writer(f"{destination}/*{suffix}")
    if destination.exists() and not destination.is_dir():
        raise NotADirectoryError(f"{destination} is a file; expected a folder for the motions of {source}")
    found = find_motion_files(source)
    if not any(found):
        raise FileNotFoundError(no_motion_files(source))
    targets = {file: destination / file.relative_to(source).with_suffix(suffix) for file in found.files}
    _refuse_originals(targets)
    quiet_readers()
    failures = [f"{path}: {problem}" for path, problem in found.problems.items()]
    for file in _progress(found.files):
        target = targets[file]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _convert_file(file, target, reading, adjust, showing, character)
        except OSError as error:
            if error.errno in NO_SPACE:  # the other files would fail too
                raise
            failures.append(failure(file, error))
        except Exception as error:  # one bad file must not stop the others
            failures.append(failure(file, error))
    total = len(found.files) + len(found.problems)
    say(f"{total - len(failures)} of {total} files converted to {destination}")
    if failures:
        fail("\n".join(failures))


def _refuse_originals(targets: dict[Path, Path]) -> None:
    """Check that each file has its own target, and that no target is one of the files."""
    originals = {}
    for file in targets:
        with suppress(OSError):
            status = file.stat()
            originals[status.st_dev, status.st_ino] = file
    sources: dict[Path, Path] = {}
    for file, target in targets.items():
        if (other := sources.setdefault(target, file)) != file:
            raise ValueError(f"{other} and {file} would both become {target}: rename one, or convert to another format")
        with suppress(OSError):
            status = target.stat()
            if original := originals.get((status.st_dev, status.st_ino)):
                raise ValueError(f"{target} would overwrite the original {original}: choose another destination")


def _progress(files: Sequence[Path]) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(files, description="Converting", console=Console(stderr=True))

"""`lamp-hf info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lamp_hf.cli.common import print_table, say
from lamp_hf.cli.options import MappingOption, SourceFpsOption, UnitOption, UpAxisOption, reading_options
from lamp_hf.motion.files import READERS
from lamp_hf.terminal import counted, quiet_readers

__all__ = ["info"]


def info(
    target: Annotated[
        str | None,
        typer.Argument(help="Motion file, folder of motion files, index or checkpoint. Defaults to lamp-small."),
    ] = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
) -> None:
    """Show details of a motion file, a folder of motions, an index or a checkpoint.

    `lamp-hf info walk.bvh`

    `lamp-hf info my_mocap/`
    """
    reading = reading_options(mapping, source_fps, unit, up_axis)
    path = None if target is None else Path(target)
    if path is not None and (path.is_file() or (path.suffix.lower() in READERS and not path.is_dir())):
        from lamp_hf.motion.inputs import as_motion

        motion = as_motion(path, **reading)
        say(f"{target}: {motion.skeleton.name}, {motion.report()}")
        return
    if path is not None and path.is_dir() and not (path / "config.json").is_file():
        from lamp_hf.motion.inputs import find_motion_files, no_motion_files

        if (path / "index.json").is_file() and not reading:
            from lamp_hf.retrieval.index import MotionIndex

            print_table(MotionIndex.open(path).describe())
            return
        if any(find_motion_files(path)):
            _describe_folder(path, reading)
            return
        raise FileNotFoundError(f"{no_motion_files(path)}; it is not a checkpoint or an index either")
    if reading:
        raise typer.BadParameter("--mapping, --source-fps, --unit and --up-axis only apply to motion files and folders")
    from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT
    from lamp_hf.publishing.describe import describe_checkpoint

    print_table(describe_checkpoint(target or DEFAULT_CHECKPOINT))


def _describe_folder(folder: Path, reading: dict[str, Any]) -> None:
    """Print a summary of a folder of motions; this reads every file."""
    from collections import Counter

    from lamp_hf.data.doctor import check_data
    from lamp_hf.motion.inputs import find_motion_files

    quiet_readers()
    report = check_data(folder, reader_options=reading)
    formats = Counter(path.suffix.lower() for path in find_motion_files(folder).files)
    files = ", ".join(f"{count} {suffix}" for suffix, count in sorted(formats.items()))
    print_table({"folder": folder, "layout": report.layout, "files": files or "none", **report.counts})
    if report.findings:
        others = len(report.findings) - len(report.errors)
        found = f"{counted(len(report.errors), 'error')}, {counted(others, 'warning')}"
        say(f"{found}: `lamp-hf data check {folder}` lists them")

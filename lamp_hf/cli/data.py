"""`lamp-hf data`: commands for data sets."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamp_hf.cli.options import MappingOption, SourceFpsOption, UnitOption, UpAxisOption, reading_options
from lamp_hf.terminal import counted, quiet_readers, shown

if TYPE_CHECKING:
    from rich.console import Console

    from lamp_hf.data.report import DataReport

__all__ = ["app"]

SHOWN = 5

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def _data() -> None:
    """Check a data set for problems."""


@app.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(
            help="Folder of HumanML3D, KIT-ML, the CMU database or your own motions, with or without metadata.jsonl."
        ),
    ],
    show_all: Annotated[
        bool, typer.Option("--all", help=f"List all problems, not only the first {SHOWN} of each kind.")
    ] = False,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
) -> None:
    """Read every file of a data set and report problems. The exit code is 1 if there are errors.

    `lamp-hf data check HumanML3D/`

    `lamp-hf data check my_mocap/ --all`
    """
    from rich.console import Console

    from lamp_hf.data.doctor import check_data

    quiet_readers()
    report = check_data(path, reader_options=reading_options(mapping, source_fps, unit, up_axis))
    console = Console(highlight=False, soft_wrap=True)
    _print_report(console, report, None if show_all else SHOWN)
    if report.errors:
        raise typer.Exit(1)


def _print_report(console: "Console", report: "DataReport", limit: int | None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(shown(f"{report.path}: {report.layout}")), title_justify="left", show_header=False)
    for name, value in report.counts.items():
        table.add_row(name, shown(value))
    console.print(table)
    for (severity, kind), group in groupby(report.findings, key=lambda finding: (finding.severity, finding.kind)):
        findings = list(group)
        console.print(Text(f"{severity}: {kind} ({len(findings)})", style="red" if severity == "error" else "yellow"))
        for finding in findings[:limit]:
            console.print(Text(f"  {shown(finding)}"))
        if limit is not None and len(findings) > limit:
            console.print(f"  and {len(findings) - limit} more (--all lists them)")
    warnings = len(report.findings) - len(report.errors)
    console.print(f"{counted(len(report.errors), 'error')}, {counted(warnings, 'warning')}")

"""`lamp-hf reproduce`: measure the rows of a paper's tables, and print them beside the published figures."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

if TYPE_CHECKING:
    from lamp_hf.evaluation.paper_tables import PaperTable, TableRow

__all__ = ["reproduce"]


def reproduce(
    tables: Annotated[list[Path], typer.Argument(help="Table files, such as examples/paper/table1.yaml.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", help="Path of a data set of the tables, NAME=PATH; can be repeated. Defaults to its name."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for runs and records. Repeat the command to resume.")
    ] = Path("reproduction"),
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option for all evaluations, NAME=VALUE, such as repeats=2; can be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands without running them.")] = False,
) -> None:
    """Train and evaluate the rows of tables, one after the other, and print them beside the published figures.

    A row is skipped if its records exist, and an interrupted training resumes. If a row fails, the others still run.

    `lamp-hf reproduce examples/paper/table1.yaml --data HumanML3D=data/HumanML3D`
    """
    from lamp_hf.evaluation.paper_tables import load_table

    loaded = [load_table(path) for path in tables]
    paths = _pairs("--data", data)
    changes = {name: yaml.safe_load(value) for name, value in _pairs("--set", options).items()}
    unknown = paths.keys() - {row.data for table in loaded for row in table.rows}
    if unknown:
        known = sorted({row.data for table in loaded for row in table.rows if row.data})
        raise typer.BadParameter(f"the tables have no data set {unknown.pop()!r}; they have {', '.join(known)}")
    # Both are told before any work: a table that cannot be read, and records of other options.
    measured = [row for table in loaded for row in table.rows if row.checkpoint is not None]
    pending = [
        (row, row.evaluation(output, paths, changes))
        for row in measured
        if not row.is_measured(output, row.evaluation(output, paths, changes))
    ]
    failed = [row.name for row, command in pending if not _measure(row, output, paths, command, dry_run)]
    for table in loaded:
        _print(table, output)
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(measured)} rows were not measured: {', '.join(failed)}; the reasons are above. "
            "Repeat the command to measure them"
        )


def _measure(row: "TableRow", folder: Path, paths: dict[str, str], command: list[str], dry_run: bool) -> bool:
    """Run the trainings and the evaluation of a row; return whether all succeeded."""
    for output, training in row.trainings(folder, paths):
        if not (output / "training.json").is_file() and not _run(training, dry_run):
            return False
    if not _run(command, dry_run):
        return False
    if not dry_run:
        row.mark_measured(folder, command)
    return True


def _run(command: list[str], dry_run: bool) -> bool:
    typer.echo(f"lamp-hf {shlex.join(command)}")
    return dry_run or subprocess.run([sys.executable, "-m", "lamp_hf", *command], check=False).returncode == 0


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        if not (name and separator and value):
            raise typer.BadParameter(f"{option} {text!r} is not of the form NAME=VALUE")
        pairs[name] = value
    return pairs


def _print(table: "PaperTable", folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{table.title} ({table.source})", title_justify="left")
    columns: list[Any] = ["", "", *table.metrics]
    for column in columns:
        shown.add_column(column, overflow="fold")
    for name, origin, values in table.shown(folder):
        shown.add_row(name, origin, *(values.get(metric, "") for metric in table.metrics))
    Console().print(shown)

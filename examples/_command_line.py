"""Command line of the example scripts: errors of the library are shown in one line, without a traceback."""

from collections.abc import Callable

import typer

from lamp_hf.checkpoints.files import CheckpointError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command-line arguments."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except (OSError, ValueError, ImportError, CheckpointError) as error:
        raise SystemExit(f"Error: {error}") from None

"""How the scripts here are called: what the library says of a mistake is shown by itself, without a traceback."""

from collections.abc import Callable

import typer

from lamp_hf.checkpoints.files import CheckpointError


def run(main: Callable[..., None]) -> None:
    """Call `main` with the arguments of the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except (OSError, ValueError, ImportError, CheckpointError) as error:
        raise SystemExit(f"Error: {error}") from None

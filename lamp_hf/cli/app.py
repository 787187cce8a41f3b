"""`lamp-hf`: parse the command line, call the library, print results.

Each command imports what it needs when it runs, so help and motion conversion work without importing torch.
"""

import re
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from lamp_hf.cli import data, evaluate
from lamp_hf.cli.caption import caption
from lamp_hf.cli.common import fail
from lamp_hf.cli.convert import convert
from lamp_hf.cli.convert_motion import convert_motion
from lamp_hf.cli.generate import generate, prompts
from lamp_hf.cli.info import info
from lamp_hf.cli.push import push
from lamp_hf.cli.reproduce import reproduce
from lamp_hf.cli.search import index, search
from lamp_hf.cli.serve import serve
from lamp_hf.cli.studio import studio
from lamp_hf.cli.train import train
from lamp_hf.terminal import logs_on_stderr, shown
from lamp_hf.version import __version__

__all__ = ["app", "main"]

EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="lamp-hf",
    help="Generate human motion from text, caption motions, search motion capture, and train your own models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: with 0 on success, 1 after an error, and 2 after wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given  # removed here, so that it works before and after the command
    try:
        with logs_on_stderr():
            _warn_on_stderr()
            app([argument for argument in given if argument != "--debug"], prog_name="lamp-hf")
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)
    except SystemExit as ended:  # typer turns Ctrl-C into one, without a message
        if ended.code == EXIT_INTERRUPTED:
            fail("interrupted", EXIT_INTERRUPTED)
        raise
    except Exception as error:
        if debug:
            raise
        fail(_one_line(error))
    raise SystemExit(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lamp-hf {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback if there is an error.")] = False,
) -> None:
    pass


# The order of the help: use a model, handle motion files, train and publish.
app.command()(generate)
app.command()(prompts)
app.command()(caption)
app.command()(search)
app.command()(index)
app.command()(info)
app.command("convert-motion")(convert_motion)
app.command()(serve)
app.command()(studio)
app.command()(train)
app.command()(reproduce)
app.command()(push)
app.command()(convert)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    listed = re.sub(r"(?<!:)\n {2,}(?=\S)", "; ", str(error))  # keep the items of a list apart
    return " ".join(listed.split()) or type(error).__name__


def _warn_on_stderr() -> None:
    """Print each warning of the library as one line."""
    show = warnings.showwarning

    def show_line(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if category.__module__.startswith("lamp_hf."):
            print(shown(f"WARNING: {message}"), file=sys.stderr)
        else:
            show(message, category, *args, **kwargs)

    warnings.showwarning = show_line

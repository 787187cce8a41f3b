"""`lamp-hf studio`."""

from typing import Annotated

import typer

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.cli.common import say
from lamp_hf.cli.options import DeviceOption, ModelOption
from lamp_hf.extras import require_studio

__all__ = ["studio"]


def studio(
    index: Annotated[
        str | None,
        typer.Option("--index", help="Motion index, or folder of motions, that users can search."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 to accept other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port to listen on.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="Create a public link, through a server of Gradio.")] = False,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longest motion in seconds.")] = 60.0,
    max_mb: Annotated[float, typer.Option("--max-mb", help="Largest upload in MB.")] = 16.0,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Open a page to write, edit, search and download motions in a browser, until Ctrl-C.

    `lamp-hf studio --index my_mocap/`
    """
    require_studio()
    from lamp_hf.serving import Limits
    from lamp_hf.studio import launch

    find_checkpoint(model, "text-to-motion")
    limits = Limits(max_bytes=round(max_mb * 1e6), max_seconds=max_seconds)
    say(f"http://{host}:{port}, Ctrl-C to stop")
    launch(model, index=index, device=device, limits=limits, host=host, port=port, share=share)

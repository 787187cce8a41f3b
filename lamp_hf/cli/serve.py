"""`lamp-hf serve`."""

from typing import Annotated

import typer

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.cli.common import say
from lamp_hf.cli.options import DeviceOption, ModelOption
from lamp_hf.extras import require_server
from lamp_hf.terminal import quiet_readers

__all__ = ["serve"]

GRACE_S = 30  # for requests in progress, after Ctrl-C


def serve(
    index: Annotated[
        str | None,
        typer.Option("--index", help="Motion index, or folder of motions, to search. Without it, there is no search."),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 to accept other machines.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="Port to listen on.")] = 8000,
    max_requests: Annotated[
        int, typer.Option("--max-requests", min=1, help="Requests to accept at the same time.")
    ] = 64,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Motions to generate together.")] = 16,
    max_wait: Annotated[
        float, typer.Option("--max-wait", help="Milliseconds to wait for requests to generate together.")
    ] = 10.0,
    max_inputs: Annotated[int, typer.Option("--max-inputs", min=1, help="Texts or motions per request.")] = 16,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longest motion in seconds.")] = 60.0,
    max_mb: Annotated[float, typer.Option("--max-mb", help="Largest request in MB.")] = 16.0,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Serve a model over HTTP for other programs, until Ctrl-C. `/openapi.json` describes the requests.

    `lamp-hf serve --index my_mocap/`

    `curl localhost:8000/text-to-motion -d '{"inputs": "a person waves", "parameters": {"format": "bvh"}}' -o wave.bvh`
    """
    require_server()
    import uvicorn

    from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT
    from lamp_hf.serving import Limits, create_app

    limits = Limits(
        max_bytes=round(max_mb * 1e6),
        max_inputs=max_inputs,
        max_seconds=max_seconds,
        max_requests=max_requests,
        max_batch=max_batch,
        max_wait_s=max_wait / 1000,
    )
    find_checkpoint(model, "motion-captioning")  # all checkpoints that can be served have this task
    app = create_app(model or DEFAULT_CHECKPOINT, index=index, device=device, limits=limits)
    quiet_readers()
    say(f"http://{host}:{port}, Ctrl-C to stop")
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=GRACE_S)

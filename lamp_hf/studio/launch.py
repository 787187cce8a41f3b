"""Start the studio."""

from typing import Any

from lamp_hf.extras import require_studio
from lamp_hf.serving.limits import Limits

__all__ = ["launch"]


def launch(
    model: str | None = None,
    *,
    index: Any = None,
    device: Any = None,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    share: bool = False,
    block: bool = True,
) -> Any:
    """Load a text-to-motion checkpoint and serve a page to write, edit, search and download motions.

    Each open page has a session of its own; sessions share nothing. Uploads are deleted as soon as they are read, and
    downloads are sent to the page that asked for them, without an address that others could open.

    Args:
        model: Folder of the checkpoint, a Hub id, or the name of an embedded checkpoint; the default checkpoint if
            `None`.
        index: Index or folder of motions to search, see [`MotionRetrievalPipeline`].
        device: Device, as in `transformers.pipeline`.
        limits: Limits of uploads and motions; defaults to `Limits()`. `max_requests` jobs can wait in the queue.
        host: Address to listen on; `"0.0.0.0"` accepts other machines.
        port: Port to listen on; the first free one from 7860 on if `None`.
        share: Whether to create a public link, through a server of Gradio.
        block: Whether to serve until Ctrl-C; otherwise, return while the page is served.

    Returns:
        The page; `page.blocks.local_url` is its address, and `page.close()` ends it.

    Raises:
        ImportError: Gradio is not installed.
        OSError: The checkpoint does not exist, or the port is in use.
        TypeError: The checkpoint is not for text to motion.
    """
    require_studio()
    from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT
    from lamp_hf.studio.models import load_models
    from lamp_hf.studio.page import StudioPage

    models = load_models(model, index=index, device=device, limits=limits)
    page = StudioPage(models, model or DEFAULT_CHECKPOINT)
    page.launch(host=host, port=port, share=share, block=block)
    return page

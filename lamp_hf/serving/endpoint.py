"""The handler of Hugging Face Inference Endpoints. `push_to_hub` writes a `handler.py` that imports it."""

import os
from typing import Any

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.checkpoints.tasks import tasks_of

from .limits import Limits
from .motions import MotionFile
from .tasks import TASKS

__all__ = ["EndpointHandler", "load_tasks"]


class EndpointHandler:
    """Answers requests of an Inference Endpoint with the first task of the checkpoint.

    Checkpoints of text-to-motion generate motions, the other ones write captions. Requests and responses are the same
    as those of `lamp-hf serve`, except that files are in the JSON, in Base64.

    ```python
    >>> from lamp_hf.serving import EndpointHandler

    >>> handler = EndpointHandler("lamp-small")
    >>> [result] = handler({"inputs": "a person waves", "parameters": {"seed": 1, "duration": 2.0}})
    >>> len(result["motion"]["positions"])
    40

    ```

    Args:
        path: Folder of the checkpoint, a Hub id, or the name of an embedded checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str] = ""):
        [self.task] = load_tasks(os.fspath(path), Limits(), first_only=True).values()

    def __call__(self, data: dict[str, Any]) -> Any:
        """Answer a request.

        Args:
            data: The request, `{"inputs": …, "parameters": {…}}`.

        Returns:
            A list with a dictionary for each motion, or with a list of captions for each motion.

        Raises:
            TypeError: A value has the wrong type, or a parameter is unknown.
            ValueError: A value is invalid or beyond the limits.
        """
        job = self.task.read(data)
        [results] = self.task.run([job])
        response = self.task.write(job, results)
        if isinstance(response, MotionFile):
            return [{**results[0], "motion": response.to_dict()}]
        return response


def load_tasks(
    model: str, limits: Limits, *, index: Any = None, device: Any = None, first_only: bool = False
) -> dict[str, Any]:
    """Load the pipelines of all tasks of a checkpoint.

    Args:
        model: Folder of the checkpoint, a Hub id, or the name of an embedded checkpoint.
        limits: Limits of requests.
        index: Index for motion-retrieval, see [`MotionRetrievalPipeline`]; without one, the task is left out.
        device: Device, as in `transformers.pipeline`.
        first_only: Load only the first task.

    Returns:
        A `Task` for each name of a task.

    Raises:
        ValueError: The model does not have any of the tasks.
    """
    import transformers

    checkpoint = resolve_checkpoint(model)
    model_type = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    names = [
        task for task in tasks_of(model_type) if task in TASKS and (task != "motion-retrieval" or index is not None)
    ]
    if not names:
        raise ValueError(f"{model} contains a {model_type!r} model, which generates neither motions nor captions")
    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    tasks = {}
    for name in names[:1] if first_only else names:
        options = {"index": index} if name == "motion-retrieval" else {}
        tasks[name] = TASKS[name](create(name, model=checkpoint, device=device, **options), limits)
    return tasks

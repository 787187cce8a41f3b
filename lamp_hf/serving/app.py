"""The server of `lamp-hf serve`: a FastAPI application with one route per task."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from lamp_hf.extras import require_server
from lamp_hf.version import __version__

from .batching import JobQueue
from .endpoint import load_tasks
from .limits import Limits
from .motions import FILES, MotionFile
from .tasks import Task

if TYPE_CHECKING:
    import fastapi

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
CLIENT_CLOSED_REQUEST = 499  # nobody receives it, but it is logged
ERROR = {"type": "object", "properties": {"error": {"type": "string", "description": "What is wrong, and the remedy."}}}
ERRORS = {
    400: "The body is not JSON.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "A value is invalid or beyond the limits of the server.",
    500: "The server failed.",
    503: "The server is busy or stops; try again after the seconds in the header Retry-After.",
}


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: What is wrong, and the remedy.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}


def create_app(model: str, *, index: Any = None, device: Any = None, limits: Limits | None = None) -> "fastapi.FastAPI":
    """Load a checkpoint and create a server with `POST /text-to-motion`, `/motion-captioning` and `/motion-retrieval`.

    The server has a route for each task that the checkpoint and the index support, and `GET /health`. `GET
    /openapi.json` describes requests and responses.

    A request is `{"inputs": …, "parameters": {…}}`, as for Hugging Face's inference services, and has the results that
    the pipeline has for the same inputs and parameters. Requests for motions that arrive at the same time are generated
    together if their settings are the same; the motions do not depend on it.

    ```python
    >>> from fastapi.testclient import TestClient
    >>> from lamp_hf.serving import create_app

    >>> with TestClient(create_app("lamp-small")) as client:
    ...     answer = client.post("/text-to-motion", json={"inputs": "a person waves", "parameters": {"duration": 2.0}})
    >>> answer.status_code, len(answer.json()[0]["motion"]["positions"])
    (200, 40)

    ```

    Args:
        model: Folder of the checkpoint, a Hub id, or the name of an embedded checkpoint.
        index: Index or folder of motions for motion-retrieval, see [`MotionRetrievalPipeline`].
        device: Device, as in `transformers.pipeline`.
        limits: Limits of requests; defaults to `Limits()`.

    Raises:
        ImportError: FastAPI is not installed.
        ValueError: The checkpoint has none of the tasks.
    """
    require_server()
    import fastapi
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    limits = limits or Limits()
    tasks = load_tasks(model, limits, index=index, device=device)
    server = Server(limits)

    @asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.close()

    app = fastapi.FastAPI(
        title="lamp_hf",
        summary="Generate, describe and find human motion",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from other servers
        redoc_url=None,
    )

    @app.exception_handler(RefusedError)
    async def refused(_: fastapi.Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(_: fastapi.Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.get("/health", summary="Whether the server answers requests")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "model": model,
            "tasks": list(tasks),
            "requests": server.active,
            "waiting": server.waiting,
        }

    def add_route(task: Task) -> None:
        async def answer(request: fastapi.Request) -> fastapi.Response:
            response = await server.answer(task, request)
            if isinstance(response, MotionFile):
                name = f'attachment; filename="motion.{response.format}"'
                return fastapi.Response(
                    response.content, media_type=response.media_type, headers={"Content-Disposition": name}
                )
            return fastapi.Response(response, media_type="application/json")

        app.post(
            f"/{task.name}",
            summary=task.summary,
            operation_id=task.name,
            response_class=fastapi.Response,
            openapi_extra=_description(task, limits),
        )(answer)

    for task in tasks.values():
        add_route(task)
    return app


class Server:
    """Answers the requests of an app.

    Args:
        limits: Limits of requests.

    Attributes:
        active: Number of requests in progress.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.active = 0
        self._queue: JobQueue | None = None

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for others."""
        return 0 if self._queue is None else len(self._queue)

    def start(self) -> None:
        """Start to answer requests, in the event loop of the caller."""
        self._queue = JobQueue(self.limits)
        self._queue.start()

    async def close(self) -> None:
        """Finish the requests in progress, and refuse others."""
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()

    async def answer(self, task: Task, request: "fastapi.Request") -> bytes | MotionFile:
        """Return the response to a request: JSON or a file.

        Raises:
            RefusedError: The request is invalid, or there are too many of them.
        """
        with self._admitted() as queue:
            body = await self._body(request)
            with _explained():
                job = await asyncio.to_thread(_read, task, body)
                results = await _unless_disconnected(request, queue.run(task, job))
                return await asyncio.to_thread(_write, task, job, results)

    @contextmanager
    def _admitted(self) -> Iterator[JobQueue]:
        if self._queue is None:
            raise RefusedError(503, "the server stops; try again later")
        if self.active >= self.limits.max_requests:
            raise RefusedError(503, f"the server works on {self.active} requests, its limit; try again later")
        self.active += 1
        try:
            yield self._queue
        finally:
            self.active -= 1

    async def _body(self, request: "fastapi.Request") -> bytes:
        too_large = RefusedError(
            413, f"the body has more than {self.limits.max_bytes:,} bytes, the limit of this server"
        )
        if int(request.headers.get("content-length") or 0) > self.limits.max_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.max_upload_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.limits.max_bytes:
                        raise too_large
        except TimeoutError:
            raise RefusedError(
                408, f"the body did not arrive within {self.limits.max_upload_s:g} s; send it again"
            ) from None
        return bytes(body)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors about values, which the library explains, into responses; log all others."""
    try:
        yield
    except RefusedError:
        raise
    except (TypeError, ValueError) as error:
        raise RefusedError(422, str(error)) from error
    except Exception as error:
        logger.exception("a request failed")
        raise RefusedError(500, "the server failed; its log says why") from error


async def _unless_disconnected(request: "fastapi.Request", work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """Return the results of a job, or cancel it if the client has closed the connection."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    running, gone = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    both: set[asyncio.Future[Any]] = {running, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise RefusedError(CLIENT_CLOSED_REQUEST, "the client has closed the connection")
        return running.result()
    finally:
        running.cancel()
        gone.cancel()


def _read(task: Task, body: bytes) -> Any:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    return task.read(values)


def _write(task: Task, job: Any, results: list[Any]) -> bytes | MotionFile:
    response = task.write(job, results)
    return response if isinstance(response, MotionFile) else json.dumps(response, ensure_ascii=False).encode()


def _description(task: Task, limits: Limits) -> dict[str, Any]:
    """Return the OpenAPI description of a route, without what FastAPI adds."""
    inputs = task.input_schema
    several = {"type": "array", "items": inputs, "minItems": 1, "maxItems": limits.max_inputs}
    body = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "inputs": {"anyOf": [inputs, several]},
            "parameters": {"type": "object", "properties": dict(task.parameters), "additionalProperties": False},
        },
    }
    contents: dict[str, Any] = {"application/json": {"schema": {"type": "array", "items": task.result_schema}}}
    if "format" in task.parameters:
        contents |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in FILES.values()}
    responses: dict[str, Any] = {
        "200": {"description": "The results, in the order of the inputs.", "content": contents}
    }
    for status, description in ERRORS.items():
        responses[str(status)] = {"description": description, "content": {"application/json": {"schema": ERROR}}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "example": task.example}}},
        "responses": responses,
    }

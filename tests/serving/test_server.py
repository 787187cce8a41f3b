"""The server returns the results of the pipelines, also under load, and explains invalid requests."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from lamp_hf.motion.motion import Motion
from lamp_hf.serving import EndpointHandler, Limits, create_app
from lamp_hf.serving.app import RefusedError, Server
from lamp_hf.serving.batching import JobQueue
from lamp_hf.serving.tasks import Job, Task

fastapi_testclient = pytest.importorskip("fastapi.testclient", reason="needs FastAPI: pip install 'lamp_hf[serve]'")
pytest.importorskip("faiss", reason="needs FAISS: pip install 'lamp_hf[retrieval]'")

LIMITS = Limits(max_bytes=300_000, max_inputs=4, max_seconds=3.0, max_requests=12)


@pytest.fixture(scope="module")
def mocap(tmp_path_factory: pytest.TempPathFactory, walker: Motion, waver: Motion) -> Path:
    folder = tmp_path_factory.mktemp("mocap")
    walker.save(folder / "walk.bvh")
    waver.save(folder / "wave.npz")
    rows = [{"file_name": "walk.bvh", "text": "a person walks"}, {"file_name": "wave.npz", "text": "a person waves"}]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path, mocap: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMP_HF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return create_app(str(tiny_checkpoint), index=str(mocap), device="cpu", limits=LIMITS)


@pytest.fixture(scope="module")
def client(app) -> Iterator[Any]:
    with fastapi_testclient.TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> Any:
    return transformers.pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")


def as_file(path: Path) -> dict[str, str]:
    return {"format": path.suffix[1:], "content": base64.b64encode(path.read_bytes()).decode()}


# ---- answers ----------------------------------------------------------------------------------------------


def test_health_and_description(client, tiny_checkpoint) -> None:
    health = client.get("/health").json()
    tasks = ["text-to-motion", "motion-captioning", "motion-retrieval"]
    assert (health["status"], health["tasks"], health["waiting"]) == ("ok", tasks, 0)
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/health", *(f"/{task}" for task in tasks)}
    for task in tasks:
        body = paths[f"/{task}"]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["properties"]["parameters"]["properties"]
        assert {"200", "422", "503"} <= paths[f"/{task}"]["post"]["responses"].keys()
    example = paths["/text-to-motion"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert client.post("/text-to-motion", json=example).status_code == 200


def test_motions_equal_those_of_the_pipeline(client, pipe) -> None:
    texts, parameters = ["a person walks", "the person bows"], {"seed": [3, 8], "duration": [1.0, 1.5]}
    more = {"guidance_scale": 2.0, "num_motions_per_prompt": 2, "negative_prompt": "the person waves"}
    answer = client.post("/text-to-motion", json={"inputs": texts, "parameters": {**parameters, **more}})
    assert answer.status_code == 200, answer.text
    expected = [result for group in pipe(texts, **parameters, **more) for result in group]
    for result, wanted in zip(answer.json(), expected, strict=True):
        motion = wanted.pop("motion")
        np.testing.assert_array_equal(np.float32(result["motion"]["positions"]), motion.joints)
        assert (result["motion"]["fps"], result["motion"]["text"]) == (20.0, wanted["text"])
        assert {name: value for name, value in result.items() if name != "motion"} == wanted


def test_split_generates_actions_one_after_another(client, pipe) -> None:
    text, parameters = "a person walks then waves", {"seed": 2, "split": True, "duration": 2.0}
    [result] = client.post("/text-to-motion", json={"inputs": text, "parameters": parameters}).json()
    expected = pipe(text, **parameters)
    np.testing.assert_array_equal(np.float32(result["motion"]["positions"]), expected["motion"].joints)
    assert result["scenes"] == [list(scene) for scene in expected["scenes"]]


def test_seed_is_drawn_and_returned(client, pipe) -> None:
    made = [client.post("/text-to-motion", json={"inputs": "a person walks"}).json()[0] for _ in range(2)]
    assert made[0]["seed"] != made[1]["seed"]
    again = pipe("a person walks", seed=made[0]["seed"])["motion"]
    np.testing.assert_array_equal(np.float32(made[0]["motion"]["positions"]), again.joints)


@pytest.mark.parametrize("kind", ["bvh", "glb", "npz"])
def test_motion_as_a_file(client, pipe, kind: str, tmp_path: Path) -> None:
    parameters = {"seed": 1, "duration": 1.0}
    asked = {"inputs": "a person walks", "parameters": {**parameters, "format": kind, "loop": True, "fps": 30}}
    answer = client.post("/text-to-motion", json=asked)
    assert answer.headers["content-disposition"] == f'attachment; filename="motion.{kind}"'
    expected = pipe("a person walks", **parameters)["motion"].adjust(fps=30, loop=True)
    expected.save(tmp_path / f"motion.{kind}")
    (tmp_path / f"served.{kind}").write_bytes(answer.content)
    served = Motion.load(tmp_path / f"served.{kind}")
    np.testing.assert_array_equal(served.joints, Motion.load(tmp_path / f"motion.{kind}").joints)
    several = client.post("/text-to-motion", json={**asked, "inputs": ["a person walks", "the person bows"]}).json()
    assert [result["motion"]["format"] for result in several] == [kind] * 2
    if kind != "npz":  # an archive contains the time
        assert base64.b64decode(several[0]["motion"]["content"]) == answer.content


def test_switches_and_rotations(client, pipe) -> None:
    parameters = {"seed": 1, "duration": 1.0}
    switches = {"mirror": True, "in_place": True, "origin": True, "plant_feet": True}
    asked = {"inputs": "a person walks left", "parameters": {**parameters, **switches, "rotations": True}}
    [result] = client.post("/text-to-motion", json=asked).json()
    expected = pipe("a person walks left", **parameters)["motion"].adjust(**switches)
    assert result["motion"] == json.loads(json.dumps(expected.to_dict(rotations=True)))
    assert result["motion"]["text"] == "a person walks right"
    planted = {"inputs": "a person walks", "parameters": {**parameters, "plant_feet": True}}
    [result] = client.post("/text-to-motion", json=planted).json()
    wanted = pipe("a person walks", **parameters)["motion"].plant_feet()
    np.testing.assert_array_equal(np.float32(result["motion"]["positions"]), wanted.joints)


def test_captions_equal_those_of_the_pipeline(client, tiny_checkpoint: Path, mocap: Path, walker: Motion) -> None:
    caption = transformers.pipeline("motion-captioning", model=str(tiny_checkpoint), device="cpu")
    parameters = {"num_beams": 3, "num_return_sequences": 2}
    inputs = [as_file(mocap / "walk.bvh"), as_file(mocap / "wave.npz")]
    answer = client.post("/motion-captioning", json={"inputs": inputs, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    assert answer.json() == caption([mocap / "walk.bvh", mocap / "wave.npz"], **parameters)
    windows = client.post("/motion-captioning", json={"inputs": walker.to_dict(), "parameters": {"window_s": 1.5}})
    assert windows.json() == [caption(walker, window_s=1.5)]
    features = {"features": walker.features.tolist(), "fps": 20}
    assert client.post("/motion-captioning", json={"inputs": features}).json() == [
        caption(Motion(features=walker.features))
    ]


def test_hits_equal_those_of_the_pipeline(
    client, app, tiny_checkpoint: Path, mocap: Path, walker: Motion, tmp_path
) -> None:
    search = transformers.pipeline("motion-retrieval", model=str(tiny_checkpoint), index=str(mocap), device="cpu")
    inputs = ["someone waves", walker.to_dict()]
    answer = client.post("/motion-retrieval", json={"inputs": inputs, "parameters": {"top_k": 2, "exact": True}})
    assert answer.status_code == 200, answer.text
    expected = json.loads(json.dumps(search(["someone waves", walker], top_k=2, exact=True)))
    assert answer.json() == expected
    captions = {"inputs": walker.to_dict(), "parameters": {"target": "caption", "top_k": 1, "rerank": True}}
    hits = client.post("/motion-retrieval", json=captions).json()
    assert hits == json.loads(json.dumps([search(walker, target="caption", top_k=1, rerank=True)]))


# ---- many requests ----------------------------------------------------------------------------------------


def test_concurrent_requests_do_not_affect_each_other(client, pipe) -> None:
    def ask(number: int) -> Any:
        parameters: dict[str, Any] = {"seed": number, "num_frames": 8 + 4 * (number % 3)}
        if number % 4 == 3:
            parameters["temperature"] = 0.5
        if number % 5 == 4:  # only this one of its batch is refused
            parameters["num_frames"] = 1
        answer = client.post("/text-to-motion", json={"inputs": "a person walks", "parameters": parameters})
        return parameters, answer

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(ask, range(30)))
    for parameters, answer in answers:
        if parameters["num_frames"] == 1:
            assert answer.status_code == 422
            assert answer.json() == {"error": "num_frames=1 is 1 frames; the shortest motion has 4"}
        else:
            expected = pipe("a person walks", **parameters)["motion"]
            np.testing.assert_array_equal(np.float32(answer.json()[0]["motion"]["positions"]), expected.joints)


class Slow(Task):
    """Returns the inputs of its jobs after a signal."""

    name = "slow"
    parameters = {}
    batches = True

    def __init__(self, limits: Limits):
        super().__init__(None, limits)
        self.started, self.go = threading.Event(), threading.Event()
        self.batches_run: list[list[Any]] = []

    def _job(self, inputs: list[Any], parameters: dict[str, Any]) -> Job:
        return Job(inputs, parameters)

    async def begun(self) -> None:
        """Wait until the first jobs run."""
        while not self.started.is_set():
            await asyncio.sleep(0.001)

    def run(self, jobs: Any) -> list[list[Any]]:
        self.started.set()
        assert self.go.wait(60)
        self.batches_run.append([value for job in jobs for value in job.inputs])
        if any("bad" in job.inputs for job in jobs):
            raise ValueError("a bad input")
        return [list(job.inputs) for job in jobs]


def test_queue_runs_jobs_of_one_kind_together() -> None:
    task = Slow(Limits(max_batch=3, max_wait_s=0.001))

    async def main() -> list[Any]:
        queue = JobQueue(task.limits)
        queue.start()
        jobs = [Job(["first"], {})]
        jobs += [Job([number], {"odd": bool(number % 2)}) for number in range(8)] + [Job(["bad"], {"odd": True})]
        waiting = [asyncio.ensure_future(queue.run(task, jobs[0]))]
        await task.begun()  # the first one runs while the others arrive
        waiting += [asyncio.ensure_future(queue.run(task, job)) for job in jobs[1:]]
        await asyncio.sleep(0)
        waiting[3].cancel()
        await asyncio.sleep(0)
        assert len(queue) == 9
        task.go.set()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        await queue.close()
        return results

    results = asyncio.run(main())
    assert task.batches_run[:4] == [["first"], [0, 4, 6], [1, 3, 5], [7, "bad"]]  # 2 was canceled
    assert isinstance(results[3], asyncio.CancelledError)
    assert results[:3] + results[4:9] == [["first"], [0], [1], [3], [4], [5], [6], [7]]
    assert str(results[9]) == "a bad input"


def test_closing_finishes_running_jobs() -> None:
    task = Slow(Limits(max_wait_s=60.0))
    task.go.set()

    async def main() -> Any:
        queue = JobQueue(task.limits)
        queue.start()
        waiting = [asyncio.ensure_future(queue.run(task, Job([number], {}))) for number in range(3)]
        await asyncio.sleep(0.01)
        await queue.close()
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [[0], [1], [2]]
    assert task.batches_run == [[0, 1, 2]]


def test_busy_server_says_when_to_retry(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(str(tiny_checkpoint), device="cpu", limits=Limits(max_requests=1))
    busy, go = threading.Event(), threading.Event()
    run = Task.__subclasses__()[0].run

    def slow(task: Task, jobs: Any) -> Any:
        busy.set()
        assert go.wait(60)
        return run(task, jobs)

    monkeypatch.setattr(Task.__subclasses__()[0], "run", slow)
    asked = {"inputs": "a person walks", "parameters": {"num_frames": 8}}
    with fastapi_testclient.TestClient(app) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, "/text-to-motion", json=asked)
        assert busy.wait(60)
        refused = client.post("/text-to-motion", json=asked)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json() == {"error": "the server works on 1 requests, its limit; try again later"}
        assert client.get("/health").json()["requests"] == 1
        go.set()
        assert first.result().status_code == 200
        assert client.post("/text-to-motion", json=asked).status_code == 200
        assert client.get("/health").json()["requests"] == 0
        assert client.post("/motion-retrieval", json=asked).status_code == 404  # no index


def test_a_request_whose_client_is_gone_is_not_run() -> None:
    task = Slow(Limits())

    class Request:
        """A request whose client waits a moment, then closes the connection."""

        headers: dict[str, str] = {}

        async def stream(self) -> Any:
            yield b'{"inputs": "first"}'

        async def receive(self) -> dict[str, str]:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

    class Patient(Request):
        async def receive(self) -> dict[str, str]:
            await asyncio.sleep(600)
            return {"type": "http.disconnect"}

    async def main() -> Any:
        server = Server(task.limits)
        server.start()
        patient = asyncio.ensure_future(server.answer(task, Patient()))
        await task.begun()
        with pytest.raises(RefusedError, match="the client has closed the connection"):
            await server.answer(task, Request())
        assert server.active == 1
        task.go.set()
        answer = await patient
        await server.close()
        assert (server.active, server.waiting) == (0, 0)
        with pytest.raises(RefusedError, match="the server stops"):
            await server.answer(task, Request())
        return answer

    assert asyncio.run(main()) == b'["first"]'
    assert task.batches_run == [["first"]]


# ---- bad requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "body", "status", "message"),
    [
        ("text-to-motion", b"{", 400, "the body is not JSON: "),
        ("text-to-motion", b"[" * 100_000, 400, "the body is not JSON: "),
        ("text-to-motion", b"[]", 422, 'the request is a list; expected an object {"inputs": …}'),
        ("text-to-motion", {"text": "a"}, 422, "the request has no inputs"),
        ("text-to-motion", {"inputs": []}, 422, "inputs has 0 values; this server takes 1 to 4"),
        ("text-to-motion", {"inputs": ["a"] * 5}, 422, "inputs has 5 values; this server takes 1 to 4"),
        ("text-to-motion", {"inputs": ""}, 422, "text is empty; describe the motion"),
        ("text-to-motion", {"inputs": 3}, 422, "text contains 3, a int; expected strings"),
        ("text-to-motion", {"inputs": "a" * 10_001}, 422, "text has 10,001 characters"),
        ("text-to-motion", {"inputs": "a", "parameters": []}, 422, "parameters is a list; expected an object"),
        ("text-to-motion", {"inputs": "a", "parameters": {"sede": 1}}, 422, "'sede'; did you mean seed?"),
        ("text-to-motion", {"inputs": "a", "parameters": {"step_callback": 1}}, 422, "unexpected keyword argument"),
        (
            "text-to-motion",
            {"inputs": "a", "parameters": {"duration": "2"}},
            422,
            "duration='2' is not a number or a list",
        ),
        (
            "text-to-motion",
            {"inputs": "a", "parameters": {"duration": -1}},
            422,
            "duration=-1 is not a number of at least 0",
        ),
        ("text-to-motion", {"inputs": "a", "parameters": {"duration": 3.5}}, 422, "generates at most 3 s"),
        ("text-to-motion", {"inputs": "a", "parameters": {"num_frames": 61}}, 422, "generates at most 3 s"),
        (
            "text-to-motion",
            {"inputs": "a", "parameters": {"duration": [1, 2]}},
            422,
            "duration has 2 values for 1 texts",
        ),
        (
            "text-to-motion",
            {"inputs": "a", "parameters": {"seed": True}},
            422,
            "seed=True is not a whole number or a list",
        ),
        ("text-to-motion", {"inputs": "a", "parameters": {"seed": 2**63}}, 422, "seed"),
        ("text-to-motion", {"inputs": "a", "parameters": {"num_inference_steps": 101}}, 422, "is not from 1 to 100"),
        ("text-to-motion", {"inputs": "a", "parameters": {"num_motions_per_prompt": 5}}, 422, "is for 5 motions"),
        (
            "text-to-motion",
            {"inputs": "a person walks then waves then bows then runs then sits", "parameters": {"split": True}},
            422,
            "is for 5 motions; this server generates at most 4",
        ),
        ("text-to-motion", {"inputs": "a", "parameters": {"top_p": 0}}, 422, "top_p=0 is not None or a number above 0"),
        ("text-to-motion", {"inputs": "a", "parameters": {"format": "fbx"}}, 422, "choose one of json, bvh, glb, npz"),
        ("text-to-motion", {"inputs": "a", "parameters": {"format": "bvh", "rotations": True}}, 422, "rotations=True"),
        ("text-to-motion", {"inputs": "a", "parameters": {"fps": 1e9}}, 422, "fps=1000000000.0 is not from 1 to 240"),
        ("motion-captioning", {"inputs": "walk.bvh"}, 422, "a motion is a str; expected an object with content"),
        ("motion-captioning", {"inputs": {}}, 422, "a motion has no values; give content, positions or features"),
        ("motion-captioning", {"inputs": {"path": "x"}}, 422, "a motion has the unknown key 'path'"),
        ("motion-captioning", {"inputs": {"content": "!", "format": "bvh"}}, 422, "is not Base64"),
        ("motion-captioning", {"inputs": {"content": "eA==", "format": "gltf"}}, 422, "format='gltf' of a motion is"),
        ("motion-captioning", {"inputs": {"content": "eA==", "format": "bvh"}}, 422, "motion.bvh"),
        ("motion-captioning", {"inputs": {"positions": [[1], [2, 3]]}}, 422, "positions is not an array of numbers"),
        ("motion-captioning", {"inputs": {"positions": [[1.0]]}}, 422, "expected (frames, joints, 3)"),
        ("motion-captioning", {"inputs": {"positions": [[[0, 0, 0]] * 22] * 61, "fps": 20}}, 422, "lasts 3.05 s"),
        ("motion-captioning", {"inputs": {"positions": [[[0, 0, 0]] * 5] * 9}}, 422, "(9, 5, 3)"),
        (
            "motion-captioning",
            {"inputs": {"content": "eA==", "format": "bvh"}, "parameters": {"custom_generate": "x/y"}},
            422,
            "unexpected keyword argument",
        ),
        ("motion-retrieval", {"inputs": "/etc/secret.npy"}, 422, "is the name of a file; send the motion itself"),
        ("motion-retrieval", {"inputs": " "}, 422, "inputs is empty"),
        ("motion-retrieval", {"inputs": "a", "parameters": {"target": "caption"}}, 422, "needs a motion as query"),
        ("motion-retrieval", {"inputs": "a", "parameters": {"top_k": 0}}, 422, "top_k=0 is not from 1 to 1000"),
    ],
)
def test_invalid_request_is_explained(client, task: str, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(f"/{task}", content=content)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    assert message in answer.json()["error"]


def test_large_bodies_are_refused_early(client) -> None:
    large = b'"' + b"a" * 300_000 + b'"'
    for content in (large, iter([large[:100_000]] * 4)):  # with and without a Content-Length
        answer = client.post("/text-to-motion", content=content)
        assert answer.status_code == 413
        assert answer.json() == {"error": "the body has more than 300,000 bytes, the limit of this server"}


def test_other_paths_and_failures(client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/nowhere").json() == {"error": "Not Found"}
    assert client.get("/text-to-motion").status_code == 405
    monkeypatch.setattr(Motion, "to_dict", lambda *_, **__: 1 / 0)
    answer = client.post("/text-to-motion", json={"inputs": "a person walks", "parameters": {"num_frames": 8}})
    assert (answer.status_code, answer.json()) == (500, {"error": "the server failed; its log says why"})
    assert "ZeroDivisionError" in caplog.text


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="max_batch=0 is not above 0"):
        Limits(max_batch=0)


def test_model_without_a_task(tmp_path: Path) -> None:
    from lamp_hf import MotionVQVAEConfig, MotionVQVAEModel

    config = MotionVQVAEConfig(hidden_size=16, code_dim=8, num_codes=8, num_residual_layers=1)
    MotionVQVAEModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="contains a 'motion_vqvae' model, which generates neither motions nor"):
        create_app(str(tmp_path))


# ---- Inference Endpoints ----------------------------------------------------------------------------------


def test_endpoint_handler(tiny_checkpoint: Path, pipe) -> None:
    handler = EndpointHandler(str(tiny_checkpoint))
    parameters = {"seed": 4, "duration": 1.0}
    expected = pipe("a person walks", **parameters)["motion"]
    [result] = handler({"inputs": "a person walks", "parameters": parameters})
    np.testing.assert_array_equal(np.float32(result["motion"]["positions"]), expected.joints)
    [result] = handler({"inputs": "a person walks", "parameters": {**parameters, "format": "npz"}})
    archive = np.load(io.BytesIO(base64.b64decode(result["motion"]["content"])))
    np.testing.assert_array_equal(archive["features"], expected.features)
    assert (result["seed"], result["num_frames"]) == (4, 20)
    with pytest.raises(TypeError, match="did you mean seed"):
        handler({"inputs": "a person walks", "parameters": {"sede": 1}})

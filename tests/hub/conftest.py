"""Fixtures of the Hub tests: a Hub in memory, and two machines that use it."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lamp_hf

HERE = Path(__file__).resolve().parent
ROOT = Path(lamp_hf.__file__).resolve().parent.parent


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A user's machine: a Python process with lamp_hf imported, and its own cache and folder.

    Calling it runs a piece of code there and returns the variable `result`. `printed` is the output, with warnings.
    """

    def __init__(self, environment: dict[str, str], folder: Path):
        self.folder = folder
        self.printed = ""
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "hub_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
        )
        self("import lamp_hf\nfrom transformers import pipeline\nfrom lamp_hf.cli import main")

    def __call__(self, code: str) -> Any:
        answer = self._answer(code)
        assert answer["error"] is None, f"{answer['error']}\n{answer['printed']}"
        return answer["result"]

    def error(self, code: str) -> str:
        """Run a piece of code that must fail; return the type and the message of its exception."""
        answer = self._answer(code)
        assert answer["error"] is not None, answer["result"]
        return answer["error"]

    def lamp_hf(self, *arguments: str) -> int:
        """Run `lamp-hf` on this machine and return its exit code."""
        error = self.error(f"main({[str(argument) for argument in arguments]!r})")
        assert error.startswith("SystemExit: "), error
        return int(error.removeprefix("SystemExit: "))

    def _answer(self, code: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.printed = " ".join(answer["printed"].split())
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def hub() -> Iterator[Any]:
    """A Hub in memory with the users `me` and `you`, see `local_hub.py`."""
    server = _module("local_hub").LocalHub()
    yield server
    server.close()
    assert server.unknown == []


@pytest.fixture(scope="session")
def environment(hub: Any, tmp_path_factory: pytest.TempPathFactory):
    """Makes the environment of a process that uses the Hub, with or without a user's token."""

    def make(token: str | None) -> dict[str, str]:
        home = tmp_path_factory.mktemp("home")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST_"))}
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LAMP_HF_CACHE": str(home / "lamp_hf")}
        return kept | hub.environment(str(home), token) | own

    return make


@pytest.fixture(scope="session")
def publisher(environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine from which `me` publishes."""
    machine = Machine(environment("hf_me"), tmp_path_factory.mktemp("publisher"))
    yield machine
    machine.stop()


@pytest.fixture(scope="session")
def reader(environment, tmp_path_factory: pytest.TempPathFactory, walker, waver) -> Iterator[Machine]:
    """A new machine of a user who is not logged in, with a few motions in its folder."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my_mocap").mkdir()
    walker.save(folder / "walk.bvh")
    walker.save(folder / "my_mocap" / "walk.npz")
    waver.save(folder / "my_mocap" / "wave.npz")
    machine = Machine(environment(None), folder)
    yield machine
    machine.stop()

"""Fixtures of the hub tests: a Hub of our own, and two machines that use it."""

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
    """Somebody's machine: a Python process with lamp_hf imported, a cache and a folder of its own.

    Calling it runs a piece of code there and returns what that leaves in `result`; `printed` is what it printed and
    warned of.
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
        """The exception that a piece of code ends in: its type and its words."""
        answer = self._answer(code)
        assert answer["error"] is not None, answer["result"]
        return answer["error"]

    def lamp_hf(self, *arguments: str) -> int:
        """Exit code of `lamp-hf` on this machine."""
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
    """A Hub in memory, see `local_hub.py`: users `me` and `you`."""
    server = _module("local_hub").LocalHub()
    yield server
    server.close()
    assert server.unknown == []


@pytest.fixture(scope="session")
def environment(hub: Any, tmp_path_factory: pytest.TempPathFactory):
    """Environment of a process that uses the Hub, with the token of a user or without one."""

    def make(token: str | None) -> dict[str, str]:
        home = tmp_path_factory.mktemp("home")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST_"))}
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LAMP_HF_CACHE": str(home / "lamp_hf")}
        return kept | hub.environment(str(home), token) | own

    return make


@pytest.fixture(scope="session")
def publisher(environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Where `me` publishes from."""
    machine = Machine(environment("hf_me"), tmp_path_factory.mktemp("publisher"))
    yield machine
    machine.stop()


@pytest.fixture(scope="session")
def reader(environment, tmp_path_factory: pytest.TempPathFactory, walker, waver) -> Iterator[Machine]:
    """A fresh machine of somebody who is not logged in, with a few motions in its folder."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my_mocap").mkdir()
    walker.save(folder / "walk.bvh")
    walker.save(folder / "my_mocap" / "walk.npz")
    waver.save(folder / "my_mocap" / "wave.npz")
    machine = Machine(environment(None), folder)
    yield machine
    machine.stop()

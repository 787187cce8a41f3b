"""`lamp-hf serve` answers until it is stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

import lamp_hf
from lamp_hf.cli import main

ROOT = Path(lamp_hf.__file__).resolve().parent.parent


@pytest.fixture
def server(tiny_checkpoint: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'lamp_hf[serve]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "lamp_hf", "serve", "-m", tiny_checkpoint, "-p", str(port), "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.communicate()


def test_it_answers_and_stops(server) -> None:
    process, url = server
    for _ in range(600):
        try:
            with urlopen(f"{url}/health") as answer:
                assert json.load(answer)["tasks"] == ["text-to-motion", "motion-captioning"]
            break
        except URLError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
    body = json.dumps({"inputs": "a person walks", "parameters": {"num_frames": 8, "format": "bvh"}}).encode()
    with urlopen(Request(f"{url}/text-to-motion", body)) as answer:
        assert answer.read().startswith(b"HIERARCHY")
    with pytest.raises(HTTPError, match="422"):
        urlopen(Request(f"{url}/text-to-motion", b'{"inputs": ""}'))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert out == f"{url}, Ctrl-C to stop\n"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-m", "nowhere"], 1, "Error: nowhere is neither a folder"),
        (["--max-seconds", "0"], 1, "Error: max_seconds=0.0 is not above 0"),
        (["--port", "70000"], 2, "Invalid value for '--port'"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'lamp_hf[serve]'")
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_without_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamp_hf.extras.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["serve"])
    assert "server: FastAPI is not installed; run pip install 'lamp_hf[serve]'" in capsys.readouterr().err

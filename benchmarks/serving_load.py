"""Load a server with clients, and compare what it answers with the pipeline.

python benchmarks/serving_load.py [--clients 16] [--seconds 300] [--model lamp-small] [--results FILE]

Starts `lamp-hf serve` and as many clients. Each sends one request after the other: nine of ten generate a motion, with
a random sentence, seed, length, settings and format, and the tenth captions one. Prints the errors, the requests per
second, the 50th and 95th percentile of the times to answer, and the memory of the server, at the start, after a quarter
and a half of the time, and at the end. Then a sample of the answers is compared with the results of the pipelines in
this process: all must be equal. The server must also refuse requests when it is full, and stop within seconds.

Exits with 1 if a request failed, an answer differs, or the server's memory grew by more than 10% after the first
quarter.
"""

import argparse
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

SENTENCES = ("a person walks", "the person bows", "a man waves with the right hand", "someone runs in place")
COMPARED = 60
TIMEOUT_S = 600  # a busy machine may take long, and that is not an error
MOST_GROWTH = 1.1


def request_of(generator: random.Random, motion: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Draw a request: the task and the body."""
    if generator.random() < 0.1:
        return "motion-captioning", {"inputs": motion, "parameters": {"num_beams": generator.choice([1, 2])}}
    parameters = {"seed": generator.randrange(10_000), "duration": generator.choice([1.0, 2.0, 3.0])}
    if generator.random() < 0.2:
        parameters["guidance_scale"] = 2.0
    parameters["format"] = generator.choice(["json", "json", "npz", "bvh"])
    return "text-to-motion", {"inputs": generator.choice(SENTENCES), "parameters": parameters}


class Client(threading.Thread):
    """Sends requests until a moment, and notes times, errors and some answers."""

    def __init__(self, number: int, port: int, until: float, motion: dict[str, Any]):
        super().__init__()
        self.generator = random.Random(number)
        self.port, self.until, self.motion = port, until, motion
        self.times: list[float] = []
        self.errors: list[str] = []
        self.answers: list[tuple[str, dict[str, Any], bytes]] = []

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        while time.monotonic() < self.until:
            task, body = request_of(self.generator, self.motion)
            start = time.monotonic()
            try:
                connection.request("POST", f"/{task}", json.dumps(body))
                response = connection.getresponse()
                content = response.read()
            except OSError as error:
                self.errors.append(repr(error))
                connection.close()
                continue
            self.times.append(time.monotonic() - start)
            if response.status != 200:
                time.sleep(float(response.headers["Retry-After"] or 0))
                self.errors.append(f"{response.status} {content[:200]!r}")
            elif len(self.answers) < COMPARED:
                self.answers.append((task, body, content))
            elif (place := self.generator.randrange(len(self.times))) < COMPARED:  # a uniform sample of all answers
                self.answers[place] = (task, body, content)


def memory_mb(process: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def start_server(model: str, clients: int) -> tuple[subprocess.Popen, int]:
    """Start `lamp-hf serve`, and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", model, "--port", str(port), "--max-requests", str(clients), "--device", "cpu"]
    server = subprocess.Popen([sys.executable, "-m", "lamp_hf", "serve", *options], stdout=subprocess.DEVNULL)
    while True:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            connection.getresponse().read()
            return server, port
        except OSError:
            time.sleep(0.5)


def differing(answers: list[tuple[str, dict[str, Any], bytes]], model: str, motion: dict[str, Any]) -> int:
    """Count the answers that differ from the results of the pipelines."""
    import transformers

    from lamp_hf import Motion

    generate: Any = transformers.pipeline("text-to-motion", model=model, device="cpu")
    caption: Any = transformers.pipeline("motion-captioning", model=model, device="cpu")
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"motion.{motion['format']}")
        path.write_bytes(base64.b64decode(motion["content"]))
        for task, body, content in answers:
            parameters = dict(body["parameters"])
            if task == "motion-captioning":
                count += json.loads(content) != [caption(path, **parameters)]
                continue
            kind = parameters.pop("format")
            expected = generate(body["inputs"], **parameters)["motion"]
            if kind == "json":
                [result] = json.loads(content)
                count += not np.array_equal(np.float32(result["motion"]["positions"]), expected.joints)
                continue
            served, wanted = Path(folder, f"served.{kind}"), Path(folder, f"wanted.{kind}")
            served.write_bytes(content)
            expected.save(wanted)
            count += not np.array_equal(Motion.load(served).joints, Motion.load(wanted).joints)
    return count


def refusals(port: int, requests: int) -> int:
    """Return how many of many requests at the same time are refused with status 503 and a Retry-After."""
    body = json.dumps({"inputs": "a person walks", "parameters": {"duration": 3.0}})
    refused = []

    def ask() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        connection.request("POST", "/text-to-motion", body)
        response = connection.getresponse()
        response.read()
        refused.append(response.status == 503 and response.headers["Retry-After"] is not None)

    threads = [threading.Thread(target=ask) for _ in range(requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(refused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--model", default="lamp-small")
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()

    server, port = start_server(arguments.model, arguments.clients)
    try:
        connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        body = {"inputs": "a person walks", "parameters": {"duration": 3.0, "seed": 1, "format": "bvh"}}
        connection.request("POST", "/text-to-motion", json.dumps(body))
        motion = {"format": "bvh", "content": base64.b64encode(connection.getresponse().read()).decode()}
        start = time.monotonic()
        until = start + arguments.seconds
        clients = [Client(number, port, until, motion) for number in range(arguments.clients)]
        for client in clients:
            client.start()
        memory = []
        while any(client.is_alive() for client in clients):
            memory.append(memory_mb(server.pid))
            time.sleep(min(1.0, arguments.seconds / 20))
        seconds = time.monotonic() - start
        refused = refusals(port, 4 * arguments.clients)
        server.send_signal(signal.SIGTERM)
        stopping = time.monotonic()
        server.wait(60)
        stopping = time.monotonic() - stopping
    finally:
        server.kill()

    times = [each for client in clients for each in client.times]
    errors = [error for client in clients for error in client.errors]
    answers = [answer for client in clients for answer in client.answers]
    compared = random.Random(0).sample(answers, min(COMPARED, len(answers)))
    results = {
        "clients": arguments.clients,
        "seconds": round(seconds, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load_of_the_machine": round(os.getloadavg()[0], 1),
        "requests": len(times),
        "errors": len(errors),
        "requests_per_second": round(len(times) / seconds, 2),
        "p50_s": round(float(np.percentile(times, 50)), 3),
        "p95_s": round(float(np.percentile(times, 95)), 3),
        "memory_mb": [round(memory[place]) for place in (0, len(memory) // 4, len(memory) // 2, -1)],
        "compared": len(compared),
        "differing": differing(compared, arguments.model, motion),
        "refused_of_four_times_the_limit": refused,
        "seconds_to_stop": round(stopping, 1),
    }
    for name, value in results.items():
        print(f"{name:<32}  {value}")
    for error in errors[:5]:
        print(error)
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(results, indent=2) + "\n")
    quarter = float(np.median(memory[len(memory) // 4 :][:5]))
    grew = float(np.median(memory[-5:])) > MOST_GROWTH * quarter
    raise SystemExit(bool(errors or results["differing"] or grew or not refused or server.returncode not in (0, -15)))


if __name__ == "__main__":
    main()

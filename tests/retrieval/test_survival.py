"""Indexes under real conditions: several processes, kills at any moment, a full disk, Ctrl-C."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamp_hf.cli import main
from lamp_hf.locks import folder_lock
from lamp_hf.motion.motion import Motion
from lamp_hf.retrieval import FolderSource, MotionIndex, MotionTextEncoder, build_index

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
NUM_FILES = 48
KILLS = 8
PROCESSES, OPENS = 4, 12


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    """A folder of motion files that all differ."""
    folder = tmp_path_factory.mktemp("takes")
    for number in range(NUM_FILES):
        procedural.walker(60 + number, turn=0.02 * number).save(folder / f"walk{number:02d}.bvh")
    return folder


@pytest.fixture
def start(tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start index_process.py in a separate process group."""
    started: list[subprocess.Popen] = []
    environment = os.environ | {
        "PYTHONPATH": str(HERE.parent.parent),
        "LAMP_HF_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }

    def run(*arguments: object) -> subprocess.Popen:
        command = [sys.executable, HERE / "index_process.py", tiny_checkpoint, *arguments]
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen, line: str) -> list[str]:
    """Return lines up to and including one that starts with a text."""
    assert process.stdout is not None
    lines = []
    for text in process.stdout:
        lines.append(text.strip())
        if text.startswith(line):
            return lines
    raise AssertionError(f"ended before {line!r}: {process.communicate()[1]}")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def usable(path: Path, encoder: MotionTextEncoder) -> int:
    """Open an index as users do, and return how many motions are found."""
    if not (path / "index.json").is_file():
        return 0
    index = MotionIndex.open(path)
    [found] = index.find_motions(encoder.encode_texts(["a person walks"]), top_k=99)
    assert len(found) == len(index)
    return len(index)


def test_many_processes_open_one_current_index(start, takes: Path, tmp_path: Path, encoder, monkeypatch) -> None:
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    processes = [start("open", takes, OPENS) for _ in range(PROCESSES)]  # no index yet: all processes build it
    for process in processes:
        wait_for(process, "ready")
    answers = []
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        answers += [line for line in out.splitlines() if line.startswith("opened")]
    assert answers == [f"opened {NUM_FILES} 3"] * (PROCESSES * OPENS)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_process_leaves_no_workers_and_no_lock(start, takes: Path, tmp_path: Path, encoder, how: int) -> None:
    process = start("index", takes, tmp_path / "made")
    workers = [int(line.split()[1]) for line in (wait_for(process, "worker")[-1], wait_for(process, "worker")[-1])]
    process.send_signal(how)
    process.wait(timeout=20)
    ended = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    with folder_lock(tmp_path / "made", busy="still locked", wait=False):
        pass


def test_index_survives_kills(start, takes: Path, tmp_path: Path, encoder, monkeypatch, procedural) -> None:
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "growing"
    shutil.copytree(takes, folder)
    path = tmp_path / "made"
    rng = random.Random(0)
    counts = [0]
    for number in range(KILLS):
        process = start("index", folder, path)
        wait_for(process, "ready")
        time.sleep(rng.uniform(0, 1.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        counts.append(usable(path, encoder))
        if counts[-1] >= NUM_FILES + number:  # the index is complete, so add a new file
            procedural.waver(40 + number).save(folder / f"wave{number}.bvh")
    assert counts == sorted(counts)  # nothing is lost
    index = build_index(path, FolderSource(folder, num_proc=1), encoder, progress=False)
    expected = build_index(tmp_path / "anew", FolderSource(folder, num_proc=1), encoder, progress=False)
    assert len(index) == len(expected) == len(list(folder.iterdir()))
    text = encoder.encode_texts(["a person walks"])
    [found], [wanted] = index.find_motions(text, top_k=99), expected.find_motions(text, top_k=99)
    scores = [
        {hit["id"]: hit["score"] for hit in made.motion_hits(hits)}
        for made, hits in ((index, found), (expected, wanted))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert not [file for file in path.rglob(".*") if file.name != ".lock"]


def test_conversion_survives_kills(start, takes: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(3):
        process = start("command", "convert-motion", takes, tmp_path / "out", "--to", "npz")
        wait_for(process, "ready")
        time.sleep(rng.uniform(0.05, 0.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for file in (tmp_path / "out").glob("[!.]*.npz"):
            assert Motion.load(file).num_frames >= 60  # complete or absent


@pytest.mark.parametrize("command", ["index", "search", "convert-motion"])
def test_ctrl_c_prints_one_line(start, takes: Path, tmp_path: Path, tiny_checkpoint: Path, command: str) -> None:
    arguments = {
        "index": ["index", takes, "-o", tmp_path / "made", "-m", tiny_checkpoint, "--num-proc", 2],
        "search": ["search", "walks", takes, "-m", tiny_checkpoint, "--num-proc", 2],
        "convert-motion": ["convert-motion", takes, tmp_path / "out", "--to", "gif"],
    }[command]
    process = start("command", *arguments)
    wait_for(process, "ready")
    if command == "convert-motion":
        while not list(tmp_path.glob("out/[!.]*")):
            time.sleep(0.05)
    else:
        wait_for(process, "worker")
    os.killpg(process.pid, signal.SIGINT)  # to all processes of the command, like a terminal
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "Error: interrupted"
    assert "Traceback" not in err
    assert not [file for file in tmp_path.rglob(".*.*") if file.suffix in (".gif", ".arrow", ".json")]


# ---- a full disk ------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)  # lazily, because an index is read through memory maps


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command and returns exit code, output and errors."""
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return command


def fill(disk: Path, leaving: int) -> None:
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(max(free - leaving, 0)))


@pytest.mark.parametrize("leaving", [0, 8_192, 60_000, 200_000])
def test_full_disk_prints_one_line_and_keeps_the_index(
    run, small_disk: Path, takes: Path, tmp_path: Path, tiny_checkpoint: Path, encoder, leaving: int, procedural
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        procedural.waver(40 + number).save(few / f"wave{number}.bvh")
    model = ("-m", tiny_checkpoint, "--num-proc", 1)
    made = small_disk / "made"
    assert run("index", few, "-o", made, *model)[0] == 0
    fill(small_disk, leaving)
    code, _, err = run("index", takes, "-o", made, *model)
    if code:
        last = err.splitlines()[-1]
        assert last.startswith(f"Error: {made}")
        assert "No space left on device" in last
        assert "Traceback" not in err
    assert usable(made, encoder) in (3, 3 + NUM_FILES)
    assert not [file for file in made.rglob(".*") if file.name != ".lock"]
    (small_disk / "filler").unlink()
    code, out, err = run("index", takes, "-o", made, *model)
    assert (code, out.split(", ")[0]) == (0, f"{made}: {3 + NUM_FILES} motions"), err


@pytest.mark.parametrize("num_proc", [1, 2])
def test_full_disk_of_the_cache(
    run, small_disk: Path, takes: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, num_proc: int
) -> None:
    monkeypatch.setenv("LAMP_HF_CACHE", str(small_disk))
    fill(small_disk, 100_000)
    code, _, err = run("index", takes, "-o", takes.parent / "made", "-m", tiny_checkpoint, "--num-proc", num_proc)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"Error: {small_disk}")
    assert err.splitlines()[-1].endswith("No space left on device")
    assert not list(small_disk.rglob(".*.npy"))


def test_full_disk_stops_a_conversion_at_once(run, small_disk: Path, takes: Path) -> None:
    fill(small_disk, 100_000)
    code, _, err = run("convert-motion", takes, small_disk / "out", "--to", "npy")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"Error: {small_disk}/out/walk")
    assert err.splitlines()[-1].endswith("No space left on device")
    assert len([line for line in err.splitlines() if "No space" in line]) == 1
    for file in (small_disk / "out").iterdir():
        assert Motion.load(file).num_frames >= 60

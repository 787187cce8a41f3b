"""Tools for captioning the CMU database: cuts, sheets, curves, and the checker."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lamp_hf.data.cmu.claims import claims, doubts
from lamp_hf.data.cmu.measures import Measures
from lamp_hf.data.cmu.segments import Segment
from lamp_hf.motion.formats.bvh import write_bvh
from lamp_hf.motion.motion import Motion

FOLDER = Path(__file__).parents[2] / "benchmarks" / "cmu_captions"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of the folder as a module, together with its siblings, as when it is run."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def get(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"cmu_captions_{name}", FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return get


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tool: Callable[[str], ModuleType]) -> Callable[..., None]:
    def call(name: str, *arguments: Any) -> None:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        tool(name).main()

    return call


@pytest.fixture
def two_activities(procedural: Any) -> Motion:
    """Six seconds of walking, then six of standing and waving, without a break."""
    walk, wave = procedural.walker(120).joints, procedural.waver(120).joints
    wave = wave + (walk[-1, 0] - wave[0, 0]) * np.float32([1.0, 0.0, 1.0])
    return Motion(joints=np.concatenate([walk, wave]), fps=20.0)


@pytest.fixture
def takes(tmp_path: Path, two_activities: Motion, procedural: Any) -> Path:
    folder = tmp_path / "bvh" / "01"
    folder.mkdir(parents=True)
    write_bvh(two_activities, folder / "01_01.bvh")
    write_bvh(procedural.walker(70, turn=0.5), folder / "01_02.bvh")
    return tmp_path / "bvh"


def test_cuts_lie_between_activities_and_cover_all_valid_motion(tool, two_activities):
    propose = tool("propose").propose
    measures = Measures(two_activities.joints)
    sound = np.ones(239, dtype=bool)
    cuts = propose(measures, sound)
    assert any(abs(start - 6.0) <= 0.6 for start, _ in cuts[1:])
    assert (cuts[0][0], cuts[-1][1]) == (0.0, 11.95)
    sound[60:70] = False
    cuts = propose(measures, sound)
    for start, end in cuts:
        assert 2.0 <= end - start <= 9.8
        assert end <= 3.0 or start >= 3.5
    assert sum(end - start for start, end in cuts) == pytest.approx(sound.sum() / 20)


@pytest.mark.parametrize("num_frames", [19, 25, 39, 41, 79, 195, 197, 233, 400, 1201])
def test_steady_motion_is_cut_into_allowed_lengths(tool, procedural, num_frames):
    measures = Measures(procedural.walker(num_frames + 1).joints)
    cuts = tool("propose").propose(measures, np.ones(num_frames, dtype=bool))
    assert cuts[0][0] == 0.0
    assert cuts[-1][1] == pytest.approx(num_frames / 20)
    assert [end for _, end in cuts[:-1]] == [start for start, _ in cuts[1:]]
    shortest = min(2.0, num_frames / 20)
    assert all(shortest - 1e-6 <= end - start <= 9.8 + 1e-6 for start, end in cuts)


def test_sheets_show_every_second_on_pages(run, takes, tmp_path):
    run("sheets", takes, "--output", tmp_path / "sheets")
    folder = tmp_path / "sheets" / "01"
    long, short, page = (Image.open(folder / f"{name}.png") for name in ("01_01", "01_02", "page-01"))
    assert long.size == (1180, 2 * 140 + 16)  # twelve pictures, one per second, and the path
    assert short.size == (8 * 118, 140 + 16)  # seven half seconds and the path
    assert page.size == (1180, long.height + short.height + 8)
    cells = np.asarray(long.convert("RGB"))[16:156].reshape(140, 10, 118, 3)
    blue, orange = (
        (np.abs(cells.astype(int) - color).sum(-1) < 60).any(axis=(0, 2)) for color in ((38, 105, 196), (226, 114, 31))
    )
    assert blue.all()
    assert orange.all()
    text = (folder / "01_02.txt").read_text()
    assert "database: playground - climb" in text
    rows = [line.split() for line in text.splitlines() if line[:4].strip().replace(".", "").isdigit()]
    assert [float(row[0]) for row in rows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert np.mean([float(row[3]) for row in rows[1:-1]]) == pytest.approx(np.degrees(0.5), abs=4)
    assert (folder / "page-01.txt").read_text().count("proposed: ") == 2
    assert "+ left" in (tmp_path / "sheets" / "LEGEND.txt").read_text()


def test_checker_finds_errors_and_doubtful_captions(run, takes, tmp_path, capsys):
    captions = tmp_path / "captions.jsonl"
    good = ["walking", "a person walks forward", "a man walks straight ahead at an easy pace", "someone on their way"]
    lines = [
        {"take": "01_01", "start": 0, "end": 6, "captions": good},
        {"take": "01_01", "start": 6, "end": 11.9, "captions": [*good[:3], "waves the left hand"]},
    ]
    captions.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(SystemExit) as ended:
        run("check", takes, captions)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert 'doubt 01_01@6-11.9s: "waves the left hand"' in printed
    assert "doubt 01_01@0-6s" not in printed
    assert "1 takes, 2 segments, 0.003 hours" in printed
    lines[0]["end"], lines[1]["captions"] = 6.5, ["subject waves"]
    captions.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {**lines[0], "take": "77_77"}]))
    with pytest.raises(SystemExit) as ended:
        run("check", takes, captions)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    for problem in ("overlaps 01_01@0-6.5s", "1 captions; expected at least 4", '"subject" in', "77_77: no such take"):
        assert problem in printed


def test_invalid_caption_forms_are_refused(tool):
    form_problems = tool("check").form_problems
    sound = np.ones(300, dtype=bool)
    sound[200:204] = False
    captions = ("a", "b", "c", "d")

    def problems(start: float, end: float, captions: tuple[str, ...] = captions) -> list[str]:
        return form_problems([Segment("01_01", start, end, captions)], sound)

    assert problems(0, 9.8) == []
    assert "9.90 s; expected 2 to 9.8" in problems(0, 9.9)[0]
    assert "1.00 s; expected 2 to 9.8" in problems(0, 1)[0]
    assert "4 of its 80 frames are broken" in problems(8, 12)[0]
    assert "the take at 15.00 s" in problems(12, 16)[0]
    assert "says the same twice" in problems(0, 4, ("Walks.", "walks", "c", "d"))[0]
    assert "letters that are not English" in problems(0, 4, ("déjà vu", "b", "c", "d"))[0]


def test_claims_have_a_kind_and_are_checked_against_the_motion(walker: Motion) -> None:
    text = "a person turns left, takes five steps, raises the right hand and walks forward"
    found = {claim.kind: claim for claim in claims([text], Measures(walker.joints))}
    assert set(found) == {"turn", "count", "side", "other"}
    assert found["turn"].words == "turns left"
    assert "to the left" in found["turn"].contradiction  # it walks straight ahead
    assert not found["other"].contradiction
    doubted = {doubt.claim for doubt in doubts([text], Measures(walker.joints))}
    assert doubted >= {claim.words for claim in found.values() if claim.contradiction}

"""The studio without a page: sessions, and what it does with motions, texts and files."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lamp_hf.motion.motion import Motion
from lamp_hf.pipelines.text_warnings import TextToMotionWarning
from lamp_hf.serving import Limits
from lamp_hf.studio import StudioModels, actions, files, load_models, views
from lamp_hf.studio.sessions import CanceledError, Clip, Job, Session, Sessions

LIMITS = Limits(max_bytes=300_000, max_seconds=4.0)
KNOWN = ["a person walks", "the person waves", "a person bows"]


@pytest.fixture(scope="module")
def models(tiny_checkpoint: Path) -> StudioModels:
    models = load_models(str(tiny_checkpoint), device="cpu", limits=LIMITS)
    models.writer.processor.example_texts = KNOWN
    return models


# ---- sessions ---------------------------------------------------------------------------------------------


def test_sessions_share_nothing_and_end(tmp_path: Path, walker: Motion) -> None:
    sessions = Sessions(max_sessions=2, max_idle_s=60.0)
    one, two = sessions.of("one"), sessions.of("two")
    assert sessions.of("one") is one is not two
    one.keep(Clip(walker))
    with pytest.raises(ValueError, match="no motion yet"):
        _ = two.clip
    path = tmp_path / "figure.glb"
    path.write_bytes(b"figure")
    one.files.append(path)
    sessions.close("one")
    assert one.job.canceled
    assert not path.exists()
    assert sessions.of("one") is not one
    for key in ("", None):
        with pytest.raises(ValueError, match="no page"):
            sessions.of(key)


def test_old_and_too_many_sessions_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("lamp_hf.studio.sessions.time.monotonic", lambda: clock.now)
    sessions = Sessions(max_sessions=2, max_idle_s=10.0)
    one, two = sessions.of("one"), sessions.of("two")
    clock.now = 6.0
    sessions.of("one")
    sessions.of("three")
    assert (one.job.canceled, two.job.canceled) == (False, True)  # the one that was not used for the longest time
    clock.now = 17.0
    sessions.close_expired()
    assert len(sessions) == 0
    assert one.job.canceled


def test_undo_and_jobs(walker: Motion, waver: Motion) -> None:
    session = Session()
    session.keep(Clip(walker))
    assert not session.can_undo
    session.keep(Clip(waver))
    assert session.undo().motion == walker == session.undo().motion
    job = session.start()
    assert session.start() is job
    job.cancel()
    with pytest.raises(CanceledError):
        job.check()
    session.start().check()


# ---- generation -------------------------------------------------------------------------------------------


def test_takes_are_those_of_the_pipeline(models: StudioModels, recwarn: pytest.WarningsRecorder) -> None:
    steps: list[tuple[int, int]] = []
    settings = actions.Settings(seed=3, guidance=2.0, avoid="the person bows")
    results = actions.generate_takes(
        models, " a person walks ", seconds=1.0, settings=settings, progress=lambda *step: steps.append(step)
    )
    assert [result["seed"] for result in results] == [3, 4, 5, 6]
    expected = models.writer(
        "a person walks",
        duration=1.0,
        seed=3,
        num_motions_per_prompt=actions.TAKES,
        guidance_scale=2.0,
        negative_prompt="the person bows",
    )
    assert [result["motion"] for result in results] == [result["motion"] for result in expected]
    assert steps[-1][0] == steps[-1][1]
    actions.generate_takes(models, "quartz flux then jolts", seconds=1.0)
    assert not [warning for warning in recwarn if issubclass(warning.category, TextToMotionWarning)][1:]


def test_a_job_can_be_canceled(models: StudioModels) -> None:
    job = Job()
    with pytest.raises(CanceledError):
        actions.generate_takes(models, "a person walks", seconds=1.0, job=job, progress=lambda *_: job.cancel())
    with pytest.raises(CanceledError):
        actions.generate_takes(models, "a person walks", seconds=1.0, job=job)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": " "}, "text is empty"),
        ({"text": "a person walks", "seconds": 5.0}, "up to 4 s"),
        ({"text": "a person walks", "seconds": float("nan")}, "up to 4 s"),
        ({"text": "a person walks", "settings": actions.Settings(seed=-1)}, "seed"),
    ],
)
def test_invalid_values_are_refused(models: StudioModels, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        actions.generate_takes(models, **arguments)


def test_edit_continue_and_storyboard(models: StudioModels) -> None:
    settings = actions.Settings(seed=1)
    board = actions.generate_storyboard(
        models, [("a person walks", 1.0), (" ", None), ("the person bows", 1.0)], settings=settings
    )
    assert [scene[0] for scene in board.scenes] == ["a person walks", "the person bows"]
    assert board.motion.duration == 2.0

    edited = actions.edit_span(models, board, "the person waves", 0.4, 1.2, settings=settings)
    changed = (edited.motion.features != board.motion.features).any(axis=1)
    assert changed[8:24].any()
    assert not changed[:8].any()
    assert not changed[24:].any()
    assert (edited.motion.text, edited.scenes) == (board.motion.text, board.scenes)

    longer = actions.extend(models, board, "the person waves", 1.0, settings=settings)
    np.testing.assert_array_equal(longer.motion.features[:40], board.motion.features)
    assert longer.motion.duration == 3.0
    assert longer.scenes[-1] == ("the person waves", 2.0, 3.0)
    assert np.ptp(longer.motion.features[40:], axis=0).max() > 0  # not the last frame held

    for call, message in (
        (lambda: actions.edit_span(models, board, "the person waves", 1.2, 0.4), "empty"),
        (lambda: actions.extend(models, board, "the person waves", 3.0), "up to 4 s"),
        (lambda: actions.extend(models, board, "the person waves", 0.0), "no length"),
        (lambda: actions.generate_storyboard(models, [("", None)]), "empty"),
        (lambda: actions.generate_storyboard(models, [("a person walks", 3.0)] * 2), "the storyboard of 6 s"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_recording_can_be_continued(models: StudioModels, walker: Motion) -> None:
    recording = models.captioner.read_motion(walker)
    longer = actions.extend(models, Clip(recording), "the person bows", 0.6, settings=actions.Settings(seed=1))
    assert longer.motion.num_frames == recording.num_frames + 12
    assert [scene[0] for scene in longer.scenes] == [walker.text or "start", "the person bows"]


# ---- what the model knows ---------------------------------------------------------------------------------


def test_advice(models: StudioModels) -> None:
    assert not actions.advise(models, "a person walks")
    sequence = actions.advise(models, "a person walks then bows")
    assert sequence.actions == ["a person walks", "a person bows"]
    long = actions.advise(models, "a person walks " * 10)
    assert long.ignored
    html = views.advice(actions.Advice("<b>fly</b>", unknown=True, nearest=KNOWN))
    assert "&lt;b&gt;fly&lt;/b&gt;" in html


def test_captions_and_search(models: StudioModels, walker: Motion) -> None:
    answers = actions.caption(models, walker)
    assert answers[0]["caption"] == models.captioner(walker, num_beams=actions.BEAMS)[0]["caption"]
    motions, sentences = actions.search(models, walker, count=2)
    assert motions == []
    assert len(sentences) == 2
    assert sentences[0].score >= sentences[1].score
    assert {hit.text for hit in sentences} <= set(KNOWN)
    with pytest.raises(ValueError, match="--index"):
        actions.search(models, "a person walks")


# ---- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", list(files.FORMATS))
def test_downloads(suffix: str, walker: Motion, tmp_path: Path) -> None:
    short = walker.crop(0.0, 0.5).with_text("A person walks: slowly!")
    path = tmp_path / files.file_name(short, suffix)
    assert path.name == f"a-person-walks-slowly.{suffix}"
    path.write_bytes(files.write_motion(short, suffix, mirror=True))
    if suffix == "mp4":
        assert path.read_bytes()[4:8] == b"ftyp"
        return
    loaded = Motion.load(path)
    # Files on a body of their own have its proportions, a VRM animation those of the rig.
    tolerance = {"npz": 1e-5, "vrma": 0.2}.get(suffix, 0.1)
    height = np.ptp(loaded.joints[0, :, 1])
    assert loaded.num_frames == short.num_frames
    assert height == pytest.approx(np.ptp(short.joints[0, :, 1]), abs=tolerance)


def test_uploads_are_bounded_and_deleted(walker: Motion, tmp_path: Path) -> None:
    good = tmp_path / "walk.bvh"
    walker.save(good)
    assert files.read_upload(good, LIMITS).num_frames == walker.num_frames
    large, long, other = tmp_path / "large.bvh", tmp_path / "long.npz", tmp_path / "walk.txt"
    large.write_bytes(b" " * (LIMITS.max_bytes + 1))
    Motion(joints=np.repeat(walker.joints, 2, axis=0), fps=20).save(long)
    other.write_text("walk")
    for path, message in ((large, "bytes"), (long, "reads at most 4 s"), (other, "not a motion file")):
        with pytest.raises(ValueError, match=message):
            files.read_upload(path, LIMITS)
    with pytest.raises(FileNotFoundError):
        files.read_upload(good, LIMITS)
    assert not list(tmp_path.iterdir())


def test_characters(walker: Motion, tmp_path: Path) -> None:
    motion = walker.crop(0.0, 0.5)
    rig = files.Character.of_rig("mixamo")
    path = files.write_figure(motion, rig, tmp_path)
    assert path is not None
    again = files.read_character(path, Limits())
    assert not path.exists()
    assert sorted(again.joint_names) == sorted(rig.joint_names)  # files order them by the hierarchy
    content = files.write_motion(motion, "bvh", character=again)
    assert b"mixamorig" in content
    skeleton = tmp_path / "skeleton.bvh"
    skeleton.write_bytes(content)
    assert files.write_figure(motion, files.read_character(skeleton, Limits()), tmp_path) is None

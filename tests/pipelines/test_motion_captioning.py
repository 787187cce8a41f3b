"""The captioning pipeline: inputs, windows, batches, results, errors."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, pipeline

import lamp_hf
from lamp_hf.motion.formats.bvh import read_bvh_with_report
from lamp_hf.motion.motion import Motion
from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path) -> MotionCaptioningPipeline:
    return pipeline("motion-captioning", model=str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def own_pipe(tiny_captioner: Path) -> MotionCaptioningPipeline:
    return pipeline("motion-captioning", model=str(tiny_captioner), device="cpu")


@pytest.fixture(scope="module", params=["built-in", "language model"])
def any_pipe(request: pytest.FixtureRequest, pipe, own_pipe) -> MotionCaptioningPipeline:
    return pipe if request.param == "built-in" else own_pipe


@pytest.fixture(scope="module")
def embedded() -> MotionCaptioningPipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return pipeline("motion-captioning", device="cpu")


# ---- which model ------------------------------------------------------------------------------------------


def test_checkpoint_selects_the_captioner(pipe, own_pipe, embedded, tiny_checkpoint: Path, tmp_path: Path):
    assert type(pipe.model) is type(embedded.model) is lamp_hf.LampDecoderForMotionCaptioning
    assert Path(embedded.model.name_or_path) == lamp_hf.embedded_checkpoint()
    assert type(own_pipe.model) is lamp_hf.LampWithLanguageModelForMotionCaptioning
    lamp_hf.LampModel.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path)
    pipe.processor.save_pretrained(tmp_path)
    assert type(pipeline("motion-captioning", model=str(tmp_path)).model) is lamp_hf.LampDecoderForMotionCaptioning
    with pytest.raises(
        TypeError,
        match="needs a LampDecoderForMotionCaptioning or a LampWithLanguageModelForMotionCaptioning, got a LampModel",
    ):
        MotionCaptioningPipeline(model=lamp_hf.LampModel.from_pretrained(tiny_checkpoint), processor=pipe.processor)
    with pytest.raises(ValueError, match=r"needs a processor; give processor=LampProcessor.from_pretrained"):
        MotionCaptioningPipeline(model=pipe.model, tokenizer=AutoTokenizer.from_pretrained(tiny_checkpoint))


def test_save_and_load_gives_the_same_captions(any_pipe, walker: Motion, tmp_path: Path):
    any_pipe.save_pretrained(tmp_path)
    assert "custom_pipelines" not in (tmp_path / "config.json").read_text()
    assert pipeline("motion-captioning", model=str(tmp_path), device="cpu")(walker) == any_pipe(walker)


# ---- what it takes and answers ----------------------------------------------------------------------------


def test_accepts_a_motion_in_every_form(any_pipe, walker: Motion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    [expected] = any_pipe(walker)
    assert isinstance(expected["caption"], str)
    assert expected["caption"] == expected["caption"].strip()
    assert 0 < expected["score"] <= 1
    assert expected.keys() == {"caption", "score"}
    for suffix in (".bvh", ".npy", ".npz"):
        walker.save(f"walk{suffix}")
    forms = ["walk.npy", Path("walk.npz"), walker.joints, walker.features, torch.from_numpy(walker.features.copy())]
    for form in forms:
        [answer] = any_pipe(form)
        assert answer["caption"] == expected["caption"]
        assert answer["score"] == pytest.approx(expected["score"], rel=1e-3)
    assert any_pipe("walk.bvh")[0]["score"] == pytest.approx(expected["score"], rel=0.1)
    assert any_pipe([walker]) == [[expected]]
    assert any_pipe((walker,)) == [[expected]]


def test_list_keeps_its_order_with_any_batch_size(any_pipe, procedural):
    motions = [procedural.walker(frames, turn=0.1 * frames) for frames in (60, 24, 90, 33, 12)]
    alone = [any_pipe(motion) for motion in motions]
    for batch_size in (1, 2, None):
        together = any_pipe(motions, batch_size=batch_size)
        for [expected], [answer] in zip(alone, together, strict=True):
            assert answer["caption"] == expected["caption"]
            assert answer["score"] == pytest.approx(expected["score"], rel=1e-4)


def test_other_frame_rates_are_resampled(any_pipe, procedural):
    [slow], [fast] = any_pipe([procedural.walker(61), procedural.walker(181, fps=60.0)])
    assert fast["score"] == pytest.approx(slow["score"], rel=0.05)


def test_several_captions_are_sorted_by_score(any_pipe, walker: Motion, waver: Motion):
    answers = any_pipe([walker, waver], num_beams=4, num_return_sequences=3)
    for captions in answers:
        scores = [answer["score"] for answer in captions]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert len({answer["caption"] for answer in captions}) > 1


def test_pipeline_settings_apply_to_every_call(tiny_checkpoint: Path, walker: Motion):
    pipe = pipeline("motion-captioning", model=str(tiny_checkpoint), num_beams=2, num_return_sequences=2, window_s=1.5)
    assert [(a["start"], a["end"]) for a in pipe(walker)] == [(0.0, 1.5)] * 2 + [(1.5, 2.95)] * 2
    assert len(pipe(walker, num_return_sequences=1, window_s=10.0)) == 1
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'num_beam'; did you mean num_beams"):
        pipeline("motion-captioning", model=str(tiny_checkpoint), num_beam=2)


def test_streams_are_processed_lazily(pipe, walker: Motion, waver: Motion):
    from datasets import Dataset
    from transformers.pipelines.pt_utils import KeyDataset

    read: list[int] = []

    def motions():
        for number in range(10**9):  # only part of it is consumed
            read.append(number)
            yield (walker, waver)[number % 2]

    expected = pipe([walker, waver])
    answers = pipe(motions())
    assert read == []
    assert [next(answers), next(answers)] == expected
    assert read == [0, 1]
    dataset = Dataset.from_dict({"motion": [walker.features, waver.features]}).with_format("numpy")
    answers = list(pipe(KeyDataset(dataset, "motion"), window_s=10.0))
    assert [answer["caption"] for [answer] in answers] == [answer["caption"] for [answer] in expected]
    with pytest.raises(TypeError, match="cannot caption a int; give a Motion, a path or an array"):
        next(pipe(iter([3])))


def answers_in_threads(pipe: MotionCaptioningPipeline, count: int, motions: list[Motion]) -> None:
    """Check that eight threads, each with all requests in a different order, get the same results as one."""
    settings = [{}, {"num_beams": 2}, {"max_new_tokens": 4}, {"num_beams": 3, "num_return_sequences": 2}]
    requests = [(motions[number % len(motions)], settings[number % len(settings)]) for number in range(count)]
    expected = [pipe(motion, **options) for motion, options in requests]

    def work(seed: int) -> None:
        for index in np.random.default_rng(seed).permutation(count):
            motion, options = requests[index]
            assert pipe(motion, **options) == expected[index]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_threads_can_share_a_pipeline(pipe, procedural):
    answers_in_threads(pipe, 12, [procedural.walker(frames) for frames in (12, 33, 60)])


@pytest.mark.slow
def test_eight_threads_with_a_thousand_requests_each(pipe, procedural):
    answers_in_threads(pipe, 1000, [procedural.walker(frames) for frames in (12, 33, 60, 45, 27)])


# ---- windows ----------------------------------------------------------------------------------------------


def test_long_motions_are_captioned_in_windows_with_times(any_pipe, procedural):
    long = procedural.walker(451, turn=0.3)  # 450 frames of features
    answers = any_pipe(long)
    assert [(a["start"], a["end"]) for a in answers] == [(0.0, 7.5), (7.5, 15.0), (15.0, 22.5)]
    for answer in answers:
        first, last = round(answer["start"] * 20), round(answer["end"] * 20)
        [expected] = any_pipe(long.features[first:last])
        assert answer["caption"] == expected["caption"]
        assert answer["score"] == pytest.approx(expected["score"], rel=1e-4)
    assert any_pipe(long.features[:196])[0].keys() == {"caption", "score"}
    assert len(any_pipe(long.features[:197])) == 2


def test_a_prompt_begins_every_caption(any_pipe, walker: Motion, waver: Motion):
    options = {"num_beams": 2, "num_return_sequences": 2}
    for answers in any_pipe([walker, waver], prompt=" the person", **options):
        assert len(answers) == 2
        for answer in answers:
            assert answer["caption"].startswith("the person")
            assert 0 < answer["score"] <= 1
    plain = [answer["caption"] for answer in any_pipe(walker, **options)]
    assert plain == [answer["caption"] for answer in any_pipe(walker, prompt=None, **options)]
    for prompt, error in (("", ValueError), ("the " * 40, ValueError), (3, TypeError)):
        with pytest.raises(error, match="prompt="):
            any_pipe(walker, prompt=prompt)


def test_windows_on_request(any_pipe, walker: Motion):
    answers = any_pipe([walker, walker.features[:20]], window_s=1.0, num_beams=2, num_return_sequences=2)
    spans = [[(a["start"], a["end"]) for a in captions] for captions in answers]
    assert spans[0] == [(0.0, 1.0)] * 2 + [(1.0, 1.95)] * 2 + [(1.95, 2.95)] * 2
    assert spans[1] == [(0.0, 1.0)] * 2


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ([], {}, ValueError, "no motion was given"),
        (3.0, {}, TypeError, "cannot caption a float; give a Motion, a path, an array, or a list"),
        ([None], {}, TypeError, "cannot caption a NoneType; give a Motion, a path or an array"),
        ("nowhere.bvh", {}, FileNotFoundError, "nowhere.bvh"),
        (np.zeros((9, 7)), {}, lamp_hf.MotionFormatError, r"\(9, 7\)"),
        (
            np.zeros((40, 263), np.float32),
            {"batch_size": -1},
            ValueError,
            "batch_size=-1 is not a whole number of at least 1",
        ),
        (
            np.zeros((3, 263)),
            {},
            ValueError,
            "a motion has 3 frames at 20 fps; the shortest motion that the model reads has 4",
        ),
        (np.zeros((40, 263)), {"num_beams": 10**9}, ValueError, "num_beams=1000000000 is not a whole number from 1 to"),
        (np.zeros((40, 263)), {"num_beams": "3"}, ValueError, "num_beams='3' is not a whole number from 1 to 100"),
        (np.zeros((40, 263)), {"max_new_tokens": 10**9}, ValueError, "max_new_tokens=1000000000 is not a whole number"),
        (np.zeros((40, 263)), {"temperature": "1"}, ValueError, "temperature='1' is not a number"),
        (np.zeros((40, 263)), {"window_s": 0.2}, ValueError, "window_s=0.2 is 4 frames; the shortest motion has 8"),
        (np.zeros((40, 263)), {"window_s": "long"}, TypeError, "window_s='long' is a str"),
        (np.zeros((40, 263)), {"num_baems": 3}, TypeError, "argument 'num_baems'; did you mean num_beams?"),
        (np.zeros((40, 263)), {"batch_size": 0}, ValueError, "batch_size=0 is not a whole number of at least 1"),
        ({"motion": "walk.bvh"}, {}, TypeError, "cannot caption a dict; give a Motion"),
    ],
)
def test_errors_say_what_was_passed_and_expected(pipe, given, options, error, message):
    with pytest.raises(error, match=message):
        pipe(given, **options)


def test_another_skeleton_is_refused(pipe):
    motion = Motion(features=np.zeros((12, 251)), fps=20.0, skeleton=lamp_hf.KIT_21)
    with pytest.raises(ValueError, match=r"has the skeleton 'kit_21' .*this model was trained on 'humanml3d_22'"):
        pipe(motion)


# ---- the embedded checkpoint ------------------------------------------------------------------------------


def test_embedded_checkpoint_describes_motions(embedded, procedural):
    [walk], [wave] = embedded([procedural.walker(80), procedural.waver(80, side="left")])
    assert re.search(r"walk|step|stride|head", walk["caption"])
    assert re.search(r"left (hand|arm)", wave["caption"])


@pytest.mark.parametrize("rig", ["lafan1", "3ds max", "xsens", "rokoko", "daz"])
def test_clips_with_other_rigs(embedded, procedural, save_as_rig, tmp_path: Path, rig: str):
    motions = {"walk": procedural.walker(80), "wave": procedural.waver(80, side="left")}
    for name, motion in motions.items():
        save_as_rig(motion, tmp_path / f"{name}.bvh", rig)
        _, report = read_bvh_with_report(tmp_path / f"{name}.bvh")
        assert report.rig != "lamp_hf"
    [walk], [wave] = embedded([tmp_path / f"{name}.bvh" for name in motions])
    assert re.search(r"walk|step|stride|head", walk["caption"])
    assert re.search(r"left (hand|arm)", wave["caption"])

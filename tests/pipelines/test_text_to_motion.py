"""The text-to-motion pipeline with random weights: requests, settings, edits, storyboards, errors."""

import copy
import io
import json
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor, pipeline

import lamp_hf
from lamp_hf import LampProcessor, Motion, TextToMotionPipeline
from lamp_hf.evaluation.probes.new_actions import motions_of
from lamp_hf.pipelines.actions import split_actions
from lamp_hf.pipelines.editing import paste
from lamp_hf.pipelines.familiarity import THRESHOLD
from lamp_hf.pipelines.text_warnings import (
    CutTextWarning,
    EditWarning,
    SeveralActionsWarning,
    UnfamiliarTextWarning,
)

TEXTS = ["a person walks", "the person bows", "the person waves"]


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint: Path) -> TextToMotionPipeline:
    return pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")


@pytest.fixture
def pipe(loaded: TextToMotionPipeline) -> TextToMotionPipeline:
    """A pipeline whose settings tests can change."""
    fresh = copy.copy(loaded)
    fresh.model = copy.deepcopy(loaded.model)
    return fresh


def features(result: dict[str, Any]) -> np.ndarray:
    return result["motion"].features


# ---- what comes back --------------------------------------------------------------------------------------


def test_generates_a_motion_from_a_text(pipe: TextToMotionPipeline) -> None:
    result = pipe("a person walks", duration=1.55, seed=3)
    assert set(result) == {"motion", "text", "seed", "num_frames", "familiarity"}
    assert (result["text"], result["seed"], result["num_frames"]) == ("a person walks", 3, 31)
    motion = result["motion"]
    assert isinstance(motion, Motion)
    assert (motion.num_frames, motion.fps, motion.text) == (31, 20.0, "a person walks")
    assert motion.skeleton.name == "humanml3d_22"
    assert np.isfinite(motion.joints).all()


def test_features_are_the_denormalized_model_output(pipe: TextToMotionPipeline) -> None:
    result = pipe("a person walks", num_frames=12, seed=3)
    inputs = pipe.processor(text=["a person walks"])
    values = pipe.model.generate(**inputs, num_tokens=3, seed=3).motion_values[0].numpy()
    np.testing.assert_array_equal(features(result), pipe.processor.feature_extractor.denormalize(values))


def test_lists_give_lists(pipe: TextToMotionPipeline) -> None:
    results = pipe(TEXTS[:2], duration=[1.0, 0.5])
    assert [(r["text"], r["num_frames"]) for r in results] == [("a person walks", 20), ("the person bows", 10)]
    assert [r["num_frames"] for r in pipe(TEXTS[:2], num_frames=7)] == [7, 7]
    assert isinstance(pipe(["a person walks"], num_frames=7), list)


def test_several_motions_per_text(pipe: TextToMotionPipeline) -> None:
    first, second = pipe(TEXTS[:2], num_frames=20, num_motions_per_prompt=3, seed=[5, 9])
    assert [r["seed"] for r in first] == [5, 6, 7]
    assert [r["seed"] for r in second] == [9, 10, 11]
    assert {r["text"] for r in second} == {"the person bows"}
    assert not np.array_equal(features(first[0]), features(first[1]))
    single = pipe("a person walks", num_frames=20, num_motions_per_prompt=2, seed=5)
    np.testing.assert_array_equal(features(single[1]), features(first[1]))


def test_model_chooses_the_length(pipe: TextToMotionPipeline) -> None:
    inputs = pipe.processor(text=["a person walks"])
    condition = pipe.model.get_text_condition(**inputs)
    # A token is 0.2 s, and the tiny model's longest motion 2 s, so only the longest choice is long enough.
    assert int(pipe.model.length_estimator.num_tokens(condition)[0]) <= 10
    assert pipe("a person walks", seed=0)["num_frames"] == 40
    assert pipe("a person walks", seed=0, duration=0.6)["num_frames"] == 12
    pipe.model.config.max_motion_tokens = 12
    last = [layer for layer in pipe.model.length_estimator.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias[8] = 500.0  # nine tokens
    assert pipe("a person walks", seed=0)["num_frames"] == 40


def test_motion_longer_than_one_piece(pipe: TextToMotionPipeline) -> None:
    result = pipe("a person walks", duration=5.0, seed=1)
    assert result["num_frames"] == 100
    assert len(np.unique(features(result), axis=0)) > 50


# ---- seeds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 2])
def test_motion_does_not_depend_on_its_batch(pipe: TextToMotionPipeline, batch_size: int | None) -> None:
    lengths, seeds = [31, 8, 20], [1, 2, 3]
    alone = [
        features(pipe(text, num_frames=length, seed=seed))
        for text, length, seed in zip(TEXTS, lengths, seeds, strict=True)
    ]
    together = pipe(TEXTS, num_frames=lengths, seed=seeds, batch_size=batch_size)
    backwards = pipe(TEXTS[::-1], num_frames=lengths[::-1], seed=seeds[::-1], batch_size=batch_size)[::-1]
    for expected, first, second in zip(alone, together, backwards, strict=True):
        np.testing.assert_array_equal(features(first), expected)
        np.testing.assert_array_equal(features(second), expected)


def test_seed_determines_the_motion(pipe: TextToMotionPipeline) -> None:
    torch.manual_seed(0)  # it determines the drawn seed; with a tiny model, two seeds can give the same motion
    drawn = pipe("a person walks", num_frames=20)
    again = pipe("a person walks", num_frames=20, seed=drawn["seed"])
    other = pipe("a person walks", num_frames=20, seed=drawn["seed"] + 1)
    np.testing.assert_array_equal(features(again), features(drawn))
    assert not np.array_equal(features(other), features(drawn))
    assert pipe("a person walks", num_frames=20)["seed"] != drawn["seed"]
    assert pipe("a person walks", num_frames=20, seed=np.int64(4))["seed"] == 4


def test_one_seed_for_each_motion(pipe: TextToMotionPipeline) -> None:
    results = pipe(TEXTS[:2], num_frames=8, num_motions_per_prompt=2, seed=[4, 1, 7, 3])
    assert [[r["seed"] for r in group] for group in results] == [[4, 1], [7, 3]]


def test_seed_of_the_generation_config(pipe: TextToMotionPipeline) -> None:
    pipe.model.generation_config.seed = 11
    assert [r["seed"] for r in pipe("a person walks", num_frames=8, num_motions_per_prompt=2)] == [11, 12]
    assert pipe("a person walks", num_frames=8, seed=2)["seed"] == 2


# ---- settings ---------------------------------------------------------------------------------------------


def test_temperature_zero_is_deterministic(pipe: TextToMotionPipeline) -> None:
    first, second = pipe("a person walks", num_frames=20, temperature=0, num_motions_per_prompt=2, seed=1)
    np.testing.assert_array_equal(features(first), features(second))


@pytest.mark.parametrize("change", [{"guidance_scale": 1.0}, {"negative_prompt": "the person bows"}])
def test_guidance_and_negative_prompts_change_the_motion(pipe: TextToMotionPipeline, change: dict[str, Any]) -> None:
    common = {"num_frames": 40, "seed": 1, "temperature": 0}
    plain, changed = pipe("a person walks", **common), pipe("a person walks", **common, **change)
    assert not np.array_equal(features(plain), features(changed))


def test_negative_prompt_for_each_text(pipe: TextToMotionPipeline) -> None:
    common = {"num_frames": 40, "temperature": 0, "seed": 1}
    both = pipe(TEXTS[:2], negative_prompt=["the person waves", "x"], **common)
    for text, negative, result in zip(TEXTS[:2], ["the person waves", "x"], both, strict=True):
        np.testing.assert_array_equal(features(pipe(text, negative_prompt=negative, **common)), features(result))


def test_call_settings_override_pipeline_settings(tiny_checkpoint: Path) -> None:
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu", num_inference_steps=3)
    calls: list[tuple[int, int]] = []
    pipe("a person walks", num_frames=8, step_callback=lambda done, total, tokens: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    calls.clear()
    pipe(
        "a person walks",
        num_frames=8,
        num_inference_steps=1,
        step_callback=lambda done, total, tokens: calls.append((done, total)),
    )
    assert calls == [(1, 1)]
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'speed'; did you mean seed"):
        pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu", speed=2)


def test_callbacks_see_the_tokens(pipe: TextToMotionPipeline) -> None:
    mask = pipe.model.config.motion_mask_token_id
    masked: list[list[int]] = []

    def count(done: int, total: int, tokens: list[Any]) -> None:
        masked.append([int((sequence == mask).sum()) for sequence in tokens])

    pipe(TEXTS[:2], num_frames=[40, 20], step_callback=count)
    assert len(masked) == pipe.model.generation_config.num_inference_steps
    assert masked[-1] == [0, 0]


def test_progress_bar(pipe: TextToMotionPipeline) -> None:
    shown, hidden = io.StringIO(), io.StringIO()
    pipe.set_progress_bar_config(delay=0, file=shown, disable=False, mininterval=0)
    pipe(TEXTS[0], num_frames=8, num_inference_steps=10)
    percents = [int(number) for number in re.findall(r"(\d+)%", shown.getvalue())]
    assert percents == sorted(percents)
    assert set(range(10, 101, 10)) <= set(percents)  # one motion, but the bar still advances
    pipe.set_progress_bar_config(delay=0, file=hidden)  # not a terminal
    pipe(TEXTS, num_frames=8, batch_size=2)
    assert hidden.getvalue() == ""
    pipe.set_progress_bar_config(file=hidden, disable=False)
    pipe(TEXTS[0], num_frames=8)  # the call is too short
    assert hidden.getvalue() == ""


# ---- editing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "changed"),
    [
        ((1.0, 2.0), range(20, 40)),
        ((0.0, 0.55), range(11)),
        ((2.6, 3.0), range(52, 60)),
        ([(0.3, 0.5), (2.0, 2.05)], [6, 7, 8, 9, 40]),
        ((0.0, 3.0), range(60)),
        ((0.0, 2.9), range(58)),  # an incomplete token
    ],
)
def test_edit_changes_only_its_frames(pipe: TextToMotionPipeline, walker: Motion, spans: Any, changed: Any) -> None:
    result = pipe("the person bows", motion=walker, edit=spans, seed=2)
    same = (features(result)[:-1] == walker.features).all(axis=1)  # 60 frames of joints have 59 of features
    assert [*np.flatnonzero(~same), *range(59, max(changed) + 1)] == list(changed)
    assert (result["text"], result["motion"].text, result["num_frames"]) == ("the person bows", "the person bows", 60)


def test_edit_past_the_end_ends_with_the_motion(pipe: TextToMotionPipeline, walker: Motion) -> None:
    common = {"motion": walker, "seed": 2}
    expected = features(pipe("the person bows", edit=(1.5, 3.0), **common))
    with pytest.warns(EditWarning, match=r"ends after the motion, which lasts 3 s\. .* so only 1\.5"):
        past = pipe("the person bows", edit=(1.5, 4.5), **common)
    np.testing.assert_array_equal(features(past), expected)
    np.testing.assert_array_equal(features(pipe("the person bows", edit=(1.5, None), **common)), expected)


def test_adjacent_spans_are_merged(pipe: TextToMotionPipeline, walker: Motion) -> None:
    one = pipe("the person bows", motion=walker, edit=(0.5, 2.0), seed=2)
    for spans in ([(0.5, 1.0), (1.0, 2.0)], [(1.5, 2.0), (0.5, 1.0), (0.8, 1.7)]):
        np.testing.assert_array_equal(
            features(pipe("the person bows", motion=walker, edit=spans, seed=2)), features(one)
        )


def test_edits_in_batches(pipe: TextToMotionPipeline, walker: Motion, waver: Motion) -> None:
    short = waver.crop(0.0, 1.7)
    together = pipe(TEXTS[:2], motion=[walker, short], edit=(0.5, 1.0), seed=4)
    for text, motion, result in zip(TEXTS[:2], [walker, short], together, strict=True):
        alone = pipe(text, motion=motion, edit=(0.5, 1.0), seed=4)
        np.testing.assert_array_equal(features(result), features(alone))


def test_edit_depends_on_text_and_seed(pipe: TextToMotionPipeline, walker: Motion) -> None:
    first = pipe("the person bows", motion=walker, edit=(1.0, 2.0), seed=1)
    assert not np.array_equal(
        features(pipe("the person bows", motion=walker, edit=(1.0, 2.0), seed=2)), features(first)
    )
    edited = pipe("the person waves", motion=first["motion"], edit=(0.5, 2.5), seed=1, num_motions_per_prompt=2)
    assert [r["seed"] for r in edited] == [1, 2]


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_paste_blends_the_edges(data: st.DataObject) -> None:
    length = data.draw(st.integers(2, 30))
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first + 1, length))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    original = rng.normal(size=(length, 8)).astype(np.float32)
    made = original + np.float32(2.0)  # a tokenizer that is off by two everywhere
    result = paste(original, made, [(first, last)], fade=4)
    outside = np.r_[0:first, last:length]
    np.testing.assert_array_equal(result[outside], original[outside])
    inside = slice(first, last)
    np.testing.assert_array_equal(result[inside, -4:], made[inside, -4:])
    off = (result - original)[inside, :4]
    assert (off > -2).all()
    assert (off < 2 + 1e-5).all()
    if first > 0 and last - first >= 10:
        np.testing.assert_allclose(off[:5, 0], [0.4, 0.8, 1.2, 1.6, 2.0], atol=1e-5)
    if last < length and last - first >= 10:
        np.testing.assert_allclose(off[-5:, 0], [2.0, 1.6, 1.2, 0.8, 0.4], atol=1e-5)


# ---- storyboards ------------------------------------------------------------------------------------------


def test_storyboard(pipe: TextToMotionPipeline) -> None:
    scenes = [("a person walks", 1.5), ("the person bows", 3.33), ("the person waves", 0.7)]
    result = pipe.storyboard(scenes, seed=4)
    assert set(result) == {"motion", "text", "seed", "num_frames", "familiarity", "scenes"}
    assert result["num_frames"] == result["motion"].num_frames == round(5.53 * 20)
    assert result["text"] == "a person walks; the person bows; the person waves"
    starts = [start for _, start, _ in result["scenes"]]
    assert starts == pytest.approx([0.0, 1.5, 4.83])
    assert result["scenes"][-1][2] == pytest.approx(5.53)
    again = pipe.storyboard(scenes, seed=4)
    np.testing.assert_array_equal(features(again), features(result))
    assert not np.array_equal(features(pipe.storyboard(scenes, seed=5)), features(result))


def test_storyboard_of_one_scene_is_a_motion(pipe: TextToMotionPipeline) -> None:
    np.testing.assert_array_equal(
        features(pipe.storyboard([("a person walks", 1.3)], seed=6)),
        features(pipe("a person walks", duration=1.3, seed=6)),
    )


@given(seconds=st.lists(st.floats(0.2, 3.0), min_size=1, max_size=12))
@settings(max_examples=10, deadline=None)
def test_scenes_keep_their_duration(loaded: TextToMotionPipeline, seconds: list[float]) -> None:
    given_tokens: list[int] = []

    class Stop(Exception):
        pass

    def remember(inputs: dict[str, Any], **kwargs: Any) -> None:
        given_tokens.extend(inputs["num_tokens"])
        raise Stop

    spy = copy.copy(loaded)
    spy.forward = remember
    with pytest.raises(Stop):
        spy.storyboard([("a person walks", value) for value in seconds])
    assert min(given_tokens) >= 1
    ends = np.cumsum(given_tokens) * 4 / 20
    assert np.abs(ends - np.cumsum(seconds)).max() <= 0.2 + 1e-6
    assert ends[-1] >= np.sum(seconds) - 0.025 - 1e-6


# ---- streams, lists and settings by name ------------------------------------------------------------------


def test_generator_is_processed_lazily(pipe: TextToMotionPipeline) -> None:
    read: list[int] = []

    def texts() -> Any:
        for number in range(10**9):  # only part of it is consumed
            read.append(number)
            yield TEXTS[number % 3]

    results = pipe(texts(), num_frames=8, seed=1)
    assert read == []
    first, second = next(results), next(results)
    assert read == [0, 1]
    expected = pipe(TEXTS[:2], num_frames=8, seed=1)
    for one, other in zip((first, second), expected, strict=True):
        np.testing.assert_array_equal(features(one), features(other))
    batched = pipe(texts(), num_frames=8, seed=1, batch_size=4)
    next(batched)
    assert len(read) == 2 + 4


def test_datasets_are_streams(pipe: TextToMotionPipeline) -> None:
    from datasets import Dataset
    from transformers.pipelines.pt_utils import KeyDataset

    dataset = Dataset.from_dict({"text": TEXTS})
    streamed = (row["text"] for row in dataset.to_iterable_dataset())
    expected = [features(result) for result in pipe(TEXTS, num_frames=8, seed=3)]
    for stream in (KeyDataset(dataset, "text"), streamed, iter(TEXTS)):
        results = pipe(stream, num_frames=8, seed=3)
        assert not isinstance(results, list)
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(features(result), wanted)


def test_stream_options_apply_to_all_texts(pipe: TextToMotionPipeline) -> None:
    with pytest.raises(ValueError, match="seed is a list; for a generator or a dataset"):
        pipe(iter(TEXTS), num_frames=8, seed=[1, 2, 3])
    with pytest.raises(TypeError, match="text contains 3, a int"):
        next(pipe(iter([3]), num_frames=8))


@pytest.mark.parametrize(
    "setting",
    [
        {"top_k": 3},
        {"top_p": 0.4},
        {"remasking_noise": 2.0},
        {"guidance_scale": 1.0},
        {"num_inference_steps": 2},
        {"temperature": 0.3},
        {"duration": 1.0},
        {"num_frames": 12},
        {"negative_prompt": "the person bows"},
        {"num_motions_per_prompt": 2},
        {"split": True},
    ],
)
def test_calls_and_pipelines_accept_the_same_settings(
    pipe: TextToMotionPipeline, tiny_checkpoint: Path, setting: dict[str, Any]
) -> None:
    own = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu", **setting)
    text = "a person walks then waves"
    common = {"seed": 1} if "temperature" in setting else {"seed": 1, "temperature": 30.0}  # otherwise few codes matter
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for result in (pipe(text, **common, **setting), own(text, **common)):
            results.append(features(result[1] if isinstance(result, list) else result))
        plain = pipe(text, **common)
    np.testing.assert_array_equal(*results)
    assert results[0].shape != features(plain).shape or not np.array_equal(results[0], features(plain))


def test_length_of_a_call_overrides_that_of_the_pipeline(tiny_checkpoint: Path) -> None:
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu", duration=1.0)
    assert pipe("a person walks", num_frames=8)["num_frames"] == 8
    assert pipe("a person walks")["num_frames"] == 20


# ---- threads ----------------------------------------------------------------------------------------------


def answers_in_threads(pipe: TextToMotionPipeline, requests: list[dict[str, Any]]) -> None:
    """Check that eight threads, each with all requests in a different order, get the same results as one."""
    expected = [features(pipe(**request)) for request in requests]

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(requests))
        for index in order:
            np.testing.assert_array_equal(features(pipe(**requests[index])), expected[index])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def thread_requests(count: int) -> list[dict[str, Any]]:
    texts = [*TEXTS, "a person walks and waves and waves and waves and bows", "a", "strange words are spelled"]
    return [
        {
            "text": texts[number % len(texts)],
            "num_frames": 4 + 4 * (number % 3),
            "seed": number,
            "num_inference_steps": 1 + number % 3,
            "temperature": number % 2,
        }
        for number in range(count)
    ]


@pytest.mark.filterwarnings("ignore::lamp_hf.pipelines.text_warnings.TextToMotionWarning")
def test_threads_can_share_a_pipeline(pipe: TextToMotionPipeline) -> None:
    answers_in_threads(pipe, thread_requests(15))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::lamp_hf.pipelines.text_warnings.TextToMotionWarning")
def test_eight_threads_with_a_thousand_requests_each(pipe: TextToMotionPipeline) -> None:
    answers_in_threads(pipe, thread_requests(1000))


# ---- several actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("a man walks forward then waves", ["a man walks forward", "a man waves"]),
        ("walk forward, then wave", ["walk forward", "wave"]),
        ("a person walks, bows and waves", ["a person walks", "a person bows", "a person waves"]),
        ("she is walking and then waving", ["she is walking", "she is waving"]),
        ("he walks before waving", ["he walks", "he is waving"]),
        ("a person bows after walking", ["a person is walking", "a person bows"]),
        ("after bowing, the man walks away", ["the man is bowing", "the man walks away"]),
        ("A person walks. Then he bows. Finally, he waves!", ["A person walks", "he bows", "he waves"]),
        ("a person kicks; then punches", ["a person kicks", "a person punches"]),
        ("a person bows followed by a wave", ["a person bows", "a wave"]),
        ("the tall man in red walks and then they wave", ["the tall man in red walks", "they wave"]),
        ("a person walks", None),
        ("a person walks and turns left", None),
        ("a person raises both hands and waves", None),
        ("someone raises the left arm, the right arm and the head", None),
        ("a person waves the hand up, down, and around", None),
        ("a tired, sad and slow person walks", None),
        ("walking backwards, with short steps", None),
    ],
)
def test_sentence_is_split_into_actions(text: str, actions: list[str] | None) -> None:
    assert split_actions(text) == (actions or [text])


def test_several_actions_give_a_warning_or_are_split(pipe: TextToMotionPipeline) -> None:
    text = "a person walks then waves"
    with pytest.warns(SeveralActionsWarning, match=r"names 2 actions.*'a person walks'; 'a person waves'.*split=True"):
        pipe(text, num_frames=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = pipe(text, duration=3.0, seed=2, split=True)
        both = pipe([text, "a person walks"], duration=3.0, seed=2, split=True, num_motions_per_prompt=2)
        chosen = pipe(text, seed=2, split=True)
    assert [scene for scene, _, _ in result["scenes"]] == ["a person walks", "a person waves"]
    assert (result["num_frames"], result["text"], result["motion"].text) == (60, text, text)
    assert chosen["num_frames"] == 80  # the model chooses two lengths
    np.testing.assert_array_equal(features(both[0][0]), features(result))
    assert both[0][1]["seed"] == 3
    assert "scenes" not in both[1][0]
    scenes = [(scene, end - start) for scene, start, end in result["scenes"]]
    np.testing.assert_array_equal(features(pipe.storyboard(scenes, seed=2)), features(result))
    with pytest.raises(ValueError, match="2 actions do not fit into 4 frames; they need 8"):
        pipe(text, num_frames=4, split=True)


# ---- warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "cut"), [("  and bows", "bows"), ("walking", "walking"), ("and waves too", "waves too")]
)
def test_warning_names_a_text_that_is_too_long(pipe: TextToMotionPipeline, end: str, cut: str) -> None:
    start = "a person walks and waves and waves"  # 11 of 14 word pieces; unknown words are spelled
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe(f"{start} and", num_frames=8)
        assert CutTextWarning not in [warning.category for warning in caught]
        pipe([f"{start} {end}", "a person walks"], num_frames=8)
    [warning] = [warning for warning in caught if warning.category is CutTextWarning]
    assert warning.category is CutTextWarning
    assert Path(warning.filename) == Path(__file__)
    assert str(warning.message) == f"A text is longer than the 16 word pieces that the model reads; ignored: {cut!r}"


def test_warning_names_an_unfamiliar_text(pipe: TextToMotionPipeline, tmp_path: Path) -> None:
    assert pipe("a person walks", num_frames=8)["familiarity"] is None
    with pytest.raises(ValueError, match="does not list its training texts"):
        pipe.suggest("a person walks")
    pipe.processor = copy.deepcopy(pipe.processor)
    pipe.processor.example_texts = ["a person walks", "the person bows", "someone bows low", "waves"]
    pipe.save_pretrained(tmp_path)
    pipe = pipeline("text-to-motion", model=str(tmp_path), device="cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        known = pipe(["a person walks", "the person bows", "a man is waving"], num_frames=8)
        assert not caught
        strange, _ = pipe(["quixotic\x1b[31m", "a person walks"], num_frames=8)
    assert [result["familiarity"] for result in known] == pytest.approx([1.0] * 3, abs=1e-5)
    assert strange["familiarity"] < THRESHOLD
    [warning] = caught
    assert warning.category is UnfamiliarTextWarning
    message = str(warning.message)
    assert message.startswith(
        "'quixotic\\x1b[31m' is far from everything that this checkpoint was trained on (familiarity"
    )
    assert "\x1b" not in message
    assert message.count("'; '") == 2
    assert pipe.suggest("bowing", count=2)[0] == "the person bows"
    assert set(pipe.known_sentences.groups()) == {"bows", "other"}
    with pytest.raises(ValueError, match="count=0 is not a whole number of at least 1"):
        pipe.suggest("bow", count=0)


def test_evaluation_gives_no_text_warnings(pipe: TextToMotionPipeline, tmp_path: Path) -> None:
    pipe.processor = copy.deepcopy(pipe.processor)
    pipe.processor.example_texts = ["the person bows"]
    pipe.save_pretrained(tmp_path)
    pipe = pipeline("text-to-motion", model=str(tmp_path), device="cpu")
    texts = ["quixotic", "a person walks then waves"]
    with pytest.warns(UnfamiliarTextWarning), pytest.warns(SeveralActionsWarning):
        results = pipe(texts, seed=[3, 4], batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = motions_of(pipe, texts, 3)
    for motion, result in zip(measured, results, strict=True):
        np.testing.assert_array_equal(motion.features, features(result))


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"text": 3}, TypeError, "text is a int; expected a string, a list or an iterable of strings"),
        ({"text": {"text": "a"}}, TypeError, "text is a dict; expected a string, a list"),
        ({"text": "walks " * 2000}, ValueError, "text has 12,000 characters, 'walks walks"),
        ({"negative_prompt": "walks " * 2000}, ValueError, "negative_prompt has 12,000 characters"),
        ({"sed": 3}, TypeError, "got an unexpected keyword argument 'sed'; did you mean seed?"),
        ({"num_frames": 10**12}, ValueError, "num_frames=1e+12 is 1e+12 frames; the longest"),
        ({"duration": 1e12}, ValueError, "the longest motion has 400,000"),
        ({"num_inference_steps": 10**9}, ValueError, "num_inference_steps=1000000000 is not a whole number from 1 to"),
        ({"num_inference_steps": True}, ValueError, "num_inference_steps=True is not a whole number from 1"),
        ({"temperature": "1"}, ValueError, "temperature='1' is not a number of at least 0"),
        ({"temperature": float("nan")}, ValueError, "temperature=nan is not a number of at least 0"),
        ({"top_k": 0}, ValueError, "top_k=0 is not None or a whole number of at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size=0 is not a whole number of at least 1"),
        ({"split": "yes"}, TypeError, "split='yes' is not True or False"),
        ({"text": ["a", None]}, TypeError, "text contains None, a NoneType; expected strings"),
        ({"text": []}, ValueError, "no text was given"),
        ({"text": "  "}, ValueError, "text is empty; describe the motion"),
        ({"duration": 1.0, "num_frames": 20}, ValueError, "give duration (seconds) or num_frames, not both"),
        ({"duration": -1.0}, ValueError, "duration=-1.0 is not a number of at least 0"),
        ({"duration": float("nan")}, ValueError, "duration=nan is not a number of at least 0"),
        ({"duration": float("inf")}, ValueError, "duration=inf is not a number of at least 0"),
        ({"duration": "4"}, TypeError, "duration='4' is a str; expected a number"),
        ({"duration": True}, TypeError, "duration=True is a bool; expected a number"),
        ({"duration": 0.1}, ValueError, "duration=0.1 is 2 frames; the shortest motion has 4"),
        ({"duration": [1.0, 2.0]}, ValueError, "duration has 2 values for 1 texts; give one for each, or one for all"),
        ({"num_frames": 20.5}, TypeError, "num_frames=20.5 is a float; expected a whole number"),
        ({"num_frames": 3}, ValueError, "num_frames=3 is 3 frames; the shortest motion has 4"),
        ({"num_motions_per_prompt": 0}, ValueError, "num_motions_per_prompt=0 is not a whole number from 1 to 1,000"),
        ({"num_motions_per_prompt": 10**9}, ValueError, "num_motions_per_prompt=1000000000 is not a whole number"),
        ({"seed": 1.5}, TypeError, "seed=1.5 is a float; expected a whole number"),
        ({"seed": -1}, ValueError, "seed=-1 is not a whole number of at least 0"),
        ({"seed": [1, 2, 3]}, ValueError, "seed has 3 values for 1 texts"),
        ({"negative_prompt": 5}, TypeError, "negative_prompt contains a int; expected str"),
        ({"guidance_scale": -1}, ValueError, "guidance_scale=-1 is not a number of at least 0"),
        ({"num_inference_steps": 0}, ValueError, "num_inference_steps=0 is not a whole number from 1"),
        ({"edit": (0, 1)}, ValueError, "motion= and edit= must be given together"),
        ({"motion": "walk.bvh", "edit": (0, 1)}, TypeError, "motion contains a str; expected Motion"),
    ],
)
def test_invalid_arguments_are_refused(
    pipe: TextToMotionPipeline, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        pipe(**{"text": "a person walks", **arguments})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "motion= and edit= must be given together"),
        ({"edit": (3.5, 9.0)}, ValueError, "edit=(3.5, 9) is not within the motion, which lasts 3 s"),
        ({"edit": (0, 1), "split": True}, ValueError, "split=True cannot be combined with motion="),
        ({"edit": (2.0, 1.0)}, ValueError, "edit=(2, 1) is not within the motion"),
        ({"edit": (1.0, 1.01)}, ValueError, "edit=(1, 1.01) contains no frame at 20 fps; widen it"),
        ({"edit": (1.0, 1.5, 2.0)}, TypeError, "edit=(1.0, 1.5, 2.0); expected (start, end) in seconds"),
        ({"edit": []}, TypeError, "edit=[]; expected (start, end) in seconds"),
        ({"edit": 1.0}, TypeError, "edit=1.0; expected (start, end) in seconds, or a list of such spans"),
        ({"edit": ("0", "1")}, TypeError, "edit='0' is a str; expected a number"),
        ({"edit": (0, 1), "duration": 2.0}, ValueError, "an edited motion keeps its length"),
    ],
)
def test_invalid_edits_are_refused(
    pipe: TextToMotionPipeline, walker: Motion, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        pipe("a person walks", motion=walker, **arguments)
    assert message in str(caught.value)


def test_motion_of_another_frame_rate_is_refused(pipe: TextToMotionPipeline, walker: Motion) -> None:
    with pytest.raises(
        ValueError, match=r"30 fps, but this model was trained on 20 fps; call motion.resample\(20\) first"
    ):
        pipe("a person walks", motion=walker.resample(30), edit=(0, 1))


@pytest.mark.parametrize(
    ("scenes", "error", "message"),
    [
        ("a person walks", TypeError, "scenes must be a list of (text, seconds)"),
        (["a person walks"], TypeError, "scenes must be a list of (text, seconds)"),
        ([], ValueError, "no text was given"),
        ([("a person walks", 0.1)], ValueError, "seconds=0.1 is 2 frames; the shortest motion has 4"),
        ([("a person walks", "3")], TypeError, "seconds='3' is a str; expected a number"),
        ([("a person walks", 1e12)], ValueError, "the longest motion has 400,000"),
        ([("", 1.0)], ValueError, "text is empty"),
    ],
)
def test_invalid_storyboards_are_refused(
    pipe: TextToMotionPipeline, scenes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        pipe.storyboard(scenes)
    assert message in str(caught.value)


# ---- saving and loading -----------------------------------------------------------------------------------


def test_saving_and_loading(pipe: TextToMotionPipeline, tmp_path: Path) -> None:
    pipe.model.generation_config.guidance_scale = 2.5
    pipe.save_pretrained(tmp_path)
    assert "custom_pipelines" not in json.loads((tmp_path / "config.json").read_text())
    again = pipeline("text-to-motion", model=str(tmp_path), device="cpu")
    assert again.model.generation_config.guidance_scale == 2.5
    assert again.processor.feature_extractor.std == pipe.processor.feature_extractor.std
    first, second = (each("a person walks", seed=1, duration=1.0) for each in (pipe, again))
    np.testing.assert_array_equal(features(first), features(second))


def test_auto_classes(tiny_checkpoint: Path) -> None:
    assert type(AutoModel.from_pretrained(tiny_checkpoint)) is lamp_hf.LampForTextToMotion
    assert type(AutoProcessor.from_pretrained(tiny_checkpoint)) is lamp_hf.LampProcessor
    assert type(AutoFeatureExtractor.from_pretrained(tiny_checkpoint)) is lamp_hf.LampFeatureExtractor


def test_pipeline_from_parts(loaded: TextToMotionPipeline, tiny_checkpoint: Path) -> None:
    model = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint).train()
    processor = LampProcessor.from_pretrained(tiny_checkpoint)
    pipe = pipeline("text-to-motion", model=model, processor=processor, device="cpu")
    expected = loaded("a person walks", seed=1, num_frames=20)
    np.testing.assert_array_equal(features(pipe("a person walks", seed=1, num_frames=20)), features(expected))
    with pytest.raises(ValueError, match="needs a processor"):
        TextToMotionPipeline(model=model)
    with pytest.raises(TypeError, match="needs a LampForTextToMotion, got a LampModel"):
        TextToMotionPipeline(model=model.lamp, processor=processor)


HUB = """
import os, sys
sys.path.insert(0, sys.argv[1])
from fakehub import FakeHub
os.environ["HF_ENDPOINT"] = FakeHub().url
import lamp_hf
from transformers import pipeline
here = pipeline("text-to-motion", model=sys.argv[2], device="cpu")
here.push_to_hub("me/dance")
there = pipeline("text-to-motion", model="me/dance", device="cpu")
first, second = (pipe("a person walks", seed=1, duration=1.0)["motion"] for pipe in (here, there))
assert first == second
print("equal")
"""


@pytest.mark.slow
def test_pipeline_loads_through_a_hub(shared_dir: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    import os

    if not (shared_dir / "tools" / "fakehub.py").is_file():
        pytest.skip("needs the stand-in for the Hub, tools/fakehub.py of the shared folder")
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_fake", "HF_HUB_DISABLE_XET": "1"}
    env.pop("HF_HUB_OFFLINE", None)
    arguments = [sys.executable, "-c", HUB, str(shared_dir / "tools"), str(tiny_checkpoint)]
    root = Path(lamp_hf.__file__).resolve().parent.parent
    done = subprocess.run(arguments, env=env, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip().endswith("equal"), done.stderr

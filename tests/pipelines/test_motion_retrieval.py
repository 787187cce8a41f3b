"""The pipeline motion-retrieval, on a tiny model of random weights: hits are those of the index, in order."""

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline

import lamp_hf
from lamp_hf import Motion, MotionIndex, MotionRetrievalPipeline

NAMES = ["bow.npz", "turn.bvh", "walk.bvh", "wave.npz"]
CAPTIONS = {"bow.npz": "the person bows", "wave.npz": "a person waves"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, procedural) -> Path:
    path = tmp_path_factory.mktemp("mocap")
    procedural.walker(60, speed=0.1, text=CAPTIONS["bow.npz"]).save(path / "bow.npz")
    procedural.walker(60).save(path / "walk.bvh")
    procedural.walker(48, turn=0.8).save(path / "turn.bvh")
    procedural.waver(60, text=CAPTIONS["wave.npz"]).save(path / "wave.npz")
    return path


@pytest.fixture(scope="module")
def search(tiny_checkpoint: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MotionRetrievalPipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMP_HF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return pipeline("motion-retrieval", model=str(tiny_checkpoint), index=folder, num_proc=1, device="cpu")


# ---- what comes back --------------------------------------------------------------------------------------


def test_a_text_finds_motions(search: MotionRetrievalPipeline, folder: Path) -> None:
    hits = search("the person walks")
    assert sorted(hit["id"] for hit in hits) == NAMES
    for hit in hits:
        assert list(hit) == ["id", "file", "score", "captions"]
        assert hit["file"] == str(folder / hit["id"])
        assert hit["captions"] == ([CAPTIONS[hit["id"]]] if hit["id"] in CAPTIONS else [])
        inputs = search.processor(text=["the person walks"], motion=[Motion.load(hit["file"]).features])
        model = search.model
        motion = model.get_motion_features(inputs["motion_values"], inputs["motion_attention_mask"])
        text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
        assert hit["score"] == pytest.approx(model.similarity(motion, text).item(), abs=1e-3)
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert search("the person walks", top_k=2) == hits[:2]
    assert search("the person walks", exact=True) == hits


def test_a_motion_finds_motions_and_captions(search: MotionRetrievalPipeline, folder: Path) -> None:
    motion = Motion.load(folder / "wave.npz")
    hits = search(motion)
    [own] = [hit for hit in hits if hit["id"] == "wave.npz"]
    assert own["captions"] == ["a person waves"]
    assert own["score"] == pytest.approx(1.0, abs=1e-3)
    assert all(own["score"] >= hit["score"] - 1e-3 for hit in hits)  # random weights tell few motions apart
    captions = search(motion, target="caption")
    assert {hit["captions"][0]: hit["id"] for hit in captions} == {text: name for name, text in CAPTIONS.items()}
    assert captions[0]["score"] >= captions[1]["score"]


def test_whatever_holds_the_motion_gives_the_same(search: MotionRetrievalPipeline, folder: Path) -> None:
    motion = Motion.load(folder / "walk.bvh")
    hits = search(motion)
    for query in (motion.features, folder / "walk.bvh", str(folder / "walk.bvh")):
        assert search(query) == hits
    other = search(motion.resample(30))  # brought to the model's frame rate
    assert [hit["score"] for hit in other] == pytest.approx([hit["score"] for hit in hits], abs=0.02)


def test_lists_give_lists_whatever_they_mix(search: MotionRetrievalPipeline, folder: Path) -> None:
    queries = ["the person walks", Motion.load(folder / "walk.bvh"), "waves", folder / "turn.bvh"]
    results = search(queries, top_k=3)
    for query, hits in zip(queries, results, strict=True):
        alone = search(query, top_k=3)
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in alone], abs=1e-5)
    assert search(["waves"], top_k=1) == [search("waves", top_k=1)]
    assert search([]) == []


def rerank_scores(search: MotionRetrievalPipeline, texts: list[str], motions: list[np.ndarray]) -> list[float]:
    """Of pairs, by LaMP itself: log-odds of a match and scaled similarity."""
    inputs = search.processor(text=texts, motion=motions)
    lamp = search.model.lamp
    similarity = lamp(**inputs).logits_per_motion.diagonal()
    return (lamp.matching_score(**inputs).logit() + similarity).tolist()


@torch.no_grad()
def test_reranking_adds_what_the_matching_head_says(search: MotionRetrievalPipeline, folder: Path) -> None:
    text = "the person bows"
    hits = search(text, rerank=True)
    expected = rerank_scores(search, [text] * 4, [Motion.load(hit["file"]).features for hit in hits])
    assert [hit["score"] for hit in hits] == pytest.approx(expected, abs=0.02)  # latents and features in half precision
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    # Only the best by similarity are looked at again; the others do not come back.
    plain = search(text, top_k=2)
    assert {hit["id"] for hit in search(text, top_k=1, rerank=2)} <= {hit["id"] for hit in plain}
    assert {hit["id"] for hit in search(text, top_k=2, rerank=1)} == {hit["id"] for hit in plain}
    motion = Motion.load(folder / "bow.npz")
    captions = search(motion, target="caption", rerank=True)
    expected = rerank_scores(search, [hit["captions"][0] for hit in captions], [motion.features] * 2)
    assert [hit["score"] for hit in captions] == pytest.approx(expected, abs=0.02)


def test_the_matching_head_may_change_the_order(search: MotionRetrievalPipeline, monkeypatch) -> None:
    before = search("waves")
    monkeypatch.setattr(search.encoder, "rerank_scores", lambda similarities, latents, texts: np.arange(len(texts)))
    after = search("waves", rerank=3, top_k=3)
    assert [hit["id"] for hit in after] == [hit["id"] for hit in before[2::-1]]
    assert [hit["score"] for hit in after] == [2, 1, 0]


# ---- what may be searched ---------------------------------------------------------------------------------


def test_an_index_and_its_folder(search: MotionRetrievalPipeline, tiny_checkpoint: Path) -> None:
    for index in (search.index, search.index.path, str(search.index.path), MotionIndex.open(search.index.path)):
        again = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=index, device="cpu")
        assert again("waves") == search("waves")


def test_settings_of_the_pipeline_hold_for_calls(search: MotionRetrievalPipeline, tiny_checkpoint: Path) -> None:
    few = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=search.index, top_k=2, rerank=4, device="cpu")
    assert few("waves") == search("waves", top_k=2, rerank=4)
    assert few("waves", top_k=3, rerank=False) == search("waves", top_k=3)


def test_saved_and_loaded(search: MotionRetrievalPipeline, tmp_path: Path) -> None:
    search.save_pretrained(tmp_path / "saved")
    again = pipeline("motion-retrieval", model=str(tmp_path / "saved"), index=search.index, device="cpu")
    assert again("waves") == search("waves")


def test_the_default_is_the_embedded_checkpoint(search: MotionRetrievalPipeline) -> None:
    with pytest.raises(lamp_hf.retrieval.IndexMismatchError, match=r"was made with tiny .* this model is lamp-small"):
        pipeline("motion-retrieval", index=search.index, device="cpu")


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "settings", "error", "message"),
    [
        ("waves", {"top_k": 0}, ValueError, "top_k=0 is not a whole number from 1"),
        ("waves", {"top_k": 2.5}, ValueError, "top_k=2.5 is not a whole number"),
        ("waves", {"rerank": -1}, ValueError, "rerank=-1 is not a whole number from 0"),
        ("waves", {"target": "text"}, ValueError, "target='text' is unknown; choose one of motion, caption"),
        ("waves", {"target": "caption"}, ValueError, "a text finds motions"),
        (np.zeros((20, 263), np.float32), {"rerank": 5}, ValueError, "it cannot compare two motions"),
        (" ", {}, ValueError, "the query is an empty text"),
        (np.zeros((3, 263), np.float32), {}, ValueError, "it has 3 frames; the shortest motion has 4"),
        (np.zeros((20, 22, 3), np.float32), {}, ValueError, r"features of shape \(frames, 263\)"),
        ("nowhere.bvh", {}, FileNotFoundError, "nowhere.bvh: no such file"),
        ([5], {}, TypeError, "cannot search for a int"),
    ],
)
def test_refusals(search: MotionRetrievalPipeline, query, settings: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        search(query, **settings)


def test_something_to_search_is_needed(tiny_checkpoint: Path, search: MotionRetrievalPipeline) -> None:
    with pytest.raises(ValueError, match=r'needs something to search: pipeline\("motion-retrieval", index=…\)'):
        pipeline("motion-retrieval", model=str(tiny_checkpoint), device="cpu")
    with pytest.raises(TypeError, match="unknown arguments topk; known: index, num_proc, top_k"):
        pipeline("motion-retrieval", model=str(tiny_checkpoint), index=search.index, topk=3, device="cpu")
    whole = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    with pytest.raises(TypeError, match="needs a LampForMotionTextRetrieval, not a LampForTextToMotion"):
        MotionRetrievalPipeline(model=whole, processor=search.processor, index=search.index)


# ---- what the docstrings say ------------------------------------------------------------------------------


@pytest.mark.parametrize("documented", [MotionRetrievalPipeline, MotionIndex])
def test_examples(documented: type, tiny_checkpoint: Path, walker: Motion, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my_mocap").mkdir()
    walker.save("my_mocap/walk.bvh")
    names = {
        "encoder": lamp_hf.retrieval.MotionTextEncoder(
            lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint),
            lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint),
        )
    }
    examples = doctest.DocTestParser().get_doctest(documented.__doc__ or "", names, documented.__name__, None, 0)
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0

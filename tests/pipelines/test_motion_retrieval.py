"""The motion-retrieval pipeline with random weights: hits equal those of the index, in order."""

import doctest
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

import lamp_hf
from lamp_hf import Motion, MotionIndex, MotionRetrievalPipeline

NAMES = ["bow.npz", "turn.bvh", "walk.bvh", "wave.npz"]
THREAD_REQUESTS = 100  # for each of eight threads
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


def test_text_query_finds_motions(search: MotionRetrievalPipeline, folder: Path) -> None:
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


def test_motion_query_finds_motions_and_captions(search: MotionRetrievalPipeline, folder: Path) -> None:
    motion = Motion.load(folder / "wave.npz")
    hits = search(motion)
    [own] = [hit for hit in hits if hit["id"] == "wave.npz"]
    assert own["captions"] == ["a person waves"]
    assert own["score"] == pytest.approx(1.0, abs=1e-3)
    assert all(own["score"] >= hit["score"] - 1e-3 for hit in hits)  # random weights distinguish few motions
    captions = search(motion, target="caption")
    assert {hit["captions"][0]: hit["id"] for hit in captions} == {text: name for name, text in CAPTIONS.items()}
    assert captions[0]["score"] >= captions[1]["score"]


def test_all_forms_of_a_motion_give_the_same_hits(search: MotionRetrievalPipeline, folder: Path) -> None:
    motion = Motion.load(folder / "walk.bvh")
    hits = search(motion)
    assert search(motion.features) == search(torch.from_numpy(motion.features.copy())) == hits
    other = search(motion.resample(30))  # resampled to the model's frame rate
    assert [hit["score"] for hit in other] == pytest.approx([hit["score"] for hit in hits], abs=0.02)


def test_mixed_lists_give_lists(search: MotionRetrievalPipeline, folder: Path) -> None:
    queries = ["the person walks", Motion.load(folder / "walk.bvh"), "waves", folder / "turn.bvh"]
    results = search(queries, top_k=3)
    for query, hits in zip(queries, results, strict=True):
        alone = search(query, top_k=3)
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in alone]
        assert [hit["score"] for hit in hits] == pytest.approx([hit["score"] for hit in alone], abs=1e-5)
    assert search(["waves"], top_k=1) == [search("waves", top_k=1)]
    assert search([]) == []


def both_heads(
    search: MotionRetrievalPipeline, texts: list[str], motions: list[np.ndarray]
) -> tuple[list[float], list[float]]:
    """Compute with LaMP, for pairs, the probability of a match, and its log-odds plus the scaled similarity."""
    inputs = search.processor(text=texts, motion=motions)
    lamp = search.model.lamp
    similarity = lamp(**inputs).logits_per_motion.diagonal()
    matches = lamp.matching_score(**inputs)
    return matches.tolist(), (matches.logit() + similarity).tolist()


@torch.no_grad()
def test_reranking_uses_both_heads_and_keeps_scores(search: MotionRetrievalPipeline, folder: Path) -> None:
    text = "the person bows"
    hits, plain = search(text, rerank=True), search(text)
    assert {hit["id"]: hit["score"] for hit in hits} == {hit["id"]: hit["score"] for hit in plain}
    assert all("match" not in hit for hit in plain)
    matches, both = both_heads(search, [text] * 4, [Motion.load(hit["file"]).features for hit in hits])
    assert [hit["match"] for hit in hits] == pytest.approx(matches, abs=0.01)  # stored vectors have half precision
    assert both == pytest.approx(sorted(both, reverse=True), abs=0.02)
    # Only the best hits by similarity are re-ranked; the others are not returned.
    few = search(text, top_k=2)
    assert {hit["id"] for hit in search(text, top_k=1, rerank=2)} <= {hit["id"] for hit in few}
    assert {hit["id"] for hit in search(text, top_k=2, rerank=1)} == {hit["id"] for hit in few}
    motion = Motion.load(folder / "bow.npz")
    captions, plain = (search(motion, target="caption", rerank=rerank) for rerank in (True, False))
    assert sorted(hit["score"] for hit in captions) == sorted(hit["score"] for hit in plain)
    matches, both = both_heads(search, [hit["captions"][0] for hit in captions], [motion.features] * 2)
    assert [hit["match"] for hit in captions] == pytest.approx(matches, abs=0.01)
    assert both == pytest.approx(sorted(both, reverse=True), abs=0.02)


def test_matching_head_can_change_the_order(search: MotionRetrievalPipeline, monkeypatch) -> None:
    before = search("waves")
    logits = np.array([0.0, 100.0, 200.0], np.float32)
    monkeypatch.setattr(search.encoder, "matching_logits", lambda latents, texts: logits[: len(texts)])
    after = search("waves", rerank=3, top_k=3)
    assert [hit["id"] for hit in after] == [hit["id"] for hit in before[2::-1]]
    assert [hit["score"] for hit in after] == [hit["score"] for hit in before[2::-1]]
    assert [hit["match"] for hit in after] == pytest.approx([1, 1, 0.5])


def test_file_does_not_find_itself(search: MotionRetrievalPipeline, folder: Path, tmp_path: Path) -> None:
    everything = search(Motion.load(folder / "walk.bvh"))
    (tmp_path / "link.bvh").symlink_to(folder / "walk.bvh")
    for query in (folder / "walk.bvh", str(folder / "walk.bvh"), folder / ".." / folder.name / "walk.bvh"):
        hits = search(query)
        assert [hit["id"] for hit in hits] == [hit["id"] for hit in everything if hit["id"] != "walk.bvh"]
    assert len(search(tmp_path / "link.bvh", top_k=3)) == 3
    assert "walk.bvh" not in {hit["id"] for hit in search(tmp_path / "link.bvh")}
    shutil.copy(folder / "walk.bvh", tmp_path / "copy.bvh")  # another file with the same motion
    assert "walk.bvh" in {hit["id"] for hit in search(tmp_path / "copy.bvh")}
    captions = search(folder / "bow.npz", target="caption")
    assert {hit["id"] for hit in captions} == set(CAPTIONS)


def test_caption_search_without_captions_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, procedural, monkeypatch
) -> None:
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mute").mkdir()
    procedural.walker(40).save(tmp_path / "mute" / "walk.bvh")
    search = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=tmp_path / "mute", num_proc=1, device="cpu")
    with pytest.raises(ValueError, match=r"has no captions; add a metadata\.jsonl to the folder"):
        search(procedural.waver(40), target="caption")
    assert search(tmp_path / "mute" / "walk.bvh") == []


def test_threads_get_the_same_results_as_single_calls(
    search: MotionRetrievalPipeline, tiny_checkpoint: Path, folder
) -> None:
    words = ["the person walks", "waves", "the person bows and waves and walks and bows and waves"]
    requests = [
        *({"query": text, "top_k": 3, "rerank": rerank} for text in words for rerank in (0, 4)),
        {"query": Motion.load(folder / "walk.bvh"), "top_k": 2},
        {"query": folder / "wave.npz", "target": "caption"},
        {"query": [*words, folder / "turn.bvh"], "exact": True},
    ]
    alone = [search(**request) for request in requests]
    fresh = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=search.index.path, device="cpu")

    def ask(number: int) -> bool:
        return fresh(**requests[number % len(requests)]) == alone[number % len(requests)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8 * THREAD_REQUESTS)))


# ---- what may be searched ---------------------------------------------------------------------------------


def test_index_and_folder_give_the_same_hits(search: MotionRetrievalPipeline, tiny_checkpoint: Path) -> None:
    for index in (search.index, search.index.path, str(search.index.path), MotionIndex.open(search.index.path)):
        again = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=index, device="cpu")
        assert again("waves") == search("waves")


def test_pipeline_settings_apply_to_calls(search: MotionRetrievalPipeline, tiny_checkpoint: Path) -> None:
    few = pipeline("motion-retrieval", model=str(tiny_checkpoint), index=search.index, top_k=2, rerank=4, device="cpu")
    assert few("waves") == search("waves", top_k=2, rerank=4)
    assert few("waves", top_k=3, rerank=False) == search("waves", top_k=3)


def test_save_and_load(search: MotionRetrievalPipeline, tmp_path: Path) -> None:
    search.save_pretrained(tmp_path / "saved")
    again = pipeline("motion-retrieval", model=str(tmp_path / "saved"), index=search.index, device="cpu")
    weights = search.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.model.state_dict().items())
    # The memory layout of weights, by file, affects the last bits of a matrix product.
    for hit, expected in zip(again("waves"), search("waves"), strict=True):
        assert hit == expected | {"score": pytest.approx(expected["score"], abs=1e-6)}


def test_default_is_the_embedded_checkpoint(search: MotionRetrievalPipeline) -> None:
    with pytest.raises(lamp_hf.retrieval.IndexMismatchError, match=r"was made with tiny .* this model is lamp-small"):
        pipeline("motion-retrieval", index=search.index, device="cpu")


def test_streams_are_processed_lazily(search: MotionRetrievalPipeline, walker: Motion) -> None:
    queries = ["waves", "a person walks", walker]
    expected = [search(query, top_k=2) for query in queries]
    asked = []

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield queries[number % 3]

    stream = search(endless(), top_k=2)
    assert asked == []
    assert list(itertools.islice(stream, 4)) == [*expected, expected[0]]
    assert asked == [0, 1, 2, 3]
    for batches in (search(queries, top_k=2, batch_size=2), search(iter(queries), top_k=2, batch_size=2)):
        assert [[hit["id"] for hit in hits] for hits in batches] == [[hit["id"] for hit in hits] for hits in expected]
    texts = Dataset.from_dict({"text": queries[:2]})
    assert list(search(KeyDataset(texts, "text"), top_k=2)) == expected[:2]
    assert list(search((row["text"] for row in texts.to_iterable_dataset()), top_k=2)) == expected[:2]


# ---- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "settings", "error", "message"),
    [
        ("waves", {"top_k": 0}, ValueError, "top_k=0 is not a whole number of at least 1"),
        ("waves", {"top_k": 2.5}, ValueError, "top_k=2.5 is not a whole number"),
        ("waves", {"rerank": -1}, ValueError, "rerank=-1 is not True, False or a whole number of at least 0"),
        ("waves", {"target": "text"}, ValueError, "target='text' is unknown; choose one of motion, caption"),
        ("waves", {"target": "caption"}, ValueError, "needs a motion as query"),
        (np.zeros((20, 263), np.float32), {"rerank": 5}, ValueError, "not two motions; leave it out"),
        (" ", {}, ValueError, "the query is empty"),
        (np.zeros((3, 263), np.float32), {}, ValueError, "it has 3 frames; the model needs at least 4"),
        (np.zeros((20, 22, 4), np.float32), {}, ValueError, r"expected an array of shape \(T, 22, 3\)"),
        ("nowhere.bvh", {}, FileNotFoundError, "nowhere.bvh: no such file"),
        ([5], {}, TypeError, "cannot search for a int"),
        (5, {}, TypeError, "cannot search for a int"),
        ("waves", {"topk": 3}, TypeError, "unexpected keyword argument 'topk'; did you mean top_k"),
        ("waves", {"batch_size": -1}, ValueError, "batch_size=-1 is not a whole number of at least 1"),
    ],
)
def test_invalid_calls_are_refused(
    search: MotionRetrievalPipeline, query, settings: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        search(query, **settings)


def test_index_is_required(tiny_checkpoint: Path, search: MotionRetrievalPipeline) -> None:
    with pytest.raises(ValueError, match=r'needs an index; give pipeline\("motion-retrieval", index=…\)'):
        pipeline("motion-retrieval", model=str(tiny_checkpoint), device="cpu")
    with pytest.raises(TypeError, match="unexpected keyword argument 'topk'; did you mean top_k"):
        pipeline("motion-retrieval", model=str(tiny_checkpoint), index=search.index, topk=3, device="cpu")
    whole = lamp_hf.LampForTextToMotion.from_pretrained(tiny_checkpoint)
    with pytest.raises(TypeError, match="needs a LampForMotionTextRetrieval, got a LampForTextToMotion"):
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

"""The motion index: content, updates, interruptions and correct search results."""

import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

import lamp_hf
from lamp_hf.data import motion_features
from lamp_hf.locks import folder_lock
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.motion import Motion
from lamp_hf.retrieval import (
    DatasetSource,
    FolderSource,
    IndexMismatchError,
    MotionIndex,
    MotionIndexError,
    MotionTextEncoder,
    build_index,
    find_source,
    open_index,
)
from lamp_hf.retrieval import (
    index as index_module,
)

FILES = ["gestures/wave.bvh", "gestures/wave_left.npy", "turn.bvh", "walk.npz"]
TEXTS = ["the person walks", "person bows", "waves"]


@pytest.fixture
def index(mocap: Path, encoder: MotionTextEncoder, tmp_path: Path) -> MotionIndex:
    return build_index(tmp_path / "index", FolderSource(mocap, num_proc=1), encoder, progress=False)


@pytest.fixture
def many(encoder: MotionTextEncoder, procedural, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MotionIndex:
    """Forty motions in files of sixteen rows, from a dataset."""
    monkeypatch.setattr(index_module, "ROWS_PER_FILE", 16)
    rows = [
        row(f"clip {k}", procedural.walker(24 + k, turn=0.1 * k).features, ["walks", f"walks {k}"]) for k in range(40)
    ]
    return build_index(tmp_path / "many", DatasetSource(table(rows), "forty"), encoder, progress=False)


def row(name: str, motion: np.ndarray, captions: list[str]) -> dict:
    return {
        "id": name,
        "motion": motion,
        "captions": [{"text": text, "start": 0.0, "end": 0.0} for text in captions],
        "source": "made up",
        "fps": 20.0,
        "num_frames": len(motion),
        "content": "",
        "style": "",
        "mirrored": False,
    }


def table(rows: list[dict]) -> Dataset:
    return Dataset.from_list(rows, features=motion_features())


def ids(index: MotionIndex) -> list[str]:
    return sorted(np.array(index.dataset["id"][:])[index.alive].tolist())


# ---- content ----------------------------------------------------------------------------------------------


def test_rows_equal_the_model_output_for_the_files(index: MotionIndex, mocap: Path, encoder) -> None:
    assert ids(index) == FILES
    assert len(index) == 4
    assert index.dataset["captions"][:] == [[], [], [], ["a person walks"]]
    assert index.caption_dataset["text"][:] == ["a person walks"]
    motions = [Motion.load(mocap / name).features for name in FILES]
    assert index.dataset["num_frames"][:] == [len(motion) for motion in motions]
    alone = [encoder.encode_motions([motion])[0] for motion in motions]
    stored = index.features.take(np.arange(4)).astype(np.float32)
    np.testing.assert_allclose(stored, [motion.features for motion in alone], atol=1e-3)
    for latents, motion in zip(index.latents(range(4)), alone, strict=True):
        np.testing.assert_allclose(latents, motion.latents, atol=1e-3 * np.abs(motion.latents).max())


def test_hits_name_the_file(index: MotionIndex, mocap: Path, encoder) -> None:
    [found] = index.find_motions(encoder.encode_texts(["walks"]), top_k=2)
    hits = index.motion_hits(found)
    assert [list(hit) for hit in hits] == [["id", "file", "score", "captions"]] * 2
    assert all(hit["file"] == str(mocap / hit["id"]) and Path(hit["file"]).is_file() for hit in hits)
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_captions_come_from_a_table(mocap: Path, encoder, tmp_path: Path) -> None:
    lines = [
        {"file_name": "walk.npz", "text": ["the person walks", "walks", "walks"]},
        {"file_name": "turn.bvh", "text": "walks"},
    ]
    (mocap / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    index = build_index(tmp_path / "index", find_source(mocap, num_proc=1), encoder, progress=False)
    assert index.dataset["captions"][:] == [[], [], ["walks"], ["the person walks", "walks"]]
    assert index.num_captions == 2
    (mocap / "metadata.jsonl").write_text('{"file_name": "nothing.bvh", "text": "walks"}')
    with pytest.raises(ValueError, match=r"metadata\.jsonl line 1: nothing\.bvh does not exist"):
        index.add(find_source(mocap, num_proc=1), encoder, progress=False)


def test_dataset_of_several_splits(encoder, procedural, tmp_path: Path) -> None:
    walk, wave = procedural.walker(30).features, procedural.waver(44).features
    data = DatasetDict(train=table([row("a", walk, ["walks"])]), test=table([row("b", wave, ["waves", "waves"])]))
    index = build_index(tmp_path / "index", find_source(data), encoder, progress=False)
    assert ids(index) == ["a", "b"]
    assert index.caption_dataset["text"][:] == ["walks", "waves"]
    [[found]] = index.find_similar(np.stack([encoder.encode_motions([wave])[0].features]), top_k=1)
    [hit] = index.motion_hits([found])
    assert (hit["id"], hit["file"], hit["captions"]) == ("b", None, ["waves"])
    assert hit["score"] == pytest.approx(1.0, abs=1e-3)
    data.save_to_disk(str(tmp_path / "saved"))
    assert len(find_source(tmp_path / "saved")) == 2
    with pytest.raises(ValueError, match="column motion is missing; found id, captions"):
        find_source(table([row("a", walk, [])]).select_columns(["id", "captions"]))


def test_data_sets_load_by_name(tmp_path: Path, field_sets) -> None:
    root = field_sets.make(tmp_path / "set", "kit-ml")
    source = find_source("kit-ml", path=root, num_proc=1, cache_dir=tmp_path / "cache", progress=False)
    assert (source.name, len(source)) == ("kit-ml", 20)
    [clips] = source.clips((), 100)
    assert {clip.motion.shape[1] for clip in clips} == {251}
    assert clips[0].captions == ("a person walks", "someone walks")


# ---- growth -----------------------------------------------------------------------------------------------


def counting(encoder: MotionTextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records how many motions each call encodes."""
    calls: list[int] = []
    encode = encoder.encode_motions

    def counted(motions):
        calls.append(len(motions))
        return encode(motions)

    monkeypatch.setattr(encoder, "encode_motions", counted)
    return calls


def test_only_new_files_are_encoded(index, mocap: Path, encoder, procedural, monkeypatch) -> None:
    calls = counting(encoder, monkeypatch)
    assert index.add(FolderSource(mocap, num_proc=1), encoder, progress=False) == 0
    procedural.walker(40, speed=0.5).save(mocap / "slow.bvh")
    assert index.add(FolderSource(mocap, num_proc=1), encoder, progress=False) == 1
    assert calls == [1]
    assert ids(MotionIndex.open(index.path)) == sorted([*FILES, "slow.bvh"])
    other = mocap.with_name("others")
    other.mkdir()
    procedural.walker(44, speed=0.7).save(other / "walk.npz")  # a file with the same name in another folder
    index.add(FolderSource(other, num_proc=1), encoder, progress=False)
    assert len(index) == 6
    [found] = index.find_motions(encoder.encode_texts(["walks"]), top_k=6)
    assert {str(mocap / "walk.npz"), str(other / "walk.npz")} < {hit["file"] for hit in index.motion_hits(found)}


def test_changed_files_are_replaced_and_deleted_ones_removed(index, mocap: Path, encoder, procedural) -> None:
    changed = procedural.waver(52, side="left", text="the person waves")
    changed.save(mocap / "walk.npz")
    (mocap / "turn.bvh").unlink()
    assert index.add(FolderSource(mocap, num_proc=1), encoder, progress=False) == 1
    for opened in (index, MotionIndex.open(index.path)):
        assert ids(opened) == ["gestures/wave.bvh", "gestures/wave_left.npy", "walk.npz"]
        assert (len(opened), opened.num_captions) == (3, 1)
        features = np.stack([encoder.encode_motions([changed.features])[0].features])
        for exact in (False, True):
            [found] = opened.find_similar(features, top_k=9, exact=exact)
            assert len(found) == 3
            assert opened.motion_hits(found)[0]["id"] == "walk.npz"
            assert found[0].score == pytest.approx(1.0, abs=1e-3)
            [captions] = opened.find_captions(features, exact=exact)
            assert [hit["captions"] for hit in opened.caption_hits(captions)] == [["the person waves"]]


def test_interrupted_build_resumes(encoder, procedural, tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(index_module, "ROWS_PER_FILE", 4)
    rows = [row(f"clip {k}", procedural.walker(24 + k).features, [f"walks {k}"]) for k in range(10)]
    source = DatasetSource(table(rows))
    encode, calls = encoder.encode_motions, []

    def failing(motions):
        calls.append(len(motions))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(motions)

    monkeypatch.setattr(encoder, "encode_motions", failing)
    index = MotionIndex.create(tmp_path / "index", encoder)
    with pytest.raises(KeyboardInterrupt):
        index.add(source, encoder, progress=False)
    (index.path / "motions" / "00002.arrow").write_bytes(b"half a file")
    with caplog.at_level(logging.WARNING):
        opened = MotionIndex.open(index.path)
    assert "the index is unfinished (8 motions)" in caplog.text
    assert len(opened.find_motions(encoder.encode_texts(["walks"]), top_k=20)[0]) == 8  # it can be searched
    assert index.add(source, encoder, progress=False) == 2  # and the interrupted object can continue
    assert calls == [4, 4, 2, 2]
    caplog.clear()
    whole = MotionIndex.open(index.path)
    assert not caplog.records
    assert len(whole) == whole.num_captions == 10


def test_unreadable_files_are_reported(mocap: Path, encoder, tmp_path: Path, caplog) -> None:
    (mocap / "bad.bvh").write_text("nonsense")
    np.save(mocap / "short.npy", np.zeros((4, 22, 3), np.float32) + np.arange(22)[None, :, None])
    np.save(mocap / "kit.npy", np.random.default_rng(0).normal(size=(20, 251)).astype(np.float32))
    with pytest.raises(MotionFormatError, match="1 clip cannot be read"):
        build_index(tmp_path / "index", find_source(mocap, num_proc=1), encoder, progress=False)
    with caplog.at_level(logging.WARNING):
        source = find_source(mocap, num_proc=1, skip_bad=True)
        index = build_index(tmp_path / "index", source, encoder, progress=False)
    assert ids(index) == FILES
    assert "kit.npy: skipped, its frames have 251 features, but the model expects 263" in caplog.text
    assert "short.npy: skipped, it has 3 frames; the model needs at least 4" in caplog.text


def test_concurrent_builds_wait_for_each_other(index: MotionIndex, mocap: Path, encoder, procedural, caplog) -> None:
    other, third = MotionIndex.open(index.path), MotionIndex.open(index.path)
    procedural.walker(40, speed=0.5).save(mocap / "slow.bvh")
    index.add(FolderSource(mocap, num_proc=1), encoder, progress=False)
    # Changes since it was opened are read again, and nothing is written if nothing is new.
    before = (index.path / "index.json").stat().st_mtime_ns
    assert other.add(FolderSource(mocap, num_proc=1), encoder, progress=False) == 0
    assert (len(other), len(third)) == (5, 4)
    assert (index.path / "index.json").stat().st_mtime_ns == before
    procedural.walker(44, speed=0.7).save(mocap / "fast.bvh")
    with ThreadPoolExecutor() as pool, folder_lock(index.path, busy="", wait=False):
        added = pool.submit(third.add, FolderSource(mocap, num_proc=1), encoder, progress=False)
        with pytest.raises(TimeoutError):
            added.result(timeout=2.5)
        assert "another process is adding motions to this index; waiting for it" in caplog.text
    assert added.result() == 1
    assert len(MotionIndex.open(index.path)) == 6


# ---- search -----------------------------------------------------------------------------------------------


def expected(index: MotionIndex, encoder: MotionTextEncoder, text: np.ndarray) -> np.ndarray:
    motions = torch.from_numpy(index.features.take(np.arange(len(index.dataset))))
    return encoder.model.similarity(motions, torch.from_numpy(text)).numpy()


@pytest.mark.parametrize("exact", [False, True])
def test_texts_find_motions_by_the_best_query(many: MotionIndex, encoder, exact: bool) -> None:
    text = encoder.encode_texts(TEXTS)
    similarity = expected(many, encoder, text)
    for column, found in enumerate(many.find_motions(text, top_k=7, exact=exact)):
        order = np.argsort(-similarity[:, column])[:7]
        assert [row for row, _ in found] == order.tolist()
        np.testing.assert_allclose([score for _, score in found], similarity[order, column], atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_motions_find_captions_by_the_best_query(many: MotionIndex, encoder, exact: bool) -> None:
    features = many.features.take(np.array([3, 30])).astype(np.float32)
    texts = many.caption_dataset["text"][:]
    assert sorted(texts) == sorted(["walks", *(f"walks {k}" for k in range(40))])  # each once
    stored = np.array(many.caption_dataset["features"][:], np.float32)
    np.testing.assert_allclose(stored, encoder.encode_texts(texts), atol=1e-3)
    for number, found in enumerate(many.find_captions(features, top_k=5, exact=exact)):
        scores = (features[number] @ stored.T).max(0)
        assert [row for row, _ in found] == np.lexsort((np.arange(41), -scores))[:5].tolist()
        for hit in many.caption_hits(found):
            [text] = hit["captions"]
            assert hit["id"] == ("clip 0" if text == "walks" else text.replace("walks", "clip"))


@pytest.mark.parametrize("exact", [False, True])
def test_motions_find_similar_motions(many: MotionIndex, exact: bool) -> None:
    rows = np.arange(0, 40, 7)
    features = many.features.take(rows).astype(np.float32)
    scores = np.einsum("aqp,bqp->ab", features, many.features.take(np.arange(40)).astype(np.float32)) / 4
    scores = scores.clip(max=1.0)  # half precision rounds some values up
    for number, found in enumerate(many.find_similar(features, top_k=3, exact=exact)):
        assert [score for _, score in found] == pytest.approx(np.sort(scores[number])[::-1][:3], abs=1e-5)
        assert found[0].score == pytest.approx(1.0, abs=1e-3)
        for row, score in found:
            assert score == pytest.approx(scores[number, row], abs=1e-5)


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_any_number_of_vectors_per_motion(many: MotionIndex, encoder, tmp_path: Path, vectors: int) -> None:
    shutil.copytree(many.path, tmp_path / "copy")
    state = json.loads((tmp_path / "copy" / "index.json").read_text())
    del state["checksum"]
    changed = state | {"vectors_per_motion": vectors, "groups": None}
    (tmp_path / "copy" / "index.json").write_text(index_module._written(changed))
    (tmp_path / "copy" / "motions.faiss").unlink()
    text = encoder.encode_texts(TEXTS)
    assert MotionIndex.open(tmp_path / "copy").find_motions(text) == many.find_motions(text)


def test_empty_index(encoder, tmp_path: Path) -> None:
    empty = MotionIndex.create(tmp_path / "empty", encoder, vectors_per_motion=2)
    assert (len(empty), empty.num_captions, empty.vectors_per_motion) == (0, 0, 2)
    assert empty.find_motions(encoder.encode_texts(TEXTS)) == [[], [], []]
    assert empty.find_motions(encoder.encode_texts(TEXTS), exact=True) == [[], [], []]
    for wrong in (0, 5):
        with pytest.raises(ValueError, match=f"vectors_per_motion={wrong}: expected 1 to 4"):
            MotionIndex.create(tmp_path / "new", encoder, vectors_per_motion=wrong)


# ---- whose vectors they are -------------------------------------------------------------------------------


def test_index_of_another_checkpoint_is_refused(
    index: MotionIndex, mocap: Path, encoder, tiny_checkpoint: Path
) -> None:
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)
    same = MotionTextEncoder(model, encoder.processor)
    assert same.fingerprint == encoder.fingerprint
    index.check(same)
    with torch.no_grad():
        model.lamp.query_tokens[0, 0, 0] += 1e-3
    other = MotionTextEncoder(model, encoder.processor)
    with pytest.raises(IndexMismatchError, match=r"was made with tiny \(hash [0-9a-f]{12}\), but this model is tiny"):
        index.check(other)
    with pytest.raises(IndexMismatchError):
        index.add(FolderSource(mocap, num_proc=1), other, progress=False)
    with pytest.raises(IndexMismatchError):
        open_index(index.path, other)
    extractor = lamp_hf.LampFeatureExtractor(std=[0.2] * 263)
    processor = lamp_hf.LampProcessor(extractor, encoder.processor.tokenizer)
    assert MotionTextEncoder(encoder.model, processor).fingerprint != encoder.fingerprint


def test_fingerprint_depends_only_on_lamp(encoder, tmp_path: Path) -> None:
    encoder.model.lamp.save_pretrained(tmp_path / "lamp-alone")
    alone = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tmp_path / "lamp-alone")
    again = MotionTextEncoder(alone, encoder.processor)
    assert again.fingerprint == encoder.fingerprint
    assert (again.name, encoder.name) == ("lamp-alone", "tiny")


def test_damage_is_reported(index: MotionIndex, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not a motion index \(index\.json is missing\)"):
        MotionIndex.open(tmp_path)
    state = json.loads((index.path / "index.json").read_text())
    (index.path / "index.json").write_text(json.dumps(state | {"format": 99}))
    with pytest.raises(MotionIndexError, match="has format 99, but this version reads format 2; delete the folder"):
        MotionIndex.open(index.path)
    for content in (
        b"",
        b'{"format": ',
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(state | {"groups": []}).encode(),
    ):
        (index.path / "index.json").write_bytes(content)
        with pytest.raises(MotionIndexError, match=r"is damaged \(.*index\.json.*rebuild the index with"):
            MotionIndex.open(index.path)


@pytest.mark.parametrize("name", ["motions/00000.arrow", "captions/00000.arrow", "motions.faiss", "captions.faiss"])
def test_no_damaged_file_is_read(many: MotionIndex, encoder, name: str, caplog) -> None:
    text = encoder.encode_texts(TEXTS)
    found = many.find_motions(text)
    path = many.path / name
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    flipped = [bytearray(content) for _ in range(8)]
    for damaged in flipped:
        place = rng.integers(len(content))
        damaged[place] ^= int(rng.integers(1, 256))
    for damaged in (b"", content[:-1], content[:100], content + b"x", bytes(len(content)), *flipped):
        path.write_bytes(damaged)
        if path.suffix == ".faiss":  # it is built from the rows, so it is rebuilt
            caplog.clear()
            opened = MotionIndex.open(many.path)
            assert opened.find_motions(text) == found
            opened.find_captions(opened.features.take(np.arange(1)))
            assert f"{path}: the file is damaged or was replaced" in caplog.text
        else:
            with pytest.raises(MotionIndexError, match=rf"{name}: the file is damaged.*rebuild the index"):
                MotionIndex.open(many.path)
    path.unlink()
    if path.suffix == ".faiss":
        assert MotionIndex.open(many.path).find_motions(text) == found
    else:
        with pytest.raises(MotionIndexError, match=f"{name}: the file is missing"):
            MotionIndex.open(many.path)


def test_damaged_cached_index_is_rebuilt(mocap: Path, cache: Path, encoder, caplog) -> None:
    first = open_index(mocap, encoder, num_proc=1, progress=False)
    found = first.find_motions(encoder.encode_texts(TEXTS))
    for name in ("motions/00000.arrow", "index.json"):
        (first.path / name).write_bytes(b"nonsense")
        caplog.clear()
        again = open_index(mocap, encoder, num_proc=1, progress=False)
        assert again.find_motions(encoder.encode_texts(TEXTS)) == found
        assert f"{name}: " in caplog.text
        assert "rebuilding a cached index" in caplog.text


def test_damaged_cached_clip_is_converted_again(mocap: Path, cache: Path, encoder, tmp_path, caplog) -> None:
    first = build_index(tmp_path / "a", FolderSource(mocap, num_proc=1), encoder, progress=False)
    clips = sorted((cache / "clips").rglob("*.npy"))
    contents = [clip.read_bytes() for clip in clips]
    clips[0].write_bytes(b"")
    clips[1].write_bytes(contents[1][:-50])
    clips[2].write_bytes(contents[2][:500] + bytes([contents[2][500] ^ 1]) + contents[2][501:])
    again = build_index(tmp_path / "b", FolderSource(mocap, num_proc=1), encoder, progress=False)
    assert again.dataset["features"][:] == first.dataset["features"][:]
    assert [clip.read_bytes() for clip in clips] == contents
    assert all(f"converting again: {clip}: the cached clip is damaged" in caplog.text for clip in clips[:3])


def test_folder_in_use_is_not_overwritten(index: MotionIndex, mocap: Path, encoder) -> None:
    for path in (index.path, mocap):
        with pytest.raises(FileExistsError, match="the folder is not empty"):
            MotionIndex.create(path, encoder)


# ---- what names an index ----------------------------------------------------------------------------------


def test_folders_are_indexed_in_the_cache_and_kept_up_to_date(mocap, cache, encoder, procedural, monkeypatch) -> None:
    calls = counting(encoder, monkeypatch)
    first = open_index(mocap, encoder, num_proc=1, progress=False)
    assert cache in first.path.parents
    again = open_index(str(mocap), encoder, num_proc=1, progress=False)
    assert (again.path, calls) == (first.path, [4])
    procedural.walker(40, speed=0.5).save(mocap / "slow.bvh")
    assert len(open_index(mocap, encoder, num_proc=1, progress=False)) == 5
    assert open_index(again, encoder) is again
    assert open_index(first.path, encoder).path == first.path
    data = table([row("a", procedural.walker(30).features, [])])
    made = open_index(data, encoder, progress=False)
    number = len(calls)
    assert open_index(data, encoder, progress=False).path == made.path
    assert len(calls) == number
    (made.path / "index.json").write_text(
        json.dumps(json.loads((made.path / "index.json").read_text()) | {"complete": False})
    )
    assert open_index(data, encoder, progress=False).complete
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; expected a folder of motion"):
        open_index("nowhere", encoder)
    (mocap / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no motion files"):
        open_index(mocap / "empty", encoder)

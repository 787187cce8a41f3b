"""The protocols on tiny models: definitions, references, and equal results with several processes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import pipeline

import lamp_hf
from lamp_hf.data.schema import motion_features
from lamp_hf.evaluation.protocols.captioning import evaluate_captioning_protocol
from lamp_hf.evaluation.protocols.common import EvaluationSet, derangement
from lamp_hf.evaluation.protocols.reconstruction import evaluate_reconstruction_protocol
from lamp_hf.evaluation.protocols.released import parts_of_clips
from lamp_hf.evaluation.protocols.retrieval import PROTOCOLS, Reranker, evaluate_retrieval_protocols, released_scores
from lamp_hf.evaluation.protocols.text_to_motion import evaluate_text_to_motion_protocols
from lamp_hf.evaluation.records import EvaluationRecord
from lamp_hf.metrics.embedder import Embedder
from lamp_hf.metrics.functional.embeddings import embedding_similarity, frechet_distance
from lamp_hf.metrics.functional.reconstruction import reconstruct
from lamp_hf.metrics.functional.sentences import BertScorer
from lamp_hf.motion.motion import Motion
from lamp_hf.retrieval.encoder import MotionTextEncoder

CLIPS = 34


@pytest.fixture(scope="module")
def data(procedural) -> EvaluationSet:
    rng = np.random.default_rng(0)
    verbs = ("walks", "waves", "bows")
    rows = []
    for number in range(CLIPS):
        frames = int(rng.integers(13, 41))
        make = procedural.waver if number % 3 == 1 else procedural.walker
        motion = make(frames, **({} if number % 3 == 1 else {"speed": 0.3 + 0.05 * number}))
        # No two clips have the same first caption.
        texts = [f"person {verbs[number % 3]} {chr(97 + number % 26)} {chr(97 + number // 26)}", "the person walks"]
        rows.append(procedural.row(f"clip_{number}", motion, texts))
    dataset = Dataset.from_list(rows, features=motion_features())
    return EvaluationSet.from_dataset(dataset, "procedural", "validation")


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path) -> MotionTextEncoder:
    model = lamp_hf.LampForMotionTextRetrieval.from_pretrained(tiny_checkpoint)
    return MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint))


@pytest.fixture(scope="module")
def evaluator(encoder: MotionTextEncoder) -> Embedder:
    return Embedder(encoder.model, encoder.processor)


def test_derangement_moves_every_item() -> None:
    for count in (2, 3, 50):
        order = derangement(count, np.random.default_rng(count))
        assert sorted(order) == list(range(count))
        assert (order != np.arange(count)).all()


def test_evaluation_set_describes_itself(data: EvaluationSet) -> None:
    assert len(data) == CLIPS
    assert (data.split, data.fps) == ("validation", 20.0)
    assert data.groups == data.first_captions  # there are no labels
    assert data.digest != EvaluationSet(**{**vars_of(data), "captions": data.captions[::-1]}).digest
    assert max(len(motion.features) for motion in data.motions) <= 196


def vars_of(data: EvaluationSet) -> dict:
    return {name: getattr(data, name) for name in EvaluationSet.__dataclass_fields__}


def test_reconstruction(data: EvaluationSet, encoder: MotionTextEncoder) -> None:
    tokenizer, extractor = encoder.model.lamp.motion_vqvae, encoder.processor.feature_extractor
    record = evaluate_reconstruction_protocol("tiny", tokenizer, extractor, data, repeats=3)
    assert set(record.references) == {"real motions", "another clip"}
    assert record.references["real motions"]["mpjpe_mm"].value == 0.0
    assert record.references["another clip"]["mpjpe_mm"].value > 10
    assert record.references["another clip"]["mpjpe_mm"].interval > 0
    assert 0 < record.rows["tiny"]["codebook_use"].value <= 1
    assert record.rows["tiny"]["mpjpe_mm"].interval is None
    assert (record.protocol.n, record.protocol.split) == (CLIPS, "validation")


def test_reconstruction_on_an_evaluators_features(
    data: EvaluationSet, encoder: MotionTextEncoder, evaluator: Embedder
) -> None:
    tokenizer, extractor = encoder.model.lamp.motion_vqvae, encoder.processor.feature_extractor
    short = EvaluationSet(**{**vars_of(data), "clips": [data.clips[0][:3], *data.clips[1:]]})  # less than a token
    record = evaluate_reconstruction_protocol("tiny", tokenizer, extractor, short, evaluator=evaluator, repeats=2)
    rebuilt = reconstruct(tokenizer, extractor, short.clips)
    made = {each.place: Motion(features=each.features, fps=20.0) for each in rebuilt}
    assert sorted(made) == list(range(1, CLIPS))
    assert all(len(motion.features) == len(data.clips[k]) // 4 * 4 for k, motion in made.items())
    motions = [made[place] for place in range(1, CLIPS)]
    assert record.rows["tiny"]["fid"].value == pytest.approx(
        frechet_distance(evaluator.motions(motions), evaluator.motions(short.motions[1:])), rel=1e-4
    )
    assert record.protocol.evaluator == encoder.name
    assert record.protocol.settings == {"pool_size": 32, "diversity_pairs": CLIPS - 1}
    real, other = record.references["real motions"], record.references["another clip"]
    assert real["fid"].value == pytest.approx(0.0, abs=1e-6)
    assert real["mpjpe_mm"].value == 0.0
    assert other["r_precision_3"].interval is not None
    assert "fid" not in other
    with pytest.raises(ValueError, match="34 pairs do not fill a pool of 40"):
        evaluate_reconstruction_protocol("tiny", tokenizer, extractor, data, evaluator=evaluator, pool_size=40)


def test_retrieval_has_caption_and_chance_references(data: EvaluationSet, encoder: MotionTextEncoder) -> None:
    options = {"protocols": PROTOCOLS, "rerank": 5, "repeats": 4, "dissimilar_size": 10}
    records = evaluate_retrieval_protocols("tiny", encoder, data, **options)
    names = ["all", "threshold", "dissimilar", "small_batches", "released"]
    assert [record.protocol.name for record in records] == names
    by_name = {record.protocol.name: record for record in records}
    whole = by_name["all"]
    motions = np.stack([motion.features for motion in encoder.encode_motions(data.clips)])
    similarity = embedding_similarity(motions, encoder.encode_texts(data.first_captions))
    ranks = (similarity > similarity.diagonal()[None]).sum(0)
    assert whole.rows["tiny"]["text_to_motion_r5"].value == pytest.approx((ranks < 5).mean())
    assert whole.references["captions"]["motion_to_text_r1"].value == 1.0  # no two captions are equal
    assert whole.references["chance"]["text_to_motion_r10"].value == pytest.approx(10 / CLIPS, abs=0.2)
    assert whole.references["chance"]["text_to_motion_r10"].interval > 0
    assert list(whole.rows) == ["tiny", "tiny + re-ranking of 5"]
    assert by_name["small_batches"].rows["tiny"]["text_to_motion_r1"].interval is not None
    assert by_name["small_batches"].protocol.settings == {"pool_size": 32}
    loose, strict = (by_name[name].rows["tiny"]["text_to_motion_r10"].value for name in ("threshold", "all"))
    assert loose >= strict
    released = by_name["released"]
    assert list(released.rows) == ["tiny"]
    assert released.protocol.settings == {"clips": 32, "pool_size": 32, "diversity_pairs": 32}
    parts = [part.features for part in parts_of_clips(data.at(range(32)), 2)]
    vectors = encoder.released_motion_vectors(parts), encoder.released_text_vectors(data.first_captions[:32])
    expected = released_scores(*vectors, 2)
    [again] = evaluate_retrieval_protocols("tiny", encoder, data, protocols=("released",), repeats=1, seed=2)
    assert {metric: score.value for metric, score in again.rows["tiny"].items()} == pytest.approx(expected, rel=1e-5)
    assert released.references["chance"]["motion_to_text_r10"].value == pytest.approx(10 / 32, abs=0.2)
    with pytest.raises(ValueError, match="34 pairs are too few for a dissimilar subset of 100"):
        evaluate_retrieval_protocols("tiny", encoder, data, protocols=("dissimilar",))


def test_re_ranking_uses_the_matching_head(data: EvaluationSet, encoder: MotionTextEncoder) -> None:
    motions, captions = encoder.encode_motions(data.clips), data.first_captions
    table = embedding_similarity(np.stack([m.features for m in motions]), encoder.encode_texts(captions)).T
    pool = np.arange(CLIPS)
    ordered = Reranker(encoder, motions, captions, 3)("text_to_motion", pool, table)
    best = np.argsort(-table[0])[:3]
    scores = encoder.rerank_scores(table[0, best], [motions[row].latents for row in best], [captions[0]] * 3)
    assert np.argsort(-ordered[0])[:3].tolist() == best[np.argsort(-scores)].tolist()
    assert np.array_equal(np.argsort(-ordered[0])[3:], np.argsort(-table[0])[3:])


def test_text_to_motion_scores_generated_real_and_shuffled_motions(
    data: EvaluationSet, tiny_checkpoint: Path, evaluator: Embedder
) -> None:
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")
    captioner = pipeline("motion-captioning", model=str(tiny_checkpoint), device="cpu")

    def run() -> list:
        return evaluate_text_to_motion_protocols(
            "tiny",
            pipe,
            data,
            evaluator=evaluator,
            captioner=captioner,
            repeats=2,
            multimodality_texts=2,
            multimodality_motions=10,
        )

    records = {record.protocol.name: record for record in run()}
    table = records["humanml3d"]
    made, real = table.rows["tiny"], table.references["real motions"]
    assert real["fid"].value == pytest.approx(0.0, abs=1e-6)
    assert made["fid"].value > real["fid"].value
    assert made["multimodality"].value > 0
    assert made["r_precision_1"].interval is not None
    assert table.references["shuffled captions"].keys() == {
        "r_precision_1",
        "r_precision_2",
        "r_precision_3",
        "mm_dist",
    }
    assert table.protocol.settings["diversity_pairs"] == CLIPS
    assert table.protocol.evaluator_hash
    texts = evaluator.texts(data.first_captions)
    distance = np.linalg.norm(evaluator.motions(data.motions) - texts, axis=1).mean()
    assert real["mm_dist"].value == pytest.approx(distance, abs=1e-5)

    score = records["lamp-bertscore"]
    said = [answers[0]["caption"] for answers in captioner(data.motions)]
    expected = BertScorer()(said, data.captions).f1.mean()
    assert score.references["real motions"]["lamp_bertscore"].value == pytest.approx(expected, abs=1e-6)
    assert set(score.references) == {"real motions", "shuffled captions"}
    physics = records["physics"]
    assert physics.references["real motions"]["jitter_m_per_s3"].value == pytest.approx(
        np.mean([motion.jitter() for motion in data.motions])
    )
    assert {record.protocol.name: record for record in run()} == records  # the seed determines the result


def test_evaluator_without_text_branch_scores_motions_only(
    data: EvaluationSet, tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The released evaluator, for example, reads GloVe vectors."""
    torch.manual_seed(0)
    sizes = {"movement_hidden_size": 8, "movement_size": 8, "motion_hidden_size": 8, "text_hidden_size": 8}
    config = lamp_hf.MotionTextEvaluatorConfig(text_input="glove", projection_dim=8, **sizes)
    evaluator = Embedder(lamp_hf.MotionTextEvaluatorModel(config), lamp_hf.LampFeatureExtractor())
    pipe = pipeline("text-to-motion", model=str(tiny_checkpoint), device="cpu")
    options = {"evaluator": evaluator, "repeats": 1, "multimodality_texts": 1, "multimodality_motions": 10}
    [record] = evaluate_text_to_motion_protocols("tiny", pipe, data, protocols=("humanml3d",), **options)
    assert set(record.rows["tiny"]) == {"fid", "diversity", "multimodality"}
    assert {row: set(values) for row, values in record.references.items()} == {"real motions": {"fid", "diversity"}}
    assert "cannot embed sentences: R-Precision and MM-Dist are left out" in caplog.text
    with pytest.raises(ValueError, match="cannot embed sentences: an evaluator that was converted without its GloVe"):
        evaluate_captioning_protocol("tiny", None, data, evaluator=evaluator)


def test_text_to_motion_refuses_invalid_requests(data: EvaluationSet) -> None:
    pipe = None
    with pytest.raises(ValueError, match="humanml3d needs an evaluator"):
        evaluate_text_to_motion_protocols("tiny", pipe, data)
    with pytest.raises(ValueError, match="lamp-bertscore needs a captioner"):
        evaluate_text_to_motion_protocols("tiny", pipe, data, protocols=("lamp-bertscore",))
    with pytest.raises(ValueError, match="protocol='guo' is unknown"):
        evaluate_text_to_motion_protocols("tiny", pipe, data, protocols=("guo",))


def test_captioning_has_ground_truth_and_other_clip_references(
    data: EvaluationSet, tiny_checkpoint: Path, evaluator: Embedder
) -> None:
    pipe = pipeline("motion-captioning", model=str(tiny_checkpoint), device="cpu")
    record = evaluate_captioning_protocol("tiny", pipe, data, evaluator=evaluator, repeats=2, num_beams=2)
    assert list(record.rows) == ["tiny num_beams=2"]
    truth, other = record.references["ground truth"], record.references["another clip"]
    # Caption 0 of every clip is compared with caption 1, which all clips share; captions of other clips with both.
    assert truth["rouge_l"].value <= 1.0
    assert other["bleu_1"].value > 0
    assert truth["bertscore_f1"].interval is None
    assert truth["r_precision_1"].interval is not None
    assert "content_named" not in truth  # there are no labels
    alone = EvaluationSet(**{**vars_of(data), "captions": [texts[:1] for texts in data.captions]})
    said: list[tuple[float, str]] = []
    record = evaluate_captioning_protocol(
        "tiny", pipe, alone, evaluator=evaluator, repeats=1, pool_size=16, on_estimate=lambda *what: said.append(what)
    )
    matches = {"mm_dist", "r_precision_1", "r_precision_2", "r_precision_3"}
    assert list(record.references) == ["ground truth", "another clip"]
    assert set(record.references["ground truth"]) == matches  # no other captions to compare with
    assert record.protocol.settings["pool_size"] == 16
    [(seconds, what)] = said
    assert (seconds > 0, what) == (True, "captioning 34 motions")


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_as_one(
    data: EvaluationSet, encoder: MotionTextEncoder, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    rows = [
        {"id": i, "motion": clip, "captions": [{"text": t, "start": 0.0, "end": 0.0} for t in texts], "source": "x"}
        | {"fps": 20.0, "num_frames": len(clip), "content": "", "style": "", "mirrored": False}
        for i, clip, texts in zip(data.ids, data.clips, data.captions, strict=True)
    ]
    saved = tmp_path / "data"
    split = Dataset.from_list(rows, features=motion_features())
    DatasetDict({"validation": split}).save_to_disk(saved)
    # `accelerate launch --cpu --num_processes 2` starts one process, and leaves the second to mpirun.
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["-m", "lamp_hf", "evaluate", "retrieval", str(tiny_checkpoint), "--data", str(saved), "-p", "all"]
    command += ["--rerank", "3", "--repeats", "2", "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved ") == 1
    together = EvaluationRecord.load(tmp_path / f"retrieval-all-{tiny_checkpoint.name}.json")
    [alone] = evaluate_retrieval_protocols("tiny", encoder, data, protocols=("all",), rerank=3, repeats=2)
    assert list(together.rows.values()) == list(alone.rows.values())

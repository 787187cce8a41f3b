"""Text-to-motion protocols: motions generated for the captions of a split, with real motions as a reference."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional.retrieval import RANKS, pool_recall, require_pool
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, BertScorer
from lamp_hf.motion.motion import Motion
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, derangement, estimate, shown_name, spread

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

__all__ = ["POOL_SIZE", "PROTOCOLS", "evaluate_text_to_motion_protocols", "generate_for_clips", "misfits"]

logger = logging.getLogger(__name__)

VERSION = 1
PROTOCOLS = ("humanml3d", "lamp-bertscore", "physics")
POOL_SIZE = 32
DIVERSITY_PAIRS = 300
MULTIMODALITY_PAIRS = 10
REAL, SHUFFLED = "real motions", "shuffled captions"

Rows = dict[str, dict[str, float]]


def evaluate_text_to_motion_protocols(
    name: str,
    pipe: "TextToMotionPipeline",
    data: EvaluationSet,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    evaluator: "Embedder | None" = None,
    captioner: "MotionCaptioningPipeline | None" = None,
    repeats: int = 20,
    seed: int = 0,
    multimodality_texts: int = 100,
    multimodality_motions: int = 30,
    pool_size: int = POOL_SIZE,
    on_estimate: OnEstimate | None = None,
) -> list[EvaluationRecord]:
    """Generate a motion for caption 0 of every clip, of the clip's length, and score the motions, for each repeat.

    - "humanml3d" is the protocol of Guo et al. (2022): R-Precision in pools of 32, FID, MM-Dist, Diversity over 300
      pairs (or as many as there are clips) and MultiModality, on the features of `evaluator`. In R-Precision, clips
      with equal labels, or with equal captions if there are no labels, count as right answers for each other.
    - "lamp-bertscore" captions the generated motions and compares the captions with all captions of the clip. Prefer a
      captioner that does not share weights with the model.
    - "physics" measures foot skating and jitter.

    The reference "real motions" scores the clips themselves. "shuffled captions" scores the generated motions with the
    captions of other clips, in metrics that use captions.

    Args:
        name: Name of the checkpoint.
        pipe: Pipeline with the checkpoint.
        data: The clips.
        protocols: Protocols to run on the same generated motions.
        evaluator: Required by "humanml3d". If it cannot embed sentences, R-Precision and MM-Dist are left out.
        captioner: Required by "lamp-bertscore".
        repeats: Number of times that motions are generated, and pools and pairs are drawn.
        seed: Repeat r generates the motion of clip i with the seed `seed + r · N + i`.
        multimodality_texts: Number of texts for MultiModality, drawn in every repeat, at most one per clip. With 0,
            MultiModality is left out.
        multimodality_motions: Number of motions for each of these texts.
        pool_size: Pairs in a pool of R-Precision. Smaller pools are easier, and their scores are not comparable.
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record for each protocol.

    Raises:
        ValueError: A protocol is unknown or has no evaluator or captioner, or there are too few clips.
    """
    _check(protocols, evaluator, captioner, multimodality_texts, multimodality_motions)
    for reason in misfits(protocols, data, pool_size=pool_size).values():
        raise ValueError(reason)
    every = [(clip, seed + clip) for clip in range(len(data))]
    many = min(multimodality_texts, len(data)) * multimodality_motions if "humanml3d" in protocols else 0
    total = repeats * (len(data) + many)
    estimate(
        on_estimate, every, lambda jobs: generate_for_clips(pipe, data, jobs), total, f"generating {total:,} motions"
    )
    judges: dict[str, Callable[[list[Motion], int], Rows]] = {}
    if "humanml3d" in protocols:
        assert evaluator is not None
        texts = min(multimodality_texts, len(data))
        judges["humanml3d"] = FeatureJudge(pipe, data, evaluator, texts, multimodality_motions, pool_size, seed)
    if "lamp-bertscore" in protocols:
        assert captioner is not None
        judges["lamp-bertscore"] = CaptionJudge(data, captioner, seed)
    if "physics" in protocols:
        judges["physics"] = _physics(data)

    found: dict[str, list[Rows]] = {protocol: [] for protocol in protocols}
    for repeat in range(repeats):
        jobs = [(clip, seed + repeat * len(data) + clip) for clip in range(len(data))]
        motions = generate_for_clips(pipe, data, jobs)
        for protocol in protocols:
            found[protocol].append(judges[protocol](motions, repeat))

    model_hash = weights_digest(pipe.model)
    records = []
    for protocol in protocols:
        rows = {
            name if row == "" else row: Estimate.of_rows([scores[row] for scores in found[protocol]])
            for row in found[protocol][0]
        }
        judge = judges[protocol]
        judged_by = judge if isinstance(judge, FeatureJudge | CaptionJudge) else None
        records.append(
            EvaluationRecord(
                model=name,
                model_hash=model_hash,
                lamp_hf=__version__,
                protocol=Protocol(
                    "text-to-motion",
                    protocol,
                    VERSION,
                    judged_by.name if judged_by else None,
                    judged_by.digest if judged_by else None,
                    data.name,
                    data.digest,
                    data.split,
                    len(data),
                    repeats,
                    seed,
                    judged_by.settings if judged_by else {},
                ),
                rows={name: rows.pop(name)},
                references=rows,
            )
        )
    return records


def misfits(protocols: Sequence[str], data: EvaluationSet, *, pool_size: int = POOL_SIZE) -> dict[str, str]:
    """Return the protocols for which the data set is too small, each with the reason."""
    found = {}
    if "humanml3d" in protocols:
        try:
            require_pool(len(data), pool_size)
        except ValueError as error:
            found["humanml3d"] = str(error)
    if "lamp-bertscore" in protocols and len(data) < 2:
        found["lamp-bertscore"] = "captions cannot be shuffled among fewer than two clips; use at least 2"
    return found


def _check(
    protocols: Sequence[str],
    evaluator: "Embedder | None",
    captioner: "MotionCaptioningPipeline | None",
    texts: int,
    motions: int,
) -> None:
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol={protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    if "humanml3d" in protocols:
        if evaluator is None:
            raise ValueError("the protocol humanml3d needs an evaluator; pass evaluator=… (--evaluator)")
        if texts and motions < MULTIMODALITY_PAIRS:
            raise ValueError(
                f"MultiModality over {MULTIMODALITY_PAIRS} pairs needs at least {MULTIMODALITY_PAIRS} motions per "
                f"text, got {motions}; increase multimodality_motions (--multimodality-motions)"
            )
    if "lamp-bertscore" in protocols and captioner is None:
        raise ValueError("the protocol lamp-bertscore needs a captioner; pass captioner=… (--captioner)")


def generate_for_clips(pipe: "TextToMotionPipeline", data: EvaluationSet, jobs: list[tuple[int, int]]) -> list[Motion]:
    """Generate a motion for each pair of clip and seed, with the clip's caption and length."""
    from lamp_hf.pipelines.text_warnings import for_measurement

    captions, size = data.first_captions, pipe.frames_per_token

    def work(some: list[tuple[int, int]]) -> list[Motion]:
        # Motions of similar length share a batch. The result for a seed does not depend on the rest of the batch.
        order = sorted(range(len(some)), key=lambda place: len(data.motions[some[place][0]].features))
        with for_measurement():
            results: Any = pipe(
                [captions[some[place][0]] for place in order],
                num_frames=[max(size, len(data.motions[some[place][0]].features) // size * size) for place in order],
                seed=[some[place][1] for place in order],
                batch_size=32,
            )
        made = dict(zip(order, (result["motion"] for result in results), strict=True))
        return [made[place] for place in range(len(some))]

    return spread(jobs, work)


class FeatureJudge:
    """R-Precision, MM-Dist, FID, Diversity and MultiModality on an evaluator's features."""

    def __init__(
        self,
        pipe: "TextToMotionPipeline",
        data: EvaluationSet,
        evaluator: "Embedder",
        num_texts: int,
        num_motions: int,
        pool_size: int,
        seed: int,
    ):
        self.name = shown_name(evaluator.name)
        self.digest = weights_digest(evaluator.model)
        self.settings = {
            "pool_size": pool_size,
            "diversity_pairs": min(DIVERSITY_PAIRS, len(data)),
            "multimodality_texts": num_texts,
            "multimodality_motions": num_motions if num_texts else 0,
            "multimodality_pairs": MULTIMODALITY_PAIRS if num_texts else 0,
        }
        self._pipe, self._data, self._evaluator, self._seed = pipe, data, evaluator, seed
        self._texts: np.ndarray | None = None
        if evaluator.reads_sentences:
            self._texts = np.stack(spread(data.first_captions, lambda some: list(evaluator.texts(some))))
        else:
            logger.warning("%s cannot embed sentences: R-Precision and MM-Dist are left out.", self.name)
        self._real = self._embed(data.motions)

    def __call__(self, motions: list[Motion], repeat: int) -> Rows:
        made, seed = self._embed(motions), self._seed + repeat
        real = self._motions(self._real, seed)
        own = self._motions(made, seed) | self._multimodality(repeat)
        if self._texts is None:
            return {REAL: real, "": own}
        shuffled = self._texts[derangement(len(motions), np.random.default_rng(seed))]
        return {
            REAL: self._pairs(self._real, self._texts, seed) | real,
            SHUFFLED: self._pairs(made, shuffled, seed),
            "": self._pairs(made, self._texts, seed) | own,
        }

    def _embed(self, motions: list[Motion]) -> np.ndarray:
        return np.stack(spread(motions, lambda some: list(self._evaluator.motions(some))))

    def _pairs(self, motions: np.ndarray, texts: np.ndarray, seed: int) -> dict[str, float]:
        similarity = measures.embedding_similarity(motions, texts, "euclidean")
        recall = pool_recall(similarity, self._data.groups, pool_size=self.settings["pool_size"], repeats=1, seed=seed)
        return {
            **{f"r_precision_{k}": recall[f"text_to_motion_r{k}"] for k in RANKS},
            "mm_dist": measures.matching_distance(motions, texts),
        }

    def _motions(self, motions: np.ndarray, seed: int) -> dict[str, float]:
        pairs = min(DIVERSITY_PAIRS, len(motions))
        return {
            "fid": measures.frechet_distance(motions, self._real),
            "diversity": measures.diversity(motions, pairs, seed),
        }

    def _multimodality(self, repeat: int) -> dict[str, float]:
        texts, each = self.settings["multimodality_texts"], self.settings["multimodality_motions"]
        if not texts:
            return {}
        seed, count = self._seed + repeat, len(self._data)
        clips = np.random.default_rng(seed).choice(count, texts, replace=False)
        # These seeds are larger than those of the other generated motions.
        jobs = [
            (int(clip), self._seed + (repeat + 1) * 2**32 + place) for place, clip in enumerate(np.repeat(clips, each))
        ]
        vectors = self._embed(generate_for_clips(self._pipe, self._data, jobs)).reshape(texts, each, -1)
        return {"multimodality": measures.multimodality(vectors, MULTIMODALITY_PAIRS, seed)}


class CaptionJudge:
    """LaMP-BertScore: captions of the motions compared with the captions that they were generated for."""

    def __init__(self, data: EvaluationSet, captioner: "MotionCaptioningPipeline", seed: int):
        self._scorer = BertScorer(DEFAULT_ENCODER)
        self.name = shown_name(str(captioner.model.name_or_path))
        self.digest = weights_digest(captioner.model)
        self.settings = {"bertscore_model": self._scorer.name}
        self._references, self._captioner, self._seed = data.captions, captioner, seed
        self._real = self._score(self._caption(data.motions), self._references)

    def __call__(self, motions: list[Motion], repeat: int) -> Rows:
        order = derangement(len(motions), np.random.default_rng(self._seed + repeat))
        captions = self._caption(motions)
        return {
            REAL: self._real,
            SHUFFLED: self._score(captions, [self._references[place] for place in order]),
            "": self._score(captions, self._references),
        }

    def _caption(self, motions: list[Motion]) -> list[str]:
        return spread(motions, lambda some: [answers[0]["caption"] for answers in self._captioner(some)])

    def _score(self, captions: list[str], references: list[list[str]]) -> dict[str, float]:
        scores = self._scorer(captions, references)
        return {"lamp_bertscore": float(scores.f1.mean())}


def _physics(data: EvaluationSet) -> Callable[[list[Motion], int], Rows]:
    def scores(motions: list[Motion]) -> dict[str, float]:
        return {
            "foot_skating": float(np.mean([motion.foot_skating() for motion in motions])),
            "jitter_m_per_s3": float(np.mean([motion.jitter() for motion in motions])),
        }

    real = scores(data.motions)
    return lambda motions, _: {REAL: real, "": scores(motions)}

"""Text-to-motion protocols: motions generated for the captions of a split, with real motions as a reference."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional import embeddings as measures
from lamp_hf.metrics.functional.retrieval import require_pool
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, BertScorer
from lamp_hf.motion.motion import Motion
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, derangement, embed_motions, embed_texts, estimate, shown_name, spread
from .released import BATCH, REAL, SHUFFLED, Rows, diversity_pairs, feature_rows, in_batches, parts_of_clips

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

__all__ = [
    "DEFAULT_PROTOCOLS",
    "FEATURE_PROTOCOLS",
    "POOL_SIZE",
    "PROTOCOLS",
    "evaluate_text_to_motion_protocols",
    "generate_for_clips",
    "misfits",
]

VERSION = 1
PROTOCOLS = ("humanml3d", "released", "lamp-bertscore", "physics")
DEFAULT_PROTOCOLS = ("humanml3d", "lamp-bertscore", "physics")
POOL_SIZE = 32
DIVERSITY_PAIRS = 300
MULTIMODALITY_PAIRS = 10
# Protocols on an evaluator's features.
FEATURE_PROTOCOLS = ("humanml3d", "released")


def evaluate_text_to_motion_protocols(
    name: str,
    pipe: "TextToMotionPipeline",
    data: EvaluationSet,
    *,
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
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
    - "released" has the same metrics, measured exactly as the released code of LaMP does: batches of 32 in
      the order of the data set are the pools, and only a clip itself is a right answer; clips that do not fill a batch
      are left out; each repeat draws a part of every clip, whose length is a multiple of 4 frames and in one of three
      draws 4 frames less; Diversity has 300 pairs, or 100 if there are at most 300 clips; the texts for MultiModality
      are those of the first batches. It generates its own motions, because their lengths are drawn.
    - "lamp-bertscore" captions the generated motions and compares the captions with all captions of the clip. Prefer a
      captioner that does not share weights with the model.
    - "physics" measures foot skating and jitter.

    The reference "real motions" scores the clips themselves. "shuffled captions" scores the generated motions with the
    captions of other clips, in metrics that use captions.

    Args:
        name: Name of the checkpoint.
        pipe: Pipeline with the checkpoint.
        data: The clips.
        protocols: Protocols to run. All except "released" score the same generated motions.
        evaluator: Required by "humanml3d" and "released". If it cannot embed sentences, R-Precision and MM-Dist are
            left out. The released evaluator reads the annotations of the captions, if the data set has them.
        captioner: Required by "lamp-bertscore".
        repeats: Number of times that motions are generated, and pools and pairs are drawn.
        seed: Repeat r generates the motion of clip i with the seed `seed + r · N + i`.
        multimodality_texts: Number of texts for MultiModality, drawn in every repeat, at most one per clip; "released"
            rounds it down to whole batches, so 100 become 96. With 0, MultiModality is left out.
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
    judges: dict[str, Any] = {}
    if "humanml3d" in protocols:
        assert evaluator is not None
        texts = min(multimodality_texts, len(data))
        judges["humanml3d"] = FeatureJudge(pipe, data, evaluator, texts, multimodality_motions, pool_size, seed)
    if "released" in protocols:
        assert evaluator is not None
        judges["released"] = ReleasedJudge(pipe, data, evaluator, multimodality_texts, multimodality_motions, seed)
    if "lamp-bertscore" in protocols:
        assert captioner is not None
        judges["lamp-bertscore"] = CaptionJudge(data, captioner, seed)
    if "physics" in protocols:
        judges["physics"] = _physics(data)
    shared = [protocol for protocol in protocols if protocol != "released"]
    own = sum(judges[protocol].num_generated for protocol in FEATURE_PROTOCOLS if protocol in protocols)
    total = repeats * (own + (len(data) if shared else 0))
    estimate(
        on_estimate, every, lambda jobs: generate_for_clips(pipe, data, jobs), total, f"generating {total:,} motions"
    )

    found: dict[str, list[Rows]] = {protocol: [] for protocol in protocols}
    for repeat in range(repeats):
        if "released" in protocols:
            found["released"].append(judges["released"](repeat))
        jobs = [(clip, seed + repeat * len(data) + clip) for clip in range(len(data))] if shared else []
        motions = generate_for_clips(pipe, data, jobs)
        for protocol in shared:
            found[protocol].append(judges[protocol](motions, repeat))

    model_hash = weights_digest(pipe.model)
    records = []
    for protocol in protocols:
        rows = {
            name if row == "" else row: Estimate.of_rows([scores[row] for scores in found[protocol]])
            for row in found[protocol][0]
        }
        judge = judges[protocol]
        judged_by = judge if isinstance(judge, FeatureJudge | ReleasedJudge | CaptionJudge) else None
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
    for protocol, size in (("humanml3d", pool_size), ("released", BATCH)):
        if protocol in protocols:
            try:
                require_pool(len(data), size)
            except ValueError as error:
                found[protocol] = str(error)
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
    if featured := [protocol for protocol in FEATURE_PROTOCOLS if protocol in protocols]:
        if evaluator is None:
            raise ValueError(f"the protocol {featured[0]} needs an evaluator; pass evaluator=… (--evaluator)")
        if texts and motions < MULTIMODALITY_PAIRS:
            raise ValueError(
                f"MultiModality over {MULTIMODALITY_PAIRS} pairs needs at least {MULTIMODALITY_PAIRS} motions per "
                f"text, got {motions}; increase multimodality_motions (--multimodality-motions)"
            )
    if "lamp-bertscore" in protocols and captioner is None:
        raise ValueError("the protocol lamp-bertscore needs a captioner; pass captioner=… (--captioner)")


def generate_for_clips(
    pipe: "TextToMotionPipeline", data: EvaluationSet, jobs: list[tuple[int, int]], frames: Sequence[int] | None = None
) -> list[Motion]:
    """Generate a motion for each pair of clip and seed, with the clip's caption and length, or the given lengths.

    Args:
        pipe: Pipeline with the model.
        data: The clips.
        jobs: Pairs of the clip's place and the seed.
        frames: Number of frames for each clip. Defaults to the clips' own lengths, of at most 196 frames.
    """
    from lamp_hf.pipelines.text_warnings import for_measurement

    if not jobs:
        return []
    captions, size = data.first_captions, pipe.frames_per_token
    lengths = [len(motion.features) for motion in data.motions] if frames is None else frames

    def work(some: list[tuple[int, int]]) -> list[Motion]:
        # Motions of similar length share a batch. The result for a seed does not depend on the rest of the batch.
        order = sorted(range(len(some)), key=lambda place: lengths[some[place][0]])
        with for_measurement():
            results: Any = pipe(
                [captions[some[place][0]] for place in order],
                num_frames=[max(size, lengths[some[place][0]] // size * size) for place in order],
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
        self.num_generated = num_texts * self.settings["multimodality_motions"]
        self._texts = embed_texts(evaluator, data)
        self._real = embed_motions(evaluator, data.motions)

    def __call__(self, motions: list[Motion], repeat: int) -> Rows:
        rows = feature_rows(
            embed_motions(self._evaluator, motions),
            self._real,
            self._texts,
            self._seed + repeat,
            groups=self._data.groups,
            pool_size=self.settings["pool_size"],
            pairs=self.settings["diversity_pairs"],
        )
        rows[""] |= self._multimodality(repeat)
        return rows

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
        vectors = embed_motions(self._evaluator, generate_for_clips(self._pipe, self._data, jobs))
        return {"multimodality": measures.multimodality(vectors.reshape(texts, each, -1), MULTIMODALITY_PAIRS, seed)}


class ReleasedJudge:
    """R-Precision, MM-Dist, FID, Diversity and MultiModality as the released evaluation measures them.

    Of the motions for MultiModality, the last one of each text is also the text's motion in the other metrics.
    """

    def __init__(
        self,
        pipe: "TextToMotionPipeline",
        data: EvaluationSet,
        evaluator: "Embedder",
        num_texts: int,
        num_motions: int,
        seed: int,
    ):
        self._pipe, self._evaluator, self._seed = pipe, evaluator, seed
        self._data = in_batches(data)
        count = len(self._data)
        many = min(num_texts // BATCH * BATCH, count)
        self.name = shown_name(evaluator.name)
        self.digest = weights_digest(evaluator.model)
        self.settings = {
            "clips": count,
            "pool_size": BATCH,
            "diversity_pairs": diversity_pairs(count),
            "multimodality_texts": many,
            "multimodality_motions": num_motions if many else 0,
            "multimodality_pairs": MULTIMODALITY_PAIRS if many else 0,
        }
        self._times = [num_motions] * many + [1] * (count - many)
        self.num_generated = sum(self._times)
        self._texts = embed_texts(evaluator, self._data)

    def __call__(self, repeat: int) -> Rows:
        seed, settings = self._seed + repeat, self.settings
        parts = parts_of_clips(self._data, seed)
        clips = np.repeat(np.arange(len(parts)), self._times)
        # These seeds are larger than those of the other generated motions.
        jobs = [(int(clip), self._seed + (repeat + 1) * 2**33 + place) for place, clip in enumerate(clips)]
        motions = generate_for_clips(self._pipe, self._data, jobs, [len(part.features) for part in parts])
        vectors = embed_motions(self._evaluator, motions)
        last = np.cumsum(self._times) - 1
        real = embed_motions(self._evaluator, parts)
        rows = feature_rows(vectors[last], real, self._texts, seed, pairs=settings["diversity_pairs"])
        if texts := settings["multimodality_texts"]:
            of_texts = vectors[: last[texts - 1] + 1].reshape(texts, -1, vectors.shape[1])
            rows[""]["multimodality"] = measures.multimodality(of_texts, MULTIMODALITY_PAIRS, seed)
        return rows


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

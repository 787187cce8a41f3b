"""Captioning protocol: generated captions are compared with the reference captions of a split."""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.probes.caption_labels import CaptionReader, naming_accuracy
from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, weights_digest
from lamp_hf.metrics.functional import captions as measures
from lamp_hf.metrics.functional.embeddings import embedding_similarity, matching_distance
from lamp_hf.metrics.functional.retrieval import RANKS, pool_recall, require_pool
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, BertScorer, has_baseline
from lamp_hf.motion.motion import Motion
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, derangement, estimate, shown_name, spread

if TYPE_CHECKING:
    from lamp_hf.metrics.embedder import Embedder
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline

__all__ = ["POOL_SIZE", "PROTOCOLS", "evaluate_captioning_protocol"]

logger = logging.getLogger(__name__)

VERSION = 1
PROTOCOLS = ("humanml3d",)
POOL_SIZE = 32
NEUTRAL_STYLE = "normal"


def evaluate_captioning_protocol(
    name: str,
    pipe: "MotionCaptioningPipeline",
    data: EvaluationSet,
    *,
    evaluator: "Embedder | None" = None,
    bertscore_model: str = DEFAULT_ENCODER,
    pool_size: int = POOL_SIZE,
    repeats: int = 20,
    seed: int = 0,
    on_estimate: OnEstimate | None = None,
    **generate_kwargs: Any,
) -> EvaluationRecord:
    """Caption the first 196 frames of every clip.

    BLEU@1, BLEU@4, ROUGE-L, CIDEr-D and BERTScore compare the caption with all captions of the clip. With an evaluator,
    R-Precision and MM-Dist compare it with the motion (Guo et al., TM2T, 2022). If a grammar composes the captions of
    the data set, `content_named` and `style_named` are the shares of captions with the words of the right label, and
    `side_wrong` is the share of captions, among actions with a side, that name only the other side.

    The reference "ground truth" scores caption 0 of each clip; "another clip" scores caption 0 of a random other clip.
    The ground truth is compared with the clip's other captions, so clips with a single caption are left out of these
    scores, with a warning, but not out of R-Precision and MM-Dist. If there are fewer clips than `pool_size`,
    R-Precision and MM-Dist are left out.

    Args:
        name: Name of the checkpoint.
        pipe: Pipeline with the checkpoint.
        data: At least two clips.
        evaluator: Evaluator for R-Precision and MM-Dist. Without one, they are left out. The released evaluator tags
            the generated captions with spaCy, and reads the annotations of the others.
        bertscore_model: See [`BertScorer`]. If bert-score has a baseline for it, the scores are weighted by inverse
            document frequencies and rescaled, as in published tables, whose model is `roberta-large`.
        pool_size: Pairs in a pool of R-Precision. Smaller pools are easier, and their scores are not comparable.
        repeats: Number of draws of pools and of other clips.
        seed: Seed of the first draw.
        on_estimate: Called once with the estimated duration before the work.
        generate_kwargs: Arguments of the pipeline, such as `num_beams` and `prompt`.

    Raises:
        ModuleNotFoundError: A package is missing; see [`Embedder.require_tagger`] and [`BertScorer`].
        ValueError: There are fewer than two clips, or the evaluator cannot embed sentences.
    """
    if len(data) < 2:
        raise ValueError(
            f"captions are compared with those of another clip, but there is only {len(data)} clip; use at least 2"
        )
    alone = [clip for clip, texts in zip(data.ids, data.captions, strict=True) if len(texts) < 2]
    if alone:
        logger.warning(
            "BLEU, ROUGE-L, CIDEr and BERTScore of the ground truth leave out %d of %d clips, which have only one "
            "caption, for example %s.",
            *(len(alone), len(data), alone[0]),
        )
    if evaluator is not None:
        evaluator.require_tagger()
        try:
            require_pool(len(data), pool_size)
        except ValueError as error:
            logger.warning("R-Precision and MM-Dist are left out: %s.", error)
            evaluator = None

    def work(some: list[Motion]) -> list[str]:
        return [answers[0]["caption"] for answers in pipe(some, batch_size=32, **generate_kwargs)]

    published = has_baseline(bertscore_model)
    bertscore = BertScorer(bertscore_model, idf=published, rescale_with_baseline=published)
    judge = CaptionScorer(data, evaluator, bertscore, pool_size)
    estimate(on_estimate, data.motions, work, len(data), f"captioning {len(data)} motions")
    said = spread(data.motions, work)
    first, read = data.first_captions, data.first_captions if evaluator is None else data.first_texts(evaluator)
    orders = [derangement(len(data), np.random.default_rng(seed + repeat)) for repeat in range(repeats)]
    others = [[first[place] for place in order] for order in orders]
    other_reads = [[read[place] for place in order] for order in orders]
    # Score all draws in one call, so that the language model reads every caption only once.
    alike = (
        judge.bertscore([text for texts in others for text in texts], data.captions * repeats)
        .f1.reshape(repeats, -1)
        .mean(1)
    )
    chance = [
        judge.texts(texts, data.captions, float(alike[repeat]))
        | judge.labels(texts)
        | judge.matches(other_reads[repeat], [seed + repeat])[0]
        for repeat, texts in enumerate(others)
    ]
    draws = [seed + repeat for repeat in range(repeats)]
    compared = [place for place, texts in enumerate(data.captions) if len(texts) > 1]
    truth = judge.labels(first)
    if compared:
        truth |= judge.texts([first[place] for place in compared], [data.captions[place][1:] for place in compared])
    truths = [truth | found for found in judge.matches(read, draws)]
    own = judge.texts(said, data.captions) | judge.labels(said)
    beams = {key: value for key, value in generate_kwargs.items() if isinstance(value, str | int | float)}
    return EvaluationRecord(
        model=name,
        model_hash=weights_digest(pipe.model),
        lamp_hf=__version__,
        protocol=Protocol(
            "captioning",
            "humanml3d",
            VERSION,
            shown_name(evaluator.name) if evaluator else None,
            weights_digest(evaluator.model) if evaluator else None,
            data.name,
            data.digest,
            data.split,
            len(data),
            repeats,
            seed,
            {
                "bertscore_model": judge.bertscore.name,
                "cider": measures.CIDER_VARIANT,
                **({"pool_size": pool_size} if evaluator and pool_size != POOL_SIZE else {}),
            },
        ),
        rows={_variant(name, beams): _estimates([own | found for found in judge.matches(said, draws)])},
        references={
            **({"ground truth": _estimates(truths)} if truths[0] else {}),
            "another clip": Estimate.of_rows(chance),
        },
    )


def _variant(name: str, settings: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def _estimates(repeats: list[dict[str, float]]) -> dict[str, Estimate]:
    """Average the repeats. Only R-Precision gets an interval; the other scores do not change between repeats."""
    estimates = Estimate.of_rows(repeats)
    return {
        metric: estimate if metric.startswith("r_precision") else Estimate(estimate.value)
        for metric, estimate in estimates.items()
    }


class CaptionScorer:
    """Computes all scores of generated captions, one caption per motion."""

    def __init__(self, data: EvaluationSet, evaluator: "Embedder | None", bertscore: BertScorer, pool_size: int):
        self.bertscore = bertscore
        self._pool_size = pool_size
        self._data = data
        self._evaluator = evaluator
        self._reader = None if data.grammar is None else CaptionReader(data.grammar)
        self._motions = np.empty(0)
        if evaluator is not None:
            self._motions = np.stack(spread(data.motions, lambda some: list(evaluator.motions(some))))

    def texts(
        self, said: list[str], references: list[list[str]], bertscore_f1: float | None = None
    ) -> dict[str, float]:
        """Compare captions with references. BERTScore is computed unless it is passed."""
        if bertscore_f1 is None:
            bertscore_f1 = float(self.bertscore(said, references).f1.mean())
        return {
            "bleu_1": measures.bleu(said, references, 1),
            "bleu_4": measures.bleu(said, references, 4),
            "rouge_l": float(measures.rouge_l(said, references).mean()),
            "cider": float(measures.cider_d(said, references).mean()),
            "bertscore_f1": bertscore_f1,
        }

    def labels(self, said: list[str]) -> dict[str, float]:
        """Compare the captions of all clips with the clips' labels, if the data set has a grammar."""
        if self._reader is None:
            return {}
        return naming_accuracy(self._reader, said, self._data.contents, self._data.styles, neutral=NEUTRAL_STYLE)

    def matches(self, said: list[str], seeds: list[int]) -> list[dict[str, float]]:
        """Compare the captions of all clips with the motions, for each seed, which draws the pools."""
        if self._evaluator is None:
            return [{} for _ in seeds]
        texts = self._evaluator.texts(said)
        distance = matching_distance(self._motions, texts)
        similarity = embedding_similarity(self._motions, texts, "euclidean")
        found = []
        for seed in seeds:
            recall = pool_recall(similarity, self._data.groups, pool_size=self._pool_size, repeats=1, seed=seed)
            found.append({"mm_dist": distance} | {f"r_precision_{k}": recall[f"motion_to_text_r{k}"] for k in RANKS})
        return found

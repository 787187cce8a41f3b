"""Retrieval protocols: motions and captions under TMR's four protocols, with and without reranking, and as released."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.metrics.functional.embeddings import diversity, embedding_similarity, matching_distance
from lamp_hf.metrics.functional.retrieval import PROTOCOLS as TMR_PROTOCOLS
from lamp_hf.metrics.functional.retrieval import (
    RETRIEVAL_RANKS,
    pool_recall,
    require_pool,
    retrieval_pools,
    retrieval_scores,
)
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, sentence_embeddings
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, estimate, spread
from .released import BATCH, diversity_pairs, in_batches, parts_of_clips

if TYPE_CHECKING:
    from lamp_hf.evaluation.records import Row
    from lamp_hf.retrieval.encoder import EncodedMotion, MotionTextEncoder

__all__ = ["DEFAULT_PROTOCOLS", "PROTOCOLS", "Reranker", "evaluate_retrieval_protocols", "misfits", "released_scores"]

VERSION = 1
PROTOCOLS = (*TMR_PROTOCOLS, "released")
DEFAULT_PROTOCOLS = TMR_PROTOCOLS  # "released" encodes the clips again in each repeat
_LIFT = 1e4  # larger than any similarity, so that reranked candidates come first


def evaluate_retrieval_protocols(
    name: str,
    encoder: "MotionTextEncoder",
    data: EvaluationSet,
    *,
    protocols: Sequence[str] = DEFAULT_PROTOCOLS,
    rerank: int | None = None,
    repeats: int = 20,
    seed: int = 0,
    sentence_encoder: str = DEFAULT_ENCODER,
    pool_size: int = 32,
    dissimilar_size: int = 100,
    on_estimate: OnEstimate | None = None,
) -> list[EvaluationRecord]:
    """Retrieve motions for captions and captions for motions.

    Each clip is represented by its first 196 frames and caption 0. The reference "captions" ranks by the similarity of
    the captions alone, as if every motion were replaced by its caption. It is the upper limit if several clips have
    equal captions. "chance" ranks at random.

    "all", "threshold", "dissimilar" and "small_batches" are TMR's protocols, with the paper's similarity, the best
    query of a motion. "released" measures what the released code measures (L8): the Euclidean distance of the mean of a
    motion's queries from the text, without normalization, in pools of 32 in the order of the data set. Clips that do
    not fill a pool are left out, and each repeat draws a part of every clip, as in "released" of text-to-motion. The
    released code reports motion-to-text only.

    Args:
        name: Name of the checkpoint.
        encoder: Encoder with the checkpoint.
        data: The clips.
        protocols: Protocols to run.
        rerank: Number of best candidates per query that the matching head reranks, reported as an additional row, but
            not in "released". With `None`, there is no reranking.
        repeats: Number of draws of pools and of random ranks. In protocols without pools, a model's scores do not
            depend on the draws.
        seed: Seed of the first draw.
        sentence_encoder: Sentence encoder that decides which captions are nearly identical.
        pool_size: Pairs in a pool of "small_batches".
        dissimilar_size: Pairs in the subset of "dissimilar".
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record for each protocol, with recall at 1, 2, 3, 5 and 10, and the median rank, in both directions; the one
        of "released" also has MM-Dist and Diversity.

    Raises:
        ValueError: A protocol is unknown, or there are too few clips for it.
    """
    for reason in misfits(protocols, data, pool_size=pool_size, dissimilar_size=dissimilar_size).values():
        raise ValueError(reason)
    captions = data.first_captions
    sentences = sentence_embeddings(captions, sentence_encoder)
    alike = embedding_similarity(sentences, sentences)
    settings: dict[str, Any] = {"pool_size": pool_size, "dissimilar_size": dissimilar_size}

    clips = [clip[:MAX_CLIP_FRAMES] for clip in data.clips]
    total = len(clips) * (1 + repeats * ("released" in protocols))
    estimate(on_estimate, clips, encoder.encode_motions, total, f"encoding {total:,} motions")
    motions = spread(clips, encoder.encode_motions)
    texts = np.stack(spread(captions, lambda some: list(encoder.encode_texts(some))))
    similarity = embedding_similarity(np.stack([motion.features for motion in motions]), texts)
    looks: dict[str, Reranker | None] = {name: None}
    if rerank is not None:
        looks[f"{name} + re-ranking of {rerank}"] = Reranker(encoder, motions, captions, rerank)

    records = []
    for protocol in protocols:
        if protocol == "released":
            rows, references, used = _released(name, encoder, data, alike, repeats, seed)
        else:
            rows, references, used = _tmr(protocol, looks, similarity, alike, repeats, seed, settings)
        records.append(
            EvaluationRecord(
                model=name,
                model_hash=encoder.fingerprint,
                lamp_hf=__version__,
                protocol=Protocol(
                    "retrieval",
                    protocol,
                    VERSION,
                    sentence_encoder,
                    None,
                    data.name,
                    data.digest,
                    data.split,
                    len(data),
                    repeats,
                    seed,
                    used,
                ),
                rows=rows,
                references=references,
            )
        )
    return records


def _tmr(
    protocol: str,
    looks: "Mapping[str, Reranker | None]",
    similarity: np.ndarray,
    alike: np.ndarray,
    repeats: int,
    seed: int,
    settings: dict[str, Any],
) -> "tuple[dict[str, Row], dict[str, Row], dict[str, int]]":
    """Return the rows, the reference rows and the settings of one of TMR's protocols."""
    times = repeats if protocol == "small_batches" else 1

    def scores(table: np.ndarray, repeat: int, look: "Reranker | None" = None) -> dict[str, float]:
        found = retrieval_scores(protocol, table, alike, seed=seed + repeat, second_look=look, **settings)
        found.pop("n")
        return found

    rows: dict[str, Row] = {
        row: Estimate.of_rows([scores(similarity, repeat, look) for repeat in range(times)])
        for row, look in looks.items()
    }
    drawn = [scores(np.random.default_rng(seed + repeat).random(similarity.shape), repeat) for repeat in range(repeats)]
    references: dict[str, Row] = {
        "captions": Estimate.of_rows([scores(alike, repeat) for repeat in range(times)]),
        "chance": Estimate.of_rows(drawn),
    }
    return rows, references, _settings_of(protocol, settings)


def _released(
    name: str, encoder: "MotionTextEncoder", data: EvaluationSet, alike: np.ndarray, repeats: int, seed: int
) -> "tuple[dict[str, Row], dict[str, Row], dict[str, int]]":
    """Return the row, the reference rows and the settings of the released evaluation."""
    data = in_batches(data)
    count = len(data)
    texts = np.stack(spread(data.first_captions, lambda some: list(encoder.released_text_vectors(some))))
    found = []
    for repeat in range(repeats):
        parts = [part.features for part in parts_of_clips(data, seed + repeat)]
        motions = np.stack(spread(parts, lambda some: list(encoder.released_motion_vectors(some))))
        found.append(released_scores(motions, texts, seed + repeat))
    drawn = [_batch_recall(np.random.default_rng(seed + repeat).random((count, count))) for repeat in range(repeats)]
    rows: dict[str, Row] = {name: Estimate.of_rows(found)}
    references: dict[str, Row] = {
        "captions": Estimate.of_rows([_batch_recall(alike[:count, :count])]),
        "chance": Estimate.of_rows(drawn),
    }
    return rows, references, {"clips": count, "pool_size": BATCH, "diversity_pairs": diversity_pairs(count)}


def released_scores(motions: np.ndarray, texts: np.ndarray, seed: int) -> dict[str, float]:
    """Score vectors `(N, P)` of motions and of their texts as the released code does.

    Args:
        motions, texts: The vectors, in the order of the data set.
        seed: Seed of the pairs of Diversity.
    """
    return {
        **_batch_recall(embedding_similarity(motions, texts, "euclidean")),
        "mm_dist": matching_distance(motions, texts),
        "diversity": diversity(motions, diversity_pairs(len(motions)), seed),
    }


def _batch_recall(similarity: np.ndarray) -> dict[str, float]:
    recall = pool_recall(similarity, range(len(similarity)), pool_size=BATCH, repeats=None, ranks=RETRIEVAL_RANKS)
    return {metric: value for metric, value in recall.items() if not metric.startswith("chance")}


def misfits(
    protocols: Sequence[str], data: EvaluationSet, *, pool_size: int = 32, dissimilar_size: int = 100
) -> dict[str, str]:
    """Return the protocols for which the data set is too small, each with the reason.

    Args:
        protocols: Protocols to check.
        data, pool_size, dissimilar_size: See [`evaluate_retrieval_protocols`].

    Raises:
        ValueError: A protocol is unknown.
    """
    nothing_alike = np.eye(len(data))  # the number of pairs does not depend on the similarity of the captions
    found = {}
    for protocol in protocols:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol={protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
        try:
            if protocol == "released":
                require_pool(len(data), BATCH)
                continue
            retrieval_pools(protocol, len(data), nothing_alike, pool_size=pool_size, dissimilar_size=dissimilar_size)
        except ValueError as error:
            found[protocol] = str(error)
    return found


def _settings_of(protocol: str, settings: dict[str, int]) -> dict[str, int]:
    names = {"small_batches": ("pool_size",), "dissimilar": ("dissimilar_size",)}.get(protocol, ())
    return {name: settings[name] for name in names}


class Reranker:
    """Reranks the best candidates of each query with the matching head, and caches the scores of pairs.

    Args:
        encoder: Encoder with the matching head.
        motions: All motions.
        captions: Their captions.
        candidates: Number of candidates per query to rerank.
    """

    def __init__(
        self, encoder: "MotionTextEncoder", motions: "list[EncodedMotion]", captions: list[str], candidates: int
    ):
        self._encoder = encoder
        self._motions = motions
        self._captions = captions
        self._candidates = candidates
        self._seen: dict[tuple[int, int], float] = {}

    def __call__(self, way: str, pool: np.ndarray, table: np.ndarray) -> np.ndarray:
        """Rerank the best candidates of each row of `table` `(N, N)`, with queries in rows."""
        best = np.argsort(-table, axis=1, kind="stable")[:, : self._candidates]
        rows = np.arange(len(table))[:, None]
        queries, found = np.broadcast_to(pool[:, None], best.shape), pool[best]
        motions, texts = (found, queries) if way == "text_to_motion" else (queries, found)
        pairs = list(zip(motions.ravel().tolist(), texts.ravel().tolist(), strict=True))
        self._score_new(pairs, table[rows, best].ravel())
        result = table.copy()
        result[rows, best] = _LIFT + np.array([self._seen[pair] for pair in pairs]).reshape(best.shape)
        return result

    def _score_new(self, pairs: list[tuple[int, int]], similarities: np.ndarray) -> None:
        new = {pair: score for pair, score in zip(pairs, similarities, strict=True) if pair not in self._seen}
        scores = spread(list(new.items()), self._scores)
        self._seen.update(zip(new, scores, strict=True))

    def _scores(self, asked: list[tuple[tuple[int, int], float]]) -> list[float]:
        scores = self._encoder.rerank_scores(
            [similarity for _, similarity in asked],
            [self._motions[motion].latents for (motion, _), _ in asked],
            [self._captions[text] for (_, text), _ in asked],
        )
        return scores.tolist()

"""Retrieval protocols: motions and captions under TMR's four protocols, with and without reranking."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.metrics.functional.embeddings import embedding_similarity
from lamp_hf.metrics.functional.retrieval import PROTOCOLS, retrieval_pools, retrieval_scores
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, sentence_embeddings
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.version import __version__

from .common import EvaluationSet, OnEstimate, estimate, spread

if TYPE_CHECKING:
    from lamp_hf.retrieval.encoder import EncodedMotion, MotionTextEncoder

__all__ = ["PROTOCOLS", "evaluate_retrieval_protocols", "misfits"]

VERSION = 1
_LIFT = 1e4  # larger than any similarity, so that reranked candidates come first


def evaluate_retrieval_protocols(
    name: str,
    encoder: "MotionTextEncoder",
    data: EvaluationSet,
    *,
    protocols: Sequence[str] = PROTOCOLS,
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

    Args:
        name: Name of the checkpoint.
        encoder: Encoder with the checkpoint.
        data: The clips.
        protocols: Protocols to run.
        rerank: Number of best candidates per query that the matching head reranks, reported as an additional row. With
            `None`, there is no reranking.
        repeats: Number of draws of pools and of random ranks. In protocols without pools, a model's scores do not
            depend on the draws.
        seed: Seed of the first draw.
        sentence_encoder: Sentence encoder that decides which captions are nearly identical.
        pool_size: Pairs in a pool of "small_batches".
        dissimilar_size: Pairs in the subset of "dissimilar".
        on_estimate: Called once with the estimated duration before the work.

    Returns:
        A record for each protocol, with recall at 1, 2, 3, 5 and 10, and the median rank, in both directions.

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
    estimate(on_estimate, clips, encoder.encode_motions, len(clips), f"encoding {len(clips)} motions")
    motions = spread(clips, encoder.encode_motions)
    texts = np.stack(spread(captions, lambda some: list(encoder.encode_texts(some))))
    similarity = embedding_similarity(np.stack([motion.features for motion in motions]), texts)
    looks: dict[str, Reranker | None] = {name: None}
    if rerank is not None:
        looks[f"{name} + re-ranking of {rerank}"] = Reranker(encoder, motions, captions, rerank)

    records = []
    for protocol in protocols:
        times = repeats if protocol == "small_batches" else 1

        def scores(table: np.ndarray, repeat: int, look: "Reranker | None" = None, protocol: str = protocol) -> dict:
            found = retrieval_scores(protocol, table, alike, seed=seed + repeat, second_look=look, **settings)
            found.pop("n")
            return found

        rows = {
            row: Estimate.of_rows([scores(similarity, repeat, look) for repeat in range(times)])
            for row, look in looks.items()
        }
        drawn = [
            scores(np.random.default_rng(seed + repeat).random(similarity.shape), repeat) for repeat in range(repeats)
        ]
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
                    _settings_of(protocol, settings),
                ),
                rows=rows,
                references={
                    "captions": Estimate.of_rows([scores(alike, repeat) for repeat in range(times)]),
                    "chance": Estimate.of_rows(drawn),
                },
            )
        )
    return records


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

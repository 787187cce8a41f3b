"""Retrieval between motions and captions under TMR's four protocols, with and without re-ranking."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.metrics.functional.embeddings import embedding_similarity
from lamp_hf.metrics.functional.retrieval import PROTOCOLS, retrieval_pools, retrieval_scores
from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, sentence_embeddings
from lamp_hf.version import __version__

from .common import LONGEST_FRAMES, EvaluationSet, OnEstimate, estimate, spread

if TYPE_CHECKING:
    from lamp_hf.retrieval.encoder import EncodedMotion, MotionTextEncoder

__all__ = ["PROTOCOLS", "evaluate_retrieval_protocols", "misfits"]

VERSION = 1
_LIFT = 1e4  # above any similarity: what was looked at twice comes before what was not


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
    """Find motions for captions and captions for motions.

    Every clip takes part with its first 196 frames and caption 0. The reference "captions" ranks by the similarity of
    sentences alone, as if a motion were known by its caption: where several clips have equal captions, this is as
    far as one gets. "chance" ranks at random.

    Args:
        name: Of the checkpoint.
        encoder: The checkpoint.
        data: Clips.
        protocols: Those to run.
        rerank: How many of the best candidates of each query the matching head orders anew, in a further row.
        repeats: How often pools, and random ranks, are drawn. Protocols without pools give a model one number only.
        seed: Of the first draw.
        sentence_encoder: The model that tells TMR's protocols which captions say nearly the same.
        pool_size: Of "small_batches".
        dissimilar_size: Of "dissimilar".
        on_estimate: Told how long it takes, before the work.

    Returns:
        A record for each protocol, with recall at 1, 2, 3, 5, 10 and the median rank, both ways.

    Raises:
        ValueError: Unknown protocol, or too few clips for one.
    """
    for reason in misfits(protocols, data, pool_size=pool_size, dissimilar_size=dissimilar_size).values():
        raise ValueError(reason)
    captions = data.first_captions
    sentences = sentence_embeddings(captions, sentence_encoder)
    alike = embedding_similarity(sentences, sentences)
    settings: dict[str, Any] = {"pool_size": pool_size, "dissimilar_size": dissimilar_size}

    clips = [clip[:LONGEST_FRAMES] for clip in data.clips]
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
    """Protocols that a set is too small for, and why.

    Args:
        protocols: To look at.
        data, pool_size, dissimilar_size: As [`evaluate_retrieval_protocols`] takes them.

    Raises:
        ValueError: Unknown protocol.
    """
    nothing_alike = np.eye(len(data))  # which captions are alike decides on no size
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
    """Lets the matching head order the best candidates of a query; pairs that it has seen are remembered.

    Args:
        encoder: Whose matching head.
        motions: All motions.
        captions: Their captions.
        candidates: How many of each query it looks at.
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
        """`table` `(N, N)`, queries in rows, with the best candidates of each row in the order of the second look."""
        best = np.argsort(-table, axis=1, kind="stable")[:, : self._candidates]
        rows = np.arange(len(table))[:, None]
        queries, found = np.broadcast_to(pool[:, None], best.shape), pool[best]
        motions, texts = (found, queries) if way == "text_to_motion" else (queries, found)
        pairs = list(zip(motions.ravel().tolist(), texts.ravel().tolist(), strict=True))
        self._look(pairs, table[rows, best].ravel())
        result = table.copy()
        result[rows, best] = _LIFT + np.array([self._seen[pair] for pair in pairs]).reshape(best.shape)
        return result

    def _look(self, pairs: list[tuple[int, int]], similarities: np.ndarray) -> None:
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

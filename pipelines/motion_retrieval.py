"""`pipeline("motion-retrieval")`: motions for texts, texts for motions, and motions like others."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import Pipeline

from lamp_hf.modeling.modeling_lamp_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.files import READERS
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import SKELETONS

from .saving import SavedPipeline

if TYPE_CHECKING:
    from lamp_hf.retrieval.index import Found, MotionIndex
    from lamp_hf.retrieval.opening import IndexInput

__all__ = ["MotionRetrievalPipeline"]

TARGETS = ("motion", "caption")
RERANKED = 32
MotionQuery = Motion | np.ndarray | os.PathLike[str]
Query = str | MotionQuery


class MotionRetrievalPipeline(SavedPipeline, Pipeline):
    """Searches a motion index with a [`LampForMotionTextRetrieval`].

    What is saved and published is the model with its processor, not the index, which has a `push_to_hub` of its own.

    ```python
    >>> import lamp_hf
    >>> from transformers import pipeline

    >>> search = pipeline("motion-retrieval", index="my_mocap")
    >>> hits = search("someone waves", top_k=3)
    >>> sorted(hits[0])
    ['captions', 'file', 'id', 'score']
    >>> captions = search("my_mocap/walk.bvh", target="caption", top_k=1)

    ```

    `top_k`, `rerank`, `exact` and `target`, given to `pipeline(…)`, hold for every call that does not give its own.

    Args:
        index: What to search: a folder of motion files, the folder of an index, a dataset, or the Hub id of an
            index or a dataset. All but indexes are indexed in the cache first, which takes a while once; files
            that cannot be read are left out with a warning.
        num_proc: Number of processes that read motion files, all cores by default.
    """

    task = "motion-retrieval"
    model: LampForMotionTextRetrieval
    processor: LampProcessor

    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(self, *args: Any, index: "IndexInput | None" = None, num_proc: int | None = None, **kwargs: Any):
        # Registration imports this module, and `datasets` takes a second: whoever makes motions does not need it.
        from lamp_hf.retrieval.encoder import MotionTextEncoder
        from lamp_hf.retrieval.opening import open_index

        super().__init__(*args, **kwargs)
        if not isinstance(self.model, LampForMotionTextRetrieval):
            raise TypeError(f"motion-retrieval needs a LampForMotionTextRetrieval, not a {type(self.model).__name__}")
        if self.processor is None:
            raise ValueError("motion-retrieval needs a processor: give processor=LampProcessor.from_pretrained(…)")
        if index is None:
            raise ValueError(
                'motion-retrieval needs something to search: pipeline("motion-retrieval", index=…) with a folder of '
                "motion files, the folder of an index, a dataset, or a Hub id"
            )
        self.encoder = MotionTextEncoder(self.model, self.processor)
        self.index: MotionIndex = open_index(index, self.encoder, num_proc=num_proc)

    @property
    def fps(self) -> float:
        """Frames per second of the motions that the model reads; others are resampled."""
        return self.processor.feature_extractor.fps

    def __call__(  # type: ignore[override]
        self,
        query: Query | Sequence[Query],
        *,
        top_k: int | None = None,
        target: str | None = None,
        rerank: bool | int | None = None,
        exact: bool | None = None,
    ) -> Any:
        """Search.

        Args:
            query: A text; a motion, as [`Motion`], as features `(T, D)`, or as the path of a file; or a list, in
                which both may stand. A string that ends like a motion file (`"walk.bvh"`) is its path.
            top_k: Number of hits, 10 if not said otherwise; fewer where there are fewer.
            target: What to find, `"motion"` (if not said otherwise) or, for motions, `"caption"`: texts of the
                index.
            rerank: Let the matching head, which reads motion and text together, have a say on the best so many
                hits (`True`: 32, `top_k` at least), and order them anew. Not for finding motions by a motion.
            exact: Compare the query with all that the index holds, not only with the candidates of FAISS.

        Returns:
            For one query a list of hits, best first: dictionaries of `id`, `file` (`None` where there is none),
            `score` and `captions`. The score is a cosine: that of the best query for text and motion, the mean
            of like queries for two motions; with `rerank` it is the scaled cosine plus the log-odds of a match. A
            hit of target `"caption"` has one caption, and names a motion that
            has it. For a list, a list of such lists.

        Raises:
            FileNotFoundError: There is no file of the query's path.
            MotionFormatError: It cannot be read.
            TypeError: A value of the wrong kind.
            ValueError: A value that cannot work.
        """
        given = {"top_k": top_k, "target": target, "rerank": rerank, "exact": exact}
        settings = _checked({**self._forward_params, **{name: x for name, x in given.items() if x is not None}})
        single = isinstance(query, str | Motion | np.ndarray | os.PathLike)
        queries = [self._read(item) for item in ([query] if single else query)]  # type: ignore[list-item, union-attr]
        results: list[list[dict[str, Any]]] = [[] for _ in queries]
        for kind in (str, Motion):
            places = [place for place, item in enumerate(queries) if isinstance(item, kind)]
            if places:
                inputs = self.preprocess([queries[place] for place in places])
                found = self.postprocess(self.forward(inputs, **settings))
                for place, hits in zip(places, found, strict=True):
                    results[place] = hits
        return results[0] if single else results

    def _read(self, query: Any) -> str | Motion:
        if isinstance(query, str) and Path(query).suffix.lower() not in READERS:
            if not query.strip():
                raise ValueError("the query is an empty text")
            return query
        if isinstance(query, str | os.PathLike):
            query = Motion.load(query)
        if isinstance(query, np.ndarray):
            extractor = self.processor.feature_extractor
            query = Motion(features=query, fps=extractor.fps, skeleton=SKELETONS[extractor.skeleton])
        if not isinstance(query, Motion):
            raise TypeError(f"cannot search for a {type(query).__name__}; give a text, a Motion, an array or a path")
        if abs(query.fps - self.fps) > 1e-3:
            query = query.resample(self.fps)
        if reason := self.encoder.refusal(query.features):
            raise ValueError(f"cannot search for this motion: {reason}")
        return query

    # ---- the steps that transformers names ---------------------------------------------------------------

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = ("top_k", "target", "rerank", "exact")
        if strangers := sorted(set(kwargs) - set(known)):
            raise TypeError(f"unknown arguments {', '.join(strangers)}; known: index, num_proc, {', '.join(known)}")
        return {}, kwargs, {}

    def preprocess(self, input_: Sequence[str | Motion], **kwargs: Any) -> dict[str, Any]:
        """Queries of one kind, texts or motions."""
        return {"queries": list(input_)}

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Any],
        top_k: int = 10,
        target: str = "motion",
        rerank: int = 0,
        exact: bool = False,
    ) -> dict[str, Any]:
        """Rows of the index with scores, for each query."""
        queries = input_tensors["queries"]
        of_text = isinstance(queries[0], str)
        if of_text and target != "motion":
            raise ValueError('a text finds motions: target="caption" is for motions')
        if rerank and not of_text and target == "motion":
            raise ValueError("rerank orders texts and motions by how they match; it cannot compare two motions")
        count = max(top_k, rerank)
        if of_text:
            found = self.index.find_motions(self.encoder.encode_texts(queries), count, exact=exact)
        else:
            encoded = self.encoder.encode_motions([motion.features for motion in queries])
            features = np.stack([motion.features for motion in encoded])
            find = self.index.find_captions if target == "caption" else self.index.find_similar
            found = find(features, count, exact=exact)
        if rerank:
            latents = None if of_text else [motion.latents for motion in encoded]
            found = [
                self._rerank(rows[:rerank], queries[k], None if latents is None else latents[k])
                for k, rows in enumerate(found)
            ]
        return {"found": [rows[:top_k] for rows in found], "target": target}

    def _rerank(self, found: "list[Found]", query: str | Motion, latents: np.ndarray | None) -> "list[Found]":
        """The same rows, ordered anew: motions for a text, or captions for a motion's latents."""
        if not found:
            return []
        rows = [row for row, _ in found]
        similarities = [score for _, score in found]
        if latents is None:
            scores = self.encoder.rerank_scores(similarities, self.index.latents(rows), [str(query)] * len(rows))
        else:
            texts = list(self.index.caption_dataset.select(rows)["text"])
            scores = self.encoder.rerank_scores(similarities, [latents] * len(rows), texts)
        order = np.argsort(-scores, kind="stable")
        return [found[k]._replace(score=float(scores[k])) for k in order]

    def postprocess(self, model_outputs: dict[str, Any], **kwargs: Any) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        """Hits of each query."""
        hits = self.index.caption_hits if model_outputs["target"] == "caption" else self.index.motion_hits
        return [hits(found) for found in model_outputs["found"]]


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a call with `rerank` as a number."""
    top_k, rerank = settings.get("top_k", 10), settings.get("rerank", 0)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k={top_k!r} is not a whole number from 1")
    if not isinstance(rerank, int) or rerank < 0:
        raise ValueError(f"rerank={rerank!r} is not a whole number from 0, nor True or False")
    if rerank:
        settings["rerank"] = max(top_k, RERANKED if rerank is True else rerank)
    else:
        settings["rerank"] = 0
    if (target := settings.get("target", "motion")) not in TARGETS:
        raise ValueError(f"target={target!r} is unknown; choose one of {', '.join(TARGETS)}")
    return settings

"""`pipeline("motion-retrieval")`: finds motions for texts, captions for motions, and similar motions."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Pipeline

from lamp_hf.extras import require_faiss
from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.files import READERS
from lamp_hf.motion.inputs import as_motion
from lamp_hf.motion.motion import Motion

from .saving import SavedPipeline
from .streams import in_batches, is_stream, refuse_unknown

if TYPE_CHECKING:
    from lamp_hf.retrieval.index import Found, MotionIndex
    from lamp_hf.retrieval.opening import IndexInput

__all__ = ["MotionRetrievalPipeline"]

TARGETS = ("motion", "caption")
RERANKED = 32
# Settings of a call that `pipeline(…)` accepts too.
SEARCH_SETTINGS = ("top_k", "target", "rerank", "exact")
MotionQuery = Motion | np.ndarray | torch.Tensor | os.PathLike[str]
Query = str | MotionQuery


class MotionRetrievalPipeline(SavedPipeline, Pipeline):
    """Searches a motion index with a [`LampForMotionTextRetrieval`].

    Saving and publishing the pipeline stores the model and the processor, not the index, which has its own
    `push_to_hub`.

    ```python
    >>> import lamp_hf
    >>> from transformers import pipeline

    >>> search = pipeline("motion-retrieval", index="my_mocap")
    >>> hits = search("someone waves", top_k=3)
    >>> sorted(hits[0])
    ['captions', 'file', 'id', 'score']
    >>> others = search("my_mocap/walk.bvh", top_k=1)

    ```

    `top_k`, `rerank`, `exact` and `target`, given to `pipeline(…)`, are the defaults of every call.

    Args:
        index: Index to search: the folder or Hub id of an index. A folder of motion files or a dataset (or its Hub id)
            is first indexed in the cache, which takes a while the first time; files that cannot be read are left out
            with a warning.
        num_proc: Number of processes that read motion files; all cores by default.
        reader_options: Arguments of [`as_motion`] for files of queries and of a folder: `mapping`, `fps`, `unit` and
            `up_axis`, if they are detected wrongly.
    """

    task = "motion-retrieval"
    model: LampForMotionTextRetrieval
    processor: LampProcessor

    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(
        self,
        *args: Any,
        index: "IndexInput | None" = None,
        num_proc: int | None = None,
        reader_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        require_faiss()
        # Imported here because registration imports this module, and importing `datasets` takes a second.
        from lamp_hf.retrieval.encoder import MotionTextEncoder
        from lamp_hf.retrieval.index import is_index
        from lamp_hf.retrieval.opening import open_index

        super().__init__(*args, **kwargs)
        if not isinstance(self.model, LampForMotionTextRetrieval):
            raise TypeError(f"motion-retrieval needs a LampForMotionTextRetrieval, got a {type(self.model).__name__}")
        if self.processor is None:
            raise ValueError("motion-retrieval needs a processor; give processor=LampProcessor.from_pretrained(…)")
        if index is None:
            raise ValueError(
                'motion-retrieval needs an index; give pipeline("motion-retrieval", index=…) a folder of '
                "motion files, the folder of an index, a dataset, or a Hub id"
            )
        self.encoder = MotionTextEncoder(self.model, self.processor)
        self.reader_options = reader_options or {}
        # The motions of an index have already been read.
        options = self.reader_options if isinstance(index, str | os.PathLike) and not is_index(index) else None
        self.index: MotionIndex = open_index(index, self.encoder, num_proc=num_proc, reader_options=options)

    @property
    def fps(self) -> float:
        """Frame rate of the model, frames per second; motions are resampled to it."""
        return self.processor.feature_extractor.fps

    def __call__(  # type: ignore[override]
        self,
        query: Query | Iterable[Query],
        *,
        top_k: int | None = None,
        target: str | None = None,
        rerank: bool | int | None = None,
        exact: bool | None = None,
        batch_size: int | None = None,
        **unknown: Any,
    ) -> Any:
        """Search the index.

        Args:
            query: A text; a motion, given as [`Motion`], path of a file, or array at the model's frame rate with
                features `(T, D)` or joints `(T, J, 3)` in meters; a list of texts and motions; or a generator, a
                `KeyDataset` or another dataset of them. A generator or a dataset may have any length; its results are
                computed when requested. A string with the extension of a motion file (`"walk.bvh"`) is a path.
            top_k: Number of hits, 10 by default; fewer if the index is smaller.
            target: `"motion"` (default) to find motions or, with motions as queries, `"caption"` to find captions of
                the index.
            rerank: Number of best hits to reorder with the matching head, which reads motion and text together (`True`
                for 32; at least `top_k`). Not available to find motions by a motion.
            exact: Whether to compare the query with all rows of the index, not only with the candidates of FAISS.
            batch_size: Number of queries to encode together: for a list, all by default; for a generator or a dataset,
                1 by default.

        Returns:
            For one query, a list of hits, best first (empty if nothing was found). A hit is a dictionary of `id`,
            `file` (`None` if the motion has no file), `score` and `captions`. The score is a cosine similarity: for
            text and motion, that of the best query token; for two motions, the mean over corresponding query tokens.
            With `rerank`, hits also have `match`, the probability from the matching head, and they are ordered by both
            together, so `score` may not decrease. A hit of target `"caption"` has one caption and a motion with that
            caption. If the query is a file of the index, that file is not among the hits. For a list, a list of such
            lists; for a generator or a dataset, an iterator of them.

        Raises:
            FileNotFoundError: The file of a query does not exist.
            MotionFormatError: The file cannot be read.
            TypeError: A value has the wrong type, or an argument is unknown.
            ValueError: A value is invalid.
        """
        refuse_unknown(type(self).__name__, unknown, (*SEARCH_SETTINGS, "batch_size"))
        given = {"top_k": top_k, "target": target, "rerank": rerank, "exact": exact}
        settings = _checked({**self._forward_params, **{name: x for name, x in given.items() if x is not None}})
        size = batch_size if batch_size is not None else self._batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"batch_size={size!r} is not a whole number of at least 1")
        if isinstance(query, str | Motion | np.ndarray | torch.Tensor | os.PathLike):
            return self._search([query], settings)[0]
        if is_stream(query):
            return self._stream(query, size or 1, settings)
        if not isinstance(query, list | tuple):
            raise TypeError(
                f"cannot search for a {type(query).__name__}; give a text, a motion, a path, or a list of these"
            )
        return [
            found for batch in in_batches(query, size or max(len(query), 1)) for found in self._search(batch, settings)
        ]

    def _stream(self, queries: Any, size: int, settings: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        for batch in in_batches(queries, size):
            yield from self._search(batch, settings)

    def _search(self, items: Sequence[Any], settings: dict[str, Any]) -> list[list[dict[str, Any]]]:
        """Return the hits for each query."""
        queries = [self._read(item) for item in items]
        own = [_own_file(item, read) for item, read in zip(items, queries, strict=True)]
        results: list[list[dict[str, Any]]] = [[] for _ in queries]
        for kind in (str, Motion):
            places = [place for place, item in enumerate(queries) if isinstance(item, kind)]
            if places:
                inputs = self.preprocess([queries[place] for place in places], own=[own[place] for place in places])
                found = self.postprocess(self.forward(inputs, **settings))
                for place, hits in zip(places, found, strict=True):
                    results[place] = hits
        return results

    def _read(self, query: Any) -> str | Motion:
        if isinstance(query, str) and Path(query).suffix.lower() not in READERS:
            if not query.strip():
                raise ValueError("the query is empty; give a text or a motion")
            return query
        if isinstance(query, str | os.PathLike):
            query = as_motion(query, **self.reader_options)
        elif isinstance(query, np.ndarray | torch.Tensor):
            query = as_motion(query, fps=self.fps)
        if not isinstance(query, Motion):
            raise TypeError(f"cannot search for a {type(query).__name__}; give a text, a Motion, an array or a path")
        if abs(query.fps - self.fps) > 1e-3:
            query = query.resample(self.fps)
        if reason := self.encoder.refusal(query.features):
            raise ValueError(f"cannot search for this motion: {reason}")
        return query

    # ---- the steps that transformers names ---------------------------------------------------------------

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        refuse_unknown(type(self).__name__, kwargs, ("index", "num_proc", "reader_options", *SEARCH_SETTINGS))
        return {}, kwargs, {}

    def preprocess(self, input_: Sequence[str | Motion], **kwargs: Any) -> dict[str, Any]:
        """Collect queries of one kind, texts or motions, and their files, if they have one."""
        return {"queries": list(input_), "own": list(kwargs.get("own") or [None] * len(input_))}

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Any],
        top_k: int = 10,
        target: str = "motion",
        rerank: int = 0,
        exact: bool = False,
    ) -> dict[str, Any]:
        """Find rows of the index and their scores for each query."""
        queries = input_tensors["queries"]
        of_text = isinstance(queries[0], str)
        if of_text and target != "motion":
            raise ValueError(
                'target="caption" needs a motion as query; with a text, search for motions, target="motion"'
            )
        if rerank and not of_text and target == "motion":
            raise ValueError(
                'rerank compares a text with a motion, not two motions; leave it out, or use target="caption"'
            )
        if target == "caption" and not self.index.num_captions:
            raise ValueError(
                f"{self.index.path} has no captions; add a metadata.jsonl to the folder and index it again, "
                'or search for motions, target="motion"'
            )
        count = max(top_k, rerank)
        if of_text:
            found = self.index.find_motions(self.encoder.encode_texts(queries), count, exact=exact)
        else:
            encoded = self.encoder.encode_motions([motion.features for motion in queries])
            features = np.stack([motion.features for motion in encoded])
            find = self.index.find_captions if target == "caption" else self.index.find_similar
            found = find(features, count + (target == "motion"), exact=exact)
        if target == "motion":
            found = [self._without(own, rows) for own, rows in zip(input_tensors["own"], found, strict=True)]
        matches: list[list[float] | None] = [None] * len(found)
        if rerank:
            for k, rows in enumerate(found):
                if rows:
                    latents = None if of_text else encoded[k].latents
                    found[k], matches[k] = self._rerank(rows[:rerank], queries[k], latents)
        return {"found": [rows[:top_k] for rows in found], "matches": matches, "target": target}

    def _without(self, own: Path | None, found: "list[Found]") -> "list[Found]":
        """Remove the row of a file."""
        if own is None:
            return found
        files = [hit["file"] for hit in self.index.motion_hits(found)]
        return [row for row, file in zip(found, files, strict=True) if file is None or not _same_file(own, file)]

    def _rerank(
        self, found: "list[Found]", query: str | Motion, latents: np.ndarray | None
    ) -> "tuple[list[Found], list[float]]":
        """Reorder rows, motions for a text or captions for latents of a motion, and return them with their matches."""
        rows = [row for row, _ in found]
        if latents is None:
            logits = self.encoder.matching_logits(self.index.latents(rows), [str(query)] * len(rows))
        else:
            texts = list(self.index.caption_dataset.select(rows)["text"])
            logits = self.encoder.matching_logits([latents] * len(rows), texts)
        scores = self.encoder.combined([score for _, score in found], logits)
        order = np.argsort(-scores, kind="stable")
        matches = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return [found[k] for k in order], [float(matches[k]) for k in order]

    def postprocess(self, model_outputs: dict[str, Any], **kwargs: Any) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        """Turn rows into hits for each query."""
        hits = self.index.caption_hits if model_outputs["target"] == "caption" else self.index.motion_hits
        results = [hits(found) for found in model_outputs["found"]]
        for found, matches in zip(results, model_outputs["matches"], strict=True):
            for hit, match in zip(found, matches or (), strict=False):
                hit["match"] = match
        return results


def _own_file(item: Any, query: str | Motion) -> Path | None:
    """Return the file of a query, if it is one."""
    is_file = isinstance(query, Motion) and isinstance(item, str | os.PathLike)
    return Path(item) if is_file else None


def _same_file(first: Path, second: str) -> bool:
    with suppress(OSError):
        return first.samefile(second)
    return False


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Check the settings of a call and turn `rerank` into a number."""
    top_k, rerank = settings.get("top_k", 10), settings.get("rerank", 0)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k={top_k!r} is not a whole number of at least 1")
    if not isinstance(rerank, int) or rerank < 0:
        raise ValueError(f"rerank={rerank!r} is not True, False or a whole number of at least 0")
    if rerank:
        settings["rerank"] = max(top_k, RERANKED if rerank is True else rerank)
    else:
        settings["rerank"] = 0
    if (target := settings.get("target", "motion")) not in TARGETS:
        raise ValueError(f"target={target!r} is unknown; choose one of {', '.join(TARGETS)}")
    return settings

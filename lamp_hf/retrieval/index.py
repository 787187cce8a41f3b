"""Motion index: vectors of many motions on disk, and search over them.

    my_index/
      index.json               the checkpoint of the vectors, the sources of the motions, sizes
      motions/00000.arrow …    id, file, captions, features, latents: a `datasets.Dataset`
      motions.faiss            finds candidates among the motions
      captions/00000.arrow …   every caption once, with its features
      captions.faiss           finds candidates among the captions

`index.json` is replaced after every file of rows. If the work is interrupted, the index stays consistent with it, and
the next call continues from there. It contains the checksum of every file and of itself, which are compared when an
index is opened.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value
from tqdm.auto import tqdm

from lamp_hf.files import atomic_path
from lamp_hf.hub.errors import clear_hub_errors
from lamp_hf.locks import folder_lock

from .candidates import CandidateFinder
from .encoder import MotionTextEncoder
from .publishing import push_index
from .search import Found, caption_score, motion_score, search, text_score
from .sources import Clip, Source
from .storage import DamagedFileError, MappedSequences, MappedVectors, PartedDataset, ragged

__all__ = ["Found", "IndexMismatchError", "MotionIndex", "MotionIndexError"]

logger = logging.getLogger(__name__)

FORMAT = 2
FILE_NAME = "index.json"
FOLDERS = ("", "motions", "captions")  # the folders of an index
_CHECKSUM = "checksum"  # key of index.json for the checksum of all its other entries
_ATTEMPTS = 5
ROWS_PER_FILE = 2048
VECTORS_PER_MOTION = 4


class MotionIndexError(ValueError):
    """Error for a motion index that is damaged or has another format version."""


class IndexMismatchError(MotionIndexError):
    """Error for a model whose vectors cannot be compared with those of the index."""


@dataclass
class _State:
    """Content of `index.json`.

    Attributes:
        checkpoint: Name of the checkpoint that made the vectors.
        fingerprint: Its hash, see [`MotionTextEncoder.fingerprint`].
        num_queries, projection_dim, code_dim: Sizes Q, P and C.
        vectors_per_motion: Number of vectors that FAISS stores per motion, see [`MotionIndex.create`].
        groups: Group of each query, see [`group_queries`]; `None` before the first motions are added.
        complete: Whether the last source was added completely.
        sources: Name and folder (or `None`) of each source.
        motion_files, caption_files: Number of rows of each file.
        motion_checksums, caption_checksums: SHA-256 of each file.
        faiss_checksums: SHA-256 of each finished FAISS file, by file name.
        removed: Rows whose motion was removed or replaced.
        format: Version of the format.
    """

    checkpoint: str
    fingerprint: str
    num_queries: int
    projection_dim: int
    code_dim: int
    vectors_per_motion: int
    groups: list[int] | None = None
    complete: bool = True
    sources: list[dict[str, str | None]] = field(default_factory=list)
    motion_files: list[int] = field(default_factory=list)
    caption_files: list[int] = field(default_factory=list)
    motion_checksums: list[str] = field(default_factory=list)
    caption_checksums: list[str] = field(default_factory=list)
    faiss_checksums: dict[str, str] = field(default_factory=dict)
    removed: list[int] = field(default_factory=list)
    format: int = FORMAT


class MotionIndex:
    """Index of motions and captions on disk: finds motions by text or by motion, and captions by motion.

    ```python
    >>> from lamp_hf.retrieval import MotionIndex, MotionTextEncoder, find_source
    >>> index = MotionIndex.create("my_index", encoder)
    >>> index.add(find_source("my_mocap"), encoder, progress=False)
    1
    >>> [found] = index.find_motions(encoder.encode_texts(["a person waves"]), top_k=5)
    >>> index.motion_hits(found)[0]["id"]
    'walk.bvh'

    ```

    Use [`create`], [`open`] or [`from_hub`] instead of the constructor.
    """

    def __init__(self, path: Path, state: _State):
        self.path = path
        self._load(state)

    def _load(self, state: _State) -> None:
        self._state = state
        shape = (state.num_queries, state.projection_dim)
        self._motions = PartedDataset(
            self.path / "motions", _motion_columns(*shape), state.motion_files, state.motion_checksums
        )
        columns = _caption_columns(state.projection_dim)
        self._captions = PartedDataset(self.path / "captions", columns, state.caption_files, state.caption_checksums)
        self._refresh()

    def _refresh(self) -> None:
        """Recompute everything that is derived from the rows. Call it after they change."""
        state = self._state
        self.dataset: Dataset = self._motions.dataset
        self.caption_dataset: Dataset = self._captions.dataset
        self.features = MappedVectors(self.dataset, "features", (state.num_queries, state.projection_dim))
        self._latents = MappedSequences(self.dataset, "latents", state.code_dim)
        caption_features = MappedVectors(self.caption_dataset, "features", (1, state.projection_dim))
        self._motion_finder = self._finder("motions.faiss", self.features, state.vectors_per_motion, state.groups)
        self._caption_finder = self._finder("captions.faiss", caption_features, 1, [0])
        self.alive = np.ones(len(self.dataset), bool)
        self.alive[state.removed] = False
        self._caption_owner = np.array(self.caption_dataset["row"][:], np.int64)
        if state.removed:
            self._caption_owner = self._owners_alive()

    def _finder(self, name: str, vectors: MappedVectors, per_row: int, groups: list[int] | None) -> CandidateFinder:
        return CandidateFinder(self.path / name, vectors, per_row, groups, self._state.faiss_checksums.get(name))

    def _owners_alive(self) -> np.ndarray:
        """Return the first remaining motion of each caption, or -1."""
        owners: dict[str, int] = {}
        rows = np.flatnonzero(self.alive)
        for row, captions in zip(rows, self.dataset.select(rows)["captions"], strict=True):
            for caption in captions:
                owners.setdefault(caption, int(row))
        return np.array([owners.get(text, -1) for text in self.caption_dataset["text"]], np.int64)

    # ---- files --------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], encoder: MotionTextEncoder, *, vectors_per_motion: int | None = None
    ) -> "MotionIndex":
        """Create an empty index in a new folder.

        Args:
            path: The folder. It must be empty or not exist.
            encoder: The encoder that will be used with the index.
            vectors_per_motion: Number of vectors that FAISS stores per motion to find candidates, from 1 (the mean over
                the queries) to Q (one per query). Defaults to 4. More vectors take more space and miss fewer motions.

        Raises:
            FileExistsError: The folder is not empty, or `path` is a file.
            ValueError: `vectors_per_motion` is not from 1 to Q.
            ImportError: FAISS is not installed.
        """
        path = Path(path)
        if vectors_per_motion is None:
            vectors_per_motion = min(VECTORS_PER_MOTION, encoder.num_queries)
        if not 1 <= vectors_per_motion <= encoder.num_queries:
            raise ValueError(f"vectors_per_motion={vectors_per_motion}: expected 1 to {encoder.num_queries}")
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path}: exists and is not a folder; choose another path")
        path.mkdir(parents=True, exist_ok=True)
        with folder_lock(path, busy=_busy(path), wait=True):
            # Hidden files are allowed: the lock, and leftovers of interrupted writes.
            if any(not inside.name.startswith(".") for inside in path.iterdir()):
                raise FileExistsError(f"{path}: the folder is not empty; choose another one")
            sizes = (encoder.num_queries, encoder.projection_dim, encoder.code_dim)
            index = cls(path, _State(encoder.name, encoder.fingerprint, *sizes, vectors_per_motion))
            index._save()
        return index

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "MotionIndex":
        """Open the index in a folder.

        Raises:
            FileNotFoundError: The folder does not contain an index.
            MotionIndexError: The index is damaged or has another format version.
        """
        path = Path(path)
        if not is_index(path):
            raise FileNotFoundError(f"{path}: not a motion index ({FILE_NAME} is missing)")
        for attempt in range(_ATTEMPTS):
            state = _read_state(path)
            try:
                index = cls(path, state)
                break
            except (DamagedFileError, OSError) as error:
                # If another process is writing, the state has changed by now, and opening is tried again.
                if attempt + 1 == _ATTEMPTS or _read_state(path) == state:
                    raise _damaged(path, error) from error
        if not index.complete:
            logger.warning(
                "%s: the index is unfinished (%d motions); index its source again to continue", path, len(index)
            )
        return index

    @classmethod
    def from_hub(cls, repo_id: str, *, revision: str | None = None, local_dir: str | None = None) -> "MotionIndex":
        """Download an index from the Hub and open it.

        Args:
            repo_id: Hub id, `owner/name`.
            revision: Branch, tag or commit.
            local_dir: Folder to download to, for an index that you want to add motions to. Defaults to the Hub's cache.

        Raises:
            FileNotFoundError: The repository does not contain an index.
            HubError: The repository does not exist or is private.
        """
        from huggingface_hub import snapshot_download

        with clear_hub_errors(repo_id):
            path = snapshot_download(repo_id, repo_type="dataset", revision=revision, local_dir=local_dir)
        if not is_index(path):
            raise FileNotFoundError(f"{repo_id}: not a motion index ({FILE_NAME} is missing)")
        return cls.open(path)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, license: str | None = None, token: str | None = None
    ) -> str:
        """Upload the index as a dataset repository, in one commit.

        The motion files and the paths of local folders are not uploaded. A hit names the file by its path relative to
        the indexed folder.

        Args:
            repo_id: `owner/name`, or just a name for a repository of your own.
            private: Make a new repository private.
            license: License identifier of the Hub. Defaults to the license in the existing card, otherwise to `other`
                with a warning.
            token: Access token. Defaults to the one that you are logged in with.

        Returns:
            URL of the repository.

        Raises:
            HubError: The Hub refused the upload, or it did not finish. The repository is unchanged.
        """
        return push_index(self, repo_id, private=private, license=license, token=token)

    def portable_state(self) -> str:
        """Return the text of `index.json` without the folders of this machine."""
        sources = [{"name": Path(str(source["name"])).name, "root": None} for source in self._state.sources]
        return _written(asdict(self._state) | {"sources": sources})

    def _save(self) -> None:
        state = self._state
        state.motion_files, state.motion_checksums = list(self._motions.counts), list(self._motions.checksums)
        state.caption_files, state.caption_checksums = list(self._captions.counts), list(self._captions.checksums)
        finders = (self._motion_finder, self._caption_finder)
        state.faiss_checksums = {finder.path.name: finder.written for finder in finders if finder.written}
        with atomic_path(self.path / FILE_NAME) as unfinished:
            unfinished.write_text(_written(asdict(state)), encoding="utf-8")

    # ---- facts --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.alive.sum())

    @property
    def num_captions(self) -> int:
        """Number of distinct captions."""
        return int((self._caption_owner >= 0).sum())

    @property
    def complete(self) -> bool:
        """Whether the last source was added completely."""
        return self._state.complete

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint that made the vectors."""
        return self._state.checkpoint

    @property
    def fingerprint(self) -> str:
        """Hash of the checkpoint, see [`MotionTextEncoder.fingerprint`]."""
        return self._state.fingerprint

    @property
    def vectors_per_motion(self) -> int:
        """Number of vectors that FAISS stores per motion."""
        return self._state.vectors_per_motion

    def describe(self) -> dict[str, str]:
        """Return facts about the index, by name, as text."""
        return {
            "index": str(self.path),
            "motions": str(len(self)),
            "captions": str(self.num_captions),
            "checkpoint": f"{self.checkpoint} (hash {self.fingerprint[:12]})",
            "vectors in FAISS": f"{self.vectors_per_motion} of each motion",
            "sources": ", ".join(str(source["name"]) for source in self._state.sources) or "none",
            "complete": "yes" if self.complete else "no: index its source again to continue",
        }

    def check(self, encoder: MotionTextEncoder) -> None:
        """Check that an encoder and the index use the same checkpoint.

        Raises:
            IndexMismatchError: The encoder has another checkpoint, or the same one after further training.
        """
        state = self._state
        if encoder.fingerprint != state.fingerprint:
            raise IndexMismatchError(
                f"{self.path}: the index was made with {state.checkpoint} (hash {state.fingerprint[:12]}), but this "
                f"model is {encoder.name} (hash {encoder.fingerprint[:12]}), so their vectors cannot be compared; "
                f"load {state.checkpoint}, or make a new index with `lamp-hf index`"
            )

    # ---- updates ------------------------------------------------------------------------------------------

    def add(self, source: Source, encoder: MotionTextEncoder, *, progress: bool = True) -> int:
        """Bring the index up to date with a source. Only new and changed motions are encoded.

        Changed motions are replaced, and motions whose file is no longer in the source's folder are removed. After an
        interruption, the next call continues where the last one stopped. While another process is adding motions, the
        call waits and then adds those that are still missing. If there are none, nothing is written.

        Args:
            source: The motions, see [`find_source`].
            encoder: The checkpoint that the index was made with.
            progress: Show progress bars.

        Returns:
            Number of motions that were encoded.

        Raises:
            IndexMismatchError: The encoder has another checkpoint.
            MotionFormatError: Motions cannot be read, and the source does not skip them.
            MotionIndexError: The index is damaged.
        """
        self.check(encoder)
        with self._locked():
            before = deepcopy(self._state)
            number = self._number_of(source)
            rows = {
                (name, digest): row
                for row, (home, name, digest) in enumerate(self._columns("source", "id", "digest"))
                if home == number and self.alive[row]
            }
            row_of_id = {name: row for (name, _), row in rows.items()}
            captions = {text: row for row, text in enumerate(self.caption_dataset["text"])}
            added = 0
            with tqdm(
                total=len(source), desc="Indexing motions", unit="motion", disable=None if progress else True
            ) as bar:
                for chunk in source.clips(rows.keys(), ROWS_PER_FILE, progress=progress):
                    if new := self._encodable(chunk, encoder):
                        self._state.complete = False
                        self._append(new, number, encoder, captions, row_of_id)
                        self._save()
                    added += len(new)
                    bar.update(len(chunk))
            if (ids := source.ids()) is not None:
                gone = set(row_of_id) - set(ids)
                self._state.removed = sorted({*self._state.removed, *(row_of_id[name] for name in gone)})
            if self._state != before or not self._state.complete:
                self._finish(progress)
        return added

    def _finish(self, progress: bool) -> None:
        """Bring the FAISS files up to date with the rows and mark the index as complete."""
        self._refresh()
        finders = (self._motion_finder, self._caption_finder)
        for finder in finders:
            finder.prepare()
        self._state.groups = self._motion_finder.groups
        self._state.complete = False
        self._save()
        for finder in finders:
            finder.update(progress=progress)
        self._state.complete = True
        self._save()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the folder and load its present state. After an error, reload the state that was last written."""
        with folder_lock(self.path, busy=_busy(self.path), wait=True):
            for part in FOLDERS:
                for unfinished in (self.path / part).glob(".*.*"):  # of a process that was killed
                    if unfinished.suffix in (".arrow", ".faiss", ".json"):
                        unfinished.unlink(missing_ok=True)
            state = _read_state(self.path)
            try:
                if state != self._state:
                    self._load(state)
                yield
            except DamagedFileError as error:
                raise _damaged(self.path, error) from error
            except BaseException:
                self._load(_read_state(self.path))
                raise

    def _number_of(self, source: Source) -> int:
        entry = {"name": source.name, "root": None if source.root is None else str(source.root)}
        if entry not in self._state.sources:
            self._state.sources.append(entry)
        return self._state.sources.index(entry)

    def _columns(self, *names: str) -> Iterator[tuple]:
        return zip(*(self.dataset[name][:] for name in names), strict=True)

    def _encodable(self, chunk: Sequence[Clip | None], encoder: MotionTextEncoder) -> list[Clip]:
        """Return the new motions that the model can encode; warn about the others."""
        clips = []
        for clip in chunk:
            reason = None if clip is None else encoder.refusal(clip.motion)
            if reason is not None:
                logger.warning("%s: skipped, %s", clip.id if clip else "", reason)
            elif clip is not None:
                clips.append(clip)
        return clips

    def _append(
        self,
        clips: list[Clip],
        source: int,
        encoder: MotionTextEncoder,
        caption_rows: dict[str, int],
        row_of_id: dict[str, int],
    ) -> None:
        """Encode motions and their new captions, and write both."""
        first = len(self._motions)
        encoded = encoder.encode_motions([clip.motion for clip in clips])
        texts: dict[str, int] = {}
        for row, clip in enumerate(clips, start=first):
            for text in clip.captions:
                if text not in caption_rows:
                    texts.setdefault(text, row)
        if texts:
            features = encoder.encode_texts(list(texts))
            self._captions.append({"text": list(texts), "row": list(texts.values()), "features": features})
            caption_rows.update(texts)
        self._motions.append(
            {
                "id": [clip.id for clip in clips],
                "file": [clip.file for clip in clips],
                "source": [source] * len(clips),
                "digest": [clip.digest for clip in clips],
                "num_frames": [len(clip.motion) for clip in clips],
                "captions": [list(clip.captions) for clip in clips],
                "features": np.stack([motion.features for motion in encoded]),
                "latents": ragged([motion.latents for motion in encoded]),
            }
        )
        for row, clip in enumerate(clips, start=first):
            if clip.id in row_of_id:
                self._state.removed.append(row_of_id[clip.id])
            row_of_id[clip.id] = row

    # ---- search -------------------------------------------------------------------------------------------

    def find_motions(self, text_features: np.ndarray, top_k: int = 10, *, exact: bool = False) -> list[list[Found]]:
        """Find motions for texts. The score is the best cosine similarity over a motion's queries.

        Args:
            text_features: `(N, P)`.
            top_k: Number of motions per text.
            exact: Score all motions, not only the candidates that FAISS finds.

        Returns:
            The best motions of each text, best first.
        """
        queries = np.asarray(text_features, np.float32)[:, None]
        return search(self._motion_finder, queries, self.alive, text_score, top_k, exact=exact)

    def find_similar(self, motion_features: np.ndarray, top_k: int = 10, *, exact: bool = False) -> list[list[Found]]:
        """Find motions that are similar to given ones.

        The score is the mean cosine similarity of corresponding queries; it is 1 for the same motion.

        Args:
            motion_features: `(N, Q, P)`.
            top_k, exact: See [`find_motions`].
        """
        queries = np.asarray(motion_features, np.float32)
        # All queries count equally, so candidates are searched with the mean of the motion's vectors.
        groups = [0] * queries.shape[1]
        return search(self._motion_finder, queries, self.alive, motion_score, top_k, groups=groups, exact=exact)

    def find_captions(self, motion_features: np.ndarray, top_k: int = 10, *, exact: bool = False) -> list[list[Found]]:
        """Find captions for motions. The score is the best cosine similarity over the motion's queries.

        Args:
            motion_features: `(N, Q, P)`.
            top_k, exact: See [`find_motions`].

        Returns:
            The best rows of `caption_dataset` for each motion, best first.
        """
        alive = self._caption_owner >= 0
        queries = np.asarray(motion_features, np.float32)
        # One query decides, so candidates are searched with the mean of each group of queries.
        groups = self._motion_finder.groups
        return search(self._caption_finder, queries, alive, caption_score, top_k, groups=groups, exact=exact)

    # ---- hits ---------------------------------------------------------------------------------------------

    def motion_hits(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Return `{"id", "file", "score", "captions"}` for each motion found."""
        rows = self.dataset.select([row for row, _ in found]).select_columns(["id", "file", "source", "captions"])
        return [
            {
                "id": row["id"],
                "file": self._file(row["file"], row["source"]),
                "score": score,
                "captions": list(row["captions"]),
            }
            for row, (_, score) in zip(rows, found, strict=True)
        ]

    def caption_hits(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Return `{"id", "file", "score", "captions"}` for each caption found, with a motion that has this caption."""
        owners = [Found(int(self._caption_owner[row]), score) for row, score in found]
        texts = self.caption_dataset.select([row for row, _ in found])["text"]
        return [hit | {"captions": [text]} for hit, text in zip(self.motion_hits(owners), texts, strict=True)]

    def latents(self, rows: Collection[int]) -> list[np.ndarray]:
        """Return the latents `(n, code_dim)` of motions, float32, for the matching head."""
        return [self._latents.row(row) for row in rows]

    def _file(self, file: str, source: int) -> str | None:
        root = self._state.sources[source]["root"]
        if not file:
            return None
        return file if root is None else str(Path(root, file))


def _busy(path: Path) -> str:
    return f"{path}: another process is adding motions to this index"


def _damaged(path: Path, error: Exception) -> MotionIndexError:
    return MotionIndexError(
        f"{path}: the index is damaged ({error}); delete the folder and rebuild the index with `lamp-hf index`"
    )


def _written(state: dict[str, Any]) -> str:
    """Return the text of `index.json`."""
    return json.dumps({**state, _CHECKSUM: _state_checksum(state)}, indent=2) + "\n"


def _state_checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _read_state(path: Path) -> _State:
    """Read `index.json` of a folder.

    Raises:
        MotionIndexError: The file is damaged or has another format version.
    """
    file = path / FILE_NAME
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise DamagedFileError(f"{file}: not a JSON object")
        checksum = values.pop(_CHECKSUM, None)
        if isinstance(values.get("format"), int) and values["format"] != FORMAT:
            raise MotionIndexError(
                f"{path}: this motion index has format {values['format']}, but this version reads format {FORMAT}; "
                "delete the folder and rebuild the index with `lamp-hf index`"
            )
        if checksum != _state_checksum(values):
            raise DamagedFileError(f"{file}: its checksum differs")
        return _State(**values)
    except MotionIndexError:
        raise
    except (ValueError, TypeError, OSError, RecursionError) as error:
        message = error if isinstance(error, DamagedFileError) else f"{file}: cannot be read ({error})"
        raise _damaged(path, ValueError(str(message))) from error


def discard_index(path: Path) -> None:
    """Delete the files of a damaged index in the cache so that it can be rebuilt in its folder."""
    with folder_lock(path, busy=_busy(path), wait=True):
        try:
            MotionIndex.open(path)
            return  # another process has already rebuilt it
        except (MotionIndexError, FileNotFoundError):
            pass
        for part in ("motions", "captions"):
            shutil.rmtree(path / part, ignore_errors=True)
        for name in ("motions.faiss", "captions.faiss", FILE_NAME):  # last: `is_index` looks for it
            (path / name).unlink(missing_ok=True)


def is_index(path: str | os.PathLike[str]) -> bool:
    """Return whether a folder contains a motion index."""
    return (Path(path) / FILE_NAME).is_file()


def _motion_columns(num_queries: int, projection_dim: int) -> Features:
    return Features(
        {
            "id": Value("string"),
            "file": Value("string"),
            "source": Value("int32"),
            "digest": Value("string"),
            "num_frames": Value("int32"),
            "captions": List(Value("string")),
            "features": List(Value("float16"), length=num_queries * projection_dim),
            "latents": List(Value("float16")),
        }
    )


def _caption_columns(projection_dim: int) -> Features:
    return Features(
        {
            "text": Value("string"),
            "row": Value("int64"),
            "features": List(Value("float16"), length=projection_dim),
        }
    )

"""The motion index: vectors of many motions on disk, and the search among them.

    my_index/
      index.json               which checkpoint made the vectors, where the motions come from, sizes
      motions/00000.arrow …    id, file, captions, features, latents: a `datasets.Dataset`
      motions.faiss            finds candidates among the motions
      captions/00000.arrow …   every caption once, with its features
      captions.faiss           finds candidates among the captions

`index.json` is replaced after every file of rows, so that whatever interrupts the work, an index holds what it
says, and the next call goes on from there. It has the checksum of every file, and of itself: they are compared when
an index is opened.
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
from .search import Found, caption_score, motion_score, search, text_score
from .sources import Clip, Source
from .storage import DamagedFileError, MappedSequences, MappedVectors, PartedDataset, ragged

__all__ = ["Found", "IndexMismatchError", "MotionIndex", "MotionIndexError"]

logger = logging.getLogger(__name__)

FORMAT = 2
FILE_NAME = "index.json"
PARTS = ("", "motions", "captions")  # its folders
_CHECKSUM = "checksum"  # key of index.json for that of all others
_ATTEMPTS = 5
ROWS_PER_FILE = 2048
VECTORS_PER_MOTION = 4


class MotionIndexError(ValueError):
    """A motion index that is damaged, or of another version."""


class IndexMismatchError(MotionIndexError):
    """Vectors of different checkpoints, which cannot be compared."""


@dataclass
class _State:
    """What `index.json` holds.

    Attributes:
        checkpoint: Name of what made the vectors.
        fingerprint: Its hash, see [`MotionTextEncoder.fingerprint`].
        num_queries, projection_dim, code_dim: Sizes Q, P and C.
        vectors_per_motion: How many vectors FAISS holds of each motion, see [`MotionIndex.create`].
        groups: Which queries they stand for, see [`group_queries`]; `None` before there are any.
        complete: Whether the last source was read to its end.
        sources: Name and folder (or `None`) of each.
        motion_files, caption_files: Rows of each file.
        motion_checksums, caption_checksums: SHA-256 of each file.
        faiss_checksums: Of the files of FAISS by their names, those that are finished.
        removed: Rows whose motion is gone or was replaced.
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
    """Motions on disk that are found by text, by motion, and by what is said about them.

    ```python
    >>> from lamp_hf.retrieval import MotionIndex, MotionTextEncoder, find_source
    >>> index = MotionIndex.create("my_index", encoder)
    >>> index.add(find_source("my_mocap"), encoder, progress=False)
    1
    >>> [found] = index.find_motions(encoder.encode_texts(["a person waves"]), top_k=5)
    >>> index.motion_hits(found)[0]["id"]
    'walk.bvh'

    ```

    `create` and `open` make one; the constructor is theirs.
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
        """What is derived from the rows, anew after they have changed."""
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
        """For each caption the first motion that still has it, or -1."""
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
        """An empty index in a new folder.

        Args:
            path: The folder; it must not exist, or be empty.
            encoder: What will make its vectors.
            vectors_per_motion: How many vectors of a motion FAISS holds to find candidates, from 1, the mean over
                its queries, to Q, each of them; 4 if not said. More take more space and miss less.

        Raises:
            FileExistsError: The folder holds something.
            ImportError: FAISS is not installed.
        """
        path = Path(path)
        if vectors_per_motion is None:
            vectors_per_motion = min(VECTORS_PER_MOTION, encoder.num_queries)
        if not 1 <= vectors_per_motion <= encoder.num_queries:
            raise ValueError(f"vectors_per_motion={vectors_per_motion} is not from 1 to {encoder.num_queries}")
        if path.exists() and not path.is_dir():
            raise FileExistsError(f"{path} exists and is not a folder")
        path.mkdir(parents=True, exist_ok=True)
        with folder_lock(path, busy=_busy(path), wait=True):
            # Hidden files are the lock, and what was being written when something went wrong.
            if any(not inside.name.startswith(".") for inside in path.iterdir()):
                raise FileExistsError(f"{path} exists and is not an empty folder")
            sizes = (encoder.num_queries, encoder.projection_dim, encoder.code_dim)
            index = cls(path, _State(encoder.name, encoder.fingerprint, *sizes, vectors_per_motion))
            index._save()
        return index

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "MotionIndex":
        """The index in a folder.

        Raises:
            FileNotFoundError: The folder holds none.
            MotionIndexError: It is damaged, or of another version of the package.
        """
        path = Path(path)
        if not is_index(path):
            raise FileNotFoundError(f"{path} holds no motion index: {FILE_NAME} is missing")
        for attempt in range(_ATTEMPTS):
            state = _read_state(path)
            try:
                index = cls(path, state)
                break
            except (DamagedFileError, OSError) as error:
                # Another process may just be writing: then the state is another one by now.
                if attempt + 1 == _ATTEMPTS or _read_state(path) == state:
                    raise _damaged(path, error) from error
        if not index.complete:
            logger.warning("%s is unfinished (%d motions); index its source again to go on", path, len(index))
        return index

    @classmethod
    def from_hub(cls, repo_id: str, *, revision: str | None = None, local_dir: str | None = None) -> "MotionIndex":
        """An index from the Hub, downloaded to its cache, or to a folder of its own, where motions can be added.

        Raises:
            FileNotFoundError: The repository holds no index.
            HubError: There is no such repository, or it is private.
        """
        from huggingface_hub import snapshot_download

        with clear_hub_errors(repo_id):
            path = snapshot_download(repo_id, repo_type="dataset", revision=revision, local_dir=local_dir)
        if not is_index(path):
            raise FileNotFoundError(f"{repo_id} holds no motion index: {FILE_NAME} is missing")
        return cls.open(path)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, license: str | None = None, token: str | None = None
    ) -> str:
        """Upload the index as a dataset repository, in one commit, and without folders of this machine.

        Motions themselves stay where they are: a hit names the file by its path in the folder.

        Args:
            repo_id: `owner/name`, or a name of your own.
            private: Make a new repository private.
            license: As the Hub spells it; by default that of the card that is there, else `other`, with a warning.
            token: In place of the one that you are logged in with.

        Returns:
            URL of the repository.

        Raises:
            HubError: The Hub refuses, or the upload did not finish: nothing in the repository has changed.
        """
        from .publishing import push_index

        return push_index(self, repo_id, private=private, license=license, token=token)

    def portable_state(self) -> str:
        """Text of `index.json` without folders of this machine."""
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
        """Different captions of the motions."""
        return int((self._caption_owner >= 0).sum())

    @property
    def complete(self) -> bool:
        """Whether the last source was read to its end."""
        return self._state.complete

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint that made the vectors."""
        return self._state.checkpoint

    @property
    def fingerprint(self) -> str:
        """Hash of that checkpoint."""
        return self._state.fingerprint

    @property
    def vectors_per_motion(self) -> int:
        """How many vectors FAISS holds of each motion."""
        return self._state.vectors_per_motion

    def describe(self) -> dict[str, str]:
        """What it holds, by name, as text to show."""
        return {
            "index": str(self.path),
            "motions": str(len(self)),
            "captions": str(self.num_captions),
            "checkpoint": f"{self.checkpoint} (hash {self.fingerprint[:12]})",
            "vectors in FAISS": f"{self.vectors_per_motion} of each motion",
            "sources": ", ".join(str(source["name"]) for source in self._state.sources) or "none",
            "complete": "yes" if self.complete else "no: index its source again to go on",
        }

    def check(self, encoder: MotionTextEncoder) -> None:
        """Refuse an encoder whose vectors are not those of the index.

        Raises:
            IndexMismatchError: It is another checkpoint, or the same one trained further.
        """
        state = self._state
        if encoder.fingerprint != state.fingerprint:
            raise IndexMismatchError(
                f"the index {self.path} was made with {state.checkpoint} (hash {state.fingerprint[:12]}), this model "
                f"is {encoder.name} (hash {encoder.fingerprint[:12]}): their vectors cannot be compared. Load "
                f"{state.checkpoint}, or make a new index with `lamp-hf index`"
            )

    # ---- growth -------------------------------------------------------------------------------------------

    def add(self, source: Source, encoder: MotionTextEncoder, *, progress: bool = True) -> int:
        """Bring the index up to date with a source; only what is new is encoded.

        Motions that are there already are passed over, changed ones replaced. Those whose file has left the
        source's folder leave the index. A call that was interrupted goes on where it stopped. While another process
        is adding, the call waits, and then adds what is still missing; where nothing is, nothing is written.

        Args:
            source: Where the motions are, see [`find_source`].
            encoder: The checkpoint that the index was made with.
            progress: Show progress bars.

        Returns:
            Number of motions that were encoded.

        Raises:
            IndexMismatchError: The encoder is another one.
            MotionFormatError: Motions cannot be read, and the source does not leave bad ones out.
            MotionIndexError: The index was damaged meanwhile.
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
        """Bring the files of FAISS up to date with the rows, and say that all is there."""
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
        """Alone with the index as it is on disk by now; after an error, what is written is what counts."""
        with folder_lock(self.path, busy=_busy(self.path), wait=True):
            for part in PARTS:
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
        """New motions that the model takes, with a warning for the others."""
        clips = []
        for clip in chunk:
            reason = None if clip is None else encoder.refusal(clip.motion)
            if reason is not None:
                logger.warning("%s is left out: %s", clip.id if clip else "", reason)
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
        """Encode motions and the captions that are new, and write both."""
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
        """Motions for texts, scored by their best query.

        Args:
            text_features: `(N, P)`.
            top_k: How many for each text.
            exact: Score all motions, not only the candidates that FAISS finds.

        Returns:
            For each text the best motions, best first.
        """
        queries = np.asarray(text_features, np.float32)[:, None]
        return search(self._motion_finder, queries, self.alive, text_score, top_k, exact=exact)

    def find_similar(self, motion_features: np.ndarray, top_k: int = 10, *, exact: bool = False) -> list[list[Found]]:
        """Motions like others, scored by the mean cosine of like queries: 1 for the same motion.

        Args:
            motion_features: `(N, Q, P)`.
            top_k, exact: As in [`find_motions`].
        """
        queries = np.asarray(motion_features, np.float32)
        # The mean of a motion's vectors finds what resembles it in all of them.
        groups = [0] * queries.shape[1]
        return search(self._motion_finder, queries, self.alive, motion_score, top_k, groups=groups, exact=exact)

    def find_captions(self, motion_features: np.ndarray, top_k: int = 10, *, exact: bool = False) -> list[list[Found]]:
        """Captions for motions, scored by the motion's best query; the rows are those of `caption_dataset`.

        Args:
            motion_features: `(N, Q, P)`.
            top_k, exact: As in [`find_motions`].
        """
        alive = self._caption_owner >= 0
        queries = np.asarray(motion_features, np.float32)
        # The means of groups of a motion's vectors find captions that resemble one of them.
        groups = self._motion_finder.groups
        return search(self._caption_finder, queries, alive, caption_score, top_k, groups=groups, exact=exact)

    # ---- hits ---------------------------------------------------------------------------------------------

    def motion_hits(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        """`{"id", "file", "score", "captions"}` of motions."""
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
        """The same of captions, each with the id and the file of a motion that has it."""
        owners = [Found(int(self._caption_owner[row]), score) for row, score in found]
        texts = self.caption_dataset.select([row for row, _ in found])["text"]
        return [hit | {"captions": [text]} for hit, text in zip(self.motion_hits(owners), texts, strict=True)]

    def latents(self, rows: Collection[int]) -> list[np.ndarray]:
        """Latents `(n, code_dim)` of motions, float32, for the matching head."""
        return [self._latents.row(row) for row in rows]

    def _file(self, file: str, source: int) -> str | None:
        root = self._state.sources[source]["root"]
        if not file:
            return None
        return file if root is None else str(Path(root, file))


def _busy(path: Path) -> str:
    return f"{path} is in use: another process is adding to it"


def _damaged(path: Path, error: Exception) -> MotionIndexError:
    return MotionIndexError(
        f"the index {path} is damaged: {error}. Delete its folder and make it again with `lamp-hf index`"
    )


def _written(state: dict[str, Any]) -> str:
    """Text of `index.json`."""
    return json.dumps({**state, _CHECKSUM: _state_checksum(state)}, indent=2) + "\n"


def _state_checksum(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _read_state(path: Path) -> _State:
    """What `index.json` of a folder holds.

    Raises:
        MotionIndexError: It is damaged, or of another version of the package.
    """
    file = path / FILE_NAME
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise DamagedFileError(f"{file} is not what was written")
        checksum = values.pop(_CHECKSUM, None)
        if isinstance(values.get("format"), int) and values["format"] != FORMAT:
            raise MotionIndexError(
                f"{path} is a motion index of format {values['format']}; this version reads {FORMAT}: delete "
                "its folder and make it again with `lamp-hf index`"
            )
        if checksum != _state_checksum(values):
            raise DamagedFileError(f"{file} is not what was written: its checksum differs")
        return _State(**values)
    except MotionIndexError:
        raise
    except (ValueError, TypeError, OSError, RecursionError) as error:
        message = error if isinstance(error, DamagedFileError) else f"{file} cannot be read ({error})"
        raise _damaged(path, ValueError(str(message))) from error


def discard_index(path: Path) -> None:
    """Remove what a damaged index of the cache holds, so that it can be made again in its folder."""
    with folder_lock(path, busy=_busy(path), wait=True):
        try:
            MotionIndex.open(path)
            return  # another process has made it again already
        except (MotionIndexError, FileNotFoundError):
            pass
        for part in ("motions", "captions"):
            shutil.rmtree(path / part, ignore_errors=True)
        for name in ("motions.faiss", "captions.faiss", FILE_NAME):  # the last says that there is an index
            (path / name).unlink(missing_ok=True)


def is_index(path: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a motion index."""
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

"""Convert motion files to feature arrays: in parallel, once per file content, and safe to interrupt."""

import hashlib
import io
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, NamedSplit, load_from_disk
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from tqdm.auto import tqdm

from lamp_hf.files import atomic_path, file_digest
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.inputs import as_motion, failure, problem_of
from lamp_hf.terminal import counted, shown

logger = logging.getLogger(__name__)

CONVERSION_VERSION = 4  # increase it whenever a change alters the features of a file
_CHECKSUMS = "checksums.json"
_DIGEST_BYTES = hashlib.sha256().digest_size


def default_cache_dir() -> Path:
    """Return $LAMP_HF_CACHE, or ~/.cache/lamp_hf if it is not set."""
    return Path(os.environ.get("LAMP_HF_CACHE") or Path.home() / ".cache" / "lamp_hf")


@dataclass(frozen=True)
class ClipFile:
    """Motion file to convert.

    Attributes:
        clip: Unique name of the clip.
        file_name: Name of the file, with the suffix that selects the reader.
        content: Bytes of the file.
    """

    clip: str
    file_name: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


def open_clips(paths: Mapping[str, Path], failures: dict[str, str]) -> Iterator[ClipFile]:
    """Read files one by one and yield them for conversion. Files that cannot be read are skipped.

    Args:
        paths: Path of each clip, by clip name.
        failures: Receives the reason for each file that cannot be read.
    """
    for clip, path in paths.items():
        if problem := problem_of(path):
            failures[clip] = f"{clip}: {problem}"
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            failures[clip] = failure(clip, error)
        else:
            yield ClipFile(clip, path.name, content)


class DamagedClipError(ValueError):
    """Error for a cached clip whose content has changed."""


@dataclass
class ClipCache:
    """Cache of feature arrays on disk. The name of each file depends on what the array was computed from.

    Each file ends with the SHA-256 of its preceding bytes.

    Attributes:
        cache_dir: Folder of the cache. Arrays are in `clips/`.
        mirror: Whether to convert the mirror image of every clip too.
        reader_options: Options for `as_motion`, such as `{"fps": 30.0}`, or for `to_features`.
        to_features: Converts a file to features `(T, D)` and, if requested, those of its mirror image. It must be
            defined at the top level of a module because other processes run it. Defaults to `file_features`.
    """

    cache_dir: Path
    mirror: bool
    reader_options: dict[str, Any] = field(default_factory=dict)
    to_features: "ToFeatures" = field(default_factory=lambda: file_features)

    def path(self, file_name: str, digest: str) -> Path:
        """Return the path of a file's array, which need not exist yet."""
        parts: tuple[Any, ...] = (CONVERSION_VERSION, Path(file_name).suffix.lower(), self.mirror, self.options_key)
        if self.to_features is not file_features:
            parts += (self.to_features.__module__, self.to_features.__qualname__)
        key = hashlib.sha256(f"{parts!r} {digest}".encode()).hexdigest()
        return self.cache_dir / "clips" / key[:2] / f"{key}.npy"

    @property
    def options_key(self) -> str:
        """The reader options as text; equal options give equal text."""
        return json.dumps(self.reader_options, sort_keys=True)

    def read(self, file_name: str, digest: str, *, mirrored: bool = False) -> np.ndarray:
        """Return the features `(T, D)` of a converted file, float32, as recorded or mirrored.

        Raises:
            DamagedClipError: The cached array is damaged. `convert` converts the file again.
        """
        return np.array(_read_clip(self.path(file_name, digest))[int(mirrored)])

    def shape(self, file_name: str, digest: str) -> tuple[int, int]:
        """Return the shape `(T, D)` of a converted file, without reading the array."""
        both = np.load(self.path(file_name, digest), mmap_mode="r", allow_pickle=False)
        return both.shape[1], both.shape[2]

    def has(self, file_name: str, digest: str) -> bool:
        """Return whether a file is converted and its cached array is undamaged."""
        path = self.path(file_name, digest)
        if not path.is_file():
            return False
        try:
            _read_clip(path)
        except (DamagedClipError, OSError) as error:
            logger.warning("converting again: %s", error)
            return False
        return True

    def convert(
        self,
        files: Iterable[ClipFile],
        *,
        num_proc: int | None = None,
        progress: bool = True,
        total: int | None = None,
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Convert files that are not in the cache, or whose cached array is damaged.

        Args:
            files: The files. They are read one at a time, so a large archive is never in memory as a whole.
            num_proc: Number of processes. Defaults to all cores; 1 converts in this process.
            progress: Show a progress bar.
            total: Number of files, for the progress bar.

        Returns:
            The digest of each converted clip, and the reason for each clip that could not be converted.
        """
        digests: dict[str, str] = {}
        failures: dict[str, str] = {}
        bar = tqdm(total=total, desc="Converting motions", unit="clip", disable=None if progress else True)

        def finish(clip: str, digest: str, error: str | None) -> None:
            if error is None:
                digests[clip] = digest
            else:
                failures[clip] = error
            bar.update()

        with bar, _Workers(num_proc or os.cpu_count() or 1, finish) as workers:
            for file in files:
                digest = file.digest
                if self.has(file.file_name, digest):
                    finish(file.clip, digest, None)
                else:
                    target = self.path(file.file_name, digest)
                    workers.submit(file, digest, target, self.mirror, self.reader_options, self.to_features)
        return digests, failures


def _read_clip(path: Path) -> np.ndarray:
    content = path.read_bytes()
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        raise DamagedClipError(f"{path}: the cached clip is damaged (its checksum differs)")
    array: np.ndarray = np.load(io.BytesIO(body), allow_pickle=False)
    return array


def _write_clip(path: Path, features: np.ndarray) -> None:
    body = io.BytesIO()
    np.save(body, features, allow_pickle=False)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(body.getvalue() + hashlib.sha256(body.getvalue()).digest())


class _Workers:
    """Process pool with a short queue, so that few files are in memory."""

    def __init__(self, num_proc: int, finish: Callable[[str, str, str | None], None]) -> None:
        self.num_proc = num_proc
        self.finish = finish
        self.pool: ProcessPoolExecutor | None = None
        self.waiting: dict[Future[str | None], tuple[str, str]] = {}

    def __enter__(self) -> "_Workers":
        return self

    def submit(self, file: ClipFile, digest: str, *options: Any) -> None:
        if self.num_proc == 1:
            self.finish(file.clip, digest, _convert(file, *options))
            return
        if self.pool is None:
            # Forking is safe because workers run only NumPy. It also lets user scripts omit the
            # `if __name__ == "__main__"` guard.
            method = "fork" if "fork" in get_all_start_methods() else None
            with _ctrl_c_held():
                pool = ProcessPoolExecutor(self.num_proc, mp_context=get_context(method), initializer=_begin_worker)
                future = pool.submit(_convert, file, *options)
                self.pool = pool
        else:
            future = self.pool.submit(_convert, file, *options)
        self.waiting[future] = (file.clip, digest)
        while len(self.waiting) >= 4 * self.num_proc:
            self._collect()

    def _collect(self) -> None:
        done, _ = wait(self.waiting, return_when=FIRST_COMPLETED)
        for future in done:
            clip, digest = self.waiting.pop(future)
            self.finish(clip, digest, future.result())

    def __exit__(self, error_type: object, error: object, traceback: object) -> None:
        while self.waiting and error is None:
            self._collect()
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block, because a half-started pool never ends."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread is interrupted
        yield
        return
    pressed: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:
        raise KeyboardInterrupt


def _begin_worker() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent ends; otherwise its locks would stay held."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


ToFeatures = Callable[[Path, bool, dict[str, Any]], list[np.ndarray]]


def file_features(path: Path, mirror: bool, reader_options: dict[str, Any]) -> list[np.ndarray]:
    """Return the features of a file at its skeleton's frame rate and, if `mirror`, those of its mirror image."""
    motion = as_motion(path, **reader_options)
    if motion.fps != motion.skeleton.default_fps:
        motion = motion.resample(motion.skeleton.default_fps)
    # The joints are mirrored rather than the features: mirrored features would have swapped bone lengths.
    return [motion.features, motion.mirror().features] if mirror else [motion.features]


def _convert(
    file: ClipFile, target: Path, mirror: bool, reader_options: dict[str, Any], to_features: ToFeatures
) -> str | None:
    """Convert one file. Return why it failed, or `None`."""
    # Errors name the file by its path in the folder if that is the clip's name.
    name = file.clip if Path(file.clip).name == file.file_name else file.file_name
    with tempfile.TemporaryDirectory(prefix="lamp_hf-") as folder:
        source = Path(folder) / Path(file.file_name).name  # readers take paths
        source.write_bytes(file.content)
        try:
            features = to_features(source, mirror, reader_options)
        except Exception as error:  # one bad file must not stop the others
            return failure(name, error)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Converting features to joints and back, to mirror them, loses the last frame.
    num_frames = min(map(len, features))
    _write_clip(target, np.stack([array[:num_frames] for array in features]))
    return None


def refuse_failures(failures: dict[str, str], source: str | os.PathLike[str], *, skip_bad: bool) -> None:
    """Raise an error that lists the clips that could not be converted, or only warn with `skip_bad`.

    Raises:
        MotionFormatError: There are such clips, and `skip_bad` is False.
    """
    if not failures:
        return
    if skip_bad:
        for reason in failures.values():
            logger.warning("skipped: %s", shown(reason))
        return
    listed = "\n  ".join(list(failures.values())[:20])
    more = f"\n  and {len(failures) - 20} more; `lamp-hf data check` lists all" if len(failures) > 20 else ""
    raise MotionFormatError(
        f"{source}: {counted(len(failures), 'clip')} cannot be read; skip them with skip_bad=True (--skip-bad on the "
        f"command line, data.skip_bad=true in a recipe):\n  {listed}{more}"
    )


def cached_dataset(
    cache_dir: Path,
    key: str,
    features: Features,
    splits: dict[str, Callable[[], Iterator[dict[str, Any]]]],
    *,
    progress: bool = True,
) -> DatasetDict:
    """Load the dataset saved under a key; build and save it first if it does not exist.

    Args:
        cache_dir: Folder of the cache. Datasets are in `sets/`.
        key: Digest of everything that the dataset depends on.
        features: Columns of the dataset.
        splits: Function that yields the rows, for each split.
        progress: Show the progress bars of `datasets`.
    """
    target = cache_dir / "sets" / key
    saved = _load_set(target) if target.is_dir() else None
    if saved is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = are_progress_bars_disabled()
        if not progress:
            disable_progress_bars()
        try:
            with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as folder:
                built = Path(folder) / "saved"
                _build(splits, features, Path(folder) / "generated").save_to_disk(str(built))
                shutil.rmtree(Path(folder) / "generated")
                (built / _CHECKSUMS).write_text(json.dumps(_checksums(built)), encoding="utf-8")
                try:
                    os.rename(built, target)
                except OSError:
                    if not target.is_dir():  # otherwise another process has saved the same dataset first
                        raise
        finally:
            if not hidden:
                enable_progress_bars()
        saved = load_from_disk(str(target))
    return DatasetDict({split: saved[split] if split in saved else _empty(features, split) for split in splits})


def _checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file. They are compared before loading because damaged files can crash Arrow."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _CHECKSUMS:
            found[path.relative_to(folder).as_posix()] = file_digest(path)
    return found


def _load_set(folder: Path) -> Any:
    """Load the dataset in a folder of the cache. A damaged one is deleted, and `None` is returned."""
    try:
        if json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8")) != _checksums(folder):
            raise ValueError("the checksums of its files differ")
        return load_from_disk(str(folder))
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as error:
        logger.warning("%s: the cached dataset is damaged (%s); rebuilding it", folder, error)
    shutil.rmtree(folder)
    return None


def _build(splits: dict[str, Callable[[], Iterator[dict[str, Any]]]], features: Features, folder: Path) -> DatasetDict:
    """Build the splits that have rows, because `datasets` cannot save empty ones."""
    return DatasetDict(
        {
            split: Dataset.from_generator(rows, features=features, cache_dir=str(folder), split=NamedSplit(split))
            for split, rows in splits.items()
            if next(rows(), None) is not None
        }
    )


def _empty(features: Features, split: str) -> Dataset:
    columns: dict[str, list[Any]] = {column: [] for column in features}
    return Dataset.from_dict(columns, features=features, split=NamedSplit(split))

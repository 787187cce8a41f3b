"""Load the Bandai-Namco Research Motiondataset, from an archive or a clone of its repository, with captions.

Each clip has two labels, a content ("walk-turn-left") and a style ("elderly"), but no sentences. `CaptionGrammar`
generates captions from the labels.
"""

import hashlib
import logging
import os
import random
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from datasets import DatasetDict

from lamp_hf.data.archives import archive_clips, remember_clips, remembered_clips, until_all_found
from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.data.conversion import (
    CONVERSION_VERSION,
    ClipCache,
    ClipFile,
    cached_dataset,
    default_cache_dir,
    open_clips,
    refuse_failures,
)
from lamp_hf.data.schema import MIRRORED, motion_features
from lamp_hf.data.text_files import read_lines
from lamp_hf.files import file_digest
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.skeleton import HUMANML3D_22

logger = logging.getLogger(__name__)

SOURCE = "bandai-namco"
_LAYOUT_VERSION = 1  # increase it whenever a change alters the rows
_CLIP_NAME = re.compile(r"dataset-[12]_(?P<content>[a-z-]+)_(?P<style>[a-z-]+)_\d+")
_SPLIT_FILES = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
_VALIDATION_SHARE = 0.1


class Labels(NamedTuple):
    """Labels in the name of a clip."""

    content: str
    style: str


@dataclass(frozen=True)
class _Row:
    """Row of the dataset to build: a clip or its mirror image."""

    clip: str
    digest: str
    mirrored: bool


def load_bandai_namco(
    path: str | os.PathLike[str],
    *,
    captions: str | os.PathLike[str] | CaptionGrammar | None = None,
    captions_per_clip: int = 16,
    split_dir: str | os.PathLike[str] | None = None,
    names: Collection[str] | None = None,
    mirror: bool = True,
    skip_bad: bool = False,
    num_proc: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> DatasetDict:
    """Load the Bandai-Namco clips as HumanML3D features at 20 fps, with captions generated from their labels.

    The first call converts the clips in parallel and caches the result; later calls take a second. After an
    interruption, the next call continues the conversion.

    Split files (`train.txt`, `val.txt` and, optionally, `test.txt`, one clip name per line) and `suspect_labels.txt`
    are read from `split_dir`. Suspect clips, whose motion contradicts the label, are not used for training. Clips that
    are not in a split file are not used. Without split files, one tenth of the clips, chosen by a hash of the name,
    becomes the validation split.

    Args:
        path: The archive (`.tar`, `.tar.xz`, `.tar.gz`), or a clone of
            github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset.
        captions: A grammar file (JSON or YAML) to combine with the package's own, or a [`CaptionGrammar`] to use
            instead; see `bandai_namco_grammar`.
        captions_per_clip: Number of distinct captions generated for each row. They are the same in every call.
        split_dir: Folder of the split files. Defaults to the folder of the archive, or to the clone.
        names: Load only these clips.
        mirror: Add the mirror image of every training clip as `<id>-mirrored`, with left and right swapped in the
            motion, captions and label. Contents without a counterpart keep their label.
        skip_bad: Skip clips that cannot be read, with a warning, instead of raising an error.
        num_proc: Number of processes for the conversion. Defaults to all cores.
        cache_dir: Folder of the cache. Defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf.
        progress: Show progress bars.

    Returns:
        Splits `train` and `validation`, and `test` if it has a split file, with the columns of `motion_features`.

    Raises:
        FileNotFoundError: The archive or folder does not exist.
        MotionFormatError: The archive is damaged or does not contain clips, or a clip cannot be read.
        ValueError: Clips of `names` are missing, a clip is in two splits, or the grammar does not have a label.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such archive or folder; expected an archive or a clone of "
            "github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset"
        )
    if isinstance(captions, CaptionGrammar):
        grammar = captions
    else:
        grammar = bandai_namco_grammar(path, captions=captions, split_dir=split_dir)
    cache = ClipCache(Path(cache_dir) if cache_dir is not None else default_cache_dir(), mirror)
    wanted = None if names is None else frozenset(names)
    digests = _convert_all(path, cache, wanted, skip_bad=skip_bad, num_proc=num_proc, progress=progress)
    for clip in digests:
        grammar.check(*clip_labels(clip), where=clip)
    splits = _assign_splits(set(digests), _side_files(path, split_dir))
    rows = {
        split: [
            _Row(clip, digests[clip], mirrored)
            for clip in clips
            for mirrored in ((False, True) if mirror and split == "train" else (False,))
        ]
        for split, clips in splits.items()
    }
    key = _digest(_LAYOUT_VERSION, CONVERSION_VERSION, grammar.digest, captions_per_clip, rows)
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        split: partial(_make_rows, chosen, cache, grammar, captions_per_clip) for split, chosen in rows.items()
    }
    return cached_dataset(cache.cache_dir, key, motion_features(), makers, progress=progress)


def is_bandai_namco(path: Path) -> bool:
    """Return whether a path is an archive or a clone of the repository."""
    if path.is_file():
        return ".tar" in path.suffixes
    return any(path.glob("dataset/Bandai-Namco-Research-Motiondataset-*"))


def bandai_namco_grammar(
    path: str | os.PathLike[str],
    *,
    captions: str | os.PathLike[str] | None = None,
    split_dir: str | os.PathLike[str] | None = None,
) -> CaptionGrammar:
    """Return the grammar of `load_bandai_namco`, for training that generates new captions on the fly.

    Args:
        path: The archive or the clone.
        captions: A grammar file to combine with the package's own. Defaults to `captions.json` next to the split files,
            if it exists.
        split_dir: Folder of the split files. Defaults to the folder of the archive, or to the clone.

    Raises:
        FileNotFoundError: The file `captions` does not exist.
        CaptionGrammarError: The file is not a caption grammar.
    """
    if captions is not None:
        return CaptionGrammar.load(captions)
    beside = _side_files(Path(path), split_dir) / "captions.json"
    return CaptionGrammar.load(beside) if beside.is_file() else CaptionGrammar.load()


def _side_files(path: Path, split_dir: str | os.PathLike[str] | None) -> Path:
    """Return the folder of split files and captions."""
    if split_dir is not None:
        return Path(split_dir)
    return path if path.is_dir() else path.parent


def clip_labels(clip: str) -> Labels:
    """Return the content and style in a clip's name.

    Raises:
        ValueError: The name does not have the form dataset-1_<content>_<style>_<take>.
    """
    match = _CLIP_NAME.fullmatch(clip)
    if match is None:
        raise ValueError(f"{clip}: expected a clip name like dataset-1_walk_happy_001")
    return Labels(match["content"], match["style"])


def _make_rows(
    rows: list[_Row], cache: ClipCache, grammar: CaptionGrammar, captions_per_clip: int
) -> Iterator[dict[str, Any]]:
    for row in rows:
        content, style = clip_labels(row.clip)
        if row.mirrored:
            content = grammar.mirrored_content(content)
        row_id = f"{row.clip}{MIRRORED}" if row.mirrored else row.clip
        texts = grammar.compose_many(content, style, captions_per_clip, random.Random(row_id), mirrored=row.mirrored)
        motion = cache.read(f"{row.clip}.bvh", row.digest, mirrored=row.mirrored)
        yield {
            "id": row_id,
            "motion": motion,
            "captions": [{"text": text, "start": 0.0, "end": 0.0} for text in texts],
            "source": SOURCE,
            "fps": HUMANML3D_22.default_fps,
            "num_frames": len(motion),
            "content": content,
            "style": style,
            "mirrored": row.mirrored,
        }


def _assign_splits(clips: set[str], side_files: Path) -> dict[str, list[str]]:
    """Return the clip names of each split, sorted."""
    suspect = _read_names(side_files / "suspect_labels.txt") or set()
    listed = {split: _read_names(side_files / name) for split, name in _SPLIT_FILES.items()}
    if listed["train"] is None and listed["validation"] is None:
        logger.info("no train.txt and val.txt in %s: splitting by a hash of the clip names", side_files)
        held_out = {clip for clip in clips if _hash_share(clip) < _VALIDATION_SHARE}
        chosen = {"train": clips - held_out, "validation": held_out}
    else:
        chosen = {split: names & clips for split, names in listed.items() if names is not None}
        for split in ("train", "validation"):
            chosen.setdefault(split, set())
        if twice := chosen["train"] & chosen["validation"]:
            raise ValueError(
                f"{side_files}: {min(twice)} is both in train.txt and in val.txt (and {len(twice) - 1} more)"
            )
        if unlisted := clips - set().union(*chosen.values()):
            logger.warning(
                "%s: skipped %d clips that are not in a split file, such as %s",
                *(side_files, len(unlisted), min(unlisted)),
            )
    if not any(chosen.values()):
        raise ValueError(
            f"{side_files}: the split files list none of the {len(clips)} clips; expected names such as {min(clips)}"
        )
    if left_out := chosen["train"] & suspect:
        chosen["train"] = chosen["train"] - suspect
        logger.info("%d clips in suspect_labels.txt are not used for training", len(left_out))
    return {split: sorted(names) for split, names in chosen.items()}


def _read_names(path: Path) -> set[str] | None:
    """Return the first word of each line that is not a comment; `None` if the file does not exist."""
    if not path.is_file():
        return None
    lines = (line.split() for line in read_lines(path))
    return {words[0].removesuffix(".bvh") for words in lines if words and not words[0].startswith("#")}


def _hash_share(clip: str) -> float:
    """Return a number from 0 to 1 that depends only on the name."""
    return int(hashlib.sha256(clip.encode()).hexdigest()[:8], 16) / 2**32


def _convert_all(
    path: Path,
    cache: ClipCache,
    wanted: frozenset[str] | None,
    *,
    skip_bad: bool,
    num_proc: int | None,
    progress: bool,
) -> dict[str, str]:
    """Convert all clips that are not in the cache; return the digest of each clip's file."""
    index_path = None
    unopened: dict[str, str] = {}
    if path.is_file():
        index_path = cache.cache_dir / "archives" / f"{file_digest(path)}.json"
        digests = remembered_clips(index_path)
        if digests:
            chosen = digests if wanted is None else {c: digests[c] for c in _all_found(wanted, digests, path)}
            if all(cache.has(f"{clip}.bvh", digest) for clip, digest in chosen.items()):
                return chosen
        files, total = _archive_clips(path, wanted), None if wanted is None else len(wanted)
    else:
        paths = _folder_clips(path, wanted)
        files, total = open_clips(paths, unopened), len(paths)
    digests, failures = cache.convert(files, num_proc=num_proc, progress=progress, total=total)
    failures |= unopened
    if wanted is not None:
        _all_found(wanted, {**digests, **failures}, path)
    refuse_failures(failures, path, skip_bad=skip_bad)
    if not digests:
        raise MotionFormatError(
            f"{path}: no clips found; expected files named dataset-1_<content>_<style>_<take>.bvh, as in the "
            "folders dataset/Bandai-Namco-Research-Motiondataset-*/data of the repository"
        )
    if index_path is not None and wanted is None and not failures:
        remember_clips(index_path, digests)
    return digests


def _all_found(wanted: frozenset[str], found: Collection[str], path: Path) -> list[str]:
    """Return the wanted names, sorted.

    Raises:
        ValueError: A wanted clip is missing.
    """
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"{path}: {len(missing)} of the clips in names are missing, such as {missing[0]}")
    return sorted(wanted)


def _archive_clips(path: Path, wanted: frozenset[str] | None) -> Iterator[ClipFile]:
    """Yield the wanted clips of an archive."""

    def clip_of(file: Path) -> str | None:
        named = file.suffix == ".bvh" and _CLIP_NAME.fullmatch(file.stem)
        return file.stem if named and (wanted is None or file.stem in wanted) else None

    return until_all_found(archive_clips(path, clip_of), wanted)


def _folder_clips(path: Path, wanted: frozenset[str] | None) -> dict[str, Path]:
    """Return the files of the wanted clips, at any depth of a folder."""
    paths = {file.stem: file for file in path.rglob("dataset-*.bvh") if _CLIP_NAME.fullmatch(file.stem)}
    return {clip: paths[clip] for clip in sorted(paths) if wanted is None or clip in wanted}


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()

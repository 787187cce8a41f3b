"""Reads the GloVe vectors of the released evaluator, as people have them.

The released code reads three files of one folder, `glove/our_vab_data.npy`, `our_vab_words.pkl` and `our_vab_idx.pkl`:
the vectors, the list of words, and the row of each word. GloVe itself is published as a text file, with a word and its
numbers in each line.
"""

import io
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamp_hf.files import file_digest

__all__ = ["Glove", "find_glove", "read_glove"]

UNKNOWN = "unk"
DATA, WORDS, ROWS = "_data.npy", "_words.pkl", "_idx.pkl"
FOLDER = "glove"
PARENTS = 5  # from checkpoints/t2m/text_mot_match/model/ up to the folder of the released code


@dataclass(frozen=True)
class Glove:
    """Words and their vectors.

    Attributes:
        words: Different words; one of them is `unk`, for all others.
        vectors: `(len(words), D)`, float32.
        files: The files that they come from.
    """

    words: list[str]
    vectors: torch.Tensor
    files: tuple[Path, ...]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by its name."""
        return {path.name: file_digest(path) for path in self.files}


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dictionaries, strings and numbers; a file that names any class or function is rejected."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it names an object outside the file")


def find_glove(original: Path, evaluator: Path) -> Path | None:
    """Return the folder or the text file of the vectors, or `None` if there is none.

    Args:
        original: Folder of the originals, which is searched with its subfolders.
        evaluator: File of the evaluator; a folder `glove` is also looked for in the folders around it.
    """
    inside = original.rglob(f"*{DATA}") if original.is_dir() else ()
    folders = [path.parent for path in sorted(inside)]
    folders += [folder / FOLDER for folder in [*evaluator.resolve().parents][:PARENTS]]
    return next((folder for folder in folders if _prefixes(folder)), None)


def read_glove(path: Path, size: int) -> Glove:
    """Read vectors without running code in the files.

    Args:
        path: A folder with the three files of the released code, or a text file of GloVe.
        size: Numbers of a vector that the evaluator reads.

    Raises:
        FileNotFoundError: The path does not exist, or the folder does not contain the files.
        ValueError: A file is damaged or contains more than plain values, the files do not fit each other or the
            evaluator, or the word `unk` is missing.
    """
    if path.is_file():
        words, vectors = _read_text(path, size)
        files: tuple[Path, ...] = (path,)
    elif path.is_dir():
        prefixes = _prefixes(path)
        if len(prefixes) != 1:
            found = f"found {len(prefixes)} sets of them" if prefixes else "not found"
            raise FileNotFoundError(
                f"{path}: expected one set of the files our_vab{DATA}, our_vab{WORDS} and our_vab{ROWS}, {found}; pass "
                "the folder that contains them, or a text file of GloVe (--glove)"
            )
        files = tuple(path / f"{prefixes[0]}{ending}" for ending in (DATA, WORDS, ROWS))
        words, vectors = _read_released(*files)
    else:
        raise FileNotFoundError(f"{path}: no such file or folder; pass the GloVe vectors (--glove)")
    if vectors.shape[1] != size:
        raise ValueError(
            f"{files[0]}: its vectors have {vectors.shape[1]} numbers, but the evaluator reads {size}; pass the "
            "vectors that it was trained with (--glove)"
        )
    if not np.isfinite(vectors).all():
        raise ValueError(f"{files[0]}: contains values that are not finite; download it again")
    if UNKNOWN not in words:
        raise ValueError(
            f"{files[-1]}: lacks the word {UNKNOWN!r}, which stands for all words without a vector; pass the vectors "
            "that the evaluator was trained with (--glove)"
        )
    return Glove(words, torch.from_numpy(np.ascontiguousarray(vectors, np.float32)), files)


def _prefixes(folder: Path) -> list[str]:
    """Return the prefixes of the complete sets of files in a folder, such as `our_vab`."""
    found = [path.name.removesuffix(DATA) for path in sorted(folder.glob(f"*{DATA}"))]
    return [prefix for prefix in found if all((folder / f"{prefix}{ending}").is_file() for ending in (WORDS, ROWS))]


def _read_released(data: Path, words_file: Path, rows_file: Path) -> tuple[list[str], np.ndarray]:
    try:
        vectors = np.load(data, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{data}: not a NumPy file, or damaged ({error}); download it again") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise ValueError(f"{data}: expected one vector per row, found {vectors.dtype} {vectors.shape}")
    words = _read_plain(words_file)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{words_file}: expected a list of words; download it again")
    rows = _read_plain(rows_file)
    if not isinstance(rows, dict) or not all(type(row) is int for row in rows.values()):
        raise ValueError(f"{rows_file}: expected the row of each word; download it again")
    words = list(dict.fromkeys(words))
    wrong = [word for word in words if not 0 <= rows.get(word, -1) < len(vectors)]
    if wrong:
        raise ValueError(
            f"{rows_file}: {len(wrong)} words of {words_file.name} have no row in {data.name}, for example "
            f"{wrong[0]!r}; the three files do not belong together"
        )
    return words, vectors[[rows[word] for word in words]]


def _read_plain(path: Path) -> Any:
    """Read a pickle of plain values.

    Raises:
        ValueError: The file is damaged, or contains more than lists, dictionaries, strings and numbers.
    """
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: not a pickle of lists, dictionaries, strings and numbers only ({error}), so it was not loaded; "
            "download the original file"
        ) from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); download it again") from error


def _read_text(path: Path, size: int) -> tuple[list[str], np.ndarray]:
    words: dict[str, None] = {}
    vectors = []
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for word, numbers in _lines(file, path, size):
                if word not in words:
                    words[word] = None
                    vectors.append(numbers)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a text file of GloVe ({error}); pass the unpacked .txt file (--glove)"
        ) from error
    if not vectors:
        raise ValueError(f"{path}: the file is empty; download it again")
    if "<unk>" in words and UNKNOWN not in words:  # its name in GloVe's larger files
        words = {UNKNOWN if word == "<unk>" else word: None for word in words}
    return list(words), np.stack(vectors)


def _lines(file: Iterable[str], path: Path, size: int) -> Iterator[tuple[str, np.ndarray]]:
    for number, line in enumerate(file, start=1):
        # A word may contain spaces, so count the numbers from the end.
        parts = line.rstrip("\n").rsplit(" ", size)
        try:
            if len(parts) != size + 1:
                raise ValueError(f"expected a word and {size} numbers, found {len(parts)} parts")
            yield parts[0], np.array(parts[1:], np.float32)
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}; pass GloVe vectors of size {size} (--glove)") from error

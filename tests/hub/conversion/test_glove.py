"""GloVe vectors of the released evaluator: supported layouts and refused files."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamp_hf.conversion.glove import find_glove, read_glove

VECTORS = np.arange(12, dtype=np.float64).reshape(4, 3)
WORDS = ["unk", "walk", "unk", "a"]
ROWS = {"a": 0, "walk": 3, "unk": 2, "never asked for": 9}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the three files of the released code; arguments replace their contents."""

    def call(data: Any = VECTORS, words: Any = WORDS, rows: Any = ROWS) -> Path:
        folder = tmp_path / "glove"
        folder.mkdir(exist_ok=True)
        np.save(folder / "our_vab_data.npy", data, allow_pickle=True)
        for name, value in (("words", words), ("idx", rows)):
            content = value if isinstance(value, bytes) else pickle.dumps(value)
            (folder / f"our_vab_{name}.pkl").write_bytes(content)
        return folder

    return call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_the_released_files(write: Callable[..., Path], protocol: int) -> None:
    folder = write(words=pickle.dumps(WORDS, protocol), rows=pickle.dumps(ROWS, protocol))
    glove = read_glove(folder, 3)
    assert glove.words == ["unk", "walk", "a"]  # each word once, with the vector of its row
    assert torch.equal(glove.vectors, torch.tensor(VECTORS[[2, 3, 0]], dtype=torch.float32))
    assert set(glove.digests) == {"our_vab_data.npy", "our_vab_words.pkl", "our_vab_idx.pkl"}


def test_reads_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "glove.6B.3d.txt"
    path.write_text("walk 1 2 3\n. . . 4 5 6\nwalk 7 8 9\n<unk> 0.5 -1e-2 0\n", encoding="utf-8")
    glove = read_glove(path, 3)
    assert glove.words == ["walk", ". . .", "unk"]
    assert glove.vectors.tolist() == [[1, 2, 3], [4, 5, 6], [0.5, pytest.approx(-0.01), 0]]


def test_folder_is_found_near_the_checkpoints(write: Callable[..., Path], tmp_path: Path) -> None:
    evaluator = tmp_path / "checkpoints" / "t2m" / "text_mot_match" / "model" / "finest.tar"
    evaluator.parent.mkdir(parents=True)
    assert find_glove(tmp_path / "checkpoints", evaluator) is None
    folder = write()
    assert find_glove(tmp_path / "checkpoints", evaluator) == folder.resolve()
    assert find_glove(tmp_path, evaluator) == folder
    (folder / "our_vab_idx.pkl").unlink()
    assert find_glove(tmp_path, evaluator) is None


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_pickle_with_other_than_plain_values_is_not_loaded(write: Callable[..., Path], tmp_path: Path) -> None:
    for part in ("words", "rows"):
        folder = write(**{part: Harmful(tmp_path / "written")})
        with pytest.raises(ValueError, match=r"not a pickle of lists, dictionaries, strings and numbers only .*open"):
            read_glove(folder, 3)
    assert not (tmp_path / "written").exists()
    with pytest.raises(ValueError, match=r"it names fractions\.Fraction"):
        read_glove(write(rows={"unk": Fraction(1)}), 3)
    with pytest.raises(ValueError, match="it names an object outside the file"):
        read_glove(write(words=b"Pwords\n."), 3)
    with pytest.raises(ValueError, match=r"our_vab_data\.npy: not a NumPy file"):
        read_glove(write(data=np.array([Fraction(1)])), 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": {"unk": 0}}, r"our_vab_words\.pkl: expected a list of words"),
        ({"rows": ["unk"]}, r"our_vab_idx\.pkl: expected the row of each word"),
        ({"rows": {**ROWS, "walk": 1.0}}, r"our_vab_idx\.pkl: expected the row of each word"),
        ({"rows": {**ROWS, "walk": 4}}, r"1 words of our_vab_words\.pkl have no row in our_vab_data\.npy.*'walk'"),
        ({"rows": {**ROWS, "walk": -1}}, "do not belong together"),
        ({"words": ["a", "walk"]}, "lacks the word 'unk'"),
        ({"words": b""}, r"our_vab_words\.pkl: "),
        ({"words": pickle.dumps(WORDS)[:-3]}, r"our_vab_words\.pkl: "),
        ({"data": VECTORS[:, 0]}, "expected one vector per row"),
        ({"data": VECTORS[:, :2]}, "its vectors have 2 numbers, but the evaluator reads 3"),
        ({"data": np.full((4, 3), np.nan)}, "values that are not finite"),
    ],
)
def test_inconsistent_files_are_refused(write: Callable[..., Path], change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_glove(write(**change), 3)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_glove(tmp_path / "missing", 3)
    with pytest.raises(FileNotFoundError, match=r"expected one set of the files our_vab_data\.npy"):
        read_glove(tmp_path, 3)
    path = tmp_path / "glove.txt"
    for text, said in (("walk 1 2\n", "line 1: expected a word and 3 numbers"), ("a 1 2 x\n", "line 1"), ("", "empty")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_glove(path, 3)

"""Originals in the authors' layout: with the numbers of the reference files, and made of random ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

# Folder of each reference file in the authors' layout.
PLACES = {
    "vq.tar": "vq",
    "qformer.tar": "qformer",
    "t2m.tar": "mtrans",
    "m2t.pth": "m2t",
    "evaluator_finest.tar": "text_mot_match",
    "length_estimator_finest.tar": "length_estimator",
}


def write_statistics(folder: Path, size: int, seed: int = 0) -> None:
    """`mean.npy` and `std.npy` of random numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    np.save(folder / "mean.npy", rng.normal(size=size).astype(np.float32))
    np.save(folder / "std.npy", rng.uniform(0.1, 0.2, size).astype(np.float32))


@pytest.fixture(scope="session")
def reference_tokenizers(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The tokenizers of the reference files: `bert`, a folder with `vocab.txt` alone as BERT's, and `opt`."""
    from transformers import GPT2Tokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    bert, opt = folder / "bert", folder / "opt"
    bert.mkdir()
    words = json.loads((golden / "lamp.json").read_text())["vocab"]
    assert words[-1] == "[DEC]"
    (bert / "vocab.txt").write_text("\n".join(words[:-1]) + "\n")
    about = json.loads((golden / "m2t.json").read_text())
    merges = [tuple(line.split()) for line in about["opt_merges"].splitlines() if not line.startswith("#version")]
    tokenizer = GPT2Tokenizer(
        vocab=about["opt_vocab"],
        merges=merges,
        bos_token="</s>",
        eos_token="</s>",
        unk_token="</s>",
        pad_token="<pad>",
    )
    tokenizer.save_pretrained(opt)
    return SimpleNamespace(bert=str(bert), opt=str(opt))


@pytest.fixture(scope="session")
def originals(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference checkpoints as the authors' scripts lay them out; not to be changed."""
    root = tmp_path_factory.mktemp("original") / "checkpoints"
    home = root / "t2m"
    for file, place in PLACES.items():
        (home / place / "model").mkdir(parents=True)
        shutil.copy(golden / "ckpt" / file, home / place / "model" / file)
    write_statistics(home / "vq" / "meta", 263)
    write_statistics(home / "Comp_v6_KLD005" / "meta", 263, seed=1)
    options = "------------ Options -------------\ndataset_name: t2m\nn_heads: 4\n-------------- End ----------------\n"
    (home / "mtrans" / "opt.txt").write_text(options)
    return root


@pytest.fixture(scope="session")
def reference_settings() -> dict[str, int]:
    """What the tensors of the reference files do not tell, where it is not what was published."""
    return {
        "lamp.num_attention_heads": 4,
        "lamp.max_text_length": 12,
        "text-to-motion.max_text_length": 14,
        "captioning.num_attention_heads": 4,
    }


@pytest.fixture(scope="session")
def convert_reference(reference_tokenizers: SimpleNamespace, reference_settings: dict[str, int]) -> Callable[..., Any]:
    """Converts with the tokenizers and the settings of the reference files."""

    def run(original: Path, output: Path, **options: Any) -> Any:
        from lamp_hf.hub import convert

        values = {
            "text_tokenizer": reference_tokenizers.bert,
            "language_model_tokenizer": reference_tokenizers.opt,
            "settings": reference_settings,
            **options,
        }
        return convert(original, output, **values)

    return run


@pytest.fixture(scope="session")
def converted(originals: Path, convert_reference: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The conversion of all reference files at once."""
    return convert_reference(originals, tmp_path_factory.mktemp("converted") / "lamp", license="mit")

"""Original checkpoints with random numbers in the authors' layout, and matching tokenizers."""

import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lamp_hf.modeling.configuration_lamp import (
    LampTextToMotionConfig,
    LampWithLanguageModelConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
)

# Folder of each file in the authors' layout.
PLACES = {
    "vq.tar": "vq",
    "qformer.tar": "qformer",
    "t2m.tar": "mtrans",
    "m2t.pth": "m2t",
    "evaluator_finest.tar": "text_mot_match",
    "length_estimator_finest.tar": "length_estimator",
}


def write_statistics(folder: Path, size: int, seed: int = 0) -> None:
    """Write `mean.npy` and `std.npy` with random numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    np.save(folder / "mean.npy", rng.normal(size=size).astype(np.float32))
    np.save(folder / "std.npy", rng.uniform(0.1, 0.2, size).astype(np.float32))


@pytest.fixture(scope="session")
def lay_out() -> Callable[[Path, Callable[[str, Path], object]], Path]:
    """Arranges files as the authors' scripts do, in a folder `t2m`; `write(name, path)` writes each of them."""

    def run(home: Path, write: Callable[[str, Path], object]) -> Path:
        for name, place in PLACES.items():
            path = home / place / "model" / name
            path.parent.mkdir(parents=True)
            write(name, path)
        write_statistics(home / "vq" / "meta", 263)
        write_statistics(home / "Comp_v6_KLD005" / "meta", 263, seed=1)
        end = "-------------- End ----------------\n"
        options = f"------------ Options -------------\ndataset_name: t2m\nn_heads: 4\n{end}"
        (home / "mtrans" / "opt.txt").write_text(options)
        return home

    return run


@pytest.fixture(scope="session")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Tokenizers: `bert`, a folder with only a `vocab.txt` like BERT's, and `opt`, whose tokens are single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GPT2Tokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    bert, opt = folder / "bert", folder / "opt"
    bert.mkdir()
    letters = string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += ["person", "walks", "waves", "forward"]
    (bert / "vocab.txt").write_text("\n".join(words) + "\n")
    symbols = ["</s>", "<pad>", *sorted(ByteLevel.alphabet())]
    ends = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    tokenizer = GPT2Tokenizer(vocab={symbol: number for number, symbol in enumerate(symbols)}, merges=[], **ends)
    tokenizer.save_pretrained(opt)
    return SimpleNamespace(bert=str(bert), opt=str(opt), word_pieces=len(words), symbols=len(symbols))


@pytest.fixture(scope="session")
def build_originals(
    random_tensors: Callable[..., Any], small_original_lamp: Callable[..., Any], tokenizers: SimpleNamespace
) -> Callable[..., dict[str, Any]]:
    """Builds the contents of files of all kinds, by name: small random tensors, including unused ones."""

    def build(motion_dim: int, *, lamp_size: int, transformer_size: int) -> dict[str, Any]:
        lamp_config = small_original_lamp(
            motion_dim=motion_dim, vocab_size=tokenizers.word_pieces + 1, hidden_size=lamp_size
        )
        language_model = {
            "model_type": "opt",
            "vocab_size": tokenizers.symbols + 2,  # more rows than symbols, like OPT
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": 96,
        }
        lamp = random_tensors(lamp_config)
        own = ("Qformer.", "query_tokens")
        transformer = random_tensors(
            LampTextToMotionConfig(
                lamp_config=lamp_config,
                hidden_size=transformer_size,
                num_hidden_layers=3,
                num_attention_heads=1,
                intermediate_size=72,
                train_token_embeddings=True,
                length_hidden_sizes=None,
            ),
            seed=1,
        )
        transformer |= {name: lamp[name] for name in transformer if name.startswith(own)}
        captioner = random_tensors(
            LampWithLanguageModelConfig(lamp_config=lamp_config, language_model_config=language_model, lora_rank=2),
            seed=2,
        )
        captioner |= {
            name.replace("opt_model.", "llm.base_model.model.", 1): tensor
            for name, tensor in captioner.items()
            if name.startswith("opt_model.")
        }
        captioner |= {f"{name}.weight": torch.randn(3) for name in ("trans_base", "trans_head", "vq_model")}
        transformer |= {"position_enc.pe": torch.zeros(9, 1, 4)}
        transformer |= {f"clip2qformer.{name}": torch.randn(4) for name in ("weight", "bias")}
        for tensors in (lamp, transformer, captioner):
            tensors["Qformer.bert.embeddings.position_ids"] = torch.arange(64)[None]
            tensors["Qformer.cls.predictions.decoder.bias"] = tensors["Qformer.cls.predictions.bias"]
        parts: dict[str, Any] = {}
        config = MotionTextEvaluatorConfig(motion_dim=motion_dim, text_hidden_size=24, motion_hidden_size=32)
        for name, tensor in random_tensors(config, seed=3).items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        prefix = "vq_model."
        lengths = MotionLengthEstimatorConfig(input_size=16, hidden_sizes=(12, 10, 8))
        payloads = {
            "vq.tar": {
                "vq_model": {n.removeprefix(prefix): tensor for n, tensor in lamp.items() if n.startswith(prefix)}
            },
            "qformer.tar": {"motion_qformer": lamp},
            "t2m.tar": {"t2m_transformer": transformer},
            "m2t.pth": {"trans": captioner},
            "evaluator_finest.tar": parts,
            "length_estimator_finest.tar": {"estimator": random_tensors(lengths, seed=4)},
        }
        return {name: {**payload, "ep": 3, "total_it": 10} for name, payload in payloads.items()}

    return build


@pytest.fixture(scope="session")
def originals(
    build_originals: Callable[..., dict[str, Any]],
    lay_out: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Files of all kinds, arranged as the authors' scripts do. Tests must not change them.

    Their sizes are not published ones, so the number of attention heads cannot be inferred.
    """
    contents = build_originals(263, lamp_size=48, transformer_size=32)
    root = tmp_path_factory.mktemp("original") / "checkpoints"
    lay_out(root / "t2m", lambda name, path: torch.save(contents[name], path))
    return root


@pytest.fixture(scope="session")
def settings() -> dict[str, int]:
    """Settings that the tensors do not show and that differ from the published ones."""
    return {
        "lamp.num_attention_heads": 4,
        "lamp.max_text_length": 12,
        "text-to-motion.max_text_length": 14,
        "captioning.num_attention_heads": 4,
        "evaluator.padded_frames": 64,
    }


@pytest.fixture(scope="session")
def convert_originals(tokenizers: SimpleNamespace, settings: dict[str, int]) -> Callable[..., Any]:
    """Converts original files with their tokenizers and settings."""

    def run(original: Path, output: Path, **options: Any) -> Any:
        from lamp_hf.conversion import convert

        values = {
            "text_tokenizer": tokenizers.bert,
            "language_model_tokenizer": tokenizers.opt,
            "settings": settings,
            **options,
        }
        return convert(original, output, **values)

    return run


@pytest.fixture(scope="session")
def converted(originals: Path, convert_originals: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Conversion of all original files at once."""
    return convert_originals(originals, tmp_path_factory.mktemp("converted") / "lamp", license="mit")

"""The recipes at the paper's scale: sizes of the released checkpoints, and runs of all stages on the usual layouts."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from transformers import BertConfig, BertForMaskedLM, BertTokenizer, OPTConfig

from lamp_hf.conversion import state_dicts as original
from lamp_hf.modeling.configuration_lamp import (
    LampConfig,
    LampTextToMotionConfig,
    LampWithLanguageModelConfig,
    MotionVQVAEConfig,
)
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.training import Recipe, load_recipe, train
from lamp_hf.training.recipe import RECIPES_FOLDER
from lamp_hf.training.stages.evaluator import new_config

EXAMPLES = Path(__file__).parents[2] / "examples"
STAGES = ("motion-vqvae", "lamp", "text-to-motion", "captioning", "evaluator")
SETS = {"humanml3d": 263, "kit-ml": 251}
OPT_2_7B: dict[str, Any] = {
    "vocab_size": 50272,
    "hidden_size": 2560,
    "word_embed_proj_dim": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "ffn_dim": 10240,
    "max_position_embeddings": 2048,
}


def recipe_of(name: str, stage: str) -> Recipe:
    return load_recipe(f"{name}/{stage}")


def lamp_config(name: str) -> LampConfig:
    tokenizer = MotionVQVAEConfig(motion_dim=SETS[name], **recipe_of(name, "motion-vqvae").model)
    return LampConfig(motion_vqvae_config=tokenizer, **recipe_of(name, "lamp").model)


# ---- sizes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(golden: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Shapes of the tensors in the released checkpoints."""
    shapes = json.loads((golden / "official_keys.json").read_text())
    kinds = {
        kind: {name: torch.empty(shape, device="meta") for name, shape in tensors.items()}
        for kind, tensors in shapes.items()
    }
    return kinds


def compare(model: torch.nn.Module, expected: dict[str, torch.Tensor], ours_alone: str) -> None:
    """Check that our model has every released tensor with its size, and no others except the listed ones.

    Args:
        ours_alone: Beginnings of the names that only our model has.
    """
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    assert {name: ours.get(name) for name in theirs} == theirs
    strangers = {name for name in ours if name not in theirs}
    assert all(name.startswith(tuple(ours_alone.split())) for name in strangers), strangers


def numbers(shapes: dict[str, torch.Tensor]) -> int:
    return sum(math.prod(tensor.shape) for tensor in shapes.values())


@pytest.mark.parametrize(("name", "kind"), [("humanml3d", "vq_t2m"), ("kit-ml", "vq_kit")])
def test_tokenizer_has_the_released_size(released, name: str, kind: str) -> None:
    with torch.device("meta"):
        model = MotionVQVAEModel(lamp_config(name).motion_vqvae_config)
    compare(model, original.vqvae_state_dict(released[kind]), "quantizer.")
    assert model.num_parameters() + model.quantizer.codebook.numel() == numbers(released[kind])


def test_lamp_has_the_released_size(released) -> None:
    with torch.device("meta"):
        model = LampModel(lamp_config("humanml3d"))
    expected = original.lamp_state_dict(released["lamp"])
    # The released model has a copy of the tokenizer's encoder, which should be equal (L1).
    expected = {name: tensor for name, tensor in expected.items() if not name.startswith("motion_encoder.")}
    compare(model, expected, "motion_vqvae.quantizer.")


def test_text_to_motion_has_the_released_size(released) -> None:
    recipe = recipe_of("humanml3d", "text-to-motion")
    config = LampTextToMotionConfig(lamp_config=lamp_config("humanml3d").to_dict(), **recipe.model)
    with torch.device("meta"):
        model = LampForTextToMotion(config)
    expected = original.text_to_motion_state_dict(released["t2m_512"], released["lamp"])
    expected = {n: t for n, t in expected.items() if not n.startswith("lamp.motion_encoder.")}
    del expected["token_embeddings.weight"]  # ours are the codebook (T7)
    compare(model, expected, "lamp.motion_vqvae.quantizer. length_estimator.")


def test_captioner_has_the_released_size(released) -> None:
    """With LaMP and the language model inside, as released; the recipe refers to them by name instead."""
    values = dict(recipe_of("humanml3d", "captioning").model)
    for setting in ("language_model_name", "train_lamp"):
        values.pop(setting)
    config = LampWithLanguageModelConfig(
        lamp_config={**lamp_config("humanml3d").to_dict(), "separate_motion_encoder": True},
        language_model_config=OPTConfig(**OPT_2_7B).to_dict(),
        **values,
    )
    with torch.device("meta"):
        model = LampWithLanguageModelForMotionCaptioning(config)
    compare(
        model,
        original.captioning_state_dict(released["m2t"], released["lamp"]),
        "lamp.motion_vqvae.quantizer. language_model.base_model.model.lm_head.",
    )
    learned = {"projection.weight": (2560, 768), "projection.bias": (2560,)}
    adapters = sum(p.numel() for n, p in model.named_parameters() if ".lora_" in n)
    assert adapters + sum(map(math.prod, learned.values())) == 7_211_520


class BertWordPieces:
    """Fake of BERT's tokenizer with its vocabulary size."""

    pad_token_id = 0

    def __len__(self) -> int:
        return 30522


def test_evaluator_has_the_released_size(released) -> None:
    # The model of the stage, with BERT's word pieces instead of GloVe vectors and part-of-speech tags.
    processor = SimpleNamespace(tokenizer=BertWordPieces(), feature_extractor=SimpleNamespace(feature_size=263))
    with torch.device("meta"):
        model = MotionTextEvaluatorModel(new_config(processor, recipe_of("humanml3d", "evaluator").model))
    expected = original.evaluator_state_dict(released["evaluator_t2m"])
    tags = {name: expected.pop(name) for name in ("pos_projection.weight", "pos_projection.bias")}
    compare(model, expected, "word_embeddings.weight")
    assert model.num_parameters() - model.word_embeddings.weight.numel() == numbers(expected)
    assert numbers(expected) + numbers(tags) == 21_690_560


@pytest.mark.parametrize("name", SETS)
def test_sizes_in_the_recipes_are_correct(name: str) -> None:
    with torch.device("meta"):
        lamp = LampForPreTraining(lamp_config(name))
        config = LampTextToMotionConfig(lamp_config=lamp_config(name).to_dict())
        text_to_motion = LampForTextToMotion(config)
    assert f"{lamp.num_parameters(only_trainable=True) / 1e6:.0f} M parameters" in heading(name, "lamp")
    transformer = sum(p.numel() for p in text_to_motion.masked_transformer.parameters())
    assert f"{transformer / 1e6:.0f} M parameters" in heading(name, "text-to-motion")
    tokenizer = lamp.lamp.motion_vqvae
    count = tokenizer.num_parameters() + tokenizer.quantizer.codebook.numel()
    assert f"{count / 1e6:.1f} M parameters" in heading(name, "motion-vqvae")
    assert "7.2 M parameters" in heading(name, "captioning")


def heading(name: str, stage: str) -> str:
    return (RECIPES_FOLDER / name / f"{stage}.yaml").read_text().splitlines()[0]


# ---- runs -------------------------------------------------------------------------------------------------


SMALL: dict[str, dict[str, Any]] = {
    "motion-vqvae": {"hidden_size": 16, "code_dim": 8, "num_codes": 16},
    "lamp": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 32,
        "num_query_tokens": 4,
        "motion_hidden_size": 16,
        "projection_dim": 16,
    },
    "text-to-motion": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "length_hidden_sizes": [16],
    },
    "captioning": {"lora_rank": 2, "max_text_length": 16, "eos_token_id": 3},
    "evaluator": {
        "movement_hidden_size": 8,
        "movement_size": 8,
        "motion_hidden_size": 8,
        "text_hidden_size": 8,
        "projection_dim": 8,
        "word_embedding_size": 16,
    },
}


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    words = ["a", "person", "someone", "walks", "waves", "the", "left", "right", "hand"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_all_stages_run_in_sequence(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    field_sets: SimpleNamespace,
    text_encoder: Path,
    tiny_language_model: Path,
) -> None:
    """Two steps each with the packaged recipe, except for widths, batch size and paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    field_sets.make(tmp_path / "set", name)
    for stage in STAGES:
        recipe = recipe_of(name, stage)
        recipe.data |= {"path": "set", "num_proc": 1, "progress": False}
        recipe.model |= SMALL[stage]
        if stage == "lamp":
            recipe.text_encoder = str(text_encoder)
        if stage == "captioning":
            recipe.model["language_model_name"] = str(tiny_language_model)
        recipe.trainer |= {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "disable_tqdm": True}
        recipe.trainer |= {"per_device_train_batch_size": 4}
        # Each stage starts from the previous one; a recipe with another base would not find it here.
        run = train(recipe, f"runs/{name}/{stage}")
        metrics = json.loads((run / "training.json").read_text())["metrics"]
        assert math.isfinite(metrics["train_loss"])
        assert f"eval_{recipe.trainer['metric_for_best_model']}" in metrics
    extractor = LampFeatureExtractor.from_pretrained(f"runs/{name}/text-to-motion")
    skeleton, fps = {"humanml3d": ("humanml3d_22", 20.0), "kit-ml": ("kit_21", 12.5)}[name]
    assert (extractor.feature_size, extractor.skeleton, extractor.fps) == (SETS[name], skeleton, fps)
    guidance = {"humanml3d": 4.0, "kit-ml": 2.0}[name]
    assert (
        LampForTextToMotion.from_pretrained(f"runs/{name}/text-to-motion").generation_config.guidance_scale == guidance
    )


@pytest.mark.slow
def test_learning_rate_drops(tiny_set: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        stage="motion-vqvae",
        data={"name": str(tiny_set)},
        model=SMALL["motion-vqvae"],
        learning_rate_drops={3: 0.1, 5: 0.5},
        trainer={
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 0.01,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 2,
            "logging_steps": 1,
            "eval_steps": 6,
            "save_steps": 4,
            "load_best_model_at_end": False,
            "disable_tqdm": True,
        },
    )
    rates = [0.0, 0.005, 0.01, 0.001, 0.001, 0.0005]
    assert logged_rates(train(recipe, tmp_path / "whole")) == pytest.approx(rates)
    # A run that is resumed in the middle has the same rates.
    (tmp_path / "half").mkdir()
    (tmp_path / "whole" / "checkpoint-4").rename(tmp_path / "half" / "checkpoint-4")
    assert logged_rates(train(recipe, tmp_path / "half")) == pytest.approx(rates)
    recipe.trainer["lr_scheduler_type"] = "reduce_lr_on_plateau"
    with pytest.raises(
        ValueError, match="learning_rate_drops cannot be combined with lr_scheduler_type=reduce_lr_on_plateau"
    ):
        train(recipe, tmp_path / "refused")


def logged_rates(run: Path) -> list[float]:
    log = json.loads((run / "training.json").read_text())["log"]
    return [entry["learning_rate"] for entry in log if "learning_rate" in entry]


# ---- accelerate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "kind", "processes"),
    [("one_gpu", "NO", 1), ("eight_gpus", "MULTI_GPU", 8), ("fsdp", "FSDP", 8), ("deepspeed", "DEEPSPEED", 8)],
)
def test_accelerate_reads_its_configurations(file: str, kind: str, processes: int) -> None:
    config = load_config_from_file(str(EXAMPLES / "accelerate" / f"{file}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert (str(config.distributed_type).rpartition(".")[2], config.num_processes) == (kind, processes)
    assert config.mixed_precision == "no"  # otherwise it would also apply to recipes without this setting
    assert bool(config.fsdp_config) == (kind == "FSDP")


def test_fsdp_shards_the_layers_of_lamp_and_of_the_language_model(tiny_captioner: Path) -> None:
    listed = LampWithLanguageModelForMotionCaptioning.from_pretrained(tiny_captioner)._no_split_modules
    assert {"OPTDecoderLayer", "LampQFormerLayer"} <= listed
    assert "FiniteScalarQuantizer" not in listed  # Accelerate refuses classes that the model does not contain

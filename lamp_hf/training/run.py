"""Run a recipe: load the data, build the model, train it, and save the checkpoint with its processor and history."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from lamp_hf.files import atomic_path
from lamp_hf.locks import folder_lock
from lamp_hf.processes import process_state
from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
from lamp_hf.publishing.model_card import write_run_card

from .recipe import Recipe, load_recipe, refuse_unknown_settings
from .samples import SampleCallback
from .stages import Stage, stage_class
from .trainer import CLIP_NUMBERS, UNFINISHED, LampTrainer

__all__ = ["alone_in", "train", "train_alone", "training_arguments"]

logger = logging.getLogger(__name__)

RECIPE_FILE = "recipe.yaml"
# Settings that may change when a run is resumed: paths, duration, samples and logging.
FREE = {
    "": ("samples", "tokenizer"),
    "data": ("path", "cache_dir", "num_proc"),
    "trainer": (
        "max_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "logging_steps",
        "report_to",
        "disable_tqdm",
        "use_cpu",
        "dataloader_num_workers",
    ),
}
_TIMES = ("_runtime", "_per_second")
_TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"  # environment variable that the TensorBoard callback reads


def train(recipe: Recipe, output_dir: str | Path, *, resume: bool = True) -> Path:
    """Train one stage.

    Args:
        recipe: Settings of the stage.
        output_dir: Folder of the run. It receives the checkpoints (`checkpoint-N`), then the finished model, its
            processor, `recipe.yaml`, `training.json` (loss and evaluation history) and a model card.
        resume: Continue from the newest checkpoint in the folder, if there is one; it must belong to the same recipe.
            If `False`, the folder must not contain checkpoints.

    Returns:
        `output_dir`.

    Raises:
        ValueError: The stage is unknown, or the recipe does not fit its stage.
        FileExistsError: The folder contains checkpoints of another recipe, or `resume=False` and it contains any.
        BlockingIOError: Another training run is writing to the folder.
    """
    stage_class(recipe.stage)  # refuse an unknown stage before the folder is created
    with alone_in(Path(output_dir)):
        return train_alone(recipe, output_dir, resume=resume)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder. The main process holds it for all processes of the run.

    Raises:
        BlockingIOError: Another training run is writing to the folder.
    """
    if not process_state().is_main_process:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{folder} is in use: another training run is writing there; wait for it, or choose another folder"
    with folder_lock(folder, busy=busy, wait=False):
        yield


def train_alone(recipe: Recipe, output_dir: str | Path, *, resume: bool = True) -> Path:
    """Train one stage as [`train`] does, for a caller that already holds the folder's lock ([`alone_in`])."""
    new_stage = stage_class(recipe.stage)
    output_dir = Path(output_dir)
    arguments = training_arguments(recipe, output_dir)
    last = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
    if last and not resume:
        # If the other run has later checkpoints, this run would be resumed from them.
        raise FileExistsError(f"{last} belongs to an earlier run: resume that run, delete it, or choose another folder")
    set_seed(recipe.seed)
    with arguments.main_process_first(desc="comparing with an earlier run"):
        _begin(recipe, output_dir, go_on=last is not None)
    with arguments.main_process_first(desc="preparing the data"):
        stage = new_stage(recipe, arguments)
    with _logging_to(output_dir / "logs"):
        trainer = LampTrainer(
            model=stage.model,
            args=arguments,
            train_dataset=stage.train_dataset,
            eval_dataset=stage.eval_clips,  # required by Trainer; the evaluation itself is `stage.evaluate`
            data_collator=lambda examples: _with_clip_numbers(stage, examples),
            processing_class=stage.processor,
            evaluate_model=stage.evaluate,
            learning_rates=stage.learning_rates,
            learning_rate_drops=recipe.learning_rate_drops,
            name_of=stage.name_of,
            complete=stage.complete,
            callbacks=[SampleCallback(stage, output_dir / "samples")] if recipe.samples else [],
        )
    if (output_dir / UNFINISHED).is_dir() and trainer.is_world_process_zero():
        logger.warning("Deleting an unfinished checkpoint that an interrupted run left in %s", output_dir)
        shutil.rmtree(output_dir / UNFINISHED)
    if last:
        logger.warning("Resuming from %s", last)
    result = trainer.train(resume_from_checkpoint=last)
    # With load_best_model_at_end, the model is now the best checkpoint.
    metrics = trainer.evaluate()
    stage.finish(output_dir)
    trainer.save_finished(output_dir)
    if trainer.is_world_process_zero():
        # In a resumed run, the trainer's times cover only the last part, so they are left out.
        kept = {name: value for name, value in result.metrics.items() if not (last and name.endswith(_TIMES))}
        _write_history(output_dir, trainer, {**kept, **metrics})
        write_run_card(CheckpointFolder.read(output_dir))
    trainer.accelerator.wait_for_everyone()  # all files exist before any process returns
    return output_dir


def _begin(recipe: Recipe, output_dir: Path, *, go_on: bool) -> None:
    """Write the recipe to the run's folder; when resuming, check first that it matches the recipe of the run."""
    path = output_dir / RECIPE_FILE
    if go_on and path.is_file():
        differing = _differences(load_recipe(path).to_dict(), recipe.to_dict())
        if differing:
            raise FileExistsError(
                f"{output_dir} contains a run that began with {'; '.join(differing)}: use the same recipe to resume "
                "it, or choose another folder"
            )
    output_dir.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        unfinished.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")


def _differences(earlier: dict[str, Any], now: dict[str, Any], section: str = "") -> list[str]:
    """List the settings that affect training and differ, each as `key=earlier value, not new value`."""
    found = []
    for key in (*earlier, *(key for key in now if key not in earlier)):
        before, after = earlier.get(key), now.get(key)
        if before == after or key in FREE.get(section, ()):
            continue
        if isinstance(before, dict) and isinstance(after, dict) and not section:
            found += _differences(before, after, key)
        else:
            found.append(f"{section}{'.' if section else ''}{key}={before}, not {after}")
    return found


def training_arguments(recipe: Recipe, output_dir: Path) -> TrainingArguments:
    """Return the trainer's arguments: the defaults of all recipes, updated by the recipe's trainer section.

    Raises:
        ValueError: `max_steps` is missing, or an argument is unknown.
    """
    refuse_unknown_settings("trainer", recipe.trainer, (item.name for item in fields(TrainingArguments) if item.init))
    values: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        # ClipDraws are already in random order, so the sampler must not shuffle them.
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "logging_steps": 20,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        # transformers requires this for mixed precision on a CPU.
        "use_cpu": not torch.accelerator.is_available(),
        **recipe.trainer,
    }
    if "max_steps" not in values:
        raise ValueError("the recipe's trainer section has no max_steps; set trainer.max_steps")
    arguments = TrainingArguments(**values)
    if arguments.bf16 and arguments.device.type == "cpu" and not _cpu_computes_bfloat16():
        logger.warning("This CPU only emulates bfloat16, which is several times slower: set trainer.bf16=false")
    return arguments


def _cpu_computes_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 matrices natively, or `True` if this cannot be detected."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older torch
    known = [capabilities[name] for name in ("amx_bf16", "avx512_bf16") if name in capabilities]
    return any(known) or not known


@contextmanager
def _logging_to(folder: Path) -> Iterator[None]:
    """Make a TensorBoard callback that is created inside write to a folder, unless the user has set another one."""
    if _TENSORBOARD_FOLDER in os.environ:
        yield
        return
    os.environ[_TENSORBOARD_FOLDER] = str(folder)
    try:
        yield
    finally:
        del os.environ[_TENSORBOARD_FOLDER]


def _with_clip_numbers(stage: Stage, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Collate examples and add their clip numbers, so that error messages can name the clips."""
    numbers = torch.tensor([example["clip_number"] for example in examples])
    return {**stage.collate(examples), CLIP_NUMBERS: numbers}


def _write_history(output_dir: Path, trainer: LampTrainer, metrics: dict[str, float]) -> None:
    history = {"metrics": metrics, "log": trainer.state.log_history}
    with atomic_path(output_dir / "training.json") as unfinished:
        unfinished.write_text(json.dumps(history, indent=1), encoding="utf-8")

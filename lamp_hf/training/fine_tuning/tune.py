"""Fine-tune a text-to-motion model on a folder of motions: checks, training, scores and model card in one call."""

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, portable_name
from lamp_hf.data import load_motion_dataset
from lamp_hf.data.splits import with_validation
from lamp_hf.evaluation.protocols.common import EvaluationSet, shown_name
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_lamp_language_model_captioning import load_lamp
from lamp_hf.processes import process_state
from lamp_hf.training.recipe import Recipe, recipe_of
from lamp_hf.training.run import alone_in, train, train_alone, training_arguments
from lamp_hf.training.stages.text_to_motion import TextToMotionStage, update_generation

from .checks import (
    check_base,
    check_clips,
    check_fit,
    check_output,
    check_rehearsal,
    check_source,
)
from .report import Clock, FineTuning
from .scores import evaluate, write_card

__all__ = ["fine_tune"]

logger = logging.getLogger(__name__)

TOKENIZER_FOLDER = "motion-vqvae"
TOKENIZER_LIMIT_MM = 25.0  # MPJPE above which the tokenizer is also fine-tuned
MEASURED_CLIPS = 200  # at most this many clips are reconstructed to measure it
GUIDANCE_SCALE = 2.5  # lower limit: actions learned from few clips need strong guidance

TOKENIZER_RECIPE: dict[str, Any] = {
    "stage": "motion-vqvae",
    "model": {"freeze_tokens": False, "freeze_encoder": True},
    "sampling": {"window": 64, "balance": 0.5},
    "trainer": {
        "max_steps": 500,
        "per_device_train_batch_size": 32,
        "learning_rate": 0.0003,
        "adam_beta2": 0.99,
        "weight_decay": 0.0,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 20,
        "max_grad_norm": 1.0,
        "eval_steps": 0.5,
        "save_steps": 0.5,
        "metric_for_best_model": "joint_mpjpe_mm",
        "greater_is_better": False,
    },
}
RECIPE: dict[str, Any] = {
    "stage": "text-to-motion",
    "rehearsal": {"num_motions": 512, "share": 0.5},
    "sampling": {"balance": 0.5},
    "trainer": {
        "max_steps": 1500,
        "per_device_train_batch_size": 32,
        "learning_rate": 0.0006,
        "adam_beta1": 0.9,
        "adam_beta2": 0.99,
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 30,
        "max_grad_norm": 1.0,
        "eval_steps": 0.25,
        "save_steps": 0.25,
        "eval_on_start": True,
        "metric_for_best_model": "joint_token_loss",
        "greater_is_better": False,
    },
}
OWN_KEYS = ("stage", "base", "data", "tokenizer")
LORA: dict[str, Any] = {"rank": 16}
LORA_LEARNING_RATE = 0.002  # higher than without LoRA, because an adapter starts from zero


def fine_tune(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str = DEFAULT_CHECKPOINT,
    lora: bool = False,
    overrides: Sequence[str] = (),
    seed: int = 0,
    push_to: str | None = None,
    private: bool = False,
    license: str | None = None,
) -> FineTuning:
    """Fine-tune a text-to-motion model on a data set.

    All inputs are checked before any work: the files, the base, the overrides, the output folder and, with `push_to`,
    your permission to write there. Call the function again to resume an interrupted run, or to repeat only the upload
    of a finished one.

    If the base's motion tokenizer reconstructs the new motions poorly, its decoder and its unused codes are fine-tuned.
    Its encoder stays frozen, because LaMP reads its output. Then the masked transformer and the length estimator are
    fine-tuned. LaMP stays frozen, so search and captioning with the new model do not change. To prevent forgetting,
    half of all training examples are motions that the base generates for texts that it already handles. A tenth of the
    clips is held out for validation, unless the data set has a validation split.

    Args:
        data: Folder of motions with `metadata.jsonl`, path of a data set that [`load_motion_dataset`] supports by name,
            or Hub id of a data set.
        output: Folder for the finished model, its processor, `recipe.yaml`, evaluation records, and a model card with a
            sample.
        base: A text-to-motion checkpoint: the name of a packaged one, a folder, or a Hub id.
        lora: Train an adapter instead of the whole masked transformer. The saved model has the adapter merged. The
            adapter alone is saved in `adapter/`, for use with the base and this model's motion tokenizer.
        overrides: `key=value` overrides for the recipe of the masked transformer, such as `trainer.max_steps=200`.
        seed: Seed of everything random.
        push_to: Hub id under which to publish the result.
        private, license: Visibility and license of the published model; see
            [`lamp_hf.publishing.checkpoint.push_checkpoint`].

    Returns:
        The report, with scores before and after.

    Raises:
        FileExistsError: `output` contains something else, or a run with other arguments or clips.
        FileNotFoundError: The data set or the base does not exist.
        BlockingIOError: Another training run is writing to `output`.
        HubError: You have no permission to write to `push_to`.
        ValueError: The data set has errors or does not fit the base, or the base cannot rehearse.
    """
    output, data = Path(output), str(data)
    report = FineTuning(portable_name(base), data, lora, list(overrides), seed)
    checkpoint = check_base(base)
    source = check_source(data)
    recipe = _recipe(checkpoint, source, lora, overrides, seed)
    training_arguments(recipe, output)
    check_rehearsal(recipe, checkpoint)
    report = check_output(output, report, push_to)
    if push_to is not None:
        from lamp_hf.hub.upload import Target

        Target(push_to, private=private or None)
    options = dict(source)
    dataset = with_validation(load_motion_dataset(options.pop("name"), **options))
    check_fit(dataset, checkpoint, data)
    report = check_clips(dataset, output, report)
    process_state().wait_for_everyone()  # nothing is written until all processes have finished their checks
    if not report.finished:
        with alone_in(output):
            _train_and_evaluate(recipe, dataset, output, report, license)
    if push_to is not None and process_state().is_main_process:
        from lamp_hf.publishing.checkpoint import push_checkpoint

        push_checkpoint(output, push_to, private=private or None, license=license)
    return report


def _train_and_evaluate(
    recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning, license: str | None
) -> None:
    """Train, evaluate, and write everything to the output folder."""
    main = process_state().is_main_process
    if main:
        report.save(output)
    clock = Clock(report)
    with clock("tokenizer"):
        recipe.tokenizer = _adapt_tokenizer(recipe, dataset, output, report)
    with clock("masked transformer"):
        train_alone(recipe, output)
    with clock("evaluation"):
        records = evaluate(recipe, dataset, output, report)  # distributed over all processes
    if not main:
        return
    (output / "evaluations").mkdir(exist_ok=True)
    for record in records:
        record.save(output / "evaluations" / f"{record.protocol.task}-{record.protocol.name}.json")
    report.save(output)
    with clock("card"):
        write_card(output, dataset, license)
    report.finished = True
    report.save(output)


def _recipe(checkpoint: str, source: dict[str, Any], lora: bool, overrides: Sequence[str], seed: int) -> Recipe:
    values = copy.deepcopy(RECIPE) | {"base": checkpoint, "data": dict(source), "seed": seed}
    usual = MaskedMotionGenerationConfig.from_pretrained(checkpoint).guidance_scale
    values["generation"] = {"guidance_scale": max(usual or 0.0, GUIDANCE_SCALE)}
    if lora:
        values["lora"] = dict(LORA)
        values["trainer"]["learning_rate"] = LORA_LEARNING_RATE
    for override in overrides:
        if override.split("=")[0].split(".")[0] in OWN_KEYS:
            raise ValueError(
                f"{override}: {', '.join(OWN_KEYS)} cannot be overridden; use the arguments data and base instead"
            )
    recipe = recipe_of(values, overrides, "the recipe of fine-tuning")
    TextToMotionStage.check(recipe)
    update_generation(MaskedMotionGenerationConfig(), recipe.generation)
    if not recipe.rehearsal.get("num_motions"):
        recipe.trainer["metric_for_best_model"] = "token_loss"
    return recipe


def _adapt_tokenizer(recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning) -> str | None:
    """Fine-tune the base's tokenizer if it reconstructs the new motions poorly; return its folder, or `None`."""
    assert recipe.base is not None
    tokenizer = load_lamp(recipe.base).motion_vqvae.eval()
    extractor = LampFeatureExtractor.from_pretrained(recipe.base)
    train_clips = EvaluationSet.from_dataset(dataset["train"], shown_name(report.data), "train").clips
    step = -(-len(train_clips) // MEASURED_CLIPS)
    error = evaluate_reconstruction(tokenizer, extractor, train_clips[::step])["mpjpe_mm"]
    measured = f"the base reconstructs the new clips within {error:.1f} mm (MPJPE)"
    report.stages["LaMP"] = "kept"
    if error <= TOKENIZER_LIMIT_MM:
        report.stages["motion tokenizer"] = f"kept: {measured}"
        return None
    report.stages["motion tokenizer"] = (
        f"decoder and unused codes trained: {measured}, the limit is {TOKENIZER_LIMIT_MM:g}"
    )
    logger.info("%s: fine-tuning the decoder and the unused codes", measured)
    values = copy.deepcopy(TOKENIZER_RECIPE) | {"base": recipe.base, "data": recipe.data, "seed": recipe.seed}
    values["rehearsal"] = dict(recipe.rehearsal)
    if not recipe.rehearsal.get("num_motions"):
        values["trainer"]["metric_for_best_model"] = "mpjpe_mm"
    for name in ("bf16", "use_cpu", "disable_tqdm", "report_to"):
        if name in recipe.trainer:
            values["trainer"][name] = recipe.trainer[name]
    folder = output / TOKENIZER_FOLDER
    if not (folder / "training.json").is_file():  # a resumed run may have finished the tokenizer already
        train(recipe_of(values, (), "the recipe of fine-tuning"), folder)
    return str(folder)

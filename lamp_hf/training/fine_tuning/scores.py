"""Scores before and after fine-tuning, and the model card that shows them."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import DatasetDict
from transformers import pipeline

from lamp_hf.evaluation.probes.new_actions import ActionJudge, motions_of
from lamp_hf.evaluation.protocols.common import EvaluationSet, shown_name
from lamp_hf.evaluation.protocols.reconstruction import evaluate_reconstruction_protocol
from lamp_hf.evaluation.protocols.text_to_motion import evaluate_text_to_motion_protocols
from lamp_hf.evaluation.records import EvaluationRecord
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
from lamp_hf.publishing.model_card import write_run_card
from lamp_hf.publishing.sample import write_sample
from lamp_hf.training.recipe import Recipe

from .report import FineTuning

if TYPE_CHECKING:
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline


__all__ = ["evaluate", "write_card"]

logger = logging.getLogger(__name__)

PROBED_MOTIONS = 50  # enough to recognize a model that has forgotten
SEED_OF_SCORES = 1000  # offset, so that the scores use other motions than the rehearsal


def evaluate(recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning) -> list[EvaluationRecord]:
    """Add the scores before and after to the report, and return the evaluation records for the card."""
    history = json.loads((output / "training.json").read_text(encoding="utf-8"))
    first = next(entry for entry in history["log"] if "eval_token_loss" in entry)
    for name, shown in (("token_loss", "token loss, new clips"), ("known_token_loss", "token loss, rehearsed motions")):
        if f"eval_{name}" in first:
            report.scores[shown] = {"before": first[f"eval_{name}"], "after": history["metrics"][f"eval_{name}"]}
    report.stages["masked transformer"] = "LoRA adapter trained and merged" if recipe.lora else "trained"

    validation = EvaluationSet.from_dataset(dataset["validation"], shown_name(report.data), "validation")
    before: TextToMotionPipeline = pipeline("text-to-motion", model=recipe.base)  # type: ignore[call-overload]
    after: TextToMotionPipeline = pipeline("text-to-motion", model=str(output))  # type: ignore[call-overload]
    report.scores["MPJPE of the tokenizer, mm"] = {
        name: evaluate_reconstruction(pipe.model.lamp.motion_vqvae, pipe.processor.feature_extractor, validation.clips)[
            "mpjpe_mm"
        ]
        for name, pipe in (("before", before), ("after", after))
    }
    report.scores |= _probe(recipe, dataset, validation, before, after, report)
    return _records(after, validation, output.resolve().name, recipe.seed)


def _probe(
    recipe: Recipe,
    dataset: DatasetDict,
    validation: EvaluationSet,
    before: "TextToMotionPipeline",
    after: "TextToMotionPipeline",
    report: FineTuning,
) -> dict[str, dict[str, float]]:
    """Score whether generated motions show the new actions, and whether known texts still produce the old ones."""
    texts = before.processor.example_texts
    if not texts or not recipe.rehearsal.get("num_motions"):
        return {}
    seed = recipe.seed + SEED_OF_SCORES
    some = texts[: 4 * PROBED_MOTIONS]
    known = motions_of(before, some, seed)
    train_clips = EvaluationSet.from_dataset(dataset["train"], shown_name(report.data), "train")
    try:
        judge = ActionJudge(train_clips, validation, known)
    except ModuleNotFoundError as error:
        logger.warning("The scores of new actions are left out: %s", error)
        return {}
    seed += len(texts)
    made = {name: judge.generated(pipe, seed) for name, pipe in (("before", before), ("after", after))}
    texts = texts[-PROBED_MOTIONS:]
    known_made = {name: motions_of(pipe, texts, seed) for name, pipe in (("before", before), ("after", after))}
    scores = {
        "new action recognized" + ("" if action == "all" else f", {action}"): {
            name: by_action[action] for name, by_action in made.items()
        }
        for action in made["after"]
    }
    scores["new action recognized"]["real"] = judge.real()
    # Both models have the same LaMP. Only its score notices motions that show neither the old nor a new action.
    found = {
        name: evaluate_lamp(before.model.lamp, before.processor, [motion.features for motion in made], texts, texts)
        for name, made in known_made.items()
    }
    scores["known texts, R-Precision 3 by LaMP"] = {name: each["text_to_motion_r3"] for name, each in found.items()}
    scores["known texts not done as a new action"] = {name: judge.kept(made) for name, made in known_made.items()}
    return scores


def _records(pipe: "TextToMotionPipeline", validation: EvaluationSet, name: str, seed: int) -> list[EvaluationRecord]:
    records = evaluate_text_to_motion_protocols(
        name, pipe, validation, protocols=("physics",), repeats=2, seed=seed, multimodality_texts=0
    )
    if len(validation) > 1:
        tokenizer, extractor = pipe.model.lamp.motion_vqvae, pipe.processor.feature_extractor
        records.append(evaluate_reconstruction_protocol(name, tokenizer, extractor, validation, repeats=5, seed=seed))
    return records


def write_card(output: Path, dataset: DatasetDict, license: str | None) -> None:
    """Write the model card, with a sample motion for the caption of a validation clip."""
    text = dataset["validation"][0]["captions"][0]["text"]
    checkpoint = CheckpointFolder.read(output)
    sample = write_sample(checkpoint, output, text)
    write_run_card(checkpoint, sample=sample, license=license)

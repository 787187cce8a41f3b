"""A folder of one's own mocap into a text-to-motion model of one's own: checks, training, scores, card, in one call."""

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import DatasetDict
from transformers import AutoConfig, pipeline

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, portable_name, resolve_checkpoint
from lamp_hf.data import dataset_name, load_motion_dataset
from lamp_hf.data.doctor import check_data
from lamp_hf.data.motionfolder import find_tables
from lamp_hf.data.splits import with_validation
from lamp_hf.evaluation.probes.new_actions import ActionJudge, motions_of
from lamp_hf.evaluation.protocols.common import EvaluationSet, shown_name
from lamp_hf.evaluation.records import EvaluationRecord
from lamp_hf.files import atomic_path
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.metrics.functional.retrieval import evaluate_lamp
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.modeling_lamp_captioning import load_lamp
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.processes import process_state
from lamp_hf.terminal import counted

from .recipe import Recipe, recipe_of
from .rehearsal import texts_to_rehearse
from .run import alone_in, train, train_alone, training_arguments
from .text_to_motion import TextToMotionStage, update_generation

if TYPE_CHECKING:
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

__all__ = ["FineTuning", "fine_tune"]

logger = logging.getLogger(__name__)

REPORT = "fine-tuning.json"
TOKENIZER_FOLDER = "motion-vqvae"
TOKENIZER_LIMIT_MM = 25.0  # above, the tokenizer learns the new motions too
MEASURED_CLIPS = 200  # whose reconstruction decides on that
PROBED_MOTIONS = 50  # of each side, which is enough to tell a model that has forgotten
SHOWN_FINDINGS = 5
GUIDANCE_SCALE = 2.5  # at least: what was learned of few clips must be asked for clearly
SEED_OF_SCORES = 1000  # other motions than those that were rehearsed

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
LORA_LEARNING_RATE = 0.002  # an adapter starts from nothing


@dataclass
class FineTuning:
    """What [`fine_tune`] did; `fine-tuning.json` in its folder.

    Args:
        base, data, lora, overrides, seed: As they were asked for.
        clips: SHA-256 of the ids, lengths and captions of all clips.
        stages: What became of each part of the model, and why.
        scores: By measure: `before` and `after`, on validation clips, and `real` where real clips have it too.
        minutes: By what took them.
        finished: Whether everything is done.
    """

    base: str
    data: str
    lora: bool
    overrides: list[str]
    seed: int
    clips: str = ""
    stages: dict[str, str] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    minutes: dict[str, float] = field(default_factory=dict)
    finished: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What it must have in common with an earlier one to go on from there."""
        return {name: getattr(self, name) for name in ("base", "data", "lora", "overrides", "seed")}

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / REPORT) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


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
    """Teach a text-to-motion model the motions of a data set.

    Everything is checked before any work: the files, the base, the overrides, the output folder and, with `push_to`,
    that you may write there. A run that was cut off goes on when it is asked for again; of one that is finished but for
    the upload, the upload is made.

    Where the motion tokenizer reconstructs the new motions badly, its decoder learns them, and so do the codes that
    nothing known needs; its encoder stays as it is, for LaMP reads what it gives. The masked transformer and the length
    estimator learn to make them. LaMP stays as it is: search and captions by the new model know what they knew before.
    So that the model does not forget, it rehearses: half of all draws are motions that the base makes for texts that it
    knows. A tenth of the clips is held out, unless the set has a validation split.

    Args:
        data: Folder of motions with `metadata.jsonl`, path of a set that [`load_motion_dataset`] knows by name, or id
            of a data set on the Hub.
        output: Folder that gets the finished model, its processor, `recipe.yaml`, records, and a card with a sample.
        base: A text-to-motion checkpoint: of the package, a folder, or a Hub id.
        lora: Train an adapter on the masked transformer in place of all of it. The model has it merged; by itself it
            lies in `adapter/`, for the base with this model's motion tokenizer.
        overrides: `key=value` for the recipe of the masked transformer, as `trainer.max_steps=200`.
        seed: Of everything that is random.
        push_to: Publish the result under this name on the Hub.
        private, license: Of what is published; see [`lamp_hf.publishing.checkpoint.push_checkpoint`].

    Returns:
        What was done, with scores before and after.

    Raises:
        FileExistsError: `output` holds something else, or a run with other arguments or clips.
        FileNotFoundError: There is no such data set or base.
        BlockingIOError: Another training is writing to `output`.
        HubError: You may not write to `push_to`.
        ValueError: The data set has errors or does not fit the base, or the base cannot rehearse.
    """
    output, data = Path(output), str(data)
    report = FineTuning(portable_name(base), data, lora, list(overrides), seed)
    checkpoint = _check_base(base)
    source = _check_data(data)
    recipe = _recipe(checkpoint, source, lora, overrides, seed)
    training_arguments(recipe, output)
    _check_rehearsal(recipe, checkpoint)
    report = _check_output(output, report, push_to)
    if push_to is not None:
        from lamp_hf.hub.upload import Target

        Target(push_to, private=private or None)
    options = dict(source)
    dataset = with_validation(load_motion_dataset(options.pop("name"), **options))
    _check_fit(dataset, checkpoint, data)
    report = _check_clips(dataset, output, report)
    process_state().wait_for_everyone()  # nothing is written until all processes have looked
    if not report.finished:
        with alone_in(output):
            _make(recipe, dataset, output, report, license)
    if push_to is not None and process_state().is_main_process:
        from lamp_hf.publishing.checkpoint import push_checkpoint

        push_checkpoint(output, push_to, private=private or None, license=license)
    return report


def _make(recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning, license: str | None) -> None:
    """Train, evaluate, and write everything into the output folder."""
    main = process_state().is_main_process
    if main:
        report.save(output)
    clock = _Clock(report)
    with clock("tokenizer"):
        recipe.tokenizer = _adapt_tokenizer(recipe, dataset, output, report)
    with clock("masked transformer"):
        train_alone(recipe, output)
    with clock("evaluation"):
        records = _evaluate(recipe, dataset, output, report)  # by all processes, each a share of it
    if not main:
        return
    (output / "evaluations").mkdir(exist_ok=True)
    for record in records:
        record.save(output / "evaluations" / f"{record.protocol.task}-{record.protocol.name}.json")
    report.save(output)
    with clock("card"):
        _write_card(output, dataset, license)
    report.finished = True
    report.save(output)


class _Clock:
    """Minutes of each part of the work, those of earlier runs included."""

    def __init__(self, report: FineTuning):
        self.minutes = report.minutes
        self.part = ""

    def __call__(self, part: str) -> "_Clock":
        self.part = part
        return self

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.minutes[self.part] = self.minutes.get(self.part, 0.0) + (time.monotonic() - self.start) / 60


# ---- checks -----------------------------------------------------------------------------------------------


def _check_base(base: str) -> str:
    checkpoint = resolve_checkpoint(base)
    model_type = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    if model_type != "lamp_text_to_motion":
        raise ValueError(f"{base} holds a {model_type!r} model; fine-tuning starts from a text-to-motion model")
    return checkpoint


def _check_data(data: str) -> dict[str, Any]:
    """Arguments of [`load_motion_dataset`] for what lies at a path, after its files have been read."""
    path = Path(data)
    if path.exists() and (name := dataset_name(path)):
        return {"name": name, "path": data}
    if not path.is_dir() or not find_tables(path):
        return {"name": data}
    report = check_data(path)
    if report.errors:
        shown = "; ".join(str(finding) for finding in report.errors[:SHOWN_FINDINGS])
        more = len(report.errors) - SHOWN_FINDINGS
        raise ValueError(
            f"{data} has {counted(len(report.errors), 'error')}: {shown}{f'; and {more} more' if more > 0 else ''}. "
            f"`lamp-hf data check {data}` lists everything; correct the files or take them out of the table"
        )
    return {"name": data, "mirror": True}


def _check_rehearsal(recipe: Recipe, checkpoint: str) -> None:
    if not recipe.rehearsal.get("num_motions"):
        return
    texts_to_rehearse(LampProcessor.from_pretrained(checkpoint))
    if AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).length_hidden_sizes is None:
        raise ValueError(
            "the base does not estimate how long motions are, so it cannot rehearse: train without rehearsal "
            "(rehearsal.num_motions=0), and add clips of what it should still do"
        )


def _check_output(output: Path, report: FineTuning, push_to: str | None) -> FineTuning:
    """The report to go on with."""
    if not output.exists() or (output.is_dir() and all(path.name == ".lock" for path in output.iterdir())):
        return report
    path = output / REPORT
    if not path.is_file():
        raise FileExistsError(f"{output} holds something else already: choose another folder for the model")
    found = FineTuning(**json.loads(path.read_text(encoding="utf-8")))
    same = found.asked == report.asked
    if found.finished and not (same and push_to):
        raise FileExistsError(
            f"{output} holds a finished model already: choose another folder; `lamp-hf push {output} owner/name` "
            "publishes it"
        )
    if not same:
        raise FileExistsError(
            f"{output} holds an unfinished run with {', '.join(f'{name}={each}' for name, each in found.asked.items())}"
            ": give the same options to resume it, or choose another folder"
        )
    if not found.finished:
        logger.warning("Going on with the unfinished run in %s", output)
    return found


def _check_clips(dataset: DatasetDict, output: Path, report: FineTuning) -> FineTuning:
    """The report with the clips that it is of; an earlier one must be of the same."""
    digest = hashlib.sha256()
    for split, rows in dataset.items():
        digest.update(json.dumps([split, rows["id"][:], rows["num_frames"][:], rows["captions"][:]]).encode())
    if report.clips and report.clips != digest.hexdigest() and not report.finished:
        raise FileExistsError(
            f"{output} holds an unfinished run, and {report.data} has changed since it began: choose another folder, "
            "or give the data back the files and captions that it had"
        )
    return replace(report, clips=report.clips or digest.hexdigest())


def _check_fit(dataset: DatasetDict, checkpoint: str, data: str) -> None:
    extractor = LampFeatureExtractor.from_pretrained(checkpoint)
    found = len(dataset["train"][0]["motion"][0])
    if found != extractor.feature_size:
        raise ValueError(
            f"{data} has motions of {found} features per frame, the base reads {extractor.feature_size}: they have "
            "different skeletons, and need a base of their own"
        )


# ---- training ---------------------------------------------------------------------------------------------


def _recipe(checkpoint: str, source: dict[str, Any], lora: bool, overrides: Sequence[str], seed: int) -> Recipe:
    values = copy.deepcopy(RECIPE) | {"base": checkpoint, "data": dict(source), "seed": seed}
    usual = MaskedMotionGenerationConfig.from_pretrained(checkpoint).guidance_scale
    values["generation"] = {"guidance_scale": max(usual or 0.0, GUIDANCE_SCALE)}
    if lora:
        values["lora"] = dict(LORA)
        values["trainer"]["learning_rate"] = LORA_LEARNING_RATE
    for override in overrides:
        if override.split("=")[0].split(".")[0] in OWN_KEYS:
            raise ValueError(f"{override}: {', '.join(OWN_KEYS)} follow from what fine-tuning is asked for")
    recipe = recipe_of(values, overrides, "the recipe of fine-tuning")
    TextToMotionStage.check(recipe)
    update_generation(MaskedMotionGenerationConfig(), recipe.generation)
    if not recipe.rehearsal.get("num_motions"):
        recipe.trainer["metric_for_best_model"] = "token_loss"
    return recipe


def _adapt_tokenizer(recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning) -> str | None:
    """Folder of a tokenizer that knows the new motions, if the base's does not."""
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
    logger.info("%s: decoder and unused codes learn them", measured)
    values = copy.deepcopy(TOKENIZER_RECIPE) | {"base": recipe.base, "data": recipe.data, "seed": recipe.seed}
    values["rehearsal"] = dict(recipe.rehearsal)
    if not recipe.rehearsal.get("num_motions"):
        values["trainer"]["metric_for_best_model"] = "mpjpe_mm"
    for name in ("bf16", "use_cpu", "disable_tqdm", "report_to"):
        if name in recipe.trainer:
            values["trainer"][name] = recipe.trainer[name]
    folder = output / TOKENIZER_FOLDER
    if not (folder / "training.json").is_file():  # a finished one is there when a run goes on
        train(recipe_of(values, (), "the recipe of fine-tuning"), folder)
    return str(folder)


# ---- scores and card --------------------------------------------------------------------------------------


def _evaluate(recipe: Recipe, dataset: DatasetDict, output: Path, report: FineTuning) -> list[EvaluationRecord]:
    """Put scores before and after into the report; the records that the card shows."""
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
    """Whether the new actions are recognized in what is generated, and the old ones are not taken for them."""
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
        logger.warning("The new actions are not probed: %s", error)
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
    # Both have the same LaMP. It alone tells a motion of what was asked for from none at all.
    found = {
        name: evaluate_lamp(before.model.lamp, before.processor, [motion.features for motion in made], texts, texts)
        for name, made in known_made.items()
    }
    scores["known texts, R-Precision 3 by LaMP"] = {name: each["text_to_motion_r3"] for name, each in found.items()}
    scores["known texts not done as a new action"] = {name: judge.kept(made) for name, made in known_made.items()}
    return scores


def _records(pipe: "TextToMotionPipeline", validation: EvaluationSet, name: str, seed: int) -> list[EvaluationRecord]:
    from lamp_hf.evaluation.protocols.reconstruction import evaluate_reconstruction_protocol
    from lamp_hf.evaluation.protocols.text_to_motion import evaluate_text_to_motion_protocols

    records = evaluate_text_to_motion_protocols(
        name, pipe, validation, protocols=("physics",), repeats=2, seed=seed, multimodality_texts=0
    )
    if len(validation) > 1:
        tokenizer, extractor = pipe.model.lamp.motion_vqvae, pipe.processor.feature_extractor
        records.append(evaluate_reconstruction_protocol(name, tokenizer, extractor, validation, repeats=5, seed=seed))
    return records


def _write_card(output: Path, dataset: DatasetDict, license: str | None) -> None:
    from lamp_hf.publishing.model_card import write_run_card
    from lamp_hf.publishing.sample import write_sample

    text = dataset["validation"][0]["captions"][0]["text"]  # of a clip that was held out
    sample = write_sample(output, "text-to-motion", output, text)
    write_run_card(output, sample=sample, license=license)

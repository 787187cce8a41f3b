"""The card of a checkpoint: what its files say, in the part that lamp_hf writes."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lamp_hf.checkpoints.embedded import portable_name, resolve_checkpoint
from lamp_hf.evaluation.records import EvaluationRecord
from lamp_hf.files import atomic_path
from lamp_hf.hub.card_text import (
    CARD_ITSELF,
    MODEL_INDEX,
    License,
    card_parts,
    looks_like_hub_id,
    merged_card,
    persons_header,
    shown_name,
)
from lamp_hf.hub.licenses import Origin, Source, find_license, warn_of_license, words_on_license

from .describe import describe_checkpoint, named_parts
from .model_kinds import KINDS, OTHER, REMARKS

__all__ = [
    "CONVERSION_FILE",
    "bases_of",
    "checkpoint_card",
    "data_of",
    "local_card",
    "records_of",
    "sample_in",
    "write_run_card",
]

logger = logging.getLogger(__name__)

CONVERSION_FILE = "conversion.json"


def checkpoint_card(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    *,
    existing: str | None,
    card_license: License,
    sources: Sequence[Source],
    told: Origin | None = None,
    sample: str = "",
    results: Any = None,
    story: Path | None = None,
    on_hub: Callable[[str, str], bool] | None = None,
) -> str | None:
    """The card of a checkpoint, from its files.

    Args:
        folder: As `save_pretrained` or a training run leaves it.
        name: By which readers will load it: the Hub id.
        config: Its configuration, as readers will find it.
        existing: The card that is there.
        license: See [`find_license`].
        sources: The checkpoints that it was made from, and the data.
        told: Of an earlier card of the same weights, for what the sources do not tell.
        sample: Markdown that shows what it makes.
        results: The `model-index`, if not that of the existing card.
        story: Folder of the files that say how the weights came about and of the records, if not that of the
            checkpoint.
        on_hub: Whether a name is that of a `"model"` or `"dataset"` on the Hub, and no folder of this machine; by
            default its looks decide.

    Returns:
        The card, or `None` if a person has written the existing one.
    """
    kind = KINDS.get(config["model_type"], OTHER)
    story = story or folder
    recipe = _yaml(story / "recipe.yaml")
    bases = [source.name for source in sources if not source.is_data]
    header: dict[str, Any] = {"library_name": kind.library}
    if kind.task:
        header["pipeline_tag"] = kind.task
    header["tags"] = ["lamp_hf", "human-motion", *kind.tags]
    on_hub = on_hub or (lambda name, repo_type: looks_like_hub_id(name))
    if public := [base for base in bases if on_hub(base, "model")]:
        header["base_model"] = public[0] if len(public) == 1 else public
    if data := [name for name in data_of(story) if on_hub(name, "dataset")]:
        header["datasets"] = data
    if results is not None:
        header[MODEL_INDEX] = results
    conversion = _json(story / CONVERSION_FILE)
    words = [word for source in sources for word in words_on_license(source, card_license)]
    if not words and told is not None and told.words:
        words = [told.words]
    # Converted models do not estimate lengths: whoever asks says how long.
    length = "duration=4.0, " if config.get("length_hidden_sizes", ()) is None else ""
    # An evaluator that reads GloVe's vectors has no tokenizer.
    prepares = "AutoFeatureExtractor" if config.get("text_input") == "glove" else "AutoProcessor"
    parts = [
        f"# {Path(name).name}",
        f"This model {kind.does}; with lamp_hf, an implementation of LaMP "
        "([Language-Motion Pretraining](https://arxiv.org/abs/2410.07093), Li et al., 2024).",
        sample,
        f"```python\n{kind.usage.format(name=name, length=length, prepares=prepares).strip()}\n```",
        REMARKS.get(conversion.get("kind", ""), "").format_map(config),
        _model_section(folder, config),
        _conversion_section(conversion),
        _training_section(recipe, _json(story / "training.json"), bases),
        _fine_tuning_section(_json(story / "fine-tuning.json")),
        _evaluation_section(story),
        "\n\n".join([_license_section(card_license), *dict.fromkeys(words)]),
    ]
    return merged_card(existing, header, "\n\n".join(part for part in parts if part), card_license, bases)


def write_run_card(folder: Path, *, name: str | None = None, sample: str = "", license: str | None = None) -> None:
    """Give a finished run, or a converted model, its card, offline; one that a person wrote stays.

    Args:
        folder: Of the run.
        name: By which the card loads it, by default the folder.
        sample: Markdown that shows what the model makes.
        license: As in [`find_license`].
    """
    path = folder / "README.md"
    existing = path.read_text(encoding="utf-8") if path.is_file() else None
    name = name or str(folder)
    config = _json(folder / "config.json")
    sources = [Source(base, local_card(base)) for base in bases_of(config, folder)]
    sources += [Source(data, local_card(data), is_data=True) for data in data_of(folder)]
    headers = [(CARD_ITSELF, persons_header(existing, str(path)))]
    headers += [(source.name, source.header) for source in sources if not source.is_data]
    card_license = find_license(license, headers)
    card = checkpoint_card(
        folder, name, config, existing=existing, card_license=card_license, sources=sources, sample=sample
    )
    if card is not None:
        warn_of_license(card_license, name, sources)
        with atomic_path(path) as unfinished:
            unfinished.write_text(card, encoding="utf-8")


def bases_of(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Names of the checkpoints that one was made from, by its configuration and the recipe in its folder."""
    names = [_yaml(folder / "recipe.yaml").get("base"), config.get("lamp_name"), config.get("language_model_name")]
    return list(dict.fromkeys(portable_name(str(name)) for name in names if name))


def data_of(folder: Path) -> list[str]:
    """Names of the data sets that a checkpoint was trained on, by the recipe in its folder."""
    name = _yaml(folder / "recipe.yaml").get("data", {}).get("name")
    return [str(name)] if name else []


def local_card(name: str) -> str | None:
    """The card of a checkpoint or a data set that lies on this machine."""
    try:
        path = Path(resolve_checkpoint(name), "README.md")
    except FileNotFoundError:
        return None
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _conversion_section(facts: Mapping[str, Any]) -> str:
    """What a converted model was made from, and what was assumed."""
    if not facts:
        return ""
    rows = [(f"`{source['file']}`", f"`{source['sha256']}`") for source in facts["sources"]]
    text = "## Converted from\n\n" + _table(("file", "SHA-256"), rows)
    text += (
        "\n\nBy `lamp-hf convert`, from checkpoints of other people's training; its outputs are those of the code that "
        f"they were published for. {facts['tensors_used']} tensors are in the model; {facts['tensors_unused']} take "
        "no part or came twice. Weights are stored in float32."
    )
    if facts["settings"]:
        text += "\n\nNot told by the tensors:\n"
        text += "".join(f"\n- `{name}`: {each['value']} ({each['from']})" for name, each in facts["settings"].items())
    return text


def _model_section(folder: Path, config: Mapping[str, Any]) -> str:
    facts = describe_checkpoint(str(folder)) | named_parts(config)
    hidden = ("checkpoint", "license", "data")
    rows = [(name.strip(), value) for name, value in facts.items() if name not in hidden]
    return "## Model\n\n" + _table(("", ""), rows)


def _training_section(recipe: Mapping[str, Any], history: Mapping[str, Any], bases: Sequence[str]) -> str:
    if not recipe:
        return f"## Training\n\nMade from {', '.join(map(shown_name, bases))}." if bases else ""
    trainer, metrics = recipe.get("trainer", {}), history.get("metrics", {})
    rows: list[tuple[str, Any]] = [
        ("stage", recipe["stage"]),
        ("data", shown_name(recipe.get("data", {}).get("name") or "")),
    ]
    if bases:
        rows.append(("from", ", ".join(map(shown_name, bases))))
    if recipe.get("text_encoder"):
        rows.append(("text encoder", shown_name(recipe["text_encoder"])))
    rows += [
        (shown, trainer[key])
        for key, shown in (
            ("max_steps", "steps"),
            ("per_device_train_batch_size", "batch per device"),
            ("gradient_accumulation_steps", "batches per step"),
            ("learning_rate", "learning rate"),
        )
        if key in trainer
    ]
    rows.append(("seed", recipe.get("seed", 0)))
    if "train_runtime" in metrics:
        rows.append(("minutes", f"{metrics['train_runtime'] / 60:.1f}"))
    text = "## Training\n\n" + _table(("", ""), rows) + "\n\nAll settings are in `recipe.yaml`."
    measured = {
        key.removeprefix("eval_").replace("_", " "): f"{value:.4g}"
        for key, value in metrics.items()
        if key.startswith("eval_") and isinstance(value, float)
    }
    if measured:
        text += "\n\nAt the end, on the validation split:\n\n" + _table(("", ""), list(measured.items()))
    return text


def _fine_tuning_section(report: Mapping[str, Any]) -> str:
    """What became of the base's parts, and scores before and after."""
    if not report.get("scores"):
        return ""
    columns = ("before", "after", "real")
    rows = [
        (measure, *(f"{values[column]:.3f}" if column in values else "" for column in columns))
        for measure, values in report["scores"].items()
    ]
    minutes = sum(report.get("minutes", {}).values())
    return (
        f"## Fine-tuning\n\nOn validation clips, which it has not learned from; in all {minutes:.0f} minutes.\n\n"
        + _table(("", "base", "this model", "real clips"), rows)
        + "\n\n"
        + _table(("part of the model", ""), list(report["stages"].items()))
    )


def _evaluation_section(folder: Path) -> str:
    """A table for each record in `evaluations/`."""
    parts = []
    for record in records_of(folder):
        protocol = record.protocol
        judge = f", judged by `{protocol.evaluator}`" if protocol.evaluator else ""
        rows = {**record.references, **record.rows}
        metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        cells = [
            (metric.replace("_", " "), *(f"{row[metric]:.3f}" if metric in row else "" for row in rows.values()))
            for metric in metrics
        ]
        parts.append(
            f"{protocol.task}, protocol {protocol.name} (version {protocol.version}): {protocol.n} clips of "
            f"{protocol.dataset} ({protocol.split}), {protocol.repeats} repeats{judge}.\n\n"
            + _table(("", *rows), cells)
        )
    return "\n\n".join(["## Evaluation", *parts]) if parts else ""


def records_of(folder: Path) -> list[EvaluationRecord]:
    """The evaluation records in a checkpoint's `evaluations/`."""
    return [EvaluationRecord.load(path) for path in sorted(folder.glob("evaluations/*.json"))]


def _license_section(card_license: License) -> str:
    if card_license.source is None:
        return "## License\n\nNot stated: ask whoever published this before you use it."
    origin = "" if card_license.is_persons else f", as that of {shown_name(card_license.source)}"
    return f"## License\n\n{card_license.name}{origin}."


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def sample_in(card: str | None, file: str) -> str:
    """The Markdown with which lamp_hf shows a sample in a card, empty if it shows none."""
    found = re.search(rf"^!\[.*\]\({re.escape(file)}\)\n\n.*$", card_parts(card)[1], re.MULTILINE)
    return found[0] if found else ""


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values


def _yaml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values or {}

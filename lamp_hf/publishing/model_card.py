"""The card of a checkpoint: the part that lamp_hf writes, from the checkpoint's files."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.evaluation.records import EvaluationRecord
from lamp_hf.files import atomic_path
from lamp_hf.hub.card_text import (
    CARD_ITSELF,
    MODEL_INDEX,
    License,
    card_parts,
    code_name,
    looks_like_hub_id,
    merged_card,
    user_header,
)
from lamp_hf.hub.licenses import LicenseSource, Origin, find_license, warn_of_license, words_on_license
from lamp_hf.hub.upload import CARD

from .checkpoint_folder import CheckpointFolder
from .describe import describe
from .model_kinds import REMARKS

__all__ = ["checkpoint_card", "local_card", "sample_in", "write_run_card"]


def checkpoint_card(
    checkpoint: CheckpointFolder,
    name: str,
    *,
    existing: str | None,
    card_license: License,
    sources: Sequence[LicenseSource],
    origin: Origin | None = None,
    sample: str = "",
    results: Any = None,
    on_hub: Callable[[str, str], bool] | None = None,
) -> str | None:
    """Write the card of a checkpoint.

    Args:
        checkpoint: The checkpoint, with the configuration that readers will find.
        name: Name that readers load it by: the Hub id.
        existing: The card that the repository or the folder has.
        card_license: The license, see [`find_license`].
        sources: The checkpoints and the data sets that it was made from.
        origin: What an earlier card of the same weights says about sources that cannot be read.
        sample: Markdown that shows a sample of its output.
        results: The `model-index`. Defaults to that of the existing card.
        on_hub: Returns whether a name is the id of a `"model"` or `"dataset"` on the Hub. By default every name of the
            form `owner/name` is, unless it is a local folder.

    Returns:
        The card, or `None` if the existing card is user-written.
    """
    kind, config, conversion = checkpoint.kind, checkpoint.config, checkpoint.conversion
    bases = [source.name for source in sources if not source.is_data]
    header: dict[str, Any] = {"library_name": kind.library}
    if kind.task:
        header["pipeline_tag"] = kind.task
    header["tags"] = ["lamp_hf", "human-motion", *kind.tags]
    on_hub = on_hub or (lambda name, repo_type: looks_like_hub_id(name))
    if public := [base for base in bases if on_hub(base, "model")]:
        header["base_model"] = public[0] if len(public) == 1 else public
    if data := [name for name in checkpoint.datasets if on_hub(name, "dataset")]:
        header["datasets"] = data
    if results is not None:
        header[MODEL_INDEX] = results
    words = [word for source in sources for word in words_on_license(source, card_license)]
    if not words and origin is not None and origin.words:
        words = [origin.words]
    # Converted models have no length estimator, so the snippet gives a duration.
    length = "duration=4.0, " if config.get("length_hidden_sizes", ()) is None else ""
    # An evaluator without its GloVe vectors has no tokenizer.
    wordless = config.get("text_input") == "glove" and not config.get("num_word_vectors")
    prepares = "AutoFeatureExtractor" if wordless else "AutoProcessor"
    parts = [
        f"# {Path(name).name}",
        f"This model {kind.does}. It runs with lamp_hf, an implementation of LaMP "
        "([Language-Motion Pretraining](https://arxiv.org/abs/2410.07093), Li et al., ICLR 2025).",
        sample,
        f"```python\n{kind.usage.format(name=name, length=length, prepares=prepares).strip()}\n```",
        REMARKS.get(conversion.get("kind", ""), "").format_map(config),
        _model_section(checkpoint),
        _conversion_section(conversion),
        _training_section(checkpoint.recipe, checkpoint.training, bases),
        _fine_tuning_section(checkpoint.fine_tuning),
        _evaluation_section(checkpoint.records),
        "\n\n".join([_license_section(card_license), *dict.fromkeys(words)]),
    ]
    return merged_card(existing, header, "\n\n".join(part for part in parts if part), card_license, bases)


def write_run_card(
    checkpoint: CheckpointFolder, *, name: str | None = None, sample: str = "", license: str | None = None
) -> None:
    """Write the card of a finished run or of a converted model into its folder, offline.

    A user-written card is left as it is.

    Args:
        checkpoint: The run or the model.
        name: Name that the card loads it by. Defaults to its path.
        sample: Markdown that shows a sample of its output.
        license: The license, see [`find_license`].
    """
    path = checkpoint.path / CARD
    name = name or str(checkpoint.path)
    sources = [LicenseSource(base, local_card(base)) for base in checkpoint.bases]
    sources += [LicenseSource(data, local_card(data), is_data=True) for data in checkpoint.datasets]
    headers = [(CARD_ITSELF, user_header(checkpoint.card, str(path)))]
    headers += [(source.name, source.header) for source in sources if not source.is_data]
    card_license = find_license(license, headers)
    card = checkpoint_card(
        checkpoint, name, existing=checkpoint.card, card_license=card_license, sources=sources, sample=sample
    )
    if card is not None:
        warn_of_license(card_license, name, sources)
        with atomic_path(path) as unfinished:
            unfinished.write_text(card, encoding="utf-8")


def local_card(name: str) -> str | None:
    """Return the card of a local checkpoint or data set, if it has one."""
    try:
        path = Path(resolve_checkpoint(name), CARD)
    except FileNotFoundError:
        return None
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _conversion_section(facts: Mapping[str, Any]) -> str:
    """Return the source files of a converted model, and the settings that its tensors do not determine."""
    if not facts:
        return ""
    rows = [(f"`{source['file']}`", f"`{source['sha256']}`") for source in facts["sources"]]
    text = "## Converted from\n\n" + _table(("file", "SHA-256"), rows)
    text += (
        "\n\nConverted by `lamp-hf convert` from checkpoints that others trained. The outputs are the same as with the "
        f"code that these were published for. The model contains {facts['tensors_used']} of their tensors; "
        f"{facts['tensors_unused']} are unused or duplicates. Weights are stored in float32."
    )
    if facts["settings"]:
        text += "\n\nSettings that the tensors do not determine:\n"
        text += "".join(f"\n- `{name}`: {each['value']} ({each['from']})" for name, each in facts["settings"].items())
    return text


def _model_section(checkpoint: CheckpointFolder) -> str:
    """Return a table of facts about the model."""
    hidden = ("checkpoint", "license", "data")
    rows = [(name.strip(), value) for name, value in describe(checkpoint).items() if name not in hidden]
    return "## Model\n\n" + _table(("", ""), rows)


def _training_section(recipe: Mapping[str, Any], history: Mapping[str, Any], bases: Sequence[str]) -> str:
    """Return the settings of the training and the metrics at its end."""
    if not recipe:
        return f"## Training\n\nMade from {', '.join(map(code_name, bases))}." if bases else ""
    trainer, metrics = recipe.get("trainer", {}), history.get("metrics", {})
    rows: list[tuple[str, Any]] = [
        ("stage", recipe["stage"]),
        ("data", code_name(recipe.get("data", {}).get("name") or "")),
    ]
    if bases:
        rows.append(("from", ", ".join(map(code_name, bases))))
    if recipe.get("text_encoder"):
        rows.append(("text encoder", code_name(recipe["text_encoder"])))
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
        text += "\n\nFinal metrics on the validation split:\n\n" + _table(("", ""), list(measured.items()))
    return text


def _fine_tuning_section(report: Mapping[str, Any]) -> str:
    """Return the scores before and after fine-tuning, and how each part of the base model was trained."""
    if not report.get("scores"):
        return ""
    columns = ("before", "after", "real")
    rows = [
        (measure, *(f"{values[column]:.3f}" if column in values else "" for column in columns))
        for measure, values in report["scores"].items()
    ]
    minutes = sum(report.get("minutes", {}).values())
    return (
        f"## Fine-tuning\n\nScores on held-out validation clips. Fine-tuning took {minutes:.0f} minutes.\n\n"
        + _table(("", "base", "this model", "real clips"), rows)
        + "\n\n"
        + _table(("part of the model", ""), list(report["stages"].items()))
    )


def _evaluation_section(records: Sequence[EvaluationRecord]) -> str:
    """Return a table for each evaluation record."""
    parts = []
    for record in records:
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


def _license_section(card_license: License) -> str:
    """Return the license and where it comes from."""
    if card_license.source is None:
        return "## License\n\nNot stated. Ask the publisher before you use this."
    origin = "" if card_license.from_user else f", inherited from {code_name(card_license.source)}"
    return f"## License\n\n{card_license.name}{origin}."


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def sample_in(card: str | None, file: str) -> str:
    """Return the Markdown that shows a sample in lamp_hf's part of a card, empty if there is none."""
    found = re.search(rf"^!\[.*\]\({re.escape(file)}\)\n\n.*$", card_parts(card)[1], re.MULTILINE)
    return found[0] if found else ""

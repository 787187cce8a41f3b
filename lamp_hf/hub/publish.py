"""Publishes what lamp_hf makes: checkpoints with their cards, motion indexes, data sets and metrics."""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_hf.checkpoint_files import CONFIG_FILES, WEIGHT_FILES, CheckpointError
from lamp_hf.embedded import is_embedded, portable_name
from lamp_hf.evaluation.records import write_to_card
from lamp_hf.hub_errors import HubError, clear_hub_errors

from .card import (
    CARD_ITSELF,
    KINDS,
    MODEL_INDEX,
    Licence,
    bases_of,
    checkpoint_card,
    find_licence,
    header_of,
    local_card,
    looks_like_hub_id,
    merged_card,
    records_of,
    split_card,
    touched,
)
from .upload import CARD, Target

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import Pipeline, PreTrainedModel

__all__ = ["publish", "push_checkpoint", "push_dataset", "push_metric", "push_model", "push_pipeline"]

logger = logging.getLogger(__name__)

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
# How the weights came about.
ORIGIN = (
    "recipe.yaml",
    "training.json",
    "fine-tuning.json",
    "conversion.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)
# Of a run's folder, what is published: neither the trainer's state nor what other programs left there.
PUBLISHED = (
    *WEIGHTS,
    *ORIGIN,
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "evaluations/*.json",
)
PICTURES = (".gif", ".png", ".jpg", ".mp4")


def publish(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    sample: str | None = None,
    parts: Mapping[str, str] | None = None,
    token: str | None = None,
) -> str:
    """Push whatever a folder holds: a checkpoint or a finished run, a motion index, a metric, or a data set.

    Args:
        folder: The folder, or the name of an embedded checkpoint or of a metric of lamp_hf.
        repo_id: `owner/name`, or a name of your own; a dataset repository for indexes and data sets, a space for
            metrics.
        private, license, token: As in [`push_checkpoint`].
        sample, parts: As in [`push_checkpoint`]; of use to checkpoints alone.

    Returns:
        URL of the repository.

    Raises:
        FileNotFoundError: There is no such folder.
        HubError: The Hub refuses, or the upload did not finish.
    """
    from lamp_hf import metrics
    from lamp_hf.embedded import resolve_checkpoint

    path = Path(folder)
    common: dict[str, Any] = {"private": private, "token": token}
    if (path / "index.json").is_file():
        from lamp_hf.retrieval import MotionIndex

        return MotionIndex.open(path).push_to_hub(repo_id, license=license, **common)
    if (path / f"{path.name}.py").is_file() or (str(folder) in metrics.NAMES and not path.is_dir()):
        return push_metric(folder, repo_id, **common)
    if path.is_dir() and not (path / "config.json").is_file():
        from lamp_hf.data import load_motion_dataset

        return push_dataset(load_motion_dataset(path), repo_id, license=license, **common)
    if not Path(local := resolve_checkpoint(str(folder))).is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder to push")
    return push_checkpoint(local, repo_id, license=license, sample=sample, parts=parts, **common)


# ---- checkpoints ------------------------------------------------------------------------------------------


def push_checkpoint(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    sample: str | None = None,
    base: str | None = None,
    parts: Mapping[str, str] | None = None,
    token: str | None = None,
) -> str:
    """Push a checkpoint, or a finished run, with its card, in one commit.

    The card says what the files say: configuration, `recipe.yaml`, `training.json` and the records in `evaluations/`.
    Where a person has written the repository's README, or else the folder's, it stays as it is.

    Args:
        folder: As `save_pretrained` or a training run leaves it; nothing in it is changed.
        repo_id: `owner/name`, or a name of your own.
        private: Make a new repository private.
        license: As the Hub spells it, `cc-by-nc-4.0`. By default that of the card that is there, or of the models
            that this one was made from; else `other`, with a warning.
        sample: A sentence, or for a captioner a motion file, whose result the card shows; `""` for none.
        base: Checkpoint that this one was made from, where no recipe tells.
        parts: Of a captioner, what its configuration shall name in place of folders of this machine: names on the Hub
            for `lamp_name` and `language_model_name`.
        token: In place of the one that you are logged in with.

    Returns:
        URL of the repository.

    Raises:
        CheckpointError: The checkpoint is incomplete, or needs folders that only this machine has.
        HubError: The Hub refuses, or the upload did not finish: nothing in the repository has changed.
    """
    folder = Path(folder)
    files = _checkpoint_files(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | dict(parts or {})
    target = Target(repo_id, private=private, token=token)
    on_hub = _asks_the_hub(target)
    config = _without_folders(_with_public_parts(config, folder, on_hub))
    there, ours = target.read(CARD), local_card(str(folder.resolve()))
    existing = there if there is not None and (touched(there) or not touched(ours)) else ours
    if existing is there and touched(ours) and ours != there:
        logger.warning("%s keeps its README.md, in which a person has written; the folder's is not pushed", repo_id)
    bases = bases_of(config, folder) or ([portable_name(base)] if base else [])
    bases = [each for each in bases if each != target.repo_id]
    headers = [(CARD_ITSELF, header_of(existing))]
    headers += [(each, header_of(_card_of(each, target, on_hub))) for each in bases]
    licence = find_licence(license, headers)
    with tempfile.TemporaryDirectory() as made:
        kind = KINDS.get(config["model_type"])
        shown = ""
        if sample != "" and kind is not None and "processor_config.json" in files:
            from .sample import SAMPLE_FILE, write_sample

            shown = write_sample(folder, kind.task, Path(made), sample)
            if shown:
                files[SAMPLE_FILE] = Path(made, SAMPLE_FILE)
        card = checkpoint_card(
            folder,
            target.repo_id,
            config,
            existing=existing,
            licence=licence,
            bases=bases,
            sample=shown,
            results=header_of(ours).get(MODEL_INDEX),
            on_hub=on_hub,
        )
        if card is not None:
            _warn_of_no(licence, target.repo_id)
            files[CARD] = _with_records(card, folder, Path(made))
        else:
            logger.warning("A person has written the README.md of %s, and it stays: state the licence there", repo_id)
            if existing is not None and existing is not there:
                files[CARD] = existing.encode()
        files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
        if "recipe.yaml" in files:
            recipe = _without_folders(yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8")))
            files["recipe.yaml"] = yaml.safe_dump(recipe, sort_keys=False).encode()
        if "fine-tuning.json" in files:
            report = _without_folders(json.loads((folder / "fine-tuning.json").read_text(encoding="utf-8")))
            files["fine-tuning.json"] = (json.dumps(report, indent=2) + "\n").encode()
        if existing is not None and existing is not there:  # pictures that a person's text shows
            pictures = [path for path in folder.iterdir() if path.suffix in PICTURES and path.name in existing]
            files |= {path.name: path for path in pictures if path.name not in files}
        # Of other weights, what is there of their story would be told of these.
        stale = (*WEIGHTS, *ORIGIN)
        return target.commit(files, f"Upload {config.get('model_type')} with lamp_hf", replaces=stale)


def push_model(model: "PreTrainedModel", repo_id: str, **options: Any) -> str:
    """Push a model alone, with its card; the processor has a `push_to_hub` of its own.

    Args:
        model: The model.
        repo_id, options: As in [`push_checkpoint`].
    """
    options = {"base": str(model.name_or_path) or None, "sample": "", **options}
    return _push_saved(model.save_pretrained, repo_id, **options)


def push_pipeline(pipe: "Pipeline", repo_id: str, **options: Any) -> str:
    """Push the model and the processor of a pipeline, with a card.

    Args:
        pipe: The pipeline.
        repo_id, options: As in [`push_checkpoint`].
    """
    return _push_saved(pipe.save_pretrained, repo_id, **{"base": str(pipe.model.name_or_path) or None, **options})


def _push_saved(save: Callable[[str], None], repo_id: str, **options: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        save(folder)
        return push_checkpoint(folder, repo_id, **options)


def _checkpoint_files(folder: Path) -> dict[str, Path | bytes]:
    """What of a folder is published, by the name in the repository."""
    for needed in (CONFIG_FILES, WEIGHT_FILES):
        if not any((folder / name).is_file() for name in needed):
            raise CheckpointError(f"{folder} holds no whole checkpoint: {' or '.join(needed)} is missing")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("**/*")) if path.is_file()}
    index = paths.get("model.safetensors.index.json")
    if index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if lost := sorted(shards - paths.keys()):
            raise CheckpointError(f"{folder} holds no whole checkpoint: {', '.join(lost)} is missing")
    depth_and_name = ((name, name.count("/")) for name in paths)
    return {
        name: paths[name]
        for name, depth in depth_and_name
        if any(fnmatch(name, each) and depth == each.count("/") for each in PUBLISHED)
    }


def _with_public_parts(config: dict[str, Any], folder: Path, on_hub: Callable[[str, str], bool]) -> dict[str, Any]:
    """The configuration; a captioner names models that it does not hold, which must be where others find them."""
    public = dict(config)
    for key, option in (("lamp_name", "--lamp"), ("language_model_name", "--language-model")):
        if name := config.get(key):
            public[key] = portable_name(name)
            if not (is_embedded(public[key]) or on_hub(public[key], "model")):
                raise CheckpointError(
                    f"{folder} needs {name}, which is not on the Hub: push that one first, and say its name there with "
                    f"{option} (parts={{{key!r}: ...}})"
                )
    return public


def _asks_the_hub(target: Target) -> Callable[[str, str], bool]:
    def on_hub(name: str, repo_type: str) -> bool:
        if not looks_like_hub_id(name):
            return False
        with clear_hub_errors(name):
            return bool(target.api.repo_exists(name, repo_type=repo_type))

    return on_hub


def _card_of(base: str, target: Target, on_hub: Callable[[str, str], bool]) -> str | None:
    if not on_hub(base, "model"):
        return local_card(base)
    with clear_hub_errors(base):
        if not target.api.file_exists(base, CARD):
            return None
        return Path(target.api.hf_hub_download(base, CARD)).read_text(encoding="utf-8")


def _warn_of_no(licence: Licence, repo_id: str) -> None:
    if licence.source is None:
        logger.warning(
            "%s is published with the licence `other`: neither you nor the models that it was made from named one. "
            "Push again with a licence (`--license cc-by-nc-4.0`); the licence of the training data may demand one",
            repo_id,
        )


def _with_records(card: str, folder: Path, made: Path) -> bytes:
    """The card with the evaluation records of the folder in its `model-index`."""
    path = made / CARD
    path.write_text(card, encoding="utf-8")
    for record in records_of(folder):
        write_to_card(path, record)
    return path.read_bytes()


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items() if key != "_name_or_path"}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


# ---- data sets and metrics --------------------------------------------------------------------------------

DATASET_TEXT = """
# {title}

Human motion with captions, {clips} clips, in the columns of `lamp_hf`: features of each frame as in HumanML3D,
captions with their times, frames per second.

```python
from lamp_hf import load_motion_dataset

dataset = load_motion_dataset("{repo_id}")  # streaming=True reads row by row and keeps nothing
```
"""


def push_dataset(
    dataset: "DatasetDict | Dataset",
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    token: str | None = None,
) -> str:
    """Push a data set of motions, from which [`load_motion_dataset`] loads it back or streams it.

    Args:
        dataset: As [`load_motion_dataset`] gives it.
        repo_id, private, license, token: As in [`push_checkpoint`]; a licence comes from the card that is there, or
            is asked for.

    Returns:
        URL of the repository.

    Raises:
        HubError: The Hub refuses, or the upload did not finish.
        ValueError: It has other columns than data sets of motions.
    """
    from datasets import Dataset, DatasetDict

    from lamp_hf.data.loading import checked_dataset

    splits: DatasetDict = checked_dataset(
        DatasetDict(train=dataset) if isinstance(dataset, Dataset) else dataset, repo_id
    )
    target = Target(repo_id, repo_type="dataset", private=private, token=token)
    licence = find_licence(license, [(CARD_ITSELF, header_of(target.read(CARD)))])
    _warn_of_no(licence, target.repo_id)
    url = target.create()
    try:
        with clear_hub_errors(target.repo_id):
            splits.push_to_hub(target.repo_id, private=private, token=token)
    except HubError as error:
        raise HubError(
            f"{error}. The upload did not finish, and {target.repo_id} is {target.state}; push again"
        ) from error
    written = Target(target.repo_id, repo_type="dataset", token=token).read(CARD)  # with what `datasets` put there
    clips = " and ".join(f"{len(split):,} ({name})" for name, split in splits.items())
    text = DATASET_TEXT.format(title=Path(target.repo_id).name, clips=clips, repo_id=target.repo_id)
    header = {**licence.entries, "tags": ["lamp_hf", "human-motion"]}
    card = merged_card(written, header, text)
    if card is not None:
        target.commit({CARD: card.encode()}, "Upload the card")
    return url


def push_metric(
    name_or_folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Push a metric as a space, where `evaluate.load(repo_id)` finds it; whoever loads it needs lamp_hf.

    Args:
        name_or_folder: A metric of lamp_hf by its name, or the folder of one, `NAME/NAME.py` with a README.
        repo_id, private, token: As in [`push_checkpoint`].

    Returns:
        URL of the space.

    Raises:
        FileNotFoundError: There is no such metric.
        HubError: The Hub refuses, or the upload did not finish.
    """
    from lamp_hf import metrics

    folder = Path(metrics.folder(str(name_or_folder)) if str(name_or_folder) in metrics.NAMES else name_or_folder)
    script, card = folder / f"{folder.name}.py", folder / CARD
    for path in (script, card):
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no metric: {path.name} is missing")
    target = Target(repo_id, repo_type="space", private=private, token=token)
    text = card.read_text(encoding="utf-8")
    header = {**header_of(text), "sdk": "static", "library_name": "lamp_hf"}
    files: dict[str, Path | bytes] = {
        f"{Path(target.repo_id).name}.py": script,  # evaluate looks for the space's own name
        "requirements.txt": b"lamp_hf[evaluate]\n",
    }
    merged = merged_card(target.read(CARD), header, split_card(text)[1])
    if merged is not None:
        files[CARD] = merged.encode()
    return target.commit(files, f"Upload the metric {folder.name}", space_sdk="static")

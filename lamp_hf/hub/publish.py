"""Publishes what lamp_hf makes: checkpoints with their cards, motion indexes, data sets and metrics."""

import inspect
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_hf.checkpoints.embedded import is_embedded, portable_name
from lamp_hf.checkpoints.files import CONFIG_FILES, WEIGHT_FILES, CheckpointError
from lamp_hf.evaluation.records import joined_results, results_of, without_records
from lamp_hf.hub.errors import HubError, clear_hub_errors

from .card import (
    CARD_ITSELF,
    KINDS,
    MODEL_INDEX,
    Licence,
    Origin,
    Source,
    bases_of,
    checkpoint_card,
    data_of,
    find_licence,
    handwritten,
    header_of,
    local_card,
    looks_like_hub_id,
    merged_card,
    persons_header,
    records_of,
    sample_in,
    split_card,
    touched,
    warn_of_licence,
    with_entries,
)
from .sample import SAMPLE_FILE
from .upload import CARD, Target, matches

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
RECORDS = "evaluations/*.json"
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
    RECORDS,
)
PICTURES = (".gif", ".png", ".jpg", ".mp4")


# What lies in the folder of a run before its end.
UNFINISHED = ("checkpoint-*", "unfinished", "fine-tuning.json")


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
    from lamp_hf.checkpoints.embedded import resolve_checkpoint

    path = Path(folder)
    common: dict[str, Any] = {"private": private, "token": token}
    if (path / "index.json").is_file():
        from lamp_hf.retrieval import MotionIndex

        return MotionIndex.open(path).push_to_hub(repo_id, license=license, **common)
    if (path / f"{path.name}.py").is_file() or (str(folder) in metrics.NAMES and not path.is_dir()):
        return push_metric(folder, repo_id, **common)
    if path.is_dir() and not _any_in(path, (*CONFIG_FILES, *WEIGHT_FILES, *UNFINISHED)):
        from lamp_hf.data import load_motion_dataset

        Target(repo_id, repo_type="dataset", **common)  # who may not push learns it before thousands of files are read
        return push_dataset(load_motion_dataset(path), repo_id, license=license, card=local_card(str(path)), **common)
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
    tags: Sequence[str] | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
    token: str | None = None,
) -> str:
    """Push a checkpoint, or a finished run, with its card, in one commit.

    The card says what the files say: configuration, `recipe.yaml`, `training.json` and the records in `evaluations/`.
    Where a person has written the repository's README, or else the folder's, it stays as it is. What the repository
    says of other weights, in the card and in such files, leaves with them; of the same weights it stays.

    Args:
        folder: As `save_pretrained` or a training run leaves it; nothing in it is changed.
        repo_id: `owner/name`, or a name of your own.
        private: Make a new repository private.
        license: As the Hub spells it, `cc-by-nc-4.0`. By default that of the card that is there, or of the models
            that this one was made from; else `other`, with a warning.
        sample: A sentence, or for a captioner a motion file, whose result the card shows; `""` for none. By default
            the sample that a card of these weights shows already, else one that is made of a sentence known to many.
        base: Checkpoint that this one was made from, where no recipe tells.
        parts: Of a captioner, what its configuration shall name in place of folders of this machine: names on the Hub
            for `lamp_name` and `language_model_name`.
        tags: More tags of the card; one in which a person has written keeps its own.
        revision: Branch to push to, made where it does not exist.
        create_pr: Open a pull request with the files.
        commit_message, commit_description: Of the commit.
        token: In place of the one that you are logged in with.

    Returns:
        URL of the repository, or of the pull request.

    Raises:
        CardError: The header of a card cannot be read.
        CheckpointError: The checkpoint is incomplete, or needs folders that only this machine has.
        HubError: The Hub refuses, the upload did not finish, or somebody else wrote to the repository meanwhile:
            nothing that is there has changed.
    """
    folder = Path(folder)
    files = _checkpoint_files(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | dict(parts or {})
    target = Target(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
    on_hub = _asks_the_hub(target)
    config = _without_folders(_with_public_parts(config, folder, on_hub))
    there, ours = target.read(CARD), local_card(str(folder.resolve()))
    existing = _card_to_keep(there, ours)
    if existing is there and touched(ours) and ours != there:
        logger.warning("%s keeps its README.md, in which a person has written; the folder's is not pushed", repo_id)
    persons = persons_header(existing, f"{repo_id}/{CARD}" if existing is there else str(folder / CARD))
    same = target.holds({name: path for name, path in files.items() if matches(name, WEIGHTS)}, WEIGHTS)
    told = Origin.told_by(existing if same or existing is ours else None)
    with tempfile.TemporaryDirectory() as made:
        story = Path(made, "story")
        published: dict[str, Path | bytes] = {**files, **_story(files, target if same else None, story)}
        published["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
        bases = bases_of(config, story) or ([portable_name(base)] if base else [])
        bases = [each for each in bases if each != target.repo_id] or list(told.bases)
        sources = [Source(each, _card_of(each, "model", target, on_hub)) for each in bases]
        sources += [Source(each, _card_of(each, "dataset", target, on_hub), is_data=True) for each in data_of(story)]
        headers = [(CARD_ITSELF, persons)]
        headers += [(source.name, source.header) for source in sources if not source.is_data]
        licence = find_licence(license, headers)
        if licence.source is None:
            licence = told.licence
        shown = ""
        if handwritten(existing):
            licence = _licence_of_a_persons(persons, license, target.repo_id)
        elif sample != "":
            own = there if same and SAMPLE_FILE in target.files else None
            shown, picture = _own_sample(sample, folder, ours, own)
            kind = KINDS.get(config["model_type"])
            if not shown and kind is not None and "processor_config.json" in files:
                from .sample import write_sample

                shown, picture = write_sample(folder, kind.task, Path(made), sample), Path(made, SAMPLE_FILE)
            if shown and picture is not None:
                published[SAMPLE_FILE] = picture
        warn_of_licence(licence, target.repo_id, sources)
        card = checkpoint_card(
            folder,
            target.repo_id,
            config,
            existing=existing,
            licence=licence,
            sources=sources,
            told=told,
            sample=shown,
            results=_results(folder, existing, ours, keep=same or existing is ours),
            story=story,
            on_hub=on_hub,
        )
        if card is not None:
            published[CARD] = _with_tags(card, tags).encode()
        elif existing is not None and existing is not there:
            published[CARD] = existing.encode()
        if existing is not None and existing is not there:  # pictures that a person's text shows
            text = card or existing
            pictures = [path for path in folder.iterdir() if path.suffix in PICTURES and path.name in text]
            published |= {path.name: path for path in pictures if path.name not in published}
        # Of other weights, what is there of their story would be told of these.
        stale: tuple[str, ...] = () if same else (*WEIGHTS, *ORIGIN, RECORDS)
        if card is not None and sample_in(there, SAMPLE_FILE) and SAMPLE_FILE not in card:
            stale = (*stale, SAMPLE_FILE)
        message = commit_message or f"Upload {config.get('model_type')} with lamp_hf"
        return target.commit(published, message, description=commit_description, replaces=stale)


def _with_tags(card: str, tags: Sequence[str] | str | None) -> str:
    """A card with more tags."""
    if not tags:
        return card
    own = header_of(card, CARD).get("tags") or []
    added = [tags] if isinstance(tags, str) else list(tags)
    return with_entries(card, {"tags": [*own, *(tag for tag in added if tag not in own)]})


def push_model(model: "PreTrainedModel", repo_id: str, **options: Any) -> str:
    """Push a model alone, with its card; the processor has a `push_to_hub` of its own.

    Args:
        model: The model.
        repo_id, options: As in [`push_checkpoint`], and `max_shard_size`, as in `save_pretrained`.
    """
    options = {"base": str(model.name_or_path) or None, **options}
    return _push_saved(model.save_pretrained, push_checkpoint, repo_id, options, ("max_shard_size",))


def push_pipeline(pipe: "Pipeline", repo_id: str, **options: Any) -> str:
    """Push the model and the processor of a pipeline, with a card.

    Args:
        pipe: The pipeline.
        repo_id, options: As in [`push_model`].
    """
    options = {"base": str(pipe.model.name_or_path) or None, **options}
    return _push_saved(pipe.save_pretrained, push_checkpoint, repo_id, options, ("max_shard_size",))


def push_processor(processor: Any, repo_id: str, **options: Any) -> str:
    """Push a processor, or a feature extractor, alone; where no model lies yet, with a card.

    Args:
        processor: With a `save_pretrained`.
        repo_id, options: `private`, `license`, `tags`, `revision`, `create_pr`, `commit_message`, `commit_description`
            and `token`, as in [`push_checkpoint`].
    """
    return _push_saved(processor.save_pretrained, _push_processor_files, repo_id, options)


def _push_saved(
    save: Callable[..., Any],
    push: Callable[..., str],
    repo_id: str,
    options: Mapping[str, Any],
    of_saving: tuple[str, ...] = (),
) -> str:
    """Push what an object saves.

    Args:
        save: Writes it into a folder.
        push: Pushes the folder.
        repo_id: Where to.
        options: For `push`, and those named in `of_saving` for `save`.
        of_saving: Options of `save`.

    Raises:
        TypeError: `push` does not take one of the options.
    """
    taken = [name for name, each in inspect.signature(push).parameters.items() if each.kind is each.KEYWORD_ONLY]
    if unknown := sorted(options.keys() - {*taken, *of_saving}):
        known = ", ".join((*taken, *of_saving))
        raise TypeError(f"push_to_hub of lamp_hf does not take {', '.join(unknown)}; it takes {known}")
    with tempfile.TemporaryDirectory() as folder:
        save(folder, **{name: value for name, value in options.items() if name in of_saving})
        return push(folder, repo_id, **{name: value for name, value in options.items() if name in taken})


PROCESSOR_TEXT = """
# {title}

This turns motions and sentences into the input of models of `lamp_hf`; the model itself is not here yet.

```python
import lamp_hf
from transformers import {auto}

processor = {auto}.from_pretrained("{repo_id}")
```
"""


def _push_processor_files(
    folder: str,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    tags: Sequence[str] | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
    token: str | None = None,
) -> str:
    target = Target(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
    files: dict[str, Path | bytes] = {
        path.name: path for path in sorted(Path(folder).iterdir()) if matches(path.name, PUBLISHED)
    }
    there = target.read(CARD)
    if "config.json" not in target.files and not handwritten(there):
        licence = find_licence(license, [(CARD_ITSELF, persons_header(there, f"{repo_id}/{CARD}"))])
        warn_of_licence(licence, target.repo_id)
        auto = "AutoProcessor" if "processor_config.json" in files else "AutoFeatureExtractor"
        text = PROCESSOR_TEXT.format(title=Path(target.repo_id).name, auto=auto, repo_id=target.repo_id)
        header = {"library_name": "lamp_hf", "tags": ["lamp_hf", "human-motion"]}
        files[CARD] = _with_tags(merged_card(there, header, text, licence) or "", tags).encode()
    message = commit_message or "Upload processor with lamp_hf"
    return target.commit(files, message, description=commit_description)


def _checkpoint_files(folder: Path) -> dict[str, Path]:
    """What of a folder is published, by the name in the repository."""
    for needed in (CONFIG_FILES, WEIGHT_FILES):
        if not _any_in(folder, needed):
            run = _any_in(folder, UNFINISHED)
            do = ". A training in it is not finished: let it go on, with the command that began it" if run else ""
            raise CheckpointError(f"{folder} holds no whole checkpoint: {' or '.join(needed)} is missing{do}")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("**/*")) if path.is_file()}
    index = paths.get("model.safetensors.index.json")
    if index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if lost := sorted(shards - paths.keys()):
            raise CheckpointError(f"{folder} holds no whole checkpoint: {', '.join(lost)} is missing")
    return {name: path for name, path in paths.items() if matches(name, PUBLISHED)}


def _any_in(folder: Path, patterns: Sequence[str]) -> bool:
    return any(next(folder.glob(each), None) is not None for each in patterns)


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


def _card_of(name: str, repo_type: str, target: Target, on_hub: Callable[[str, str], bool]) -> str | None:
    if not on_hub(name, repo_type):
        return local_card(name)
    with clear_hub_errors(name):
        if not target.api.file_exists(name, CARD, repo_type=repo_type):
            return None
        return Path(target.api.hf_hub_download(name, CARD, repo_type=repo_type)).read_text(encoding="utf-8")


def _card_to_keep(there: str | None, ours: str | None) -> str | None:
    """Of the repository's card and the one that comes along, that in which a person has written."""
    return there if there is not None and (touched(there) or not touched(ours)) else ours


def _licence_of_a_persons(header: Mapping[str, Any], asked: str | None, repo_id: str) -> Licence:
    """The license of a card that a person has written, which stays as it is."""
    licence = Licence.of_header(header, CARD_ITSELF)
    if asked and licence.entries != {"license": asked}:
        do = f", and its license ({licence.name}) too: write `license: {asked}` into its header"
    else:
        do = "" if licence.named else ": state the license there"
    logger.warning("A person has written the README.md of %s, and it stays%s", repo_id, do)
    return licence


def _own_sample(asked: str | None, folder: Path, ours: str | None, there: str | None) -> tuple[str, Path | None]:
    """The sample that a card of the same weights shows, where none is asked for, and its picture if it lies here."""
    if asked is None and (folder / SAMPLE_FILE).is_file() and (shown := sample_in(ours, SAMPLE_FILE)):
        return shown, folder / SAMPLE_FILE
    return ("" if asked else sample_in(there, SAMPLE_FILE)), None


def _results(folder: Path, existing: str | None, ours: str | None, *, keep: bool) -> list[dict[str, Any]]:
    """The `model-index`: what is there, if that is of the same weights, what the folder's card says, its records."""
    index, added = (header_of(card, str(folder / CARD)).get(MODEL_INDEX) for card in (existing, ours))
    index = joined_results(index if keep else without_records(index), added)
    for record in records_of(folder):
        index = joined_results(index, results_of(record))
    return index


def _story(files: Mapping[str, Path], target: Target | None, story: Path) -> dict[str, bytes]:
    """Lay into a folder all that says how the weights came about and what was measured of them.

    Args:
        files: Of the checkpoint.
        target: The repository, if it holds the same weights: what it alone tells belongs to the story too.
        story: The folder.

    Returns:
        What is to be published in place of the files: without folders of this machine.
    """
    story.mkdir()
    published = {}
    told = [name for name in (target.files if target else ()) if name not in files]
    for name in (*files, *told):
        if not matches(name, (*ORIGIN, RECORDS)) or name.endswith(".safetensors"):
            continue
        path = story / name
        path.parent.mkdir(exist_ok=True)
        text = files[name].read_text(encoding="utf-8") if name in files or target is None else target.read(name) or ""
        path.write_text(text, encoding="utf-8")
        values = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
        if name in files and (clean := _without_folders(values)) != values:
            written = yaml.safe_dump(clean, sort_keys=False) if path.suffix == ".yaml" else json.dumps(clean, indent=2)
            published[name] = (written.rstrip("\n") + "\n").encode()
    return published


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
    card: str | None = None,
    token: str | None = None,
) -> str:
    """Push a data set of motions, from which [`load_motion_dataset`] loads it back or streams it.

    Args:
        dataset: As [`load_motion_dataset`] gives it.
        repo_id, private, license, token: As in [`push_checkpoint`]; a license comes from the card that is there, or
            is asked for.
        card: A README, for a repository in whose card no person has written yet.

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
    there = target.read(CARD)
    existing = _card_to_keep(there, card)
    persons = persons_header(existing, f"{repo_id}/{CARD}" if existing is there else f"{CARD} of the data set")
    if handwritten(existing):
        licence = _licence_of_a_persons(persons, license, target.repo_id)
    else:
        licence = find_licence(license, [(CARD_ITSELF, persons)])
        warn_of_licence(licence, target.repo_id)
    clips = " and ".join(f"{len(split):,} ({name})" for name, split in splits.items())
    text = DATASET_TEXT.format(title=Path(target.repo_id).name, clips=clips, repo_id=target.repo_id)

    def readme(there: str | None) -> str:
        existing = _card_to_keep(there, card)
        return merged_card(existing, {"tags": ["lamp_hf", "human-motion"]}, text, licence) or str(existing)

    target.check_card(readme(there))
    url = target.create()
    try:
        with clear_hub_errors(target.repo_id):
            splits.push_to_hub(target.repo_id, private=private, token=token)
    except HubError as error:
        raise HubError(
            f"{error}. The upload did not finish, and {target.repo_id} is {target.state}; push again"
        ) from error
    target.refresh("complete but for its card")
    written = target.read(CARD)
    entries = header_of(written, f"{repo_id}/{CARD}")
    of_datasets = {key: value for key, value in entries.items() if key in ("dataset_info", "configs")}
    target.commit({CARD: with_entries(readme(written), of_datasets).encode()}, "Upload the card")
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
    header = {**header_of(text, str(card)), "sdk": "static", "library_name": "lamp_hf"}
    files: dict[str, Path | bytes] = {
        f"{Path(target.repo_id).name}.py": script,  # evaluate looks for the space's own name
        "requirements.txt": b"lamp_hf[evaluate]\n",
    }
    merged = merged_card(target.read(CARD), header, split_card(text)[1])
    if merged is not None:
        files[CARD] = merged.encode()
    return target.commit(files, f"Upload the metric {folder.name}", space_sdk="static")

"""Publish checkpoints and finished runs with their cards."""

import inspect
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lamp_hf.checkpoints.embedded import is_embedded, portable_name
from lamp_hf.checkpoints.files import CONFIG_FILES, INDEX_FILE, WEIGHT_FILES, CheckpointError
from lamp_hf.evaluation.records import joined_results, results_of, without_records
from lamp_hf.hub.card_text import (
    CARD_ITSELF,
    MODEL_INDEX,
    card_to_keep,
    header_of,
    looks_like_hub_id,
    user_edited,
    user_header,
    user_written,
    with_entries,
)
from lamp_hf.hub.errors import clear_hub_errors
from lamp_hf.hub.licenses import LicenseSource, Origin, find_license, license_of_user_card, warn_of_license
from lamp_hf.hub.upload import CARD, Target, matches

from .checkpoint_folder import HISTORY, RECORDS, WEIGHTS, CheckpointFolder
from .endpoint import endpoint_files
from .model_card import checkpoint_card, local_card, sample_in
from .sample import SAMPLE_FILE

if TYPE_CHECKING:
    from transformers import Pipeline, PreTrainedModel

__all__ = ["push_checkpoint", "push_model", "push_pipeline"]

logger = logging.getLogger(__name__)

ADAPTER_WEIGHTS = "adapter/adapter_model.safetensors"
# The files of a run's folder that are published: neither the trainer's state nor files of other programs.
PUBLISHED = (
    *WEIGHTS,
    *HISTORY,
    ADAPTER_WEIGHTS,
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "words.json",
    "vocab.json",
    "merges.txt",
    RECORDS,
)
PICTURES = (".gif", ".png", ".jpg", ".mp4")
# Files that show that a run has begun, if there are no weights.
UNFINISHED_RUN = ("checkpoint-*", "unfinished", "fine-tuning.json")
SAVE_AGAIN = "save it again with save_pretrained"


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
    """Push a checkpoint or a finished run, with its card and a handler for Inference Endpoints, in one commit.

    The card is written from the files: the configuration, `recipe.yaml`, `training.json` and the records in
    `evaluations/`. A user-written README.md is left as it is, the repository's or else the folder's. If the repository
    contains other weights, what its card and its files say about them is removed. If it contains the same weights, that
    is kept.

    Args:
        folder: Folder as `save_pretrained` or a training run leaves it. It is not changed.
        repo_id: `owner/name`, or `name` for a repository of your own.
        private: Make a new repository private.
        license: License as the Hub spells it, such as `cc-by-nc-4.0`. Defaults to that of the existing card, or else
            of the base models, or else to `other`, with a warning.
        sample: Sentence whose motion the card shows, or for a captioner the motion file whose caption it shows; `""`
            for no sample. By default the card keeps the sample that a card of the same weights shows already, or a
            sample is generated from a common sentence.
        base: Name of the checkpoint that this one was made from, if there is no recipe.
        parts: For a captioner, the Hub ids to write into its configuration as `lamp_name` and `language_model_name` in
            place of local folders.
        tags: More tags for the card. A user-written card is not changed.
        revision: Branch to push to. It is created if it does not exist.
        create_pr: Open a pull request with the files.
        commit_message: Title of the commit.
        commit_description: Description of the commit.
        token: Token to use in place of the one that you are logged in with.

    Returns:
        URL of the repository, or of the pull request.

    Raises:
        CardError: The header of a card cannot be read.
        CheckpointError: The checkpoint is incomplete, or refers to models that exist only on this machine.
        HubError: The Hub refuses, the upload did not finish, or someone else wrote to the repository meanwhile. The
            repository has not changed.
    """
    local = CheckpointFolder.read(folder)
    files = _published_files(local)
    target = Target(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
    on_hub = _hub_lookup(target)
    # The checkpoint as readers will find it.
    checkpoint = local.with_texts({"config.json": _public_config(local, parts or {}, on_hub)})
    there, ours = target.read(CARD), local.card
    existing = card_to_keep(there, ours)
    if existing is there and user_edited(ours) and ours != there:
        logger.warning("%s: its README.md is user-edited and is kept; the folder's README.md is not pushed", repo_id)
    user_entries = user_header(existing, f"{repo_id}/{CARD}" if existing is there else str(local.path / CARD))
    same = target.holds({name: path for name, path in files.items() if matches(name, WEIGHTS)}, WEIGHTS)
    origin = Origin.of_card(existing if same or existing is ours else None)
    if same:
        checkpoint = checkpoint.with_texts(_history_on_hub(target, checkpoint))
    has_processor = "processor_config.json" in {*files, *target.files}
    of_endpoint, unserved = endpoint_files(checkpoint, has_processor, target.read)
    published: dict[str, Path | bytes] = {**files, **of_endpoint, **_without_local_paths(checkpoint)}
    bases = checkpoint.bases or ([portable_name(base)] if base else [])
    bases = [each for each in bases if each != target.repo_id] or list(origin.bases)
    sources = [LicenseSource(each, _card_of(each, "model", target, on_hub)) for each in bases]
    sources += [
        LicenseSource(each, _card_of(each, "dataset", target, on_hub), is_data=True) for each in checkpoint.datasets
    ]
    headers = [(CARD_ITSELF, user_entries)]
    headers += [(source.name, source.header) for source in sources if not source.is_data]
    card_license = find_license(license, headers)
    if card_license.source is None:
        card_license = origin.card_license
    shown = ""
    if user_written(existing):
        card_license = license_of_user_card(user_entries, license, target.repo_id)
    elif sample != "":
        shown, picture = _own_sample(sample, local, there if same and SAMPLE_FILE in target.files else None)
        if not shown and "processor_config.json" in files:
            shown, picture = _new_sample(local, sample)
        if shown and picture is not None:
            published[SAMPLE_FILE] = picture
    warn_of_license(card_license, target.repo_id, sources)
    card = checkpoint_card(
        checkpoint,
        target.repo_id,
        existing=existing,
        card_license=card_license,
        sources=sources,
        origin=origin,
        sample=shown,
        results=_results(local, existing, keep=same or existing is ours),
        on_hub=on_hub,
    )
    if card is not None:
        published[CARD] = with_tags(card, tags).encode()
    elif existing is not None and existing is not there:
        published[CARD] = existing.encode()
    if existing is not None and existing is not there:  # add the pictures that a user-written text shows
        text = card or existing
        published = {**{name: path for name, path in _pictures(local).items() if name in text}, **published}
    # History and records of other weights would be read as those of the new ones.
    stale: tuple[str, ...] = () if same else (*WEIGHTS, *HISTORY, ADAPTER_WEIGHTS, RECORDS)
    stale = (*stale, *unserved)
    if card is not None and sample_in(there, SAMPLE_FILE) and SAMPLE_FILE not in card:
        stale = (*stale, SAMPLE_FILE)
    message = commit_message or f"Upload {checkpoint.config.get('model_type')} with lamp_hf"
    return target.commit(published, message, description=commit_description, replaces=stale)


def with_tags(card: str, tags: Sequence[str] | str | None) -> str:
    """Return a card with tags added."""
    if not tags:
        return card
    own = header_of(card, CARD).get("tags") or []
    added = [tags] if isinstance(tags, str) else list(tags)
    return with_entries(card, {"tags": [*own, *(tag for tag in added if tag not in own)]})


def push_model(model: "PreTrainedModel", repo_id: str, **options: Any) -> str:
    """Push a model with its card, without its processor, which has its own `push_to_hub`.

    Args:
        model: The model.
        repo_id: See [`push_checkpoint`].
        options: Keyword arguments of [`push_checkpoint`], and `max_shard_size` of `save_pretrained`.
    """
    options = {"base": str(model.name_or_path) or None, **options}
    return push_saved(model.save_pretrained, push_checkpoint, repo_id, options, ("max_shard_size",))


def push_pipeline(pipe: "Pipeline", repo_id: str, **options: Any) -> str:
    """Push the model and the processor of a pipeline, with a card.

    Args:
        pipe: The pipeline.
        repo_id, options: See [`push_model`].
    """
    options = {"base": str(pipe.model.name_or_path) or None, **options}
    return push_saved(pipe.save_pretrained, push_checkpoint, repo_id, options, ("max_shard_size",))


def push_saved(
    save: Callable[..., Any],
    push: Callable[..., str],
    repo_id: str,
    options: Mapping[str, Any],
    of_saving: tuple[str, ...] = (),
) -> str:
    """Save an object into a temporary folder and push the folder.

    Args:
        save: Saves the object into a folder.
        push: Pushes a folder.
        repo_id: Repository to push to.
        options: Keyword arguments of `push`, and those of `save` that `of_saving` lists.
        of_saving: Names of the options that `save` takes.

    Raises:
        TypeError: An option is unknown.
    """
    taken = [name for name, each in inspect.signature(push).parameters.items() if each.kind is each.KEYWORD_ONLY]
    if unknown := sorted(options.keys() - {*taken, *of_saving}):
        known = ", ".join((*taken, *of_saving))
        raise TypeError(f"push_to_hub of lamp_hf does not take {', '.join(unknown)}; it takes {known}")
    with tempfile.TemporaryDirectory() as folder:
        save(folder, **{name: value for name, value in options.items() if name in of_saving})
        return push(folder, repo_id, **{name: value for name, value in options.items() if name in taken})


def _published_files(checkpoint: CheckpointFolder) -> dict[str, Path]:
    """Return the files to publish by their name in the repository.

    Raises:
        CheckpointError: The checkpoint is incomplete.
    """
    for needed in (CONFIG_FILES, WEIGHT_FILES):
        if not any_in(checkpoint.path, needed):
            run = any_in(checkpoint.path, UNFINISHED_RUN)
            do = "its training is not finished, resume it with the command that began it" if run else SAVE_AGAIN
            raise CheckpointError(
                f"{checkpoint.path}: not a complete checkpoint, {' or '.join(needed)} is missing; {do}"
            )
    shards = set(checkpoint.values(INDEX_FILE).get("weight_map", {}).values())
    if lost := sorted(shards - checkpoint.files.keys()):
        raise CheckpointError(
            f"{checkpoint.path}: not a complete checkpoint, {', '.join(lost)} is missing; {SAVE_AGAIN}"
        )
    return {name: path for name, path in checkpoint.files.items() if matches(name, PUBLISHED)}


def any_in(folder: Path, patterns: Sequence[str]) -> bool:
    """Return whether a folder has an entry that matches one of the patterns."""
    return any(next(folder.glob(each), None) is not None for each in patterns)


def _public_config(checkpoint: CheckpointFolder, parts: Mapping[str, str], on_hub: Callable[[str, str], bool]) -> str:
    """Return the `config.json` to publish: without local paths, and with names that others can load.

    Raises:
        CheckpointError: A captioner refers to a model that is not on the Hub.
    """
    config = {**checkpoint.config, **parts}
    for key, option in (("lamp_name", "--lamp"), ("language_model_name", "--language-model")):
        if name := config.get(key):
            config[key] = portable_name(name)
            if not (is_embedded(config[key]) or on_hub(config[key], "model")):
                raise CheckpointError(
                    f"{checkpoint.path}: it needs {name}, which is not on the Hub; push that model first, then pass "
                    f"its Hub id with {option} (parts={{{key!r}: ...}})"
                )
    return json.dumps(_without_folders(config), indent=2) + "\n"


def _hub_lookup(target: Target) -> Callable[[str, str], bool]:
    """Return a function that says whether a model or a data set is on the Hub."""

    def on_hub(name: str, repo_type: str) -> bool:
        if not looks_like_hub_id(name):
            return False
        with clear_hub_errors(name):
            return bool(target.api.repo_exists(name, repo_type=repo_type))

    return on_hub


def _card_of(name: str, repo_type: str, target: Target, on_hub: Callable[[str, str], bool]) -> str | None:
    """Return the card of a model or a data set, from the Hub or from a local folder."""
    if not on_hub(name, repo_type):
        return local_card(name)
    with clear_hub_errors(name):
        if not target.api.file_exists(name, CARD, repo_type=repo_type):
            return None
        return Path(target.api.hf_hub_download(name, CARD, repo_type=repo_type)).read_text(encoding="utf-8")


def _own_sample(asked: str | None, checkpoint: CheckpointFolder, there: str | None) -> tuple[str, Path | bytes | None]:
    """Return the sample that a card of the same weights shows, unless one is asked for.

    Args:
        asked: The sample asked for.
        checkpoint: The checkpoint, whose own card comes first.
        there: The repository's card, if it is of the same weights.

    Returns:
        Markdown that shows the sample, empty if there is none, and its picture if it is to be uploaded.
    """
    picture = checkpoint.files.get(SAMPLE_FILE)
    if asked is None and picture is not None and (shown := sample_in(checkpoint.card, SAMPLE_FILE)):
        return shown, picture
    return ("" if asked else sample_in(there, SAMPLE_FILE)), None


def _new_sample(checkpoint: CheckpointFolder, asked: str | None) -> tuple[str, Path | bytes | None]:
    """Run the checkpoint; return Markdown that shows the sample, empty if there is none, and its picture."""
    from .sample import write_sample

    with tempfile.TemporaryDirectory() as folder:
        shown = write_sample(checkpoint, Path(folder), asked)
        return shown, Path(folder, SAMPLE_FILE).read_bytes() if shown else None


def _results(checkpoint: CheckpointFolder, existing: str | None, *, keep: bool) -> list[dict[str, Any]]:
    """Return the `model-index`: the existing card's, then the folder's card's, then the folder's records.

    Args:
        checkpoint: The folder.
        existing: The card that is kept.
        keep: Keep its results that come from records; they are of the same weights.
    """
    source = str(checkpoint.path / CARD)
    index, added = (header_of(card, source).get(MODEL_INDEX) for card in (existing, checkpoint.card))
    index = joined_results(index if keep else without_records(index), added)
    for record in checkpoint.records:
        index = joined_results(index, results_of(record))
    return index


def _pictures(checkpoint: CheckpointFolder) -> dict[str, Path]:
    """Return the pictures in the folder by their name."""
    return {name: path for name, path in checkpoint.files.items() if path.suffix in PICTURES and path.name == name}


def _history_on_hub(target: Target, checkpoint: CheckpointFolder) -> dict[str, str]:
    """Download the history files and records of the same weights that the folder does not have."""
    names = [name for name in target.files if name not in checkpoint.files and matches(name, (*HISTORY, RECORDS))]
    return {name: target.read(name) or "" for name in names}


def _without_local_paths(checkpoint: CheckpointFolder) -> dict[str, bytes]:
    """Return the text files that are not published as they are, because they name folders of this machine."""
    published = {"config.json": checkpoint.texts["config.json"].encode()}
    for name in checkpoint.texts.keys() & checkpoint.files.keys():
        if matches(name, (*HISTORY, RECORDS)):
            values = checkpoint.values(name)
            if (clean := _without_folders(values)) != values:
                is_yaml = name.endswith(".yaml")
                text = yaml.safe_dump(clean, sort_keys=False) if is_yaml else json.dumps(clean, indent=2)
                published[name] = (text.rstrip("\n") + "\n").encode()
    return published


def _without_folders(value: Any) -> Any:
    """Return a value of a JSON or YAML file in which absolute paths are shortened to their last part."""
    if isinstance(value, dict):
        return {key: _without_folders(each) for key, each in value.items() if key != "_name_or_path"}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value

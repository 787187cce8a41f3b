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
from lamp_hf.checkpoints.files import CONFIG_FILES, WEIGHT_FILES, CheckpointError
from lamp_hf.evaluation.records import joined_results, results_of, without_records
from lamp_hf.hub.card_text import (
    CARD_ITSELF,
    MODEL_INDEX,
    card_to_keep,
    handwritten,
    header_of,
    looks_like_hub_id,
    persons_header,
    touched,
    with_entries,
)
from lamp_hf.hub.errors import clear_hub_errors
from lamp_hf.hub.licenses import Origin, Source, find_license, license_of_a_persons_card, warn_of_license
from lamp_hf.hub.upload import CARD, Target, matches

from .model_card import bases_of, checkpoint_card, data_of, local_card, records_of, sample_in
from .model_kinds import KINDS
from .sample import SAMPLE_FILE

if TYPE_CHECKING:
    from transformers import Pipeline, PreTrainedModel

__all__ = ["push_checkpoint", "push_model", "push_pipeline"]

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
    existing = card_to_keep(there, ours)
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
        card_license = find_license(license, headers)
        if card_license.source is None:
            card_license = told.card_license
        shown = ""
        if handwritten(existing):
            card_license = license_of_a_persons_card(persons, license, target.repo_id)
        elif sample != "":
            own = there if same and SAMPLE_FILE in target.files else None
            shown, picture = _own_sample(sample, folder, ours, own)
            kind = KINDS.get(config["model_type"])
            if not shown and kind is not None and "processor_config.json" in files:
                from .sample import write_sample

                shown, picture = write_sample(folder, kind.task, Path(made), sample), Path(made, SAMPLE_FILE)
            if shown and picture is not None:
                published[SAMPLE_FILE] = picture
        warn_of_license(card_license, target.repo_id, sources)
        card = checkpoint_card(
            folder,
            target.repo_id,
            config,
            existing=existing,
            card_license=card_license,
            sources=sources,
            told=told,
            sample=shown,
            results=_results(folder, existing, ours, keep=same or existing is ours),
            story=story,
            on_hub=on_hub,
        )
        if card is not None:
            published[CARD] = with_tags(card, tags).encode()
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


def with_tags(card: str, tags: Sequence[str] | str | None) -> str:
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
    return push_saved(model.save_pretrained, push_checkpoint, repo_id, options, ("max_shard_size",))


def push_pipeline(pipe: "Pipeline", repo_id: str, **options: Any) -> str:
    """Push the model and the processor of a pipeline, with a card.

    Args:
        pipe: The pipeline.
        repo_id, options: As in [`push_model`].
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


def _checkpoint_files(folder: Path) -> dict[str, Path]:
    """What of a folder is published, by the name in the repository."""
    for needed in (CONFIG_FILES, WEIGHT_FILES):
        if not any_in(folder, needed):
            run = any_in(folder, UNFINISHED)
            do = ". A training in it is not finished: let it go on, with the command that began it" if run else ""
            raise CheckpointError(f"{folder} holds no whole checkpoint: {' or '.join(needed)} is missing{do}")
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.glob("**/*")) if path.is_file()}
    index = paths.get("model.safetensors.index.json")
    if index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if lost := sorted(shards - paths.keys()):
            raise CheckpointError(f"{folder} holds no whole checkpoint: {', '.join(lost)} is missing")
    return {name: path for name, path in paths.items() if matches(name, PUBLISHED)}


def any_in(folder: Path, patterns: Sequence[str]) -> bool:
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

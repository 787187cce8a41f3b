"""Converts the authors' checkpoints to folders that `from_pretrained` and the pipelines load.

A folder with files of all kinds becomes one checkpoint: a text-to-motion model that contains LaMP and the motion
tokenizer once each, and subfolders for the captioner, the evaluator and the length estimator.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from lamp_hf.data.field_layout import read_statistic
from lamp_hf.files import atomic_folder
from lamp_hf.hub.card_text import user_edited
from lamp_hf.hub.upload import CARD
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.skeleton import skeleton_for_feature_dim
from lamp_hf.publishing.checkpoint_folder import CONVERSION_FILE, CheckpointFolder
from lamp_hf.publishing.model_card import write_run_card

from .configs import (
    Settings,
    captioning_config,
    evaluator_config,
    lamp_config,
    length_estimator_config,
    text_to_motion_config,
    vqvae_config,
)
from .files import OriginalFile, find_files, find_statistics, read_file
from .glove import Glove, find_glove, read_glove
from .layout import LAMP_PARTS, MODELS, ORIGINAL_KINDS, TIES, UNUSED, AnyConfig, layout_of
from .state_dicts import (
    Tensors,
    captioning_state_dict,
    evaluator_state_dict,
    lamp_state_dict,
    length_estimator_state_dict,
    split_language_models,
    text_to_motion_state_dict,
    vqvae_state_dict,
)
from .tokenizers import glove_tokenizer, load_language_model_tokenizer, load_text_tokenizer

__all__ = ["Conversion", "ConvertedModel", "convert"]

logger = logging.getLogger(__name__)

# The first of these kinds that a folder has becomes the checkpoint itself, which contains those after it.
MAIN_KINDS = ("text-to-motion", "lamp", "motion-vqvae")
# Kinds whose files are also needed to convert a kind. There must be one file of each of them.
STANDS_ON = {
    "lamp": ("motion-vqvae",),
    "text-to-motion": ("lamp", "motion-vqvae"),
    "captioning": ("lamp", "motion-vqvae"),
}
# Guidance scale in the authors' commands for HumanML3D and KIT-ML, by numbers per frame.
GUIDANCE = {263: 4.0, 251: 2.0}
SHOWN = 20

# Called before every step with a description, the number of steps done, and the number of steps known so far.
OnStep = Callable[[str, int, int], None]


@dataclass
class ConvertedModel:
    """One model that a conversion wrote.

    Args:
        kind: One of `ORIGINAL_KINDS`.
        folder: Folder of the model.
        sources: Files that its tensors come from.
        parameters: Number of values in its tensors; tied tensors count once.
        tensors_used: Number of tensors of the sources that it contains.
        tensors_unused: Number of the other tensors, which do not affect its outputs or come from another source.
        settings: Values that the tensors do not show, each with its source: `"given"`, `"opt.txt"` or `"published"`.
        statistics: Files of mean and standard deviation; `None` for a length estimator, which takes no motions.
        glove: Files of the GloVe vectors that an evaluator contains.
    """

    kind: str
    folder: Path
    sources: list[OriginalFile]
    parameters: int
    tensors_used: int
    tensors_unused: int
    settings: dict[str, tuple[int, str]]
    statistics: tuple[Path, Path] | None
    glove: tuple[Path, ...] = ()


@dataclass
class Conversion:
    """Result of [`convert`].

    Args:
        output: Folder that was written.
        models: Models in it, the checkpoint itself first.
        left_out: Files of `original` that were not used.
    """

    output: Path
    models: list[ConvertedModel] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)


@dataclass
class _Prepared:
    """A model that is ready to be written."""

    model: PreTrainedModel
    sources: list[OriginalFile]
    used: int
    tokenizer: Any = None
    text_padding: Literal["longest", "max_length"] = "longest"
    glove: Glove | None = None


def convert(
    original: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    kind: str | None = None,
    lamp: str | os.PathLike[str] | None = None,
    motion_vqvae: str | os.PathLike[str] | None = None,
    mean: str | os.PathLike[str] | None = None,
    std: str | os.PathLike[str] | None = None,
    glove: str | os.PathLike[str] | None = None,
    text_tokenizer: str = "google-bert/bert-base-uncased",
    language_model_tokenizer: str | None = None,
    license: str | None = None,
    settings: Mapping[str, int] | None = None,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Conversion:
    """Convert checkpoints of the released LaMP code, and of the evaluator and length estimator that it uses.

    Every tensor is accounted for, sizes are inferred from the tensors, and weights are saved in float32 as safetensors.
    The configuration has the values with which the model reproduces the outputs of the released code. No code in the
    files is run.

    Args:
        original: A checkpoint (`.tar`, `.pt`, `.pth`), or a folder that contains one of each kind that is needed, also
            in subfolders. If there are several of one kind, the one whose number of features per frame matches the
            other files is used: with a motion tokenizer of 263 features, `h3d-qformer.tar` rather than
            `kit-qformer.tar`.
        output: Folder to write. It is created once everything has succeeded, or not at all.
        kind: Convert only this kind: `"motion-vqvae"`, `"lamp"`, `"text-to-motion"`, `"captioning"`, `"evaluator"` or
            `"length-estimator"`. Defaults to all kinds found. The text-to-motion model with LaMP and the motion
            tokenizer in it, or the largest of these that is found, becomes the checkpoint itself; the others are
            written to subfolders named after their kind.
        lamp: LaMP that a text-to-motion model or a captioner was trained on, if `original` contains none or several.
        motion_vqvae: Motion tokenizer's file, if `original` contains none or several.
        mean, std: Statistics (`.npy`) with which the motions were normalized. Defaults to those next to the
            checkpoints, where the authors put them (`meta/mean.npy`). Statistics of the tokenizer's training differ
            from those of the data set, because some channels are divided by 5. An evaluator that is converted
            together with other kinds therefore uses the ones next to its own file.
        glove: GloVe vectors of an evaluator: the folder with `our_vab_data.npy`, `our_vab_words.pkl` and
            `our_vab_idx.pkl`, or a text file of GloVe. Defaults to a folder of these files in or around `original`. An
            evaluator without them reads motions and word vectors, but no texts; a warning is logged.
        text_tokenizer: Folder or Hub id of BERT's tokenizer. `[DEC]` is added if it is missing.
        language_model_tokenizer: Folder or Hub id of the tokenizer of a captioner's language model. Defaults to
            `facebook/opt-2.7b` if the language model has the size of that model.
        license: License of the weights, for the card. It is never guessed: without it the card says `other`, and a
            warning is logged.
        settings: Values that the tensors do not show, such as `{"lamp.num_attention_heads": 12}`. They take precedence
            over those in `opt.txt` and the published ones. All names are in `lamp_hf.conversion.configs.SETTINGS`.
        overwrite: Replace an earlier conversion in `output`.
        on_step: Called before every step.

    Returns:
        The models that were written, with their sources, and the files that were left out.

    Raises:
        FileNotFoundError: If a file, the statistics or a tokenizer is missing.
        FileExistsError: If `output` is not empty, or contains files that no conversion wrote.
        ValueError: If a file is damaged, contains code, or is not of the expected kind; if tensors are missing, unknown
            or of the wrong shape; or if a folder contains two files of a kind that is needed.
    """
    original, output = Path(original), Path(output)
    if kind is not None and kind not in ORIGINAL_KINDS:
        raise ValueError(f"kind={kind!r} is unknown; choose one of {', '.join(ORIGINAL_KINDS)}")
    if (mean is None) != (std is None):
        raise ValueError("mean and std go together; pass both files or neither")
    chosen = Settings(settings or {})
    _check_output(original, output, overwrite)
    paths = {"lamp": lamp, "motion-vqvae": motion_vqvae}
    named = {each: _read_named(Path(path), each) for each, path in paths.items() if path is not None}

    steps = _Steps(on_step)
    found, left_out = _read_all(original, kind, named, steps)
    places = _plan(found, kind)
    _check_cards(output, places)
    files = _one_of_each(found, named, _needed(places.values()), left_out)
    if (reason := _why_evaluator_left_out(files, places, given=mean is not None)) is not None:
        left_out[files["evaluator"].path] = reason
        places = {place: each for place, each in places.items() if each != "evaluator"}
    for reason in left_out.values():
        logger.warning("%s", reason)
    result = Conversion(output, left_out=list(left_out))
    statistics = {}
    if mean is not None and std is not None:
        # An evaluator that is converted together with other kinds uses its own statistics.
        kinds = [each for each in places.values() if each != "evaluator" or len(places) == 1]
        statistics = {each: (Path(mean), Path(std)) for each in kinds}
    vectors = None
    if "evaluator" in places.values():
        vectors = Path(glove) if glove is not None else find_glove(original, files["evaluator"].path)
    elif glove is not None:
        raise ValueError("glove: only an evaluator has GloVe vectors, and none is converted; leave it out")
    converter = _Converter(files, statistics, vectors, text_tokenizer, language_model_tokenizer, license, chosen)
    converter.check_settings(places.values())
    with atomic_folder(output) as partial:
        steps.total += len(places)
        for place, each in places.items():
            steps.next(f"Converting {each}")
            model = converter.write(each, partial / place, str(output / place))
            result.models.append(replace(model, folder=output / place))
    return result


def _why_evaluator_left_out(files: Mapping[str, OriginalFile], places: Mapping[str, str], *, given: bool) -> str | None:
    """Return why an evaluator next to other models has to be left out, or `None` if it does not.

    Statistics from the caller belong to the other models; an evaluator was trained with different ones.
    """
    if not given or len(places) == 1 or "evaluator" not in places.values() or find_statistics([files["evaluator"]]):
        return None
    return (
        f"{files['evaluator'].path} is left out: its own mean.npy and std.npy are not next to it, and the ones passed "
        "belong to the other models; convert it separately with the ones it was trained with (--kind evaluator --mean "
        "FILE --std FILE)"
    )


class _Steps:
    """Counts steps and reports them to the caller."""

    def __init__(self, on_step: OnStep | None):
        self.on_step = on_step
        self.done = self.total = 0

    def next(self, what: str) -> None:
        if self.on_step is not None:
            self.on_step(what, self.done, self.total)
        self.done += 1


# ---- files in ---------------------------------------------------------------------------------------------


def _read_all(
    original: Path, kind: str | None, named: Mapping[str, OriginalFile], steps: _Steps
) -> tuple[dict[str, list[OriginalFile]], dict[Path, str]]:
    """Read all files: return them by kind, and the reasons why others are left out."""
    paths = find_files(original)
    steps.total = len(paths)
    found: dict[str, list[OriginalFile]] = {}
    left_out: dict[Path, str] = {}
    refused: list[ValueError] = []
    for path in paths:
        steps.next(f"Reading {path.name}")
        try:
            file = read_file(path)
        except ValueError as error:
            refused.append(error)
            left_out[path] = f"{error} (left out)"
            continue
        if file.kind is None:
            left_out[path] = f"{path} is left out: it is not a checkpoint of a known kind (contents: {file.contents})"
        else:
            found.setdefault(file.kind, []).append(file)
    # A file that cannot be read may be the one that is missing.
    if refused and (kind is None or not _needed([kind]) <= {*found, *named}):
        raise refused[0]
    why = "".join(f". {reason}" for reason in left_out.values())
    if not found:
        *most, last = ORIGINAL_KINDS
        raise ValueError(
            f"{original}: no checkpoint found; expected one of these kinds: {', '.join(most)} or {last}{why}"
        )
    if kind is not None and kind not in found:
        raise ValueError(
            f"{original}: no {kind} checkpoint found, only {' and '.join(found)}; pass another file or kind{why}"
        )
    return found, left_out


def _needed(kinds: Iterable[str]) -> set[str]:
    return {each for kind in kinds for each in (kind, *STANDS_ON.get(kind, ()))}


def _read_named(path: Path, kind: str) -> OriginalFile:
    """Read a file that the caller passes as one kind."""
    file = read_file(path)
    if file.kind != kind:
        raise ValueError(
            f"{path}: passed as {kind}, but contains {file.kind or file.contents}; pass a {kind} checkpoint"
        )
    return file


def _one_of_each(
    found: Mapping[str, list[OriginalFile]],
    named: Mapping[str, OriginalFile],
    needed: set[str],
    left_out: dict[Path, str],
) -> dict[str, OriginalFile]:
    """Pick one file per kind: the one named by the caller, the only one, or the only one whose frames fit the others.

    Args:
        found, named: Files by kind.
        needed: Kinds that are needed.
        left_out: Files that are not picked are added here, with the reason.
    """
    several = {kind: found[kind] for kind in ORIGINAL_KINDS if kind in needed and kind in found and kind not in named}
    files = {**named, **{kind: each[0] for kind, each in several.items() if len(each) == 1}}
    frames = {file.motion_dim for file in files.values()} - {None}
    for kind, candidates in several.items():
        fitting = [file for file in candidates if {file.motion_dim} == frames]
        if kind not in files and len(fitting) == 1:
            files[kind] = fitting[0]
        elif kind not in files:
            shown = (
                f"{each.path} ({each.motion_dim} numbers per frame)" if each.motion_dim else str(each.path)
                for each in candidates
            )
            raise ValueError(
                f"{' and '.join(shown)} are all {kind} checkpoints; pass the right one instead of the folder, or "
                "choose  a LaMP or motion tokenizer with lamp and motion_vqvae (--lamp FILE, --motion-vqvae FILE)"
            )
    for kind, file in files.items():
        for other in found.get(kind, []):
            if other.path.resolve() != file.path.resolve():
                left_out[other.path] = f"{other.path} is left out: {file.path} is used as {kind}"
    return files


def _plan(found: Container[str], kind: str | None) -> dict[str, str]:
    """Map each subfolder to the kind to write there; `.` is the output folder itself."""
    if kind is not None:
        return {".": kind}
    main = next((each for each in MAIN_KINDS if each in found), None)
    others = [each for each in ORIGINAL_KINDS if each in found and each not in MAIN_KINDS]
    if main is None and len(others) == 1:
        return {".": others[0]}
    return ({} if main is None else {".": main}) | {each: each for each in others}


# ---- folder out -------------------------------------------------------------------------------------------


def _check_output(original: Path, output: Path, overwrite: bool) -> None:
    source, target = original.resolve(), output.resolve()
    if target == source or target in source.parents:
        raise ValueError(f"{output}: contains the original checkpoints; choose another output folder")
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"{output}: is a file; choose a folder")
    found = sorted(output.iterdir())
    if found and not overwrite:
        raise FileExistsError(f"{output}: is not empty; choose another folder, or set overwrite=True (--overwrite)")
    folders = [output, *(path for path in output.rglob("*") if path.is_dir())]
    others = [
        path.relative_to(output).as_posix()
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _written_into(folder)
    ]
    if others:
        raise FileExistsError(
            f"{output}: contains files that no conversion wrote: {', '.join(others[:5])}; move them, or choose another "
            "folder"
        )


def _written_into(folder: Path) -> set[str]:
    """Return the names of the files that an earlier conversion wrote into a folder."""
    try:
        facts = json.loads((folder / CONVERSION_FILE).read_text(encoding="utf-8"))
        return {*facts["files"], CONVERSION_FILE, CARD}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _check_cards(output: Path, places: Iterable[str]) -> None:
    """Raise an error if a user-edited card is in a folder that would be removed and not written again."""
    written = {output / place for place in places}
    for card in sorted(output.rglob(CARD)):
        if card.parent not in written and user_edited(card.read_text(encoding="utf-8")):
            raise FileExistsError(
                f"{card}: was edited by hand and would be lost; use another folder, or convert everything this one "
                "contains"
            )


# ---- one model --------------------------------------------------------------------------------------------


class _Converter:
    """Converts files to models, one at a time.

    Args:
        files: Files by kind.
        statistics: Files of mean and standard deviation from the caller, by the kinds that use them.
        glove: Folder or file of the GloVe vectors of an evaluator, if there are any.
        text_tokenizer, language_model_tokenizer, license, settings: As for [`convert`].
    """

    def __init__(
        self,
        files: dict[str, OriginalFile],
        statistics: Mapping[str, tuple[Path, Path]],
        glove: Path | None,
        text_tokenizer: str,
        language_model_tokenizer: str | None,
        license: str | None,
        settings: Settings,
    ):
        self.files = files
        self.statistics = statistics
        self.glove = glove
        self.text_tokenizer = text_tokenizer
        self.language_model_tokenizer = language_model_tokenizer
        self.license = license
        self.settings = settings

    def check_settings(self, kinds: Iterable[str]) -> None:
        """Check that all settings are known, and report all missing ones at once.

        Raises:
            ValueError: If a setting is missing, or a file does not fit.
        """
        settings = Settings(self.settings.given, missing={})
        lamp, tokenizer = self.files.get("lamp"), self.files.get("motion-vqvae")
        for kind in kinds:
            file = self.files[kind]
            if kind == "motion-vqvae":
                vqvae_config(file, settings)
            elif kind == "lamp":
                lamp_config(file, settings, tokenizer)
            elif lamp is not None and kind == "text-to-motion":
                text_to_motion_config(file, lamp, settings, tokenizer)
            elif lamp is not None and kind == "captioning":
                captioning_config(_with_one_language_model(file), lamp, settings, 0, tokenizer)
        settings.require()

    def write(self, kind: str, folder: Path, name: str) -> ConvertedModel:
        """Write a model, its processor and its card; `name` is the final path of the folder."""
        settings = Settings(self.settings.given)
        prepare = {
            "motion-vqvae": self._vqvae,
            "lamp": self._lamp,
            "text-to-motion": self._text_to_motion,
            "captioning": self._captioning,
            "evaluator": self._evaluator,
            "length-estimator": self._length_estimator,
        }[kind]
        prepared = prepare(self.files[kind], settings)
        statistics = None
        if kind != "length-estimator":
            extractor, statistics = self._feature_extractor(kind, prepared)
            if prepared.tokenizer is None:
                extractor.save_pretrained(folder)
            else:
                processor = LampProcessor(extractor, prepared.tokenizer, text_padding=prepared.text_padding)
                processor.save_pretrained(folder)
        prepared.model.save_pretrained(folder)
        model = ConvertedModel(
            kind=kind,
            folder=folder,
            sources=prepared.sources,
            parameters=_numbers(prepared.model),
            tensors_used=prepared.used,
            tensors_unused=sum(len(file.tensors) for file in prepared.sources) - prepared.used,
            settings=settings.used,
            statistics=statistics,
            glove=() if prepared.glove is None else prepared.glove.files,
        )
        _write_facts(model, {} if prepared.glove is None else prepared.glove.digests)
        earlier = Path(name, CARD)
        if earlier.is_file():  # it may be user-edited
            shutil.copy(earlier, folder)
        write_run_card(CheckpointFolder.read(folder), name=name, license=self.license)
        return model

    def _feature_extractor(self, kind: str, prepared: _Prepared) -> tuple[LampFeatureExtractor, tuple[Path, Path]]:
        skeleton = skeleton_for_feature_dim(_motion_dim(prepared.model.config))
        # LaMP and the models built on it take motions normalized as for their tokenizer.
        near = [self.files[each] for each in ("motion-vqvae",) if each in self.files and kind != "evaluator"]
        paths = self.statistics.get(kind) or find_statistics([*near, *prepared.sources])
        if paths is None:
            raise FileNotFoundError(
                f"{prepared.sources[0].path}: no mean.npy and std.npy next to this checkpoint (neither in meta/ nor in "
                "its folder); pass mean and std (--mean FILE, --std FILE)"
            )
        mean, std = (read_statistic(path, skeleton) for path in paths)
        if float(std.min()) <= 0:
            raise ValueError(f"{paths[1]}: some standard deviations are not positive; pass another file (--std FILE)")
        extractor = LampFeatureExtractor(
            feature_size=skeleton.feature_dim,
            fps=skeleton.default_fps,
            skeleton=skeleton.name,
            mean=mean.tolist(),
            std=std.tolist(),
        )
        return extractor, paths

    def _needed_lamp(self, file: OriginalFile) -> OriginalFile:
        if "lamp" not in self.files:
            raise FileNotFoundError(
                f"{file.path}: a {file.kind} checkpoint lacks parts of the LaMP that it was trained on; add that LaMP "
                "to  the same folder, or pass it as lamp (--lamp FILE)"
            )
        return self.files["lamp"]

    def _vqvae(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = vqvae_config(file, settings)
        used = _check_layout(file, config)
        return _Prepared(_build(config, vqvae_state_dict(used), file), [file], len(used))

    def _lamp(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = lamp_config(file, settings, self.files.get("motion-vqvae"))
        used = _check_lamp(file, config)
        tokenizer = load_text_tokenizer(self.text_tokenizer, config)
        return _Prepared(_build(config, lamp_state_dict(used), file), [file], len(used), tokenizer)

    def _text_to_motion(self, file: OriginalFile, settings: Settings) -> _Prepared:
        lamp = self._needed_lamp(file)
        config = text_to_motion_config(file, lamp, settings, self.files.get("motion-vqvae"))
        lamp_tensors = _check_lamp(lamp, config.lamp_config)
        used = _check_layout(file, config)
        tokenizer = load_text_tokenizer(self.text_tokenizer, config.lamp_config)
        repeated = {name: tensor for name, tensor in used.items() if name.startswith(LAMP_PARTS["text-to-motion"])}
        sources, count = [file, lamp], len(used) + sum(name not in repeated for name in lamp_tensors)
        _warn_of_differences(file, lamp, {name: (tensor, lamp_tensors[name]) for name, tensor in repeated.items()})
        if "motion-vqvae" in self.files:
            # The released code decodes with the tokenizer's own file.
            vqvae = self.files["motion-vqvae"]
            own = {f"vq_model.{n}": t for n, t in _check_layout(vqvae, config.motion_vqvae_config).items()}
            _warn_of_differences(vqvae, lamp, {name: (tensor, lamp_tensors[name]) for name, tensor in own.items()})
            lamp_tensors |= own
            sources.append(vqvae)
        else:
            logger.warning(
                "No motion tokenizer file found: the copy in %s is used for decoding. The released code decodes with "
                "the tokenizer's own file; pass it with --motion-vqvae FILE.",
                lamp.path,
            )
        model = _build(config, text_to_motion_state_dict(used, lamp_tensors), file)
        guidance = GUIDANCE[config.motion_vqvae_config.motion_dim]
        model.generation_config = MaskedMotionGenerationConfig(guidance_scale=guidance)
        # The condition depends on how far a text is padded (T4).
        return _Prepared(model, sources, count, tokenizer, text_padding="max_length")

    def _captioning(self, file: OriginalFile, settings: Settings) -> _Prepared:
        lamp = self._needed_lamp(file)
        file = _with_one_language_model(file)
        config = captioning_config(file, lamp, settings, 0, self.files.get("motion-vqvae"))
        tokenizer, config.eos_token_id = load_language_model_tokenizer(
            self.language_model_tokenizer,
            file.path,
            config.language_model_config.hidden_size,
            config.language_model_config.vocab_size,
        )
        lamp_tensors = _check_lamp(lamp, config.lamp_config)
        used = _check_layout(file, config)
        tokenizer.model_max_length = config.max_text_length
        count = len(used) + sum(name not in used for name in lamp_tensors)
        model = _build(config, captioning_state_dict(used, lamp_tensors), file)
        return _Prepared(model, [self.files["captioning"], lamp], count, tokenizer)

    def _evaluator(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = evaluator_config(file, settings)
        used = _check_layout(file, config)
        tensors = evaluator_state_dict(used)
        if self.glove is None:
            logger.warning(
                "%s: no GloVe vectors found, so the evaluator cannot read texts, which R-Precision and MM-Dist need; "
                "pass them as glove (--glove FOLDER)",
                file.path,
            )
            return _Prepared(_build(config, tensors, file), [file], len(used))
        glove = read_glove(self.glove, config.word_embedding_size)
        tokenizer = glove_tokenizer(
            glove.words, settings.get("evaluator.max_text_length", file), config.num_pos_tags, file.path
        )
        config.num_word_vectors = len(glove.words)
        model = _build(config, tensors | {"word_vectors.weight": glove.vectors}, file)
        return _Prepared(model, [file], len(used), tokenizer, glove=glove)

    def _length_estimator(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = length_estimator_config(file)
        used = _check_layout(file, config)
        tensors = length_estimator_state_dict(used)
        tensors = {f"length_estimator.{name}": tensor for name, tensor in tensors.items()}
        return _Prepared(_build(config, tensors, file), [file], len(used))


def _write_facts(model: ConvertedModel, glove: Mapping[str, str]) -> None:
    """Write the facts about the conversion that the card lists next to the weights."""
    facts = {
        "kind": model.kind,
        "sources": [{"file": source.path.name, "sha256": source.sha256} for source in model.sources],
        "tensors_used": model.tensors_used,
        "tensors_unused": model.tensors_unused,
        "settings": {name: {"value": value, "from": where} for name, (value, where) in model.settings.items()},
        "statistics": None if model.statistics is None else [path.name for path in model.statistics],
        **({"glove": [{"file": name, "sha256": sha256} for name, sha256 in glove.items()]} if glove else {}),
        "files": sorted(path.name for path in model.folder.iterdir() if path.is_file()),
    }
    (model.folder / CONVERSION_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _motion_dim(config: PreTrainedConfig) -> int:
    """Return the number of features per frame that a model takes or generates."""
    if hasattr(config, "motion_dim"):
        return int(config.motion_dim)
    inner = getattr(config, "lamp_config", config)
    return int(inner.motion_vqvae_config.motion_dim)


def _numbers(model: PreTrainedModel) -> int:
    """Count the values in a model's state; tied tensors count once."""
    return sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())


# ---- checks -----------------------------------------------------------------------------------------------


def _check_layout(file: OriginalFile, config: AnyConfig) -> Tensors:
    """Check all tensors of a file, and return those that are used.

    Raises:
        ValueError: If tensors are missing, unknown or of the wrong shape, contain values that are not finite, or are
            two different tensors where the released code has one.
    """
    assert file.kind is not None
    expected = layout_of(config)
    unused = UNUSED[file.kind]
    known = {name: tensor for name, tensor in file.tensors.items() if not unused.fullmatch(name)}
    missing = [name for name in expected if name not in known]
    unknown = [name for name in known if name not in expected]
    wrong = [
        f"{name} {tuple(known[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in known and tuple(known[name].shape) != shape
    ]
    problems = [
        f"{problem} ({len(names)}): {_listed(names)}"
        for problem, names in (("missing tensors", missing), ("wrong shapes", wrong), ("unknown tensors", unknown))
        if names
    ]
    if problems:
        raise ValueError(
            f"{file.path}: not an original {file.kind} checkpoint; {'; '.join(problems)}. Pass a checkpoint of the "
            "released code"
        )
    if broken := [name for name, tensor in known.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(
            f"{file.path}: contains NaN or infinity in {_listed(broken)}, so the file is damaged or its training "
            "failed;  pass another file"
        )
    for first, second in TIES.get(file.kind, ()):
        if not _same(known[first], known[second]):
            raise ValueError(
                f"{file.path}: {first} and {second} differ, but are one tensor in the released code; pass an original "
                "file"
            )
    return known


def _check_lamp(file: OriginalFile, config: Any) -> Tensors:
    tensors = _check_layout(file, config)
    if not float(tensors["temp"]) > 0:
        raise ValueError(
            f"{file.path}: temp is {float(tensors['temp']):g}, expected a number above 0 (L3); pass another file"
        )
    return tensors


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.data_ptr() == second.data_ptr() or torch.equal(first, second)


def _listed(names: list[str], shown: int = SHOWN) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _warn_of_differences(
    file: OriginalFile, lamp: OriginalFile, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    different = [name for name, (own, other) in pairs.items() if not _same(own, other)]
    if different:
        logger.warning(
            "%s and %s differ in %s. The model contains the tensors of the former, as in the released code. For "
            "retrieval, and for captioning with LaMP alone, convert %s separately (--kind lamp).",
            *(file.path, lamp.path, _listed(different, 3), lamp.path),
        )


def _with_one_language_model(file: OriginalFile) -> OriginalFile:
    """Return a captioner's file with one copy of its language model, named as in [`split_language_models`].

    Raises:
        ValueError: If the two copies in the file differ.
    """
    rest, first, second = split_language_models(file.tensors)
    if first and second:
        differ = [name for name in {**first, **second} if name not in first or name not in second]
        differ += [name for name in first if name in second and not _same(first[name], second[name])]
        if differ:
            raise ValueError(
                f"{file.path}: the two copies of the language model (opt_model. and llm.) differ in {_listed(differ)}; "
                "pass an original file"
            )
    return replace(file, tensors=rest | (first or second))


def _build(config: AnyConfig, tensors: Tensors, file: OriginalFile) -> Any:
    """Build the model in float32, with exactly these tensors."""
    assert file.kind is not None
    model_class: Any = MODELS[file.kind]
    with torch.device("meta"):
        model = model_class(config)
    stored = {n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in tensors.items()}
    loaded = model.load_state_dict(stored, strict=False, assign=True)
    model.tie_weights()
    missing = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if missing or loaded.unexpected_keys:
        raise ValueError(
            f"{file.path}: does not fit {model_class.__name__}; missing tensors: {_listed(missing) or 'none'}, unknown "
            f"tensors: {_listed(loaded.unexpected_keys) or 'none'}"
        )
    return model.eval()

"""The authors' checkpoints as folders that `from_pretrained` and the pipelines load.

A folder of theirs with everything in it becomes one checkpoint: text to motion with LaMP and the motion tokenizer
inside, each stored once, and the captioner, the evaluator and the length estimator in sub-folders of their own.
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
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.modeling_lamp import LampModel
from lamp_hf.modeling.modeling_lamp_captioning import LampForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimatorModel
from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
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
from .files import EVALUATOR_PARTS, OriginalFile, Tensors, find_files, find_statistics, read_file
from .layout import KINDS, UNUSED, AnyConfig, layout_of
from .state_dicts import (
    captioning_state_dict,
    evaluator_state_dict,
    lamp_state_dict,
    length_estimator_state_dict,
    text_to_motion_state_dict,
    vqvae_state_dict,
)
from .tokenizers import load_language_model_tokenizer, load_text_tokenizer

__all__ = ["Conversion", "ConvertedModel", "convert"]

logger = logging.getLogger(__name__)

# Of a folder with several kinds the first of these is the checkpoint, and holds those after it.
MAIN_KINDS = ("text-to-motion", "lamp", "motion-vqvae")
# Kinds whose files others are made of, or that tell what theirs do not; of these there must be no two.
STANDS_ON = {
    "lamp": ("motion-vqvae",),
    "text-to-motion": ("lamp", "motion-vqvae"),
    "captioning": ("lamp", "motion-vqvae"),
}
# Scale of guidance in the authors' commands for HumanML3D and for KIT-ML.
GUIDANCE = {263: 4.0, 251: 2.0}
SHOWN = 20
QFORMER = ("Qformer.", "query_tokens")
BERT_TIE = ("Qformer.bert.embeddings.word_embeddings.weight", "Qformer.cls.predictions.decoder.weight")
OPT_TIE = ("opt_model.model.decoder.embed_tokens.weight", "opt_model.lm_head.weight")

# Called before every step with what it does, the number of steps done, and of all that are known.
OnStep = Callable[[str, int, int], None]


@dataclass
class ConvertedModel:
    """One model that a conversion wrote.

    Args:
        kind: One of `KINDS`.
        folder: Where it is.
        sources: Files that its tensors are from.
        parameters: Numbers in it, each counted once.
        tensors_used: Tensors of the sources that are in it.
        tensors_unused: The others, which take no part, or which it has from another source.
        settings: What the tensors do not tell: value, and whether it was given, in opt.txt, or as published.
        statistics: Files of mean and standard deviation; `None` for a length estimator, which sees no motion.
    """

    kind: str
    folder: Path
    sources: list[OriginalFile]
    parameters: int
    tensors_used: int
    tensors_unused: int
    settings: dict[str, tuple[int, str]]
    statistics: tuple[Path, Path] | None


@dataclass
class Conversion:
    """What [`convert`] did.

    Args:
        output: The folder it wrote.
        models: What is in it, the checkpoint itself first.
        left_out: Files of `original` that have no part in it, though nothing else was asked for.
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


def convert(
    original: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    kind: str | None = None,
    lamp: str | os.PathLike[str] | None = None,
    motion_vqvae: str | os.PathLike[str] | None = None,
    mean: str | os.PathLike[str] | None = None,
    std: str | os.PathLike[str] | None = None,
    text_tokenizer: str = "google-bert/bert-base-uncased",
    language_model_tokenizer: str | None = None,
    license: str | None = None,
    settings: Mapping[str, int] | None = None,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Conversion:
    """Convert checkpoints of the released LaMP code, and of the evaluator and length estimator that it uses.

    Every tensor is accounted for, sizes come from the tensors, weights are stored in float32 as safetensors, and the
    configuration has the values with which the outputs are those of the released code. No code in the files is run.

    Args:
        original: A checkpoint (.tar, .pt, .pth), or a folder with one of each kind that is needed, also in
            sub-folders. Of several the one for the frames of the other files is taken: beside a motion tokenizer of
            263 numbers per frame `h3d-qformer.tar` and not `kit-qformer.tar`.
        output: Folder to write. It appears when everything is done, or not at all.
        kind: Write only this one: `"motion-vqvae"`, `"lamp"`, `"text-to-motion"`, `"captioning"`, `"evaluator"` or
            `"length-estimator"`. By default all that are found: text to motion with LaMP and the tokenizer in it, or
            what there is of them, as the checkpoint itself; the others in sub-folders of their names.
        lamp: The LaMP that a text-to-motion model or a captioner was trained on, if it is not in `original`, or if
            several are.
        motion_vqvae: The motion tokenizer's file, likewise.
        mean, std: Statistics (`.npy`) with which the motions were normalized; by default those that lie beside the
            checkpoints as their authors put them (`meta/mean.npy`). Those of the tokenizer's training are not those
            of the data set: some channels are divided by 5 there. So an evaluator that is converted with others
            keeps those beside it.
        text_tokenizer: Folder or Hub id of BERT's tokenizer, to which `[DEC]` is added where it is missing.
        language_model_tokenizer: Folder or Hub id of the tokenizer of a captioner's language model; by default
            `facebook/opt-2.7b` where its size is that model's.
        license: Of the weights, for the card. It is never guessed: `other` without it, with a warning.
        settings: What tensors do not tell, in place of opt.txt's and of the published values, as in
            `{"lamp.num_attention_heads": 12}`; `lamp_hf.conversion.configs.SETTINGS` has all names.
        overwrite: Replace an earlier conversion in `output`.
        on_step: Called before every step.

    Returns:
        What was written, from what.

    Raises:
        FileNotFoundError: A file, the statistics or a tokenizer is missing.
        FileExistsError: `output` is not empty, or holds what no conversion wrote.
        ValueError: A file is not what it says, damaged, or holds code; tensors are missing, unknown or of the wrong
            shape; a folder has two files of a kind that is needed.
    """
    original, output = Path(original), Path(output)
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(KINDS)}")
    if (mean is None) != (std is None):
        raise ValueError("mean and std go together: give both files or none")
    chosen = Settings(settings or {})
    _check_output(original, output, overwrite)
    paths = {"lamp": lamp, "motion-vqvae": motion_vqvae}
    named = {each: _read_named(Path(path), each) for each, path in paths.items() if path is not None}

    steps = _Steps(on_step)
    found, left_out = _read_all(original, kind, named, steps)
    places = _plan(found, kind)
    _check_words(output, places)
    files = _one_of_each(found, named, _needed(places.values()), left_out)
    if (alone := _without_statistics(files, places, given=mean is not None)) is not None:
        left_out[files["evaluator"].path] = alone
        places = {place: each for place, each in places.items() if each != "evaluator"}
    for reason in left_out.values():
        logger.warning("%s", reason)
    result = Conversion(output, left_out=list(left_out))
    statistics = {}
    if mean is not None and std is not None:
        # Beside others the evaluator has statistics of its own.
        kinds = [each for each in places.values() if each != "evaluator" or len(places) == 1]
        statistics = {each: (Path(mean), Path(std)) for each in kinds}
    converter = _Converter(files, statistics, text_tokenizer, language_model_tokenizer, license, chosen)
    converter.check_settings(places.values())
    with atomic_folder(output) as partial:
        steps.total += len(places)
        for place, each in places.items():
            steps.next(f"Converting {each}")
            model = converter.write(each, partial / place, str(output / place))
            result.models.append(replace(model, folder=output / place))
    return result


def _without_statistics(files: Mapping[str, OriginalFile], places: Mapping[str, str], *, given: bool) -> str | None:
    """Why an evaluator beside other models has to be left out, if it has to.

    Statistics that the caller gave are those of the others, and not those with which an evaluator was trained.
    """
    if not given or len(places) == 1 or "evaluator" not in places.values() or find_statistics([files["evaluator"]]):
        return None
    return (
        f"{files['evaluator'].path} is left out: there is no mean.npy and std.npy of its own beside it, and those "
        "given are the other models'. Convert it alone with those that it was trained with (--kind evaluator --mean "
        "FILE --std FILE)."
    )


class _Steps:
    """Counts steps and tells the caller of them."""

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
    """Files by kind, and why the others are left out."""
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
            left_out[path] = f"{path} is not a checkpoint of a known kind and is left out. It holds {file.stranger}."
        else:
            found.setdefault(file.kind, []).append(file)
    # A file that cannot be read may be any that is lacking.
    if refused and (kind is None or not _needed([kind]) <= {*found, *named}):
        raise refused[0]
    why = "".join(f". {reason}" for reason in left_out.values())
    if not found:
        raise ValueError(f"{original}: nothing in it is a checkpoint of {', '.join(KINDS[:-1])} or {KINDS[-1]}{why}")
    if kind is not None and kind not in found:
        raise ValueError(f"{original} holds a {' and a '.join(found)} checkpoint, no {kind}{why}")
    return found, left_out


def _needed(kinds: Iterable[str]) -> set[str]:
    return {each for kind in kinds for each in (kind, *STANDS_ON.get(kind, ()))}


def _read_named(path: Path, kind: str) -> OriginalFile:
    """A file that the caller says is of a kind."""
    file = read_file(path)
    if file.kind != kind:
        raise ValueError(f"{path} is given as {kind} and holds {file.kind or file.stranger}")
    return file


def _one_of_each(
    found: Mapping[str, list[OriginalFile]],
    named: Mapping[str, OriginalFile],
    needed: set[str],
    left_out: dict[Path, str],
) -> dict[str, OriginalFile]:
    """Of each kind that is needed the named file, the only one, or the only one for the frames of the others.

    Args:
        found, named: By kind.
        needed: Kinds.
        left_out: Gets what has to give way to another file.
    """
    several = {kind: found[kind] for kind in KINDS if kind in needed and kind in found and kind not in named}
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
                f"{' and '.join(shown)} are all {kind} checkpoints: give the one that you mean in place of the folder, "
                "and the LaMP and the motion tokenizer of others as lamp and motion_vqvae (--lamp, --motion-vqvae FILE)"
            )
    for kind, file in files.items():
        for other in found.get(kind, []):
            if other.path.resolve() != file.path.resolve():
                left_out[other.path] = f"{other.path} is left out: {file.path} is taken as {kind}."
    return files


def _plan(found: Container[str], kind: str | None) -> dict[str, str]:
    """Which kind is written to which sub-folder, `.` being the output itself."""
    if kind is not None:
        return {".": kind}
    main = next((each for each in MAIN_KINDS if each in found), None)
    others = [each for each in KINDS if each in found and each not in MAIN_KINDS]
    if main is None and len(others) == 1:
        return {".": others[0]}
    return ({} if main is None else {".": main}) | {each: each for each in others}


# ---- folder out -------------------------------------------------------------------------------------------


def _check_output(original: Path, output: Path, overwrite: bool) -> None:
    source, target = original.resolve(), output.resolve()
    if target == source or target in source.parents:
        raise ValueError(f"{output} holds the original checkpoints: write to another folder")
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"{output} is a file: write to a folder")
    found = sorted(output.iterdir())
    if found and not overwrite:
        raise FileExistsError(
            f"{output} is not empty: choose another folder, or replace it with overwrite (--overwrite)"
        )
    folders = [output, *(path for path in output.rglob("*") if path.is_dir())]
    strangers = [
        path.relative_to(output).as_posix()
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in _written_into(folder)
    ]
    if strangers:
        raise FileExistsError(
            f"{output} holds {', '.join(strangers[:5])}, which no conversion wrote: it is not replaced"
        )


def _written_into(folder: Path) -> set[str]:
    """Names of the files that an earlier conversion wrote into a folder."""
    try:
        facts = json.loads((folder / CONVERSION_FILE).read_text(encoding="utf-8"))
        return {*facts["files"], CONVERSION_FILE, CARD}
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _check_words(output: Path, places: Iterable[str]) -> None:
    """Refuse to replace folders that are not written again, where a person has written in the card."""
    written = {output / place for place in places}
    for card in sorted(output.rglob(CARD)):
        if card.parent not in written and user_edited(card.read_text(encoding="utf-8")):
            raise FileExistsError(
                f"somebody has changed {card}, and this conversion does not write that folder again: convert to "
                "another folder, or everything that is in this one"
            )


# ---- one model --------------------------------------------------------------------------------------------


class _Converter:
    """Turns the files that were read into models, one after the other.

    Args:
        files: By kind.
        statistics: Mean and standard deviation that the caller gave, by the kinds that they are for.
        text_tokenizer, language_model_tokenizer, license, settings: As for [`convert`].
    """

    def __init__(
        self,
        files: dict[str, OriginalFile],
        statistics: Mapping[str, tuple[Path, Path]],
        text_tokenizer: str,
        language_model_tokenizer: str | None,
        license: str | None,
        settings: Settings,
    ):
        self.files = files
        self.statistics = statistics
        self.text_tokenizer = text_tokenizer
        self.language_model_tokenizer = language_model_tokenizer
        self.license = license
        self.settings = settings

    def check_settings(self, kinds: Iterable[str]) -> None:
        """Ask for everything at once that the tensors do not tell.

        Raises:
            ValueError: Something is missing, or a file does not fit.
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
        """Write a model with all that belongs to it; `name` is the folder that this one becomes."""
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
        )
        _write_facts(model)
        earlier = Path(name, CARD)
        if earlier.is_file():  # a person may have written in it
            shutil.copy(earlier, folder)
        write_run_card(CheckpointFolder.read(folder), name=name, license=self.license)
        return model

    def _feature_extractor(self, kind: str, prepared: _Prepared) -> tuple[LampFeatureExtractor, tuple[Path, Path]]:
        skeleton = skeleton_for_feature_dim(_motion_dim(prepared.model.config))
        # LaMP and what stands on it see motions as their tokenizer does.
        near = [self.files[each] for each in ("motion-vqvae",) if each in self.files and kind != "evaluator"]
        paths = self.statistics.get(kind) or find_statistics([*near, *prepared.sources])
        if paths is None:
            raise FileNotFoundError(
                f"{prepared.sources[0].path}: no mean.npy and std.npy beside this checkpoint (looked in meta/ and in "
                "its own folder): give them as mean and std (--mean, --std)"
            )
        mean, std = (read_statistic(path, skeleton) for path in paths)
        if float(std.min()) <= 0:
            raise ValueError(f"{paths[1]}: holds deviations that are not positive")
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
                f"{file.path} is a {file.kind} checkpoint and lacks parts of the LaMP that it was trained on: give "
                "that too, in the same folder or as lamp (--lamp FILE)"
            )
        return self.files["lamp"]

    def _vqvae(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = vqvae_config(file, settings)
        used = _check_layout(file, config)
        tensors = vqvae_state_dict(used, num_downsampling_layers=config.num_downsampling_layers)
        return _Prepared(_build(MotionVQVAEModel, config, tensors, file), [file], len(used))

    def _lamp(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = lamp_config(file, settings, self.files.get("motion-vqvae"))
        used = _check_lamp(file, config)
        tokenizer = load_text_tokenizer(self.text_tokenizer, config)
        stages = config.motion_vqvae_config.num_downsampling_layers
        tensors = lamp_state_dict(used, num_downsampling_layers=stages)
        return _Prepared(_build(LampModel, config, tensors, file), [file], len(used), tokenizer)

    def _text_to_motion(self, file: OriginalFile, settings: Settings) -> _Prepared:
        lamp = self._needed_lamp(file)
        config = text_to_motion_config(file, lamp, settings, self.files.get("motion-vqvae"))
        lamp_tensors = _check_lamp(lamp, config.lamp_config)
        used = _check_layout(file, config)
        _check_tie(file, used, BERT_TIE)
        tokenizer = load_text_tokenizer(self.text_tokenizer, config.lamp_config)
        sources, count = [file, lamp], len(used) + sum(not name.startswith(QFORMER) for name in lamp_tensors)
        _warn_of_differences(file, lamp, {n: (t, lamp_tensors[n]) for n, t in used.items() if n.startswith(QFORMER)})
        if "motion-vqvae" in self.files:
            # The released code decodes with the tokenizer's own file.
            vqvae = self.files["motion-vqvae"]
            own = {f"vq_model.{n}": t for n, t in _check_layout(vqvae, config.motion_vqvae_config).items()}
            _warn_of_differences(vqvae, lamp, {name: (tensor, lamp_tensors[name]) for name, tensor in own.items()})
            lamp_tensors |= own
            sources.append(vqvae)
        else:
            logger.warning(
                "There is no file of the motion tokenizer: the copy in %s decodes. The released code decodes with the "
                "tokenizer's own (--motion-vqvae FILE).",
                lamp.path,
            )
        stages = config.motion_vqvae_config.num_downsampling_layers
        tensors = text_to_motion_state_dict(used, lamp_tensors, num_downsampling_layers=stages)
        model = _build(LampForTextToMotion, config, tensors, file)
        guidance = GUIDANCE[config.motion_vqvae_config.motion_dim]
        model.generation_config = MaskedMotionGenerationConfig(guidance_scale=guidance)
        # The condition depends on how far a text is padded (T4).
        return _Prepared(model, sources, count, tokenizer, text_padding="max_length")

    def _captioning(self, file: OriginalFile, settings: Settings) -> _Prepared:
        lamp = self._needed_lamp(file)
        file = _with_one_language_model(file)
        width = file.tensors.get("opt_model.model.decoder.embed_positions.weight", torch.empty(0)).shape[-1]
        rows = len(file.tensors.get("opt_model.model.decoder.embed_tokens.weight", ()))
        tokenizer, eos_token_id = load_language_model_tokenizer(self.language_model_tokenizer, file.path, width, rows)
        config = captioning_config(file, lamp, settings, eos_token_id, self.files.get("motion-vqvae"))
        lamp_tensors = _check_lamp(lamp, config.lamp_config)
        used = _check_layout(file, config)
        _check_tie(file, used, BERT_TIE)
        _check_tie(file, used, OPT_TIE)
        tokenizer.model_max_length = config.max_text_length
        count = len(used) + sum(name not in used for name in lamp_tensors)
        stages = config.lamp_config.motion_vqvae_config.num_downsampling_layers
        tensors = captioning_state_dict(used, lamp_tensors, num_downsampling_layers=stages)
        model = _build(LampForMotionCaptioning, config, tensors, file)
        return _Prepared(model, [self.files["captioning"], lamp], count, tokenizer)

    def _evaluator(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = evaluator_config(file)
        used = _check_layout(file, config)
        parts: dict[str, Tensors] = {part: {} for part in EVALUATOR_PARTS}
        for name, tensor in used.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        model = _build(MotionTextEvaluatorModel, config, evaluator_state_dict(parts), file)
        return _Prepared(model, [file], len(used))

    def _length_estimator(self, file: OriginalFile, settings: Settings) -> _Prepared:
        config = length_estimator_config(file)
        used = _check_layout(file, config)
        tensors = length_estimator_state_dict(used)
        tensors = {f"length_estimator.{name}": tensor for name, tensor in tensors.items()}
        return _Prepared(_build(MotionLengthEstimatorModel, config, tensors, file), [file], len(used))


def _write_facts(model: ConvertedModel) -> None:
    """Leave beside the weights what the card says of the conversion."""
    facts = {
        "kind": model.kind,
        "sources": [{"file": source.path.name, "sha256": source.sha256} for source in model.sources],
        "tensors_used": model.tensors_used,
        "tensors_unused": model.tensors_unused,
        "settings": {name: {"value": value, "from": where} for name, (value, where) in model.settings.items()},
        "statistics": None if model.statistics is None else [path.name for path in model.statistics],
        "files": sorted(path.name for path in model.folder.iterdir() if path.is_file()),
    }
    (model.folder / CONVERSION_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _motion_dim(config: PreTrainedConfig) -> int:
    """Numbers per frame that a model reads or makes."""
    if hasattr(config, "motion_dim"):
        return int(config.motion_dim)
    inner = getattr(config, "lamp_config", config)
    return int(inner.motion_vqvae_config.motion_dim)


def _numbers(model: PreTrainedModel) -> int:
    """Numbers in a model's state, tied ones once."""
    return sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())


# ---- checks -----------------------------------------------------------------------------------------------


def _check_layout(file: OriginalFile, config: AnyConfig) -> Tensors:
    """The tensors of a file that are used, after all have been accounted for.

    Raises:
        ValueError: Tensors are missing, of another shape, or not known, or hold numbers that are not finite.
    """
    assert file.kind is not None
    expected = layout_of(config)
    unused = UNUSED[file.kind]
    known = {name: tensor for name, tensor in file.tensors.items() if not unused.fullmatch(name)}
    missing = [name for name in expected if name not in known]
    strangers = [name for name in known if name not in expected]
    wrong = [
        f"{name} {tuple(known[name].shape)}, expected {shape}"
        for name, shape in expected.items()
        if name in known and tuple(known[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("tensors are missing", missing),
            ("have the wrong shape", wrong),
            ("do not belong there", strangers),
        )
        if names
    ]
    if problems:
        raise ValueError(f"{file.path} is no {file.kind} checkpoint as the released code has it. {'; '.join(problems)}")
    if broken := [name for name, tensor in known.items() if not torch.isfinite(tensor.float()).all()]:
        raise ValueError(
            f"{file.path} is damaged, or its training failed: {len(broken)} tensors hold numbers that are not finite "
            f"(NaN or infinity): {_listed(broken)}"
        )
    return known


def _check_lamp(file: OriginalFile, config: Any) -> Tensors:
    tensors = _check_layout(file, config)
    _check_tie(file, tensors, BERT_TIE)
    if not float(tensors["temp"]) > 0:
        raise ValueError(f"{file.path}: temp is {float(tensors['temp']):g}, expected a number above 0 (L3)")
    return tensors


def _check_tie(file: OriginalFile, tensors: Tensors, names: tuple[str, str]) -> None:
    """Two names of one tensor in the released code: our model stores it once."""
    if not _same(tensors[names[0]], tensors[names[1]]):
        raise ValueError(f"{file.path}: {names[0]} and {names[1]} differ; in the released code they are one tensor")


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.data_ptr() == second.data_ptr() or torch.equal(first, second)


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _warn_of_differences(
    file: OriginalFile, lamp: OriginalFile, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
) -> None:
    different = [name for name, (own, other) in pairs.items() if not _same(own, other)]
    if different:
        logger.warning(
            "%d tensors in %s are not those of %s (%s): the model has the first, as in the released code. For "
            "retrieval and captioning by LaMP itself, convert %s alone (--kind lamp).",
            *(len(different), file.path, lamp.path, _listed(different[:3]), lamp.path),
        )


def _with_one_language_model(file: OriginalFile) -> OriginalFile:
    """A captioner's file with its language model once, under `opt_model.` and the names of recent versions of peft.

    The released code has it under two names; old versions of peft call an adapted layer by the layer's own name.
    """
    copies: dict[str, Tensors] = {"opt_model.": {}, "llm.base_model.model.": {}}
    rest: Tensors = {}
    for name, tensor in file.tensors.items():
        prefix = next((prefix for prefix in copies if name.startswith(prefix)), None)
        if prefix is None:
            rest[name] = tensor
            continue
        layer, _, last = name.removeprefix(prefix).rpartition(".")
        if f"{prefix}{layer}.lora_A.default.weight" in file.tensors:
            layer = f"{layer}.base_layer"
        copies[prefix][f"opt_model.{layer}.{last}"] = tensor
    first, second = copies.values()
    if first and second:
        differ = [name for name in {**first, **second} if name not in first or name not in second]
        differ += [name for name in first if name in second and not _same(first[name], second[name])]
        if differ:
            raise ValueError(
                f"{file.path}: the two copies of the language model (opt_model. and llm.) differ: {_listed(differ)}"
            )
    return replace(file, tensors=rest | (first or second))


def _build(model_class: Any, config: Any, tensors: Tensors, file: OriginalFile) -> Any:
    """The model, in float32 and with exactly these tensors."""
    with torch.device("meta"):
        model = model_class(config)
    stored = {n: (t.float() if t.is_floating_point() else t).contiguous() for n, t in tensors.items()}
    loaded = model.load_state_dict(stored, strict=False, assign=True)
    model.tie_weights()
    wanting = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if wanting or loaded.unexpected_keys:
        raise ValueError(
            f"{file.path} does not fit a {model_class.__name__}: nothing for {_listed(wanting) or 'no tensor'}, no "
            f"place for {_listed(loaded.unexpected_keys) or 'no tensor'}"
        )
    return model.eval()

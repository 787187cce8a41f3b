"""Cards: the README of a checkpoint, of which lamp_hf writes one marked part and leaves a person's text alone."""

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lamp_hf.checkpoints.embedded import portable_name, resolve_checkpoint
from lamp_hf.files import atomic_path

__all__ = [
    "CARD_ITSELF",
    "CONVERSION_FILE",
    "KINDS",
    "MODEL_INDEX",
    "CardError",
    "Licence",
    "Origin",
    "Source",
    "bases_of",
    "checkpoint_card",
    "data_of",
    "find_licence",
    "handwritten",
    "header_of",
    "local_card",
    "looks_like_hub_id",
    "merged_card",
    "persons_header",
    "records_of",
    "sample_in",
    "split_card",
    "touched",
    "warn_of_licence",
    "with_entries",
    "write_run_card",
]

logger = logging.getLogger(__name__)

BEGIN = (
    "<!-- Written by lamp_hf from here to the mark at the end, and anew at every push. Your text stands outside. -->"
)
END = "<!-- End of what lamp_hf writes. -->"
# What of the header is lamp_hf's and not a person's, and which bases it tells of: to be taken back by the next card.
NOTE, NOTE_END = "<!-- Of lamp_hf in the header: ", " -->"
MODEL_INDEX = "model-index"
LICENCE_ENTRIES = ("license", "license_name", "license_link")
LISTS = ("tags", "datasets", "base_model")  # a person's entries join lamp_hf's
CONVERSION_FILE = "conversion.json"
CARD_ITSELF = "this card"
ASKED = "asked for"

TO_MOTION = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

pipe = pipeline("text-to-motion", model="{name}")
motion = pipe("a person waves", {length}seed=1)["motion"]
motion.save("wave.bvh")  # or .glb .gif .mp4 .html .npz .npy
"""
CAPTIONS = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

describe = pipeline("motion-captioning", model="{name}")
describe("walk.bvh")  # [{{"caption": …, "score": …}}]
"""
RETRIEVAL = """
import lamp_hf  # makes the task known to transformers
from transformers import pipeline

search = pipeline("motion-retrieval", model="{name}", index="my_mocap")  # a folder of BVH, NPY and NPZ files
search("someone waves", top_k=5)  # [{{"id", "file", "score", "captions"}}, …]
"""
TOKENS = """
import lamp_hf
from transformers import AutoFeatureExtractor, AutoModel

tokenizer = AutoModel.from_pretrained("{name}")
extractor = AutoFeatureExtractor.from_pretrained("{name}")
motion = lamp_hf.Motion.load("walk.bvh").resample(extractor.fps)
codes = tokenizer.encode(**extractor(motion, return_tensors="pt")).codes
"""
FEATURES = """
import lamp_hf.metrics
from transformers import AutoModel, {prepares}

evaluator, processor = AutoModel.from_pretrained("{name}"), {prepares}.from_pretrained("{name}")
fid = lamp_hf.metrics.load("motion_fid", evaluator=evaluator, processor=processor)
"""
LENGTHS = """
import lamp_hf
from transformers import AutoModel

estimator = AutoModel.from_pretrained("{name}")
num_frames = estimator(text_features).num_frames  # of features of texts, see below
"""
MODEL = """
from transformers import AutoModel

model = AutoModel.from_pretrained("{name}")
"""
LANGUAGE_MODEL = """
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("{name}"), AutoTokenizer.from_pretrained("{name}")
"""


@dataclass(frozen=True)
class Kind:
    """What a card says of all models of a type.

    Args:
        does: What it does, the end of "This model …".
        task: Pipeline that loads it.
        usage: Code, with `{name}` for the checkpoint, `{length}` where a motion is asked for, and `{prepares}` for the
            class that prepares what an evaluator reads.
        tags: Beside those of all cards.
        library: That loads it.
    """

    does: str
    task: str | None
    usage: str
    tags: tuple[str, ...] = ()
    library: str = "lamp_hf"


KINDS = {
    "lamp_text_to_motion": Kind(
        "makes human motion from sentences, and captions and finds motion too",
        "text-to-motion",
        TO_MOTION,
        ("text-to-motion", "motion-captioning", "motion-retrieval"),
    ),
    "lamp": Kind(
        "puts human motion and language into one space: it finds and captions motion",
        "motion-retrieval",
        RETRIEVAL,
        ("motion-retrieval", "motion-captioning"),
    ),
    "lamp_captioning": Kind("lets a language model caption motion", "motion-captioning", CAPTIONS),
    "motion_vqvae": Kind("turns human motion into tokens and back", None, TOKENS, ("motion-tokenizer",)),
    "motion_text_evaluator": Kind(
        "has the features that generated motion is measured with", None, FEATURES, ("motion-text-evaluator",)
    ),
    "motion_length_estimator": Kind("tells how long a motion is, from features of its text", None, LENGTHS),
    "opt": Kind(
        "is a language model that learned captions of motion", "text-generation", LANGUAGE_MODEL, (), "transformers"
    ),
}
OTHER = Kind("belongs to motion and language", None, MODEL, (), "transformers")
# What users of a converted model must know.
REMARKS = {
    "text-to-motion": (
        "It has no length estimator, for the released one reads features of CLIP: ask for every motion with its "
        "`duration` or `num_frames`."
    ),
    "captioning": (
        'The released code begins captions with "a man is" and searches with 5 beams; here nothing is begun for you, '
        "and `num_beams=5` asks for the same search."
    ),
    "evaluator": (
        "Texts go in as GloVe word vectors and part-of-speech tags (`word_embeddings`, `pos_one_hots`), which lamp_hf "
        "does not make: FID, Diversity and MultiModality need none, R-Precision and MM-Dist the `get_text_features` of "
        "yours. Features come in the order of the input."
    ),
    "length-estimator": (
        "Texts go in as the {input_size} numbers of CLIP ViT-B/32's text encoder. The released code draws a length and "
        "may draw 0; here it is the median, from 1 token of 4 frames."
    ),
}


# ---- where it comes from ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A model or a data set that a model was made from.

    Args:
        name: Hub id, folder, or name of an embedded checkpoint.
        card: Its card, if there is one to be read.
        is_data: Whether it is a data set.
    """

    name: str
    card: str | None
    is_data: bool = False

    @property
    def header(self) -> dict[str, Any]:
        return header_of(self.card, f"the card of {self.name}")


@dataclass(frozen=True)
class Licence:
    """Header entries of a license, and where it comes from; without a source nobody has named one."""

    entries: Mapping[str, str]
    source: str | None

    @property
    def named(self) -> bool:
        """Whether these entries name a license; a bare `other` is what a card says that has none."""
        return self.entries.get("license", "other") != "other" or "license_name" in self.entries

    @property
    def is_persons(self) -> bool:
        """Whether it is a person's word, and not what lamp_hf concluded."""
        return self.source in (CARD_ITSELF, ASKED)

    @property
    def name(self) -> str:
        return self.entries.get("license_name", self.entries.get("license", "nothing"))

    @classmethod
    def of_header(cls, header: Mapping[str, Any], source: str) -> "Licence":
        return cls({key: str(header[key]) for key in LICENCE_ENTRIES if header.get(key)}, source)


@dataclass(frozen=True)
class Origin:
    """What the card of the same weights says of where they come from: for when their sources cannot be asked.

    Args:
        bases: Names of the checkpoints that they were made from.
        licence: What lamp_hf concluded from those.
        words: What their cards say of licenses.
    """

    bases: Sequence[str]
    licence: Licence
    words: str

    @classmethod
    def told_by(cls, card: str | None) -> "Origin":
        note = _note(card)
        bases = note.get("bases", [])
        found = Licence.of_header(note.get("header", {}), bases[0] if bases else "")
        return cls(bases, found if found.named and bases else NO_LICENCE, _words_carried(card))


NO_LICENCE = Licence({"license": "other"}, None)


def find_licence(asked: str | None, headers: Sequence[tuple[str, Mapping[str, Any]]]) -> Licence:
    """The license asked for, else that of the first header that names one, else `other`; never one made up.

    Args:
        asked: As the Hub spells it, `cc-by-nc-4.0`.
        headers: Names and headers of cards: what a person has written into the one that is there, those of the models
            that this one is made from. Of the latter each must name one, and all the same: otherwise nobody but a
            person can tell.
    """
    if asked:
        return Licence({"license": asked}, ASKED)
    found = [Licence.of_header(header, source) for source, header in headers]
    bases = [licence for licence in found if licence.source != CARD_ITSELF]
    for candidates in ([licence for licence in found if licence.source == CARD_ITSELF], bases):
        if candidates and all(each.named and each.entries == candidates[0].entries for each in candidates):
            return candidates[0]
    return NO_LICENCE


def warn_of_licence(licence: Licence, name: str, sources: Sequence[Source] = ()) -> None:
    """Say of a card's license that nobody has named it, or what was made from something under another one."""
    if licence.source is None:
        logger.warning(
            "No license was given for %s, so its card says `other`: what it was made from names "
            "none that holds for all of it. State one when you push (`--license cc-by-nc-4.0`); that of the training "
            "data may demand one",
            name,
        )
    for source in sources:
        theirs = Licence.of_header(source.header, source.name)
        if theirs.named and theirs.entries != licence.entries:
            logger.warning(
                "The card of %s says %s, but %s, from which it was made, is under %s: make sure that this lets you "
                "publish it so",
                name,
                licence.name,
                source.name,
                theirs.name,
            )


def _words_on(source: Source, licence: Licence) -> list[str]:
    """What is to be said of a source's license in the card of what was made from it, paragraph by paragraph."""
    theirs = Licence.of_header(source.header, source.name)
    words = []
    if theirs.named and licence.source != source.name:
        words.append(f"{_shown(source.name)}, from which it was made, is under {theirs.name}.")
    if carried := _words_carried(source.card):
        words.append(carried)
    section = _section_on_licence("\n".join(_parts(source.card)[::2]))
    if section:
        quoted = "\n".join(f"> {line}".rstrip() for line in section.splitlines())
        words.append(f"From the card of {_shown(source.name)}:\n\n{quoted}")
    return words


def _words_carried(card: str | None) -> str:
    """What lamp_hf's part of a card says of the licenses of others, below the license of its own."""
    return _section_on_licence(_parts(card)[1]).partition("\n\n")[2]


def _section_on_licence(text: str) -> str:
    """The first section whose heading speaks of a license, without the heading."""
    level, lines = 0, []
    for line in text.splitlines():
        heading = re.match("(#+) ", line)
        if level and heading and len(heading[1]) <= level:
            break
        if level:
            lines.append(line)
        elif heading and re.search("licen[cs]", line, re.IGNORECASE):
            level = len(heading[1])
    return "\n".join(lines).strip()


# ---- whose words ------------------------------------------------------------------------------------------


class CardError(ValueError):
    """A card whose header cannot be read."""


def header_of(card: str | None, name: str = "README.md") -> dict[str, Any]:
    """The YAML header of a card, empty if it has none.

    Raises:
        CardError: It is no YAML; `name` says whose.
    """
    try:
        header = yaml.safe_load(split_card(card)[0]) if card else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 2}" if mark else ""  # the first line is the ---
        problem = getattr(error, "problem", None) or error
        raise CardError(f"{name}{line}: the header is not valid YAML ({problem}); correct it there") from error
    if header is not None and not isinstance(header, dict):
        raise CardError(
            f"{name} line 2: expected a header of `key: value`, found {str(header)[:40]!r}; correct it there"
        )
    return header or {}


def split_card(card: str) -> tuple[str, str]:
    """Header and text."""
    lines = card.splitlines(keepends=True)
    if lines and lines[0].strip() == "---":
        for number, line in enumerate(lines[1:], start=1):
            if line.strip() == "---":
                return "".join(lines[1:number]), "".join(lines[number + 1 :])
    return "", card


def with_entries(card: str, entries: Mapping[str, Any]) -> str:
    """A card with entries in its header, in place of those of these names."""
    merged = yaml.safe_dump({**header_of(card), **entries}, sort_keys=False, allow_unicode=True)
    return f"---\n{merged}---\n{split_card(card)[1]}"


def merged_card(
    existing: str | None,
    header: Mapping[str, Any],
    text: str,
    licence: Licence | None = None,
    bases: Sequence[str] = (),
) -> str | None:
    """A card with what lamp_hf has to say and what a person has written.

    Args:
        existing: The card that is there.
        header: Entries that are written anew, in place of those that lamp_hf wrote before; an empty one leaves. A
            person's stay, and join lamp_hf's where an entry is a list.
        text: Markdown that goes between the marks.
        licence: It takes the place of the earlier one with all that belongs to it.
        bases: Names that are noted for the next card of the same weights.

    Returns:
        The card, or `None`: a person has written the one that is there, and it stays.
    """
    if handwritten(existing):
        return None
    before, marked, after = _parts(existing)
    if not marked:
        before, after = "\n", "\n"
    ours = {key: value for key, value in header.items() if key != MODEL_INDEX}
    if licence is not None:
        header = {**licence.entries, **header}
        ours |= {} if licence.is_persons else licence.entries
    persons = persons_header(existing)
    if "license" in header:
        persons = {key: value for key, value in persons.items() if key not in LICENCE_ENTRIES}
    merged = {**persons, **header}
    for key in LISTS:
        if key in persons and key in header:
            merged[key] = list(dict.fromkeys([*_listed(header[key]), *_listed(persons[key])]))
    order = [key for key in dict.fromkeys([*header_of(existing), *merged]) if key != MODEL_INDEX]
    order.append(MODEL_INDEX)  # it is long
    merged = {key: merged[key] for key in order if merged.get(key, []) != []}
    note = json.dumps({"header": ours, "bases": [_public(base) for base in bases]}, default=str, ensure_ascii=False)
    yaml_header = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    part = f"{BEGIN}\n{NOTE}{note.replace('-->', '')}{NOTE_END}\n\n{text.strip()}\n\n{END}"
    return f"---\n{yaml_header}---\n{before}{part}{after}"


def persons_header(card: str | None, name: str = "README.md") -> dict[str, Any]:
    """The entries of a header that are not lamp_hf's own, by its note."""
    ours = _note(card).get("header", {})
    persons: dict[str, Any] = {}
    for key, value in header_of(card, name).items():
        if key in LISTS and key in ours:
            rest = [each for each in _listed(value) if each not in _listed(ours[key])]
            persons |= {key: rest} if rest else {}
        elif key not in ours or ours[key] != value:
            persons[key] = value
    return persons


def handwritten(card: str | None) -> bool:
    """Whether a card is a person's as a whole: nothing of lamp_hf's is marked in it."""
    return touched(card) and not _parts(card)[1]


def touched(card: str | None) -> bool:
    """Whether a person has written in a card: there is text outside lamp_hf's, or beside transformers' own."""
    before, _, after = _parts(card)
    text = (before + after).strip()
    return bool(text) and not _is_transformers_own(text)


def _parts(card: str | None) -> tuple[str, str, str]:
    """Text before lamp_hf's marks, between them, and after them; without marks all is before them."""
    text = split_card(card or "")[1]
    if BEGIN not in text or END not in text:
        return text, "", ""
    before, rest = text.split(BEGIN, 1)
    marked, after = rest.split(END, 1)
    return before, marked, after


def _note(card: str | None) -> dict[str, Any]:
    """What lamp_hf has noted in its part of a card."""
    _, _, rest = _parts(card)[1].partition(NOTE)
    note, end, _ = rest.partition(NOTE_END)
    try:
        return dict(json.loads(note)) if end else {}
    except (ValueError, TypeError):  # somebody has written there: nothing is known to be lamp_hf's
        return {}


def _listed(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _is_transformers_own(text: str) -> bool:
    """Whether it is, letter by letter, what `push_to_hub` of transformers leaves in a new repository."""
    from huggingface_hub import ModelCard, ModelCardData

    first = next((line for line in text.splitlines() if "has been automatically generated" in line), None)
    if first is None or "🤗 transformers model" not in first:
        return False
    return str(ModelCard.from_template(ModelCardData(), model_description=first.strip()).text).strip() == text


# ---- what there is to say ---------------------------------------------------------------------------------


def checkpoint_card(
    folder: Path,
    name: str,
    config: Mapping[str, Any],
    *,
    existing: str | None,
    licence: Licence,
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
        licence: See [`find_licence`].
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
    words = [word for source in sources for word in _words_on(source, licence)]
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
        "\n\n".join([_licence_section(licence), *dict.fromkeys(words)]),
    ]
    return merged_card(existing, header, "\n\n".join(part for part in parts if part), licence, bases)


def write_run_card(folder: Path, *, name: str | None = None, sample: str = "", license: str | None = None) -> None:
    """Give a finished run, or a converted model, its card, offline; one that a person wrote stays.

    Args:
        folder: Of the run.
        name: By which the card loads it, by default the folder.
        sample: Markdown that shows what the model makes.
        license: As in [`find_licence`].
    """
    path = folder / "README.md"
    existing = path.read_text(encoding="utf-8") if path.is_file() else None
    name = name or str(folder)
    config = _json(folder / "config.json")
    sources = [Source(base, local_card(base)) for base in bases_of(config, folder)]
    sources += [Source(data, local_card(data), is_data=True) for data in data_of(folder)]
    headers = [(CARD_ITSELF, persons_header(existing, str(path)))]
    headers += [(source.name, source.header) for source in sources if not source.is_data]
    licence = find_licence(license, headers)
    card = checkpoint_card(folder, name, config, existing=existing, licence=licence, sources=sources, sample=sample)
    if card is not None:
        warn_of_licence(licence, name, sources)
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


def looks_like_hub_id(name: str) -> bool:
    """Whether a name is of the form owner/name, and no folder here."""
    return len(Path(name).parts) == 2 and not name.startswith((".", "/", "~")) and not Path(name).exists()


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
    from .describe import describe_checkpoint, named_parts

    facts = describe_checkpoint(str(folder)) | named_parts(config)
    hidden = ("checkpoint", "license", "data")
    rows = [(name.strip(), value) for name, value in facts.items() if name not in hidden]
    return "## Model\n\n" + _table(("", ""), rows)


def _training_section(recipe: Mapping[str, Any], history: Mapping[str, Any], bases: Sequence[str]) -> str:
    if not recipe:
        return f"## Training\n\nMade from {', '.join(map(_shown, bases))}." if bases else ""
    trainer, metrics = recipe.get("trainer", {}), history.get("metrics", {})
    rows: list[tuple[str, Any]] = [
        ("stage", recipe["stage"]),
        ("data", _shown(recipe.get("data", {}).get("name") or "")),
    ]
    if bases:
        rows.append(("from", ", ".join(map(_shown, bases))))
    if recipe.get("text_encoder"):
        rows.append(("text encoder", _shown(recipe["text_encoder"])))
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


def records_of(folder: Path) -> list[Any]:
    """The evaluation records in a checkpoint's `evaluations/`."""
    from lamp_hf.evaluation.records import EvaluationRecord

    return [EvaluationRecord.load(path) for path in sorted(folder.glob("evaluations/*.json"))]


def _licence_section(licence: Licence) -> str:
    if licence.source is None:
        return "## License\n\nNot stated: ask whoever published this before you use it."
    origin = "" if licence.is_persons else f", as that of {_shown(licence.source)}"
    return f"## License\n\n{licence.name}{origin}."


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def sample_in(card: str | None, file: str) -> str:
    """The Markdown with which lamp_hf shows a sample in a card, empty if it shows none."""
    found = re.search(rf"^!\[.*\]\({re.escape(file)}\)\n\n.*$", _parts(card)[1], re.MULTILINE)
    return found[0] if found else ""


def _shown(name: str) -> str:
    return f"`{_public(name)}`"


def _public(name: str) -> str:
    """A name, without the folders of this machine."""
    return name if looks_like_hub_id(name) else Path(name).name


def _json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values


def _yaml(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return values or {}

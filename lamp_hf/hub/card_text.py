"""The text of a card: its header, the part that lamp_hf writes, and what a person has written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "CARD_ITSELF",
    "MODEL_INDEX",
    "CardError",
    "License",
    "handwritten",
    "header_of",
    "looks_like_hub_id",
    "merged_card",
    "persons_header",
    "split_card",
    "touched",
    "with_entries",
]

BEGIN = (
    "<!-- Written by lamp_hf from here to the mark at the end, and anew at every push. Your text stands outside. -->"
)
END = "<!-- End of what lamp_hf writes. -->"
# What of the header is lamp_hf's and not a person's, and which bases it tells of: to be taken back by the next card.
NOTE, NOTE_END = "<!-- Of lamp_hf in the header: ", " -->"
MODEL_INDEX = "model-index"
LICENSE_ENTRIES = ("license", "license_name", "license_link")
LISTS = ("tags", "datasets", "base_model")  # a person's entries join lamp_hf's
CARD_ITSELF = "this card"
ASKED = "asked for"


@dataclass(frozen=True)
class License:
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
    def of_header(cls, header: Mapping[str, Any], source: str) -> "License":
        return cls({key: str(header[key]) for key in LICENSE_ENTRIES if header.get(key)}, source)


NO_LICENSE = License({"license": "other"}, None)


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
    card_license: License | None = None,
    bases: Sequence[str] = (),
) -> str | None:
    """A card with what lamp_hf has to say and what a person has written.

    Args:
        existing: The card that is there.
        header: Entries that are written anew, in place of those that lamp_hf wrote before; an empty one leaves. A
            person's stay, and join lamp_hf's where an entry is a list.
        text: Markdown that goes between the marks.
        license: It takes the place of the earlier one with all that belongs to it.
        bases: Names that are noted for the next card of the same weights.

    Returns:
        The card, or `None`: a person has written the one that is there, and it stays.
    """
    if handwritten(existing):
        return None
    before, marked, after = card_parts(existing)
    if not marked:
        before, after = "\n", "\n"
    ours = {key: value for key, value in header.items() if key != MODEL_INDEX}
    if card_license is not None:
        header = {**card_license.entries, **header}
        ours |= {} if card_license.is_persons else card_license.entries
    persons = persons_header(existing)
    if "license" in header:
        persons = {key: value for key, value in persons.items() if key not in LICENSE_ENTRIES}
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
    ours = note_in(card).get("header", {})
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
    return touched(card) and not card_parts(card)[1]


def touched(card: str | None) -> bool:
    """Whether a person has written in a card: there is text outside lamp_hf's, or beside transformers' own."""
    before, _, after = card_parts(card)
    text = (before + after).strip()
    return bool(text) and not _is_transformers_own(text)


def card_parts(card: str | None) -> tuple[str, str, str]:
    """Text before lamp_hf's marks, between them, and after them; without marks all is before them."""
    text = split_card(card or "")[1]
    if BEGIN not in text or END not in text:
        return text, "", ""
    before, rest = text.split(BEGIN, 1)
    marked, after = rest.split(END, 1)
    return before, marked, after


def note_in(card: str | None) -> dict[str, Any]:
    """What lamp_hf has noted in its part of a card."""
    _, _, rest = card_parts(card)[1].partition(NOTE)
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


def looks_like_hub_id(name: str) -> bool:
    """Whether a name is of the form owner/name, and no folder here."""
    return len(Path(name).parts) == 2 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def shown_name(name: str) -> str:
    return f"`{_public(name)}`"


def _public(name: str) -> str:
    """A name, without the folders of this machine."""
    return name if looks_like_hub_id(name) else Path(name).name


def card_to_keep(there: str | None, ours: str | None) -> str | None:
    """Of the repository's card and the one that comes along, that in which a person has written."""
    return there if there is not None and (touched(there) or not touched(ours)) else ours

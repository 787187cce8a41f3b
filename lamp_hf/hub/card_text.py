"""The text of a card: its header, the part that lamp_hf writes, and the text of its user."""

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
    "header_of",
    "looks_like_hub_id",
    "merged_card",
    "split_card",
    "user_edited",
    "user_header",
    "user_written",
    "with_entries",
]

BEGIN = (
    "<!-- Written by lamp_hf. Every push rewrites the text from here to the end mark; write your own text outside. -->"
)
END = "<!-- End of the text written by lamp_hf. -->"
# The header entries that lamp_hf wrote and the bases that they name, so that the next card can replace them.
NOTE, NOTE_END = "<!-- Header entries written by lamp_hf: ", " -->"
MODEL_INDEX = "model-index"
LICENSE_ENTRIES = ("license", "license_name", "license_link")
LISTS = ("tags", "datasets", "base_model")  # the user's entries are added to lamp_hf's
CARD_ITSELF = "this card"
ASKED = "asked for"


@dataclass(frozen=True)
class License:
    """A license and where it comes from.

    Args:
        entries: Its header entries: `license`, `license_name` and `license_link`.
        source: Name of the card that states it, or `ASKED` if the user passed it; `None` if nobody stated one.
    """

    entries: Mapping[str, str]
    source: str | None

    @property
    def named(self) -> bool:
        """Whether the entries name a license; `other` without a name does not."""
        return self.entries.get("license", "other") != "other" or "license_name" in self.entries

    @property
    def from_user(self) -> bool:
        """Whether the user stated it, rather than lamp_hf inherited it."""
        return self.source in (CARD_ITSELF, ASKED)

    @property
    def name(self) -> str:
        """The name to show."""
        return self.entries.get("license_name", self.entries.get("license", "nothing"))

    @classmethod
    def of_header(cls, header: Mapping[str, Any], source: str) -> "License":
        """Return the license that a card's header states.

        Args:
            header: The header.
            source: Name of the card.
        """
        return cls({key: str(header[key]) for key in LICENSE_ENTRIES if header.get(key)}, source)


NO_LICENSE = License({"license": "other"}, None)


class CardError(ValueError):
    """A card whose header cannot be read."""


def header_of(card: str | None, name: str = "README.md") -> dict[str, Any]:
    """Return the YAML header of a card, empty if it has none.

    Args:
        card: The card, if there is one.
        name: What the error calls it.

    Raises:
        CardError: The header is not valid YAML, or not a mapping.
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
    """Return the header and the text of a card."""
    lines = card.splitlines(keepends=True)
    if lines and lines[0].strip() == "---":
        for number, line in enumerate(lines[1:], start=1):
            if line.strip() == "---":
                return "".join(lines[1:number]), "".join(lines[number + 1 :])
    return "", card


def with_entries(card: str, entries: Mapping[str, Any]) -> str:
    """Return a card with header entries added or replaced."""
    merged = yaml.safe_dump({**header_of(card), **entries}, sort_keys=False, allow_unicode=True)
    return f"---\n{merged}---\n{split_card(card)[1]}"


def merged_card(
    existing: str | None,
    header: Mapping[str, Any],
    text: str,
    card_license: License | None = None,
    bases: Sequence[str] = (),
) -> str | None:
    """Replace the part of a card that lamp_hf writes, and keep the user's part.

    Args:
        existing: The existing card.
        header: Header entries of lamp_hf, which replace those that it wrote before; an empty entry is removed. The
            user's entries are kept, and added to lamp_hf's if an entry is a list.
        text: Markdown that goes between the marks.
        card_license: License that replaces the earlier one and all its entries.
        bases: Names of base models to note for the next card of the same weights.

    Returns:
        The card, or `None` if the existing card is user-written and must be kept.
    """
    if user_written(existing):
        return None
    before, marked, after = card_parts(existing)
    if not marked:
        before, after = "\n", "\n"
    ours = {key: value for key, value in header.items() if key != MODEL_INDEX}
    if card_license is not None:
        header = {**card_license.entries, **header}
        ours |= {} if card_license.from_user else card_license.entries
    theirs = user_header(existing)
    if "license" in header:
        theirs = {key: value for key, value in theirs.items() if key not in LICENSE_ENTRIES}
    merged = {**theirs, **header}
    for key in LISTS:
        if key in theirs and key in header:
            merged[key] = list(dict.fromkeys([*_listed(header[key]), *_listed(theirs[key])]))
    order = [key for key in dict.fromkeys([*header_of(existing), *merged]) if key != MODEL_INDEX]
    order.append(MODEL_INDEX)  # it is long
    merged = {key: merged[key] for key in order if merged.get(key, []) != []}
    note = json.dumps({"header": ours, "bases": [_public(base) for base in bases]}, default=str, ensure_ascii=False)
    yaml_header = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    part = f"{BEGIN}\n{NOTE}{note.replace('-->', '')}{NOTE_END}\n\n{text.strip()}\n\n{END}"
    return f"---\n{yaml_header}---\n{before}{part}{after}"


def user_header(card: str | None, name: str = "README.md") -> dict[str, Any]:
    """Return the header entries that the user wrote: all that the note in the card does not list."""
    ours = note_in(card).get("header", {})
    theirs: dict[str, Any] = {}
    for key, value in header_of(card, name).items():
        if key in LISTS and key in ours:
            rest = [each for each in _listed(value) if each not in _listed(ours[key])]
            theirs |= {key: rest} if rest else {}
        elif key not in ours or ours[key] != value:
            theirs[key] = value
    return theirs


def user_written(card: str | None) -> bool:
    """Return whether a card is user-written as a whole: it has text, but no part marked by lamp_hf."""
    return user_edited(card) and not card_parts(card)[1]


def user_edited(card: str | None) -> bool:
    """Return whether a card is user-edited: it has text that neither lamp_hf nor transformers wrote."""
    before, _, after = card_parts(card)
    text = (before + after).strip()
    return bool(text) and not _is_transformers_own(text)


def card_parts(card: str | None) -> tuple[str, str, str]:
    """Return the text before lamp_hf's marks, between them, and after them; without marks, all of it comes first."""
    text = split_card(card or "")[1]
    if BEGIN not in text or END not in text:
        return text, "", ""
    before, rest = text.split(BEGIN, 1)
    marked, after = rest.split(END, 1)
    return before, marked, after


def note_in(card: str | None) -> dict[str, Any]:
    """Return the note in lamp_hf's part of a card: its header entries and the names of the base models."""
    _, _, rest = card_parts(card)[1].partition(NOTE)
    note, end, _ = rest.partition(NOTE_END)
    try:
        return dict(json.loads(note)) if end else {}
    except (ValueError, TypeError):  # a user changed the note, so every entry counts as the user's
        return {}


def _listed(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _is_transformers_own(text: str) -> bool:
    """Return whether this is exactly the text that `push_to_hub` of transformers writes into a new repository."""
    from huggingface_hub import ModelCard, ModelCardData

    first = next((line for line in text.splitlines() if "has been automatically generated" in line), None)
    if first is None or "🤗 transformers model" not in first:
        return False
    return str(ModelCard.from_template(ModelCardData(), model_description=first.strip()).text).strip() == text


def looks_like_hub_id(name: str) -> bool:
    """Return whether a name has the form owner/name and is not a local path."""
    return len(Path(name).parts) == 2 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def code_name(name: str) -> str:
    """Return a name as Markdown code, without local folders."""
    return f"`{_public(name)}`"


def _public(name: str) -> str:
    """Return a name without local folders."""
    return name if looks_like_hub_id(name) else Path(name).name


def card_to_keep(there: str | None, ours: str | None) -> str | None:
    """Return the user-edited card: the repository's, else the local one."""
    return there if there is not None and (user_edited(there) or not user_edited(ours)) else ours

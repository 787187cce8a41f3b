"""Find the license of a card, and quote the licenses of what the model was made from."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamp_hf.hub.card_text import ASKED, CARD_ITSELF, NO_LICENSE, License, card_parts, code_name, header_of, note_in

__all__ = ["LicenseSource", "Origin", "find_license", "warn_of_license"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LicenseSource:
    """A model or a data set that a model was made from.

    Args:
        name: Hub id, folder, or name of an embedded checkpoint.
        card: Its card, if it can be read.
        is_data: Whether it is a data set.
    """

    name: str
    card: str | None
    is_data: bool = False

    @property
    def header(self) -> dict[str, Any]:
        """The header of its card."""
        return header_of(self.card, f"the card of {self.name}")


@dataclass(frozen=True)
class Origin:
    """The origin of weights by an earlier card of the same weights, for sources that can no longer be read.

    Args:
        bases: Names of the checkpoints that the weights were made from.
        card_license: License inherited from those checkpoints.
        words: Markdown that quotes their cards about licenses.
    """

    bases: Sequence[str]
    card_license: License
    words: str

    @classmethod
    def of_card(cls, card: str | None) -> "Origin":
        """Return the origin that the note and the license section of a card state."""
        note = note_in(card)
        bases = note.get("bases", [])
        found = License.of_header(note.get("header", {}), bases[0] if bases else "")
        return cls(bases, found if found.named and bases else NO_LICENSE, _words_carried(card))


def find_license(asked: str | None, headers: Sequence[tuple[str, Mapping[str, Any]]]) -> License:
    """Return the license asked for, else the user's, else the one that all base models share, else `other`.

    Args:
        asked: License as the Hub spells it, such as `cc-by-nc-4.0`.
        headers: Names and headers of cards: the user's entries in the existing card, under the name `CARD_ITSELF`, and
            the headers of the base models. A license is inherited only if all base models state the same one.
    """
    if asked:
        return License({"license": asked}, ASKED)
    found = [License.of_header(header, source) for source, header in headers]
    bases = [each for each in found if each.source != CARD_ITSELF]
    for candidates in ([each for each in found if each.source == CARD_ITSELF], bases):
        if candidates and all(each.named and each.entries == candidates[0].entries for each in candidates):
            return candidates[0]
    return NO_LICENSE


def warn_of_license(card_license: License, name: str, sources: Sequence[LicenseSource] = ()) -> None:
    """Warn if a card states no license, or if it differs from the license of a source.

    Args:
        card_license: The card's license.
        name: Name of the model, the data set or the index.
        sources: What it was made from.
    """
    if card_license.source is None:
        logger.warning(
            "No license was given for %s, so its card says `other`: none could be inherited from the base models. "
            "State one when you push (`--license cc-by-nc-4.0`); the license of the training data may restrict your "
            "choice",
            name,
        )
    for source in sources:
        theirs = License.of_header(source.header, source.name)
        if theirs.named and theirs.entries != card_license.entries:
            logger.warning(
                "The card of %s says %s, but %s, from which it was made, is under %s: check that it permits this",
                name,
                card_license.name,
                source.name,
                theirs.name,
            )


def words_on_license(source: LicenseSource, card_license: License) -> list[str]:
    """Return paragraphs about a source's license, for the card of the model that was made from it."""
    theirs = License.of_header(source.header, source.name)
    words = []
    if theirs.named and card_license.source != source.name:
        words.append(f"{code_name(source.name)}, from which it was made, is under {theirs.name}.")
    if carried := _words_carried(source.card):
        words.append(carried)
    section = _section_on_license("\n".join(card_parts(source.card)[::2]))
    if section:
        quoted = "\n".join(f"> {line}".rstrip() for line in section.splitlines())
        words.append(f"From the card of {code_name(source.name)}:\n\n{quoted}")
    return words


def _words_carried(card: str | None) -> str:
    """Return what lamp_hf's part of a card says about the licenses of sources, below the card's own license."""
    return _section_on_license(card_parts(card)[1]).partition("\n\n")[2]


def _section_on_license(text: str) -> str:
    """Return the first section whose heading mentions a license, without the heading."""
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


def license_of_user_card(header: Mapping[str, Any], asked: str | None, repo_id: str) -> License:
    """Return the license of a user-written card, and log that the card is kept.

    Args:
        header: The card's header.
        asked: The license asked for, if any.
        repo_id: Name of the repository.
    """
    card_license = License.of_header(header, CARD_ITSELF)
    if asked and card_license.entries != {"license": asked}:
        do = f", with its license ({card_license.name}); to change it, write `license: {asked}` into its header"
    else:
        do = "" if card_license.named else "; state the license there"
    logger.warning("%s: its README.md is user-written and is kept%s", repo_id, do)
    return card_license

"""Which license a card names, where it comes from, and what is said of it."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamp_hf.hub.card_text import ASKED, CARD_ITSELF, NO_LICENSE, License, card_parts, header_of, note_in, shown_name

__all__ = ["Origin", "Source", "find_license", "warn_of_license"]

logger = logging.getLogger(__name__)


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
class Origin:
    """What the card of the same weights says of where they come from: for when their sources cannot be asked.

    Args:
        bases: Names of the checkpoints that they were made from.
        license: What lamp_hf concluded from those.
        words: What their cards say of licenses.
    """

    bases: Sequence[str]
    card_license: License
    words: str

    @classmethod
    def told_by(cls, card: str | None) -> "Origin":
        note = note_in(card)
        bases = note.get("bases", [])
        found = License.of_header(note.get("header", {}), bases[0] if bases else "")
        return cls(bases, found if found.named and bases else NO_LICENSE, _words_carried(card))


def find_license(asked: str | None, headers: Sequence[tuple[str, Mapping[str, Any]]]) -> License:
    """The license asked for, else that of the first header that names one, else `other`; never one made up.

    Args:
        asked: As the Hub spells it, `cc-by-nc-4.0`.
        headers: Names and headers of cards: what a person has written into the one that is there, those of the models
            that this one is made from. Of the latter each must name one, and all the same: otherwise nobody but a
            person can tell.
    """
    if asked:
        return License({"license": asked}, ASKED)
    found = [License.of_header(header, source) for source, header in headers]
    bases = [each for each in found if each.source != CARD_ITSELF]
    for candidates in ([each for each in found if each.source == CARD_ITSELF], bases):
        if candidates and all(each.named and each.entries == candidates[0].entries for each in candidates):
            return candidates[0]
    return NO_LICENSE


def warn_of_license(card_license: License, name: str, sources: Sequence[Source] = ()) -> None:
    """Say of a card's license that nobody has named it, or what was made from something under another one."""
    if card_license.source is None:
        logger.warning(
            "No license was given for %s, so its card says `other`: what it was made from names "
            "none that holds for all of it. State one when you push (`--license cc-by-nc-4.0`); that of the training "
            "data may demand one",
            name,
        )
    for source in sources:
        theirs = License.of_header(source.header, source.name)
        if theirs.named and theirs.entries != card_license.entries:
            logger.warning(
                "The card of %s says %s, but %s, from which it was made, is under %s: make sure that this lets you "
                "publish it so",
                name,
                card_license.name,
                source.name,
                theirs.name,
            )


def words_on_license(source: Source, card_license: License) -> list[str]:
    """What is to be said of a source's license in the card of what was made from it, paragraph by paragraph."""
    theirs = License.of_header(source.header, source.name)
    words = []
    if theirs.named and card_license.source != source.name:
        words.append(f"{shown_name(source.name)}, from which it was made, is under {theirs.name}.")
    if carried := _words_carried(source.card):
        words.append(carried)
    section = _section_on_license("\n".join(card_parts(source.card)[::2]))
    if section:
        quoted = "\n".join(f"> {line}".rstrip() for line in section.splitlines())
        words.append(f"From the card of {shown_name(source.name)}:\n\n{quoted}")
    return words


def _words_carried(card: str | None) -> str:
    """What lamp_hf's part of a card says of the licenses of others, below the license of its own."""
    return _section_on_license(card_parts(card)[1]).partition("\n\n")[2]


def _section_on_license(text: str) -> str:
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


def license_of_a_persons_card(header: Mapping[str, Any], asked: str | None, repo_id: str) -> License:
    """The license of a card that a person has written, which stays as it is."""
    card_license = License.of_header(header, CARD_ITSELF)
    if asked and card_license.entries != {"license": asked}:
        do = f", and its license ({card_license.name}) too: write `license: {asked}` into its header"
    else:
        do = "" if card_license.named else ": state the license there"
    logger.warning("A person has written the README.md of %s, and it stays%s", repo_id, do)
    return card_license

"""Name the action of a segment of the CMU database, by the database's descriptions and the captions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from lamp_hf.data.cmu.facts import TakeFacts, packaged_facts, subject_categories

__all__ = ["action_groups", "action_of", "actions_by_segment"]

_SHORT = 2  # the first captions of a segment are short; later ones add details and comparisons
_NAME = re.compile(r"(?P<take>\d+_\d+)@")


@dataclass(frozen=True)
class _Rule:
    """Rule of `actions.yaml`; a pattern is `None` if the rule does not have it."""

    action: str
    take: re.Pattern[str] | None = None
    subject: re.Pattern[str] | None = None
    captions: re.Pattern[str] | None = None
    unless: re.Pattern[str] | None = None

    def fits(self, captions: Sequence[str], facts: TakeFacts) -> bool:
        """Return whether the rule applies to a segment of a take."""
        if self.take is not None and not self.take.search(facts.description):
            return False
        if self.subject is not None and not self.subject.search(subject_categories().get(facts.subject, "")):
            return False
        short = captions[:_SHORT]
        if self.captions is not None:
            trusted = short if self.take is None and self.subject is None else captions
            if not any(self.captions.search(caption) for caption in trusted):
                return False
        return self.unless is None or not any(self.unless.search(caption) for caption in short)


def action_of(captions: Sequence[str], take: str) -> str | None:
    """Return the name of a segment's action, or `None` if no rule of `actions.yaml` applies.

    Args:
        captions: All captions of the segment.
        take: Number of its take, such as "01_01".

    Example:

    ```python
    >>> from lamp_hf.data.cmu.actions import action_of
    >>> action_of(["cartwheel", "a person does a cartwheel to the left"], "49_06")
    'cartwheel'

    ```
    """
    facts = packaged_facts().get(take, TakeFacts(take))
    return next((rule.action for rule in _table()[1] if rule.fits(captions, facts)), None)


def actions_by_segment(ids: Sequence[str], captions: Sequence[Sequence[str]]) -> list[str | None]:
    """Return the action of each row of the dataset `cmu-mocap`, by the ids and captions of the rows.

    A mirrored row has the action of its original because no action names a side.

    Raises:
        ValueError: An id does not belong to a segment of the database.
    """
    found = []
    for name, texts in zip(ids, captions, strict=True):
        match = _NAME.match(name)
        if match is None:
            raise ValueError(f"{name}: expected the id of a segment of the CMU database, such as 01_01@0-7.9s")
        found.append(action_of(texts, match["take"]))
    return found


@cache
def action_groups() -> Mapping[str, str]:
    """Return the group of each action, such as "walk" or "sport", in the order of `actions.yaml`."""
    return {action: group for group, actions in _table()[0].items() for action in actions}


@cache
def _table() -> tuple[dict[str, list[str]], tuple[_Rule, ...]]:
    values = yaml.safe_load(files(__package__).joinpath("actions.yaml").read_text(encoding="utf-8"))
    rules = tuple(
        _Rule(rule.pop("action"), **{key: re.compile(rf"\b(?:{text})", re.IGNORECASE) for key, text in rule.items()})
        for rule in values["rules"]
    )
    return values["groups"], rules

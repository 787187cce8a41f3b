"""Generate captions from labels: sentences for a content ("walk-turn-left") in a style ("elderly").

A grammar is a JSON or YAML file with templates, clauses for each content and words for each style. `captions.yaml` of
this package explains the format, and `wordings.yaml` adds to it. Several grammars can be combined: the templates of
each one are then filled with the clauses and words of all.

Slots of a template:

* content: `{finite}` (walks), `{gerund}` (walking), `{base}` (walk), `{imperative}` (the base form addressed to the
  reader: "raise your hand"), `{noun}`;
* style: `{adj}` before a person, `{look}` after "looks", `{manner}` before a movement, `{adv}`, `{ly}` (adverbs that
  may precede a verb), `{extra}`, `{character}` (a whole subject: "an old man");
* any list of the grammar: `{subj}`, `{who}`, `{way}`.
"""

import hashlib
import itertools
import json
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lamp_hf.motion.text import SIDE, swap_sides

_PACKAGE_GRAMMARS = ("captions.yaml", "wordings.yaml")
_NEUTRAL_STYLE = "normal"  # the only style that a caption need not mention
_SHARE_OF_SINGLE_GRAMMAR = 0.2  # share of captions from one grammar alone, so that training also sees its pure wording

_SLOT = re.compile(r"\{(\w+)\}")
_VERB = re.compile(r"\[(\w+)\]")
_THEIR = re.compile(r"\btheir\b")
_HE = re.compile(r"\b(he|man|guy|boy|grandfather|gentleman|bodybuilder)\b")
_SHE = re.compile(r"\b(she|woman|lady|girl|grandmother)\b")
_ARTICLE = re.compile(r"\ba (?=[aeiou])(?!uni|use|usu|eu|one\b)", re.IGNORECASE)
_SUBJECT_SLOTS = ("subj", "who", "character")
_FILE_KEYS = {
    *(
        "about",
        "slots",
        "subjects",
        "lists",
        "templates",
        "templates_for_normal",
        "contents",
        "styles",
        "synonyms",
    ),
}
_CONTENT_KEYS = {"kind", "side", "clauses", "finite", "gerund", "nouns", "mirror_of"}
_STYLE_SLOTS = {
    "adjectives": "adj",
    "adverbs": "adv",
    "looks": "look",
    "manners": "manner",
    "characters": "character",
    "who": "who",
    "extra_any": "extra_any",
    "extra_locomotion": "extra_locomotion",
    "extra_gesture": "extra_gesture",
}
_LABEL_SLOTS = {
    *("finite", "gerund", "base", "imperative", "noun"),
    *("adj", "adv", "ly", "look", "manner", "extra", "character", "who", "subj"),
}


class CaptionGrammarError(ValueError):
    """Error for a caption grammar that is malformed or does not have a requested label."""


def inflect(clause: str, form: str) -> str:
    """Inflect the verbs in brackets.

    Args:
        clause: A clause such as "[walk] ahead and [turn] left".
        form: "finite" (third person: walks), "gerund" (walking) or "base" (walk).
    """
    forms: dict[str, Callable[[str], str]] = {"finite": _third_person, "gerund": _gerund, "base": str}
    inflected = forms[form]
    return _VERB.sub(lambda match: inflected(match[1]), clause)


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def _gerund(verb: str) -> str:
    if re.search(r"[^eoy]e$", verb):
        return verb[:-1] + "ing"
    # A single vowel between consonants doubles the last letter: running, bidding; but showing, boxing, answering.
    doubles = re.fullmatch(r"(?:qu|[^aeiou])*[aeiou][^aeiouwxy]", verb)
    return verb + verb[-1] + "ing" if doubles else verb + "ing"


class CaptionGrammar:
    """Generates captions for labels; the module describes the format."""

    def __init__(self, sources: Sequence[Mapping[str, Any]]) -> None:
        """Combine grammars.

        Args:
            sources: Contents of the grammars in the file format.

        Raises:
            CaptionGrammarError: A grammar is malformed.
        """
        self.digest = hashlib.sha256(json.dumps(list(sources), sort_keys=True).encode()).hexdigest()
        parts = [_Part.read(source) for source in sources]
        self._whole = _Part.merge(parts)
        self._singles = parts if len(parts) > 1 else []
        for part in self._singles:
            part.sides, part.synonyms = self._whole.sides, self._whole.synonyms

    @classmethod
    def load(cls, *paths: str | os.PathLike[str], include_own: bool = True) -> "CaptionGrammar":
        """Load grammars from files and combine them with the package's own.

        Args:
            paths: JSON or YAML files.
            include_own: Include the grammar of this package.

        Raises:
            FileNotFoundError: A file is missing.
            CaptionGrammarError: A file is malformed.
        """
        sources = []
        if include_own:
            for name in _PACKAGE_GRAMMARS:
                sources.append(
                    yaml.safe_load(files("lamp_hf.data.bandai_namco").joinpath(name).read_text(encoding="utf-8"))
                )
        for path in map(Path, paths):
            text = path.read_text(encoding="utf-8")
            try:
                source = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
                if not isinstance(source, dict):
                    raise CaptionGrammarError(f"expected a mapping, found {type(source).__name__}")
                _Part.read(source)
            except (json.JSONDecodeError, yaml.YAMLError, CaptionGrammarError) as error:
                raise CaptionGrammarError(f"{path}: not a caption grammar: {error}") from error
            sources.append(source)
        return cls(sources)

    @property
    def contents(self) -> list[str]:
        """Contents that the grammar has clauses for."""
        return list(self._whole.contents)

    @property
    def styles(self) -> list[str]:
        """Styles that the grammar has words for."""
        return list(self._whole.styles)

    def check(self, content: str, style: str, *, where: str) -> None:
        """Check that the grammar has the labels.

        Args:
            content: The content label.
            style: The style label.
            where: What has the labels, for the error message.

        Raises:
            CaptionGrammarError: A label is unknown. The message names `where` and the known labels.
        """
        for kind, label, known in (("content", content, self.contents), ("style", style, self.styles)):
            if label not in known:
                raise CaptionGrammarError(
                    f"{where}: the caption grammar has no {kind} {label!r} (it has {', '.join(known)}); "
                    "pass a grammar with it as captions="
                )

    def mirrored_content(self, content: str) -> str:
        """Return the content of the mirror image: "walk-left" for "walk-right"; `content` if it has no counterpart."""
        partner = swap_sides(content)
        return partner if partner in self._whole.contents else content

    def compose(self, content: str, style: str, rng: random.Random, *, mirrored: bool = False) -> str:
        """Generate a random caption.

        Args:
            content: Content label of the dataset row. Rows of mirrored clips have the swapped label.
            style: Style label.
            rng: Random number generator.
            mirrored: Whether the row is a mirrored clip. This matters for contents such as "bye", a wave of the right
                hand, whose label has no counterpart: left and right are swapped in their captions.
        """
        part = self._whole
        if self._singles and rng.random() < _SHARE_OF_SINGLE_GRAMMAR:
            single = rng.choice(self._singles)
            part = single if single.resolve(content, style)[0] else part
        caption = part.compose(content, style, rng)
        return swap_sides(caption) if mirrored and self.mirrored_content(content) == content else caption

    def compose_many(
        self, content: str, style: str, count: int, rng: random.Random, *, mirrored: bool = False
    ) -> list[str]:
        """Generate `count` distinct random captions; fewer if the grammar hardly has more. See [`compose`]."""
        captions: dict[str, None] = {}
        for _ in range(20 * count):
            if len(captions) == count:
                break
            captions[self.compose(content, style, rng, mirrored=mirrored)] = None
        return list(captions)

    def templates(self, content: str, style: str) -> list[str]:
        """Return the templates that have words for all their slots."""
        return self._whole.resolve(content, style)[0]

    def words(self, content: str, style: str) -> dict[str, list[str]]:
        """Return the words that each slot can be filled with."""
        return self._whole.resolve(content, style)[1]

    def all(self, content: str, style: str) -> list[str]:
        """Return all captions of a pair of labels; there are tens of thousands."""
        return list(dict.fromkeys(self._whole.all(content, style)))


@dataclass
class _Part:
    """One grammar, or several combined.

    Attributes:
        templates, neutral_templates: Templates for styles that must be mentioned, and for the neutral style.
        lists: Words of the slots that do not depend on a label.
        contents: Words of the slots of each content.
        kinds: Kind of each content: "locomotion", "gesture" or "whole-body".
        sides: Side of each content whose clauses must all name it.
        styles: Words of the slots of each style.
        synonyms: Groups of styles that share their words, and the contents in which they do not.
    """

    templates: list[str] = field(default_factory=list)
    neutral_templates: list[str] = field(default_factory=list)
    lists: dict[str, list[str]] = field(default_factory=dict)
    contents: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    sides: dict[str, str] = field(default_factory=dict)
    styles: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    synonyms: list[dict[str, list[str]]] = field(default_factory=list)
    _resolved: dict[tuple[str, str], tuple[list[str], dict[str, list[str]]]] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Mapping[str, Any]) -> "_Part":
        """Check and expand the contents of a file."""
        unknown = set(source) - _FILE_KEYS
        if unknown:
            raise CaptionGrammarError(f"unknown key {min(unknown)!r} (known: {', '.join(sorted(_FILE_KEYS))})")
        part = cls(
            templates=_strings(source, "templates"),
            neutral_templates=_strings(source, "templates_for_normal"),
            synonyms=_synonyms(source),
        )
        lists = _mapping(source, "lists")
        part.lists = {name: _strings(lists, name) for name in lists}
        if "subjects" in source:
            part.lists["subj"] = _strings(source, "subjects")
        for template in part.templates + part.neutral_templates:
            if unknown := set(_SLOT.findall(template)) - set(part.lists) - _LABEL_SLOTS:
                raise CaptionGrammarError(f"template {template!r}: unknown slot {{{min(unknown)}}}")
        entries = _mapping(source, "contents")
        for name in entries:
            entry = _mapping(entries, name)
            origin = entry.get("mirror_of")
            if origin is not None and origin not in entries:
                raise CaptionGrammarError(f"content {name!r} mirrors {origin!r}, which does not exist")
            part._add_content(name, entry if origin is None else entries[origin], mirrored=origin is not None)
        styles = _mapping(source, "styles")
        for name in styles:
            entry = _mapping(styles, name)
            if unknown := set(entry) - set(_STYLE_SLOTS):
                raise CaptionGrammarError(f"style {name!r}: unknown key {min(unknown)!r}")
            part.styles[name] = {_STYLE_SLOTS[key]: _strings(entry, key) for key in entry}
        return part

    def _add_content(self, name: str, entry: Mapping[str, Any], *, mirrored: bool) -> None:
        if unknown := set(entry) - _CONTENT_KEYS:
            raise CaptionGrammarError(f"content {name!r}: unknown key {min(unknown)!r}")
        words = {
            form: _strings(entry, form) + [inflect(clause, form) for clause in _strings(entry, "clauses")]
            for form in ("finite", "gerund", "base")
        }
        words["noun"] = _strings(entry, "nouns")
        words["imperative"] = [_THEIR.sub("your", clause) for clause in words["base"]]
        side = entry.get("side")
        if mirrored:
            words = {form: [swap_sides(clause) for clause in clauses] for form, clauses in words.items()}
            side = None if side is None else swap_sides(side)
        if side is not None:
            self.sides[name] = side
        self.contents[name] = words
        self.kinds[name] = entry.get("kind", "")

    @classmethod
    def merge(cls, parts: Sequence["_Part"]) -> "_Part":
        """Combine parts into one."""
        whole = cls()
        for part in parts:
            whole.templates += part.templates
            whole.neutral_templates += part.neutral_templates
            whole.synonyms += part.synonyms
            whole.kinds.update(part.kinds)
            whole.sides.update(part.sides)
            _extend(whole.lists, part.lists)
            for mine, theirs in ((whole.contents, part.contents), (whole.styles, part.styles)):
                for name, words in theirs.items():
                    _extend(mine.setdefault(name, {}), words)
        return whole

    def resolve(self, content: str, style: str) -> tuple[list[str], dict[str, list[str]]]:
        """Return the templates that have words for all their slots, and these words."""
        key = (content, style)
        if key not in self._resolved:
            words = {**self.lists, **self._content_words(content), **self._style_words(content, style)}
            pool = self.neutral_templates if style == _NEUTRAL_STYLE else self.templates
            usable = [template for template in pool if all(words.get(slot) for slot in _SLOT.findall(template))]
            self._resolved[key] = (usable, words)
        return self._resolved[key]

    def _content_words(self, content: str) -> dict[str, list[str]]:
        """Return the words of a content. If it has a side, return only those that name it."""
        words = self.contents.get(content, {})
        side = self.sides.get(content)
        if side is None:
            return words
        return {form: [c for c in clauses if side in SIDE.findall(c)] for form, clauses in words.items()}

    def _style_words(self, content: str, style: str) -> dict[str, list[str]]:
        shared = [style]
        for group in self.synonyms:
            if style in group["styles"] and content not in group["distinct_in"]:
                shared += [other for other in group["styles"] if other != style]
        words: dict[str, list[str]] = {}
        for name in shared:
            _extend(words, self.styles.get(name, {}))
        adverbs = words.get("adv", [])
        words["ly"] = [adverb for adverb in adverbs if adverb.endswith("ly") and " " not in adverb]
        words["extra"] = words.get("extra_any", []) + words.get(f"extra_{self.kinds.get(content)}", [])
        return words

    def compose(self, content: str, style: str, rng: random.Random) -> str:
        """Generate a random caption: choose the template, then its words."""
        templates, words = self.resolve(content, style)
        template = rng.choice(templates)
        return _fill(template, {slot: rng.choice(words[slot]) for slot in _SLOT.findall(template)})

    def all(self, content: str, style: str) -> Iterator[str]:
        """Yield all captions, some of them more than once."""
        templates, words = self.resolve(content, style)
        for template in templates:
            slots = _SLOT.findall(template)
            for fills in itertools.product(*(words[slot] for slot in slots)):
                yield _fill(template, dict(zip(slots, fills, strict=True)))


def _fill(template: str, words: Mapping[str, str]) -> str:
    """Fill the slots, then correct articles and possessives."""
    caption = _SLOT.sub(lambda match: words[match[1]], template)
    subject = " ".join(words.get(slot, "") for slot in _SUBJECT_SLOTS)
    if "imperative" in words:
        caption = _THEIR.sub("your", caption)
    elif _SHE.search(subject):
        caption = _THEIR.sub("her", caption)
    elif _HE.search(subject):
        caption = _THEIR.sub("his", caption)
    return _ARTICLE.sub("an ", caption)


def _extend(words: dict[str, list[str]], more: Mapping[str, list[str]]) -> None:
    """Append the new words of `more` to the lists of `words`."""
    for slot, added in more.items():
        words[slot] = list(dict.fromkeys(words.get(slot, []) + added))


def _strings(entry: Mapping[str, Any], key: str) -> list[str]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CaptionGrammarError(f"{key}: expected a list of strings, found {value!r:.80}")
    return value


def _mapping(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = entry.get(key, {})
    if not isinstance(value, dict):
        raise CaptionGrammarError(f"{key}: expected a mapping, found {value!r:.80}")
    return value


def _synonyms(source: Mapping[str, Any]) -> list[dict[str, list[str]]]:
    groups = source.get("synonyms", [])
    keys = {"styles", "distinct_in"}
    if not isinstance(groups, list) or not all(isinstance(g, dict) and set(g) == keys for g in groups):
        raise CaptionGrammarError("synonyms: expected a list of mappings with styles and distinct_in")
    return [{key: _strings(group, key) for key in keys} for group in groups]

"""Splits sentences of several actions, such as "a man walks forward then waves"."""

import re

__all__ = ["split_actions"]

# Separates two actions: a word such as "then", or the end of a sentence.
_SEAM = re.compile(
    r"\s*[.;!]\s+(?=\w)"
    r"|\s*,?\s+(?:and\s+|but\s+)?(?:then|after that|after which|afterwards?|subsequently|finally)\b,?\s+(?:and\s+)?"
    r"|\s*,?\s+(?:and\s+)?(?:before|followed by|until)\s+(?=(?:\w+ing\b|an?\s|the\s\w+\s\w+s\b|he\b|she\b|they\b))"
    r"|\s*,\s+(?:and\s+)?next,?\s+",
    re.IGNORECASE,
)
_AFTER = re.compile(r"^(.+?),?\s+after\s+(\w+ing\b.*)$", re.IGNORECASE)
_LEADING_AFTER = re.compile(r"^(?:after|having)\s+(\w+ing\b[^,]*),\s*(.+)$", re.IGNORECASE)
_LIST = re.compile(r"\s*,\s+(?:and\s+)?|\s+and\s+", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^((?:(?:a|an|the|this|that|one|some|our|his|her|my|there is an?)\s+)(?:[\w-]+\s+){0,4}?(?:[\w-]+)"
    r"|(?:he|she|it|they|someone|somebody|everybody|everyone|we|you|i))\s+"
    r"(?=(?:(?:is|are|was|were|will|can be seen)\s+)?(?:\w+ly\s+)?[\w-]+(?:s|ing|ed)\b|\w+\b$)",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(r"^(is|are|was|were)\s+(?=(?:\w+ly\s+)?\w+ing\b)", re.IGNORECASE)
_OWN_SUBJECT = re.compile(
    r"^(?:a|an|the|there|this|that|he|she|it|they|someone|somebody|we|you|i)\s+(?!few\b|bit\b)", re.IGNORECASE
)
_LEAD = re.compile(r"^(?:and\s+)?(?:then|afterwards?|after that|next|finally|first)\b,?\s+", re.IGNORECASE)
# Words that may begin an item of a list and end like verbs, but are not verbs.
_NOT_VERBS = re.compile(
    r"as|is|was|has|hands|arms|legs|feet|steps|sides|knees|shoulders|hips|elbows|wrists|ankles|fists|fingers|toes|times|"
    r"paces|heels|left|right|forwards|backwards|sideways|upwards|downwards|always|across|towards|this|his|its|yours|eyes|"
    r"palms|strides|moves|movements|swings|ups|circles"
)


def split_actions(text: str) -> list[str]:
    """Split a sentence into one sentence per action; a sentence of one action is returned unchanged.

    ```python
    >>> split_actions("a man walks forward then waves")
    ['a man walks forward', 'a man waves']
    >>> split_actions("a person walks and turns left")
    ['a person walks and turns left']

    ```

    Two verbs joined only by "and" may happen at the same time. They are not split; lists of three or more verbs are.
    """
    sentence = " ".join(text.split()).rstrip(" .!;")
    if found := _LEADING_AFTER.match(sentence):
        clauses = [found[1], found[2]]
        subject = _SUBJECT.match(found[2])
        clauses[0] = f"{subject[1]} is {found[1]}" if subject else found[1]
    else:
        clauses = [clause.strip(" ,") for clause in _SEAM.split(sentence)]
        if len(clauses) == 1 and (found := _AFTER.match(sentence)):
            clauses = [found[2], found[1]]
    clauses = [part for clause in clauses if clause for part in _listed(_LEAD.sub("", clause))]
    if len(clauses) < 2:
        return [text]
    first = next((found for found in map(_SUBJECT.match, clauses) if found), None)
    who = re.sub(r"^there is ", "", first[1], flags=re.IGNORECASE) if first else ""
    rest = first.string[first.end() :] if first else ""
    helper = _AUXILIARY.match(rest)
    is_doing = f"{who} {helper[1] if helper else 'is'}" if who else ""
    scenes = []
    for clause in clauses:
        if not who or _OWN_SUBJECT.match(clause):
            scenes.append(clause)
        elif re.match(r"(?:\w+ly\s+)?\w+ing\b", clause):
            scenes.append(f"{is_doing} {clause}")
        else:
            scenes.append(f"{who} {clause}")
    return scenes


def _listed(clause: str) -> list[str]:
    """Split a list of three or more verbs of one form, such as "walks, bows and waves"."""
    subject = _SUBJECT.match(clause)
    body = clause[subject.end() :] if subject else clause
    parts = [part for part in _LIST.split(body) if part]
    if len(parts) < 3 or not all(_form(part) == _form(parts[0]) is not None for part in parts):
        return [clause]
    lead = clause[: subject.end()] if subject else ""
    return [f"{lead}{parts[0]}", *parts[1:]]


def _form(part: str) -> str | None:
    """Return the ending of the verb at the beginning of an item of a list; `None` if there is no verb."""
    words = re.findall(r"[\w-]+", part.lower())
    while words and (words[0].endswith("ly") or words[0] in ("is", "are")):
        words = words[1:]
    if not words or _NOT_VERBS.fullmatch(words[0]):
        return None
    return next((ending for ending in ("ing", "s") if words[0].endswith(ending) and not words[0].endswith("ss")), None)

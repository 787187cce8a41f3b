"""Swap left and right in captions, for mirrored motions."""

import re

__all__ = ["SIDE", "swap_sides"]

_SUFFIX = (
    r"(?:-?(?:hand(?:ed(?:ly)?|er|ers)?|foot(?:ed)?|arm(?:ed)?|leg(?:ged)?|side(?:d|s)?)|wards?|wardly|most|y|ies|s)?"
)

# "left" or "right" by itself, in a label ("walk-left", "left_hand") or in a compound ("leftward", "righthanded").
SIDE = re.compile(rf"(?<![a-z])(left|right)(?={_SUFFIX}(?![a-z]))", re.IGNORECASE)

_CLOCK = re.compile(r"(?<![a-z])(?:(?:counter|anti)[\s-]?)?clockwise(?![a-z])", re.IGNORECASE)
_LETTER = re.compile(r"(?<![A-Za-z])[LR](?=[ -](?:arm|elbow|foot|hand|hip|knee|leg|shoulder|side|wrist|ankle)\b)")

_BODY = (
    r"(?:hand|arm|leg|foot|feet|knee|elbow|shoulder|hip|side|fist|palm|finger|heel|toe|ankle|wrist|forearm|thigh|eye)s?"
)
# After these verbs, "right" is a side: "turns right at the door", but not "walks right up to the door".
_TURNS = (
    r"(?:angl|bank|bear|bend|cross|curv|cut|drift|edg|fac|glanc|hang|head|keep|lean|look|mov|peer|pivot|point|reach|roll|rotat|"
    r"rock|shift|shuffl|sidestep|slant|slid|spin|stag|stay|step|strafe|strafing|sway|swerv|swing|swivel|take|tilt|turn|twist|"
    r"veer|wheel)\w*"
)
_BEFORE_SIDES = r"the|a|an|his|her|their|its|my|your|to|and|or|far|back|forward|left|hard|[a-z]+ly"
# Before these words, "right" means "directly".
_PLACES = (
    r"into|onto|up|down|through|past|back|in front|in the middle|in place|behind|after|before|next to|beside|between|"
    r"above|below|under|underneath|over|on top|on time|off|out|outside|inside|by|alongside|where|when|ahead|"
    r"at (?:him|her|them|it|the (?:camera|viewer|start|end|beginning))|"
    r"to the (?:end|top|bottom|edge|door|wall|floor|ground)"
)
# Before these words, "right" means "suitable".
_SUITED = (
    r"ways?|times?|moments?|spot|place|answer|size|amount|person|people|things?|words?|order|track|technique|choice|tools?|"
    r"reasons?|rhythm|tempo|beat|height|distance|stuff|idea|mood|mind"
)
_PERSON = (
    r"(?:he|she|they|it|we|i|you|who|person|man|woman|boy|girl|figure|character|someone|somebody|everyone|everybody|"
    r"individual|human|people|actor|player|child|kid|guy|lady|dancer|performer|avatar)"
)
_BE = r"(?:is|are|was|were|be|been|being|am|gets?|got)"
_REST = (
    r"(?:nothing|anything|something|everything|none|little|much|few|energy|strength|breath|power|time|room|space|air|"
    r"hope|stamina|life|fight|force|patience|money|anyone|nobody|no one)"
)

# Phrases in which "right" and "left" do not name a side. The word in the named group stays unchanged.
_NO_SIDE = re.compile(
    "|".join(
        rf"(?:{pattern})"
        for pattern in (
            # correct, well, suitable
            r"\b(?:all|quite|perfectly|not quite|just|exactly) (?P<a>right)\b(?!-)"
            rf"(?! (?:{_BODY}|of)\b)",
            r"\b(?:that|it|this)(?:'s|’s| is| was) (?P<b>right)(?=\s*(?:[.,;:!?)]|$))",
            rf"\b{_BE} (?P<c>right)(?=\s*(?:[.,;:!?)]|$)|\s(?:about|that|to)\b)",
            r"\b(?:do|does|did|done|doing|gets?|got|getting|puts?|set|sets|making|makes?|made) "
            r"(?:it|this|that|things|everything|them) (?P<d>right)\b(?!-)",
            r"\b(?:feel|seem|sound)(?:s|ed|ing)? (?P<e>right)(?=\s*(?:[.;:!?)]|$))",
            rf"(?P<f>(?<![a-z])right)(?= (?:{_SUITED})\b)(?! way up)",
            r"(?P<g>(?<![a-z])right)(?=[ -](?:angle[ds]?|angular|triangle|of[ -]way|minded|hand man|side up|way up|"
            r"or wrong|and wrong|from wrong)\b)",
            r"\bown (?P<h>right)\b",
            r"\b(?:human|equal|civil|animal|legal|same) (?P<i>rights?)\b",
            r"(?P<j>(?<![a-z])rights?)(?= (?:him|her|it|them|your|my|our|one)sel(?:f|ves)\b)",
            r"\bwrong (?:and|or|from) (?P<k>right)\b",
            # at once, directly; but not after a verb of turning, "the", "to the" or "his"
            rf"(?<!\w)(?!(?:{_TURNS}|{_BEFORE_SIDES}) right)(?:[\w'’-]+ |^)(?P<l>right)(?= (?:{_PLACES})\b)",
            r"(?P<m>(?<![a-z])right)(?= (?:now|then|there|here)\b)",
            rf"(?<!\w)(?!{_TURNS} right away from)(?:[\w'’-]+ |^)(?P<n>right)(?= away\b)",
            # went away
            rf"\b(?:has|have|had|having|'ve|'d)(?: just| already| never| not| now| all)? (?P<o>left)\b(?!-)"
            rf"(?! (?:{_BODY}|of|and right)\b)",
            rf"\b(?:{_PERSON}|and|then|just|who|that|has|finally|[a-z]+ly) (?P<p>left)"
            r"(?= (?:the|a|an|his|her|their|its|this|that|everything|everyone|someone|it|him|them|home|work|school)\b)",
            r"^(?P<q>left)(?= (?:the|his|her|their) \w+)(?! (?:the|his|her|their) (?:whole|entire) )",
            rf"\b{_PERSON}(?: just| then| finally| suddenly| quickly| quietly| slowly)? (?P<r>left)"
            r"(?=\s*(?:[.,;:!?)]|$)|\s(?:for|without|in|after|before|when|while|early|late|quickly|quietly|again|and|then|through|"
            r"with)\b)(?! and right)",
            # remaining
            r"\bwhat(?:'s|’s| is| was) (?P<w>left)\b(?!-)",
            rf"\b{_BE}(?: all| still| now)? (?P<s>left)\b(?!-)(?! (?:{_BODY}|of|and right|or right|to right)\b)",
            rf"\b{_REST}(?: is| was| that is| that's)? (?P<t>left)\b(?!-)(?! {_BODY}\b)",
            rf"\b(?!(?:{_TURNS}|the|his|her|their|to|walks?|runs?|goes|jumps?) left)(?:[\w'’-]+ |^)(?P<u>left)"
            r"(?= (?:alone|behind|out|standing|hanging|lying|sitting|speechless|breathless|over)\b)",
            r"(?P<v>(?<![a-z])left)(?=-overs?\b)",
        )
    ),
    re.IGNORECASE,
)


def swap_sides(text: str) -> str:
    """Swap left and right, and clockwise and counterclockwise, in the caption of a mirrored motion.

    Compounds such as "leftward", "righthanded" and "left_hand" are swapped too. Words that do not name a side stay
    unchanged: "all right", "right away", "at a right angle", "left the room", "nothing is left". Swapping twice gives
    the original caption, except for the spelling of "counterclockwise".

    ```python
    >>> swap_sides("turns right, waves the lefthand and circles clockwise right away")
    'turns left, waves the righthand and circles counterclockwise right away'

    ```
    """
    stay = {match.start(match.lastgroup) for match in _overlapping(text) if match.lastgroup}

    def other_side(match: re.Match[str]) -> str:
        if match.start() in stay:
            return match[0]
        return _in_the_case_of(match[0], "right" if match[0].lower() == "left" else "left")

    def other_way(match: re.Match[str]) -> str:
        return _in_the_case_of(match[0], "counterclockwise" if match[0].lower() == "clockwise" else "clockwise")

    # Swap sides first: `stay` contains positions in the original text.
    text = SIDE.sub(other_side, text)
    text = _LETTER.sub(lambda match: "R" if match[0] == "L" else "L", text)
    return _CLOCK.sub(other_way, text)


def _overlapping(text: str) -> "list[re.Match[str]]":
    """Find phrases that do not name a side; each search starts one character after the last match began."""
    found, start = [], 0
    while match := _NO_SIDE.search(text, start):
        found.append(match)
        start = match.start() + 1
    return found


def _in_the_case_of(word: str, other: str) -> str:
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

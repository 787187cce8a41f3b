"""Compare the claims of a caption with the measured motion: sides, directions, turns, counts, speeds, postures.

Only simple claims are recognized; other text is ignored. A reported doubt may still be wrong, so check it by eye.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lamp_hf.data.cmu.measures import SIDES, Measures

NUMBERS = {
    **{"once": 1, "a": 1, "an": 1, "one": 1, "single": 1, "twice": 2, "two": 2, "three": 3, "thrice": 3, "four": 4},
    **{"five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12},
}
_NUMBER = r"(?P<number>one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|single|\d+)"
_SIDE = r"(?P<side>left|right)"
_OWN = r"(?:the|his|her|their|its|a|an)"
_HAND = r"(?:hand|arm|wrist|fist|forearm|elbow)"
_FOOT = r"(?:foot|leg|knee|heel)"
_NOT = re.compile(r"\b(?:without|not|never|no|instead of|as if|like|pretend\w*|mim\w+|almost)\b[^,.;]*$")
_BETWEEN = r"(?:(?!\b(?:and|then|while|with|of)\b)[^,.;]){0,30}?"  # words in between, within one clause
_GOES_ON = re.compile(r",|\band\b|\bthen\b|\bmore\b|\bbefore\b|\bafter\b")
_GOING = re.compile(r"\b(?:walk|run|step|jog|go|mov|stroll|set|head|start|hurr|dash|jump|leap|turn)\w*")


@dataclass(frozen=True)
class Doubt:
    """Claim that disagrees with the motion.

    Attributes:
        caption: The caption.
        claim: The words of the claim.
        measured: The measurement that disagrees.
    """

    caption: str
    claim: str
    measured: str

    def __str__(self) -> str:
        return f'"{self.claim}" in "{self.caption}": {self.measured}'


@dataclass(frozen=True)
class Claim:
    """Words of a caption that can be compared with a motion.

    Attributes:
        caption: The caption.
        words: The words of the claim.
        kind: "side" (a hand, a foot, or movement to one side), "turn", "count" or "other".
        contradiction: The measurement that disagrees with the words; empty if the motion agrees.
    """

    caption: str
    words: str
    kind: str
    contradiction: str


def claims(captions: tuple[str, ...] | list[str], measures: Measures) -> list[Claim]:
    """Find the claims of captions and compare them with the motion.

    Args:
        captions: Sentences about the whole motion.
        measures: Measures of the motion; for a segment, `Measures.part` of its take.
    """
    found = []
    for caption in captions:
        text = caption.lower()
        for pattern, judge in _RULES:
            for match in pattern.finditer(text):
                if not _NOT.search(text[: match.start()]):
                    kind = _kind(pattern, judge)
                    found.append(Claim(caption, match[0].strip(), kind, judge(match, measures)))
    return found


def _kind(pattern: re.Pattern[str], judge: "_Judge") -> str:
    if judge in (_turn, _turn_around, _full_turn):
        return "turn"
    return {"number": "count", "side": "side"}.get(next(iter(pattern.groupindex), ""), "other")


def doubts(captions: tuple[str, ...] | list[str], measures: Measures) -> list[Doubt]:
    """Find the claims of captions that disagree with the motion.

    Args:
        captions: Sentences about the whole motion.
        measures: Measures of the motion; for a segment, `Measures.part` of its take.
    """
    found = [
        Doubt(claim.caption, claim.words, claim.contradiction)
        for claim in claims(captions, measures)
        if claim.contradiction
    ]
    found += _unsaid(captions, measures)
    return found


def _unsaid(captions: tuple[str, ...] | list[str], measures: Measures) -> Iterator[Doubt]:
    """Yield postures so obvious that a caption should mention them, but none does."""
    said = " ".join(captions).lower()
    share = {name: float((measures.posture == name).mean()) for name in ("lying", "upside down", "sitting")}
    words = {
        "lying": "l[iy](?:e|es|ing)|lay|laid|laying|floor|ground|fall|crawl|roll|swim|sleep|push-?up|sit-?up|down|dive|"
        "stretch|break|worm|snake|bed|prone|dead|collapse",
        "upside down": r"cartwheel|hand\w*|flip|somersault|upside|roll|tumble|hang|swing|break|head|round-?off|"
        "walkover",
        "sitting": "sit|sits|sitting|seated|sat|squat|crouch|kneel|chair|stool|floor|ground|down|low|lung|climb|bend|"
        "duck",
    }
    for name, portion in share.items():
        if portion > 0.4 and not re.search(rf"\b(?:{words[name]})", said):
            yield Doubt(captions[0], "(not said)", f"the body is {name} for {portion:.0%} of the time")


# ---- rules: each returns the measurement if it disagrees, otherwise an empty text --------------------------------

_Judge = Callable[[re.Match[str], Measures], str]


def _other(side: str) -> str:
    return SIDES[1 - SIDES.index(side)]


def _raised_hand(match: re.Match[str], measures: Measures) -> str:
    side = match["side"]
    peak = {s: float(measures.wrist_above(s, f"{s}_shoulder").max()) for s in SIDES}
    lift = {s: float(np.ptp(measures.height(f"{s}_wrist"))) for s in SIDES}
    other = _other(side)
    if peak[other] > peak[side] + 0.2 and lift[other] > lift[side] + 0.15:
        return f"highest {side} wrist {peak[side]:+.2f} m from its shoulder, {other} {peak[other]:+.2f} m"
    return ""


def _over_head(match: re.Match[str], measures: Measures) -> str:
    peak = max(float(measures.wrist_above(s, "head").max()) for s in SIDES)
    return f"highest wrist {peak:+.2f} m from the head" if peak < -0.1 else ""


def _both_raised(match: re.Match[str], measures: Measures) -> str:
    peak = min(float(measures.wrist_above(s, f"{s}_shoulder").max()) for s in SIDES)
    return f"the lower of both wrists reaches {peak:+.2f} m from its shoulder" if peak < -0.25 else ""


def _busy_hand(match: re.Match[str], measures: Measures) -> str:
    side, other = match["side"], _other(match["side"])
    speed = {}
    for s in SIDES:
        way = measures.in_body(f"{s}_wrist") - measures.in_body(f"{s}_shoulder")
        speed[s] = float(np.percentile(np.linalg.norm(np.gradient(way, 1 / measures.fps, axis=0), axis=-1), 95))
    if speed[other] > 1.5 * speed[side] and speed[other] > 0.6:
        return f"the {side} wrist reaches {speed[side]:.1f} m/s, the {other} one {speed[other]:.1f}"
    return ""


def _raised_foot(match: re.Match[str], measures: Measures) -> str:
    side, other = match["side"], _other(match["side"])
    peak = {s: float(measures.foot_height(s).max()) for s in SIDES}
    if peak[other] > peak[side] + 0.15 and peak[other] > 1.5 * peak[side]:
        return f"the {side} foot rises {peak[side]:.2f} m, the {other} one {peak[other]:.2f}"
    return ""


def _largest_turns(measures: Measures) -> tuple[float, float]:
    """Largest turns to the left and to the right within the motion, degrees, both positive."""
    heading = np.degrees(measures.heading)
    left = float((heading - np.minimum.accumulate(heading)).max())
    right = float((np.maximum.accumulate(heading) - heading).max())
    return left, right


def _turn(match: re.Match[str], measures: Measures) -> str:
    words = match["side"].replace("counterclockwise", "left").replace("counter-clockwise", "left")
    side = words.replace("anticlockwise", "left").replace("clockwise", "right")
    left, right = _largest_turns(measures)
    this, that = (left, right) if side == "left" else (right, left)
    if this < 20 or (that > this + 60 and this < 60):
        return f"it turns {left:.0f}° to the left and {right:.0f}° to the right at most"
    return ""


def _turn_around(match: re.Match[str], measures: Measures) -> str:
    most = max(_largest_turns(measures))
    return f"it turns {most:.0f}° at most" if most < 100 else ""


def _full_turn(match: re.Match[str], measures: Measures) -> str:
    most = max(_largest_turns(measures))
    return f"it turns {most:.0f}° at most" if most < 230 else ""


def _sideways(match: re.Match[str], measures: Measures) -> str:
    sign = 1.0 if match["side"] == "left" else -1.0
    aside = sign * np.cumsum(measures.travel[:, 1]) / measures.fps
    way = measures.place("pelvis")[:, ::2] - measures.place("pelvis")[0, ::2]
    sine, cosine = np.sin(measures.heading[0]), np.cos(measures.heading[0])
    displaced = sign * (way[:, 0] * cosine - way[:, 1] * sine)
    best = max(float(aside.max()), float(displaced.max()))
    left, right = _largest_turns(measures)
    turned = left if sign > 0 else right
    if best < 0.12 and turned < 30:
        return f"it moves at most {best:.2f} m to the {match['side']} and turns {turned:.0f}° that way"
    return ""


def _backward(match: re.Match[str], measures: Measures) -> str:
    slowest = float(np.percentile(measures.travel[:, 0], 5))
    return f"never faster than {-slowest:.2f} m/s backward" if slowest > -0.12 else ""


def _forward(match: re.Match[str], measures: Measures) -> str:
    fastest = float(np.percentile(measures.travel[:, 0], 95))
    return f"never faster than {fastest:.2f} m/s forward" if fastest < 0.15 else ""


def _runs(match: re.Match[str], measures: Measures) -> str:
    fastest = float(np.percentile(measures.speed, 95))
    return f"never faster than {fastest:.1f} m/s" if fastest < 1.15 else ""


def _walks(match: re.Match[str], measures: Measures) -> str:
    speed = float(np.median(measures.speed))
    return f"{speed:.1f} m/s, the speed of a run" if speed > 2.4 else ""


def _slow_walk(match: re.Match[str], measures: Measures) -> str:
    speed = _moving_speed(measures)
    return f"{speed:.1f} m/s while it moves" if speed > 1.15 else ""


def _fast_walk(match: re.Match[str], measures: Measures) -> str:
    speed = _moving_speed(measures)
    return f"{speed:.1f} m/s while it moves" if speed < 1.0 else ""


def _moving_speed(measures: Measures) -> float:
    moving = measures.speed[measures.speed > 0.3]
    return float(np.median(moving)) if len(moving) else 0.0


def _still(match: re.Match[str], measures: Measures) -> str:
    # A person who stands still at the beginning or the end may walk in between.
    goes = _GOING.search(match.string[: match.start()]) or _GOING.search(match.string[match.end() :])
    speed = float(np.percentile(measures.speed, 10 if goes else 80))
    return f"it moves at {speed:.1f} m/s" if speed > (0.3 if goes else 0.45) else ""


def _jumps(match: re.Match[str], measures: Measures) -> str:
    lowest = np.minimum(measures.foot_height("left"), measures.foot_height("right"))
    if measures.count("jump") or measures.flights or float(lowest.max()) > 0.12:
        return ""
    return f"no jump found; the lower foot is never more than {lowest.max():.2f} m above the floor"


def _posture(names: tuple[str, ...]) -> _Judge:
    def judge(match: re.Match[str], measures: Measures) -> str:
        if np.isin(measures.posture, names).any():
            return ""
        pelvis = float(measures.height("pelvis").min())
        return f"never {' or '.join(names)}; the pelvis is never below {pelvis:.2f} m"

    return judge


def _first_foot(match: re.Match[str], measures: Measures) -> str:
    first = next((event.side for event in measures.events if event.kind == "step"), "")
    return f"the first step is with the {first} foot" if first and first != match["side"] else ""


def _count(kind: str) -> _Judge:
    def judge(match: re.Match[str], measures: Measures) -> str:
        words = match["number"].split()[0]
        number = int(words) if words.isdigit() else NUMBERS[words]
        found = measures.count(kind)
        if kind == "step" and found > number and _GOES_ON.search(match.string):
            return ""  # the rest of the sentence may account for the other steps
        slack = max(1, round(0.25 * number)) if kind == "step" else 0 if kind == "jump" else 1
        if kind != "step" and not found:
            return ""  # small kicks and punches are not detected
        return f"{found} found" if abs(found - number) > slack else ""

    return judge


def _rules() -> list[tuple[re.Pattern[str], _Judge]]:
    go = r"(?:walk|step|move|jump|hop|run|shuffle|go|skip|jog|leap|back)\w*"
    times = r"(?P<number>once|twice|thrice|(?:two|three|four|five|six|seven|eight|nine|ten|\d+) times)"
    raise_ = r"(?:rais|lift|wav|hold\w* up|put\w* up|reach\w* up|stretch\w* up)\w*"
    rules: list[tuple[str, _Judge]] = [
        (rf"\b{raise_} {_BETWEEN}\b{_SIDE} {_HAND}\b", _raised_hand),
        (rf"\b{_SIDE} {_HAND} {_BETWEEN}\b(?:rais|lift|held high|up high)\w*", _raised_hand),
        (rf"\b(?:hands?|arms?) {_BETWEEN}\b(?:over|above) {_OWN} head\b|\boverhead\b", _over_head),
        (rf"\b(?:rais|lift)\w* {_BETWEEN}\bboth (?:hands|arms)\b", _both_raised),
        (
            rf"\b(?:punch|throw|wav|jab|slap|swing|wip|scrub|stir|point|pick|grab|toss|bounc|dribbl|knock)\w* "
            rf"{_BETWEEN}\b(?:with|of) {_OWN} {_SIDE} {_HAND}\b",
            _busy_hand,
        ),
        (rf"\b(?:kick|lift|rais|swing)\w* {_BETWEEN}\b{_SIDE} {_FOOT}\b", _raised_foot),
        (rf"\b(?:hop|balanc|stand)\w* on {_OWN} {_SIDE} {_FOOT}\b", _standing_foot),
        (
            rf"\b(?:turn|spin|rotat|pivot|veer|circl|curv|whirl|twirl)\w*(?: around| back)?(?: to| toward| towards)?"
            rf"(?: {_OWN})? {_SIDE}\b",
            _turn,
        ),
        (r"\b(?P<side>counter-?clockwise|anticlockwise|(?<!counter)(?<!counter-)(?<!anti)clockwise)\b", _turn),
        (
            r"\b(?:turn|spin|pivot|whirl)\w* (?:all the way )?(?:around|round|back)\b|\bhalf turn\b|\b180\b",
            _turn_around,
        ),
        (r"\b(?:full|whole|complete) (?:circle|turn|spin|rotation)\b|\b360\b", _full_turn),
        (rf"\b(?:{go} (?:sideways |sidewards )?to {_OWN}|side-?steps? {_BETWEEN}) ?\b{_SIDE}\b", _sideways),
        (rf"\b{go} {_BETWEEN}\bbackwards?\b|\bback(?:s|ing) (?:up|away)\b", _backward),
        (rf"\b{go} (?:\w+ly )?(?:straight )?(?:forwards?|ahead)\b", _forward),
        (r"\b(?:runs|running|sprint\w*|jogs|jogging)\b(?! (?:in|on) (?:place|the spot)|[^,.;]{0,25}in place)", _runs),
        (r"\b(?:walks|walking|strolls?|strolling)\b", _walks),
        (r"\b(?:walk|strid|stroll|mov)\w* (?:\w+ )?slowly\b|\bslowly (?:walk|mov)\w*|\bslow walk\b", _slow_walk),
        (
            r"\b(?:walk|strid)\w* (?:\w+ )?(?:fast|quickly|briskly)\b|\b(?:quickly|briskly) walk\w*|"
            r"\b(?:fast|brisk) walk\b",
            _fast_walk,
        ),
        (r"\bstand(?:s|ing)? (?:still|motionless)\b", _still),
        (r"\b(?:jump|hop|leap)(?:s|ing)?\b(?! up and down on)", _jumps),
        (rf"\b(?:jumps|hops|leaps) {times}\b", _count("jump")),
        (rf"\b{_NUMBER} (?:\w+ )?(?:jumps|hops|leaps)\b", _count("jump")),
        (rf"\b{_NUMBER} jumping jacks\b", _count("jump")),
        (rf"\b{_NUMBER} (?:\w+ )?kicks\b", _count("kick")),
        (rf"\bkicks {times}\b", _count("kick")),
        (rf"\b{_NUMBER} (?:\w+ )?steps\b", _count("step")),
        (r"\b(?:sits|sitting|seated)\b", _posture(("sitting", "crouching", "kneeling", "lying"))),
        (r"\b(?:kneels|kneeling)\b", _posture(("kneeling", "crouching", "sitting", "all fours"))),
        (r"\b(?:lies|lying|lays) (?:down|on|flat|face)", _posture(("lying",))),
        (r"\b(?:crawls|crawling)\b|\bon all fours\b", _posture(("all fours", "kneeling", "lying", "bending"))),
        (r"\b(?:squats|squatting|crouches|crouching)\b", _posture(("crouching", "sitting", "kneeling"))),
        (r"\b(?:cartwheels?|handstands?)\b", _posture(("upside down", "all fours"))),
        (rf"\b(?:start|begin|lead)\w* with {_OWN} {_SIDE} (?:foot|leg)\b", _first_foot),
    ]
    return [(re.compile(pattern), judge) for pattern, judge in rules]


def _standing_foot(match: re.Match[str], measures: Measures) -> str:
    side, other = match["side"], _other(match["side"])
    lifted = {s: float(np.mean(measures.foot_height(s) > 0.1)) for s in SIDES}
    if lifted[side] > lifted[other] + 0.1:
        return f"the {side} foot is off the floor {lifted[side]:.0%} of the time, the {other} one {lifted[other]:.0%}"
    return ""


_RULES = _rules()

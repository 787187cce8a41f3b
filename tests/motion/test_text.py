"""Mirrored captions: in each sentence, the words in <…> are swapped, and all others are unchanged."""

import re
from pathlib import Path

import pytest

from lamp_hf.data.bandai_namco.grammar import CaptionGrammar
from lamp_hf.motion.text import swap_sides

PAIRS = {
    "left": "right",
    "lefts": "rights",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "leftmost": "rightmost",
    "lefthand": "righthand",
    "lefthanded": "righthanded",
    "lefthander": "righthander",
    "leftside": "rightside",
    "leftfoot": "rightfoot",
    "lefty": "righty",
    "clockwise": "counterclockwise",
    "L": "R",
}
OTHER = {**PAIRS, **{other: one for one, other in PAIRS.items()}}

SENTENCES = """
a person walks in a <clockwise> circle
he turns <counterclockwise> and stops
she spins <clockwise>, then <counterclockwise>
<Clockwise> rotation of the arms
walks <COUNTERCLOCKWISE>
someone waves with the <lefthand>
a <righthanded> throw
the <lefthander> throws a ball
a <left>-handed punch
the figure is <right>-handed
a <right> handed person waves
the <leftmost> foot goes first
he reaches for the <rightmost> cup
steps <leftward>
drifts <rightwards> while walking
a person walks <left>
a person turns <right>
a person turns <right> and walks away
the man turns to his <left>
a person raises the <left> arm, then the <right> arm
waves both the <right> and the <left> hand
from <left> to <right>
from <right>-to-<left>
a kick with the <left> foot
walk-turn-<left>
raise_up_<left>_hand
<left>/<right> stance
LOOKS <LEFT>
<Left> foot forward, <Right> foot back
<Right> hand up
the <left>-most chair
swings his <right> arm <clockwise>
throws a <left> hook and a straight <right>
throws two quick <lefts> and a hard <right>
throws <lefts> and <rights>
makes a sharp <right>
takes a <left> at the corner
takes two steps <left>
takes two steps <right> and bows
sidesteps <right>, into the corner
steps <right> into a fighting stance
turns <right> into the next room
veers <left> past the table
leans <right> over the rail
moves <right> along the wall
the arm is <right> of the body
the hand is <left> of the hip
the right way round, <left> arm over <right> arm
walks forward and to the <right>
goes <right>, then <left>
the upper-<left> arm
top-<right> corner
the <L> arm is raised
raises the <R> hand
his <left>'s raised
falls on the <left> side
hops on the <left> leg
lunges <left>, <right>, <left>
walks diagonally <right>
with his <right> he waves
with the <left> hand on the <right> shoulder
looks <right> and <left> before crossing
looks <left> in front of the door
turns <right> behind the chair
turns <right> away from the wall
crosses the <left> foot over the <right>
the person's <left> hand and <right> knee
stands on his <left> foot alone
bends <right> down to the floor
is <left> foot first
<leftside> kick
the <lefty> throws
pitches as a <righty>
has <left> hand on hip
a person with <right> hand raised has <left> foot forward
shifts weight <left>, <right>, <left>
strafes <left>, facing front
a <right>-hand turn
a <right> hand turn
<right> arm raised, <left> arm down
walks, turns <left> the whole time
rolls <right> onto the back
the person stands all right in the middle
he is all right
all right, he waves with the <left> hand
he starts right away
right away he turns <left>
he sits upright
an upright person turns <right>
that's right
yes, that is right, says the nod of the head
the answer is right
nods that it is right
the arm is bent at a right angle
bends the <right> arm at a right angle
makes a right-angled turn to the <left>
a right triangle of steps
the person left the room
he left
he left the stage on the <left>
the man left for home
she has left
has already left the floor
a person who has just left a chair
they left early
what is left of the strength goes into a jump
with nothing left he sinks down
runs with the last energy left
there is no time left
is left alone
he was left behind
the figure left quickly
and then left the building
someone left without a word
picks up the left-overs
gets it right and bows
does it right with the <right> foot
moves at the right time
the right way to bow
puts the cup in the right place
sets things right
walks right up to the camera
runs right into the wall
jumps right over the box
stands right in front of the chair
sits right next to the table
stands right behind the other
lands right on top of the box
runs right past the door
goes right back to the start
right now he waves
stops right there
stands right here, <right> hand raised
right after the jump he bows
a person rights himself after a stumble
the right side up
knows right from wrong
the bright light makes him turn <left>
a cleft rock on the <right>
an outright fall
he limps rightly
alright, the dance begins
leftover food in the <left> hand
stands up for human rights
just right
feels right.
the person walks on, right foot
""".strip().splitlines()[:-1]


def marked(sentence: str) -> tuple[str, str]:
    """Return the sentence, and the sentence with the marked words swapped."""

    def swapped(match: re.Match[str]) -> str:
        word = match[1]
        other = OTHER.get(word) or OTHER[word.lower()]
        return other if word in OTHER else other.upper() if word.isupper() else other.capitalize()

    return re.sub(r"<(\w+)>", r"\1", sentence), re.sub(r"<(\w+)>", swapped, sentence)


def test_there_are_many_cases() -> None:
    assert len(set(SENTENCES)) >= 120
    assert sum("<" in sentence for sentence in SENTENCES) > 60


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sides_are_swapped_like_a_person_would(sentence: str) -> None:
    text, expected = marked(sentence)
    assert swap_sides(text) == expected
    assert swap_sides(expected) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he turns counter-clockwise", "he turns clockwise"),
        ("Anticlockwise, then clockwise", "Clockwise, then counterclockwise"),
        ("anti clockwise", "clockwise"),
        ("", ""),
    ],
)
def test_spellings_of_clockwise(text: str, expected: str) -> None:
    assert swap_sides(text) == expected


def test_swapping_sides_twice_restores_captions() -> None:
    grammar = CaptionGrammar.load()
    naive = re.compile(r"(?<![a-z])(left|right)(?=\b|ward|_)", re.IGNORECASE)
    seen = 0
    for content in grammar.contents:
        for clauses in grammar.words(content, "normal").values():
            for text in clauses:
                assert swap_sides(swap_sides(text)) == text
                if naive.search(text):
                    seen += 1
                    assert swap_sides(text) != text
    assert seen > 100


def test_field_cases(shared_dir: Path) -> None:
    import json

    path = shared_dir / "cases" / "motion_files" / "mirror_captions.jsonl"
    if not path.is_file():
        pytest.skip("needs cases/motion_files/mirror_captions.jsonl of the shared folder")
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        assert swap_sides(case["text"]) == case["mirrored"]

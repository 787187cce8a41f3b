"""Actions of the segments of the CMU database: the table is valid, precise, and large enough for the judge."""

from collections import Counter
from importlib.resources import files

import pytest
import yaml

from lamp_hf.data.cmu.actions import action_groups, action_of, actions_by_segment
from lamp_hf.data.cmu.facts import packaged_facts
from lamp_hf.data.cmu.segments import packaged_segments


@pytest.fixture(scope="module")
def named() -> list[tuple[str, str, str]]:
    """Action, take and split of each packaged segment that has an action."""
    found = []
    for segment in packaged_segments():
        if action := action_of(segment.captions, segment.take):
            found.append((action, segment.take, packaged_facts()[segment.take].split))
    return found


def test_every_action_has_a_group_and_a_segment(named: list[tuple[str, str, str]]) -> None:
    groups = action_groups()
    assert {action for action, _, _ in named} == set(groups)
    values = yaml.safe_load((files("lamp_hf.data.cmu") / "actions.yaml").read_text(encoding="utf-8"))
    assert len(groups) == sum(map(len, values["groups"].values()))  # no action is in two groups
    assert {rule["action"] for rule in values["rules"]} == set(groups)


def test_every_action_has_enough_segments_for_the_judge(named: list[tuple[str, str, str]]) -> None:
    train = Counter(action for action, _, split in named if split == "train")
    validation = {action for action, _, split in named if split == "validation"}
    enough = {action for action, count in train.items() if count >= 8}
    assert len(enough) >= 60
    assert len(enough & validation) >= 40
    assert sum(train.values()) > 3000


@pytest.mark.parametrize(
    ("captions", "take", "action"),
    [
        (
            ["cartwheel to the right", "a person does a single cartwheel with the right hand first"],
            "49_06",
            "cartwheel",
        ),
        (["full golf swing", "a golfer swings a club and follows through to the left"], "64_01", "golf swing"),
        (["placing a ball, stiff legs", "a person bends down and lays a ball on the ground"], "64_21", None),
        (["straight walk", "someone walks forward at a steady pace"], "07_02", "walk straight"),
        (["right turn", "a person walks forward and turns to the right"], "07_02", "walk and turn"),
        (["stop and look", "a person stops, eats an apple and goes on"], "07_02", None),
        (["turning right", "a person turns right with raised arms"], "94_14", "indian dance"),
    ],
)
def test_action_follows_from_captions_and_take(captions: list[str], take: str, action: str | None) -> None:
    assert action_of(captions, take) == action


def test_captions_after_the_second_do_not_affect_the_action() -> None:
    plain = ["short pause", "a person pauses"]
    assert (
        action_of([*plain, "a man pauses as if before a cartwheel", "the gymnast before the cartwheel"], "49_06")
        is None
    )


def test_mirror_images_and_unknown_takes() -> None:
    texts = ["cartwheel", "a person does a cartwheel"]
    assert (
        actions_by_segment(["49_06@0-3.9s", "49_06@0-3.9s-mirrored", "999_01@0-3s"], [texts] * 3) == ["cartwheel"] * 3
    )


def test_ids_of_other_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="clip-7: expected the id of a segment of the CMU database"):
        actions_by_segment(["clip-7"], [["walk", "a person walks"]])

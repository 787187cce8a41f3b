"""The actions that training assigns to clips, by labels or captions, mirror images included."""

from datasets import Dataset

from lamp_hf.training.stages.base import shown_labels
from lamp_hf.training.stages.lamp import pair_groups


def rows(*clips: tuple[str, str, bool, str]) -> Dataset:
    return Dataset.from_list(
        [
            {"content": content, "style": style, "mirrored": mirrored, "captions": [{"text": text}]}
            for content, style, mirrored, text in clips
        ]
    )


def test_mirrored_clip_has_the_swapped_label():
    groups = pair_groups(
        rows(
            ("wave-left-hand", "sad", False, "a sad person waves the left hand"),
            ("wave-left-hand", "sad", True, "a gloomy figure waves with the left arm"),
            ("walk", "sad", False, "a sad person walks"),
            ("walk", "sad", True, "somebody walks sadly"),
            ("walk", "happy", True, "somebody walks happily"),
        )
    )
    assert groups == [0, 0, 1, 1, 2]


def test_mirrored_clip_without_a_sided_label_is_another_action():
    groups = pair_groups(
        rows(
            ("bye", "sad", False, "a sad person waves goodbye with the right hand"),
            ("bye", "sad", True, "a sad person waves goodbye with the left hand"),
        )
    )
    assert groups == [0, 1]


def test_clips_without_labels_use_their_caption():
    unlabeled = rows(("", "", False, "a person climbs"), ("", "", False, "a person swims"))
    assert pair_groups(unlabeled) is None
    assert shown_labels(unlabeled) == ["a person climbs", "a person swims"]
    assert shown_labels(rows(("walk", "sad", False, "x"))) == ["walk/sad"]

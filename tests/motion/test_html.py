"""The HTML player: its contents are correct, it is self-contained, and texts are never interpreted as HTML."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamp_hf.motion.formats.html import motion_to_html, write_html
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

HOSTILE = [
    '</script><script>alert("1")</script>',
    '"><img src=x onerror=alert(1)>',
    "'--><!-- ]]> &lt;b&gt; &amp;",
    "@MOTION@ @CAPTION@ @TITLE@",
    "</div></iframe><b onclick='x'>",
]


class Page(HTMLParser):
    """Tags of a page with their attributes, and the text in the first element of each id and name."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._open = attributes.get("id", tag)
        self.texts.setdefault(self._open, "")

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open is not None:
            self.texts[self._open] += data


def inner_page(fragment):
    outer = Page(fragment)
    assert [tag for tag, _ in outer.tags] == ["iframe"]
    return Page(outer.tags[0][1]["srcdoc"])


def unpack(page):
    """Return the player's joints (T, J, 3) in meters, camera targets (T, 3), and all data."""
    data = json.loads(page.texts["motion"])
    steps = np.frombuffer(base64.b64decode(data["positions"]), "<i2")
    points = steps.reshape(data["numFrames"], len(data["radii"]) + 1, 3) * data["unit"] + data["origin"]
    return points[:, :-1], points[:, -1], data


@pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("num_frames", [1, 30])
def test_player_contains_the_joints_to_half_a_millimeter(make_motion, tmp_path, skeleton, num_frames):
    motion = make_motion(skeleton=skeleton, num_frames=num_frames, fps=12.5, text="a person walks")
    write_html(motion, tmp_path / "walk.html")
    page = Page((tmp_path / "walk.html").read_text(encoding="utf-8"))
    joints, track, data = unpack(page)
    np.testing.assert_allclose(joints, motion.joints, atol=0.0005001)
    np.testing.assert_allclose(track[:, [0, 2]], motion.joints[:, 0, [0, 2]], atol=0.005)
    assert data["fps"] == 12.5
    assert page.texts["caption"] == "a person walks"
    left_elbow = skeleton.joint_names.index("left_elbow")
    assert [skeleton.parents[left_elbow], left_elbow, "left"] in data["limbs"]
    assert list(tmp_path.iterdir()) == [tmp_path / "walk.html"]


def test_long_path_gives_coarser_steps_instead_of_overflow(make_motion):
    joints = np.asarray(make_motion(num_frames=40).joints) + np.linspace(0, 400, 40)[:, None, None]
    read, _, data = unpack(inner_page(motion_to_html(Motion(joints=joints, fps=20.0))))
    assert data["unit"] > 0.001
    np.testing.assert_allclose(read, joints, atol=0.0041)


def test_ten_seconds_take_little_space(make_motion):
    motion = make_motion(num_frames=200)
    assert len(motion_to_html(motion).encode()) < 100_000


def test_page_requests_no_external_resources(make_motion, tmp_path):
    write_html(make_motion(), tmp_path / "walk.html")
    text = (tmp_path / "walk.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not [1 for _, attributes in page.tags if {"src", "href", "srcset"} & attributes.keys()]
    for word in ("http:", "https:", "//cdn", "fetch(", "import(", "XMLHttp", "@import", "url("):
        assert word not in text
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy == "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"


def test_players_in_a_notebook_are_sandboxed(make_motion):
    (tag, attributes) = Page(motion_to_html(make_motion(), height=300)).tags[0]
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"  # allow-same-origin would remove the isolation
    assert "height:300px" in attributes["style"]


@pytest.mark.parametrize("text", HOSTILE)
def test_malicious_texts_are_shown_and_not_run(make_motion, tmp_path, text):
    plain = inner_page(motion_to_html(make_motion(num_frames=2, text="plain")))
    hostile = inner_page(motion_to_html(make_motion(num_frames=2, text=text)))
    assert hostile.tags == plain.tags
    assert hostile.texts["caption"] == text
    assert hostile.texts["motion"] == plain.texts["motion"]


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_shown_unchanged(make_motion, text):
    page = inner_page(motion_to_html(make_motion(num_frames=2, text=text)))
    assert page.texts["caption"] == text
    assert len(page.tags) == len(inner_page(motion_to_html(make_motion(num_frames=2))).tags)


@pytest.mark.parametrize(("num_frames", "every"), [(100, 1), (101, 2), (250, 3)])
def test_long_motions_are_subsampled_and_play_at_the_correct_speed(
    make_motion, tmp_path, monkeypatch, caplog, num_frames, every
):
    monkeypatch.setattr("lamp_hf.motion.formats.html._PAGE_FRAMES", 100)
    motion = make_motion(num_frames=num_frames, fps=30.0)
    write_html(motion, tmp_path / "long.html")
    joints, _, data = unpack(Page((tmp_path / "long.html").read_text(encoding="utf-8")))
    np.testing.assert_allclose(joints, motion.joints[::every], atol=0.0005001)
    assert data["fps"] == pytest.approx(30.0 / every, abs=1e-3)
    assert data["numFrames"] == len(joints) <= 100
    said = f"{num_frames} frames are too many for a player: 1 in {every} is shown, {30.0 / every:g} per second"
    assert (said in caplog.text) == (every > 1)


def test_page_size_of_a_very_long_motion_is_bounded(make_motion, tmp_path):
    walk = make_motion(num_frames=100)
    sizes = []
    for repeats in (210, 600):
        motion = Motion(joints=np.tile(walk.joints, (repeats, 1, 1)), fps=20.0)
        write_html(motion, tmp_path / "long.html")
        sizes.append((tmp_path / "long.html").stat().st_size)
        assert len(motion_to_html(motion)) < 2_000_000
    assert max(sizes) < 6_000_000

"""The HTML player: its contents are correct, it is self-contained, and texts are never interpreted as HTML."""

import base64
import gzip
import json
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lamp_hf.motion import rotations
from lamp_hf.motion.formats.html import motion_to_html, write_html
from lamp_hf.motion.formats.rendering import Actor
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

HOSTILE = [
    '</script><script>alert("1")</script>',
    '"><img src=x onerror=alert(1)>',
    "'--><!-- ]]> &lt;b&gt; &amp;",
    "@MOTION@ @PANELS@ @TITLE@ @SCRIPT@",
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


def unpack(page, number=0):
    """Return the joints (T, J, 3) in meters, camera targets (T, 3), and all data of one motion of a player."""
    data = json.loads(page.texts["motion"])["motions"][number]
    steps = np.frombuffer(base64.b64decode(data["positions"]), "<i2")
    points = steps.reshape(data["numFrames"], len(data["radii"]) + 1, 3) * data["unit"] + data["origin"]
    return points[:, :-1], points[:, -1], data


@pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("num_frames", [1, 30])
def test_player_contains_the_joints_to_half_a_millimeter(make_motion, tmp_path, skeleton, num_frames):
    motion = make_motion(skeleton=skeleton, num_frames=num_frames, fps=12.5, text="a person walks")
    write_html(motion, tmp_path / "walk.html", style="skeleton")
    page = Page((tmp_path / "walk.html").read_text(encoding="utf-8"))
    joints, track, data = unpack(page)
    assert "turns" not in data
    np.testing.assert_allclose(joints, motion.joints, atol=0.0005001)
    np.testing.assert_allclose(track[:, [0, 2]], motion.joints[:, 0, [0, 2]], atol=0.005)
    assert data["fps"] == 12.5
    assert page.texts["caption-0"] == "a person walks"
    left_elbow = skeleton.joint_names.index("left_elbow")
    assert [skeleton.parents[left_elbow], left_elbow, "left"] in data["limbs"]
    assert list(tmp_path.iterdir()) == [tmp_path / "walk.html"]


def test_long_path_gives_coarser_steps_instead_of_overflow(make_motion):
    joints = np.asarray(make_motion(num_frames=40).joints) + np.linspace(0, 400, 40)[:, None, None]
    read, _, data = unpack(inner_page(motion_to_html(Motion(joints=joints, fps=20.0), style="skeleton")))
    assert data["unit"] > 0.001
    np.testing.assert_allclose(read, joints, atol=0.0041)


def test_ten_seconds_take_little_space(make_motion):
    motion = make_motion(num_frames=200)
    assert len(motion_to_html(motion, style="skeleton").encode()) < 100_000
    assert len(motion_to_html(motion).encode()) < 260_000


@pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
def test_the_player_moves_the_mannequin_like_the_renderer(make_motion, skeleton):
    motion = make_motion(num_frames=12, skeleton=skeleton)
    page = inner_page(motion_to_html(motion))
    joints, _, data = unpack(page)
    mesh = json.loads(page.texts["motion"])["meshes"][data["mesh"]]
    content, count = base64.b64decode(mesh["data"]), mesh["numVertices"]

    def column(kind, start, columns):
        return np.frombuffer(content, kind, count * columns, start * count).reshape(count, columns)

    positions, normals = column("<i2", 0, 3) * mesh["unit"], column("i1", 6, 3) / 127.0
    influences, weights = column("u1", 9, 4), column("u1", 13, 4) / 255.0
    triangles = np.frombuffer(content, "<u2", offset=17 * count)
    assert sum(mesh["counts"]) == len(triangles)
    xyz = np.frombuffer(base64.b64decode(data["turns"]), "<i2").reshape(12, data["numTurns"], 3) / 32767.0
    w = np.sqrt(np.maximum(0.0, 1.0 - (xyz**2).sum(axis=-1, keepdims=True)))
    turns = np.concatenate([w, xyz], axis=-1)[:, data["turnOf"]]
    actor = Actor.of(motion)
    np.testing.assert_allclose(joints, actor.joints, atol=0.0005001)
    for frame in (0, 7):
        moved = rotations.rotate(turns[frame][influences], positions[:, None] - np.array(mesh["rest"])[influences])
        places = ((moved + joints[frame][influences]) * weights[..., None]).sum(axis=1)
        expected, facing = actor.pose(frame)
        np.testing.assert_allclose(places, expected, atol=0.002)
        turned = rotations.rotate(turns[frame][influences[:, 0]], normals)
        assert np.median(np.sum(turned * facing, axis=-1)) > 0.99


def test_motions_side_by_side_share_a_mannequin_if_their_bodies_are_equal(make_motion, tmp_path):
    first, second = (
        make_motion(num_frames=5, text="one"),
        make_motion(num_frames=9, fps=30, text="two", raise_arm="right"),
    )
    small = Motion(joints=0.6 * np.asarray(first.joints), fps=20.0)
    write_html([first, first, second, small], tmp_path / "all.html", downloads=())
    page = Page((tmp_path / "all.html").read_text(encoding="utf-8"))
    assert [page.texts[f"caption-{number}"] for number in range(4)] == ["one", "one", "two", ""]
    data = json.loads(page.texts["motion"])
    assert [motion["mesh"] for motion in data["motions"]][:2] == [0, 0]
    assert data["motions"][3]["mesh"] not in (data["motions"][0]["mesh"], data["motions"][2]["mesh"])
    for number, motion in enumerate((first, first, second, small)):
        np.testing.assert_allclose(unpack(page, number)[0], motion.joints, atol=0.002)


def test_scenes_are_on_the_time_line(make_motion, tmp_path):
    scenes = [("a person walks", 0.0, 0.3), ("<b>bows</b> & waves", 0.3, 0.6)]
    write_html(make_motion(), tmp_path / "a.html", scenes=scenes, style="skeleton")
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    found = [attributes for tag, attributes in page.tags if tag == "button" and attributes.get("class") == "scene"]
    assert [(float(scene["data-start"]), float(scene["data-end"])) for scene in found] == [(0.0, 0.3), (0.3, 0.6)]
    assert "&lt;b&gt;bows&lt;/b&gt; &amp; waves" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_downloads_are_the_files_of_the_writers(make_motion, tmp_path):
    motion = make_motion(num_frames=5)
    write_html([motion, motion], tmp_path / "a.html")
    files = json.loads(Page((tmp_path / "a.html").read_text(encoding="utf-8")).texts["files"])
    assert [sorted(kinds) for kinds in files] == [["bvh", "glb"]] * 2
    for kind, content in files[1].items():
        (tmp_path / f"a.{kind}").write_bytes(gzip.decompress(base64.b64decode(content)))
        np.testing.assert_allclose(Motion.load(tmp_path / f"a.{kind}").joints, motion.joints, atol=1e-3)
    write_html(make_motion(num_frames=700), tmp_path / "long.html", style="skeleton")
    write_html(motion, tmp_path / "none.html", downloads=())
    for name in ("long.html", "none.html"):
        assert json.loads(Page((tmp_path / name).read_text(encoding="utf-8")).texts["files"]) == []
    assert json.loads(inner_page(motion_to_html(motion)).texts["files"]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenes": [("a", 1.0, 1.0)]}, "scenes: expected"),
        ({"scenes": [("a", 0.0, float("nan"))]}, "scenes: expected"),
        ({"downloads": ["fbx"]}, "downloads: expected 'bvh' or 'glb', got"),
        ({"style": "robot"}, "style: expected"),
    ],
)
def test_invalid_player_options_are_refused(make_motion, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_html(make_motion(num_frames=2), tmp_path / "a.html", **options)
    with pytest.raises(ValueError, match="expected 1 to 12 motions, got 0; write several pages"):
        motion_to_html([])
    assert not list(tmp_path.iterdir())


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
    # allow-same-origin would remove the isolation
    assert attributes["sandbox"] == "allow-scripts allow-downloads"
    assert "height:300px" in attributes["style"]


@pytest.mark.parametrize("text", HOSTILE)
def test_malicious_texts_are_shown_and_not_run(make_motion, tmp_path, text):
    plain = inner_page(motion_to_html(make_motion(num_frames=2, text="plain")))
    hostile = inner_page(motion_to_html(make_motion(num_frames=2, text=text)))
    assert hostile.tags == plain.tags
    assert hostile.texts["caption-0"] == text
    assert hostile.texts["motion"] == plain.texts["motion"]


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_text_is_shown_unchanged(make_motion, text):
    page = inner_page(motion_to_html(make_motion(num_frames=2, text=text)))
    assert page.texts["caption-0"] == text
    assert len(page.tags) == len(inner_page(motion_to_html(make_motion(num_frames=2))).tags)


@pytest.mark.parametrize(("num_frames", "every"), [(100, 1), (101, 2), (250, 3)])
def test_long_motions_are_subsampled_and_play_at_the_correct_speed(
    make_motion, tmp_path, monkeypatch, caplog, num_frames, every
):
    monkeypatch.setattr("lamp_hf.motion.formats.html._PAGE_FRAMES", 100)
    motion = make_motion(num_frames=num_frames, fps=30.0)
    write_html(motion, tmp_path / "long.html", style="skeleton")
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
        assert len(motion_to_html(motion, style="skeleton")) < 2_000_000
    assert max(sizes) < 8_000_000


@pytest.mark.slow
def test_a_browser_draws_the_body(make_motion, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    page, picture = tmp_path / "walk.html", tmp_path / "walk.png"
    write_html([make_motion(num_frames=2)] * 2, page, downloads=())
    flags = ["--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    flags += ["--window-size=400,400", "--hide-scrollbars", "--virtual-time-budget=1500", f"--screenshot={picture}"]
    subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        check=True,
        timeout=300,
        capture_output=True,
    )
    with Image.open(picture) as image:
        red, _, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
    for half in (slice(0, 200), slice(200, 400)):  # the hands and feet of both bodies
        assert (blue[:300, half] > red[:300, half] + 80).sum() > 40
        assert (red[:300, half] > blue[:300, half] + 80).sum() > 40

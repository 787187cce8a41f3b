"""Timing, size, and left and right in decoded videos and still pictures."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lamp_hf.motion.formats import painting, video
from lamp_hf.motion.formats.drawing import COLORS
from lamp_hf.motion.formats.video import contact_sheet, write_png, write_video
from lamp_hf.motion.motion import Motion

BOTH = pytest.mark.parametrize("suffix", [".gif", ".mp4"])
STYLES = pytest.mark.parametrize("style", ["mannequin", "skeleton"])


def decode(path):
    """Decode pictures (T, H, W, 3) uint8 as a player shows them."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def places(picture, side, style="skeleton"):
    """Return rows and columns (2, N) of the pixels with the color of a side, in any light for the mannequin."""
    if style == "skeleton":
        return np.array(np.nonzero(np.abs(picture.astype(int) - COLORS[side]).max(axis=-1) < 30))
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    return np.array(np.nonzero((blue - red if side == "left" else red - blue) > 60))


def test_gif_frames_have_the_correct_duration_and_loop(make_motion, tmp_path):
    motion = make_motion(num_frames=16, fps=30.0)
    write_video(motion, tmp_path / "walk.gif", size=96)
    with Image.open(tmp_path / "walk.gif") as image:
        assert image.size == (96, 96)
        assert image.info["loop"] == 0
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(durations) == 16
    assert set(durations) <= {30, 40}  # a GIF counts hundredths of a second
    assert sum(durations) == pytest.approx(16 / 30 * 1000, abs=15)
    assert list(tmp_path.iterdir()) == [tmp_path / "walk.gif"]


def test_mp4_has_every_frame_at_the_frame_rate(make_motion, tmp_path):
    write_video(make_motion(num_frames=9, fps=12.5), tmp_path / "walk.mp4", size=96)
    with av.open(str(tmp_path / "walk.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (96, 96, 12.5)
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(9) / 12.5, atol=1e-4)


@BOTH
def test_another_frame_rate_keeps_the_speed(make_motion, tmp_path, suffix):
    motion = make_motion(num_frames=21, fps=20.0)
    path = tmp_path / f"walk{suffix}"
    write_video(motion, path, size=96, fps=10)
    slow = decode(path)
    assert len(slow) == 11
    write_video(motion, path, size=96)
    fast = decode(path)
    assert len(fast) == 21
    top = slice(0, 84)  # the frame numbers in the corner differ
    difference = np.abs(slow[4, top].astype(int) - fast[8, top]).mean()
    assert difference < 0.5 * np.abs(slow[4, top].astype(int) - fast[10, top]).mean()


def test_gif_frame_rate_is_limited_for_fast_motion(make_motion, tmp_path):
    write_video(make_motion(num_frames=13, fps=120.0), tmp_path / "walk.gif", size=64)
    assert len(decode(tmp_path / "walk.gif")) == 6


@BOTH
@STYLES
@pytest.mark.parametrize("raise_arm", ["left", "right"])
def test_left_is_blue_and_on_the_viewers_right(make_motion, tmp_path, suffix, style, raise_arm):
    motion = make_motion(num_frames=16, raise_arm=raise_arm).crop(0.7)
    path = tmp_path / f"wave{suffix}"
    write_video(motion, path, size=192, view=(0.0, 10.0), style=style)
    last = decode(path)[-1]
    left, right = places(last, "left", style), places(last, "right", style)
    assert left[1].mean() > right[1].mean() + 10
    raised, hanging = (left, right) if raise_arm == "left" else (right, left)
    assert raised[0].min() < hanging[0].min() - 5
    write_video(motion, path, size=192, view=(180.0, 10.0), style=style)  # seen from behind
    last = decode(path)[-1]
    assert places(last, "left", style)[1].mean() < places(last, "right", style)[1].mean() - 10


def test_view_follows_the_heading_of_the_body(make_motion, tmp_path):
    motion = make_motion(num_frames=8)
    x, y, z = np.moveaxis(np.asarray(motion.joints), -1, 0)
    turned = Motion(joints=np.stack([z, y, -x], axis=-1), fps=motion.fps)
    seen = []
    for clip in (motion, turned):
        write_video(clip, tmp_path / "clip.mp4", size=192, style="skeleton")
        last = decode(tmp_path / "clip.mp4")[-1]
        seen.append([places(last, side).mean(axis=1) for side in ("left", "right")])
    np.testing.assert_allclose(seen[0], seen[1], atol=1.5)


@STYLES
@pytest.mark.parametrize("speed", [0.0, 1.0, 8.0])
def test_body_stays_in_the_picture(make_motion, tmp_path, speed, style):
    motion = make_motion(num_frames=30).resample(10.0)
    joints = np.array(motion.joints)
    joints[..., 0] += speed * np.arange(len(joints))[:, None] / 10.0
    write_video(Motion(joints=joints, fps=10.0), tmp_path / "run.mp4", size=128, caption="", style=style)
    for picture in decode(tmp_path / "run.mp4"):
        rows, columns = np.concatenate([places(picture, side, style) for side in ("left", "right")], axis=1)
        assert rows.min() > 3
        assert columns.min() > 1
        assert columns.max() < 126
        assert np.ptp(rows) > 30  # and is larger than a dot


def test_caption_is_written_at_the_top(make_motion, tmp_path):
    def ink(text, **options):
        write_video(make_motion(num_frames=1, text=text), tmp_path / "a.gif", size=240, **options)
        return (decode(tmp_path / "a.gif")[0, :30].max(axis=-1) < 52).sum()  # darker than any limb

    assert ink("a person walks") > 15
    assert ink("a person walks", caption="") == 0
    assert ink(None, caption="a dog jumps") > 10
    assert ink(None) == 0


@BOTH
def test_interrupted_writer_keeps_the_old_file(make_motion, tmp_path, suffix):
    path = tmp_path / f"walk{suffix}"
    path.write_bytes(b"old")

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(make_motion(num_frames=8), path, size=64, progress=stop)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_progress_counts_frames(make_motion, tmp_path):
    seen = []
    write_video(
        make_motion(num_frames=4),
        tmp_path / "a.gif",
        size=64,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.avi", {}, "a.avi: expected a name ending in .gif or .mp4"),
        ("a.mp4", {"size": 95}, "expected an even size from 64 to 4096 pixels, got 95"),
        ("a.gif", {"size": 10**6}, "expected a size from 64 to 4096 pixels, got 1000000"),
        ("a.gif", {"fps": 60}, "expected fps greater than 0 and at most 50"),
        ("a.mp4", {"fps": 0}, "expected fps greater than 0"),
        ("a.gif", {"view": (0.0, 90.0)}, "expected a view of"),
        ("a.gif", {"view": (float("nan"), 0.0)}, "expected a view of"),
    ],
)
def test_invalid_video_options_are_refused(make_motion, tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        write_video(make_motion(num_frames=2), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_styles_differ_and_share_the_floor(make_motion, tmp_path):
    motion = make_motion(num_frames=2)
    pictures = []
    for style in ("mannequin", "skeleton"):
        write_video(motion, tmp_path / "a.mp4", size=128, caption="", style=style)
        pictures.append(decode(tmp_path / "a.mp4")[0].astype(int))
    differs = np.abs(pictures[0] - pictures[1]).max(axis=-1) > 40
    assert 0.01 < differs.mean() < 0.5
    gray = [picture[np.ptp(picture, axis=-1) < 14].mean(axis=-1) for picture in pictures]
    shades = [len(np.unique(np.round(values / 4))) for values in gray]
    assert shades[0] > 20  # smooth shading, instead of the few tones of the skeleton


@pytest.mark.parametrize("style", ["mannequin", "skeleton"])
def test_colors_of_a_gif_are_near_the_drawn_ones(make_motion, tmp_path, style):
    motion = make_motion(num_frames=1)
    write_video(motion, tmp_path / "a.gif", size=160, caption="", style=style)
    gif = decode(tmp_path / "a.gif")[0].astype(int)
    scene = video._Scene.of(video._Body.of(motion, None, style), 20.0, 160, "", video.DEFAULT_VIEW)
    drawn = np.asarray(scene.frame(0)).astype(int)
    error = np.abs(gif - drawn).max(axis=-1)
    assert error.mean() < 2.5
    assert np.quantile(error, 0.99) < 32


def test_unknown_styles_are_refused(make_motion, tmp_path):
    for name in ("a.gif", "a.png", "a.html", "a.glb"):
        with pytest.raises(ValueError, match="style: expected 'mannequin' or 'skeleton', got 'robot'"):
            make_motion(num_frames=2).save(tmp_path / name, style="robot")
    assert not list(tmp_path.iterdir())


@STYLES
def test_contact_sheet_shows_every_motion_from_start_to_end(make_motion, tmp_path, style):
    waves = make_motion(num_frames=21, text="someone waves")
    still = Motion(joints=np.asarray(waves.joints)[:1].repeat(21, axis=0), fps=20.0, name="still")
    path = tmp_path / "sheet.png"
    contact_sheet([waves, still, waves], path, columns=2, frames_per_motion=4, pose_height=90, style=style)
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB")).astype(int)
    gap, width = 6, 4 * 72
    assert sheet.shape[1] == 2 * width + 3 * gap
    assert abs(sheet.shape[0] - (2 * 90 + 3 * gap)) < 80
    middle = sheet.shape[0] // 2
    strips = sheet[:middle, gap : gap + width], sheet[:middle, 2 * gap + width : 2 * gap + 2 * width]
    highest = []
    for strip in strips:
        poses = [strip[:, 72 * slot : 72 * (slot + 1)] for slot in range(4)]
        highest.append([places(pose, "left", style)[0].min() for pose in poses])
    assert highest[0][0] - highest[0][3] > 8  # the arm rises
    assert np.ptp(highest[1]) == 0
    empty = sheet[middle + gap :, 2 * gap + width :]
    assert (empty == 255).all()  # three motions in four cells


def test_strip_of_one_motion(make_motion, tmp_path):
    write_png(make_motion(num_frames=5, text="someone waves"), tmp_path / "a.png", num_poses=3)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size[0] == 3 * 192 + 2 * 16


@pytest.mark.parametrize("options", [{"columns": 0}, {"frames_per_motion": 0}, {"pose_height": 1}])
def test_contact_sheet_refuses_invalid_options(make_motion, tmp_path, options):
    with pytest.raises(ValueError, match="expected"):
        contact_sheet([make_motion(num_frames=2)], tmp_path / "a.png", **options)
    with pytest.raises(ValueError, match="at least one motion"):
        contact_sheet([], tmp_path / "a.png")


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=300), width=st.integers(60, 500))
def test_wrapped_lines_fit_and_keep_all_words(text, width):
    lines = painting.wrap_text(text, 14, width, 3)
    kept = painting.drawable(text, 14)  # letters that no font has are removed
    assert len(lines) <= 3
    assert all(painting.font(14, kept + "…").getlength(line) <= width for line in lines)
    if not lines or not lines[-1].endswith("…"):
        assert "".join(lines).replace(" ", "") == "".join(kept.split())


def test_wrapping_keeps_words_whole_and_cuts_endless_text():
    assert painting.wrap_text("one two three four five six", 14, 110, 9)[0] == "one two three"
    lines = painting.wrap_text("word " * 10**6, 14, 200, 2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert painting.wrap_text("w" * 10**6, 14, 200, 2)[1].endswith("…")


def test_letters_without_a_font_are_left_out(monkeypatch, caplog):
    from PIL import ImageFont

    latin = [ImageFont.load_default(14)]
    monkeypatch.setattr(painting, "_fonts", lambda pixels: latin)
    assert painting.wrap_text("a person 走る walks", 14, 400, 2) == ["a person walks"]
    assert "no font on this machine has all letters" in caplog.text
    assert painting.wrap_text("歩いている人", 14, 400, 2) == []
    assert painting.wrap_text("x\x00\x1by", 14, 400, 2) == ["xy"]


def test_font_with_the_letters_is_chosen(monkeypatch):
    class Fake:
        def __init__(self, letters):
            self.letters = letters

        def getmask(self, letter):
            class Mask(bytes):
                size = (1, 1)

            return Mask(letter.encode() if letter in self.letters else b"box")

    latin, wide = Fake("é"), Fake("é走")
    monkeypatch.setattr(painting, "_fonts", lambda pixels: [latin, wide])
    assert painting.font(14, "é") is latin
    assert painting.font(14, "é走") is wide
    assert painting.font(14, "한") is latin
    assert painting.drawable("é走한", 14) == "é走"

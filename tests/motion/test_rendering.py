"""The renderer of the mannequin, against slow loops and by the colors of its pictures."""

import dataclasses

import numpy as np
import pytest

from lamp_hf.motion.formats import painting
from lamp_hf.motion.formats.drawing import Camera
from lamp_hf.motion.formats.rendering import Actor, light_direction, rasterize, render_body, render_shadow


def slowly(points, triangles, width, height):
    """Return the nearest front triangle at each pixel (H, W), or -1, by the mean depth of the triangles."""
    found = np.full((height, width), -1)
    depth = np.full((height, width), np.inf)
    for number, corners in enumerate(points[triangles].astype(np.float64)):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area > -1e-6:
            continue
        for row in range(height):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                sides = [
                    ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area,
                    ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area,
                    ((ax - x) * (by - y) - (ay - y) * (bx - x)) / area,
                ]
                if min(sides) > 0 and az + bz + cz < depth[row, column]:
                    depth[row, column] = az + bz + cz
                    found[row, column] = number
    return found


@pytest.mark.parametrize("seed", range(4))
def test_rasterizing_finds_the_nearest_front_triangle(seed):
    random = np.random.default_rng(seed)
    points = (random.uniform(-4, 24, size=(30, 3)) * [1.0, 0.8, 1.0]).astype(np.float32)
    triangles = random.permutation(30).reshape(10, 3)
    pixels, owners, shares = rasterize(points, triangles, 20, 16)
    found = np.full(320, -1)
    found[pixels] = owners
    expected = slowly(points, triangles, 20, 16).ravel()
    assert len(set(pixels.tolist())) == len(pixels)
    assert (found == expected).mean() > 0.98  # pixels on an edge may belong to either side
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-4)
    places = np.einsum("nk,nkc->nc", shares, points[triangles[owners]])
    np.testing.assert_allclose(places[:, 0], pixels % 20 + 0.5, atol=1e-2)
    np.testing.assert_allclose(places[:, 1], pixels // 20 + 0.5, atol=1e-2)


def test_triangles_outside_the_picture_or_without_area_are_left_out():
    points = np.array([[-9, -9, 1], [-9, -5, 1], [-5, -9, 1], [40, 2, 1], [50, 2, 1], [45, 2, 1]], dtype=np.float32)
    pixels, owners, shares = rasterize(points, np.array([[0, 1, 2], [3, 4, 5]]), 10, 10)
    assert (len(pixels), len(owners), shares.shape) == (0, 0, (0, 3))


@pytest.fixture(scope="module")
def actor(make_motion):
    return Actor.of(make_motion(num_frames=4))


def picture(actor, azimuth=0.0, **changes):
    """Return the camera, its target and an empty picture of the first frame."""
    focus = actor.joints[0, 0].copy()
    camera = Camera.framing(actor.pose(0)[0] - focus, (0, 0, 200, 200), margin=0.3, azimuth=azimuth, elevation=0.2)
    return dataclasses.replace(camera, **changes), focus, np.full((200, 200, 3), painting.FLOOR, dtype=np.uint8)


def test_left_is_blue_and_on_the_viewers_right_and_a_pose_fades(actor):
    camera, focus, canvas = picture(actor)
    empty = canvas.copy()
    render_body(canvas, camera, focus, actor, 0)
    red, _, blue = np.moveaxis(canvas.astype(int), -1, 0)
    left, right = np.nonzero(blue > red + 60), np.nonzero(red > blue + 60)
    assert len(left[0]) > 100
    assert len(right[0]) > 100
    assert left[1].mean() > right[1].mean() + 10
    pale = empty.copy()
    render_body(pale, camera, focus, actor, 0, fade=0.75)
    np.testing.assert_allclose(pale, 0.75 * empty + 0.25 * canvas.astype(float), atol=1.5)


def test_the_side_toward_the_light_is_brighter(actor):
    camera, focus, canvas = picture(actor)
    render_body(canvas, camera, focus, actor, 0)
    x, y, _ = camera.project(actor.joints[0, 0], focus)  # a row through the belly
    row = canvas[round(float(y))].astype(int)
    body = np.flatnonzero(np.ptp(row, axis=1) < 14)
    body = body[np.abs(body - x) < 12]
    assert light_direction(0.0)[0] < 0  # from the viewer's left
    assert row[body[: len(body) // 2]].mean() > row[body[len(body) // 2 :]].mean() + 3


def test_the_shadow_lies_on_the_floor_at_the_feet_and_away_from_the_light(actor):
    camera, focus, canvas = picture(actor)
    render_shadow(canvas, camera, focus, actor, 0, 0.0, 2.0)
    dark = (painting.FLOOR[0] - canvas[..., 0].astype(int)).clip(0)
    assert 15 < dark.max() < 110
    feet = camera.project(actor.joints[0, [10, 11]] * [1.0, 0.0, 1.0], focus)
    rows, columns = np.nonzero(dark > 0.5 * dark.max())
    assert np.hypot(columns - feet[:, 0].mean(), rows - feet[:, 1].mean()).min() < 8
    assert np.average(np.arange(200), weights=dark.sum(axis=0)) > feet[:, 0].mean() + 5  # falls to the viewer's right
    below = picture(actor, elevation=-0.3)
    render_shadow(below[2], below[0], below[1], actor, 0, 0.0, 2.0)
    assert (below[2] == painting.FLOOR).all()


def test_another_frame_rate_keeps_the_speed(make_motion):
    motion = make_motion(num_frames=21)
    whole, half = Actor.of(motion), Actor.of(motion, fps=10)
    assert len(half.joints) == len(half.turns) == 11
    np.testing.assert_allclose(half.joints, whole.joints[::2], atol=1e-9)
    same = np.abs(np.sum(half.turns * whole.turns[::2], axis=-1))
    np.testing.assert_allclose(same, 1.0, atol=1e-9)

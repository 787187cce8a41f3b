"""The mannequin: a closed mesh with valid weights for any body, which skinning moves as defined."""

import itertools

import numpy as np
import pytest

from lamp_hf.motion import mannequin, rotations
from lamp_hf.motion.kinematics import default_body, forward_kinematics
from lamp_hf.motion.mannequin import SIDES, Stance, build_mannequin, find_stance, world_rotations
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21

STILL = (1.0, 0.0, 0.0, 0.0)


def narrow_shoulders():
    """Return the default body with narrow shoulders and a low neck, as in the rig of the CMU database."""
    offsets = default_body()
    for name in ("left_collar", "right_collar", "left_shoulder", "right_shoulder"):
        offsets[HUMANML3D_22.joint_names.index(name)] *= [0.55, 1.0, 1.0]
    offsets[HUMANML3D_22.joint_names.index("neck")] *= 0.65
    return offsets


BODIES = {
    "adult": (HUMANML3D_22, default_body(), None),
    "child": (HUMANML3D_22, 0.5 * default_body(), Stance(0.3, 0.3, 0.01)),
    "kit": (KIT_21, default_body(KIT_21), Stance(0.2, 0.0, 0.0)),
    "narrow": (HUMANML3D_22, narrow_shoulders(), Stance(0.5, 0.2, 0.04)),
}
ALL = pytest.mark.parametrize("body", BODIES)


def built(name):
    skeleton, offsets, stance = BODIES[name]
    return build_mannequin(offsets, skeleton, stance), skeleton


def volume(points, triangles):
    a, b, c = points[triangles].astype(np.float64).swapaxes(0, 1)
    return float(np.sum(a * np.cross(b, c)) / 6.0)


@ALL
def test_each_edge_has_two_triangles_and_the_surface_faces_outward(body):
    mesh, _ = built(body)
    ends = mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(int)
    edges = set(map(tuple, ends.tolist()))
    assert len(edges) == len(ends)  # no edge has two triangles on the same side
    assert edges == {(b, a) for a, b in edges}
    assert set(mesh.triangles.ravel().tolist()) == set(range(len(mesh.positions)))
    corners, edge_count, faces = len(mesh.positions), len(ends) // 2, len(mesh.triangles)
    assert corners - edge_count + faces == 2  # one piece without holes
    size = np.linalg.norm(mesh.rest[4] - mesh.rest[1]) / 0.39 if body != "kit" else 1.0
    assert 0.045 < volume(mesh.positions, mesh.triangles) / size**3 < 0.085
    a, b, c = mesh.positions[mesh.triangles].swapaxes(0, 1)
    outward = np.einsum("fi,fi->f", np.cross(b - a, c - a), mesh.normals[mesh.triangles].sum(axis=1))
    assert (outward > 0).mean() > 0.99
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1.0, atol=1e-6)


@ALL
def test_weights_are_sorted_255ths_of_joints_near_the_vertex(body):
    mesh, skeleton = built(body)
    weights = mesh.weights.astype(int)
    assert (weights.sum(axis=1) == 255).all()
    assert (np.diff(weights[:, 1:], axis=1) <= 0).all()
    assert (weights[:, 0] >= weights[:, 1] - 2).all()  # rounding goes to the largest
    assert mesh.joints.max() < skeleton.num_joints
    assert (mesh.joints[weights == 0] == 0).all()
    bone = np.linalg.norm(mesh.positions - mesh.rest[mesh.joints[:, 0]], axis=1)
    assert bone.max() < 0.55


def test_the_file_part_is_small():
    mesh, _ = built("adult")
    assert (mesh.positions.dtype, mesh.weights.dtype, mesh.triangles.dtype) == (np.float32, np.uint8, np.uint16)
    arrays = (mesh.positions, mesh.normals, mesh.joints, mesh.weights, mesh.triangles)
    assert sum(array.nbytes for array in arrays) < 200_000


def test_building_twice_gives_the_same_bytes():
    first, _ = built("adult")
    assert build_mannequin(default_body()) is first
    mannequin._build.cache_clear()
    second = build_mannequin(default_body())
    assert second is not first
    for name in ("positions", "normals", "joints", "weights", "triangles", "sides"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


@ALL
def test_skinning_the_rest_pose_returns_it(body):
    mesh, skeleton = built(body)
    places, normals = mesh.pose(mesh.rest, np.tile(STILL, (skeleton.num_joints, 1)))
    np.testing.assert_allclose(places, mesh.positions, atol=1e-6)
    np.testing.assert_allclose(normals, mesh.normals, atol=1e-5)


def test_skinning_is_the_weighted_mean_of_rigid_moves():
    mesh, _ = built("adult")
    random = np.random.default_rng(0)
    turns = rotations.normalize(random.normal(size=(22, 4)))
    joints = random.normal(size=(22, 3))
    places, _ = mesh.pose(joints, turns)
    for vertex in range(0, len(places), 97):
        expected = np.zeros(3)
        for joint, weight in zip(mesh.joints[vertex].tolist(), mesh.weights[vertex].tolist(), strict=True):
            moved = rotations.rotate(turns[joint], mesh.positions[vertex] - mesh.rest[joint]) + joints[joint]
            expected += weight / 255.0 * moved
        np.testing.assert_allclose(places[vertex], expected, atol=1e-5)


def test_the_body_is_symmetric_and_its_hands_and_feet_have_the_color_of_their_side():
    mesh, _ = built("adult")
    left, right = (mesh.positions[sign * mesh.positions[:, 0] > 2e-3] for sign in (1.0, -1.0))
    assert len(left) == len(right)
    for part in np.array_split(left * [-1.0, 1.0, 1.0], 10):
        apart = np.linalg.norm(part[:, None] - right, axis=-1)
        assert apart.min(axis=1).max() < 1e-3
    middles = mesh.positions[mesh.triangles].mean(axis=1)
    for number, side in enumerate(SIDES):
        part = middles[mesh.sides == number]
        assert len(part) > 300
        if side != "center":
            assert (np.sign(part[:, 0]) == (1.0 if side == "left" else -1.0)).all()
            hand, foot = part[np.abs(part[:, 0]) > 0.5], part[part[:, 1] < 0.3]
            assert len(hand) + len(foot) == len(part)


def test_the_default_body_stands_on_the_floor_with_a_flat_sole():
    mesh, _ = built("adult")
    low = mesh.positions[mesh.positions[:, 1] < 0.004]
    assert abs(mesh.positions[:, 1].min()) < 0.002
    assert np.ptp(low[low[:, 0] > 0][:, 2]) > 0.15  # from heel to ball


def posed(mesh, turn_of):
    local = np.tile(STILL, (22, 1))
    for name, (axis, angle) in turn_of.items():
        local[HUMANML3D_22.joint_names.index(name)] = rotations.about_axis(axis, angle)
    joints = forward_kinematics(local, mesh.rest[0], default_body(), HUMANML3D_22.parents)
    return mesh.pose(joints, world_rotations(local, HUMANML3D_22.parents))[0]


@pytest.mark.parametrize(
    "turns",
    [
        {"left_elbow": ("y", -1.9), "right_elbow": ("y", 1.9)},
        {"left_knee": ("x", 2.0), "right_knee": ("x", 2.0)},
        {"left_hip": ("x", -1.6), "right_hip": ("x", -1.6)},
        {"left_shoulder": ("z", -1.4), "right_shoulder": ("z", 1.4)},
        {"left_shoulder": ("z", 1.3), "right_shoulder": ("z", -1.3)},
        {"spine1": ("x", 0.5), "spine2": ("x", 0.4), "neck": ("x", 0.4)},
    ],
    ids=["elbows", "knees", "sitting", "arms down", "arms up", "bow"],
)
def test_joints_bend_without_collapsing(turns):
    mesh, _ = built("adult")
    places = posed(mesh, turns)
    assert volume(places, mesh.triangles) > 0.85 * volume(mesh.positions, mesh.triangles)
    pairs = np.unique(np.sort(mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    lengths = [np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1) for points in (mesh.positions, places)]
    assert lengths[1].max() < 2.5 * lengths[0].max()


def test_the_outline_reaches_as_far_as_the_body():
    mesh, _ = built("adult")
    assert len(mesh.outline.positions) < 0.25 * len(mesh.positions)
    random = np.random.default_rng(1)
    for _ in range(5):
        local = rotations.from_vector(random.normal(scale=0.5, size=(22, 3)))
        joints = forward_kinematics(local, mesh.rest[0], default_body(), HUMANML3D_22.parents)
        turns = world_rotations(local, HUMANML3D_22.parents)
        whole, few = mesh.pose(joints, turns)[0], mesh.outline.pose(joints, turns)[0]
        np.testing.assert_allclose(few.max(axis=0), whole.max(axis=0), atol=0.02)
        np.testing.assert_allclose(few.min(axis=0), whole.min(axis=0), atol=0.02)


@pytest.mark.parametrize(("head", "foot", "sole"), [*itertools.product((-0.2, 0.5), (0.25, 0.6), (0.0, 0.03))])
def test_the_stance_is_measured(head, foot, sole):
    """A standing body whose rest pose does not show how it holds its head and feet."""
    offsets = default_body()
    toes = [HUMANML3D_22.joint_names.index(f"{side}_foot") for side in ("left", "right")]
    offsets[toes] = [0.0, 0.0, 0.14]
    local = np.tile(STILL, (4, 22, 1))
    local[:, HUMANML3D_22.joint_names.index("neck")] = rotations.about_axis("x", head)
    local[:, [HUMANML3D_22.parents[toe] for toe in toes]] = rotations.about_axis("x", foot)
    joints = forward_kinematics(local, np.zeros((4, 3)), offsets, HUMANML3D_22.parents)
    joints[..., 1] += sole - joints[..., 1].min()
    turns = world_rotations(local, HUMANML3D_22.parents)
    found = find_stance(joints, turns, HUMANML3D_22, 0.0)
    np.testing.assert_allclose([found.head, found.foot, found.sole], [head, foot, sole], atol=1e-6)
    mesh = build_mannequin(offsets, HUMANML3D_22, found)
    places, normals = mesh.pose(joints[0], turns[0])
    assert abs(places[:, 1].min()) < 0.006  # on the floor
    below = places[:, 1] < 0.01
    assert normals[below, 1].mean() < -0.6  # with level soles
    top = mesh.joints[:, 0] == HUMANML3D_22.joint_names.index("head")
    assert places[top, 1].argmax() == mesh.positions[top, 1].argmax() or head

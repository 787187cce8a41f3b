"""Fixtures for motion file formats: a simple moving body, BVH texts, and a slow reader of BVH texts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from lamp_hf.motion import rotations
from lamp_hf.motion.kinematics import forward_kinematics, t_pose_directions
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, Skeleton

POSITION = ("Xposition", "Yposition", "Zposition")
ZXY = ("Zrotation", "Xrotation", "Yrotation")


@dataclass
class BvhJoint:
    """One joint of a BVH text: its name, parent's name, offset and channels."""

    name: str
    parent: str | None
    offset: Sequence[float]
    channels: Sequence[str] = ZXY
    end: Sequence[float] | None = None
    children: list["BvhJoint"] = field(default_factory=list)


def bvh_text(joints: Sequence[BvhJoint], rows: Sequence[Sequence[float]], *, frame_time: str = "0.0333333") -> str:
    """Compose a BVH text; rows contain the channels in the order of the text (depth first)."""
    by_name = {joint.name: joint for joint in joints}
    for joint in joints:
        joint.children.clear()
    for joint in joints:
        if joint.parent is not None:
            by_name[joint.parent].children.append(joint)
    lines = ["HIERARCHY"]

    def write(joint: BvhJoint) -> None:
        lines.append(f"{'ROOT' if joint.parent is None else 'JOINT'} {joint.name}")
        lines.append("{")
        lines.append("OFFSET " + " ".join(map(repr, map(float, joint.offset))))
        lines.append(f"CHANNELS {len(joint.channels)} {' '.join(joint.channels)}")
        for child in joint.children:
            write(child)
        if joint.end is not None:
            lines.extend(["End Site", "{", "OFFSET " + " ".join(map(repr, map(float, joint.end))), "}"])
        lines.append("}")

    for joint in joints:
        if joint.parent is None:
            write(joint)
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {frame_time}"]
    lines += [" ".join(repr(float(value)) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def slow_forward_kinematics(text: str) -> tuple[list[str], np.ndarray]:
    """Compute joint names and positions (T, J, 3) of a BVH text with 4 x 4 matrices, one joint and frame at a time."""
    words = text.split()
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    k = 1
    while words[k] != "MOTION":
        if words[k] in ("ROOT", "JOINT", "End"):
            name = words[k + 1] if words[k] != "End" else f"{names[stack[-1]]} End"
            names.append(name)
            parents.append(stack[-1] if stack else -1)
            offsets.append([])
            channels.append([])
            stack.append(len(names) - 1)
            k += 3
        elif words[k] == "OFFSET":
            offsets[stack[-1]] = [float(word) for word in words[k + 1 : k + 4]]
            k += 4
        elif words[k] == "CHANNELS":
            count = int(words[k + 1])
            channels[stack[-1]] = words[k + 2 : k + 2 + count]
            k += 2 + count
        else:
            assert words[k] == "}", words[k]
            stack.pop()
            k += 1
    num_frames = int(words[k + 2])
    numbers = [float(word) for word in words[k + 6 :]]
    per_frame = sum(map(len, channels))
    positions = np.zeros((num_frames, len(names), 3))
    for frame in range(num_frames):
        values = iter(numbers[frame * per_frame : (frame + 1) * per_frame])
        world: list[np.ndarray] = []
        for joint, name_channels in enumerate(channels):
            move = np.eye(4)
            move[:3, 3] = offsets[joint]
            turn = np.eye(4)
            for channel in name_channels:
                value = next(values)
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    move[axis, 3] = value
                else:
                    c, s = math.cos(math.radians(value)), math.sin(math.radians(value))
                    a, b = (axis + 1) % 3, (axis + 2) % 3
                    step = np.eye(4)
                    step[a, a], step[a, b], step[b, a], step[b, b] = c, -s, s, c
                    turn = turn @ step
            above = world[parents[joint]] if parents[joint] >= 0 else np.eye(4)
            world.append(above @ move @ turn)
            positions[frame, joint] = world[joint][:3, 3]
    return names, positions


@pytest.fixture(scope="session")
def make_bvh() -> Callable[..., str]:
    """The function `bvh_text`, with `BvhJoint` as its attribute `joint`."""
    bvh_text.joint = BvhJoint  # type: ignore[attr-defined]
    return bvh_text


@pytest.fixture(scope="session")
def slow_bvh() -> Callable[[str], tuple[list[str], np.ndarray]]:
    """The function `slow_forward_kinematics`."""
    return slow_forward_kinematics


# A body of 1.7 m in a T-pose, centimeters, Y up, left along +X.
BODY = {
    "pelvis": (0.0, 92.0, 0.0),
    "hip": (9.0, 90.0, 0.0),
    "knee": (9.0, 49.0, 1.0),
    "ankle": (9.0, 8.0, -2.0),
    "foot": (9.0, 2.0, 11.0),
    "neck": (0.0, 146.0, 0.0),
    "head": (0.0, 157.0, 3.0),
    "collar": (6.0, 142.0, 0.0),
    "shoulder": (17.0, 143.0, -1.0),
    "elbow": (45.0, 143.0, -1.0),
    "wrist": (70.0, 143.0, 0.0),
}


def body_positions(num_spine: int) -> dict[str, np.ndarray]:
    """Return the positions of the joints in `BODY`, with sides and evenly spaced spine joints "spine 0", ..."""
    positions = {}
    for name, (x, y, z) in BODY.items():
        if name in ("pelvis", "neck", "head"):
            positions[name] = np.array([x, y, z])
        else:
            positions[f"left_{name}"] = np.array([x, y, z])
            positions[f"right_{name}"] = np.array([-x, y, z])
    low, high = positions["pelvis"], positions["neck"]
    for k in range(num_spine):
        positions[f"spine {k}"] = low + (high - low) * (k + 1) / (num_spine + 1)
    return positions


def rig_joints(names: dict[str, str], spine: Sequence[str], *, toes_are_end_sites: bool = False) -> list[BvhJoint]:
    """Return `BODY` as a hierarchy with a rig's names for the HumanML3D joints and its spine."""
    positions = body_positions(len(spine))
    top = f"spine {len(spine) - 1}"
    parents: dict[str, str | None] = {"pelvis": None, "neck": top, "head": "neck"}
    for k in range(len(spine)):
        parents[f"spine {k}"] = f"spine {k - 1}" if k else "pelvis"
    for side in ("left", "right"):
        leg = ["pelvis", *(f"{side}_{part}" for part in ("hip", "knee", "ankle", "foot"))]
        arm = [top, *(f"{side}_{part}" for part in ("collar", "shoulder", "elbow", "wrist"))]
        for chain in (leg, arm):
            parents.update(dict(zip(chain[1:], chain[:-1], strict=True)))
    titles = {**names, **{f"spine {k}": name for k, name in enumerate(spine)}}
    joints = []
    for key, parent in parents.items():
        if toes_are_end_sites and key.endswith("foot"):
            continue
        offset = positions[key] - (positions[parent] if parent else 0.0)
        channels = ZXY if parent else (*POSITION, *ZXY)
        end = None
        if toes_are_end_sites and key.endswith("ankle"):
            end = positions[key.replace("ankle", "foot")] - positions[key]
        joints.append(BvhJoint(titles[key], titles[parent] if parent else None, offset, channels, end))
    return joints


@pytest.fixture(scope="session")
def make_rig() -> Callable[..., list[BvhJoint]]:
    """The function `rig_joints`."""
    return rig_joints


@pytest.fixture(scope="session")
def tpose() -> Callable[[int], dict[str, np.ndarray]]:
    """The function `body_positions`."""
    return body_positions


def body_motion(
    *,
    num_frames: int = 12,
    fps: float = 20.0,
    skeleton: Skeleton = HUMANML3D_22,
    raise_arm: str = "left",
    **options,
) -> Motion:
    """Return a body with constant bone lengths that walks along +Z, facing +Z, and lifts one straight arm sideways."""
    limb_lengths = {"knee": 0.42, "ankle": 0.41, "elbow": 0.27, "wrist": 0.26}
    lengths = [limb_lengths.get(name.rpartition("_")[2], 0.12) for name in skeleton.joint_names]
    offsets = t_pose_directions(skeleton) * np.array(lengths)[:, None]
    for left, right in skeleton.mirror_pairs:  # hips are below the pelvis, collars above the chest
        if skeleton.parents[left] == skeleton.parents[right]:
            offsets[[left, right], 1] += -0.08 if skeleton.parents[left] == 0 else 0.08
    time = np.arange(num_frames) / fps
    local = np.zeros((num_frames, skeleton.num_joints, 4))
    local[..., 0] = 1.0
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = 0.5 * np.sin(6.0 * time) * sign
        local[:, skeleton.joint_names.index(f"{side}_hip")] = rotations.about_axis("x", swing)
        lift = 1.2 * np.minimum(time, 1.0) if side == raise_arm else np.full(num_frames, -1.4)
        local[:, skeleton.joint_names.index(f"{side}_shoulder")] = rotations.about_axis("z", sign * lift)
    root = np.stack([0.0 * time, 0.95 + 0.02 * np.sin(12.0 * time), 1.2 * time], axis=-1)
    joints = forward_kinematics(local, root, offsets, skeleton.parents)
    return Motion(joints=joints.astype(np.float32), fps=fps, skeleton=skeleton, **options)


@pytest.fixture(scope="session")
def make_motion() -> Callable[..., Motion]:
    """The function `body_motion`."""
    return body_motion

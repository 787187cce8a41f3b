"""Convert joint positions to joint rotations on a skeleton with constant bone lengths, and back.

Positions do not determine the twist of a limb about its own bone. Joints with several bones (pelvis and chest) get the
rotation that fits all of them best. Every other joint swings its bone from the rest pose by the shortest rotation
relative to its parent and adds no twist. The rest pose is a T-pose because from there no limb comes close to a half
turn, for which the shortest rotation is undefined.
"""

from collections.abc import Sequence

import numpy as np

from lamp_hf.motion import rotations
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, Skeleton, rest_pose_offsets


def forward_kinematics(
    local_rotations: np.ndarray, root_positions: np.ndarray, offsets: np.ndarray, parents: Sequence[int]
) -> np.ndarray:
    """Compute joint positions from joint rotations.

    Args:
        local_rotations: (..., J, 4), unit quaternions (w, x, y, z) relative to the parent.
        root_positions: (..., 3), world positions of joint 0.
        offsets: (J, 3), position of each joint in its parent's frame; row 0 is not used.
        parents: (J,), indices of the parents; parents precede their children, and the root has -1.

    Returns:
        (..., J, 3), world positions in the unit of `offsets`.
    """
    world = np.empty(local_rotations.shape, dtype=np.float64)
    positions = np.empty((*local_rotations.shape[:-1], 3), dtype=np.float64)
    for joint, parent in enumerate(parents):
        if parent < 0:
            world[..., joint, :] = local_rotations[..., joint, :]
            positions[..., joint, :] = root_positions
        else:
            above = world[..., parent, :]
            world[..., joint, :] = rotations.multiply(above, local_rotations[..., joint, :])
            positions[..., joint, :] = positions[..., parent, :] + rotations.rotate(above, offsets[joint])
    return positions


def default_body(skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Return the body of exported files: a symmetric T-pose with the proportions of an average adult.

    Bone lengths come from HumanML3D's skeleton, averaged over both sides. Arms and legs are straight, the feet slope
    from ankle to toe as feet on the floor do, and the toes lie on the floor, with the ankles 6 cm above it. KIT-ML's
    skeleton, for which no lengths are known, gets those of the bones that it shares with HumanML3D's.

    Args:
        skeleton: skeleton of the body.

    Returns:
        (J, 3), meters, position of each joint in its parent's frame; row 0 is zero.
    """
    if skeleton.name == KIT_21.name:
        return _default_body_of_kit(skeleton)
    offsets = rest_pose_offsets(skeleton)
    lengths = np.linalg.norm(offsets, axis=-1, keepdims=True)
    straight = t_pose_directions(skeleton)
    for joint, name in enumerate(skeleton.joint_names):
        part = name.rpartition("_")[2]
        if part == "foot":
            offsets[joint, 0] = 0.0
            offsets[joint] *= lengths[joint] / np.linalg.norm(offsets[joint])
        elif part not in _SLANTED:
            offsets[joint] = straight[joint] * lengths[joint]
    return offsets


# Bones whose directions a T-pose keeps; all others lie along an axis.
_SLANTED = ("pelvis", "hip", "collar", "foot")


def _default_body_of_kit(skeleton: Skeleton) -> np.ndarray:
    body = dict(zip(HUMANML3D_22.joint_names, _world(default_body(HUMANML3D_22), HUMANML3D_22), strict=True))
    # KIT-ML's fourth leg joint is at the heel end of the foot, the fifth at the toes.
    places = {"root": "pelvis", "spine1": "spine1", "spine2": "spine3"}
    world = np.zeros((skeleton.num_joints, 3))
    for joint, name in enumerate(skeleton.joint_names):
        side, _, part = name.rpartition("_")
        if part == "foot":
            world[joint] = body[f"{side}_ankle"] * 0.4 + body[f"{side}_foot"] * 0.6
        elif part == "toe":
            world[joint] = body[f"{side}_foot"]
        else:
            world[joint] = body[places.get(name, name)]
    offsets = world.copy()
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            offsets[joint] -= world[parent]
    offsets[0] = 0.0
    return offsets


def _world(offsets: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return positions (J, 3) of the joints in the rest pose, with the root at the origin."""
    world = offsets.copy()
    for joint, parent in enumerate(skeleton.parents):
        if parent >= 0:
            world[joint] += world[parent]
    return world


def retarget(joints: np.ndarray, offsets: np.ndarray, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Give joints the bone lengths of another body while every bone keeps its direction.

    The root's path is scaled with the length of the legs. The body is raised or lowered by the same distance in all
    frames so that its feet are as close to the floor as before.

    Args:
        joints: (T, J, 3), meters, Y up.
        offsets: (J, 3), the other body, for example from `default_body`.
        skeleton: skeleton of the joints.

    Returns:
        (T, J, 3), float64.
    """
    joints = np.asarray(joints, dtype=np.float64)
    lengths = np.linalg.norm(offsets, axis=-1)
    parents = np.asarray(skeleton.parents)
    legs = [joint for pair in skeleton.mirror_pairs for joint in pair if _is_leg(skeleton, joint)]
    leg = float(np.median(np.linalg.norm(joints[:, legs] - joints[:, parents[legs]], axis=-1).sum(axis=1)))
    scale = float(lengths[legs].sum()) / leg if leg > 1e-6 else 1.0
    start = joints[:1, 0] * [1.0, 0.0, 1.0]
    result = np.empty_like(joints)
    result[:, 0] = (joints[:, 0] - start) * scale + start
    fallback = rotations.normalize(offsets)
    for joint in range(1, len(parents)):
        way = rotations.normalize(joints[:, joint] - joints[:, parents[joint]], fallback[joint])
        result[:, joint] = result[:, parents[joint]] + way * lengths[joint]
    feet = list(skeleton.contact_joints)
    low = [np.quantile(places[:, feet, 1].min(axis=1), 0.1) for places in (joints, result)]
    result[..., 1] += low[0] - low[1]
    return result


def _is_leg(skeleton: Skeleton, joint: int) -> bool:
    """Return whether the bone that ends at a joint is a thigh or a shank."""
    return skeleton.joint_names[joint].rpartition("_")[2] in ("knee", "ankle")


def export_kinematics(
    joints: np.ndarray, skeleton: Skeleton = HUMANML3D_22, *, own_body: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit rotations for a file with bones, on the default body or on a body with the clip's own bone lengths.

    Args:
        joints: (T, J, 3), meters.
        skeleton: skeleton of the joints.
        own_body: whether bones keep the lengths that they have in the clip.

    Returns:
        Local rotations (T, J, 4), root positions (T, 3) and offsets (J, 3), as returned by `inverse_kinematics`; and
        the joints (T, J, 3) that they were fitted to: `joints`, or `joints` retargeted to the default body.
    """
    wanted = np.asarray(joints, dtype=np.float64)
    offsets = None
    if not own_body:
        offsets = default_body(skeleton)
        wanted = retarget(wanted, offsets, skeleton)
    local, root, offsets = inverse_kinematics(wanted, skeleton, offsets=offsets)
    worst = _worst_errors(local, root, offsets, wanted, skeleton.parents)
    if worst.max(initial=0.0) <= _GOOD_ENOUGH_M:
        return local, root, offsets, wanted
    if own_body:
        offsets = _fit_offsets(local, root, offsets, wanted, skeleton, worst)
        local, root, offsets = inverse_kinematics(wanted, skeleton, offsets=offsets)
        worst = _worst_errors(local, root, offsets, wanted, skeleton.parents)
    for enough in (_GOOD_ENOUGH_M, _MOST_M):
        poor = np.flatnonzero(worst > enough)
        if len(poor):
            local[poor], root[poor] = refine_kinematics(local[poor], root[poor], offsets, wanted[poor], skeleton)
            worst = _worst_errors(local, root, offsets, wanted, skeleton.parents)
    return _continuous(local), root, offsets, wanted


def _fit_offsets(
    local: np.ndarray,
    root: np.ndarray,
    offsets: np.ndarray,
    joints: np.ndarray,
    skeleton: Skeleton,
    worst: np.ndarray,
) -> np.ndarray:
    """Fit constant offsets (J, 3) to the middle of the range that a clip requires, without outliers if possible.

    For long clips, a sample of the frames and the worst frames are used. `worst` (T,) contains the error of each frame.
    """
    sample = np.union1d(np.arange(0, len(joints), max(1, len(joints) // 1000)), np.argsort(worst)[-1000:])
    joints = joints[sample]
    local, root = refine_kinematics(local[sample], root[sample], offsets, joints, skeleton)
    least = np.inf
    best = offsets
    for share in (0.01, 0.0, 0.0):
        offsets = _middle_offsets(local, root, offsets, joints, skeleton.parents, share)
        local, root = refine_kinematics(local, root, offsets, joints, skeleton)
        most = float(_worst_errors(local, root, offsets, joints, skeleton.parents).max())
        if most < least:
            best, least = offsets, most
        if most <= _MOST_M:
            break
    return best


def _worst_errors(
    local: np.ndarray, root: np.ndarray, offsets: np.ndarray, joints: np.ndarray, parents: Sequence[int]
) -> np.ndarray:
    """Return the largest distance (T,) of a joint from its target in each frame."""
    worst = np.empty(len(joints))
    for start in range(0, len(joints), _CHUNK_FRAMES):
        part = slice(start, start + _CHUNK_FRAMES)
        made = forward_kinematics(local[part], root[part], offsets, parents)
        worst[part] = np.linalg.norm(made - joints[part], axis=-1).max(axis=-1)
    return worst


def _middle_offsets(
    local: np.ndarray,
    root: np.ndarray,
    offsets: np.ndarray,
    joints: np.ndarray,
    parents: Sequence[int],
    share: float,
) -> np.ndarray:
    """Compute offsets (J, 3) in the middle of the range that a clip requires, which keeps the largest error small.

    If a joint has several bones, their directions and lengths are fitted; all other bones keep the direction of the
    T-pose. At each end of the range, a `share` of the frames is ignored.
    """
    made = forward_kinematics(local, root, offsets, parents)
    result = offsets.copy()
    world: list[np.ndarray] = []
    children = _children(parents)
    for joint, parent in enumerate(parents):
        world.append(local[:, joint] if parent < 0 else rotations.multiply(world[parent], local[:, joint]))
        if parent < 0:
            continue
        way = rotations.rotate(
            rotations.conjugate(world[parent]), joints[:, joint] - (made[:, parent] + joints[:, parent]) / 2
        )
        if len(children[parent]) > 1:
            result[joint] = np.quantile(way, [share, 1.0 - share], axis=0).mean(axis=0)
        else:
            length = float(np.quantile(np.linalg.norm(way, axis=-1), [share, 1.0 - share]).mean())
            result[joint] *= length / max(float(np.linalg.norm(offsets[joint])), 1e-12)
    return result


_CHUNK_FRAMES = 512
_GOOD_ENOUGH_M = 0.003
_MOST_M = 0.009  # no joint should be farther than this from its target
_ROUNDS = 6
_STUBBORN_M = 0.007  # frames with a larger error get more rounds
_MORE_ROUNDS = 40
_LARGE_ERROR_M = 0.003  # errors beyond this weigh more so that no error stays large
_DAMPING = 1e-3


def refine_kinematics(
    local: np.ndarray, root: np.ndarray, offsets: np.ndarray, joints: np.ndarray, skeleton: Skeleton = HUMANML3D_22
) -> tuple[np.ndarray, np.ndarray]:
    """Spread the error due to constant bone lengths over the body so that no joint is far from its target.

    When bones are aimed one after the other, the whole error of a bending spine or of shrugging collars remains at one
    joint. This function adjusts all rotations and the root together, with Levenberg-Marquardt steps on the distances of
    the joints from their targets; large distances weigh more. Twist that moves no joint is unchanged.

    Args:
        local: (T, J, 4), initial local rotations.
        root: (T, 3), initial root positions.
        offsets: (J, 3), the body.
        joints: (T, J, 3), targets of the joints.
        skeleton: skeleton of the joints.

    Returns:
        Local rotations (T, J, 4) without sign jumps, and root positions (T, 3).
    """
    local, root = local.copy(), root.copy()
    for start in range(0, len(joints), _CHUNK_FRAMES):
        part = slice(start, start + _CHUNK_FRAMES)
        local[part], root[part], made = _refine(
            local[part], root[part], offsets, joints[part], skeleton.parents, _ROUNDS
        )
        worst = np.linalg.norm(made - joints[part], axis=-1).max(axis=-1)
        rest = start + np.flatnonzero(worst > _STUBBORN_M)
        if len(rest):
            local[rest], root[rest], _ = _refine(
                local[rest], root[rest], offsets, joints[rest], skeleton.parents, _MORE_ROUNDS
            )
    return _continuous(local), root


def _refine(
    local: np.ndarray, root: np.ndarray, offsets: np.ndarray, joints: np.ndarray, parents: Sequence[int], rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run rounds of `refine_kinematics` and return rotations, root positions and the resulting joints."""
    turning = [joint for joint, below in enumerate(_children(parents)) if below]
    above = np.zeros((len(turning), len(parents)), dtype=bool)  # whether a joint is a descendant of a turning one
    for joint in range(len(parents)):
        ancestor = parents[joint]
        while ancestor >= 0:
            above[turning.index(ancestor), joint] = True
            ancestor = parents[ancestor]
    size = 3 + 3 * len(turning)
    damping = np.full(len(joints), _DAMPING)
    made = forward_kinematics(local, root, offsets, parents)
    cost, weight = _cost(made, joints)
    for _ in range(rounds):
        error = joints - made
        # A small rotation w about a joint at p moves a descendant at q by w x (q - p).
        arms = (made[:, None] - made[:, turning, None]) * above[:, :, None]
        x, y, z = np.moveaxis(arms, -1, 0)
        slopes = np.zeros((len(joints), len(parents), 3, size))
        slopes[..., :3] = np.eye(3)
        turns = slopes[..., 3:].reshape(len(joints), len(parents), 3, len(turning), 3)
        x, y, z = (np.swapaxes(part, 1, 2) for part in (x, y, z))
        turns[..., 0, :, 1], turns[..., 0, :, 2] = z, -y
        turns[..., 1, :, 0], turns[..., 1, :, 2] = -z, x
        turns[..., 2, :, 0], turns[..., 2, :, 1] = y, -x
        slopes[..., 3:] = turns.reshape(len(joints), len(parents), 3, -1)
        slope = slopes.reshape(len(joints), -1, size)
        weighted = slope * np.repeat(weight, 3, axis=-1)[..., None]
        normal = np.swapaxes(weighted, -1, -2) @ slope
        mean = np.trace(normal, axis1=-2, axis2=-1) / size
        normal += np.eye(size) * (damping * mean + 1e-12)[:, None, None]
        step = np.linalg.solve(normal, np.swapaxes(weighted, -1, -2) @ error.reshape(len(joints), -1, 1))[..., 0]
        new_root = root + step[:, :3]
        new_local = _turned(local, step[:, 3:].reshape(len(joints), len(turning), 3), turning, parents)
        new_made = forward_kinematics(new_local, new_root, offsets, parents)
        new_cost, new_weight = _cost(new_made, joints)
        better = new_cost < cost
        damping = np.where(better, damping * 0.3, damping * 10.0)
        cost = np.where(better, new_cost, cost)
        pick = better[:, None, None]
        local, made = np.where(pick, new_local, local), np.where(pick, new_made, made)
        root, weight = np.where(better[:, None], new_root, root), np.where(better[:, None], new_weight, weight)
    return local, root, made


def _cost(made: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cost of each frame (T,) and the weight of each joint's error (T, J)."""
    squared = np.sum((made - joints) ** 2, axis=-1)
    excess = squared / _LARGE_ERROR_M**2
    return np.sum(squared * (1.0 + excess / 2.0), axis=-1), 1.0 + excess


def _turned(local: np.ndarray, turns: np.ndarray, turning: Sequence[int], parents: Sequence[int]) -> np.ndarray:
    """Apply world-space rotation vectors (T, K, 3) to the joints `turning`; return local rotations (T, J, 4)."""
    result = local.copy()
    world: list[np.ndarray] = []
    for joint, parent in enumerate(parents):
        above = world[parent] if parent >= 0 else None
        world.append(local[:, joint] if above is None else rotations.multiply(above, local[:, joint]))
        if joint in turning:
            turn = rotations.from_vector(turns[:, turning.index(joint)])
            if above is not None:
                turn = rotations.multiply(rotations.conjugate(above), rotations.multiply(turn, above))
            result[:, joint] = rotations.normalize(rotations.multiply(turn, local[:, joint]))
    return result


def inverse_kinematics(
    joints: np.ndarray, skeleton: Skeleton = HUMANML3D_22, *, offsets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit rotations of a skeleton with constant bone lengths to joint positions.

    Every bone is aimed from the position that forward kinematics gives its joint to the target of its end. Therefore,
    if bone lengths vary in the clip, the errors do not accumulate along a limb.

    Args:
        joints: (T, J, 3), world positions, Y up, in any unit.
        skeleton: skeleton of the joints.
        offsets: (J, 3), the T-pose of the body to fit; defaults to `rest_offsets`, with the clip's proportions.

    Returns:
        local_rotations: (T, J, 4), unit quaternions (w, x, y, z) relative to the parent, without sign jumps.
        root_positions: (T, 3), positions of joint 0.
        offsets: (J, 3), the T-pose: position of each joint in its parent's frame, in the unit of `joints`.
    """
    joints = np.asarray(joints, dtype=np.float64)
    if offsets is None:
        offsets = rest_offsets(joints, skeleton)
    local = np.zeros((*joints.shape[:-1], 4))
    local[..., 0] = 1.0
    for start in range(0, len(joints), _CHUNK_FRAMES):
        _aim(local[start : start + _CHUNK_FRAMES], joints[start : start + _CHUNK_FRAMES], offsets, skeleton.parents)
    return _continuous(local), joints[:, 0].copy(), offsets


def _aim(local: np.ndarray, joints: np.ndarray, offsets: np.ndarray, parents: Sequence[int]) -> None:
    """Fill in the local rotations (T, J, 4) that aim each bone at the target of its end."""
    children = _children(parents)
    positions = joints.copy()
    world = local.copy()
    for joint, parent in enumerate(parents):
        above = world[:, parent] if parent >= 0 else None
        if above is not None:
            positions[:, joint] = positions[:, parent] + rotations.rotate(above, offsets[joint])
        below = children[joint]
        ways = joints[:, below] - positions[:, joint, None]
        if len(below) > 1:
            fitted = rotations.from_matrix(_fit_rotation(offsets[below], ways))
            local[:, joint] = fitted if above is None else rotations.multiply(rotations.conjugate(above), fitted)
        elif below:
            way = ways[:, 0] if above is None else rotations.rotate(rotations.conjugate(above), ways[:, 0])
            local[:, joint] = rotations.between(offsets[below[0]], way)
        world[:, joint] = local[:, joint] if above is None else rotations.multiply(above, local[:, joint])


def rest_offsets(joints: np.ndarray, skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Compute a T-pose with the proportions of a clip.

    Bone lengths are the clip's medians. The bones of pelvis and chest keep their mean directions relative to each other
    in the clip; all others get the directions of a T-pose.

    Args:
        joints: (T, J, 3), world positions in any unit.
        skeleton: skeleton of the joints.

    Returns:
        (J, 3), position of each joint in its parent's frame; row 0 is zero.
    """
    joints = np.asarray(joints, dtype=np.float64)
    parents = np.asarray(skeleton.parents)
    bones = joints[:, 1:] - joints[:, parents[1:]]
    lengths = np.concatenate([[0.0], np.median(np.linalg.norm(bones, axis=-1), axis=0)])
    directions = t_pose_directions(skeleton)
    for joint, below in enumerate(_children(skeleton.parents)):
        if len(below) > 1:
            measured = _measured_directions(joints[:, below] - joints[:, joint, None], directions[below])
            if measured is not None:
                directions[below] = measured
    return directions * lengths[:, None]


def t_pose_directions(skeleton: Skeleton = HUMANML3D_22) -> np.ndarray:
    """Return the directions (J, 3) of the bones in a T-pose: Y up, left along +X, facing +Z; row 0 is zero.

    The rest directions of the features do not suit exported files: the arms hang down, HumanML3D's head points forward,
    and KIT-ML's body is mirrored.
    """
    directions = np.array(skeleton.rest_directions, dtype=np.float64)
    right_hip = skeleton.facing_joints[0]
    if directions[right_hip, 0] > 0.0:
        directions[:, 0] *= -1.0
    parents = skeleton.parents
    arms = set(skeleton.facing_joints[2:])
    for joint in range(1, len(parents)):
        parent = parents[joint]
        if parent in arms:
            arms.add(joint)
        if joint in arms and abs(directions[joint, 0]) < 0.5:
            directions[joint] = directions[parent]
        if directions[joint, 2] > 0.5 and directions[parent, 1] > 0.5:
            directions[joint] = directions[parent]
    return directions


def _children(parents: Sequence[int]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(joint)
    return children


def _measured_directions(ways: np.ndarray, rest: np.ndarray) -> np.ndarray | None:
    """Measure mean directions (K, 3) of a joint's bones in a body frame: x from right to left, y along the spine.

    Args:
        ways: (T, K, 3), from the joint to its children.
        rest: (K, 3), T-pose directions of the bones, which distinguish left, right and spine.

    Returns:
        Unit vectors, or None if the joint does not have such bones or they never span a frame.
    """
    left, right = rest[:, 0] > 0.5, rest[:, 0] < -0.5
    spine = ~(left | right)
    if not (left.any() and right.any() and spine.any()):
        return None
    ways = ways / np.maximum(np.linalg.norm(ways, axis=-1, keepdims=True), 1e-12)
    across = ways[:, left].mean(axis=1) - ways[:, right].mean(axis=1)
    along = ways[:, spine].mean(axis=1)
    middle = ways[:, left | right].mean(axis=1)
    # Hips are below the pelvis, collars above the chest; the midpoint of either pair lies on the axis.
    along = along + np.sign(np.median(np.sum(along * middle, axis=-1))) * middle
    forward = np.cross(across, along)
    usable = np.linalg.norm(forward, axis=-1) > 1e-3
    if not usable.any():
        return None
    across, forward, ways = across[usable], forward[usable], ways[usable]
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    frame = np.stack([across, np.cross(forward, across), forward], axis=-2)
    mean = np.mean(np.matmul(ways, np.swapaxes(frame, -1, -2)), axis=0)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12))


def _fit_rotation(rest: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Compute the rotations (T, 3, 3) that map vectors (K, 3) to vectors (T, K, 3) with the least squared error."""
    left, _, right = np.linalg.svd(np.swapaxes(ways, -1, -2) @ rest)
    left[..., -1] *= np.sign(np.linalg.det(left @ right))[..., None]  # a rotation, not a reflection
    return np.asarray(left @ right)


def _continuous(quaternions: np.ndarray) -> np.ndarray:
    """Choose between q and -q, in place, so that each frame (axis 0) is close to the previous one."""
    dots = np.einsum("...i,...i->...", quaternions[1:], quaternions[:-1])[..., None]
    quaternions[1:] *= np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return quaternions

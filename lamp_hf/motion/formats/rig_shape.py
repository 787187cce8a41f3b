"""Recognize a person's limbs by the shape of a rig: topology, bone lengths and poses, without names."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lamp_hf.motion.formats.hierarchy import Hierarchy

__all__ = ["ShapeMatch", "head_chain", "match_shape", "upright_pose"]

_MAX_CHAIN = 14  # maximum number of joints to examine in a limb
_MAX_POSES = 12
_SMALLEST_LIMB = 0.12  # relative to the longest path from the root to a tip
_ARM_TO_LEG = 0.65  # shoulder-to-wrist length / hip-to-ankle length of a person
_HEAD_BY_LEG = 0.13  # neck-to-head length / hip-to-ankle length


@dataclass(frozen=True)
class ShapeMatch:
    """Recognized limbs, or the reason why there are none.

    Attributes:
        found: joint index by HumanML3D name: hips, knees, ankles, shoulders, elbows and wrists; empty if refused.
        sidedness: mean cosine (0 to 1) of the evidence of feet and knees for left and right; below 0.3 it is a guess.
        reason: why the rig is refused; empty if it is not.
    """

    found: dict[str, int]
    sidedness: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class _Limb:
    """A pair of limbs with the same parent: the first, middle and outer joint of each, and the joints beyond."""

    parent: int
    joints: tuple[tuple[int, int, int], tuple[int, int, int]]
    tips: tuple[int | None, int | None]
    tops: tuple[int, int]
    length: float
    score: float


def match_shape(hierarchy: Hierarchy) -> ShapeMatch:
    """Find two legs and two arms on a trunk.

    Args:
        hierarchy: the joints; names are ignored.

    Returns:
        The limbs. Left and right are determined from the direction of the feet and of the bent knees.
    """
    tree = _Tree(hierarchy)
    legs, arms = tree.limb_pairs(is_leg=True), tree.limb_pairs(is_leg=False)
    if not legs or not arms or len({pair.tops for pair in [*legs, *arms]}) < 2:
        return ShapeMatch({}, reason="the hierarchy does not have two pairs of limbs like legs and arms")
    best: tuple[float, _Limb, _Limb] | None = None
    reasons: list[str] = []
    for leg in legs:
        for arm in arms:
            score, reason = tree.judge(leg, arm)
            if reason:
                reasons.append(reason)
            elif best is None or score > best[0]:
                best = score, leg, arm
    if best is None:
        telling = [reason for reason in reasons if not reason.startswith(("both", "one"))] or reasons
        worst = max(sorted(set(telling)), key=telling.count)
        return ShapeMatch({}, reason=f"no two pairs of limbs fit the legs and arms of a person ({worst})")
    _, leg, arm = best
    sidedness = tree.sidedness(leg, arm)
    left = 0 if sidedness >= 0 else 1
    same = tree.same_side(leg, arm)
    left_arm = left if same else 1 - left
    found = {}
    for side, which, which_arm in (("left", left, left_arm), ("right", 1 - left, 1 - left_arm)):
        for part, joint in zip(("hip", "knee", "ankle"), leg.joints[which], strict=True):
            found[f"{side}_{part}"] = joint
        for part, joint in zip(("shoulder", "elbow", "wrist"), arm.joints[which_arm], strict=True):
            found[f"{side}_{part}"] = joint
    return ShapeMatch(found, abs(sidedness))


def head_chain(hierarchy: Hierarchy, chest: int, arms: Sequence[int], hips: Sequence[int], leg: float) -> list[int]:
    """Find the joints from the neck to the top of the head: the chain from the chest, except arms, that rises most.

    Args:
        hierarchy: the joints.
        chest: the closest common ancestor of the arms.
        arms: both shoulders.
        hips: both hips.
        leg: length of a leg.

    Returns:
        The chain without the chest; empty if no chain rises above the chest.
    """
    tree = _Tree(hierarchy)
    pose = _upright(tree.poses, hips, arms)
    up = _unit(pose[list(arms)].mean(axis=0) - pose[list(hips)].mean(axis=0))
    return tree.rising_chain(chest, [*arms, *hips], pose, up, 0.05 * leg)


def upright_pose(hierarchy: Hierarchy, hips: Sequence[int], shoulders: Sequence[int]) -> np.ndarray:
    """Return the pose (J, 3), at rest or in motion, with the longest trunk, in which the body is not bent."""
    return _upright(_Tree(hierarchy).poses, hips, shoulders)


class _Tree:
    """A hierarchy with the data from which its shape is recognized."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self.hierarchy = hierarchy
        self.parents = hierarchy.parents
        self.children = hierarchy.children
        step = max(1, len(hierarchy.poses) // _MAX_POSES)
        self.frames = hierarchy.poses[::step]
        self.rest = hierarchy.rest_positions
        self.poses = self.frames if self.rest is None else np.concatenate([self.rest[None], self.frames])
        count = len(self.parents)
        self.bones = np.zeros(count)
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                self.bones[joint] = np.median(np.linalg.norm(self.poses[:, joint] - self.poses[:, parent], axis=-1))
        self.reach = np.zeros(count)
        for joint in range(count - 1, -1, -1):  # parents precede their children
            if self.parents[joint] >= 0:
                parent = self.parents[joint]
                self.reach[parent] = max(self.reach[parent], self.reach[joint] + self.bones[joint])

    def chain(self, joint: int) -> list[int]:
        """Return the joint and the longest chain from it to a tip."""
        chain = [joint]
        while self.children[chain[-1]] and len(chain) < _MAX_CHAIN:
            chain.append(max(self.children[chain[-1]], key=lambda child: self.reach[child] + self.bones[child]))
        return chain

    def limb_pairs(self, *, is_leg: bool) -> list[_Limb]:
        """Return all pairs of limbs with one parent and similar lengths that split into two long bones and an end."""
        pairs = []
        size = float(self.reach.max())
        for parent, children in enumerate(self.children):
            long = [c for c in children if self.reach[c] + self.bones[c] > _SMALLEST_LIMB * size]
            for first, second in combinations(long[:12], 2):
                total = [self.reach[c] + self.bones[c] for c in (first, second)]
                if not 0.3 < total[0] / total[1] < 3.3:  # one hand may hold a sword
                    continue
                limb = self._cut(parent, first, second, is_leg)
                if limb:
                    pairs.append(limb)
        return pairs

    def _cut(self, parent: int, first: int, second: int, is_leg: bool) -> _Limb | None:
        chains = self.chain(first), self.chain(second)
        ways = [np.cumsum([self.bones[joint] for joint in chain]) for chain in chains]
        shared = min(len(chains[0]), len(chains[1]))
        whole = min(ways[0][-1], ways[1][-1])  # joints that only one limb has do not belong to the body
        best: tuple[float, tuple[int, int, int]] | None = None
        for top, middle, end in combinations(range(shared), 3):
            score = sum(
                self._score_cut(chain, way, whole, top, middle, end, is_leg)
                for chain, way in zip(chains, ways, strict=True)
            )
            lengths = [(way[middle] - way[top], way[end] - way[middle]) for way in ways]
            if min(min(pair) for pair in lengths) <= 0:
                continue
            score -= 4 * sum(abs(float(np.log(a / b))) for a, b in zip(*lengths, strict=True))
            if best is None or score > best[0]:
                best = score, (top, middle, end)
        if best is None or best[0] < -3.0:
            return None
        top, middle, end = best[1]
        joints = tuple((chain[top], chain[middle], chain[end]) for chain in chains)
        tips = tuple(chain[end + 1] if end + 1 < len(chain) else None for chain in chains)
        length = float(np.mean([way[end] - way[top] for way in ways]))
        return _Limb(parent, joints, tips, (first, second), length, best[0])  # type: ignore[arg-type]

    def _score_cut(
        self, chain: list[int], way: np.ndarray, whole: float, top: int, middle: int, end: int, is_leg: bool
    ) -> float:
        upper, lower = way[middle] - way[top], way[end] - way[middle]
        if upper <= 0 or lower <= 0:
            return -1e3
        length = upper + lower
        score = -2.0 * abs(float(np.log(upper / lower)))
        for start, stop, bone in ((top, middle, upper), (middle, end, lower)):
            if stop - start > 1:  # joints within a bone are twist joints, which do not bend
                straight = np.linalg.norm(self.poses[:, chain[stop]] - self.poses[:, chain[start]], axis=-1) / bone
                score -= 12.0 * float(1.0 - np.minimum(straight, 1.0).min())
        beyond = max(whole - way[end], 0.0) / length
        if beyond < 0.02:
            score -= 0.5  # no hand, no foot
        elif beyond > 0.7:
            score -= beyond
        before = way[top] / length
        limit = 0.45 if is_leg else 0.7
        if before > limit:
            score -= 3.0 * (before - limit)
        score += min(float(length / whole), 1.0)
        if chain[end] in self.hierarchy.end_sites:
            score -= 0.3
        if not is_leg:
            if self._branches(chain[end]):
                score += 0.4  # fingers begin at the wrist
            if any(self._branches(joint) for joint in chain[middle + 1 : end]):
                score -= 1.0
        return score

    def _branches(self, joint: int) -> bool:
        """Return whether a joint has several chains as children, other than single helper joints."""
        return sum(bool(self.children[child]) for child in self.children[joint]) > 1

    def judge(self, leg: _Limb, arm: _Limb) -> tuple[float, str]:
        """Return how well two pairs match legs and arms, or the reason why they cannot be legs and arms."""
        above = self.hierarchy.is_above
        if leg.parent == arm.parent or set(leg.tops) & set(arm.tops):
            return 0.0, "both pairs have the same parent"
        if any(above(top, arm.parent) for top in leg.tops) or any(above(top, leg.parent) for top in arm.tops):
            return 0.0, "one pair descends from the other"
        hips = [joints[0] for joints in leg.joints]
        ankles = [joints[2] for joints in leg.joints]
        shoulders = [joints[0] for joints in arm.joints]
        wrists = [joints[2] for joints in arm.joints]
        ratio = arm.length / leg.length
        if not 0.35 < ratio < 1.15:
            return 0.0, f"the arms are {ratio:.2f} times as long as the legs"
        trunk = float(
            np.median(np.linalg.norm(self.poses[:, shoulders].mean(axis=1) - self.poses[:, hips].mean(axis=1), axis=-1))
        )
        if not 0.2 < trunk / leg.length < 1.6:
            return 0.0, f"the trunk is {trunk / leg.length:.2f} times as long as the legs"
        width = float(np.median(np.linalg.norm(self.poses[:, hips[0]] - self.poses[:, hips[1]], axis=-1)))
        if not 0.02 < width / leg.length < 0.9:
            return 0.0, f"the hips are {width / leg.length:.2f} leg lengths apart"
        moving = float(np.median(self._legs_along_trunk(self.frames, hips, ankles, shoulders)))
        resting = moving
        if self.rest is not None:
            resting = float(self._legs_along_trunk(self.rest[None], hips, ankles, shoulders)[0])
        if min(moving, resting) > -0.5 or (moving > 0.4 and resting > -0.8):
            return 0.0, "the legs do not extend in line with the trunk, as in four-legged animals"
        if self._arms_support(hips, ankles, shoulders, wrists, leg.length):
            return 0.0, "all four limbs point in the same direction across the trunk, as in four-legged animals"
        score = leg.score + arm.score - 1.5 * abs(float(np.log(ratio / _ARM_TO_LEG))) - (1.0 + min(moving, resting))
        score += 0.7 * above(leg.parent, arm.parent)
        pose = _upright(self.poses, hips, shoulders)
        up = _unit(pose[shoulders].mean(axis=0) - pose[hips].mean(axis=0))
        score += 0.7 * bool(self.rising_chain(arm.parent, [*arm.tops, *leg.tops], pose, up, 0.05 * leg.length))
        return score, ""

    @staticmethod
    def _legs_along_trunk(
        poses: np.ndarray, hips: Sequence[int], ankles: Sequence[int], shoulders: Sequence[int]
    ) -> np.ndarray:
        """Return the cosine between trunk and legs for each pose; -1 for a standing person."""
        middle = poses[:, list(hips)].mean(axis=1)
        trunk = _unit(poses[:, list(shoulders)].mean(axis=1) - middle)
        return np.sum(trunk * _unit(poses[:, list(ankles)].mean(axis=1) - middle), axis=-1)

    def _arms_support(
        self, hips: Sequence[int], ankles: Sequence[int], shoulders: Sequence[int], wrists: Sequence[int], leg: float
    ) -> bool:
        """Return whether legs and arms are parallel, and perpendicular to the trunk, in the rest pose."""
        if self.rest is None:
            return False
        rest = self.rest
        middle, upper = rest[list(hips)].mean(axis=0), rest[list(shoulders)].mean(axis=0)
        trunk = _unit(upper - middle)
        legs = _unit(rest[list(ankles)].mean(axis=0) - middle)
        arms = _unit(rest[list(wrists)].mean(axis=0) - upper)
        return bool(abs(trunk @ legs) < 0.6 and abs(trunk @ arms) < 0.6 and legs @ arms > 0.8)

    def sidedness(self, leg: _Limb, arm: _Limb) -> float:
        """Return the mean cosine (-1 to 1) of feet and knees with the front if the first leg is the left one."""
        cosines: list[float] = []
        for pose in self.poses:
            hips = [pose[joints[0]] for joints in leg.joints]
            up = _unit(np.mean([pose[joints[0]] for joints in arm.joints], axis=0) - np.mean(hips, axis=0))
            front = _unit(np.cross(hips[0] - hips[1], up))
            for (hip, knee, ankle), tip in zip(leg.joints, leg.tips, strict=True):
                shank = _unit(pose[ankle] - pose[knee])
                if tip is not None:
                    foot = pose[tip] - pose[ankle]
                    foot = foot - (foot @ shank) * shank
                    if np.linalg.norm(foot) > 0.04 * leg.length:
                        # Projected along the shank so that a foot raised behind the body is handled correctly too.
                        across = front - (front @ shank) * shank
                        if np.linalg.norm(across) > 0.5:
                            cosines.append(2.0 * float(_unit(foot) @ _unit(across)))
                line = _unit(pose[ankle] - pose[hip])
                bend = pose[knee] - pose[hip]
                bend = bend - (bend @ line) * line
                if np.linalg.norm(bend) > 0.05 * leg.length:
                    cosines.append(float(_unit(bend) @ front))
        return float(np.clip(np.mean(cosines), -1.0, 1.0)) if cosines else 0.0

    def same_side(self, leg: _Limb, arm: _Limb) -> bool:
        """Return whether the first arm is on the same side as the first leg."""
        hips = self.poses[:, leg.joints[0][0]] - self.poses[:, leg.joints[1][0]]
        shoulders = self.poses[:, arm.joints[0][0]] - self.poses[:, arm.joints[1][0]]
        return bool(np.mean(np.sum(_unit(hips) * _unit(shoulders), axis=-1)) > 0)

    def rising_chain(
        self, chest: int, others: Sequence[int], pose: np.ndarray, up: np.ndarray, height: float
    ) -> list[int]:
        """Return the chain from the chest, except limbs, that rises most above it; it must rise by a minimum height."""
        best: list[int] = []
        for child in self.children[chest]:
            if any(self.hierarchy.is_above(child, other) for other in others):
                continue
            chain = self.chain(child)
            rise = float(max(np.dot(pose[joint] - pose[chest], up) for joint in chain))
            if rise > height:
                best, height = chain, rise
        return best


def _upright(poses: np.ndarray, hips: Sequence[int], shoulders: Sequence[int]) -> np.ndarray:
    trunks = poses[:, list(shoulders)].mean(axis=1) - poses[:, list(hips)].mean(axis=1)
    return np.asarray(poses[int(np.argmax(np.linalg.norm(trunks, axis=-1)))])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

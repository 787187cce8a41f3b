"""Find the joints of a character that move its body: root, spine, neck, head, limbs, and the twist joints of limbs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.hierarchy import Hierarchy
from lamp_hf.motion.formats.rigs import RigMapping
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = ["SIDES", "Anatomy", "Limb", "find_anatomy"]

SIDES = ("left", "right")
_TWIST = re.compile(r"twist|roll|捩", re.IGNORECASE)
_STRAIGHT = 0.08  # a twist joint is at most this far from the line of its bone, relative to the bone's length


@dataclass(frozen=True)
class Limb:
    """Joints of an arm or a leg.

    Attributes:
        upper: shoulder or hip.
        lower: elbow or knee.
        end: wrist or ankle.
        tip: toes; None for arms, and for legs without toes.
        collar: collar of an arm; None if there is none.
        inline: joints between `upper` and `lower`, which share the twist of the upper bone.
        twists: other children of the upper bone that only twist, with their position along it (0 to 1).
    """

    upper: int
    lower: int
    end: int
    tip: int | None = None
    collar: int | None = None
    inline: tuple[int, ...] = ()
    twists: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Anatomy:
    """Joints of a body.

    Attributes:
        root: joint that moves the whole body; all others descend from it.
        pelvis: joints that turn with the hips, among them the root.
        spine: joints from above the pelvis to the chest.
        neck: joints from the neck to below the head; empty if there are none.
        head: the head; None if there is none.
        arms, legs: left, right.
    """

    root: int
    pelvis: tuple[int, ...]
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    head: int | None
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]


def find_anatomy(hierarchy: Hierarchy, rig: RigMapping, rest: np.ndarray, file_name: str) -> Anatomy:
    """Find the joints of a body.

    Args:
        hierarchy: candidate joints.
        rig: their mapping to HumanML3D's joints.
        rest: (J, 3), rest positions of the candidates.
        file_name: file name for messages.

    Raises:
        MotionFormatError: legs and arms do not descend from one joint, or a joint of a limb is no descendant of the
            one before.
    """
    finder = _Finder(hierarchy, rig, rest, file_name)
    hips = [finder.joint(f"{side}_hip") for side in SIDES]
    shoulders = [finder.joint(f"{side}_shoulder") for side in SIDES]
    limbs = [*hips, *shoulders]
    above = hierarchy.is_above
    root = finder.single("pelvis")
    if root is None or not all(above(root, limb) for limb in limbs):
        root = hierarchy.lowest_common(limbs)
    if root is None:
        raise MotionFormatError(
            f"{file_name}: legs and arms do not descend from one joint; give the character one root joint above them"
        )
    hip_parent = hierarchy.lowest_common(hips)
    pelvis = hierarchy.path(root, hip_parent) if hip_parent is not None else [root]
    neck = finder.single("neck")
    if neck is not None and (not above(root, neck) or any(above(neck, limb) for limb in limbs)):
        neck = None
    chest = hierarchy.lowest_common(shoulders)
    way = hierarchy.path(root, neck)[1:-1] if neck is not None else hierarchy.path(root, chest)[1:]  # type: ignore[arg-type]
    spine = [joint for joint in way if joint not in pelvis and not any(above(joint, hip) for hip in hips)]
    head = finder.single("head")
    if head is not None and (not above(root, head) or any(above(head, limb) for limb in limbs)):
        head = None
    if neck is None:
        necks = []
    elif head is not None and head != neck and above(neck, head):
        necks = hierarchy.path(neck, head)[:-1]
    else:
        necks = [neck]
        head = None if head == neck else head
    return Anatomy(
        root=root,
        pelvis=tuple(pelvis),
        spine=tuple(spine),
        neck=tuple(necks),
        head=head if head not in hierarchy.end_sites else None,
        arms=(finder.limb("left", False), finder.limb("right", False)),
        legs=(finder.limb("left", True), finder.limb("right", True)),
    )


class _Finder:
    """Looks up joints of one hierarchy."""

    def __init__(self, hierarchy: Hierarchy, rig: RigMapping, rest: np.ndarray, file_name: str) -> None:
        self.hierarchy, self.rig, self.rest, self.file_name = hierarchy, rig, rest, file_name

    def single(self, target: str) -> int | None:
        """Return the joint that HumanML3D's joint mostly comes from; None if it was placed between joints."""
        row = self.rig.weights[HUMANML3D_22.joint_names.index(target)]
        best = int(np.argmax(row))
        return self.rig.sources[best] if row[best] > 0.5 else None

    def joint(self, target: str) -> int:
        """Return the joint of a limb."""
        found = self.single(target)
        if found is None:
            raise MotionFormatError(
                f"{self.file_name}: the character needs one joint for {target}; "
                f"pass mapping={{{target!r}: ...}} with its name"
            )
        return found

    def limb(self, side: str, is_leg: bool) -> Limb:
        parts = ("hip", "knee", "ankle") if is_leg else ("shoulder", "elbow", "wrist")
        joints = [self.joint(f"{side}_{part}") for part in parts]
        for (part, joint), (before, parent) in zip(
            zip(parts[1:], joints[1:], strict=True), zip(parts, joints, strict=False), strict=False
        ):
            if joint == parent or not self.hierarchy.is_above(parent, joint):
                raise MotionFormatError(
                    f"{self.file_name}: {self._name(joint)!r} ({side}_{part}) is no descendant of "
                    f"{self._name(parent)!r} ({side}_{before}); pass mapping= with the joints of this limb"
                )
        upper, lower, end = joints
        tip = self.single(f"{side}_foot") if is_leg else None
        if tip is not None and (tip == end or not self.hierarchy.is_above(end, tip)):
            tip = None
        collar = None if is_leg else self._collar(side, upper)
        inline = self.hierarchy.path(upper, lower)[1:-1]
        return Limb(
            upper=upper,
            lower=lower,
            end=end,
            tip=tip,
            collar=collar,
            inline=tuple(inline) if all(self._along(upper, lower, joint) is not None for joint in inline) else (),
            twists=tuple(self._twists(upper, lower, [upper, *inline])),
        )

    def _collar(self, side: str, shoulder: int) -> int | None:
        collar = self.single(f"{side}_collar")
        other = self.joint("right_shoulder" if side == "left" else "left_shoulder")
        above = self.hierarchy.is_above
        if collar is None or collar == shoulder or not above(collar, shoulder) or above(collar, other):
            return None
        return collar

    def _twists(self, upper: int, lower: int, bone: Sequence[int]) -> list[tuple[int, float]]:
        found = []
        for joint in self.hierarchy.children[upper]:
            share = self._along(upper, lower, joint)
            if joint not in (*bone, lower) and share is not None and _TWIST.search(self._name(joint)):
                found.append((joint, share))
        return found

    def _along(self, upper: int, lower: int, joint: int) -> float | None:
        """Return the position of a joint along a bone, 0 to 1; None if it is not on the bone."""
        bone, way = self.rest[lower] - self.rest[upper], self.rest[joint] - self.rest[upper]
        length = float(np.linalg.norm(bone))
        share = float(way @ bone) / max(length**2, 1e-12)
        off = float(np.linalg.norm(way - share * bone))
        return float(np.clip(share, 0.0, 1.0)) if off < _STRAIGHT * length and -0.1 < share < 1.1 else None

    def _name(self, joint: int) -> str:
        return self.hierarchy.joint_names[joint]

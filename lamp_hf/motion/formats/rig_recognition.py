"""Recognize an unlisted rig: find limbs by the words in joint names, else by shape, then find or place the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from lamp_hf.motion.formats.hierarchy import Hierarchy
from lamp_hf.motion.formats.rig_names import match_names, sides_of
from lamp_hf.motion.formats.rig_shape import head_chain, match_shape, upright_pose

__all__ = ["Body", "limbs_hang_together", "recognize"]

_SIDES = ("left", "right")
_LEG = ("hip", "knee", "ankle")
_ARM = ("shoulder", "elbow", "wrist")
_LIMBS = tuple(f"{side}_{part}" for side in _SIDES for part in (*_LEG, *_ARM))
_HEAD_BY_LEG = 0.13  # neck-to-head length / hip-to-ankle length
_PELVIS_NEAR_HIPS = 0.35  # relative to hip-to-ankle length
_SURE = 0.3


@dataclass
class Body:
    """Joints of a person that were recognized in a hierarchy.

    Attributes:
        rows: for each HumanML3D joint except the spine, weights of source joints, which add up to 1.
        known_by: "list", "names", "shape" or "mapping".
        spine_end: last joint of the spine if the rig has no neck joint; None means the neck.
        doubts: sentences about guesses that may be wrong.
        notes: sentences about joints that were computed from others.
        refusal: why the hierarchy was not recognized as a person; empty if it was.
    """

    rows: dict[str, dict[int, float]]
    known_by: str
    spine_end: int | None = None
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusal: str = ""


def limbs_hang_together(hierarchy: Hierarchy, found: Mapping[str, int]) -> bool:
    """Return whether each joint found in a limb is a descendant of the one before."""
    for side in _SIDES:
        for limb in (_LEG, _ARM):
            chain = [found[f"{side}_{part}"] for part in limb if f"{side}_{part}" in found]
            for upper, lower in pairwise(chain):
                if upper == lower or not hierarchy.is_above(upper, lower):
                    return False
    return True


def recognize(hierarchy: Hierarchy, anchors: Mapping[str, int]) -> Body:
    """Recognize a person.

    Args:
        hierarchy: the joints.
        anchors: joints that the caller knows, by HumanML3D name.
    """
    names = {**match_names(hierarchy), **anchors}
    limbs = {target: names[target] for target in _LIMBS if target in names}
    body = Body({}, "names")
    if len(limbs) < len(_LIMBS) or not limbs_hang_together(hierarchy, limbs):
        shape = match_shape(hierarchy)
        if shape.reason:
            return Body({}, "shape", refusal=shape.reason)
        limbs, agreeing, swapped = _name_sides(shape.found, sides_of(hierarchy))
        body.known_by = "shape"
        evidence = (
            f"{agreeing} of its names agree" if agreeing else f"feet and knees agree by {shape.sidedness:.2f} of 1"
        )
        sure = "sure" if shape.sidedness > 0.6 or agreeing else "fairly sure" if shape.sidedness > _SURE else "a guess"
        listed = ", ".join(f"{target} = {hierarchy.joint_names[joint]!r}" for target, joint in sorted(limbs.items()))
        body.doubts.append(
            f"the joint names are unknown; limbs were recognized by shape, left and right are {sure} ({evidence}): "
            f"{listed} (pass mapping= or --mapping if wrong)"
        )
        if swapped:
            body.doubts.append("names and the direction of the feet disagree on left and right; the names are used")
        names = {**{k: v for k, v in names.items() if k in limbs and limbs[k] == v}, **limbs, **anchors}
        limbs.update({target: joint for target, joint in anchors.items() if target in _LIMBS})
    body.rows.update({target: {joint: 1.0} for target, joint in limbs.items()})
    _complete(hierarchy, body, names)
    return body


def _name_sides(found: Mapping[str, int], sides: Mapping[int, str]) -> tuple[dict[str, int], int, bool]:
    """Swap left and right if most names disagree; return the limbs, the number of agreeing names, and if swapped."""
    other = {target: target.replace("left", "?").replace("right", "left").replace("?", "right") for target in found}
    agreeing = sum(sides.get(joint) == target.partition("_")[0] for target, joint in found.items())
    opposite = sum(sides.get(joint) == other[target].partition("_")[0] for target, joint in found.items())
    if opposite > agreeing:
        return {other[target]: joint for target, joint in found.items()}, opposite, True
    return dict(found), agreeing, False


def _complete(hierarchy: Hierarchy, body: Body, names: Mapping[str, int]) -> None:
    """Find or place pelvis, neck, head, collars and feet."""
    limbs = {target: next(iter(row)) for target, row in body.rows.items()}
    hips = [limbs[f"{side}_hip"] for side in _SIDES]
    shoulders = [limbs[f"{side}_shoulder"] for side in _SIDES]
    if hierarchy.lowest_common(shoulders) is None:
        body.refusal = "the two arms are parts of different skeletons"
        return
    pose = upright_pose(hierarchy, hips, shoulders)
    leg = float(
        np.mean(
            [
                np.linalg.norm(pose[limbs[f"{side}_hip"]] - pose[limbs[f"{side}_knee"]])
                + np.linalg.norm(pose[limbs[f"{side}_knee"]] - pose[limbs[f"{side}_ankle"]])
                for side in _SIDES
            ]
        )
    )
    _find_pelvis(hierarchy, body, names, pose, hips, shoulders, leg)
    _find_head(hierarchy, body, names, pose, hips, shoulders, leg)
    for side in _SIDES:
        _find_foot(hierarchy, body, names, side, limbs[f"{side}_ankle"], limbs[f"{side}_knee"])
    _find_collars(hierarchy, body, names, shoulders)


def _find_pelvis(
    hierarchy: Hierarchy,
    body: Body,
    names: Mapping[str, int],
    pose: np.ndarray,
    hips: list[int],
    shoulders: list[int],
    leg: float,
) -> None:
    middle = pose[hips].mean(axis=0)
    for joint in (names.get("pelvis"), hierarchy.lowest_common([*hips, *shoulders]), hierarchy.lowest_common(hips)):
        if joint is not None and np.linalg.norm(pose[joint] - middle) < _PELVIS_NEAR_HIPS * leg:
            body.rows["pelvis"] = {joint: 1.0}
            return
    body.rows["pelvis"] = {hips[0]: 0.5, hips[1]: 0.5}
    body.notes.append("no pelvis near the hips; it was placed between them")


def _find_head(
    hierarchy: Hierarchy,
    body: Body,
    names: Mapping[str, int],
    pose: np.ndarray,
    hips: list[int],
    shoulders: list[int],
    leg: float,
) -> None:
    chest = hierarchy.lowest_common(shoulders)
    assert chest is not None  # `_complete` refuses arms without a common ancestor
    middle = pose[shoulders].mean(axis=0)
    up = middle - pose[hips].mean(axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-12)
    neck, head = names.get("neck"), names.get("head")
    chest_is_neck = float((pose[chest] - middle) @ up) > -0.05 * leg
    if head is not None and neck is None:
        between = hierarchy.path(chest, head)[1:-1] if hierarchy.is_above(chest, head) else []
        neck = between[0] if between else chest if chest_is_neck else None
    elif head is None:
        chain = head_chain(hierarchy, neck if neck is not None else chest, shoulders, hips, leg)
        if neck is None and chain:
            height = float((pose[chain[0]] - (pose[chest] if chest_is_neck else middle)) @ up)
            if height > 0.08 * leg and (chest_is_neck or _joints(hierarchy, chain) < 2):
                neck = chest if chest_is_neck else None
            else:
                neck, chain = chain[0], chain[1:]
        if chain:
            base = pose[neck] if neck is not None else middle
            inner = [joint for joint in _skull(hierarchy, chain, pose @ up) if joint not in hierarchy.end_sites]
            inner = inner or chain
            head = min(
                inner,
                key=lambda joint: abs(
                    np.log(max(float(np.linalg.norm(pose[joint] - base)), 1e-6) / (_HEAD_BY_LEG * leg))
                ),
            )
    if head is not None and head in hierarchy.end_sites:
        body.notes.append(f"no head; the end of {hierarchy.joint_names[hierarchy.parents[head]]!r} is used")
    if neck is not None:
        body.rows["neck"] = {neck: 1.0}
    elif head is not None:
        body.rows["neck"] = {head: 0.3, shoulders[0]: 0.35, shoulders[1]: 0.35}
        body.spine_end = head
        body.notes.append("no neck; it was placed between shoulders and head")
    else:
        body.rows["neck"] = {shoulders[0]: 0.5, shoulders[1]: 0.5}
        body.spine_end = chest
        body.notes.append("no neck; it was placed between the shoulders")
    if head is not None:
        body.rows["head"] = {head: 1.0}
    else:  # above the neck, at the usual distance of a head
        pelvis = next(iter(body.rows["pelvis"]))
        row = {joint: 1.25 * weight for joint, weight in body.rows["neck"].items()}
        row[pelvis] = row.get(pelvis, 0.0) - 0.25
        body.rows["head"] = row
        body.notes.append("no head; it was placed above the neck in the direction of the trunk")


def _skull(hierarchy: Hierarchy, chain: list[int], heights: np.ndarray) -> list[int]:
    """Return the part of a chain that may contain the head: up to where it descends, or hair, eyes or jaw begin."""
    part: list[int] = []
    for joint in chain:
        if part and heights[joint] < heights[part[-1]]:
            break
        part.append(joint)
        if sum(child not in hierarchy.end_sites for child in hierarchy.children[joint]) > 1:
            break
    return part


def _joints(hierarchy: Hierarchy, chain: list[int]) -> int:
    return sum(joint not in hierarchy.end_sites for joint in chain)


def _find_foot(hierarchy: Hierarchy, body: Body, names: Mapping[str, int], side: str, ankle: int, knee: int) -> None:
    target = f"{side}_foot"
    if target in names:
        body.rows[target] = {names[target]: 1.0}
        return
    children = hierarchy.children[ankle]
    if children:
        lengths = [float(np.linalg.norm(hierarchy.positions[child] - hierarchy.positions[ankle])) for child in children]
        toe = children[int(np.argmax(lengths))]
        body.rows[target] = {toe: 1.0}
        if body.known_by == "names":
            body.notes.append(f"no {target}; {hierarchy.joint_names[toe]!r} is used")
    else:
        body.rows[target] = {ankle: 1.1, knee: -0.1}
        body.notes.append(f"no {target} and no end of the ankle; it was placed just below the ankle")


def _find_collars(hierarchy: Hierarchy, body: Body, names: Mapping[str, int], shoulders: list[int]) -> None:
    chest = hierarchy.lowest_common(shoulders)
    for side, shoulder in zip(_SIDES, shoulders, strict=True):
        target = f"{side}_collar"
        between = hierarchy.path(chest, shoulder)[1:-1] if chest is not None else []
        if target in names:
            body.rows[target] = {names[target]: 1.0}
        elif between:
            body.rows[target] = {between[0]: 1.0}
        else:  # moved outward later, like all collars on the body's axis
            body.rows[target] = dict(body.rows["neck"])
            body.notes.append(f"no {target}; it was placed between neck and shoulder")

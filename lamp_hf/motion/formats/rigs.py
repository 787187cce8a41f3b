"""Map the joints of other rigs to the 22 joints of HumanML3D.

Listed rigs are recognized by their joint names; case, namespaces ("mixamorig:"), separators and prefixes shared by all
joints are ignored. Other rigs are recognized by the words in their joint names or by their shape (`rig_recognition`).
The spine is not mapped by name: rigs have one to five spine joints, so the three of HumanML3D are placed along the
rig's spine, at the same relative heights as in HumanML3D's skeleton.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.hierarchy import Hierarchy, depth_first
from lamp_hf.motion.formats.rig_recognition import Body, limbs_hang_together, recognize
from lamp_hf.motion.skeleton import HUMANML3D_22

__all__ = [
    "LAMP_HF_JOINT_NAMES",
    "RIGS",
    "Hierarchy",
    "JointSource",
    "Rig",
    "RigMapping",
    "depth_first",
    "resolve_mapping",
]

logger = logging.getLogger(__name__)

JointSource = str | Mapping[str, float]
"""Source of a joint: the name of a source joint, or weights of several, which add up to 1."""

_TARGETS = HUMANML3D_22.joint_names
_SPINE = ("spine1", "spine2", "spine3")
_REQUIRED = tuple(name for name in _TARGETS if name not in _SPINE)
# Relative heights of spine1-3 from pelvis to neck, from HumanML3D's bone lengths.
_SPINE_LENGTHS = np.asarray(HUMANML3D_22.bone_lengths)[[3, 6, 9, 12]]
_SPINE_FRACTIONS = np.cumsum(_SPINE_LENGTHS)[:3] / np.sum(_SPINE_LENGTHS)
# In HumanML3D, the hips are below the pelvis by 1.27 times half the distance between them. In most rigs, the root joint
# is on the hip line; if it were not raised, the retargeted hips would be too wide and the heading off by degrees.
_PELVIS_HEIGHT = 1.266
# HumanML3D's collars are at 0.45 of the way from the body's axis to the shoulders; in some rigs (CMU), both are on the
# axis.
_COLLAR_SHARE = 0.45
_COLLARS_ON_AXIS = 0.2
_KNOWN_BY = {
    "mapping": "mapping",
    "names": "recognized by its joint names",
    "shape": "recognized by its shape",
}


@dataclass(frozen=True)
class Rig:
    """Joint names of a family of rigs.

    Attributes:
        name: name in messages.
        sides: text that replaces {side} for the left and the right side.
        names: for each HumanML3D joint without its side, its possible names, best first.
        pelvis_lift_m: meters from the rig's pelvis up to HumanML3D's, along the spine; None means measured.
        spine: sources of spine1-3 if they are not placed by height; "pelvis" is the lifted pelvis.
    """

    name: str
    sides: tuple[str, str]
    names: Mapping[str, str]
    pelvis_lift_m: float | None = None
    spine: Mapping[str, JointSource] | None = None

    def candidates(self, target: str) -> list[str]:
        """Return the possible names of a HumanML3D joint in this rig, best first."""
        side, _, part = target.partition("_")
        if not part:
            return self.names[target].split("|")
        word = self.sides[0] if side == "left" else self.sides[1]
        return [name.format(side=word) for name in self.names[part].split("|")]


def _names(trunk: str, leg: str, arm: str) -> dict[str, str]:
    keys = ("pelvis", "neck", "head", "hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
    return dict(zip(keys, f"{trunk} {leg} {arm}".split(), strict=True))


_ONE_TO_ONE = {"spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2"}
_HUMAN_IK = _names(
    "Hips Neck Head",
    "{side}UpLeg {side}Leg {side}Foot {side}ToeBase|{side}Toe|{side}Toes|{side}FootEnd",
    "{side}Shoulder {side}Arm {side}ForeArm {side}Hand",
)

LAMP_HF_JOINT_NAMES: tuple[str, ...] = (
    "Hips",
    *("LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2"),
    *("LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm"),
    *("LeftForeArm", "RightForeArm", "LeftHand", "RightHand"),
)
"""Names of the 22 joints in files written by this package: Mixamo's, which tools for Blender and Unity support."""

LAMP_HF_RIG = Rig("lamp_hf", ("Left", "Right"), _HUMAN_IK, pelvis_lift_m=0.0, spine=_ONE_TO_ONE)

RIGS: tuple[Rig, ...] = (
    Rig(
        "HumanML3D or SMPL",
        ("left", "right"),
        _names(
            "pelvis neck head",
            "{side}_hip {side}_knee {side}_ankle {side}_foot",
            "{side}_collar {side}_shoulder {side}_elbow {side}_wrist",
        ),
        pelvis_lift_m=0.0,
        spine={name: name for name in _SPINE},
    ),
    Rig(
        "SMPL",
        ("L", "R"),
        _names(
            "Pelvis Neck Head",
            "{side}_Hip {side}_Knee {side}_Ankle {side}_Foot|{side}_Toe",
            "{side}_Collar|{side}_Thorax {side}_Shoulder {side}_Elbow {side}_Wrist",
        ),
        pelvis_lift_m=0.0,
        spine={name: name for name in _SPINE},
    ),
    Rig(
        "Bandai-Namco",
        ("L", "R"),
        _names(
            "Hips Neck Head",
            "UpperLeg_{side} LowerLeg_{side} Foot_{side} Toes_{side}",
            "Shoulder_{side} UpperArm_{side} LowerArm_{side} Hand_{side}",
        ),
        pelvis_lift_m=0.06,
        spine={
            "spine1": {"pelvis": 0.5, "Spine": 0.5},
            "spine2": {"Spine": 0.475, "Chest": 0.525},
            "spine3": "Chest",
        },
    ),
    Rig("Mixamo, LAFAN1, CMU or HumanIK", ("Left", "Right"), _HUMAN_IK),
    Rig(
        "Rokoko",
        ("Left", "Right"),
        _names(
            "Hips Neck Head",
            "{side}Thigh {side}Shin {side}Foot {side}Toe|{side}ToeBase|{side}FootEnd",
            "{side}Shoulder {side}Arm|{side}UpperArm {side}ForeArm|{side}LowerArm {side}Hand",
        ),
    ),
    Rig(
        "Xsens or CMU for 3ds Max",
        ("Left", "Right"),
        _names(
            "Hips|Hip Neck Head",
            "{side}Hip {side}Knee {side}Ankle|{side}Foot {side}Toe|{side}AnkleEnd|{side}FootEnd",
            "{side}Collar {side}Shoulder {side}Elbow {side}Wrist",
        ),
    ),
    Rig(
        "Xsens MVN",
        ("Left", "Right"),
        _names(
            "Pelvis|Hips Neck Head",
            "{side}UpperLeg {side}LowerLeg {side}Foot {side}Toe|{side}FootEnd",
            "{side}Shoulder {side}UpperArm {side}ForeArm|{side}LowerArm {side}Hand",
        ),
    ),
    Rig(
        "CMU for Daz",
        ("l", "r"),
        _names(
            "hip neck head",
            "{side}Thigh {side}Shin {side}Foot {side}Toe|{side}FootEnd",
            "{side}Collar {side}Shldr {side}ForeArm {side}Hand",
        ),
    ),
)


@dataclass(frozen=True)
class RigMapping:
    """Mapping from the joints of a file to the 22 joints.

    Attributes:
        rig: name of the rig, or "mapping" if the caller mapped every joint.
        sources: indices of the source joints.
        weights: (22, len(sources)); rows add up to 1.
        lift: (22,), share of the pelvis lift that is applied to each joint.
        lift_m: the lift in meters; None if `lift_units` is used.
        lift_units: the lift in units of the file.
        lift_from, lift_to: indices in `sources` that define the direction of the lift.
        recognized_by: "list" for a listed rig, "names" for words in joint names, "shape" for topology and proportions,
            "mapping" if the caller mapped every joint.
        guesses: descriptions of guesses.
    """

    rig: str
    sources: tuple[int, ...]
    weights: np.ndarray
    lift: np.ndarray
    lift_m: float | None
    lift_units: float
    lift_from: int
    lift_to: int
    recognized_by: str = "list"
    guesses: tuple[str, ...] = ()

    def source_names(self, joint_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return, for each of the 22 joints, the names of the source joints from which it is computed."""
        return {
            target: tuple(joint_names[self.sources[k]] for k in np.flatnonzero(row))
            for target, row in zip(_TARGETS, self.weights, strict=True)
        }

    def apply(self, positions: np.ndarray, meters_per_unit: float) -> np.ndarray:
        """Convert positions (T, len(sources), 3) in the file's unit to joints (T, 22, 3) in meters."""
        lift = self.lift_units if self.lift_m is None else self.lift_m / meters_per_unit
        joints = np.matmul(self.weights, positions)
        if lift:
            way = positions[:, self.lift_to] - positions[:, self.lift_from]
            length = np.linalg.norm(way, axis=-1, keepdims=True)
            joints += self.lift[:, None] * (lift * way / np.maximum(length, 1e-12))[:, None]
        return joints * meters_per_unit


def resolve_mapping(
    hierarchy: Hierarchy,
    mapping: Mapping[str, JointSource] | None = None,
    *,
    file_name: str = "motion",
    strict: bool = False,
) -> RigMapping:
    """Find the sources of the 22 joints from the list of rigs, the words in joint names, or the rig's shape.

    Guesses are logged: placed joints at level INFO, rigs recognized by shape at WARNING.

    Args:
        hierarchy: the joints of the file.
        mapping: sources by HumanML3D joint name. They take precedence over the sources of a recognized rig; for an
            unknown rig, all joints except spine1-3 can be given. If mapped by name, a pelvis is raised above the hip
            line as in HumanML3D, and collars on the body's axis are moved outward; joints mapped by weights are used
            unchanged.
        file_name: file name for messages.
        strict: refuse rigs recognized only by shape, and other doubtful guesses.

    Returns:
        The resolved mapping.

    Raises:
        MotionFormatError: neither names nor shape identify two legs and two arms, or the mapping contains unknown
            joints.
    """
    given = dict(mapping or {})
    if unknown := sorted(set(given) - set(_TARGETS)):
        raise MotionFormatError(
            f"{file_name}: the mapping has an unknown key {unknown[0]!r}; expected keys among {', '.join(_TARGETS)}"
        )
    if _is_own(hierarchy) and not given:
        rig: Rig | None = LAMP_HF_RIG
        found, missing = _match(LAMP_HF_RIG, hierarchy, given)
    else:
        rig, found, missing = _best_rig(hierarchy, given)
    if not missing:
        known_by = "list" if rig else "mapping"
        body = Body({target: {joint: 1.0} for target, joint in found.items()}, known_by)
    else:
        anchors = {
            target: joint for target, source in given.items() if (joint := _anchor(hierarchy, source)) is not None
        }
        body = recognize(hierarchy, anchors)
        if body.refusal:
            message = _missing_message(file_name, rig, missing, found, hierarchy)
            raise MotionFormatError(f"{message}. It was not recognized by shape either: {body.refusal}")
        rig = None
    used = {joint for row in body.rows.values() for joint in row}
    for joint in sorted(used):
        if f"{hierarchy.joint_names[joint]} #2" in hierarchy.joint_names:
            name = hierarchy.joint_names[joint]
            body.doubts.append(f"there are two joints {name!r}; using the first (pass mapping= or --mapping if wrong)")
    if body.doubts and strict:
        raise MotionFormatError(f"{file_name}: {body.doubts[0]}")
    for doubt in body.doubts:
        logger.warning("%s: %s", file_name, doubt)
    for note in body.notes:
        logger.info("%s: %s", file_name, note)
    return _Resolver(hierarchy, rig, body, given, file_name).resolve()


def _anchor(hierarchy: Hierarchy, source: JointSource) -> int | None:
    return hierarchy.find(source if isinstance(source, str) else max(source, key=source.__getitem__))


def _is_own(hierarchy: Hierarchy) -> bool:
    """Return whether the joints are those of files written by this package.

    Mixamo's files have the same names, but more joints, a namespace, or another order.
    """
    joints = [name for name in hierarchy.joint_names if not name.endswith(" End")]
    return joints == [LAMP_HF_JOINT_NAMES[index] for index in depth_first(HUMANML3D_22.parents)]


def _match(rig: Rig | None, hierarchy: Hierarchy, given: Mapping[str, JointSource]) -> tuple[dict[str, int], list[str]]:
    found: dict[str, int] = {}
    missing: list[str] = []
    for target in _REQUIRED:
        if target in given:
            continue
        indices = [hierarchy.find(name) for name in rig.candidates(target)] if rig else []
        index = next((index for index in indices if index is not None), None)
        if index is None:
            missing.append(target)
        else:
            found[target] = index
    return found, missing


def _best_rig(hierarchy: Hierarchy, given: Mapping[str, JointSource]) -> tuple[Rig | None, dict[str, int], list[str]]:
    """Return the first rig with the fewest missing joints; no rig if the mapping contains every joint."""
    if all(target in given for target in _REQUIRED):
        return None, {}, []
    best: tuple[Rig | None, dict[str, int], list[str]] | None = None
    for rig in RIGS:
        found, missing = _match(rig, hierarchy, given)
        if rig.spine:
            sources = [[source] if isinstance(source, str) else list(source) for source in rig.spine.values()]
            named = {name for names in sources for name in names}
            missing += sorted(name for name in named - {"pelvis"} if hierarchy.find(name) is None)
        if not missing and not limbs_hang_together(hierarchy, found):
            missing = [name for name in _REQUIRED if name not in given]
        if best is None or len(missing) < len(best[2]):
            best = rig, found, missing
        if not missing:
            break
    assert best is not None
    return best


def _missing_message(
    file_name: str, rig: Rig | None, missing: Sequence[str], found: Mapping[str, int], hierarchy: Hierarchy
) -> str:
    names = list(hierarchy.joint_names)
    listed = ", ".join(names[:80]) + (f" and {len(names) - 80} more" if len(names) > 80 else "")
    closest = ""
    if rig and found:
        pairs = ", ".join(f"{target} = {names[joint]!r}" for target, joint in found.items())
        closest = f" (closest rig: {rig.name}; found {pairs})"
    example = names[0] if names else "Hips"
    return (
        f"{file_name}: no joint found for {', '.join(missing)}{closest}; the file has {listed}. "
        f"Pass mapping={{{missing[0]!r}: {example!r}, ...}} with a joint of the file for each missing joint"
    )


class _Resolver:
    """Builds the weight rows of a `RigMapping`."""

    def __init__(
        self,
        hierarchy: Hierarchy,
        rig: Rig | None,
        body: Body,
        given: Mapping[str, JointSource],
        file_name: str,
    ) -> None:
        self._hierarchy = hierarchy
        self._rig = rig
        self._given = given
        self._file_name = file_name
        self._body = body
        self._rows: dict[str, dict[int, float]] = {target: dict(row) for target, row in body.rows.items()}
        self._lift: dict[str, float] = {"pelvis": 1.0}

    def resolve(self) -> RigMapping:
        for target in _TARGETS:  # in order, because a spine joint may be defined relative to the pelvis
            if target in self._given:
                self._rows[target] = self._weights_of(target, self._given[target])
        self._spread_collars()
        spine_end = self._body.spine_end
        path = self._spine_path(
            self._main_source("pelvis"), self._main_source("neck") if spine_end is None else spine_end
        )
        lift_m, lift_units = self._pelvis_lift(path)
        rig_spine = self._rig.spine if self._rig else None
        for k, target in enumerate(_SPINE):
            if target in self._given:
                continue
            if rig_spine:
                self._rows[target] = self._weights_of(target, rig_spine[target])
            else:
                self._place_on_spine(target, float(_SPINE_FRACTIONS[k]) * self._neck_share(path), path, lift_units)
        lift_ends = (path[0], path[1])
        sources = sorted({index for row in self._rows.values() for index in row} | set(lift_ends))
        weights = np.zeros((len(_TARGETS), len(sources)))
        for target, row in self._rows.items():
            for index, weight in row.items():
                weights[_TARGETS.index(target), sources.index(index)] += weight
        return RigMapping(
            rig=self._rig.name if self._rig else _KNOWN_BY[self._body.known_by],
            recognized_by=self._body.known_by,
            guesses=(*self._body.doubts, *self._body.notes),
            sources=tuple(sources),
            weights=weights,
            lift=np.array([self._lift.get(target, 0.0) for target in _TARGETS]),
            lift_m=lift_m,
            lift_units=lift_units,
            lift_from=sources.index(lift_ends[0]),
            lift_to=sources.index(lift_ends[1]),
        )

    def _weights_of(self, target: str, source: JointSource) -> dict[int, float]:
        parts = {source: 1.0} if isinstance(source, str) else dict(source)
        row: dict[int, float] = {}
        for name, weight in parts.items():
            if name == "pelvis" and target in _SPINE and self._hierarchy.find(name) is None:
                for index, share in self._rows["pelvis"].items():
                    row[index] = row.get(index, 0.0) + share * weight
                self._lift[target] = weight
                continue
            found = self._hierarchy.find(name)
            if found is None:
                raise MotionFormatError(
                    f"{self._file_name}: the mapping uses {name!r} for {target}, but the file has no such joint; "
                    f"it has {', '.join(self._hierarchy.joint_names[:80])}"
                )
            row[found] = row.get(found, 0.0) + float(weight)
        if not abs(sum(row.values()) - 1.0) <= 1e-6:  # `not` also refuses NaN
            raise MotionFormatError(f"{self._file_name}: the weights of {target} in the mapping must add up to 1")
        return row

    def _main_source(self, target: str) -> int:
        row = self._rows[target]
        return max(row, key=row.__getitem__)

    def _spread_collars(self) -> None:
        """Move collars that lie on the body's axis toward the shoulders."""
        if any(not isinstance(self._given.get(name, ""), str) for name in ("left_collar", "right_collar")):
            return
        widths = [
            np.linalg.norm(self._position(f"left_{part}") - self._position(f"right_{part}"))
            for part in ("collar", "shoulder")
        ]
        if widths[0] < _COLLARS_ON_AXIS * widths[1]:
            for side in ("left", "right"):
                collar, shoulder = self._rows[f"{side}_collar"], self._rows[f"{side}_shoulder"]
                row = {index: (1.0 - _COLLAR_SHARE) * weight for index, weight in collar.items()}
                for index, weight in shoulder.items():
                    row[index] = row.get(index, 0.0) + _COLLAR_SHARE * weight
                self._rows[f"{side}_collar"] = row

    def _spine_path(self, pelvis: int, neck: int) -> list[int]:
        """Return the joints from pelvis to neck, without joints that coincide with the one before (CMU's LowerBack)."""
        positions = self._hierarchy.positions
        path = self._hierarchy.path(pelvis, neck)
        tolerance = 0.02 * np.linalg.norm(positions[neck] - positions[pelvis])
        kept = [path[0]]
        for joint in path[1:-1]:
            if np.linalg.norm(positions[joint] - positions[kept[-1]]) > tolerance:
                kept.append(joint)
        return [*kept, path[-1]]

    def _pelvis_lift(self, path: Sequence[int]) -> tuple[float | None, float]:
        """Return the lift of the pelvis along the first bone of the spine: (meters or None, units of the file)."""
        if not isinstance(self._given.get("pelvis", ""), str):
            return 0.0, 0.0
        if self._rig and self._rig.pelvis_lift_m is not None:
            return self._rig.pelvis_lift_m, 0.0
        positions = self._hierarchy.positions
        left, right = (self._position(name) for name in ("left_hip", "right_hip"))
        way = positions[path[1]] - positions[path[0]]
        height = np.dot(positions[path[0]] - (left + right) / 2, way / max(float(np.linalg.norm(way)), 1e-12))
        lift = _PELVIS_HEIGHT * np.linalg.norm(left - right) / 2 - height
        # Less than half the distance to the neck, for any proportions.
        limit = 0.4 * np.linalg.norm(positions[path[-1]] - positions[path[0]])
        return None, float(np.clip(lift, 0.0, limit))

    def _neck_share(self, path: Sequence[int]) -> float:
        """Return the share of the spine's path below the neck: less than 1 if the path ends at the head."""
        if self._body.spine_end is None:
            return 1.0
        positions = self._hierarchy.positions
        length = float(np.linalg.norm(positions[path[-1]] - positions[path[0]]))
        return float(np.clip(np.linalg.norm(self._position("neck") - positions[path[0]]) / (length + 1e-12), 0.5, 1.0))

    def _position(self, target: str) -> np.ndarray:
        row = self._rows[target]
        return np.asarray(sum(weight * self._hierarchy.positions[index] for index, weight in row.items()))

    def _place_on_spine(self, target: str, fraction: float, path: Sequence[int], lift: float) -> None:
        """Place a spine joint at a share of the way from the lifted pelvis along the spine to the neck."""
        positions = self._hierarchy.positions[list(path)]
        heights = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(positions, axis=0), axis=-1))])
        start = min(lift, float(heights[-1]))
        height = start + fraction * (float(heights[-1]) - start)
        above = int(np.clip(np.searchsorted(heights, height), 1, len(path) - 1))
        share = (height - heights[above - 1]) / max(heights[above] - heights[above - 1], 1e-12)
        self._rows[target] = {path[above - 1]: 1.0 - float(share), path[above]: float(share)}

"""Recognize the joints of a person by the words in their names: "J_Bip_L_UpperLeg", "thigh.L" and "左足" are hips.

A name is split into a side and the remaining words. The words determine the possible joints with a rank for their
reliability: "leg" is a knee below an "upleg" but a hip above a "shin". The best-ranked joints that follow each other in
the right order are chosen. Joints with additional words, such as twist and roll joints, fingers and helpers, are never
chosen for limbs.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from lamp_hf.motion.formats.hierarchy import Hierarchy

__all__ = ["match_names", "sides_of"]

_WORDS: Mapping[str, str] = {
    # "rank:word word ...", best first
    "hip": "3:thigh upleg upperleg uleg femur upperthigh upprleg 2:hip ashi momo 1:leg",
    "knee": "3:knee calf shin lowerleg lowleg loleg tibia hiza shank crus legbelow 2:leg",
    "ankle": "3:ankle ashikubi talus 2:foot feet",
    "foot": "3:toe toes toebase ball forefoot tsumasaki football balls toebone 2:metatarsals midfoot 1:foot",
    "collar": "3:clavicle collar collarbone clav scapula 2:shoulder kata innershoulder",
    "shoulder": "3:upperarm uparm uarm humerus shldr uppearm 2:arm ude 1:shoulder",
    "elbow": "3:elbow forearm lowerarm lowarm loarm farm radius hiji 2:ulna",
    "wrist": "3:wrist tekubi 2:hand palm",
    "pelvis": "3:hips pelvis spinebase hipcenter hipscenter 2:hip lowertorso koshi 1:root lowerbody kahanshin waist",
    "neck": "3:neck lowerneck necklower neckbase kubi 2:necktwist",
    "head": "3:head atama 2:skull upperneck",
}
_JAPANESE: Mapping[str, str] = {  # longer words first
    **{
        "つま先": "toe",
        "足首": "ankle",
        "手首": "wrist",
        "ひざ": "knee",
        "ヒザ": "knee",
        "膝": "knee",
        "ひじ": "elbow",
    },
    **{
        "ヒジ": "elbow",
        "肘": "elbow",
        "上半身": "upperbody",
        "下半身": "lowerbody",
        "センター": "center",
        "捩": "twist",
    },
    **{"親指": "thumb", "人指": "index", "中指": "middle", "薬指": "ring", "小指": "little", "指": "finger"},
    **{"足": "thigh", "肩": "collar", "腕": "upperarm", "首": "neck", "頭": "head", "腰": "waist", "左": "left"},
    **{"右": "right", "目": "eye"},
}
_SIDES = {"left": "left", "l": "left", "lt": "left", "lft": "left", "hidari": "left"}
_SIDES |= {"right": "right", "r": "right", "rt": "right", "rgt": "right", "migi": "right"}
_NEUTRAL = {"jnt", "joint", "jt", "bone", "bn", "bend", "def", "c", "m", "bind", "sk", "skel", "rig", "b", "center"}
_NEUTRAL |= {"mixamorig", "actor", "character", "human", "avatar"}
_PREFIX = re.compile(
    r"^(?:mixamorig\d*|CC_Base|J_Bip|ValveBiped|Bip\d*|Character\d*|DEF|Armature)[\s_.:-]+", re.IGNORECASE
)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_a-zA-Z]+")
_LIMBS = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
_OPTIONAL = {"ankle": "foot", "shoulder": "collar"}
_MAX_CANDIDATES = 12


def _ranks() -> dict[str, dict[str, int]]:
    ranks: dict[str, dict[str, int]] = {}
    for part, text in _WORDS.items():
        rank = 0
        for word in text.split():
            if ":" in word:
                number, word = word.split(":")
                rank = int(number)
            ranks.setdefault(word, {})[part] = rank
    return ranks


_RANKS = _ranks()


def match_names(hierarchy: Hierarchy) -> dict[str, int]:
    """Find joints by the words in their names.

    Args:
        hierarchy: the joints; positions are ignored.

    Returns:
        Joint index by HumanML3D name. A limb is found completely or not at all; pelvis, neck, head, feet and collars
        may be missing.
    """
    candidates: dict[tuple[str, str], list[tuple[int, int]]] = {}
    shared = _shared_word(hierarchy)
    for joint, name in enumerate(hierarchy.joint_names):
        if joint in hierarchy.end_sites:
            continue
        side, word = _read(name, shared)
        for part, rank in _RANKS.get(word, {}).items():
            candidates.setdefault((side, part), []).append((joint, rank))
    found: dict[str, int] = {}
    for side in ("left", "right"):
        for limb in _LIMBS:
            found |= {f"{side}_{part}": joint for part, joint in _best_limb(hierarchy, candidates, side, limb).items()}
    limbs = list(found.values())
    for part in ("pelvis", "neck", "head"):
        # A pelvis is an ancestor of all limbs; neck and head do not descend from any. Among equal ranks, prefer the
        # joint that is higher in the hierarchy.
        fitting = [
            (rank, -hierarchy.depth(joint), -joint)
            for joint, rank in candidates.get(("", part), [])
            if (all(hierarchy.is_above(joint, limb) for limb in limbs) if part == "pelvis" else True)
            and not any(hierarchy.is_above(limb, joint) for limb in limbs)
            and not (part == "head" and "neck" in found and hierarchy.is_above(joint, found["neck"]))
        ]
        if fitting:
            found[part] = -max(fitting)[2]
    return found


def sides_of(hierarchy: Hierarchy) -> dict[int, str]:
    """Return the side, "left" or "right", by joint index, for all joints whose names contain one."""
    shared = _shared_word(hierarchy)
    sides = {joint: _read(name, shared)[0] for joint, name in enumerate(hierarchy.joint_names)}
    return {joint: side for joint, side in sides.items() if side}


def _best_limb(
    hierarchy: Hierarchy,
    candidates: Mapping[tuple[str, str], list[tuple[int, int]]],
    side: str,
    limb: tuple[str, str, str],
) -> dict[str, int]:
    """Return the best-ranked joints of a limb, each a descendant of the one before; higher joints win ties."""
    chains: list[tuple[float, list[int]]] = [(0.0, [])]
    for part in limb:
        chains = [
            (score + rank - 0.01 * hierarchy.depth(joint), [*chain, joint])
            for score, chain in chains
            for joint, rank in candidates.get((side, part), [])[:_MAX_CANDIDATES]
            if not chain or (joint != chain[-1] and hierarchy.is_above(chain[-1], joint))
        ]
    best: tuple[float, dict[str, int]] = (0.0, {})
    for score, chain in chains:
        parts = dict(zip(limb, chain, strict=True))
        for part, optional in _OPTIONAL.items():
            if part not in parts:
                continue
            near = parts[part]
            fitting = [
                (rank - 0.01 * hierarchy.depth(joint), -joint)
                for joint, rank in candidates.get((side, optional), [])
                if joint not in chain
                and (hierarchy.is_above(joint, near) if optional == "collar" else hierarchy.is_above(near, joint))
            ]
            if fitting:
                parts[optional] = -max(fitting)[1]
                score += max(fitting)[0]
        if score > best[0]:
            best = score, parts
    return best[1]


def _shared_word(hierarchy: Hierarchy) -> str:
    """Return the first word of most names, such as "character" in "Character1_Hips", or an empty string."""
    first = Counter(
        _split(name)[0]
        for joint, name in enumerate(hierarchy.joint_names)
        if joint not in hierarchy.end_sites and len(_split(name)) > 1
    )
    word, count = first.most_common(1)[0] if first else ("", 0)
    is_prefix = count > 0.6 * (len(hierarchy.joint_names) - len(hierarchy.end_sites))
    return word if is_prefix and word not in _SIDES else ""


def _split(name: str) -> list[str]:
    """Return the words of a name in lower case, without namespace, usual prefixes, numbers and filler words."""
    name = unicodedata.normalize("NFKC", name).strip()
    name = _PREFIX.sub("", re.split(r"[:|]", name)[-1])
    for word, english in _JAPANESE.items():
        name = name.replace(word, f" {english} ")
    words = [word.lower() for word in _WORD.findall(name)]
    return [word for word in words if word not in _NEUTRAL and not word.isdigit()]


def _read(name: str, shared: str) -> tuple[str, str]:
    """Split a name into its side ("left", "right" or "") and the remaining words, joined."""
    words = _split(name)
    if shared and words[:1] == [shared]:
        words = words[1:]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    rest = "".join(word for word in words if word not in _SIDES)
    if len(set(sides)) == 1:
        return sides[0], rest
    if sides:
        return "", "?"  # both sides
    if rest not in _RANKS:
        for mark in ("left", "right", "hidari", "migi", "l", "r", "lf", "rf"):
            for cut in (rest.removeprefix(mark), rest.removesuffix(mark)):
                if cut != rest and cut in _RANKS:
                    return _SIDES.get(mark) or _SIDES[mark[0]], cut
    return "", rest

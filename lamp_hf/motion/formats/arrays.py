"""Motions as NumPy files: `.npy` contains only joints or features, `.npz` also frame rate, skeleton and caption.

Arrays and archives from other projects can be read too: joints of SMPL bodies, batches of one clip, MDM's layout, pose
parameters from AMASS and others, and Kimodo's archives.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lamp_hf.files import atomic_path
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.formats.detection import check_unit_and_up_axis, standardize
from lamp_hf.motion.formats.npy import open_archive, read_array
from lamp_hf.motion.formats.smpl import FPS_NAMES, find_poses, pose_joints
from lamp_hf.motion.limits import LARGEST_M, MAX_FRAMES, check_fps, check_text
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, SKELETONS, Skeleton

__all__ = ["motion_of_array", "read_npy", "read_npz", "write_npy", "write_npz"]

logger = logging.getLogger(__name__)

# Numbers of joints of models whose first 22 joints are HumanML3D's: SMPL (24, and 45 with points on the skin), SMPL-H
# (52, 73), SMPL-X (55, 127, 144).
_SMPL_KIN = {24: "SMPL", 45: "SMPL", 52: "SMPL-H", 73: "SMPL-H", 55: "SMPL-X", 127: "SMPL-X", 144: "SMPL-X"}
_VIEWS = ("features", "joints", "posed_joints", "motion", "keypoints3d", "joints3d", "positions")
_FLAGS = ("own_body", "final_feet")  # of archives written by this package
_DEFAULT_RATES = {"posed_joints": 30.0}  # Kimodo's archives do not contain the rate
_SPLIT = "save each separately: np.save(f'clip{i}.npy', clips[i])"


def write_npy(motion: Motion, path: str | os.PathLike[str], *, view: str = "joints") -> None:
    """Write one array.

    Args:
        motion: the motion.
        path: the file.
        view: "joints", (T, J, 3), meters, or "features", (T, D).
    """
    if view not in ("joints", "features"):
        raise ValueError(f"view={view!r} is unknown; choose 'joints' or 'features'")
    with atomic_path(path) as temporary:
        np.save(temporary, getattr(motion, view), allow_pickle=False)


def write_npz(motion: Motion, path: str | os.PathLike[str]) -> None:
    """Write a complete motion; reading the file gives an equal motion.

    Raises:
        MotionFormatError: the caption is too long to be read back.
    """
    made_of = "joints" if motion.made_of_joints else "features"
    values: dict[str, Any] = {
        made_of: getattr(motion, made_of),
        "fps": motion.fps,
        "skeleton": motion.skeleton.name,
        "own_body": motion.own_body,
    }
    if motion.final_feet:
        values["final_feet"] = True
    if motion.text is not None:
        values["text"] = check_text(motion.text, "a caption")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **values)


def read_npy(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, Any] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> Motion:
    """Read joints or features, which are distinguished by their shape.

    Args:
        path: the file.
        mapping: refused if passed, because arrays do not name their joints.
        fps: frames per second, which the file does not contain; defaults to the rate of the skeleton's data set.
        unit: unit of joints, as for BVH; detected by default.
        up_axis: up axis of joints, as for BVH; detected by default.
        strict: refuse doubtful readings.

    Raises:
        MotionFormatError: the file is damaged, too large, not an array of numbers, or has an unknown shape.
    """
    path = Path(path)
    _no_mapping(mapping, path)
    _check_options(fps, unit, up_axis, path)
    with path.open("rb") as file:
        if file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise MotionFormatError(
                f"{path.name}: not a NumPy file but a pickle, which is never loaded {_pickle_hint(path)}"
            )
        file.seek(0)
        try:
            array = read_array(file, path.name)
        except MotionFormatError as error:
            if "objects are never loaded" in str(error):
                raise MotionFormatError(f"{error}. {_pickle_hint(path)}") from None
            raise
    return motion_of_array(array, path, fps=fps, unit=unit, up_axis=up_axis, strict=strict)


def read_npz(
    path: str | os.PathLike[str],
    *,
    mapping: Mapping[str, Any] | None = None,
    fps: float | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
) -> Motion:
    """Read an archive written by `write_npz` or by another program.

    Supported are arrays named `features`, `joints`, `posed_joints` (Kimodo) or `motion` (MDM), a single array of any
    name, and pose parameters of SMPL, SMPL-H and SMPL-X: `poses` and `trans` (AMASS) or `global_orient`, `body_pose`
    and `transl` (SMPL-X, GVHMR), from which the joints of a mean body are computed; see `lamp_hf.motion.formats.smpl`.

    Args:
        path: the file.
        mapping: as for `read_npy`.
        fps: frames per second; overrides the file's.
        unit: unit of joints, as for BVH; detected by default.
        up_axis: up axis of joints, as for BVH; detected by default.
        strict: refuse doubtful readings.

    Raises:
        MotionFormatError: as for `read_npy`, or the archive does not contain any of these arrays.
    """
    path = Path(path)
    _no_mapping(mapping, path)
    _check_options(fps, unit, up_axis, path)
    with open_archive(path) as archive:
        names = archive.names
        view = next((name for name in _VIEWS if name in names), None)
        poses = find_poses(names) if view is None else None
        others = [name for name in names if name not in (*FPS_NAMES, "text", "skeleton", *_FLAGS)]
        if view is None and poses is None and len(others) == 1:  # `np.savez(path, array)` names it arr_0
            view = others[0]
        if view is None and poses is None:
            found = ", ".join(sorted(names)[:10])[:300] or "nothing"
            raise MotionFormatError(
                f"{path.name}: expected an array 'joints' or 'features', or SMPL's 'poses' and 'trans', found {found}"
            )
        wanted = [view] if view is not None else poses.names if poses is not None else []
        arrays = {name: archive.read(name) for name in wanted}
        texts = ("skeleton", "text")
        extra = [name for name in (*texts, *FPS_NAMES, *_FLAGS) if name in names and name not in arrays]
        arrays |= {name: archive.read(name, text=name in texts) for name in extra}
    fps_name = next((name for name in FPS_NAMES if name in arrays), None)
    if fps is None and fps_name is not None:
        fps = _check_fps(_scalar(arrays, fps_name, float, path), path, fps_name)
    if view is None and poses is not None:
        return _motion_of_poses(poses, arrays, path, fps=fps, unit=unit, up_axis=up_axis, strict=strict)
    assert view is not None
    skeleton = _scalar(arrays, "skeleton", str, path)
    if skeleton is not None and skeleton not in SKELETONS:
        raise MotionFormatError(f"{path.name}: unknown skeleton {skeleton[:60]!r}; known: {', '.join(SKELETONS)}")
    own_body = _scalar(arrays, "own_body", bool, path)
    ours = own_body is not None
    text = _scalar(arrays, "text", str, path)
    return motion_of_array(
        arrays[view],
        path,
        fps=fps if fps is not None else _DEFAULT_RATES.get(view),
        skeleton=None if skeleton is None else SKELETONS[skeleton],
        text=None if text is None else _named(path, check_text, text),
        # Files written by this package are always in meters with Y up.
        unit=unit or ("m" if ours else None),
        up_axis=up_axis or ("y" if ours else None),
        strict=strict,
        own_body=own_body,
        final_feet=bool(_scalar(arrays, "final_feet", bool, path)),
    )


def _pickle_hint(path: Path) -> str:
    target = f"{path.stem}.npz"
    return (
        '(if you trust the file, convert it: python -c "import numpy as np; '
        f"d = np.load({path.name!r}, allow_pickle=True).item(); "
        "[np.savez(f'clip{i}.npz', motion=m[..., :n], fps=20) for i, (m, n) in enumerate(zip(d['motion'], "
        "d['lengths']))]\""
        if path.suffix == ".npy"
        else '(if you trust the file, convert it: python -c "import pickle, numpy as np; '
        f"np.savez({target!r}, **pickle.load(open({path.name!r}, 'rb')))\""
    ) + ")"


def _no_mapping(mapping: Mapping[str, Any] | None, path: Path) -> None:
    if mapping:
        raise MotionFormatError(
            f"{path.name}: a mapping names joints, but arrays do not name theirs (reorder the array instead)"
        )


def _check_options(fps: float | None, unit: str | None, up_axis: str | None, path: Path) -> None:
    check_unit_and_up_axis(unit, up_axis, path.name)
    if fps is not None:
        _check_fps(fps, path)


def _check_fps(fps: object, path: Path, what: str = "fps") -> float:
    return float(_named(path, check_fps, fps, what))


def _named(path: Path, check: Any, *values: Any) -> Any:
    """Run a check and add the file's name to its error."""
    try:
        return check(*values)
    except MotionFormatError as error:
        raise MotionFormatError(f"{path.name}: {error}") from error


def _scalar(arrays: Mapping[str, np.ndarray], name: str, kind: type, path: Path) -> Any:
    """Return the value of an array of shape () or (1,), as many programs write it."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.size != 1 or (array.dtype.kind == "U") != (kind is str):
        raise MotionFormatError(
            f"{path.name}: expected {name!r} to be one {kind.__name__}, found {array.dtype} of shape {array.shape}"
        )
    try:
        return kind(array.reshape(-1)[0].item())
    except (ValueError, OverflowError) as error:  # invalid Unicode characters
        raise MotionFormatError(f"{path.name}: {name!r} is damaged ({error})") from error


def _motion_of_poses(
    poses: Any, arrays: Mapping[str, np.ndarray], path: Path, *, fps: float | None, **options: Any
) -> Motion:
    _check_frames(max((len(arrays[name]) for name in poses.names if np.ndim(arrays[name])), default=0), path)
    with np.errstate(over="ignore", invalid="ignore"):
        joints, _, notes = pose_joints(poses, arrays, path.name)
    _check_values(joints, path)
    if fps is None:
        fps = 30.0
        notes.append("no frame rate: assuming 30 fps (pass fps= or --source-fps if wrong)")
    for note in notes:
        logger.warning("%s: %s", path.name, note)
    # The mean body is in meters by construction.
    options["unit"] = options["unit"] or "m"
    if len(joints) == 0:
        raise MotionFormatError(f"{path.name}: the poses have no frames")
    joints, _ = standardize(joints, file_name=path.name, **options)
    _check_size(joints, path)
    return Motion(joints=joints, fps=fps, name=path.stem, own_body=True)


def _check_frames(num_frames: int, path: Path) -> None:
    if num_frames > MAX_FRAMES:
        raise MotionFormatError(f"{path.name}: {num_frames} frames; at most {MAX_FRAMES} are allowed (split it)")


def _check_finite(values: np.ndarray, path: Path) -> None:
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1) if values.size else np.ones(1, bool)
    if not finite.all():
        raise MotionFormatError(f"{path.name}: frame {int(np.argmin(finite)) + 1} has a value that is not finite")


def _check_values(values: np.ndarray, path: Path) -> None:
    """Refuse values that are not finite or too large to be a length in any unit."""
    _check_finite(values, path)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > 1e9:
        raise MotionFormatError(f"{path.name}: values reach {largest:.3g} (damaged?)")


def _check_size(joints: np.ndarray, path: Path) -> None:
    bad = ~(np.abs(joints) < LARGEST_M).all(axis=(1, 2))
    if bad.any():
        raise MotionFormatError(
            f"{path.name}: frame {int(np.argmax(bad)) + 1} has a joint more than {LARGEST_M:g} m away (damaged values?)"
        )


def motion_of_array(
    array: np.ndarray,
    path: Path,
    *,
    fps: float | None = None,
    skeleton: Skeleton | None = None,
    text: str | None = None,
    unit: str | None = None,
    up_axis: str | None = None,
    strict: bool = False,
    own_body: bool | None = None,
    final_feet: bool = False,
) -> Motion:
    """Create a motion from joints or features; the shape determines which, and the skeleton.

    Args:
        array: joints (T, J, 3) with J = 22 (HumanML3D), 21 (KIT-ML), 24 or 45 (SMPL), 52 or 73 (SMPL-H), 55, 127 or 144
            (SMPL-X); or features (T, D) with D = 263 (HumanML3D) or 251 (KIT-ML). A leading batch dimension of 1 is
            accepted, and so is MDM's layout of joints, (J, 3, T).
        path: source of the array, for the motion's name and for errors.
        fps: frames per second; defaults to the rate of the skeleton's data set.
        skeleton: if passed, only shapes of this skeleton are accepted.
        text: caption.
        unit: unit of joints; detected by default.
        up_axis: up axis of joints; detected by default.
        strict: refuse doubtful readings.
        own_body, final_feet: see `Motion`.

    Raises:
        MotionFormatError: the shape is unknown, or the values are not a motion.
    """
    if array.dtype.kind not in "fiu":
        raise MotionFormatError(f"{path.name}: expected numbers, found the type {array.dtype}")
    known = list(SKELETONS.values()) if skeleton is None else [skeleton]
    clip, view, found = _read_shape(array, known, path)
    _check_frames(len(clip), path)
    _check_values(clip, path)
    values: dict[str, Any] = {"fps": found.default_fps if fps is None else fps, "skeleton": found, "text": text}
    if view == "joints" and len(clip):
        clip, _ = standardize(clip, skeleton=found, unit=unit, up_axis=up_axis, file_name=path.name, strict=strict)
        _check_size(clip, path)
    elif view == "features":
        if np.abs(clip).max(initial=0.0) * found.unit > LARGEST_M:
            raise MotionFormatError(f"{path.name}: features reach {np.abs(clip).max():.3g} (damaged values?)")
        height = float(np.median(clip[:, 3])) * found.unit if len(clip) else 1.0
        if abs(height) < 0.1:
            logger.warning(
                "%s: the pelvis is %.2f m above the floor; if the features are normalized, multiply them by the data "
                "set's Std and add its Mean first",
                *(path.name, height),
            )
    try:
        values[view] = clip
        motion = Motion(name=path.stem, own_body=own_body, final_feet=final_feet, **values)
        _check_finite(motion.joints, path)
    except MotionFormatError as error:
        raise MotionFormatError(f"{path.name}: {str(error).removeprefix(f'{path.name}: ')}") from error
    return motion


def _read_shape(array: np.ndarray, known: list[Skeleton], path: Path) -> tuple[np.ndarray, str, Skeleton]:
    """Find the frames (T, J, 3) or (T, D) in an array, and log unusual layouts."""
    given = array.shape
    for clip, note in _layouts(array, path):
        for skeleton in known:
            if clip.ndim == 3 and clip.shape[1:] == (skeleton.num_joints, 3):
                return _said(clip, note, path), "joints", skeleton
            if clip.ndim == 2 and clip.shape[1] == skeleton.feature_dim:
                return _said(clip, note, path), "features", skeleton
        if clip.ndim == 3 and clip.shape[2] == 3 and clip.shape[1] in _SMPL_KIN and HUMANML3D_22 in known:
            kind = _SMPL_KIN[clip.shape[1]]
            first = f"{clip.shape[1]} joints are read as {kind}'s, of which the first 22 are HumanML3D's"
            return _said(clip[:, :22], ", ".join(filter(None, (note, first))), path), "joints", HUMANML3D_22
    hint = ""
    if len(given) == 2 and given[1] % 3 == 0 and given[1] // 3 in {*(s.num_joints for s in known), *_SMPL_KIN}:
        hint = (
            f" (joints? array.reshape(-1, {given[1] // 3}, 3); SMPL rotations? save them as 'poses' with 'trans' in "
            "an .npz)"
        )
    elif len(given) == 3 and given[2] == 3:
        hint = f" ({given[1]} joints of an unknown skeleton: choose 22 in HumanML3D's order)"
    expected = " or ".join(f"(T, {s.num_joints}, 3), (T, {s.feature_dim})" for s in known)
    raise MotionFormatError(f"{path.name}: expected an array of shape {expected}, found {given}{hint}")


def _layouts(array: np.ndarray, path: Path) -> list[tuple[np.ndarray, str]]:
    """Return possible layouts of an array: unchanged, without a batch dimension of 1, or with MDM's axes reordered."""
    counts = {22, 21, *_SMPL_KIN}
    widths = {skeleton.feature_dim for skeleton in SKELETONS.values()}

    def batch(what: str) -> MotionFormatError:
        return MotionFormatError(f"{path.name}: {what} contains {len(array)} clips, expected one ({_SPLIT})")

    if array.ndim == 4 and (array.shape[3] == 3 or (array.shape[1] in counts and array.shape[2] == 3)):
        if len(array) != 1:
            raise batch(f"an array of shape {array.shape}")
        inner = [
            (clip, "a batch of one clip" + (f", {note}" if note else "")) for clip, note in _layouts(array[0], path)
        ]
        return inner
    if array.ndim == 3 and array.shape[2] in widths and array.shape[1] != 3:
        if len(array) != 1:
            raise batch(f"an array of shape {array.shape}")
        return [(array[0], "a batch of one clip")]
    if array.ndim == 3 and array.shape[0] in counts and array.shape[1] == 3:
        turned = np.moveaxis(array, 2, 0)
        if array.shape[2] != 3 or array.shape[1] not in counts:
            return [(turned, f"axes (joints, 3, frames) as in MDM, {turned.shape[0]} frames")]
    return [(array, "")]


def _said(clip: np.ndarray, note: str, path: Path) -> np.ndarray:
    if note:
        logger.info("%s: %s", path.name, note)
    return clip

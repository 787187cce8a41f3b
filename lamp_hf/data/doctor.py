"""Check a folder of motions before training: count its contents and find bad files."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lamp_hf.data.field_layout import (
    FIELD_SETS,
    JOINTS,
    MEAN,
    MOTIONS,
    SPLIT_FILES,
    STD,
    TEXTS,
    UNION_FILES,
    FieldSet,
    TimedCaption,
    is_field_layout,
    is_mirrored,
    motions_in,
    read_captions,
    read_names,
    read_statistic,
    statistics_drift,
)
from lamp_hf.data.motionfolder import METADATA_NAMES, TIME_TOLERANCE_S, find_tables, read_tables, split_of
from lamp_hf.data.named_sets import NAMED_SETS
from lamp_hf.data.report import DataReport, Severity
from lamp_hf.data.schema import FeatureStatistics
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.inputs import as_motion, failure, find_motion_files, no_motion_files
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import Skeleton

__all__ = ["check_data"]

_JOINT_TOLERANCE_M = 0.05


def check_data(
    path: str | os.PathLike[str], *, reader_options: dict[str, Any] | None = None, progress: bool = True
) -> DataReport:
    """Read every file of a folder of motions and report all problems.

    The folder may contain HumanML3D or KIT-ML, motions with a table of captions (see `load_motionfolder`), motions
    without captions, or the CMU database. The files of HumanML3D and KIT-ML do not contain their frame rate. Captions
    that end after their motion indicate that it is lower than expected; a higher one cannot be detected.

    Args:
        path: The folder, or an archive of the CMU database. The dataset is recognized by its files.
        reader_options: Passed to `as_motion` for every file, such as `{"fps": 30.0}`.
        progress: Show a progress bar.

    Returns:
        The report, see [`DataReport`].

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder does not contain motions, or options are given for HumanML3D or KIT-ML, whose files are
            features.
    """
    root = Path(path)
    options = reader_options or {}
    # Named datasets have no reader options, so options mean an ordinary folder of motions.
    checks = (each.check for each in NAMED_SETS.values() if not options and each.check and each.recognize(root))
    if (check := next(checks, None)) is not None:
        return check(root, progress=progress)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder{' (it is a file)' if root.exists() else ''}")
    if is_field_layout(root):
        if options:
            raise ValueError(
                f"{root}: {', '.join(options)} is only for motion files, but this dataset has features; leave it out"
            )
        report = _check_field_layout(root, progress)
    elif find_tables(root):
        report = _check_motionfolder(root, options, progress)
    elif any(find_motion_files(root)):
        report = _check_motions(root, options, progress)
    else:
        raise ValueError(
            f"{no_motion_files(root)}; expected motion files, optionally with {' or '.join(METADATA_NAMES)}, or the "
            f"folders {MOTIONS} and {TEXTS} of HumanML3D and KIT-ML"
        )
    report.findings.sort(key=lambda finding: (finding.severity != "error", finding.kind, finding.file))
    return report


# ---- shared by all layouts --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """Facts about a motion that was read."""

    skeleton: Skeleton
    fps: float
    num_frames: int

    @property
    def duration(self) -> float:
        return self.num_frames / self.fps


def _read_all(
    report: DataReport,
    paths: dict[str, Path],
    look: Callable[[str, Motion], None],
    progress: bool,
    options: dict[str, Any] | None = None,
) -> dict[str, _Read]:
    """Read motions by name. `look` is called with each one and may raise ValueError."""
    found: dict[str, _Read] = {}
    for name, path in tqdm(
        paths.items(), desc="Reading motions", unit="file", leave=False, disable=None if progress else True
    ):
        try:
            motion = as_motion(path, **(options or {}))
            look(name, motion)
        except Exception as error:  # one bad file must not stop the others
            report.add("error", "unreadable motion", path, failure(path, error))
        else:
            found[name] = _Read(motion.skeleton, motion.fps, motion.num_frames)
    return found


def _report_skeletons(report: DataReport, motions: dict[str, _Read], paths: dict[str, Path], wanted: Skeleton) -> None:
    for name, motion in motions.items():
        if motion.skeleton.name != wanted.name:
            report.add(
                "error",
                "other skeleton",
                paths[name],
                f"{motion.skeleton.num_joints} joints ({motion.skeleton.feature_dim} features), expected "
                f"{wanted.num_joints} ({wanted.feature_dim}) as in the other files",
            )


def _most_frequent(values: Iterable[str]) -> str | None:
    ranked = Counter(values).most_common(1)
    return ranked[0][0] if ranked else None


def _count_lengths(report: DataReport, motions: Collection[_Read]) -> None:
    if not motions:
        return
    seconds = np.array([motion.duration for motion in motions])
    frames = np.array([motion.num_frames for motion in motions])
    rates = Counter(f"{motion.fps:g}" for motion in motions)
    report.counts["joints"] = ", ".join(sorted({str(motion.skeleton.num_joints) for motion in motions}))
    report.counts["frames per second"] = ", ".join(rate for rate, _ in rates.most_common())
    report.counts["frames"] = f"{frames.min()} to {frames.max()}, median {np.median(frames):.0f}"
    report.counts["seconds"] = f"{seconds.min():.1f} to {seconds.max():.1f}, median {np.median(seconds):.1f}"
    report.counts["hours in all"] = f"{seconds.sum() / 3600:.2f}"


# ---- HumanML3D and KIT-ML ---------------------------------------------------------------------------------


def _check_field_layout(root: Path, progress: bool) -> DataReport:
    report = DataReport(root, layout="")
    paths = motions_in(root)
    splits = _check_splits(report, paths)
    train = set(splits.get("train", ()))
    statistics: dict[str, FeatureStatistics] = {name: FeatureStatistics() for name in FIELD_SETS}
    by_skeleton = {field_set.skeleton.name: field_set for field_set in FIELD_SETS.values()}

    def look(name: str, motion: Motion) -> None:
        if motion.made_of_joints:
            raise ValueError("expected features (T, D), found joints")
        field_set = by_skeleton[motion.skeleton.name]
        if name in train and field_set.keeps(motion.num_frames):
            statistics[field_set.name].add(motion.features)
        _check_joints(report, root / JOINTS / f"{name}.npy", motion)

    motions = _read_all(report, paths, look, progress)
    skeleton = _most_frequent(motion.skeleton.name for motion in motions.values())
    if skeleton is None:
        report.layout = "unknown"
        report.add("error", "no motions", MOTIONS, "expected .npy files that can be read, found none")
        return report
    field_set = by_skeleton[skeleton]
    report.layout = field_set.name
    _report_skeletons(report, motions, paths, field_set.skeleton)
    listed = sorted({name for names in splits.values() for name in names})
    captions = _check_texts(report, set(paths), set(listed), motions)
    lengths = {name: motion.num_frames for name, motion in motions.items() if motion.skeleton.name == skeleton}
    used = {name: field_set.used(captions.get(name, ()), length) for name, length in lengths.items()}
    _check_lengths(report, field_set, {name: lengths[name] for name in listed if name in lengths}, captions)
    _check_use(report, splits, used)
    _check_mirrors(report, splits)
    _check_statistics(report, field_set, statistics[field_set.name])
    _count_field_set(report, field_set, motions, captions, splits, used)
    return report


def _check_splits(report: DataReport, paths: dict[str, Path]) -> dict[str, list[str]]:
    """Return the names of each split, and report the problems of the split files."""
    splits: dict[str, list[str]] = {}
    for split, file in SPLIT_FILES.items():
        if (report.path / file).is_file():
            try:
                splits[split] = read_names(report.path / file)
            except ValueError as error:
                report.add("error", "bad split file", report.path / file, error)
        else:
            # Training needs the first two splits; only evaluation needs the test split.
            severity: Severity = "warning" if split == "test" else "error"
            report.add(severity, "missing split file", file, "no such file")
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name, times in Counter(names).items():
            if times > 1:
                report.add("warning", "listed twice", SPLIT_FILES[split], f"{name} is listed {times} times")
            if seen.setdefault(name, split) != split:
                message = f"{name} is in {SPLIT_FILES[seen[name]]} too"
                report.add("error", "in two splits", SPLIT_FILES[split], message)
            if name not in paths:
                message = f"no such file, though {SPLIT_FILES[split]} lists it"
                report.add("error", "missing motion", f"{MOTIONS}/{name}.npy", message)
    if splits:
        for name in sorted(set(paths) - set(seen)):
            report.add("warning", "in no split", paths[name], "in none of the split files; not used")
    for file, parts in UNION_FILES.items():
        if (report.path / file).is_file() and all(part in splits for part in parts):
            union = {name for part in parts for name in splits[part]}
            try:
                differing = union ^ set(read_names(report.path / file))
            except ValueError as error:
                report.add("warning", "bad split file", report.path / file, error)
                continue
            if differing:
                listed = " and ".join(SPLIT_FILES[part] for part in parts)
                message = f"{len(differing)} names differ from {listed} together, such as {min(differing)}"
                report.add("warning", "bad split file", file, message)
    return splits


def _check_joints(report: DataReport, path: Path, motion: Motion) -> None:
    """Compare a file of `new_joints` with the joints recovered from the features."""
    if not path.parent.is_dir():
        return
    if not path.is_file():
        report.add("warning", "missing joints", path, "no such file (training does not need it)")
        return
    try:
        joints = as_motion(path, unit="mm" if motion.skeleton.unit == 0.001 else "m", up_axis="y")
    except Exception as error:
        report.add("error", "unreadable joints", path, failure(path, error))
        return
    if not joints.made_of_joints or joints.skeleton.name != motion.skeleton.name:
        found = f"{joints.skeleton.num_joints} joints" if joints.made_of_joints else "features"
        message = f"expected {motion.skeleton.num_joints} joints as in the features, found {found}"
        report.add("error", "other skeleton", path, message)
    elif not 0 <= joints.num_frames - motion.num_frames <= 1:
        message = f"{joints.num_frames} frames, but the features have {motion.num_frames}"
        report.add("warning", "joints differ", path, message)
    else:
        real = features_to_joints(motion.features, motion.skeleton)
        error_m = np.linalg.norm(joints.joints[: len(real)] - real, axis=-1).max()
        if error_m > _JOINT_TOLERANCE_M:
            message = f"up to {error_m:.2f} m from the joints recovered from the features"
            report.add("warning", "joints differ", path, message)


def _check_texts(
    report: DataReport, stored: set[str], listed: set[str], motions: dict[str, _Read]
) -> dict[str, list[TimedCaption]]:
    captions: dict[str, list[TimedCaption]] = {}
    texts = {path.stem: path for path in sorted((report.path / TEXTS).glob("*.txt"))}
    for name in sorted(stored - set(texts)):
        severity: Severity = "error" if name in listed else "warning"
        report.add(severity, "motion without captions", f"{MOTIONS}/{name}.npy", f"{TEXTS}/{name}.txt does not exist")
    for name, path in texts.items():
        if name not in stored:
            # A listed name has already been reported as a missing motion.
            if name not in listed:
                report.add("warning", "captions without motion", path, f"{MOTIONS}/{name}.npy does not exist")
            continue
        try:
            found, problems = read_captions(path)
        except ValueError as error:
            report.add("error", "bad captions", path, error)
            continue
        for problem in problems:
            report.add("error", "bad captions", path, problem)
        if not found and not problems:
            report.add("error", "motion without captions", path, "contains no captions")
        captions[name] = found
        for caption in found if name in motions else ():
            if caption.end > motions[name].duration + TIME_TOLERANCE_S:
                message = (
                    f"line {caption.line}: the caption ends at {caption.end:g} s, but the motion at "
                    f"{motions[name].duration:.2f} s ({motions[name].fps:g} fps); check the frame rate"
                )
                report.add("warning", "times beyond the motion", path, message)
    return captions


def _check_lengths(
    report: DataReport, field_set: FieldSet, lengths: dict[str, int], captions: dict[str, list[TimedCaption]]
) -> None:
    """Report listed motions, and parts of them, that are not used because of their length."""
    expected = f"expected {field_set.min_frames} to {field_set.max_frames - 1}; not used"
    for name, num_frames in lengths.items():
        if not field_set.keeps(num_frames):
            message = f"{num_frames} frames, {expected}"
            report.add("warning", "motion of another length", f"{MOTIONS}/{name}.npy", message)
            continue
        for caption in captions.get(name, ()):
            part = field_set.frames(caption, num_frames)
            part_frames = max(part.stop - part.start, 0)
            if not field_set.keeps(part_frames):
                message = f"line {caption.line}: describes {part_frames} frames, {expected}"
                report.add("warning", "part of another length", f"{TEXTS}/{name}.txt", message)


def _check_use(report: DataReport, splits: dict[str, list[str]], used: dict[str, list[TimedCaption]]) -> None:
    """Report splits without usable motions."""
    for split, names in splits.items():
        if not any(used.get(name) for name in names):
            message = f"none of its {len(set(names))} motions can be used" if names else "lists no motions"
            report.add("warning" if split == "test" else "error", "empty split", SPLIT_FILES[split], message)


def _check_mirrors(report: DataReport, splits: dict[str, list[str]]) -> None:
    """Report mirror images that are in another split than their originals."""
    split_of_name = {name: split for split, names in splits.items() for name in names}
    for name, split in split_of_name.items():
        original = split_of_name.get(name[1:]) if is_mirrored(name) else None
        if original is not None and original != split:
            message = f"{name} mirrors {name[1:]}, which is in {SPLIT_FILES[original]}"
            report.add("warning", "mirror in another split", SPLIT_FILES[split], message)


def _check_statistics(report: DataReport, field_set: FieldSet, statistics: FeatureStatistics) -> None:
    stored = []
    for name in (MEAN, STD):
        path = report.path / name
        try:
            stored.append(read_statistic(path, field_set.skeleton))
        except FileNotFoundError:
            report.add("warning", "missing statistics", path, "no such file (training computes its own)")
        except ValueError as error:
            report.add("error", "bad statistics", path, error)
    if len(stored) == 2 and statistics.count:
        for file, problem in statistics_drift((stored[0], stored[1]), statistics.mean_and_std()):
            report.add("warning", "statistics drift", file, problem)


def _count_field_set(
    report: DataReport,
    field_set: FieldSet,
    motions: dict[str, _Read],
    captions: dict[str, list[TimedCaption]],
    splits: dict[str, list[str]],
    used: dict[str, list[TimedCaption]],
) -> None:
    lines = [caption for found in captions.values() for caption in found]
    short = sum(motion.num_frames < field_set.min_frames for motion in motions.values())
    long = sum(motion.num_frames >= field_set.max_frames for motion in motions.values())
    report.counts["motions"] = f"{len(motions)}, {sum(map(is_mirrored, motions))} of them mirrored"
    report.counts["captions"] = f"{len(lines)}, {sum(not line.whole for line in lines)} of them describe a part"
    parts = sum(len(captions.get(n, ())) - len(used[n]) for n in used if field_set.keeps(motions[n].num_frames))
    for split, names in splits.items():
        usable = sum(bool(used.get(name)) for name in set(names))
        report.counts[split] = f"{len(set(names))} listed, {usable} used"
    report.counts["not used because of length"] = (
        f"{short} with fewer than {field_set.min_frames} frames, {long} with {field_set.max_frames} or more, {parts} "
        "parts"
    )
    _count_lengths(report, motions.values())


# ---- motionfolder -----------------------------------------------------------------------------------------


def _check_motionfolder(root: Path, options: dict[str, Any], progress: bool) -> DataReport:
    report = DataReport(root, layout="motionfolder")

    def note(error: ValueError) -> None:
        where, _, message = str(error).removeprefix(f"{root}/").partition(": ")
        report.add("error", "bad line", where, message)

    clips = read_tables(root, on_error=note)
    for clip in clips.values():
        if clip.problem:
            note(ValueError(clip.problem))
    files = _find_files(report, known=clips)
    for name, path in files.items():
        if name not in clips:
            report.add("warning", "motion without captions", path, "not listed in a table; not used")
    paths = {name: clip.path for name, clip in clips.items() if not clip.problem}
    motions, num_frames = _read_motions(report, paths, options, progress)
    if not motions:
        report.add("error", "no motions", root, "none of the motions in the tables can be read")
        return report
    wanted = _compare(report, paths, motions)
    for name in motions:
        for caption in clips[name].captions:
            if problem := caption.problem(name, num_frames[name], wanted.default_fps):
                report.add("error", "bad times", caption.where.removeprefix(f"{root}/"), problem)
    report.counts["motions"] = str(len(motions))
    report.counts["captions"] = str(sum(len(clips[name].captions) for name in motions))
    report.counts |= {split: str(count) for split, count in Counter(map(split_of, motions)).items()}
    _count_lengths(report, motions.values())
    return report


def _check_motions(root: Path, options: dict[str, Any], progress: bool) -> DataReport:
    """Check a folder of motions without captions."""
    report = DataReport(root, layout="motions")
    paths = _find_files(report)
    motions, _ = _read_motions(report, paths, options, progress)
    report.counts["motions"] = str(len(motions))
    report.counts["captions"] = "none"
    if not motions:
        report.add("error", "no motions", root, "none of its motion files can be read")
        return report
    _compare(report, paths, motions)
    example = '{"file_name": "walk.bvh", "text": "a person walks"}'
    message = f"no such file; training needs a line for each motion, such as {example}"
    report.add("warning", "no captions", METADATA_NAMES[0], message)
    _count_lengths(report, motions.values())
    return report


def _find_files(report: DataReport, known: Collection[str] = ()) -> dict[str, Path]:
    """Return the motion files by their path in the folder; report files that cannot be opened and are not `known`."""
    found = find_motion_files(report.path)
    for path, problem in found.problems.items():
        if path.relative_to(report.path).as_posix() not in known:
            report.add("error", "unreadable motion", path, problem)
    return {path.relative_to(report.path).as_posix(): path for path in found.files}


def _read_motions(
    report: DataReport, paths: dict[str, Path], options: dict[str, Any], progress: bool
) -> tuple[dict[str, _Read], dict[str, int]]:
    """Read motions; return them and their number of feature frames, by name."""
    num_frames: dict[str, int] = {}

    def look(name: str, motion: Motion) -> None:
        # Like the loader: some motions can be read but not converted to features.
        num_frames[name] = len(motion.resample(motion.skeleton.default_fps).features)

    return _read_all(report, paths, look, progress, options), num_frames


def _compare(report: DataReport, paths: dict[str, Path], motions: dict[str, _Read]) -> Skeleton:
    """Report motions whose skeleton or frame rate differs from most others; return the most frequent skeleton."""
    skeleton = _most_frequent(motion.skeleton.name for motion in motions.values())
    rate = _most_frequent(f"{motion.fps:g}" for motion in motions.values())
    wanted = next(motion.skeleton for motion in motions.values() if motion.skeleton.name == skeleton)
    _report_skeletons(report, motions, paths, wanted)
    for name, motion in motions.items():
        if f"{motion.fps:g}" != rate:
            message = f"{motion.fps:g} fps, but most files have {rate} (all are resampled to {wanted.default_fps:g})"
            report.add("warning", "other frame rate", paths[name], message)
    return wanted

"""Check a copy of the CMU database before training."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from lamp_hf.data.cmu.facts import CLAIMED_FPS, TakeFacts, facts_beside
from lamp_hf.data.cmu.faults import bridge_faults, find_faults
from lamp_hf.data.cmu.frame_rate import speed_evidence
from lamp_hf.data.cmu.loader import SOURCE, take_files
from lamp_hf.data.cmu.segments import Segment, fitted_frames, packaged_segments
from lamp_hf.data.cmu.takes import UnusableTakeError, read_take, sound_frames
from lamp_hf.data.report import DataReport
from lamp_hf.motion.skeleton import HUMANML3D_22

_FPS = HUMANML3D_22.default_fps


def check_cmu(path: Path, *, progress: bool = True) -> DataReport:
    """Read every take; report unreadable and broken takes, copies, doubtful frame rates and captions that do not fit.

    Args:
        path: An archive or a folder, see `load_cmu_mocap`.
        progress: Show a progress bar.
    """
    report = DataReport(path, layout=SOURCE)
    facts = facts_beside(path if path.is_dir() else path.parent)
    segments: dict[str, list[Segment]] = {}
    for segment in packaged_segments():
        segments.setdefault(segment.take, []).append(segment)
    unopened: dict[str, str] = {}
    files, total = take_files(path, unopened)
    seconds: dict[str, float] = {}
    seen: dict[str, str] = {}
    unlisted: list[str] = []
    for file in tqdm(
        files, total=total, desc="Reading takes", unit="take", leave=False, disable=None if progress else True
    ):
        known = facts.get(file.clip, TakeFacts(file.clip))
        if (first := seen.setdefault(file.digest, file.clip)) != file.clip:
            report.add("warning", "exact copy", file.file_name, f"the same file as {first}; only one is used")
        elif known.copy_of:
            report.add("warning", "exact copy", file.file_name, f"the same motion as {known.copy_of}; only one is used")
        elif not known.split:
            unlisted.append(file.clip)
        with tempfile.TemporaryDirectory(prefix="lamp_hf-") as folder:
            source = Path(folder) / file.file_name
            source.write_bytes(file.content)
            try:
                joints, fps = read_take(source, known.capture_fps)
            except UnusableTakeError as error:
                report.add("warning", "too short", file.file_name, _message(error, file.file_name))
            except (ValueError, OSError) as error:
                report.add("error", "unreadable motion", file.file_name, _message(error, file.file_name))
            else:
                seconds[file.clip] = len(joints) / fps
                _look(report, file.file_name, joints, fps, known, segments.get(file.clip, ()))
    for take, reason in unopened.items():
        report.add("error", "unreadable motion", f"{take}.bvh", reason.removeprefix(f"{take}: "))
    if unlisted:
        message = f"{len(unlisted)} takes belong to no split and are not used, such as {unlisted[0]}"
        report.add("warning", "in no split", "takes.csv", message)
    if not seen and not unopened:
        report.add("error", "no motions", ".", "expected BVH files named by take, such as 01/01_01.bvh; found none")
    _count(report, facts, seconds, sum(map(len, segments.values())))
    report.findings.sort(key=lambda finding: (finding.severity != "error", finding.kind, finding.file))
    return report


def _look(
    report: DataReport,
    name: str,
    joints: np.ndarray,
    fps: float,
    known: TakeFacts,
    segments: Sequence[Segment],
) -> None:
    faults = find_faults(joints, fps)
    for fault in faults:
        done = "the toes are repaired" if fault.mendable else "not used"
        report.add("warning", "broken span", name, f"{fault.describe(fps)}; {done}")
    evidence = speed_evidence(bridge_faults(joints, faults), fps)
    if factor := evidence.factor:
        speed = "at twice its speed" if factor > 1 else "at half its speed"
        message = (
            f"seems to play {speed}: {evidence}; treated as captured at {known.capture_fps} fps ({known.evidence})"
        )
        report.add("warning", "doubtful frame rate", name, message)
    sound = sound_frames(int((len(joints) - 1) * _FPS / fps), faults, fps)
    for segment in segments:
        if isinstance(reason := fitted_frames(segment, sound, _FPS), str):
            report.add("warning", "segment not used", name, f"{segment.id}: {reason}")


def _message(error: Exception, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def _count(report: DataReport, facts: Mapping[str, TakeFacts], seconds: dict[str, float], captioned: int) -> None:
    lengths = np.array(list(seconds.values()))
    if not len(lengths):
        return
    report.counts["takes"] = str(len(lengths))
    known = {take: facts[take] for take in seconds if take in facts}
    splits = Counter(fact.split or "none" for fact in known.values() if not fact.copy_of)
    report.counts["splits"] = ", ".join(f"{split} {number}" for split, number in sorted(splits.items()))
    slower = sum(fact.capture_fps != CLAIMED_FPS for fact in known.values())
    report.counts["captured at 60 frames per second"] = str(slower)
    report.counts["seconds"] = f"{lengths.min():.1f} to {lengths.max():.1f}, median {np.median(lengths):.1f}"
    report.counts["hours in all"] = f"{lengths.sum() / 3600:.2f}"
    report.counts["segments with captions"] = str(captioned or "none: the database's descriptions are used")

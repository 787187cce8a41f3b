"""Measure time and peak memory of long motions, to check that both grow linearly with the number of frames.

    python benchmarks/long_motions.py --frames 20000 200000

Each step runs in its own process. Peak memory is the increase during the step, with the motion already loaded.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = (
    *("features", "joints of features", "resample", "write .npz", "read .npz", "write .npy", "read .npy"),
    *("write .bvh", "read .bvh", "write .bvh own body", "write .glb", "read .glb", "write .html"),
)


def long_joints(num_frames: int) -> np.ndarray:
    """Return joints (T, 22, 3) of a body that sways, turns and walks in large circles; bones stretch by millimeters."""
    from lamp_hf.motion import rotations
    from lamp_hf.motion.kinematics import default_body, forward_kinematics
    from lamp_hf.motion.skeleton import HUMANML3D_22

    random = np.random.default_rng(0)
    joints = np.empty((num_frames, 22, 3), dtype=np.float32)
    shape = (1, 22, 3)
    sizes, starts = random.uniform(0.05, 0.4, shape), random.uniform(0.0, 6.0, shape)
    for start in range(0, num_frames, 4096):
        time_s = np.arange(start, min(start + 4096, num_frames))[:, None, None] / 20.0
        angles = sizes * np.sin(3.0 * time_s + starts)
        angles[:, 0, 2] = 0.2 * time_s[:, 0, 0]
        way = 0.2 * time_s[:, 0, 0]
        root = np.stack([5.0 * np.sin(way), np.full(len(way), 0.95), 5.0 * np.cos(way)], axis=-1)
        made = forward_kinematics(rotations.from_euler(angles, "zxy"), root, default_body(), HUMANML3D_22.parents)
        made[:, 3, 1] += 0.004 * np.sin(time_s[:, 0, 0])
        joints[start : start + len(made)] = made
    return joints


def run_step(step: str, num_frames: int, folder: Path) -> tuple[float, float]:
    """Run one step and return its seconds and megabytes."""
    from lamp_hf.motion.motion import Motion

    verb, _, rest = step.partition(" ")
    suffix = rest.split()[0] if rest.startswith(".") else ""
    path = folder / f"motion{suffix}"
    motion = None
    if verb != "read":
        joints = np.load(folder / "joints.npy")
        motion = Motion(joints=joints, fps=20.0, own_body=step.endswith("own body"))
        del joints
        if verb == "joints":
            motion = Motion(features=motion.features, fps=20.0)
    # ru_maxrss never falls, so reset the peak before the step.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    start = time.perf_counter()
    if verb == "read":
        Motion.load(path)
    elif verb == "write":
        assert motion is not None
        motion.save(path)
    elif verb == "features":
        assert motion is not None
        _ = motion.features
    elif verb == "joints":
        assert motion is not None
        _ = motion.joints
    else:
        assert motion is not None
        motion.resample(30.0)
    return time.perf_counter() - start, _status("VmHWM") - before


def _status(key: str) -> float:
    """Return a memory value of this process from /proc, in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run all steps for each length and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        step, frames, folder = options.one
        print(json.dumps(run_step(step, int(frames), Path(folder))))
        return
    print(f"{'step':22} {'frames':>8} {'seconds':>8} {'us/frame':>9} {'peak MB':>8} {'KB/frame':>9} {'file MB':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for frames in options.frames:
            np.save(folder / "joints.npy", long_joints(frames))
            for step in options.steps:
                command = [sys.executable, __file__, "--one", step, str(frames), name]
                result = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
                seconds, megabytes = json.loads(result.stdout.splitlines()[-1])
                path = folder / f"motion{step.split()[1]}" if " ." in step else folder / "none"
                size = path.stat().st_size / 2**20 if path.exists() else 0.0
                print(
                    f"{step:22} {frames:8} {seconds:8.2f} {1e6 * seconds / frames:9.1f} {megabytes:8.0f} "
                    f"{1024 * megabytes / frames:9.2f} {size:8.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

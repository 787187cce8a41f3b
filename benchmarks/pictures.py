"""Compare the mannequin with the skeleton: the time to write each kind of file, and its size.

python benchmarks/pictures.py [--motion FILE] [--size 480]

Without `--motion`, a body walks for 6 seconds at 20 fps. Times are processor seconds of one process, the best of
`--repeats`; the ratios are mannequin to skeleton.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from lamp_hf import Motion
from lamp_hf.motion import rotations
from lamp_hf.motion.kinematics import default_body, forward_kinematics
from lamp_hf.motion.mannequin import build_mannequin
from lamp_hf.motion.skeleton import HUMANML3D_22

NAMES = ("a.gif", "a.mp4", "a.png", "a.html", "a.glb")


def walk(seconds: float = 6.0, fps: float = 20.0) -> Motion:
    """Return a body that walks along +Z and swings its limbs."""
    time_s = np.arange(round(seconds * fps)) / fps
    swing = np.sin(2.0 * np.pi * time_s)
    local = np.zeros((len(time_s), 22, 4))
    local[..., 0] = 1.0
    turns = {"hip": ("x", 0.5 * swing), "knee": ("x", 0.5 - 0.4 * swing), "elbow": ("y", 0.5 + 0.3 * swing)}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for part, (axis, angles) in turns.items():
            angles = sign * angles if part != "knee" else 0.5 - 0.4 * sign * swing
            local[:, HUMANML3D_22.joint_names.index(f"{side}_{part}")] = rotations.about_axis(axis, angles)
        shoulder = HUMANML3D_22.joint_names.index(f"{side}_shoulder")
        local[:, shoulder] = rotations.about_axis("z", np.full(len(time_s), -1.3 * sign))
    root = np.stack([0.0 * time_s, 0.93 + 0.02 * np.cos(4.0 * np.pi * time_s), 1.2 * time_s], axis=-1)
    joints = forward_kinematics(local, root, default_body(), HUMANML3D_22.parents)
    return Motion(joints.astype(np.float32), fps=fps, text="a person walks", own_body=False)


def main() -> None:
    """Write the files and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motion", help="motion file; without it, a body walks")
    parser.add_argument("--size", type=int, default=480, help="width and height of the videos in pixels")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    motion = Motion.load(arguments.motion) if arguments.motion else walk()
    start = time.process_time()
    body = build_mannequin(default_body())
    print(f"{motion}; {len(body.positions):,} vertices, {len(body.triangles):,} triangles")
    print(f"building the mannequin: {time.process_time() - start:.3f} s")
    print(f"{'file':8}{'skeleton':>12}{'mannequin':>12}{'ratio':>8}{'skeleton':>14}{'mannequin':>14}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            path = Path(folder, name)
            options = {"size": arguments.size} if path.suffix in (".gif", ".mp4") else {}
            options |= {"downloads": ()} if path.suffix == ".html" else {}
            seconds: list[float] = []
            sizes: list[int] = []
            for style in ("skeleton", "mannequin"):
                times = []
                for _ in range(arguments.repeats):
                    fresh = motion.with_text(motion.text)  # without the results of the last file
                    start = time.process_time()
                    fresh.save(path, style=style, **options)
                    times.append(time.process_time() - start)
                seconds.append(min(times))
                sizes.append(path.stat().st_size)
            print(
                f"{path.suffix:8}{seconds[0]:10.2f} s{seconds[1]:10.2f} s{seconds[1] / seconds[0]:8.1f}"
                f"{sizes[0]:12,} B{sizes[1]:12,} B{sizes[1] / sizes[0]:8.1f}"
            )


if __name__ == "__main__":
    main()

"""Damage small motion files at random and read them: the only error may be a `MotionFormatError` that names the file.

    python benchmarks/fuzz_motion_files.py --inputs 100000 --seed 7 --keep /tmp/found

Prints how many inputs were read and rejected, how many raised anything else (including NumPy warnings), how many took
more than half a second of processor time, and the peak memory of the process. Exits with 1 if anything else was raised.
`--keep` saves the files that show a fault.
"""

import argparse
import io
import logging
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.kinematics import default_body
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

SLOW_S = 0.5
TOKENS = [
    *(b"True", b"False", b"None", b"-1", b"999999999999", b"1e9", b"(((((", b"'|O'", b"'<U99999'", b"'<f8'", b"'<c16'"),
    *(b"'<M8[s]'", b"[('a','<f4')]", b"\x00", b"\\x", b"0", b"22L", b"nan", b"\xff\xff\xff\xff", b"'shape'", b"{"),
    *(b"}", b"lambda", b"null", b"[]", b"Frames:", b"End Site", b"JOINT"),
]
MEMBERS = ["fps.npy", "text.npy", "joints", "skeleton.npy", "poses.npy"]


def make_seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Return small files of every kind, as (suffix, bytes)."""
    noise = np.random.default_rng(0)
    body = default_body()
    for joint in range(1, 22):
        body[joint] += body[HUMANML3D_22.parents[joint]]
    joints = (body + np.array([0.0, 0.95, 0.0]) + noise.normal(0, 0.01, (4, 22, 3))).astype(np.float32)
    motion = Motion(joints=joints, fps=20, text="walk")

    def npy(array: np.ndarray) -> tuple[str, bytes]:
        stream = io.BytesIO()
        np.save(stream, array)
        return ".npy", stream.getvalue()

    def npz(**arrays: object) -> tuple[str, bytes]:
        stream = io.BytesIO()
        (np.savez_compressed if noise.random() < 0.5 else np.savez)(stream, **arrays)
        return ".npz", stream.getvalue()

    seeds = [npy(joints), npy(motion.features), npy(joints[None]), npy(np.tile(joints, (1, 2, 1))[:, :24])]
    seeds += [
        npz(joints=joints, fps=20.0, skeleton="humanml3d_22", text="hi", own_body=True),
        npz(features=motion.features, fps=20.0),
        npz(poses=noise.normal(0, 0.1, (3, 156)), trans=np.zeros((3, 3)), mocap_framerate=60.0, gender="male"),
        npz(global_orient=np.zeros((3, 3)), body_pose=np.zeros((3, 63)), transl=np.zeros((3, 3))),
        npz(smpl_poses=np.zeros((3, 72)), smpl_trans=np.zeros((3, 3)), smpl_scaling=np.array([90.0])),
        npz(posed_joints=joints),
    ]
    for suffix in (".bvh", ".glb"):
        path = folder / f"seed{suffix}"
        motion.save(path)
        seeds += [(suffix, path.read_bytes())] * 2
        path.unlink()
    return seeds


def damage(data: bytes, choice: random.Random) -> bytes:
    """Change, cut, insert and repeat a few bytes; half of the changes are in the header."""
    changed = bytearray(data)
    for _ in range(choice.choice([1, 1, 1, 2, 3, 6])):
        place = choice.randrange(len(changed) if choice.random() < 0.5 else min(len(changed), 140))
        kind = choice.random()
        if kind < 0.35:
            changed[place] = choice.randrange(256)
        elif kind < 0.5:
            changed[place] ^= 1 << choice.randrange(8)
        elif kind < 0.6:
            del changed[place : place + choice.randrange(1, 9)]
        elif kind < 0.7:
            changed[place:place] = choice.randbytes(choice.randrange(1, 9))
        elif kind < 0.85:
            token = choice.choice(TOKENS)
            changed[place : place + len(token) * (choice.random() < 0.7)] = token
        elif kind < 0.93:
            del changed[max(1, place) :]
        else:
            other = choice.randrange(len(changed))
            changed[place : place + 8] = changed[other : other + 8]
        if not changed:
            changed = bytearray(b"x")
    return bytes(changed)


def damage_members(data: bytes, choice: random.Random) -> bytes:
    """Damage or rename members of an archive, with correct checksums."""
    result = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(
            result, "w", choice.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
        ) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            content = damage(content, choice) if choice.random() < 0.5 else content
            target.writestr(name if choice.random() < 0.95 else choice.choice(MEMBERS), content)
    return result.getvalue()


def main() -> None:
    """Read the damaged files and print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    choice = random.Random(options.seed)
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        seeds = make_seeds(Path(name))
        for number in range(options.inputs):
            suffix, data = choice.choice(seeds)
            path = Path(name, f"f{suffix}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about two members with the same name
                inner = suffix == ".npz" and choice.random() < 0.6
                path.write_bytes(damage_members(data, choice) if inner else damage(data, choice))
            fault = ""
            start = time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    motion = Motion.load(path)
                assert np.isfinite(motion.joints).all()
                outcomes["read"] += 1
            except MotionFormatError as error:
                outcomes["refused"] += 1
                if path.name not in str(error):
                    fault = f"no name: {str(error)[:60]}"
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                fault = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:60]}"
            if time.process_time() - start > SLOW_S:
                outcomes["slow"] += 1
                fault = fault or f"slower than {SLOW_S} s"
            if fault:
                if options.keep and fault not in faults:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{number}{suffix}").write_bytes(path.read_bytes())
                faults[fault] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    others = sum(count for fault, count in faults.items() if not fault.startswith("slower"))
    print(
        f"{options.inputs} inputs: {outcomes['read']} read, {outcomes['refused']} rejected, {others} faults, "
        f"{outcomes['slow']} slower than {SLOW_S} s, peak {peak} MB"
    )
    for fault, count in faults.most_common():
        print(f"  {count} {fault}")
    sys.exit(1 if others else 0)


if __name__ == "__main__":
    main()

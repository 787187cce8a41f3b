"""Arrays and archives from other programs are read correctly; damaged ones are refused clearly and cheaply."""

import io
import logging
import pickle
import random
import resource
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lamp_hf.motion import rotations
from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, rest_pose_offsets

SHARED = Path(__file__).parents[2].parent / "shared"
HEAD, ANKLE = 15, 7


def cases(kind: str) -> Path:
    folder = SHARED / "cases" / kind
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def height(motion: Motion) -> float:
    names = motion.skeleton.joint_names
    return float(np.mean(motion.joints[:, names.index("head"), 1] - motion.joints[:, names.index("left_ankle"), 1]))


# ---- the shared cases ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "frames", "fps"),
    [
        ("joints_y_down.npy", 20, 20.0),
        ("joints_z_up.npy", 20, 20.0),
        ("joints_mm.npy", 20, 20.0),
        ("smpl_24x3.npy", 20, 20.0),
        ("batch_1xTx22x3.npy", 20, 20.0),
        ("posed_joints.npz", 20, 30.0),
        ("fps_of_shape_1.npz", 20, 30.0),
        ("kit_new_joints_mm_21x3.npy", 15, 12.5),
    ],
)
def test_arrays_from_other_projects_are_read(name, frames, fps):
    motion = Motion.load(cases("motion_files") / name)
    assert (motion.num_frames, motion.fps) == (frames, fps)
    assert height(motion) == pytest.approx(1.42 if "kit" in name else 1.43, abs=0.01)
    assert motion.report().speed_m_per_s == pytest.approx(fps / 20.0 if "kit" not in name else 1.0, rel=0.02)


def test_poses_from_other_projects_are_read(caplog):
    motion = Motion.load(cases("motion_files") / "amass_smplh.npz")
    assert (motion.num_frames, motion.fps) == (20, 60.0)
    assert 1.3 < height(motion) < 1.6
    assert "SMPL-H on a body of mean proportions" in caplog.text


def test_pickle_is_not_loaded_and_the_error_has_a_remedy():
    path = cases("motion_files") / "mdm_results.npy"
    with pytest.raises(MotionFormatError, match=r"objects are never loaded.*python -c .*allow_pickle=True.*np\.savez"):
        Motion.load(path)


def test_damaged_files_are_refused_cheaply():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(cases("damaged").glob("*.np?")):
        start = time.perf_counter()
        if path.name == "npz_member_without_npy.npz":  # NumPy also reads files with this name
            assert Motion.load(path).num_frames == 13
        else:
            with pytest.raises(MotionFormatError, match=path.name):
                Motion.load(path)
        assert time.perf_counter() - start < 5.0, path.name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


# ---- joints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [24, 45, 52, 55, 73, 127, 144])
def test_bodies_of_smpl_begin_with_the_22_joints(make_motion, tmp_path, count, caplog):
    caplog.set_level(logging.INFO)
    motion = make_motion()
    more = np.repeat(motion.joints[:, -1:], count - 22, axis=1)
    np.save(tmp_path / "body.npy", np.concatenate([motion.joints, more], axis=1))
    np.testing.assert_allclose(Motion.load(tmp_path / "body.npy").joints, motion.joints, atol=1e-6)
    assert f"{count} joints are read as SMPL" in caplog.text


@pytest.mark.parametrize(
    ("scale", "turn"),
    [
        (1.0, "xyz"),
        (100.0, "xyz"),
        (1000.0, "x-zy"),
        (1.0, "x-zy"),
        (1.0, "x-y-z"),
        (39.37, "xyz"),
    ],
)
@pytest.mark.parametrize("skeleton", [HUMANML3D_22, KIT_21], ids=lambda skeleton: skeleton.name)
def test_units_and_up_axes_of_joints_are_detected(make_motion, tmp_path, scale, turn, skeleton):
    motion = make_motion(skeleton=skeleton)
    x, y, z = np.moveaxis(motion.joints, -1, 0)
    axes = {"xyz": (x, y, z), "x-zy": (x, -z, y), "x-y-z": (x, -y, -z)}[turn]
    np.savez(tmp_path / "a.npz", joints=scale * np.stack(axes, axis=-1), fps=np.array([30.0]))
    read = Motion.load(tmp_path / "a.npz")
    np.testing.assert_allclose(read.joints, motion.joints, rtol=1e-3, atol=1e-4)
    assert read.fps == 30.0


def test_given_units_override_detection(make_motion, tmp_path):
    motion = make_motion()
    np.save(tmp_path / "a.npy", motion.joints)
    np.testing.assert_allclose(Motion.load(tmp_path / "a.npy", unit="cm").joints, motion.joints / 100, atol=1e-6)
    with pytest.raises(MotionFormatError, match=r"a\.npy: expected unit among"):
        Motion.load(tmp_path / "a.npy", unit="ell")
    with pytest.raises(MotionFormatError, match=r"a\.npy: expected up_axis among"):
        Motion.load(tmp_path / "a.npy", up_axis="up")
    with pytest.raises(MotionFormatError, match=r"a\.npy: a mapping names joints"):
        Motion.load(tmp_path / "a.npy", mapping={"head": "Head"})


def test_batches_of_one_are_read_and_larger_batches_refused(make_motion, tmp_path):
    motion = make_motion(num_frames=12)
    mdm = np.moveaxis(motion.joints, 0, -1)  # (J, 3, T)
    features = motion.features
    for name, array, wanted in (
        ("batch", motion.joints[None], motion.joints),
        ("mdm", mdm, motion.joints),
        ("mdm_batch", mdm[None], motion.joints),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        np.testing.assert_allclose(Motion.load(tmp_path / f"{name}.npy").joints, wanted, atol=1e-6)
    np.save(tmp_path / "features.npy", features[None])
    np.testing.assert_array_equal(Motion.load(tmp_path / "features.npy").features, features)
    for array in (np.stack([motion.joints] * 3), np.stack([mdm] * 3), np.stack([features] * 3)):
        np.save(tmp_path / "three.npy", array)
        with pytest.raises(
            MotionFormatError, match=r"three\.npy: .* contains 3 clips, expected one \(save each separately"
        ):
            Motion.load(tmp_path / "three.npy")


def test_ambiguous_arrays_are_refused_with_a_remedy(make_motion, tmp_path):
    motion = make_motion()
    np.save(tmp_path / "flat.npy", motion.joints.reshape(len(motion.joints), 66))
    with pytest.raises(MotionFormatError, match=r"found \(12, 66\) \(joints\? array.reshape\(-1, 22, 3\)"):
        Motion.load(tmp_path / "flat.npy")
    np.save(tmp_path / "robot.npy", np.zeros((5, 34, 3)))
    with pytest.raises(MotionFormatError, match="34 joints of an unknown skeleton"):
        Motion.load(tmp_path / "robot.npy")


def test_kimodo_archives_play_at_their_rate(make_motion, tmp_path):
    np.savez(tmp_path / "k.npz", posed_joints=make_motion().joints, foot_contacts=np.zeros((12, 4)))
    assert Motion.load(tmp_path / "k.npz").fps == 30.0


# ---- poses -----------------------------------------------------------------------------------------------


def random_poses(joints: int, frames: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return axis-angle poses (T, 3 x joints), the root path, and the resulting joints (T, 22, 3)."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(0.0, 0.15, (frames, joints, 3))
    trans = np.cumsum(rng.normal(0.0, 0.02, (frames, 3)), axis=0) + np.array([0.0, 1.2, 0.0])
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    turns = np.concatenate([np.cos(angle / 2), np.sin(angle / 2) * vectors / angle], axis=-1)
    made = forward_kinematics(turns[:, :22], trans, rest_pose_offsets(), HUMANML3D_22.parents)
    return vectors.reshape(frames, -1), trans, made


def test_poses_of_all_body_models_give_the_same_body(tmp_path):
    for joints, named in ((24, {}), (52, {}), (55, {}), (55, {"rate": "mocap_frame_rate"})):
        poses, trans, made = random_poses(joints)
        np.savez(tmp_path / "a.npz", poses=poses, trans=trans, **{named.get("rate", "mocap_framerate"): 120.0})
        motion = Motion.load(tmp_path / "a.npz")
        assert motion.fps == 120.0
        own = motion.joints - motion.joints[:, :1]
        np.testing.assert_allclose(own, made - made[:, :1], atol=1e-5)


def test_poses_in_parts_as_matrices_and_with_prefixes(tmp_path):
    poses, trans, made = random_poses(22)
    turns = rotations.to_matrix(rotations.from_vector(poses.reshape(len(poses), 22, 3)))
    layouts = {
        "parts": {"global_orient": poses[:, :3], "body_pose": poses[:, 3:], "transl": trans},
        "amass_x": {"root_orient": poses[:, :3], "pose_body": poses[:, 3:], "trans": trans},
        "matrices": {"global_orient": turns[:, :1], "body_pose": turns[:, 1:], "transl": trans},
        "gvhmr": {
            "smpl_params_incam.global_orient": poses[:, :3] + 1.0,
            "smpl_params_incam.body_pose": poses[:, 3:],
            "smpl_params_incam.transl": trans,
            "smpl_params_global.global_orient": poses[:, :3],
            "smpl_params_global.body_pose": poses[:, 3:],
            "smpl_params_global.transl": trans,
        },
    }
    for name, arrays in layouts.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        joints = Motion.load(tmp_path / f"{name}.npz", fps=30).joints
        np.testing.assert_allclose(joints - joints[:, :1], made - made[:, :1], atol=1e-5)


def test_poses_with_z_up_stand_upright(tmp_path):
    poses, trans, made = random_poses(52)
    lay = rotations.about_axis("x", np.pi / 2)  # Y becomes Z
    vectors = poses.reshape(len(poses), 52, 3).copy()
    root = rotations.multiply(lay, rotations.from_vector(vectors[:, 0]))
    angle = 2 * np.arctan2(np.linalg.norm(root[:, 1:], axis=-1), root[:, 0])
    vectors[:, 0] = rotations.normalize(root[:, 1:]) * angle[:, None]
    np.savez(tmp_path / "z.npz", poses=vectors.reshape(len(poses), -1), trans=rotations.rotate(lay, trans), fps=60)
    joints = Motion.load(tmp_path / "z.npz").joints
    np.testing.assert_allclose(joints - joints[:, :1], made - made[:, :1], atol=1e-5)


def test_poses_in_a_batch_of_one_and_scaled(tmp_path):
    poses, trans, made = random_poses(22)
    np.savez(tmp_path / "b.npz", global_orient=poses[None, :, :3], body_pose=poses[None, :, 3:], transl=trans[None])
    joints = Motion.load(tmp_path / "b.npz", fps=30).joints
    np.testing.assert_allclose(joints - joints[:, :1], made - made[:, :1], atol=1e-5)
    for part in (np.zeros(()), np.zeros(66), np.zeros((2, 2, 2, 2))):
        for name, other in (("global_orient", "body_pose"), ("body_pose", "global_orient")):
            np.savez(tmp_path / "d.npz", **{name: part, other: poses[:, :3] if other[0] == "g" else poses[:, 3:]})
            with pytest.raises(MotionFormatError, match=r"d\.npz: "):
                Motion.load(tmp_path / "d.npz", fps=30)
    poses, trans, _ = random_poses(24)
    np.savez(tmp_path / "one.npz", poses=poses, trans=trans)
    for scaling in (np.array([93.5]), np.array(93.5)):  # as AIST++
        np.savez(tmp_path / "a.npz", smpl_poses=poses, smpl_trans=trans * 93.5, smpl_scaling=scaling)
        expected = Motion.load(tmp_path / "one.npz", fps=30).joints
        np.testing.assert_allclose(Motion.load(tmp_path / "a.npz", fps=30).joints, expected, atol=1e-5)
    for scaling in (0.0, -1.0, np.nan, np.ones(2)):
        np.savez(tmp_path / "a.npz", smpl_poses=poses, smpl_trans=trans, smpl_scaling=scaling)
        with pytest.raises(MotionFormatError, match=r"a\.npz: .*(smpl_scaling|finite)"):
            Motion.load(tmp_path / "a.npz", fps=30)


@pytest.mark.parametrize("name", ["arr_0", "xyz", "global_positions"])
def test_single_array_of_an_archive_needs_no_name(make_motion, tmp_path, name):
    motion = make_motion()
    np.savez(tmp_path / "a.npz", **{name: motion.joints}, fps=25)
    read = Motion.load(tmp_path / "a.npz")
    np.testing.assert_allclose(read.joints, motion.joints, atol=1e-6)
    assert read.fps == 25
    np.savez(tmp_path / "a.npz", **{name: motion.joints, "other": np.zeros(3)})
    with pytest.raises(MotionFormatError, match="expected an array 'joints'"):
        Motion.load(tmp_path / "a.npz")


def test_mean_body_equals_smpl():
    """Compare with the neutral mean body that simulators publish: x forward, y left, z up, in meters."""
    published = {
        "left_hip": (-0.0068, 0.0695, -0.0914),
        "left_knee": (-0.0045, 0.0343, -0.3752),
        "left_ankle": (-0.0437, -0.0136, -0.398),
        "left_foot": (0.1193, 0.0264, -0.0558),
        "right_foot": (0.1233, -0.0254, -0.0481),
        "spine1": (-0.0267, -0.0025, 0.109),
        "spine3": (0.0254, 0.0015, 0.0529),
        "neck": (-0.0429, -0.0028, 0.2139),
        "head": (0.0513, 0.0052, 0.065),
        "left_collar": (-0.0341, 0.0788, 0.1217),
        "left_elbow": (-0.0275, 0.2596, -0.0128),
    }
    offsets = rest_pose_offsets()
    for name, (ahead, left, up) in published.items():
        bone = offsets[HUMANML3D_22.joint_names.index(name)]
        cosine = np.dot(bone, (left, up, ahead)) / np.linalg.norm(bone) / np.linalg.norm((left, up, ahead))
        assert cosine > np.cos(np.radians(5.0)), name


def test_poses_that_do_not_fit_are_refused(tmp_path):
    poses, trans, _ = random_poses(24)
    for arrays, message in (
        ({"poses": poses[:, :30], "trans": trans}, r"expected 'poses' of shape \(frames, 72\) for SMPL"),
        ({"poses": poses, "trans": trans[:3]}, r"expected 'trans' of shape \(6, 3\), as many frames"),
        ({"global_orient": poses[:, :3], "body_pose": poses[:, :12]}, "expected 'global_orient' of shape"),
        ({"poses": np.full((2, 72), np.nan), "trans": np.zeros((2, 3))}, "not finite"),
        ({"poses": np.zeros((0, 72)), "trans": np.zeros((0, 3))}, "no frames"),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(MotionFormatError, match=message):
            Motion.load(tmp_path / "a.npz", fps=30)


# ---- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [0, -1, 0.5, 1001, 1e-9, 5e-324, float("nan"), float("inf"), True, "20"])
def test_frame_rates_are_bounded_everywhere(make_motion, tmp_path, fps):
    motion = make_motion()
    message = "from 1 to 1000 frames per second"
    with pytest.raises(MotionFormatError, match=message):
        Motion(joints=motion.joints, fps=fps)
    with pytest.raises(MotionFormatError, match=message):
        motion.resample(fps)
    motion.save(tmp_path / "a.npy")
    with pytest.raises(MotionFormatError, match=message):
        Motion.load(tmp_path / "a.npy", fps=fps)
    for suffix in (".bvh", ".glb", ".npz", ".npy", ".html"):
        with pytest.raises(MotionFormatError, match=message):
            motion.save(tmp_path / f"out{suffix}", fps=fps)
        assert not (tmp_path / f"out{suffix}").exists()
    if not isinstance(fps, str | bool):
        np.savez(tmp_path / "a.npz", joints=motion.joints, fps=fps)
        with pytest.raises(MotionFormatError, match=r"a\.npz: expected fps from 1 to 1000"):
            Motion.load(tmp_path / "a.npz")


def test_resampling_to_millions_of_frames_is_refused(make_motion):
    slow = Motion(joints=np.repeat(make_motion(num_frames=1).joints, 3000, axis=0), fps=1)
    with pytest.raises(MotionFormatError, match=r"3000 s at 1000 fps are 3000000 frames; at most 1000000"):
        slow.resample(1000)


def test_fps_can_be_passed_when_saving(make_motion, tmp_path):
    motion = make_motion(num_frames=21, fps=20)
    for suffix in (".bvh", ".glb", ".npz"):
        motion.save(tmp_path / f"a{suffix}", fps=30)
        read = Motion.load(tmp_path / f"a{suffix}")
        assert read.fps == pytest.approx(30, rel=1e-4)
        assert read.num_frames == motion.resample(30).num_frames


def test_long_captions_are_refused_when_saving(make_motion, tmp_path):
    make_motion(text="x" * 10_000).save(tmp_path / "a.npz")
    assert Motion.load(tmp_path / "a.npz").text == "x" * 10_000
    with pytest.raises(MotionFormatError, match="a caption of at most 10000 characters, got 10001"):
        make_motion(text="x" * 10_001).save(tmp_path / "b.npz")
    assert not (tmp_path / "b.npz").exists()


def test_large_members_are_refused_before_unpacking(tmp_path):
    def header(descr: str, shape: tuple[int, ...]) -> bytes:
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
        return stream.getvalue()

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for descr, shape in (("<f4", (10**9, 22, 3)), ("<U9999", (3000,)), ("<U999999999", ()), ("<f8", (2**40,))):
        with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("joints.npy", header(descr, shape) + b"\0" * 50_000_000)
        with pytest.raises(MotionFormatError, match=r"bomb\.npz: joints"):
            Motion.load(tmp_path / "bomb.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_other_compression_and_odd_archives_are_refused(make_motion, tmp_path):
    data = io.BytesIO()
    np.save(data, make_motion().joints)
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("joints.npy", data.getvalue())
        with pytest.raises(MotionFormatError, match="compression that NumPy does not write"):
            Motion.load(tmp_path / "a.npz")


def test_error_names_pickles(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps({"poses": 1}))
    with pytest.raises(MotionFormatError, match="not a NumPy file but a pickle"):
        Motion.load(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("suffix", "way"),
    [
        (".fbx", r"blender -b .*import_scene\.fbx\(filepath='take\.fbx'\).*filepath='take\.glb'"),
        (".FBX", "blender"),
        (".c3d", "markers, not joints"),
        (".bip", "3ds Max"),
        (".vmd", "mmd_tools"),
        (".usdz", "usd_import"),
        (".amc", "amc2bvh"),
        (".pkl", r"never loaded.*python -c"),
        (".pth", r"never loaded.*python -c"),
    ],
)
def test_errors_about_other_formats_explain_the_conversion(tmp_path, suffix, way):
    (tmp_path / f"take{suffix}").write_bytes(b"?")
    with pytest.raises(MotionFormatError, match=way):
        Motion.load(tmp_path / f"take{suffix}")


# ---- fuzz ------------------------------------------------------------------------------------------------


def test_fuzzed_files_raise_only_format_errors(make_motion, tmp_path):
    """Fuzz for a few seconds; `benchmarks/fuzz_motion_files.py` runs any number, with more kinds of mutations."""
    random_ = random.Random(0)
    motion = make_motion(num_frames=4)
    seeds = []
    for array in (motion.joints, motion.features, motion.joints[None]):
        stream = io.BytesIO()
        np.save(stream, array)
        seeds.append((".npy", stream.getvalue()))
    poses, trans, _ = random_poses(52, 3)
    for arrays in (
        {"joints": motion.joints, "fps": 20.0, "skeleton": "humanml3d_22", "text": "a walk", "own_body": True},
        {"poses": poses, "trans": trans, "mocap_framerate": 60.0},
        {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66], "transl": trans},
    ):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        seeds.append((".npz", stream.getvalue()))
    tokens = [b"True", b"None", b"-1", b"99999999999", b"((((", b"|O", b"<U99999", b"<c16", b"\0", b"{", b"nan", b"22L"]

    def mutate(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(random_.choice([1, 1, 2, 4])):
            place = random_.randrange(min(len(changed), random_.choice([140, len(changed)])))
            token = random_.choice([*tokens, bytes([random_.randrange(256)])])
            changed[place : place + len(token) * random_.randrange(2)] = token
            if random_.random() < 0.1:
                del changed[max(1, place) :]
        return bytes(changed)

    def mutate_members(data: bytes) -> bytes:
        result = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(result, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                target.writestr(name, mutate(content) if random_.random() < 0.5 else content)
        return result.getvalue()

    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        suffix, data = random_.choice(seeds)
        path = tmp_path / f"f{suffix}"
        path.write_bytes(mutate_members(data) if suffix == ".npz" and random_.random() < 0.6 else mutate(data))
        try:
            motion = Motion.load(path)
            assert np.isfinite(motion.joints).all()
            outcomes["read"] += 1
        except MotionFormatError as error:
            assert path.name in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 100

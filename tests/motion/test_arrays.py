"""Motions as NumPy files: complete round trips, and malicious files are refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamp_hf.motion.errors import MotionFormatError
from lamp_hf.motion.motion import Motion


def test_npz_round_trip_gives_an_equal_motion(tmp_path, walker):
    for motion in (walker, Motion(features=walker.features, fps=20, text="a “walk”"), walker.with_text(None)):
        motion.save(tmp_path / "walk.npz")
        assert Motion.load(tmp_path / "walk.npz") == motion
    assert [path.name for path in tmp_path.iterdir()] == ["walk.npz"]  # no temporary file is left


def test_npy_contents_are_recognized_by_shape(tmp_path, walker):
    walker.save(tmp_path / "joints.npy")
    np.testing.assert_array_equal(Motion.load(tmp_path / "joints.npy").joints, walker.joints)
    walker.save(tmp_path / "features.npy", view="features")
    loaded = Motion.load(tmp_path / "features.npy", fps=20)
    np.testing.assert_array_equal(loaded.features, walker.features)
    assert loaded.name == "features"


def test_fortran_order_is_read(tmp_path, walker):
    np.save(tmp_path / "joints.npy", np.asfortranarray(walker.joints))
    np.testing.assert_array_equal(Motion.load(tmp_path / "joints.npy").joints, walker.joints)


def test_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(MotionFormatError, match="objects are never loaded"):
        Motion.load(tmp_path / "trap.npy")
    (tmp_path / "plain.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(MotionFormatError, match="not a NumPy file"):
        Motion.load(tmp_path / "plain.npy")


def test_sizes_are_checked_before_memory_is_allocated(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 22, 3)})
    (tmp_path / "huge.npy").write_bytes(header.getvalue())
    with pytest.raises(MotionFormatError, match="too many for a motion"):
        Motion.load(tmp_path / "huge.npy")


def test_truncated_and_other_files_raise_clear_errors(tmp_path, walker):
    walker.save(tmp_path / "walk.npy")
    whole = (tmp_path / "walk.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MotionFormatError, match=r"cut.npy: expected 15840 bytes of values, found \d+ \(file trunc"):
        Motion.load(tmp_path / "cut.npy")
    np.save(tmp_path / "image.npy", np.zeros((4, 5)))
    with pytest.raises(MotionFormatError, match=r"image.npy: expected an array of shape .* found \(4, 5\)"):
        Motion.load(tmp_path / "image.npy")
    np.savez(tmp_path / "other.npz", images=np.zeros((4, 5)), labels=np.zeros(4))
    with pytest.raises(
        MotionFormatError, match=r"other.npz: expected an array 'joints' or 'features', .* found images"
    ):
        Motion.load(tmp_path / "other.npz")
    (tmp_path / "no.npz").write_bytes(b"PK not a zip")
    with pytest.raises(MotionFormatError, match=r"no.npz: not a readable .npz archive"):
        Motion.load(tmp_path / "no.npz")


def test_unknown_skeleton_is_refused(tmp_path, walker):
    np.savez(tmp_path / "walk.npz", joints=walker.joints, skeleton="smplx")
    with pytest.raises(MotionFormatError, match="unknown skeleton 'smplx'"):
        Motion.load(tmp_path / "walk.npz")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), place=st.floats(0, 1), value=st.integers(0, 255))
def test_damaged_archives_never_crash(tmp_path, walker, cut, place, value):
    path = tmp_path / "walk.npz"
    walker.crop(0, 0.3).save(path)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = value
    path.write_bytes(data[: max(1, int(cut * len(data)))])
    try:
        assert isinstance(Motion.load(path), Motion)
    except MotionFormatError as error:
        assert "walk.npz" in str(error)


@pytest.mark.parametrize("place", range(8, 128, 3))
def test_damaged_headers_never_crash(tmp_path, walker, place):
    path = tmp_path / "walk.npy"
    walker.crop(0, 0.3).save(path)
    whole = path.read_bytes()
    for value in b"\0\n'(){,:9xL\xff":
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        try:
            assert isinstance(Motion.load(path), Motion)
        except MotionFormatError as error:
            assert "walk.npy" in str(error)


def test_zip_bombs_are_not_unpacked(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2, 22, 3)})
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", header.getvalue() + b"\0" * 50_000_000)
    assert Motion.load(tmp_path / "bomb.npz", unit="m").num_frames == 2  # bytes after the values are ignored

"""Compare the BVH files in `../shared/cases`, which are not part of the repository, with known values.

Cases of other kinds (arrays, folders) are in separate modules and use the same fixtures.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22

CASES = Path(__file__).parents[3] / "shared" / "cases" / "motion_files"
EXPECTED = json.loads((CASES / "expected.json").read_text()) if (CASES / "expected.json").exists() else {}
BVH_CASES = sorted(name for name in EXPECTED if name.endswith(".bvh"))


def test_all_cases_are_present():
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    assert len(BVH_CASES) >= 30
    assert {path.name for path in CASES.glob("*.bvh")} <= set(BVH_CASES)


@pytest.mark.parametrize("name", BVH_CASES)
def test_bvh_cases_are_read_correctly(name):
    motion = Motion.load(CASES / name)
    expected = EXPECTED[name]
    assert len(motion.joints) == expected["frames"]
    assert motion.fps == pytest.approx(expected["fps"], rel=1e-3)
    for frame, key in ((0, "first_frame_m"), (-1, "last_frame_m")):
        for joint, position in expected[key].items():
            found = motion.joints[frame, HUMANML3D_22.joint_names.index(joint)]
            np.testing.assert_allclose(found, position, atol=2e-3, err_msg=f"{joint}, {key}")

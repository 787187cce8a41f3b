"""Fixtures shared by all tests: procedural motions and the optional shared folder."""

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real motion capture and reference numbers; not part of this repository."""
    path = Path(os.environ.get("LAMP_HF_SHARED", _ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"needs the shared data folder, absent at {path} (set LAMP_HF_SHARED)")
    return path


@pytest.fixture(scope="session")
def golden(shared_dir: Path) -> Path:
    """Folder with numbers printed by the authors' own code."""
    path = shared_dir / "golden"
    if not path.is_dir():
        pytest.skip(f"needs the reference numbers, absent at {path}")
    return path


@pytest.fixture(scope="session")
def bandai_archive(shared_dir: Path) -> Path:
    """The Bandai-Namco development archive."""
    path = shared_dir / "data" / "bandai_bvh_dev.tar.xz"
    if not path.is_file():
        pytest.skip(f"needs the Bandai-Namco archive, absent at {path}")
    return path

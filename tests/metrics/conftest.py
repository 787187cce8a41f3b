"""Cache of the metrics' rows during tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lamp_hf.metrics


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    """`lamp_hf.metrics.load` with a separate cache."""

    def load_here(name: str, **options: Any) -> Any:
        return lamp_hf.metrics.load(name, cache_dir=str(tmp_path), **options)

    return load_here

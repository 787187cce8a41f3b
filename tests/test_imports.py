"""The package relies on public names of other libraries: it imports nothing private."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lamp_hf

ROOT = Path(lamp_hf.__file__).resolve().parent.parent
FOLDERS = ("lamp_hf", "modeling", "pipelines", "examples", "benchmarks")


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and code of every Python file that is installed or shown to users."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def private_imports(code: str) -> list[str]:
    """Return private names that `code` imports.

    Names with a leading underscore are private, and so is everything in model files of transformers: those classes
    change from release to release.
    """
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            own = parts[0] in ("lamp_hf", "_command_line")  # shared helper in the folder of the examples
            underscore = any(part.startswith("_") and not part.startswith("__") for part in parts)
            model_file = parts[:2] == ["transformers", "models"] and len(parts) > 3
            if not own and (underscore or model_file):
                found.append(name)
    return found


def test_no_private_imports_from_other_libraries() -> None:
    checked = dict(sources())
    assert {"modeling/modeling_lamp.py", "lamp_hf/cli/app.py", "examples/text_to_motion.py"} <= set(checked)
    assert {name: found for name, code in checked.items() if (found := private_imports(code))} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from transformers.models.bert.modeling_bert import BertLayer", True),
        ("def later():\n    from transformers.models.bert import modeling_bert", True),
        ("import transformers.models.blip_2.modeling_blip_2 as blip", True),
        ("from transformers.models.auto.auto_factory import _BaseAutoModelClass", True),
        ("from torch import _dynamo", True),
        ("import torch._dynamo", True),
        ("from transformers import BertModel", False),
        ("from transformers.masking_utils import create_causal_mask", False),
        ("from lamp_hf import __version__", False),
        ("from __future__ import annotations", False),
        ("from ._helpers import _own", False),
    ],
)
def test_private_names_are_recognized(code: str, found: bool) -> None:
    assert bool(private_imports(code)) == found

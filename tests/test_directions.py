"""Packages import only from floors below their own; imports inside functions and for types count too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import lamp_hf

ROOT = Path(lamp_hf.__file__).resolve().parent.parent

# From the ground up. Packages of one floor do not import each other; `lamp_hf` is its `__init__.py` and `__main__.py`.
FLOORS = (
    {"version", "batches", "files", "locks", "processes", "terminal", "extras"},
    {"hub"},
    {"checkpoints"},
    {"motion"},
    {"data", "modeling"},
    {"retrieval"},
    {"pipelines"},
    {"registration", "metrics"},
    {"evaluation"},
    {"publishing"},
    {"conversion", "training", "serving"},
    {"studio"},
    {"cli"},
    {"lamp_hf"},
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}
# `push_to_hub` is a method of models, processors and pipelines, and publishing knows them all.
DECLARED = {("modeling/base_lamp.py", "publishing"), ("pipelines/saving.py", "publishing")}


def package_of(module: str) -> str:
    """Return the package or top-level module of a dotted name in lamp_hf."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else "lamp_hf"


def imports(path: Path) -> Iterator[str]:
    """Yield dotted names of all imports from lamp_hf in a file; relative imports stay in their package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "lamp_hf")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "lamp_hf":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{path}:{node.lineno}: import across folders by the whole name"


def test_imports_go_one_way() -> None:
    upward = set()
    for path in (path for folder in ("lamp_hf", "modeling", "pipelines") for path in (ROOT / folder).rglob("*.py")):
        file = path.relative_to(ROOT)
        own = package_of(".".join(("lamp_hf", *file.with_suffix("").parts[file.parts[0] == "lamp_hf" :])))
        for other in {package_of(name) for name in imports(path)} - {own}:
            if FLOOR[other] >= FLOOR[own]:
                upward.add((file.as_posix(), other))
    assert upward == DECLARED


def test_every_package_has_a_floor() -> None:
    rooms = {
        path.stem for path in (ROOT / "lamp_hf").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} | {"lamp_hf", "modeling", "pipelines"} == set(FLOOR)

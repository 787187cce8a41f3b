"""The package as a whole: what an import costs, what it registers, and what it offers."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lamp_hf

ROOT = Path(lamp_hf.__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "av", "imageio", "pygltflib", "pandas", "scipy")


def python(code: str, cwd: Path = ROOT) -> str:
    """Output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports", ["lamp_hf", "lamp_hf.cli", "lamp_hf.metrics", "lamp_hf.motion.motion", "lamp_hf.motion.bvh"]
)
def test_an_import_loads_nothing_heavy(imports: str) -> None:
    loaded = python(f"import sys, {imports}; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert loaded == ""


REGISTERED = """
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
from transformers.pipelines import PIPELINE_REGISTRY
assert "text-to-motion" in PIPELINE_REGISTRY.get_supported_tasks()
assert lamp_hf.MotionRetrievalPipeline is PIPELINE_REGISTRY.check_task("motion-retrieval")[1]["impl"]
assert lamp_hf.TextToMotionPipeline is PIPELINE_REGISTRY.check_task("text-to-motion")[1]["impl"]
assert isinstance(AutoConfig.for_model("lamp"), lamp_hf.LampConfig)
for config, model in (
    (lamp_hf.MotionVQVAEConfig, lamp_hf.MotionVQVAEModel),
    (lamp_hf.LampConfig, lamp_hf.LampModel),
    (lamp_hf.LampTextToMotionConfig, lamp_hf.LampForTextToMotion),
    (lamp_hf.MotionTextEvaluatorConfig, lamp_hf.MotionTextEvaluatorModel),
    (lamp_hf.MotionLengthEstimatorConfig, lamp_hf.MotionLengthEstimatorModel),
):
    assert AutoModel._model_mapping[config] is model
print("registered")
"""


@pytest.mark.parametrize(
    "first",
    [
        "import lamp_hf",
        "import transformers, lamp_hf",
        "from lamp_hf.modeling.modeling_lamp import LampModel; import lamp_hf",
        # transformers imports the auto classes halfway through this one
        "import lamp_hf; from transformers.models.instructblip import modeling_instructblip",
    ],
)
def test_the_order_of_imports_does_not_matter(first: str) -> None:
    assert python(first + "\n" + REGISTERED) == "registered"


def test_registering_twice_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    from lamp_hf.registration import register

    before = PIPELINE_REGISTRY.check_task("text-to-motion")
    register()
    assert PIPELINE_REGISTRY.check_task("text-to-motion") == before
    assert not caplog.records


def test_public_names() -> None:
    assert sorted(lamp_hf.__all__) == sorted(lamp_hf._HOMES)
    for name in lamp_hf.__all__:
        value = getattr(lamp_hf, name)
        assert getattr(value, "__name__", name) == name or name in ("HUMANML3D_22", "KIT_21")
    assert set(lamp_hf.__all__) <= set(dir(lamp_hf))
    with pytest.raises(AttributeError, match="no attribute 'Motoin'"):
        lamp_hf.Motoin  # noqa: B018


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lamp_hf.__version__ == project["version"]


def test_every_package_is_listed_for_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lamp_hf").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} <= set(setuptools["packages"])


def test_a_checkout_without_symbolic_links(tmp_path: Path) -> None:
    links = shutil.ignore_patterns("modeling", "pipelines", "checkpoints", "__pycache__")
    shutil.copytree(ROOT / "lamp_hf", tmp_path / "lamp_hf", ignore=links)
    for folder in ("modeling", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
        (tmp_path / "lamp_hf" / folder).write_text(f"../{folder}")  # what Git leaves in place of a link
    code = (
        "import importlib.util; print(*(importlib.util.find_spec(f'lamp_hf.{name}').origin "
        "for name in ('modeling', 'pipelines', 'motion.motion')), sep='\\n')"
    )
    found = [Path(line).relative_to(tmp_path).as_posix() for line in python(code, tmp_path).splitlines()]
    assert found == ["modeling/__init__.py", "pipelines/__init__.py", "lamp_hf/motion/motion.py"]


def test_embedded_checkpoints_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamp_hf.embedded import embedded_checkpoint, resolve_checkpoint

    monkeypatch.chdir(tmp_path)
    folder = embedded_checkpoint("lamp-small")
    assert resolve_checkpoint("lamp-small") == str(folder)
    assert resolve_checkpoint("owner/lamp-small") == "owner/lamp-small"
    with pytest.raises(FileNotFoundError, match="lamp-huge is neither a folder nor a checkpoint of this package"):
        resolve_checkpoint("lamp-huge")
    (tmp_path / "lamp-small").mkdir()
    assert resolve_checkpoint("lamp-small") == "lamp-small"
    with pytest.raises(ValueError, match="no checkpoint 'lamp-huge' in this package"):
        embedded_checkpoint("lamp-huge")

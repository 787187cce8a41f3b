"""The package as a whole: imports, registration, public names, distribution."""

import itertools
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lamp_hf

ROOT = Path(lamp_hf.__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "av", "imageio", "pygltflib", "pandas", "scipy")


def python(code: str, cwd: Path = ROOT) -> str:
    """Run code in a new interpreter and return its output."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports", ["lamp_hf", "lamp_hf.cli", "lamp_hf.metrics", "lamp_hf.motion.motion", "lamp_hf.motion.formats.bvh"]
)
def test_imports_load_no_heavy_packages(imports: str) -> None:
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
def test_order_of_imports_does_not_matter(first: str) -> None:
    assert python(first + "\n" + REGISTERED) == "registered"


def test_registering_twice_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    from lamp_hf.registration import register

    before = PIPELINE_REGISTRY.check_task("text-to-motion")
    register()
    assert PIPELINE_REGISTRY.check_task("text-to-motion") == before
    assert not caplog.records


def test_public_names() -> None:
    assert sorted(lamp_hf.__all__) == sorted(lamp_hf._MODULES)
    for name in lamp_hf.__all__:
        value = getattr(lamp_hf, name)
        assert getattr(value, "__name__", name) == name or name in ("HUMANML3D_22", "KIT_21")
    assert set(lamp_hf.__all__) <= set(dir(lamp_hf))
    with pytest.raises(AttributeError, match="no attribute 'Motoin'"):
        lamp_hf.Motoin  # noqa: B018


def test_version_matches_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert lamp_hf.__version__ == project["version"]


def test_every_package_is_listed_for_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lamp_hf").rglob("__init__.py")}
    assert {".".join(folder.parts) for folder in folders} <= set(setuptools["packages"])


def tracked_files() -> list[Path]:
    """Return the files of a clone, relative to its root."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("needs a clone with git: what belongs to the sources is asked of it")
    return [Path(name) for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.mark.slow
def test_wheel_contains_only_the_package(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    for name in tracked_files():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            (sources / name).symlink_to((ROOT / name).readlink())
        elif name.parts[0] in ("lamp_hf", "modeling", "pipelines") or len(name.parts) == 1:
            shutil.copy(ROOT / name, sources / name)
    # Like `python -m build`, build the wheel from the source distribution.
    build = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"

    def built(what: str, where: Path) -> Path:
        command = [sys.executable, "-c", build, f"build_{what}", str(tmp_path / what)]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        [path] = (tmp_path / what).iterdir()
        return path

    for what in ("sdist", "wheel"):
        (tmp_path / what).mkdir()
    sdist = built("sdist", sources)
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    wheel = built("wheel", tmp_path / "unpacked" / sdist.name.removesuffix(".tar.gz"))
    assert wheel.name == f"lamp_hf-{lamp_hf.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 100e6  # accepted by PyPI

    names = {PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()}
    places = {"modeling": PurePosixPath("lamp_hf/modeling"), "pipelines": PurePosixPath("lamp_hf/pipelines")}
    expected = {
        places.get(name.parts[0], PurePosixPath(name.parts[0])) / PurePosixPath(*name.parts[1:])
        for name in tracked_files()
        if name.parts[0] in ("lamp_hf", *places) and not (ROOT / name).is_symlink()
    }
    described = {name for name in names if name.parts[0].endswith(".dist-info")}
    assert names - described == expected
    for part in (
        "training/recipes/bandai-namco/lamp.yaml",
        "training/recipes/humanml3d/motion-vqvae.yaml",
        "checkpoints/lamp-small/model.safetensors",
        "checkpoints/lamp-small-evaluator/README.md",
        "metrics/motion_fid/README.md",
        "motion/formats/player.html",
        "py.typed",
    ):
        assert PurePosixPath("lamp_hf", part) in names, part
    assert any(name.name == "LICENSE" for name in described)


def floors() -> dict[str, str]:
    """Return the packages of `.ci/floors.txt` and their releases."""
    lines = (ROOT / ".ci" / "floors.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_ci_installs_the_declared_oldest_releases() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    installed = floors()
    checked = 0
    for requirement in map(Requirement, declared):
        if requirement.name == "lamp_hf":
            continue
        [bound] = requirement.specifier
        assert bound.operator in (">=", "=="), requirement
        found = installed[canonicalize_name(requirement.name)]
        assert Version(found) == Version(bound.version), f"{requirement}: .ci/floors.txt has {found}; compile it again"
        checked += 1
    assert checked > 25


def test_declared_python_versions_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: "
    declared = [item.removeprefix(prefix) for item in project["classifiers"] if item.startswith(f"{prefix}3.")]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["suite"]["strategy"]["matrix"]["python"] == declared
    assert project["requires-python"] == f">={declared[0]}"


def test_workflows_call_existing_parts_of_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = []
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            assert job["timeout-minutes"] <= 60, path
            for step in job["steps"]:
                called += [line.split()[1:] for line in step.get("run", "").splitlines() if line.startswith(".ci/run")]
    assert sorted(part for parts in called for part in parts) == ["first", "floors", "suite"]
    for part in ("first", "floors", "suite"):
        assert f"\n{part}() {{\n" in script
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"


def test_checkout_without_symbolic_links(tmp_path: Path) -> None:
    links = shutil.ignore_patterns("modeling", "pipelines", "lamp-small*", "__pycache__")
    shutil.copytree(ROOT / "lamp_hf", tmp_path / "lamp_hf", ignore=links)
    for folder in ("modeling", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
        (tmp_path / "lamp_hf" / folder).write_text(f"../{folder}")  # Git writes this instead of a link
    code = (
        "import importlib.util; print(*(importlib.util.find_spec(f'lamp_hf.{name}').origin "
        "for name in ('modeling', 'pipelines', 'motion.motion')), sep='\\n')"
    )
    found = [Path(line).relative_to(tmp_path).as_posix() for line in python(code, tmp_path).splitlines()]
    assert found == ["modeling/__init__.py", "pipelines/__init__.py", "lamp_hf/motion/motion.py"]


def test_embedded_checkpoints_load_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamp_hf.checkpoints.embedded import embedded_checkpoint, resolve_checkpoint

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

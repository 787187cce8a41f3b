"""The command line: what it writes, what it prints, how it fails, and what it does not load."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import lamp_hf
from lamp_hf.cli import main
from lamp_hf.motion.motion import Motion
from lamp_hf.training.recipe import RECIPES_FOLDER

ROOT = Path(lamp_hf.__file__).resolve().parent.parent


class Result:
    """Exit code, standard output, and standard error as one line."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, " ".join(err.replace("│", " ").split())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(ended.value.code, captured.out, captured.err)

    return command


# ---- start ------------------------------------------------------------------------------------------------


def test_help_and_version(run) -> None:
    assert run("--version").out == f"lamp-hf {lamp_hf.__version__}\n"
    shown = run("--help")
    assert shown.code == 0
    assert all(name in shown.out for name in ("generate", "index", "search", "info", "convert-motion", "train"))
    for name in ("generate", "index", "search", "info", "convert-motion", "train"):
        assert run(name, "--help").code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["convert-motion", "walk.npz", "walk.glb"], ["info", "walk.npz"]])
def test_light_commands_do_not_import_torch(tmp_path: Path, walker: Motion, arguments: list[str]) -> None:
    walker.save(tmp_path / "walk.npz")
    code = (
        f"import sys, atexit; sys.path.insert(0, {str(ROOT)!r}); from lamp_hf.cli import main\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib'}\n"
        "atexit.register(lambda: print(*(heavy & set(sys.modules))))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""  # none of them is imported; benchmarks/import_time.py measures the time


# ---- convert-motion and info ------------------------------------------------------------------------------


def test_convert_a_file(run, walker: Motion, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.npz")
    result = run("convert-motion", "walk.npz", "walk.bvh", "--fps", 30)
    assert result.code == 0
    assert result.out.startswith("walk.bvh: 89 frames, 2.97 s, mean joint error 0.")
    back = Motion.load(tmp_path / "walk.bvh")
    assert back.fps == pytest.approx(30)
    np.testing.assert_allclose(back.joints, walker.resample(30).joints, atol=0.02)


def test_prints_detected_values_and_options_override_them(run, walker: Motion, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.bvh")
    said = run("convert-motion", "walk.bvh", "walk.npz").err
    assert said.startswith("INFO: walk.bvh: rig lamp_hf, 60 frames at 20 fps, unit cm")
    assert run("convert-motion", "walk.bvh", "slow.npz", "--source-fps", 10).code == 0
    assert Motion.load(tmp_path / "slow.npz").duration == pytest.approx(6.0)
    assert run("convert-motion", "walk.bvh", "small.npz", "--unit", "mm").code == 0
    ratio = np.ptp(Motion.load(tmp_path / "small.npz").joints) / np.ptp(walker.joints)
    assert ratio == pytest.approx(0.1, rel=0.02)


def test_mapping_for_an_unknown_rig(run, walker: Motion, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.bvh")
    text = (tmp_path / "walk.bvh").read_text()
    (tmp_path / "odd.bvh").write_text(text.replace("LeftFoot\n", "Talon\n"))
    guessed = run("convert-motion", "odd.bvh", "guessed.npz")
    assert guessed.code == 0
    assert "recognized by shape" in guessed.err
    assert "left_ankle = 'Talon'" in guessed.err
    (tmp_path / "mapping.json").write_text(json.dumps({"left_ankle": "Talon"}))
    assert run("convert-motion", "odd.bvh", "odd.npz", "--mapping", "mapping.json").code == 0
    ankle = walker.skeleton.joint_names.index("left_ankle")
    np.testing.assert_allclose(Motion.load(tmp_path / "odd.npz").joints[:, ankle], walker.joints[:, ankle], atol=0.02)
    (tmp_path / "mapping.json").write_text("{")
    assert (
        "--mapping mapping.json is not valid JSON"
        in run("convert-motion", "odd.bvh", "odd.npz", "--mapping", "mapping.json").err
    )


def test_convert_with_the_options_of_animators(run, walker: Motion, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.npz")
    options = ["--fps", 40, "--mirror", "--loop", "--in-place", "--origin"]
    assert run("convert-motion", "walk.npz", "cycle.npz", *options).code == 0
    cycle = Motion.load(tmp_path / "cycle.npz")
    assert cycle == walker.adjust(fps=40, mirror=True, loop=True, in_place=True, origin=True)
    assert cycle.final_feet
    assert run("convert-motion", "walk.npz", "planted.npz", "--loop", "--plant-feet").code == 0
    assert Motion.load(tmp_path / "planted.npz") == walker.plant_feet().loop()
    assert "--plant-feet does not work with .npz" in run("convert-motion", "walk.npz", "p.npz", "--plant-feet").err
    assert "--fps expects a frame rate from 1 to 1000" in run("convert-motion", "walk.npz", "p.bvh", "--fps", 0).err
    walker.crop(0, 0.1).save(tmp_path / "short.npz")
    assert "a motion of 2 frames cannot loop" in run("convert-motion", "short.npz", "p.bvh", "--loop").err


def test_convert_a_folder(run, walker: Motion, waver: Motion, tmp_path: Path) -> None:
    (tmp_path / "in" / "day two").mkdir(parents=True)
    walker.save(tmp_path / "in" / "walk.bvh")
    waver.save(tmp_path / "in" / "day two" / "wave.npz")
    (tmp_path / "in" / "broken.bvh").write_text("HIERARCHY\n")
    (tmp_path / "in" / "notes.txt").write_text("no motion")
    result = run("convert-motion", "in", "out", "--to", "npy")
    assert result.code == 1
    assert "2 of 3 files converted to out" in result.out
    assert "Error: in/broken.bvh line 2" in result.err
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.npy"))
    assert written == ["day two/wave.npy", "walk.npy"]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "day two" / "wave.npy"), waver.joints, atol=1e-6)


def test_info_on_a_motion(run, walker: Motion, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.npz")
    assert run("info", "walk.npz").out.startswith("walk.npz: humanml3d_22, 60 frames, 3.00 s at 20 fps; path 3.2")


def test_info_on_a_checkpoint(run, tiny_checkpoint: Path) -> None:
    lines = run("info", tiny_checkpoint).out.splitlines()
    facts = {line[:22].strip(): line[22:].strip() for line in lines}
    assert facts["checkpoint"] == str(tiny_checkpoint)
    assert facts["model"] == "LampForTextToMotion"
    assert facts["longest in one piece"] == "40 frames, 2.0 s"
    assert facts["frames per second"] == "20.0"
    assert facts["skeleton"] == "humanml3d_22"
    assert {"motion tokenizer", "LaMP", "masked transformer", "length estimator"} <= set(facts)
    assert "knows" not in facts  # it does not list them
    assert "knows                 512 sentences: `lamp-hf prompts` lists them" in run("info").out.splitlines()


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "model.safetensors"])
def test_info_on_a_damaged_checkpoint(run, tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    path = tmp_path / "damaged" / name
    path.write_bytes(path.read_bytes()[:-9])
    result = run("info", tmp_path / "damaged")
    assert result.code == 1
    assert result.err.startswith(f"Error: {path} is damaged: ")


def test_checkpoint_errors_take_one_line(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The report of transformers, which continues with random weights, is not shown."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "damaged")
    tensors = load_file(folder / "model.safetensors")
    del tensors["masked_transformer.condition_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    command = [sys.executable, "-m", "lamp_hf", "generate", "a person walks", "-o", "x.bvh", "-m", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: {folder} lacks 1 of the tensors")
    assert len(ended.stderr.splitlines()) == 1
    for name, message in (
        ("lamp-smal", "did you mean lamp-small?"),
        ("damaged/dance", "damaged/dance does not exist, but the folder damaged does"),
        ("owner/dance", "owner/dance cannot be loaded: the Hub cannot be reached (or HF_HUB_OFFLINE is set)"),
    ):
        result = run("generate", "a person walks", "-o", "x.bvh", "-m", name)
        assert result.code == 1
        assert result.err.startswith("Error: ")
        assert message in result.err


# ---- generate ---------------------------------------------------------------------------------------------


def test_generate(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = run("generate", "a person walks", "-o", "walk.npz", "-m", tiny_checkpoint, "-d", 1.55, "--seed", 3)
    assert result.code == 0, result.err
    assert result.out == "walk.npz: 31 frames, 1.55 s, seed 3, 'a person walks'\n"
    motion = Motion.load(tmp_path / "walk.npz")
    assert (motion.num_frames, motion.text) == (31, "a person walks")
    run("generate", "a person walks", "-o", "again.npz", "-m", tiny_checkpoint, "-d", 1.55, "--seed", 3)
    assert Motion.load(tmp_path / "again.npz") == motion


def test_generate_plants_feet_by_default(run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(Motion, "save", lambda motion, path, **options: saved.append((path.suffix, options)))
    arguments = ["generate", "a person walks", "-m", tiny_checkpoint, "-d", 0.4]
    for output, *option in (("w.bvh",), ("w.bvh", "--no-plant-feet"), ("w.npy", "--no-plant-feet")):
        assert run(*arguments, "-o", output, *option).code == 0
    assert saved == [(".bvh", {"plant_feet": None}), (".bvh", {"plant_feet": False}), (".npy", {})]
    assert run(*arguments, "-o", "w.bvh", "--loop", "--plant-feet").code == 0
    assert saved[3:] == [(".bvh", {})]  # planted before the loop


def test_generate_with_the_options_of_animators(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["generate", "a person walks left", "-m", tiny_checkpoint, "-d", 2, "-s", 1]
    assert run(*arguments, "-o", "plain.npz").code == 0
    plain = Motion.load(tmp_path / "plain.npz")
    options = ["--fps", 30, "--mirror", "--loop", "--in-place", "--origin"]
    assert run(*arguments, "-o", "cycle.npz", *options, "--no-plant-feet").code == 0
    cycle = Motion.load(tmp_path / "cycle.npz")
    wanted = plain.adjust(fps=30, mirror=True, loop=True, in_place=True, origin=True, plant_feet=False)
    assert cycle == wanted
    assert cycle.text == "a person walks right"


def test_generate_several_motions(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    texts = ["a person walks", "the person bows"]
    result = run("generate", *texts, "-o", "m.npy", "-m", tiny_checkpoint, "-n", 2, "-d", 1, "-d", 0.5, "-s", 7)
    assert [line.split(", '")[0] for line in result.out.splitlines()] == [
        "m-1.npy: 20 frames, 1.00 s, seed 7",
        "m-2.npy: 20 frames, 1.00 s, seed 8",
        "m-3.npy: 10 frames, 0.50 s, seed 7",
        "m-4.npy: 10 frames, 0.50 s, seed 8",
    ]
    assert np.load(tmp_path / "m-4.npy").shape == (10, 22, 3)


def test_generate_a_storyboard_and_an_edit(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ["-m", tiny_checkpoint, "-s", 2]
    scene = run(
        "generate", "a person walks", "the person bows", "-d", 1.5, "-d", 1, "--storyboard", "-o", "s.npz", *arguments
    )
    assert scene.out.startswith("s.npz: 50 frames, 2.50 s, seed 2, 'a person walks; the person bows'")
    edited = run("generate", "the person waves", "--motion", "s.npz", "--edit", "1:1.5", "-o", "e.npz", *arguments)
    assert edited.code == 0, edited.err
    before, after = (Motion.load(tmp_path / name).features for name in ("s.npz", "e.npz"))
    changed = np.flatnonzero((before != after).any(axis=1))
    assert changed.tolist() == list(range(20, 30))


def test_players_show_motions_side_by_side_and_the_scenes_of_a_storyboard(
    run, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ["-m", tiny_checkpoint, "-s", 2, "--style", "skeleton"]
    takes = run("generate", "a person walks", "-n", 3, "-d", 0.4, "--side-by-side", "-o", "t.html", *arguments)
    assert [line.split(", '")[0] for line in takes.out.splitlines()] == [f"t.html: 0.40 s, seed {n}" for n in (2, 3, 4)]
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert page.count('class="caption"') == 3
    assert '"turns"' not in page.partition('id="motion">')[2].partition("</script>")[0]
    story = run("generate", "a", "b", "-d", 0.4, "-d", 0.4, "--storyboard", "-o", "s.html", *arguments)
    assert story.code == 0, story.err
    assert '<button class="scene" dir="auto" data-start="0.4" data-end="0.8">b<' in (tmp_path / "s.html").read_text()


def test_motion_to_edit_is_resampled_to_the_models_frame_rate(
    run, walker: Motion, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    walker.resample(30).save(tmp_path / "fast.npz")
    result = run("generate", "x", "--motion", "fast.npz", "--edit", "1:2", "-o", "e.npz", "-m", tiny_checkpoint)
    assert result.out.startswith("e.npz: 59 frames, 2.95 s")


def test_warnings_are_shown(run, tiny_checkpoint: Path) -> None:
    text = "a person walks\x1b[31m and the strange person slowly waves both of the hands"
    result = run("generate", text, "-o", "w.npy", "-m", tiny_checkpoint, "-d", 0.4)
    assert result.code == 0
    assert result.err.startswith("WARNING: A text is longer than the 16 word pieces that the model reads")
    assert "\x1b" not in result.err + result.out
    assert r"walks\x1b[31m" in result.out


def test_split_generates_the_actions_in_order(run, tiny_checkpoint: Path) -> None:
    arguments = ["generate", "a person walks then waves", "-o", "both.npz", "-m", tiny_checkpoint, "-s", 1]
    alone = run(*arguments)
    assert alone.out == "both.npz: 40 frames, 2.00 s, seed 1, 'a person walks then waves'\n"
    assert "names 2 actions" in alone.err
    assert "`lamp-hf generate --split`" in alone.err
    result = run(*arguments, "--split")
    assert result.out == "both.npz: 80 frames, 4.00 s, seed 1, 'a person walks then waves'\n"
    assert "actions" not in result.err
    scenes = run("generate", "a person walks", "a person waves", "--storyboard", *arguments[2:])
    assert scenes.out.startswith("both.npz: 80 frames, 4.00 s, seed 1")


def test_edit_past_the_end(run, walker: Motion, tiny_checkpoint: Path, tmp_path: Path) -> None:
    walker.save(tmp_path / "walk.bvh")
    arguments = ["generate", "the person bows", "--motion", "walk.bvh", "-o", "e.npz", "-m", tiny_checkpoint]
    past = run(*arguments, "--edit", "1.5:4.5")
    assert past.code == 0, past.err
    assert "ends after the motion, which lasts" in past.err
    assert "ends after" not in run(*arguments, "--edit", "1.5:").err


def test_source_fps_sets_the_frame_rate_of_a_file(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    result = run("generate", "a person walks", "-o", "fast.npz", "-m", tiny_checkpoint, "-d", 1, "--fps", 30)
    assert result.code == 0, result.err
    assert Motion.load(tmp_path / "fast.npz").fps == pytest.approx(30, rel=1e-3)


def test_prompts(run, tiny_base: Path, tiny_checkpoint: Path) -> None:
    assert run("prompts", "-m", tiny_base).out.splitlines() == [
        "bows (3)",
        "  bow",
        "  the person bows",
        "  a person bows low",
        "3 sentences; --num shows more of each group",
    ]
    assert run("prompts", "bowing", "-m", tiny_base, "-n", 1).out in ("bow\n", "the person bows\n")
    assert "does not say what it was trained on" in run("prompts", "-m", tiny_checkpoint).err


@pytest.mark.parametrize(
    "arguments",
    [
        ["", "-o", "x.bvh"],
        ["walks " * 2000, "-o", "x.bvh"],
        ["a", "-o", "x.fbx"],
        ["a", "-o", "no/x.bvh"],
        ["a", "-o", "x.bvh", "-d", "nan"],
        ["a", "-o", "x.bvh", "-d", "-1"],
        ["a", "-o", "x.bvh", "-s", "-1"],
        ["a", "-o", "x.bvh", "--fps", "0"],
        ["a", "-o", "x.bvh", "--motion", "nowhere.bvh", "--edit", "1:2"],
        ["a", "-o", "x.bvh", "--motion", "walk.npz", "--edit", "4:5"],
        ["a", "-o", "x.bvh", "--motion", "walk.npz", "--edit", "2:1"],
        ["a", "-o", "x.bvh", "--motion", "walk.npz", "--edit", "1:nan"],
        ["a", "b", "-o", "x.bvh", "--storyboard", "--split"],
        ["a", "-o", "x.bvh", "--style", "mannequin"],
        ["a", "-o", "x.html", "--style", "robot"],
        ["a", "-o", "x.gif", "-n", "2", "--side-by-side"],
        ["a", "-o", "x.html", "-n", "13", "--side-by-side"],
    ],
)
def test_arguments_are_checked_before_the_model_is_loaded(
    run, walker: Motion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    walker.save(tmp_path / "walk.npz")
    monkeypatch.setattr("lamp_hf.cli.generate.load_pipeline", lambda *_: pytest.fail("the model was loaded"))
    result = run("generate", *arguments)
    assert result.code in (1, 2)
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("x*"))


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "nowhere.bvh"], 1, "Error: nowhere.bvh: no such file"),
        (["info", "nowhere"], 1, "Error: nowhere is neither a folder nor a checkpoint of this package"),
        (["info", "empty"], 1, "Error: empty has no motion files"),
        (
            ["convert-motion", "walk.npz", "walk.fbx"],
            1,
            "Error: walk.fbx: cannot write this format; expected one of .bvh",
        ),
        (["convert-motion", "walk.npz", "no/walk.glb"], 1, "Error: no/walk.glb: the folder no does not exist"),
        (["convert-motion", ".", "out"], 2, "Invalid value: . is a folder: choose the output format with --to"),
        (["convert-motion", ".", "out", "--to", "fbx"], 1, "Error: *.fbx: cannot write this"),
        (["convert-motion", "empty", "out", "--to", "glb"], 1, "Error: empty has no motion files"),
        (["convert-motion", "walk.npz", "walk.npz"], 1, "Error: walk.npz would overwrite the original walk.npz"),
        (["convert-motion", "walk.npz", "walk.npy", "--to", "npy"], 2, "--to is for folders, but walk.npz is a file"),
        (["convert-motion", "walk.npz", "walk.npy", "--unit", "ell"], 2, "--unit expects one of m, dm, cm, mm, inch"),
        (["convert-motion", "walk.npz", "walk.npy", "--up-axis", "w"], 2, "--up-axis expects one of x, -x, y, -y"),
        (
            ["convert-motion", "walk.npz", "walk.npy", "--source-fps", "0"],
            2,
            "--source-fps expects a frame rate above 0",
        ),
        (["convert-motion", "walk.npz", "walk.npy", "--mapping", "no.json"], 2, "--mapping no.json: No such file"),
        (["generate", "a", "-o", "x.bvh", "--unit", "cm"], 2, "only apply to the file of --motion"),
        (["generate", "-o", "x.bvh"], 2, "Missing argument 'text'"),
        (["generate", "a", "-o", "x.fbx"], 1, "Error: x.fbx: cannot write this"),
        (["generate", "a", "-o", "no/x.bvh"], 1, "Error: the folder no does not exist"),
        (["generate", "a", "-o", "x.bvh", "-m", "nowhere"], 1, "Error: nowhere is neither a folder"),
        (
            ["generate", "a", "-o", "x.bvh", "-m", "TINY", "-d", "-1"],
            1,
            "Error: --duration -1: expected seconds, 0 or more",
        ),
        (["generate", "a", "-o", "x.bvh", "-m", "TINY", "-d", "1e6"], 1, "Error: --duration: 1e+06 s is too long;"),
        (
            ["generate", "a", "b", "-o", "x.bvh", "--storyboard", "-d", "2e4", "-d", "2e4"],
            1,
            "--duration: 40000 s is too long; expected at most 32,000 s",
        ),
        (["generate", "a", "-o", "x.bvh", "-d", "soon"], 2, "Invalid value for '--duration'"),
        (["generate", "a", "-o", "x.bvh", "-d", "1", "-d", "2"], 2, "--duration was given 2 times for 1 text"),
        (["generate", "a", "-o", "x.bvh", "--edit", "1:2"], 2, "--motion and --edit go together"),
        (["generate", "a", "-o", "x.bvh", "--motion", "walk.npz", "--edit", "1-2"], 2, "START:END in seconds"),
        (["generate", "a", "b", "-o", "x.bvh", "--storyboard", "-d", "1"], 2, "--storyboard needs one --duration per"),
        (["train", "lamp", "-c", "no.yaml", "-o", "r"], 1, "Error: no.yaml: no such file, and no packaged recipe"),
        (["train", "lamp", "-c", "RECIPE", "-o", "r"], 1, "is a recipe for the stage motion-vqvae, not lamp"),
        (
            ["train", "motion-vqvae", "-c", "RECIPE", "-o", "r", "oops"],
            1,
            "override 'oops' is not of the form key=value",
        ),
        (["dance"], 2, "No such command 'dance'"),
    ],
)
def test_errors_take_one_line(
    run, walker: Motion, tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    walker.save(tmp_path / "walk.npz")
    (tmp_path / "empty").mkdir()
    recipe = RECIPES_FOLDER / "bandai-namco" / "motion-vqvae.yaml"
    places = {"TINY": str(tiny_checkpoint), "RECIPE": str(recipe)}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err
    assert not list(tmp_path.glob("x*"))


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        main(["info", "nowhere.bvh", "--debug"])


def test_another_kind_of_model_is_refused(run, tiny_checkpoint: Path, tmp_path: Path) -> None:
    lamp_hf.LampModel.from_pretrained(tiny_checkpoint).save_pretrained(tmp_path / "lamp")
    result = run("generate", "a person walks", "-o", "x.bvh", "-m", tmp_path / "lamp")
    assert result.code == 1
    assert "contains a 'lamp' model; text-to-motion needs one of lamp_text_to_motion" in result.err


# ---- train ------------------------------------------------------------------------------------------------


def test_train_passes_recipe_data_and_base(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lamp_hf.training.run

    calls = []
    monkeypatch.setattr(lamp_hf.training.run, "train", lambda recipe, output: calls.append((recipe, output)) or output)
    (tmp_path / "base").mkdir()
    command = ("train", "lamp", "-c", "bandai-namco/lamp", "-o", "runs/lamp", "--data", "mocap", "--base", "base")
    result = run(*command, "trainer.max_steps=5")
    assert (result.code, result.out) == (0, "finished: runs/lamp\n")
    [(given, output)] = calls
    assert (given.data["path"], given.base, given.trainer["max_steps"]) == ("mocap", "base", 5)
    assert output == Path("runs/lamp")
    (tmp_path / "own.yaml").write_text("stage: lamp\ndata: {name: other}\ntrainer: {max_steps: 1}\n")
    run("train", "lamp", "-c", "own.yaml", "-o", "r", "--data", "my_mocap")
    assert calls[-1][0].data == {"name": "my_mocap"}

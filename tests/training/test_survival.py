"""Robust training: several processes, kills at any moment, half precision, accumulation, non-finite numbers."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file

from lamp_hf.data import load_motion_dataset
from lamp_hf.data.schema import with_numpy_motion
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.training import Recipe, train
from lamp_hf.training.stages.base import Stage
from lamp_hf.training.trainer import UNFINISHED

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
# In float32, sums over the combined batch have another order, and the optimizer divides small numbers by small ones.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-4


def recipe_of(folder: Path, **trainer) -> Recipe:
    """Return the recipe of a run, for a new run of a few steps."""
    recipe = Recipe(**yaml.safe_load((folder / "recipe.yaml").read_text()))
    recipe.trainer |= {"max_steps": 4, "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": False, **trainer}
    return recipe


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def losses_of(folder: Path) -> list[dict[str, float]]:
    log = json.loads((folder / "training.json").read_text())["log"]
    return [{k: v for k, v in entry.items() if k.endswith("loss")} for entry in log if "loss" in entry]


def same_weights(first: Path, second: Path) -> bool:
    wanted, found = weights_of(first), weights_of(second)
    return wanted.keys() == found.keys() and all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def python(*arguments: object) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# ---- several processes ------------------------------------------------------------------------------------


def test_two_processes_match_one_with_the_combined_batch(
    stages: dict[str, Path], tiny_checkpoint: Path, tiny_set: Path, tmp_path: Path
) -> None:
    recipes = {stage: recipe_of(folder) for stage, folder in stages.items()}
    # Codes drawn to replace dead ones must be equal. Draws of dropout cannot be equal.
    recipes["motion-vqvae"].model |= {"code_reset_threshold": 0.5, "dropout": 0.0}
    recipes["lamp"].model |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    recipes["text-to-motion"].model["dropout"] = 0.0
    recipes["captioning"].model["lora_dropout"] = 0.0
    sizes = ("movement_hidden_size", "movement_size", "motion_hidden_size", "text_hidden_size", "projection_dim")
    recipes["evaluator"] = Recipe(
        stage="evaluator",
        base=str(tiny_checkpoint),
        data={"name": str(tiny_set)},
        model={**dict.fromkeys(sizes, 8), "word_embedding_size": 8, "dropout": 0.0},
        sampling={"max_frames": 40},
        trainer={**recipes["lamp"].trainer, "metric_for_best_model": "text_to_motion_r1", "learning_rate": 0.001},
    )
    recipes["text-to-motion"].samples = ["a person walks"]  # one process draws them, the other waits
    recipes["motion-vqvae-accumulated"] = replace(recipes["motion-vqvae"])
    recipes["motion-vqvae-accumulated"].trainer = {
        **recipes["motion-vqvae"].trainer,
        "gradient_accumulation_steps": 2,
    }
    residual = {**recipes["motion-vqvae"].model, "num_quantizers": 3, "quantizer_dropout": 0.5}
    begun = train(replace(recipes["motion-vqvae"], model=residual), tmp_path / "begun")
    # Codes that were just drawn from a batch leave no residual of its rows: the next codebook has many zeros
    # to choose from, and rounding decides.
    recipes["motion-vqvae-residual"] = replace(
        recipes["motion-vqvae"], base=str(begun), trainer={**recipes["motion-vqvae"].trainer}
    )
    for name, recipe in recipes.items():
        recipe.trainer["per_device_train_batch_size"] = 4
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    launched = python(*("-m", "torch.distributed.run", "--nproc_per_node", 2, HERE / "two_processes.py", tmp_path))
    for name, recipe in recipes.items():
        recipe.trainer["per_device_train_batch_size"] = 8
        train(recipe, tmp_path / "alone" / name)
    printed, _ = launched.communicate()
    assert launched.returncode == 0, printed
    for name in recipes:
        together, alone = tmp_path / name, tmp_path / "alone" / name
        steps = zip(losses_of(together), losses_of(alone), strict=True)
        for number, (found, wanted) in enumerate(steps, start=1):
            assert found == pytest.approx(wanted, rel=LOSS_TOLERANCE, abs=LOSS_TOLERANCE), (name, number)
        found, wanted = weights_of(together), weights_of(alone)
        for key, tensor in wanted.items():
            torch.testing.assert_close(
                found[key],
                tensor,
                rtol=WEIGHT_TOLERANCE,
                atol=WEIGHT_TOLERANCE,
                msg=lambda m, n=name, k=key: f"{n} {k} {m}",
            )


def test_non_finite_loss_in_one_process_stops_all_and_names_its_clips(
    stages: dict[str, Path], tiny_set: Path, tmp_path: Path
) -> None:
    rows = load_from_disk(tiny_set)
    bad = [dict(row) for row in with_numpy_motion(rows["train"])]
    bad[5]["motion"] = np.full((40, 263), 1e38, np.float32)
    rows["train"] = Dataset.from_list(bad, features=rows["train"].features)
    rows.save_to_disk(tmp_path / "data")
    recipe = recipe_of(
        stages["motion-vqvae"], per_device_train_batch_size=1, max_steps=60, eval_steps=60, save_steps=60
    )
    recipe.base, recipe.data = str(stages["motion-vqvae"]), {"name": str(tmp_path / "data")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    launched = python(*("-m", "torch.distributed.run", "--nproc_per_node", 2, HERE / "two_processes.py", tmp_path))
    printed, _ = launched.communicate(timeout=120)
    assert launched.returncode
    assert re.search(
        r"FloatingPointError: the loss is not finite at step \d+: .* in a batch of clip05\. Lower", printed
    )


# ---- kills ------------------------------------------------------------------------------------------------


def kill_when(process: subprocess.Popen, happened: Callable[[], bool]) -> bool:
    """Kill a process as soon as something has happened; return false if it ended before."""
    while process.poll() is None:
        if happened():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_run_killed_while_writing_a_checkpoint_resumes_to_the_same_weights(
    stages: dict[str, Path], tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    recipe = recipe_of(stages["motion-vqvae"], max_steps=8, eval_steps=2, save_steps=2)
    (folder / "run.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    run = folder / "run"
    being_written = run / UNFINISHED / "checkpoint-4" / file
    killed = kill_when(python(HERE / "two_processes.py", folder), being_written.exists)
    assert killed
    assert not (run / "checkpoint-4").exists()
    assert (run / "checkpoint-2" / "trainer_state.json").is_file()
    train(recipe, run)
    train(recipe, tmp_path / "whole")
    assert not (run / UNFINISHED).exists()
    assert same_weights(tmp_path / "whole", run)


def test_run_killed_while_writing_the_model_resumes_to_the_same_weights(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(stages["text-to-motion"])
    train(recipe, tmp_path / "whole")
    moved = []

    def cut_off(self, target):
        moved.append(Path(target).name)
        if len(moved) == 2:
            raise KeyboardInterrupt
        os.replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    train(recipe, tmp_path / "run")
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    assert not (tmp_path / "run" / UNFINISHED).exists()


def test_newest_and_best_checkpoints_are_kept(stages: dict[str, Path], tmp_path: Path) -> None:
    # The largest error counts as the best, so that the first checkpoint has it.
    options = {"load_best_model_at_end": True, "greater_is_better": True, "save_total_limit": 1}
    train(recipe_of(stages["motion-vqvae"], max_steps=6, **options), tmp_path)
    left = {path.name for path in tmp_path.glob("checkpoint-*")}
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")
    assert left == {"checkpoint-2", "checkpoint-6"}


def test_moved_run_still_ends_with_its_best_weights(stages: dict[str, Path], tmp_path: Path) -> None:
    # The largest error counts as the best, so that the first checkpoint has it.
    recipe = recipe_of(stages["motion-vqvae"], load_best_model_at_end=True, greater_is_better=True)
    run, moved = tmp_path / "run", tmp_path / "moved"
    train(recipe, run)
    assert (run / "checkpoint-2").is_dir()
    for path in run.glob("*.*"):
        path.unlink()
    run.rename(moved)
    recipe.trainer["max_steps"] = 6
    train(recipe, moved)
    state = json.loads((moved / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(moved / "checkpoint-2")
    best, finished = weights_of(moved / "checkpoint-2"), weights_of(moved)
    assert all(torch.equal(tensor, finished[name]) for name, tensor in best.items())


def test_checkpoints_of_another_run_are_not_used(stages: dict[str, Path]) -> None:
    folder = stages["motion-vqvae"]
    with pytest.raises(FileExistsError, match=r"checkpoint-30 belongs to an earlier run: resume"):
        train(recipe_of(folder), folder, resume=False)


def test_run_resumes_with_its_original_recipe(stages: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(stages["motion-vqvae"])
    train(recipe, tmp_path)
    began = (tmp_path / "recipe.yaml").read_text()
    for section, key, value in (
        ("trainer", "learning_rate", 1.0),
        ("sampling", "window", 8),
        ("model", "dropout", 0.5),
    ):
        other = Recipe(**yaml.safe_load(began))
        getattr(other, section)[key] = value
        with pytest.raises(FileExistsError, match=rf"began with {section}\.{key}=.*, not {value}: use the same"):
            train(other, tmp_path)
    with pytest.raises(FileExistsError, match="began with seed=0, not 5"):
        train(replace(recipe, seed=5), tmp_path)
    assert (tmp_path / "recipe.yaml").read_text() == began
    recipe.trainer |= {"max_steps": 6, "save_steps": 3, "disable_tqdm": True}
    assert (train(recipe, tmp_path) / "checkpoint-6").is_dir()


def test_split_without_clips_is_refused(
    stages: dict[str, Path], tiny_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_motion_dataset(tiny_set)
    data["validation"] = data["validation"].select([])
    monkeypatch.setattr("lamp_hf.training.stages.base.load_motion_dataset", lambda name: data)
    with pytest.raises(ValueError, match="the split 'validation' of the data set has no clips"):
        train(recipe_of(stages["motion-vqvae"]), tmp_path)


# ---- half precision and accumulation ----------------------------------------------------------------------


def test_bfloat16_run_learns_and_resumes_bit_exactly(stages: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(stages["text-to-motion"], bf16=True, max_steps=8, eval_steps=4, save_steps=4)
    train(recipe, tmp_path / "whole")
    (tmp_path / "stopped").mkdir()
    (tmp_path / "whole" / "checkpoint-4").rename(tmp_path / "stopped" / "checkpoint-4")
    train(recipe, tmp_path / "stopped")
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    plain = train(recipe_of(stages["text-to-motion"], max_steps=8, eval_steps=4, save_steps=4), tmp_path / "plain")
    first, last = losses_of(tmp_path / "whole"), losses_of(plain)
    assert first != last  # it was trained in half precision
    assert first[-1]["loss"] == pytest.approx(last[-1]["loss"], rel=0.02)


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [
        ({"amx_bf16": False, "avx512_bf16": False}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, False),
        ({"architecture": "another"}, False),
    ],
)
def test_emulated_bfloat16_causes_a_warning(
    stages: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capabilities: dict[str, object],
    warned: bool,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    recipe = recipe_of(stages["motion-vqvae"], bf16=True, max_steps=1, eval_steps=1, save_steps=1)
    train(recipe, tmp_path)
    assert ("set trainer.bf16=false" in caplog.text) == warned
    recipe.trainer["bf16"] = False
    caplog.clear()
    train(recipe, tmp_path / "plain")
    assert "bf16" not in caplog.text


def test_gradient_accumulation_equals_the_whole_batch(stages: dict[str, Path], tmp_path: Path) -> None:
    # Windows of one length, so that all micro-batches have equal weight. The codebook changes with each, so freeze it.
    # Use SGD: Adam would turn even a gradient of rounding errors into a step.
    changes = {"max_steps": 3, "eval_steps": 3, "save_steps": 3, "optim": "sgd", "learning_rate": 0.1}
    runs = {}
    for name, size, parts in (("whole", 8, 1), ("parts", 2, 4)):
        recipe = recipe_of(
            stages["motion-vqvae"], **changes, per_device_train_batch_size=size, gradient_accumulation_steps=parts
        )
        recipe.base, recipe.sampling["window"] = str(stages["motion-vqvae"]), 24
        recipe.model = {"freeze_tokens": True, "dropout": 0.0}
        runs[name] = weights_of(train(recipe, tmp_path / name))
    start = MotionVQVAEModel.from_pretrained(stages["motion-vqvae"]).state_dict()
    for name, tensor in runs["whole"].items():
        torch.testing.assert_close(runs["parts"][name], tensor, atol=1e-6, rtol=1e-6)
    assert not torch.equal(runs["whole"]["decoder.conv_in.weight"], start["decoder.conv_in.weight"])


@pytest.mark.parametrize("stage", ["language-model", "captioning"])
def test_accumulated_caption_losses_are_weighted_by_tokens(stages: dict[str, Path], tmp_path: Path, stage: str) -> None:
    changes = {"max_steps": 2, "eval_steps": 2, "save_steps": 2, "optim": "sgd", "learning_rate": 0.1}
    changes |= {"lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0.0, "logging_steps": 1}
    runs = {}
    for name, size, parts in (("whole", 8, 1), ("parts", 2, 4)):
        recipe = recipe_of(
            stages[stage], **changes, per_device_train_batch_size=size, gradient_accumulation_steps=parts
        )
        recipe.model |= {"lora_dropout": 0.0} if stage == "captioning" else {"dropout": 0.0, "attention_dropout": 0.0}
        runs[name] = train(recipe, tmp_path / name)
    whole, parts = weights_of(runs["whole"]), weights_of(runs["parts"])
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=1e-6, rtol=1e-5)
    for first, second in zip(losses_of(runs["whole"]), losses_of(runs["parts"]), strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-5)


# ---- numbers gone wrong -----------------------------------------------------------------------------------


def test_non_finite_loss_stops_and_names_step_part_and_clips(tokenizer_recipe, tiny_set, tmp_path: Path) -> None:
    recipe = tokenizer_recipe(tiny_set, learning_rate=1e30, max_grad_norm=0.0, max_steps=20)
    with pytest.raises(
        FloatingPointError, match=r"not finite at step \d+: .*reconstruction_loss.* is (nan|inf)"
    ) as caught:
        train(recipe, tmp_path)
    words = str(caught.value)
    assert "in a batch of clip" in words
    assert "There is no checkpoint yet" in words
    assert "mixed precision" not in words


def test_error_names_the_clip_that_causes_a_non_finite_loss(
    tokenizer_recipe, tiny_set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Stage._clips

    def with_a_bad_clip(self, split):
        clips = build(self, split)
        if split == "train":
            clips[5] = np.full_like(clips[5], 1e38)
        return clips

    monkeypatch.setattr(Stage, "_clips", with_a_bad_clip)
    recipe = tokenizer_recipe(tiny_set, per_device_train_batch_size=1, max_steps=60, eval_steps=60, save_steps=60)
    with pytest.raises(FloatingPointError, match=r"in a batch of clip05\. Lower"):
        train(recipe, tmp_path)


def test_non_finite_weights_are_never_saved(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = torch.optim.AdamW.step

    def overflowing(self, closure=None):
        step(self, closure)
        if self.state[self.param_groups[0]["params"][0]]["step"] == 4:
            self.param_groups[0]["params"][0].data[0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", overflowing)
    with pytest.raises(
        FloatingPointError, match=r"weights are not finite after step 4 \(encoder\..*; 1 of \d+ tensors"
    ):
        train(recipe_of(stages["motion-vqvae"]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "checkpoint-2", "recipe.yaml"]


# ---- what one sees meanwhile ------------------------------------------------------------------------------


def test_drawing_samples_does_not_change_training(stages: dict[str, Path], tiny_set: Path, tmp_path: Path) -> None:
    for stage, samples, gifs in (
        ("text-to-motion", ["a person walks", "someone is waving"], ["0.gif", "1.gif"]),
        ("motion-vqvae", ["clip13"], ["0.gif", "1.gif"]),
    ):
        recipe = recipe_of(stages[stage])
        without = train(recipe, tmp_path / f"{stage}-without")
        recipe.samples = samples
        drawn = train(recipe, tmp_path / stage)
        steps = sorted(path.name for path in (drawn / "samples").iterdir())
        assert steps == ["step-000002", "step-000004"]
        for step in steps:
            assert sorted(path.name for path in (drawn / "samples" / step).iterdir()) == gifs
        assert same_weights(without, drawn)


def test_samples_of_unsupported_stages_are_refused(stages: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(stages["motion-vqvae"])
    recipe.samples = ["clip99"]
    with pytest.raises(ValueError, match="'clip99', which is not a validation clip; use ids such as 'clip12'"):
        train(recipe, tmp_path)
    recipe = recipe_of(stages["lamp"])
    recipe.samples = ["a person walks"]
    with pytest.raises(ValueError, match="the stage lamp has no motions to show"):
        train(recipe, tmp_path)


def test_failed_drawing_causes_a_warning(
    stages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(stages["text-to-motion"])
    recipe.samples = ["a person walks"]

    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr("lamp_hf.motion.motion.Motion.save", fail)
    train(recipe, tmp_path)
    assert "No samples at step 2: OSError: disk full" in caplog.text


def test_tensorboard_gets_every_part_of_the_loss(stages: dict[str, Path], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(recipe_of(stages["lamp"], report_to="tensorboard"), tmp_path)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "train/contrastive_loss",
        "train/matching_loss",
        "train/motion_token_loss",
        "eval/text_to_motion_r1",
    } <= tags
    assert len(events.Scalars("train/loss")) == 4

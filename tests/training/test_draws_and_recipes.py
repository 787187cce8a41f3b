"""Draws depend only on seed and number; recipes are read, overridden and checked."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamp_hf.training import load_recipe
from lamp_hf.training.recipe import recipe_names
from lamp_hf.training.stages.draws import ClipDraws, balanced_weights
from lamp_hf.training.stages.lamp import LampStage


def draws(seed: int = 3, num_draws: int = 2000, weights: tuple[float, ...] = (0.5, 0.3, 0.2)) -> ClipDraws:
    return ClipDraws(
        lambda clip, rng: {"clip": clip, "noise": rng.random()},
        np.array(weights),
        num_draws=num_draws,
        seed=seed,
    )


def test_draw_depends_only_on_seed_and_number():
    first, second = draws(), draws()
    expected = [first[i] for i in range(50)]
    assert [second[i] for i in reversed(range(50))] == expected[::-1]
    assert [draws(seed=4)[i] for i in range(50)] != expected
    assert len({example["noise"] for example in expected}) == 50


def grouped(num_draws: int, batch_size: int = 4, seed: int = 3) -> ClipDraws:
    return ClipDraws(
        lambda clip, rng: {"clip": clip, "length": int(rng.integers(1, 60))},
        np.full(5, 0.2),
        num_draws=num_draws,
        seed=seed,
        size=lambda example: example["length"],
        batch_size=batch_size,
    )


def test_batches_of_similar_length_contain_the_same_draws():
    count = 4 * 2 * ClipDraws.GROUPED_BATCHES + 8  # two groups, and two batches of a third one
    together = grouped(count)
    examples = [together[i] for i in range(count)]
    assert [grouped(count)[i] for i in (70, 3, 131)] == [examples[i] for i in (70, 3, 131)]  # resumed at any position
    plain = grouped(count)
    plain.size = None
    rows = [tuple(sorted(example.items())) for example in examples]
    for start in range(0, count, 4 * ClipDraws.GROUPED_BATCHES):
        stop = min(start + 4 * ClipDraws.GROUPED_BATCHES, count)
        drawn = [tuple(sorted(plain[i].items())) for i in range(start, stop)]
        assert sorted(rows[start:stop]) == sorted(drawn)
    lengths = np.array([example["length"] for example in examples]).reshape(-1, 4)
    random = np.array([plain[i]["length"] for i in range(count)]).reshape(-1, 4)
    assert np.ptp(lengths, axis=1).mean() < np.ptp(random, axis=1).mean() / 4
    longest = lengths[: ClipDraws.GROUPED_BATCHES].max(1)
    assert (np.diff(longest) < 0).any()  # batches are not in the order of their lengths
    assert (np.diff(longest) > 0).any()


def test_clips_are_drawn_by_weight():
    counts = Counter(example["clip"] for example in (draws()[i] for i in range(2000)))
    assert [round(counts[clip] / 2000, 1) for clip in range(3)] == [0.5, 0.3, 0.2]


@given(st.lists(st.sampled_from("abc"), min_size=1), st.floats(0, 1))
def test_balance_shifts_weight_from_clips_to_labels(labels, balance):
    weights = balanced_weights(labels, balance)
    counts = Counter(labels)
    total = sum(count ** (1 - balance) for count in counts.values())
    for label, count in counts.items():
        share = sum(weight for weight, other in zip(weights, labels, strict=True) if other == label)
        assert share == pytest.approx(count ** (1 - balance) / total)


def test_balance_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"balance=1.5 is outside"):
        balanced_weights(["a"], 1.5)


def test_recipe_with_overrides(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stage: lamp\ntrainer:\n  max_steps: 5\n")
    recipe = load_recipe(path, ["trainer.max_steps=7", "base=runs/x", "model.hidden_size=32", "trainer.bf16=true"])
    assert recipe.trainer == {"max_steps": 7, "bf16": True}
    assert (recipe.base, recipe.model) == ("runs/x", {"hidden_size": 32})
    path.write_text("stage: lamp\ntrainer:\n  learning_rate: 5e-05\n  weight_decay: 1E-2\n  run_name: 1e\n")
    recipe = load_recipe(path, ["text_learning_rate=1e-4"])
    assert recipe.trainer == {"learning_rate": 5e-5, "weight_decay": 0.01, "run_name": "1e"}
    assert recipe.text_learning_rate == 1e-4


def test_invalid_recipes_are_refused(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("stage: lamp\nlearning_rate: 1\n")
    with pytest.raises(ValueError, match="unknown keys learning_rate; known: base, data"):
        load_recipe(path)
    path.write_text("stage: lamp\n")
    with pytest.raises(ValueError, match=r"'max_steps 5' is not of the form"):
        load_recipe(path, ["max_steps 5"])
    for override, words in (
        ("trainer=5", "trainer=5 is not a section"),
        ("trainer.optim.x=1", "optim is not a section"),
        ("seed=abc", "seed='abc' is not a whole number"),
        ("rehearsal.motions=3", r"rehearsal section has the unknown key motions \(did you mean num_motions\?\)"),
        ("lora.dropout=0.1", r"lora section has the unknown key dropout \(known: alpha, rank\)"),
    ):
        with pytest.raises(ValueError, match=words):
            load_recipe(path, ["trainer.optim=sgd", override])
    for override, words in (
        ("model.hiden_size=3", r"model section has the unknown key hiden_size \(did you mean hidden_size\?\)"),
        ("sampling.windw=3", r"sampling section has the unknown key windw"),
    ):
        with pytest.raises(ValueError, match=words):
            LampStage.check(load_recipe(path, [override]))
    path.write_text("just text")
    with pytest.raises(ValueError, match="is not a recipe"):
        load_recipe(path)


@pytest.mark.parametrize(
    "name",
    recipe_names(),
)
def test_packaged_recipes_are_valid(name: str):
    recipe = load_recipe(name)
    assert recipe.trainer["max_steps"] > 0
    assert recipe.trainer["eval_steps"] == recipe.trainer["save_steps"]  # the best checkpoint must be a saved one

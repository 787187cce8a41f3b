"""Records of evaluations: their content, shared tables, and cards."""

import dataclasses
import math

import numpy as np
import pytest
from huggingface_hub import ModelCard, metadata_load

from lamp_hf.evaluation.records import (
    Estimate,
    EvaluationRecord,
    Protocol,
    UnlikeRecordsError,
    comparison,
    joined_results,
    results_of,
    without_records,
    write_to_card,
)
from lamp_hf.evaluation.sweeps import joined_sweep, sweep_settings, variant_name

PROTOCOL = Protocol("retrieval", "all", 1, "judge", "abc", "clips", "0f", "validation", 40, 20, 0, {"pool_size": 32})


def record(model: str, value: float = 0.5, **changes: object) -> EvaluationRecord:
    return EvaluationRecord(
        model=model,
        model_hash=f"hash of {model}",
        lamp_hf="0.1.0",
        protocol=dataclasses.replace(PROTOCOL, **changes),
        rows={model: {"r1": Estimate(value, 0.01), "medr": Estimate(3.0)}},
        references={"chance": {"r1": Estimate(0.03, 0.002)}},
    )


def test_interval_is_1_96_standard_errors() -> None:
    values = [1.0, 2.0, 3.0, 6.0]
    estimate = Estimate.of(values)
    assert estimate.value == 3.0
    assert estimate.interval == pytest.approx(1.96 * math.sqrt(np.var(values) / 4))
    assert f"{estimate:.2f}" == "3.00 ± 1.83"
    assert f"{Estimate.of([2.0])}" == "2.000"


def test_record_round_trips_through_its_file(tmp_path) -> None:
    record("ours").save(tmp_path / "ours.json")
    assert EvaluationRecord.load(tmp_path / "ours.json") == record("ours")
    (tmp_path / "other.json").write_text('{"format": 1, "model": "x"}')
    with pytest.raises(ValueError, match=r"other\.json is not an evaluation record"):
        EvaluationRecord.load(tmp_path / "other.json")
    (tmp_path / "newer.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="its format is 2, this version reads 1"):
        EvaluationRecord.load(tmp_path / "newer.json")


def test_comparable_records_share_a_table() -> None:
    table = comparison([record("ours", 0.5), record("theirs", 0.4)])
    assert list(table) == ["chance", "ours", "theirs"]
    assert table["theirs"]["r1"].value == 0.4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "threshold"}, "differ in name, 'all' and 'threshold'"),
        ({"evaluator_hash": "xyz"}, "differ in evaluator_hash, 'abc' and 'xyz'"),
        ({"split": "test"}, "differ in split, 'validation' and 'test'"),
        ({"dataset_hash": "1e"}, "differ in dataset_hash"),
        ({"settings": {"pool_size": 16}}, "differ in settings"),
    ],
)
def test_other_records_cannot_share_a_table(changes: dict, said: str) -> None:
    with pytest.raises(UnlikeRecordsError, match=f"ours and theirs cannot share a table: their records {said}"):
        comparison([record("ours"), record("theirs", **changes)])


def test_two_records_of_the_same_model_are_refused() -> None:
    with pytest.raises(ValueError, match="two records have a row 'ours'"):
        comparison([record("ours"), record("ours")])
    with pytest.raises(ValueError, match="no records"):
        comparison([])


def test_card_keeps_its_text_and_gets_the_newest_numbers(tmp_path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: other\n---\n\n# Ours\n\nWritten by hand.\n")
    write_to_card(card, record("ours", 0.1))
    write_to_card(card, record("ours", 0.2))
    write_to_card(card, record("ours", 0.3, name="threshold"))
    loaded = ModelCard.load(card)
    assert loaded.data.license == "other"
    assert loaded.text.strip() == "# Ours\n\nWritten by hand."
    found = {(result.dataset_config, result.metric_type): result for result in loaded.data.eval_results}
    assert len(found) == len(loaded.data.eval_results) == 4
    first = found["retrieval, all (version 1)", "r1"]
    assert first.metric_value == 0.2
    assert first.metric_args == {"interval_95": 0.01}
    assert first.dataset_args["pool_size"] == 32
    assert first.dataset_args["evaluator_hash"] == "abc"
    assert found["retrieval, threshold (version 1)", "r1"].metric_value == 0.3


def test_user_written_model_index_entries_are_kept(tmp_path) -> None:
    person = [{"name": "x"}, {"name": "y", "results": [{"task": {"type": "dance"}, "metrics": [{"value": 1}]}]}]
    index = joined_results(person, results_of(record("ours", 0.1)))
    index = joined_results(index, results_of(record("renamed", 0.2)))
    assert index[:2] == person
    assert [model["name"] for model in index] == ["x", "y", "ours"]
    [result] = index[2]["results"]
    assert result["metrics"][0]["value"] == 0.2
    assert without_records(index) == person
    card = tmp_path / "README.md"
    card.write_text("---\nmodel-index:\n- name: x\n---\n")
    write_to_card(card, record("ours", 0.1))
    assert [model["name"] for model in metadata_load(card)["model-index"]] == ["x", "ours"]


def test_sweep_makes_all_combinations() -> None:
    assert sweep_settings([]) == [{}]
    assert sweep_settings(["guidance_scale=1,2.5", "top_k=null,5"]) == [
        {"guidance_scale": 1, "top_k": None},
        {"guidance_scale": 1, "top_k": 5},
        {"guidance_scale": 2.5, "top_k": None},
        {"guidance_scale": 2.5, "top_k": 5},
    ]


@pytest.mark.parametrize(
    ("sweeps", "message"),
    [
        (["guidance_scale"], "is not of the form name=value,value; an example is guidance_scale=1,2,4"),
        (["guidance=1,2"], "unknown setting 'guidance'; choose from num_inference_steps, guidance_scale"),
        (["seed=1,2"], "unknown setting 'seed'"),
        (["top_k=1", "top_k=2"], "top_k is given twice; list all its values once"),
        (["top_k=1,1"], "a value is given twice"),
        (["num_inference_steps=10,0"], "num_inference_steps=0 is not a whole number from 1 to 1,000"),
    ],
)
def test_invalid_sweep_is_refused(sweeps: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep_settings(sweeps)


def test_sweep_is_one_record_with_a_row_per_combination() -> None:
    names = [variant_name("ours", settings) for settings in sweep_settings(["guidance_scale=1,2"])]
    joined = joined_sweep("ours", [record(names[0], 0.3), record(names[1], 0.4)])
    assert joined.model == "ours"
    assert {row: metrics["r1"].value for row, metrics in joined.rows.items()} == {
        "ours guidance_scale=1": 0.3,
        "ours guidance_scale=2": 0.4,
    }
    [index] = results_of(joined)
    assert index["results"][0]["metrics"][0]["name"] == "r1, guidance_scale=1"

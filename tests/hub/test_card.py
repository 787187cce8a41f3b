"""Cards: what they say and where it comes from, which licence, and that a person's words stay."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.hub.card import CARD_ITSELF, find_licence, header_of, merged_card, touched, write_run_card

RECIPE = {
    "stage": "text-to-motion",
    "base": "lamp-small",
    "data": {"name": "bandai-namco", "path": "/home/somebody/mocap"},
    "trainer": {"max_steps": 2700, "per_device_train_batch_size": 64, "learning_rate": 0.0008},
    "seed": 3,
}


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run, with the record of an evaluation."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/dance")
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    history = {"metrics": {"train_runtime": 1620.0, "eval_token_loss": 2.5625}, "log": []}
    (folder / "training.json").write_text(json.dumps(history))
    protocol = Protocol("retrieval", "all", 1, "judge", "abc", "clips", "0f", "validation", 40, 20, 0)
    (folder / "evaluations").mkdir()
    EvaluationRecord(
        "dance", "hash", "0.1.0", protocol, {"dance": {"r1": Estimate(0.5, 0.01)}}, {"chance": {"r1": Estimate(0.03)}}
    ).save(folder / "evaluations" / "retrieval-all.json")
    return folder


# ---- what a card says -------------------------------------------------------------------------------------


def test_a_run_has_a_card_of_its_facts(run) -> None:
    write_run_card(run)
    card = (run / "README.md").read_text()
    for line in (
        "# dance",
        "| model | LampForTextToMotion |",
        "| data | `bandai-namco` |",
        "| from | `lamp-small` |",
        "| steps | 2700 |",
        "| seed | 3 |",
        "| minutes | 27.0 |",
        "| token loss | 2.562 |",
        "retrieval, protocol all (version 1): 40 clips of clips (validation), 20 repeats, judged by `judge`.",
        "|  | chance | dance |",
        "| r1 | 0.030 | 0.500 ± 0.010 |",
        "cc-by-nc-4.0, as that of `lamp-small`.",
        'pipe = pipeline("text-to-motion", model="runs/dance")',
    ):
        assert line in card.splitlines()
    assert "somebody" not in card
    header = header_of(card)
    assert header["license"] == "cc-by-nc-4.0"
    assert "base_model" not in header  # lamp-small is no name on the Hub
    assert "datasets" not in header


def test_names_on_the_hub_are_in_the_header(run) -> None:
    changed = RECIPE | {"base": "somebody/lamp", "data": {"name": "somebody/mocap"}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(changed))
    write_run_card(run)
    header = header_of((run / "README.md").read_text())
    assert (header["base_model"], header["datasets"]) == ("somebody/lamp", ["somebody/mocap"])
    assert header["license"] == "other"  # theirs is not known here, and none is made up
    assert "Not stated" in (run / "README.md").read_text()


@pytest.mark.parametrize("kind", ["lamp", "captioner", "language model", "evaluator", "tokenizer"])
def test_every_kind_of_checkpoint_has_a_card_whose_snippet_runs(
    kind, tiny_checkpoint, tiny_captioner, tiny_language_model, walker, tmp_path, monkeypatch
) -> None:
    import lamp_hf

    folder = tmp_path / "checkpoint"
    if kind == "tokenizer":
        config = lamp_hf.MotionVQVAEConfig(hidden_size=8, code_dim=4, num_codes=8)
        lamp_hf.MotionVQVAEModel(config).save_pretrained(folder)
        lamp_hf.LampFeatureExtractor().save_pretrained(folder)
    elif kind == "lamp":
        lamp_hf.LampModel.from_pretrained(tiny_checkpoint).save_pretrained(folder)
        lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    elif kind == "evaluator":
        shutil.copytree(lamp_hf.embedded_checkpoint("lamp-small-evaluator"), folder)
        (folder / "README.md").unlink()
    else:
        shutil.copytree(tiny_captioner if kind == "captioner" else tiny_language_model, folder)
    write_run_card(folder)
    card = (folder / "README.md").read_text()
    tasks = {"lamp": "motion-retrieval", "captioner": "motion-captioning", "language model": "text-generation"}
    assert header_of(card).get("pipeline_tag") == tasks.get(kind)
    assert header_of(card)["library_name"] == ("transformers" if kind == "language model" else "lamp_hf")
    [code] = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    Path("my_mocap").mkdir()
    for name in ("walk.bvh", "my_mocap/walk.npz"):
        walker.save(name)
    exec(compile(code, "the card", "exec"), {})


# ---- whose words ------------------------------------------------------------------------------------------


def test_what_a_person_wrote_stays(run) -> None:
    own = "---\nlicense: mit\n---\n\n# My dance model\n"
    (run / "README.md").write_text(own)
    write_run_card(run)
    assert (run / "README.md").read_text() == own


def test_text_and_entries_around_the_marks_stay(run) -> None:
    write_run_card(run)
    card = (run / "README.md").read_text()
    for old, new in (
        ("license: cc-by-nc-4.0\n", "license: cc-by-nc-sa-4.0\nlanguage: en\n"),
        ("tags:\n", "tags:\n- ballet\n"),
        ("\n<!-- Written", "\nIt dances.\n\n<!-- Written"),
    ):
        assert card.count(old) == 1
        card = card.replace(old, new)
    (run / "README.md").write_text(card + "\n## Thanks\n\nTo all.\n")
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"seed": 4}))
    write_run_card(run)
    again = (run / "README.md").read_text()
    assert "| seed | 4 |" in again
    assert "| seed | 3 |" not in again
    assert again.index("It dances.") < again.index("# dance")
    assert again.endswith("\n## Thanks\n\nTo all.\n")
    header = header_of(again)
    assert (header["license"], header["language"]) == ("cc-by-nc-sa-4.0", "en")
    assert {"ballet", "lamp_hf"} < set(header["tags"])
    assert touched(again)
    before = again
    write_run_card(run)
    assert (run / "README.md").read_text() == before  # nothing grows


def test_a_licence_replaces_the_earlier_one_whole_and_a_persons_entries_stay() -> None:
    earlier = {"license": "other", "license_name": "mine", "license_link": "LICENSE", "datasets": ["me/mocap"]}
    first = merged_card(None, earlier, "text")
    told = header_of(merged_card(first, {"license": "mit"}, "text"))
    assert told == {"datasets": ["me/mocap"], "license": "mit"}


def test_a_model_index_stays() -> None:
    first = merged_card("---\nmodel-index:\n- name: x\n---\n", {"library_name": "lamp_hf"}, "text")
    assert first is not None
    assert header_of(first)["model-index"] == [{"name": "x"}]


def test_what_transformers_wrote_is_nobodys_unless_changed() -> None:
    words = (
        "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
        "automatically generated."
    )
    card = str(ModelCard.from_template(ModelCardData(library_name="transformers"), model_description=words))
    assert not touched(card)
    replaced = merged_card(card, {"library_name": "lamp_hf"}, "text")
    assert replaced is not None
    assert header_of(replaced)["library_name"] == "lamp_hf"
    assert "More Information Needed" not in replaced
    edited = card.replace("[More Information Needed]", "A dancer.", 1)
    assert touched(edited)
    assert merged_card(edited, {"library_name": "lamp_hf"}, "text") is None


# ---- the licence ------------------------------------------------------------------------------------------

MIT, BY = {"license": "mit"}, {"license": "cc-by-4.0"}
OWN = {"license": "other", "license_name": "house-rules", "license_link": "LICENSE.md"}


@pytest.mark.parametrize(
    ("asked", "headers", "expected"),
    [
        ("apache-2.0", [(CARD_ITSELF, MIT), ("base", BY)], ({"license": "apache-2.0"}, "asked for")),
        (None, [(CARD_ITSELF, MIT), ("base", BY)], (MIT, CARD_ITSELF)),
        (None, [(CARD_ITSELF, {"license": "other"}), ("base", BY)], (BY, "base")),
        (None, [(CARD_ITSELF, {}), ("base", OWN)], (OWN, "base")),
        (None, [(CARD_ITSELF, {}), ("a", BY), ("b", BY)], (BY, "a")),
        (None, [(CARD_ITSELF, {}), ("a", BY), ("b", MIT)], ({"license": "other"}, None)),
        (None, [(CARD_ITSELF, {}), ("a", BY), ("b", {})], ({"license": "other"}, None)),
        (None, [(CARD_ITSELF, {})], ({"license": "other"}, None)),
    ],
)
def test_a_licence_is_asked_for_or_inherited_and_never_made_up(asked, headers, expected) -> None:
    found = find_licence(asked, headers)
    assert (dict(found.entries), found.source) == expected

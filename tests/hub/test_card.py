"""Cards: their facts, their license, and that user-written text is kept."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.hub.card_text import CARD_ITSELF, CardError, License, header_of, merged_card, user_edited, user_header
from lamp_hf.hub.licenses import find_license
from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
from lamp_hf.publishing.model_card import write_run_card

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


# ---- facts ------------------------------------------------------------------------------------------------


def test_card_of_a_run_lists_its_facts(run) -> None:
    write_run_card(CheckpointFolder.read(run))
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
        "cc-by-nc-4.0, inherited from `lamp-small`.",
        'pipe = pipeline("text-to-motion", model="runs/dance")',
    ):
        assert line in card.splitlines()
    assert "somebody" not in card
    header = header_of(card)
    assert header["license"] == "cc-by-nc-4.0"
    assert "base_model" not in header  # lamp-small is not on the Hub
    assert "datasets" not in header


def test_names_on_the_hub_are_in_the_header(run) -> None:
    changed = RECIPE | {"base": "somebody/lamp", "data": {"name": "somebody/mocap"}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(changed))
    write_run_card(CheckpointFolder.read(run))
    header = header_of((run / "README.md").read_text())
    assert (header["base_model"], header["datasets"]) == ("somebody/lamp", ["somebody/mocap"])
    assert header["license"] == "other"  # the base's is unknown, and none is invented
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
    write_run_card(CheckpointFolder.read(folder))
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


# ---- user text --------------------------------------------------------------------------------------------


def test_user_written_card_is_kept(run) -> None:
    own = "---\nlicense: mit\n---\n\n# My dance model\n"
    (run / "README.md").write_text(own)
    write_run_card(CheckpointFolder.read(run))
    assert (run / "README.md").read_text() == own


def test_text_and_entries_outside_the_marks_are_kept(run) -> None:
    write_run_card(CheckpointFolder.read(run))
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
    write_run_card(CheckpointFolder.read(run))
    again = (run / "README.md").read_text()
    assert "| seed | 4 |" in again
    assert "| seed | 3 |" not in again
    assert again.index("It dances.") < again.index("# dance")
    assert again.endswith("\n## Thanks\n\nTo all.\n")
    header = header_of(again)
    assert (header["license"], header["language"]) == ("cc-by-nc-sa-4.0", "en")
    assert {"ballet", "lamp_hf"} < set(header["tags"])
    assert user_edited(again)
    before = again
    write_run_card(CheckpointFolder.read(run))
    assert (run / "README.md").read_text() == before  # the card does not grow


def test_license_replaces_the_earlier_entries_and_keeps_user_entries() -> None:
    earlier = {"license": "other", "license_name": "mine", "license_link": "LICENSE", "datasets": ["me/mocap"]}
    first = f"---\n{yaml.safe_dump(earlier)}---\n"
    told = header_of(merged_card(first, {}, "text", License({"license": "mit"}, "asked for")))
    assert told == {"datasets": ["me/mocap"], "license": "mit"}


def test_lists_keep_user_entries_and_drop_old_generated_ones() -> None:
    person = {"datasets": ["me/one", "me/two"], "base_model": "me/big", "tags": ["ballet"], "language": "en"}
    first = f"---\n{yaml.safe_dump(person, sort_keys=False)}---\n"
    ours = {"datasets": ["me/three"], "base_model": "me/a", "tags": ["lamp_hf"], "pipeline_tag": "text-to-motion"}
    second = merged_card(first, ours, "text")
    assert header_of(second) == {
        "datasets": ["me/three", "me/one", "me/two"],
        "base_model": ["me/a", "me/big"],
        "tags": ["lamp_hf", "ballet"],
        "language": "en",
        "pipeline_tag": "text-to-motion",
    }
    assert user_header(second) == person | {"base_model": ["me/big"]}
    assert header_of(merged_card(second, {"tags": ["lamp_hf"]}, "text")) == {
        "datasets": ["me/one", "me/two"],
        "base_model": ["me/big"],
        "tags": ["lamp_hf", "ballet"],
        "language": "en",
    }


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "license: mit\nauthor: me: myself [\n",
            "README.md line 3: the header is not valid YAML (mapping values are not",
        ),
        ("just words\n", "README.md line 2: expected a header of `key: value`, found 'just words'"),
    ],
)
def test_unreadable_header_is_refused(run, header, said) -> None:
    (run / "README.md").write_text(f"---\n{header}---\n")
    with pytest.raises(CardError) as raised:
        write_run_card(CheckpointFolder.read(run))
    assert f"{run}/{said}" in str(raised.value)
    assert (run / "README.md").read_text() == f"---\n{header}---\n"


def test_model_index_is_kept() -> None:
    first = merged_card("---\nmodel-index:\n- name: x\n---\n", {"library_name": "lamp_hf"}, "text")
    assert first is not None
    assert header_of(first)["model-index"] == [{"name": "x"}]


def test_card_of_transformers_is_user_edited_only_if_changed() -> None:
    words = (
        "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
        "automatically generated."
    )
    card = str(ModelCard.from_template(ModelCardData(library_name="transformers"), model_description=words))
    assert not user_edited(card)
    replaced = merged_card(card, {"library_name": "lamp_hf"}, "text")
    assert replaced is not None
    assert header_of(replaced)["library_name"] == "lamp_hf"
    assert "More Information Needed" not in replaced
    edited = card.replace("[More Information Needed]", "A dancer.", 1)
    assert user_edited(edited)
    assert merged_card(edited, {"library_name": "lamp_hf"}, "text") is None


# ---- the license ------------------------------------------------------------------------------------------

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
def test_license_is_passed_or_inherited_and_never_invented(asked, headers, expected) -> None:
    found = find_license(asked, headers)
    assert (dict(found.entries), found.source) == expected


def test_inherited_license_is_removed_with_its_base_and_a_user_license_is_kept(run, caplog) -> None:
    base = run.parent / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"base": str(base)}))
    write_run_card(CheckpointFolder.read(run))
    assert header_of((run / "README.md").read_text())["license"] == "mit"
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    write_run_card(CheckpointFolder.read(run))
    assert header_of((run / "README.md").read_text())["license"] == "cc-by-nc-4.0"
    assert not caplog.messages
    write_run_card(CheckpointFolder.read(run), license="apache-2.0")
    write_run_card(CheckpointFolder.read(run))
    assert header_of((run / "README.md").read_text())["license"] == "apache-2.0"
    said = f"The card of {run} says apache-2.0, but lamp-small, from which it was made, is under cc-by-nc-4.0"
    assert [message.startswith(said) for message in caplog.messages] == [True, True]
    assert "`lamp-small`, from which it was made, is under cc-by-nc-4.0." in (run / "README.md").read_text()


def test_attributions_are_inherited(run) -> None:
    write_run_card(CheckpointFolder.read(run))
    card = (run / "README.md").read_text()
    words = card[card.index("From the card of `lamp-small`:") : card.index("<!-- End")].strip()
    assert "© 2022 Bandai Namco Research Inc." in words
    assert "## Training" not in words
    later = run.parent / "later"
    shutil.copytree(run, later, ignore=shutil.ignore_patterns("README.md"))
    (later / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"base": str(run)}))
    write_run_card(CheckpointFolder.read(later))
    again = (later / "README.md").read_text()
    assert "cc-by-nc-4.0, inherited from `dance`." in again
    assert again.count(words) == 1
    assert again.count("From the card of") == 1


def test_card_without_a_license_logs_a_warning(run, caplog) -> None:
    (run / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"base": None}))
    write_run_card(CheckpointFolder.read(run))
    assert "Not stated" in (run / "README.md").read_text()
    assert f"No license was given for {run}, so its card says `other`: " in caplog.text

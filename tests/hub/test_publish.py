"""Pushes to existing repositories, with other weights, the same weights, and user-written text and files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol
from lamp_hf.hub.card_text import header_of
from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
from lamp_hf.publishing.model_card import write_run_card

RECIPE = {"stage": "text-to-motion", "base": "lamp-small", "data": {"name": "clips", "path": "/somewhere/clips"}}
PROTOCOL = Protocol("retrieval", "all", 1, "judge", "abc", "clips", "0f", "validation", 40, 20, 0)


def header(hub, name: str) -> dict:
    return header_of(hub[name].files["README.md"].decode())


def change(hub, name: str, readme: bytes) -> None:
    """Commit a README.md to a repository, as its user."""
    hub[name].commit((hub[name].files if hub[name].commits else {}) | {"README.md": readme})


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a finished run, with a record if there is a `score`; each `version` has its own weights."""

    def make(version: int, *, score: float | None = None, **recipe: object) -> Path:
        folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / f"run-{version}"))
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-1] ^= version
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | recipe))
        if score is not None:
            (folder / "evaluations").mkdir()
            record = EvaluationRecord("run", "hash", "0.1.0", PROTOCOL, {"run": {"r1": Estimate(score)}}, {})
            record.save(folder / "evaluations" / "retrieval.json")
        return folder

    return make


def give_sample(folder: Path, content: bytes = b"GIF89a of this run") -> None:
    """Write a card with a sample, as training does."""
    (folder / "sample.gif").write_bytes(content)
    write_run_card(
        CheckpointFolder.read(folder),
        sample="![the person waves](sample.gif)\n\nMade by this model of “the person waves”, seed 1.",
    )


# ---- the same weights, and others -------------------------------------------------------------------------


def test_facts_about_other_weights_are_removed_with_them(hub, publisher, run) -> None:
    first = run(1, score=0.99)
    give_sample(first)
    assert publisher.lamp_hf("push", first, "me/past") == 0, publisher.printed
    own = {"name": "mine", "results": [{"task": {"type": "dance"}, "metrics": [{"type": "joy", "value": 1}]}]}
    told = header(hub, "me/past")
    card = hub["me/past"].files["README.md"].decode()
    told["model-index"].append(own)
    change(hub, "me/past", f"---\n{yaml.safe_dump(told)}---\n{card.split('---', 2)[2]}".encode())
    assert hub["me/past"].files["sample.gif"] == b"GIF89a of this run"
    # Push the same weights again without their records: nothing is lost.
    shutil.rmtree(first / "evaluations")
    assert publisher.lamp_hf("push", first, "me/past") == 0, publisher.printed
    assert {"evaluations/retrieval.json", "sample.gif", "recipe.yaml"} < hub["me/past"].files.keys()
    told = header(hub, "me/past")
    assert [model["name"] for model in told["model-index"]] == ["run", "mine"]
    assert "retrieval, protocol all" in hub["me/past"].files["README.md"].decode()
    # Push other weights.
    assert publisher.lamp_hf("push", run(2), "me/past", "--no-sample") == 0, publisher.printed
    assert not {"evaluations/retrieval.json", "sample.gif"} & hub["me/past"].files.keys()
    assert header(hub, "me/past")["model-index"] == [own]
    assert "sample.gif" not in hub["me/past"].files["README.md"].decode()


def test_same_weights_keep_their_history(hub, publisher, run, tiny_checkpoint, tmp_path) -> None:
    first = run(3, score=0.5)
    assert publisher.lamp_hf("push", first, "me/back", "--no-sample") == 0, publisher.printed
    files, card = dict(hub["me/back"].files), hub["me/back"].files["README.md"].decode()
    bare = Path(shutil.copytree(tiny_checkpoint, tmp_path / "bare"))
    shutil.copy(first / "model.safetensors", bare)
    assert publisher.lamp_hf("push", bare, "me/back", "--no-sample") == 0, publisher.printed
    assert hub["me/back"].files == files
    assert "| from | `lamp-small` |" in card
    assert "No license" not in publisher.printed


def test_card_keeps_its_facts_about_deleted_bases_with_the_same_weights(hub, publisher, run, tmp_path) -> None:
    base = tmp_path / "gone" / "base"
    base.mkdir(parents=True)
    (base / "README.md").write_text("---\nlicense: mit\n---\n# Base\n\n## License\n\nBy the base's people.\n")
    first = run(4, base=str(base))
    assert publisher.lamp_hf("push", first, "me/orphan", "--no-sample") == 0, publisher.printed
    card = hub["me/orphan"].files["README.md"].decode()
    assert "mit, inherited from `base`." in card
    assert "> By the base's people." in card
    assert str(tmp_path) not in card
    shutil.rmtree(base)
    assert publisher.lamp_hf("push", first, "me/orphan", "--no-sample") == 0, publisher.printed
    assert hub["me/orphan"].files["README.md"].decode() == card
    # Other weights from another base have another license.
    assert publisher.lamp_hf("push", run(5), "me/orphan", "--no-sample") == 0, publisher.printed
    assert header(hub, "me/orphan")["license"] == "cc-by-nc-4.0"
    assert "By the base's people" not in hub["me/orphan"].files["README.md"].decode()
    assert publisher.lamp_hf("push", run(6), "me/orphan", "--no-sample", "--license", "mit") == 0
    said = "The card of me/orphan says mit, but lamp-small, from which it was made, is under cc-by-nc-4.0"
    assert said in publisher.printed


def test_sample_in_the_folders_card_is_not_regenerated(hub, publisher, run) -> None:
    folder = run(7)
    give_sample(folder)
    assert publisher.lamp_hf("push", folder, "me/waves") == 0, publisher.printed
    assert hub["me/waves"].files["sample.gif"] == b"GIF89a of this run"
    assert "Made by this model of “the person waves”, seed 1." in hub["me/waves"].files["README.md"].decode()


# ---- user text and files ----------------------------------------------------------------------------------


def test_user_sample_next_to_a_user_written_card_is_kept(hub, publisher, run) -> None:
    folder = run(8)
    (folder / "README.md").write_text("# Mine\n\n![my own](sample.gif)\n")
    (folder / "sample.gif").write_bytes(b"GIF89a of mine")
    assert publisher.lamp_hf("push", folder, "me/own-sample", "--sample", "a bow") == 0, publisher.printed
    assert hub["me/own-sample"].files["sample.gif"] == b"GIF89a of mine"
    assert hub["me/own-sample"].files["README.md"] == b"# Mine\n\n![my own](sample.gif)\n"


def test_user_written_card_logs_a_missing_license_only_if_it_has_none(hub, publisher, run) -> None:
    assert publisher.lamp_hf("push", "lamp-small", "me/embedded", "--no-sample") == 0, publisher.printed
    assert "me/embedded: its README.md is user-written and is kept" in publisher.printed
    assert "state the license" not in publisher.printed
    folder = run(9)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert publisher.lamp_hf("push", folder, "me/own-license", "--license", "apache-2.0") == 0, publisher.printed
    said = "is kept, with its license (mit); to change it, write `license: apache-2.0` into its header"
    assert said in publisher.printed


def test_error_names_a_card_with_an_unreadable_header(hub, publisher, run) -> None:
    folder = run(10)
    assert publisher.lamp_hf("push", folder, "me/broken", "--no-sample") == 0, publisher.printed
    card = hub["me/broken"].files["README.md"].replace(b"license:", b"author: me: [\nlicense:")
    change(hub, "me/broken", card)
    assert publisher.lamp_hf("push", folder, "me/broken", "--no-sample") == 1
    line = card.decode().splitlines().index("author: me: [") + 1
    assert f"me/broken/README.md line {line}: the header is not valid YAML" in publisher.printed
    assert hub["me/broken"].files["README.md"] == card


def test_invalid_model_index_is_kept(hub, publisher, run) -> None:
    folder = run(11, score=0.5)
    (folder / "README.md").write_text("---\nmodel-index:\n- name: x\n---\n")
    assert publisher.lamp_hf("push", folder, "me/odd", "--no-sample") == 0, publisher.printed
    assert [model["name"] for model in header(hub, "me/odd")["model-index"]] == ["x", "run"]


# ---- what is published ------------------------------------------------------------------------------------


def test_adapter_names_no_local_folder(hub, publisher, run, tmp_path) -> None:
    folder = run(12)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    config = {"base_model_name_or_path": str(tmp_path / "secret" / "base"), "r": 8}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    assert publisher.lamp_hf("push", folder, "me/lora", "--no-sample") == 0, publisher.printed
    files = hub["me/lora"].files
    assert json.loads(files["adapter/adapter_config.json"]) == {"base_model_name_or_path": "base", "r": 8}
    assert files["adapter/adapter_model.safetensors"] == b"weights"
    assert not [name for name, content in files.items() if b"secret" in content or b"/somewhere" in content]


def test_license_of_data_on_the_hub_is_named_and_compared(hub, publisher, run) -> None:
    card = b"---\nlicense: cc-by-sa-4.0\n---\n# Clips\n\n### Licensing\n\nBy the dancers of Turin.\n\n### More\n\nx\n"
    folder = run(13, data={"name": "you/clips"})
    assert publisher.lamp_hf("push", folder, "me/turin", "--no-sample") == 0, publisher.printed
    assert "datasets" not in header(hub, "me/turin")
    hub.repositories["datasets", "you/clips"] = type(hub["me/turin"])()
    change(hub, "datasets/you/clips", card)
    assert publisher.lamp_hf("push", folder, "me/turin", "--no-sample") == 0, publisher.printed
    assert "The card of me/turin says cc-by-nc-4.0, but you/clips, from which it was made, is under cc-by-sa-4.0" in (
        publisher.printed
    )
    text = hub["me/turin"].files["README.md"].decode()
    assert "`you/clips`, from which it was made, is under cc-by-sa-4.0." in text
    assert "From the card of `you/clips`:\n\n> By the dancers of Turin.\n\n" in text
    assert header(hub, "me/turin")["datasets"] == ["you/clips"]


@pytest.mark.parametrize("left", ["checkpoint-3/model.safetensors", "fine-tuning.json"])
def test_error_says_that_a_run_is_unfinished(hub, publisher, tmp_path, left) -> None:
    path = tmp_path / "unfinished" / left
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}")
    assert publisher.lamp_hf("push", tmp_path / "unfinished", "me/half") == 1
    said = "not a complete checkpoint, config.json is missing; its training is not finished, resume it"
    assert said in publisher.printed
    assert ("models", "me/half") not in hub.repositories


# ---- data sets --------------------------------------------------------------------------------------------


@pytest.fixture
def mocap(walker, tmp_path: Path) -> Path:
    folder = tmp_path / "mocap"
    folder.mkdir()
    walker.save(folder / "walk.npz")
    (folder / "metadata.jsonl").write_text('{"file_name": "walk.npz", "text": "a person walks"}\n')
    return folder


def test_readme_of_a_motion_folder_is_used(hub, publisher, mocap) -> None:
    (mocap / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n\n# My mocap, by me\n")
    for _ in range(2):
        assert publisher.lamp_hf("push", mocap, "me/my-mocap") == 0, publisher.printed
        assert "state the license" not in publisher.printed
        told = header(hub, "datasets/me/my-mocap")
        assert told["license"] == "cc-by-4.0"
        assert told["configs"][0]["data_files"][0]["split"] == "train"
        assert hub["datasets/me/my-mocap"].files["README.md"].decode().endswith("---\n\n# My mocap, by me\n")


def test_failed_card_upload_keeps_the_uploaded_data(hub, publisher, mocap) -> None:
    error = publisher.error(
        "from huggingface_hub import HfApi\n"
        "from lamp_hf.publishing.publish import publish\n"
        "create_commit = HfApi.create_commit\n"
        "def cut_off(self, *arguments, **options):\n"
        "    if options.get('commit_message') == 'Upload the card': raise OSError('the line is dead')\n"
        "    return create_commit(self, *arguments, **options)\n"
        "HfApi.create_commit = cut_off\n"
        f"try: publish({str(mocap)!r}, 'me/cardless', license='mit')\n"
        "finally: HfApi.create_commit = create_commit"
    )
    assert "did not finish (the line is dead). The repository is complete except for its card" in error
    assert any(name.endswith(".parquet") for name in hub["datasets/me/cardless"].files)


# ---- objects ----------------------------------------------------------------------------------------------


def test_processors_have_cards_until_a_model_is_pushed(hub, publisher, tiny_checkpoint) -> None:
    publisher(
        f"processor = lamp_hf.LampProcessor.from_pretrained({str(tiny_checkpoint)!r})\n"
        "processor.push_to_hub('me/words', license='mit', commit_message='My words')\n"
        "processor.feature_extractor.push_to_hub('me/numbers')"
    )
    assert hub["me/words"].messages == ["My words"]
    assert (header(hub, "me/words")["library_name"], header(hub, "me/words")["license"]) == ("lamp_hf", "mit")
    assert 'AutoProcessor.from_pretrained("me/words")' in hub["me/words"].files["README.md"].decode()
    assert header(hub, "me/numbers")["license"] == "other"
    change(hub, "me/words", b"# Mine\n")
    publisher("processor.push_to_hub('me/words')")
    assert hub["me/words"].files["README.md"] == b"# Mine\n"


def test_error_names_unknown_options(publisher, tiny_checkpoint) -> None:
    publisher(f"model = lamp_hf.LampForTextToMotion.from_pretrained({str(tiny_checkpoint)!r})")
    error = publisher.error("model.push_to_hub('me/never', crate_pr=True)")
    assert error.startswith("TypeError: push_to_hub of lamp_hf does not take crate_pr; it takes private, license, ")


def test_options_of_transformers_are_accepted(hub, publisher, tiny_checkpoint) -> None:
    publisher(
        f"model = lamp_hf.LampForTextToMotion.from_pretrained({str(tiny_checkpoint)!r})\n"
        "model.push_to_hub('me/options', license='mit', sample='', tags=['dance', 'lamp_hf'], max_shard_size='20KB',\n"
        "    commit_message='First', commit_description='In parts')"
    )
    there = hub["me/options"]
    main = dict(there.files)
    assert len([name for name in main if name.endswith(".safetensors")]) > 1
    assert (there.messages, there.descriptions) == (["First"], ["In parts"])
    tags = header(hub, "me/options")["tags"]
    assert "dance" in tags
    assert tags.count("lamp_hf") == 1
    publisher("model.push_to_hub('me/options', sample='', license='mit', revision='next')")
    assert there.files == main
    assert "model.safetensors" in there.branches["next"][1]
    publisher(
        "url = model.push_to_hub('me/options', sample='', license='mit', create_pr=True)\n"
        "assert url.endswith('me/options/discussions/1'), url"
    )
    assert there.files == main
    assert "model.safetensors" in there.branches["refs/pr/1"][1]
    publisher(
        f"processor = lamp_hf.LampProcessor.from_pretrained({str(tiny_checkpoint)!r})\n"
        "processor.push_to_hub('me/options', revision='next', commit_description='And words')"
    )
    assert "tokenizer.json" in there.branches["next"][1]
    assert "tokenizer.json" not in there.files
    publisher("lamp_hf.LampForTextToMotion.from_pretrained('me/options', revision='next')")


def test_pipeline_from_the_hub_is_pushed_back_with_its_history(hub, publisher, run) -> None:
    assert publisher.lamp_hf("push", run(14, score=0.5), "me/there", "--no-sample") == 0, publisher.printed
    files = dict(hub["me/there"].files)
    publisher(
        'pipe = pipeline("text-to-motion", model="me/there", device="cpu")\n'
        'pipe.push_to_hub("me/there", sample="", commit_message="Back again")'
    )
    assert hub["me/there"].messages[1:] == ["Back again"]
    assert hub["me/there"].files.keys() == files.keys()
    for name in ("recipe.yaml", "evaluations/retrieval.json", "README.md"):
        assert hub["me/there"].files[name] == files[name]

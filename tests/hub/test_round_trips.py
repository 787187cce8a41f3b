"""One machine pushes and another one loads, in separate processes, over a Hub in memory."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict

from lamp_hf.data import motion_features
from lamp_hf.evaluation.records import Estimate, EvaluationRecord, Protocol, write_to_card

GENERATE = 'pipeline("text-to-motion", model={!r}, device="cpu")("a person walks", seed=3, num_frames=24)["motion"]'


def header(hub, name: str) -> dict:
    return yaml.safe_load(hub[name].files["README.md"].decode().split("---")[1])


def snippet(hub, name: str) -> str:
    [code] = re.findall(r"```python\n(.*?)```", hub[name].files["README.md"].decode(), re.DOTALL)
    return code


@pytest.fixture(scope="module")
def published(hub, publisher, tiny_checkpoint: Path) -> str:
    """A text-to-motion model, pushed by its pipeline."""
    publisher(
        f'pipe = pipeline("text-to-motion", model={str(tiny_checkpoint)!r}, device="cpu")\n'
        'result = pipe.push_to_hub("me/tiny", license="cc-by-4.0")'
    )
    return "me/tiny"


def test_pipeline_is_pushed_and_loaded(hub, reader, published, tiny_checkpoint) -> None:
    files = hub[published].files
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json"} < files.keys()
    assert len(hub[published].commits) == 2  # one creates the repository, one uploads everything
    made = reader(f"result = {GENERATE.format(published)}.features.tolist()")
    local = reader(f"result = {GENERATE.format(str(tiny_checkpoint))}.features.tolist()")
    assert np.array_equal(made, local)
    assert np.shape(made) == (24, 263)


def test_pushed_card_describes_the_pipeline(hub, published, tiny_checkpoint) -> None:
    told = header(hub, published)
    assert told["library_name"] == "lamp_hf"
    assert told["pipeline_tag"] == "text-to-motion"
    assert told["license"] == "cc-by-4.0"
    assert "base_model" not in told  # it came from a folder
    card = hub[published].files["README.md"].decode()
    assert str(tiny_checkpoint.parent) not in card
    assert "![a person waves with both hands](sample.gif)" in card
    assert "| longest in one piece | 40 frames, 2.0 s |" in card
    assert hub[published].files["sample.gif"].startswith(b"GIF8")


def test_snippet_of_the_pushed_card_runs(hub, reader, published) -> None:
    reader(snippet(hub, published))
    assert (reader.folder / "wave.bvh").read_text().startswith("HIERARCHY")


def test_same_repository_serves_captioning_and_retrieval(reader, published) -> None:
    [answer] = reader(f'result = pipeline("motion-captioning", model={published!r}, device="cpu")("walk.bvh")')
    assert sorted(answer) == ["caption", "score"]
    hits = reader(
        f'result = pipeline("motion-retrieval", model={published!r}, index="my_mocap", device="cpu")("a person waves")'
    )
    assert sorted(Path(hit["file"]).name for hit in hits) == ["walk.npz", "wave.npz"]


ENDPOINT = """
import importlib.util
from huggingface_hub import snapshot_download
path = snapshot_download({!r})
spec = importlib.util.spec_from_file_location("handler", path + "/handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
handler = module.EndpointHandler(path)
"""


def test_an_inference_endpoint_runs_its_handler(hub, reader, published) -> None:
    parameters = {"seed": 3, "num_frames": 24}
    request = {"inputs": "a person walks", "parameters": parameters}
    [answer] = reader(f"{ENDPOINT.format(published)}\nresult = handler({request!r})")
    assert answer["motion"]["positions"] == reader(f"result = {GENERATE.format(published)}.joints.tolist()")
    assert (answer["seed"], answer["text"]) == (3, "a person walks")
    assert "TypeError: text-to-motion got an unexpected" in reader.error(
        "handler({'inputs': 'a', 'parameters': {'x': 1}})"
    )
    [requirement] = [line for line in hub[published].files["requirements.txt"].decode().splitlines() if line[0] != "#"]
    assert requirement == f"lamp_hf>={reader('result = lamp_hf.__version__')}"


def test_a_user_written_handler_is_kept(hub, publisher, tiny_checkpoint, tmp_path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "own"))
    (folder / "handler.py").write_text("from mine import EndpointHandler")
    assert publisher.lamp_hf("push", folder, "me/own-handler", "--no-sample") == 0, publisher.printed
    repository = hub["me/own-handler"]
    assert repository.files["handler.py"] == b"from mine import EndpointHandler"
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/own-handler", "--no-sample") == 0
    assert repository.files["handler.py"] == b"from mine import EndpointHandler"
    assert b"lamp_hf>=" in repository.files["requirements.txt"]


def test_model_and_processor_can_be_pushed_separately(hub, publisher, reader, published) -> None:
    publisher('pipe.processor.push_to_hub("me/apart"); pipe.model.push_to_hub("apart", private=False)')
    assert header(hub, "me/apart")["library_name"] == "lamp_hf"  # the processor's push had written another one
    assert hub["me/apart"].files["README.md"].decode().count("License") == 1  # lamp_hf's section, without the template
    made = reader(f"result = {GENERATE.format('me/apart')}.features.tolist()")
    assert made == reader(f"result = {GENERATE.format(published)}.features.tolist()")


def test_finished_run_is_pushed_without_the_trainers_files(hub, publisher, tiny_checkpoint, tmp_path) -> None:
    run = Path(shutil.copytree(tiny_checkpoint, tmp_path / "run"))
    recipe = {"stage": "text-to-motion", "base": "lamp-small", "data": {"name": "bandai-namco", "path": str(tmp_path)}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (run / "training.json").write_text('{"metrics": {"eval_token_loss": 2.5}, "log": []}')
    (run / "training_args.bin").write_bytes(b"pickle")
    (run / "checkpoint-3").mkdir()
    (run / "checkpoint-3" / "model.safetensors").write_bytes(b"")
    protocol = Protocol("retrieval", "all", 1, "judge", "abc", "clips", "0f", "validation", 40, 20, 0)
    record = EvaluationRecord("run", "hash", "0.1.0", protocol, {"run": {"r1": Estimate(0.5)}}, {})
    (run / "evaluations").mkdir()
    record.save(run / "evaluations" / "retrieval.json")
    assert publisher.lamp_hf("push", run, "me/run", "--sample", "a person bows") == 0
    files = hub["me/run"].files
    added = {"README.md", "recipe.yaml", "training.json", "sample.gif", "evaluations/retrieval.json"}
    added |= {"handler.py", "requirements.txt"}
    assert files.keys() == {path.name for path in tiny_checkpoint.iterdir()} | added
    assert str(tmp_path) not in files["recipe.yaml"].decode() + files["README.md"].decode()
    told = header(hub, "me/run")
    assert told["license"] == "cc-by-nc-4.0"  # inherited from lamp-small
    assert told["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert "Generated by this model from “a person bows”, seed 1." in files["README.md"].decode()
    assert "README.md" not in {path.name for path in run.iterdir()}  # the folder has not changed
    # Evaluate it again and write the scores into the folder's card.
    (run / "evaluations" / "retrieval.json").unlink()
    (run / "README.md").write_bytes(files["README.md"])
    better = dataclasses.replace(record, rows={"run": {"r1": Estimate(0.75)}})
    write_to_card(run / "README.md", better)
    assert publisher.lamp_hf("push", run, "me/run", "--no-sample") == 0
    assert header(hub, "me/run")["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.75


def test_user_written_card_on_the_hub_is_kept(hub, publisher, published, tiny_checkpoint) -> None:
    repository = hub[published]
    card = repository.files["README.md"].decode()
    repository.commit(repository.files | {"README.md": (card + "\n## Thanks\n\nTo all.\n").encode()})
    publisher(f'pipe.push_to_hub({published!r}, sample="")')
    assert repository.files["README.md"].decode().endswith("\n## Thanks\n\nTo all.\n")
    assert header(hub, published)["license"] == "cc-by-4.0"
    repository.commit(repository.files | {"README.md": b"# Mine\n"})
    assert publisher.lamp_hf("push", tiny_checkpoint, published, "--no-sample") == 0
    assert repository.files["README.md"] == b"# Mine\n"
    assert "me/tiny: its README.md is user-written and is kept; state the license there" in publisher.printed
    repository.commit(repository.files | {"README.md": card.encode()})


def test_captioner_names_its_parts_on_the_hub(
    hub, publisher, reader, published, tiny_checkpoint, tiny_captioner, tiny_language_model
) -> None:
    push = ["push", tiny_captioner, "me/captioner", "--sample", reader.folder / "walk.bvh"]
    assert publisher.lamp_hf(*push) == 1
    assert f"needs {tiny_checkpoint}, which is not on the Hub; push that model first, then pass" in publisher.printed
    assert ("models", "me/captioner") not in hub.repositories
    assert publisher.lamp_hf("push", tiny_language_model, "me/writer") == 0
    assert header(hub, "me/writer")["library_name"] == "transformers"
    assert publisher.lamp_hf(*push, "--lamp", published, "--language-model", "me/writer") == 0
    told = header(hub, "me/captioner")
    assert told["base_model"] == [published, "me/writer"]
    assert told["license"] == "other"  # one of them has none
    [answer] = reader('result = pipeline("motion-captioning", model="me/captioner", device="cpu")("walk.bvh")')
    card = hub["me/captioner"].files["README.md"].decode()
    assert f"This model's caption of `walk.bvh`: “{answer['caption']}”." in card
    assert str(tiny_captioner.parent) not in card + hub["me/captioner"].files["config.json"].decode()
    reader(snippet(hub, "me/captioner"))


def test_index_is_pushed_and_loaded(hub, publisher, reader, published) -> None:
    publisher(
        "from lamp_hf.retrieval import MotionTextEncoder, build_index, find_source\n"
        f"model = lamp_hf.LampForMotionTextRetrieval.from_pretrained({published!r})\n"
        f"encoder = MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained({published!r}))\n"
        f"source = find_source({str(reader.folder / 'my_mocap')!r}, num_proc=1)\n"
        'index = build_index("index", source, encoder, progress=False)'
    )
    assert publisher.lamp_hf("push", "index", "me/index") == 0
    assert "No license was given for me/index, so its card says `other`" in publisher.printed
    assert header(hub, "datasets/me/index")["license"] == "other"
    repository = hub["datasets/me/index"]
    assert len(repository.commits) == 2
    assert str(reader.folder) not in repository.files["index.json"].decode()
    search = f'search = pipeline("motion-retrieval", model={published!r}, index="me/index", device="cpu")\n'
    hits = reader(search + 'result = search("a person waves")')
    assert sorted((hit["id"], hit["file"]) for hit in hits) == [("walk.npz", "walk.npz"), ("wave.npz", "wave.npz")]
    local = publisher('result = index.find_motions(encoder.encode_texts(["a person waves"]))[0]')
    assert [hit["score"] for hit in hits] == [score for _, score in local]
    reader(snippet(hub, "datasets/me/index"))
    repository.commit(repository.files | {"motions/00001.arrow": b"of an index that was longer"})
    publisher('index.push_to_hub("me/index", license="mit")')
    assert "motions/00001.arrow" not in repository.files
    assert header(hub, "datasets/me/index")["license"] == "mit"
    error = reader.error('from lamp_hf.retrieval import MotionIndex\nMotionIndex.from_hub("me/nothing")')
    assert error.startswith("HubError: me/nothing is not on the Hub")


def test_data_set_is_pushed_and_loaded(hub, publisher, reader, walker, waver, tmp_path) -> None:
    rows = [
        {
            "id": name,
            "motion": motion.features,
            "captions": [{"text": motion.text, "start": 0.0, "end": 1.5}],
            "source": "procedural",
            "fps": motion.fps,
            "num_frames": len(motion.features),
            "content": "",
            "style": "",
            "mirrored": False,
        }
        for name, motion in (("walk", walker), ("wave", waver))
    ]
    splits = {"train": rows[:1], "validation": rows[1:]}
    made = {name: Dataset.from_list(part, features=motion_features()) for name, part in splits.items()}
    DatasetDict(made).save_to_disk(tmp_path / "set")
    assert publisher.lamp_hf("push", tmp_path / "set", "me/motions", "--license", "mit", "--private") == 0
    assert "is not on the Hub, or it is private and you are not logged in" in reader.error(
        'lamp_hf.load_motion_dataset("me/motions")'
    )
    hub["datasets/me/motions"].private = False
    told = header(hub, "datasets/me/motions")
    assert (told["license"], told["configs"][0]["data_files"][0]["split"]) == ("mit", "train")
    code = snippet(hub, "datasets/me/motions")
    frames, captions = reader(f'{code}\nrow = dataset["train"][0]\nresult = row["motion"], row["captions"]')
    np.testing.assert_array_equal(np.float32(frames), walker.features)
    assert captions == [{"text": "a person walks forward", "start": 0.0, "end": 1.5}]
    [row] = reader(
        'splits = lamp_hf.load_motion_dataset("me/motions", streaming=True)\n'
        'result = [(row["id"], row["motion"]) for row in splits["validation"]]'
    )
    assert row[0] == "wave"
    np.testing.assert_array_equal(np.float32(row[1]), waver.features)


def test_humanml3d_folder_is_pushed_and_loaded(hub, publisher, reader, field_sets, tmp_path) -> None:
    root = field_sets.make(tmp_path / "HumanML3D", "humanml3d", num_train=2)
    assert publisher.lamp_hf("push", root, "me/humanml3d", "--license", "mit") == 0, publisher.printed
    assert "4 (train) and 4 (validation) and 4 (test)" in hub["datasets/me/humanml3d"].files["README.md"].decode()
    splits, rows = reader(
        # As a recipe for HumanML3D does with data.name=me/humanml3d.
        'splits = lamp_hf.load_motion_dataset("me/humanml3d", path=None, skip_bad=True, streaming=True)\n'
        'columns = "id", "mirrored", "captions", "motion"\n'
        'result = list(splits), [[row[column] for column in columns] for row in splits["test"]]'
    )
    assert splits == ["train", "validation", "test"]
    assert [(name, mirrored) for name, mirrored, _, _ in rows] == [
        ("000004", False), ("M000004", True), ("000005", False), ("M000005", True)
    ]  # fmt: skip
    for name, _, captions, motion in rows:
        np.testing.assert_array_equal(np.float32(motion), np.load(root / "new_joint_vecs" / f"{name}.npy"))
        lines = (root / "texts" / f"{name}.txt").read_text().splitlines()
        assert captions == [{"text": line.split("#")[0], "start": 0.0, "end": 0.0} for line in lines]


def test_metric_is_pushed_and_loaded(hub, publisher, reader) -> None:
    assert publisher.lamp_hf("push", "mpjpe", "me/joint-error") == 0
    repository = hub["spaces/me/joint-error"]
    assert repository.files.keys() == {"README.md", "joint-error.py", "requirements.txt"}
    assert header(hub, "spaces/me/joint-error")["license"] == "apache-2.0"
    scores = reader(
        "import evaluate, numpy\n"
        "joints = numpy.zeros((5, 22, 3))\n"
        'result = evaluate.load("me/joint-error").compute(predictions=[joints + [0, 0.01, 0]], references=[joints])'
    )
    assert scores == pytest.approx({"mpjpe_mm": 0.0, "global_mpjpe_mm": 10.0, "num_frames": 5}, abs=1e-4)


@pytest.mark.slow
def test_fine_tune_on_own_mocap_is_pushed_and_loaded(hub, publisher, reader, tiny_checkpoint: Path, procedural) -> None:
    mocap = publisher.folder / "dances"
    mocap.mkdir()
    rows = []
    for number in range(8):
        procedural.waver(40 + number).save(mocap / f"{number}.npz")
        rows.append({"file_name": f"{number}.npz", "text": "the person waves", "content": "wave"})
    (mocap / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", "text-to-motion", "--data", str(mocap), "--base", str(tiny_checkpoint), "--output", "my-model"]
    small = ["trainer.max_steps=2", "trainer.per_device_train_batch_size=4", "rehearsal.num_motions=0"]
    publisher("from lamp_hf.training.fine_tuning import tune; tune.TOKENIZER_RECIPE['trainer']['max_steps'] = 2")
    arguments = [*command, "--push-to", "me/dances", "--license", "cc-by-4.0", *small]
    assert publisher.lamp_hf(*arguments) == 0, publisher.printed
    code = (
        "pipeline('text-to-motion', model={!r})('the person waves', duration=1.0, seed=3)['motion'].features.tolist()"
    )
    assert reader("result = " + code.format("me/dances")) == publisher("result = " + code.format("my-model"))
    card = reader("from huggingface_hub import ModelCard; result = str(ModelCard.load('me/dances'))")
    assert "license: cc-by-4.0" in card
    assert "## Fine-tuning" in card
    assert not any(str(publisher.folder).encode() in content for content in hub["me/dances"].files.values())
    assert "![the person waves](sample.gif)" in card


@pytest.mark.slow
def test_missing_login_is_an_error_before_fine_tuning_begins(reader, tiny_checkpoint: Path) -> None:
    rows = [{"file_name": f"{name}.npz", "text": name} for name in ("walk", "wave")]
    (reader.folder / "my_mocap" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["train", "text-to-motion", "--data", "my_mocap", "--base", str(tiny_checkpoint), "--output", "mine"]
    assert reader.lamp_hf(*command, "--push-to", "you/mine", "rehearsal.num_motions=0") == 1
    assert "you must be logged in" in reader.printed
    assert not (reader.folder / "mine").exists()

"""Errors of the Hub: each says what failed, where, and what to do, and nothing is half done."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = 'pipeline("text-to-motion", model={!r}, device="cpu")'


def put(hub, name: str, folder: Path, *, without: tuple[str, ...] = (), private: bool = False, **config: object) -> str:
    """Put a checkpoint on the Hub without some of its files, and with other values in its configuration."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in without}
    if config:
        files["config.json"] = json.dumps(json.loads(files["config.json"]) | config).encode()
    repository = type(hub["me/first"])(private)
    repository.commit(files)
    hub.repositories["models", name] = repository
    return name


@pytest.fixture(scope="module", autouse=True)
def first(hub, publisher, tiny_checkpoint: Path) -> None:
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/first", "--license", "mit", "--no-sample") == 0


# ---- loading ----------------------------------------------------------------------------------------------


def test_missing_or_private_repository(hub, reader, tiny_checkpoint, tmp_path) -> None:
    private = put(hub, "me/private", tiny_checkpoint, private=True)
    for name in ("me/nothing", private):
        error = reader.error(LOAD.format(name))
        assert error.startswith(f"HubError: {name} is not on the Hub, or it is private and you are not logged in")
        assert "`hf auth login`" in error
        assert reader.lamp_hf("generate", "a person walks", "-o", tmp_path / "walk.bvh", "-m", name) == 1
        said = f"Error: {name} is not on the Hub, or it is private and you are not logged in: `hf auth login`"
        assert reader.printed.startswith(said)
        assert reader.lamp_hf("info", name) == 1
        assert reader.printed.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_owner_loads_a_private_repository(hub, publisher, tiny_checkpoint) -> None:
    private = put(hub, "me/own", tiny_checkpoint, private=True)
    assert publisher(f"result = type({LOAD.format(private)}.model).__name__") == "LampForTextToMotion"


def test_missing_index(reader) -> None:
    error = reader.error('pipeline("motion-retrieval", model="me/first", index="me/nothing", device="cpu")')
    assert error.startswith("HubError: me/nothing is not on the Hub, or it is private")


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (("model.safetensors",), "it has no model.safetensors or model.safetensors.index.json. Found: config.json, "),
        (("processor_config.json",), "it has no processor_config.json or preprocessor_config.json. Found: config.json"),
        (("tokenizer.json", "tokenizer_config.json"), "it has no tokenizer.json or vocab.txt or words.json"),
    ],
)
def test_error_names_a_missing_file(hub, reader, tiny_checkpoint, without, said) -> None:
    name = put(hub, f"me/without-{without[0].split('.')[0]}", tiny_checkpoint, without=without)
    error = reader.error(LOAD.format(name))
    assert error.startswith(f"CheckpointError: {name} is incomplete: {said}")
    assert error.endswith("Save or push the whole checkpoint again")


def test_repository_without_a_configuration(hub, reader, tiny_checkpoint, tmp_path) -> None:
    name = put(hub, "me/bare", tiny_checkpoint, without=("config.json",))
    assert f"{name}. Should have a `model_type` key in its config.json" in reader.error(LOAD.format(name))
    assert reader.lamp_hf("generate", "a person walks", "-o", tmp_path / "walk.bvh", "-m", name) == 1
    assert f"{name} is incomplete: it has no config.json. Found: " in reader.printed


def test_newer_version_is_refused(hub, reader, tiny_checkpoint) -> None:
    name = put(hub, "me/newer", tiny_checkpoint, lamp_hf_version="99.0.0")
    for code in (LOAD.format(name), f"lamp_hf.LampModel.from_pretrained({name!r})"):
        error = reader.error(code)
        assert error.startswith(f"CheckpointError: {name} was written by lamp_hf 99.0.0; this is lamp_hf ")
        assert error.endswith("pip install --upgrade lamp_hf")


def test_another_kind_of_model_is_refused(hub, reader, tiny_captioner) -> None:
    name = put(hub, "me/other-kind", tiny_captioner)
    error = reader.error(LOAD.format(name))
    assert error == (
        f"CheckpointError: {name} contains a 'lamp_captioning' model, but 'lamp_text_to_motion' is needed; use another "
        "checkpoint, or load this one as LampWithLanguageModelForMotionCaptioning"
    )
    error = reader.error(f'pipeline("motion-retrieval", model={name!r}, index="my_mocap", device="cpu")')
    assert error.startswith(f"CheckpointError: {name} contains a 'lamp_captioning' model, but 'lamp' or 'lamp_text")


# ---- pushing ----------------------------------------------------------------------------------------------


def test_push_without_permission_is_refused(hub, publisher, reader, tiny_checkpoint) -> None:
    before = dict(hub.repositories)
    assert reader.lamp_hf("push", tiny_checkpoint, "me/first") == 1
    assert "you must be logged in to push to me/first: run `hf auth login` or set HF_TOKEN" in reader.printed
    assert publisher.lamp_hf("push", tiny_checkpoint, "you/first") == 1
    assert "you cannot push to you/first: as me you can push to me" in publisher.printed
    push = "from lamp_hf.publishing.publish import publish\npublish({!r}, {!r}, token={!r}, sample='')"
    assert "HubError: the Hub refuses this request for me/first" in publisher.error(
        push.format(str(tiny_checkpoint), "me/first", "hf_forged")
    )
    for name in ("me/first", "me/never"):
        error = publisher.error(push.format(str(tiny_checkpoint), name, "hf_read_me"))
        assert error.startswith(f"HubError: you are not allowed to do this to {name}")
        assert error.endswith("use a token that may write there")
    error = publisher.error(push.format(str(tiny_checkpoint), "me/first", "hf_reader"))
    assert error == "HubError: you cannot push to me/first: your token can only read; use one with write access"
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/first run") == 1
    assert "'me/first run' is not a valid name of a Hub repository; expected owner/name" in publisher.printed
    assert publisher.lamp_hf("push", "nowhere", "me/never") == 1
    assert publisher.printed.startswith("Error: nowhere is neither a folder nor a checkpoint of this package")
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/first", "--sample", "a bow", "--no-sample") == 2
    assert hub.repositories == before


def test_data_set_push_without_permission_is_refused_before_the_data_is_read(hub, reader, tmp_path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "walk.bvh", "text": "a person walks"}\n')
    (tmp_path / "walk.bvh").write_text("not to be read\n")
    assert reader.lamp_hf("push", tmp_path, "me/mocap") == 1
    assert reader.printed.startswith("Error: you must be logged in to push to me/mocap: run `hf auth login`")


def test_public_repository_is_not_used_as_private(hub, publisher, tiny_checkpoint) -> None:
    commits = len(hub["me/first"].commits)
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/first", "--private") == 1
    assert "me/first is public already; make it private in its settings" in publisher.printed
    assert len(hub["me/first"].commits) == commits


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_incomplete_checkpoint_is_not_pushed(hub, publisher, tiny_checkpoint, tmp_path, missing) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / missing).unlink()
    push = f"from lamp_hf.publishing.checkpoint import push_checkpoint\npush_checkpoint({str(folder)!r}, 'me/a')"
    assert publisher.error(push).startswith(f"CheckpointError: {folder}: not a complete checkpoint, {missing}")
    assert ("models", "me/a") not in hub.repositories


def test_interrupted_upload_changes_neither_side(hub, environment, publisher, tiny_checkpoint, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_checkpoint, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 1  # other weights than any test has uploaded
    (folder / "model.safetensors").write_bytes(weights)

    def digest() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    before, commits = digest(), list(hub["me/first"].commits)
    with hub.stalling("^/large/") as uploading:
        process = subprocess.Popen(
            [sys.executable, "-m", "lamp_hf", "push", str(folder), "me/first", "--no-sample"],
            env=environment("hf_me"),
            cwd=tmp_path,
        )
        assert uploading.wait(60)
        process.kill()
        process.wait()
    assert hub["me/first"].commits == commits
    assert digest() == before
    assert publisher.lamp_hf("push", folder, "me/first", "--no-sample") == 0
    assert hub["me/first"].files["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_first_upload_that_fails_says_that_the_new_repository_is_empty(hub, publisher) -> None:
    error = publisher.error(
        "from lamp_hf.hub.upload import Target\n"
        "target = Target('me/unborn')\n"
        "def cut_off(*arguments, **options): raise ConnectionError('the line is dead')\n"
        "target.api.create_commit = cut_off\n"
        "target.commit({'notes.txt': b'x'}, 'Upload')"
    )
    assert "did not finish (the line is dead). The repository is new and empty" in error
    assert "notes.txt" not in hub["me/unborn"].files


def test_commit_made_during_a_push_is_not_lost(hub, publisher, tiny_checkpoint) -> None:
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/busy", "--license", "mit", "--no-sample") == 0
    error = publisher.error(
        "from huggingface_hub import HfApi\n"
        "from lamp_hf.publishing import sample\n"
        "from lamp_hf.publishing.publish import publish\n"
        "def write_sample(*arguments):\n"
        "    HfApi().upload_file(path_or_fileobj=b'# Mine', path_in_repo='README.md', repo_id='me/busy')\n"
        "    return ''\n"
        "kept, sample.write_sample = sample.write_sample, write_sample\n"
        f"try: publish({str(tiny_checkpoint)!r}, 'me/busy', sample='a bow')\n"
        "finally: sample.write_sample = kept"
    )
    assert error.startswith("HubError: me/busy has a newer commit, so nothing was uploaded")
    assert error.endswith("push again to build on it")
    assert hub["me/busy"].files["README.md"] == b"# Mine"
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/busy", "--no-sample") == 0
    assert hub["me/busy"].files["README.md"] == b"# Mine"


def test_unknown_license_is_refused_before_anything_is_created(hub, publisher, tiny_checkpoint, walker) -> None:
    folder = publisher.folder / "one_more_walk"
    folder.mkdir()
    walker.save(folder / "walk.npz")
    (folder / "metadata.jsonl").write_text('{"file_name": "walk.npz", "text": "a person walks"}\n')
    for source in (tiny_checkpoint, folder):
        assert publisher.lamp_hf("push", source, "me/unlicensed", "--license", "MIT License", "--no-sample") == 1
        said = 'me/unlicensed: the Hub rejects the header of its README.md: "license" must be one of [apache-2.0, '
        assert said in publisher.printed
    assert not {("models", "me/unlicensed"), ("datasets", "me/unlicensed")} & hub.repositories.keys()


def test_failed_data_set_upload_names_the_state_of_the_repository(hub, publisher, walker) -> None:
    folder = publisher.folder / "one_walk"
    folder.mkdir()
    walker.save(folder / "walk.npz")
    (folder / "metadata.jsonl").write_text('{"file_name": "walk.npz", "text": "a person walks"}\n')
    error = publisher.error(
        "from huggingface_hub import HfApi\n"
        "from lamp_hf.publishing.publish import publish\n"
        "class TransportError(Exception): pass\n"
        "def cut_off(*arguments, **options): raise TransportError('the line is dead')\n"
        "create_commit, HfApi.create_commit = HfApi.create_commit, cut_off\n"
        "try: publish('one_walk', 'me/one-walk', license='mit')\n"
        "finally: HfApi.create_commit = create_commit"
    )
    assert "HubError: the Hub cannot be reached for me/one-walk (the line is dead)" in error
    assert "The upload did not finish, and me/one-walk is new and empty; push again" in error
    assert not any(name.endswith(".parquet") for name in hub["datasets/me/one-walk"].files)
    assert publisher.lamp_hf("push", "one_walk", "me/one-walk", "--license", "mit") == 0, publisher.printed
    assert any(name.endswith(".parquet") for name in hub["datasets/me/one-walk"].files)


def test_old_shards_are_removed_by_the_commit_that_replaces_them(hub, publisher, tiny_checkpoint) -> None:
    files = hub["me/first"].files
    hub["me/first"].commit(files | {"model-00002-of-00002.safetensors": b"old", "notes.txt": b"a person's"})
    assert publisher.lamp_hf("push", tiny_checkpoint, "me/first", "--no-sample") == 0
    assert "model-00002-of-00002.safetensors" not in hub["me/first"].files
    assert hub["me/first"].files["notes.txt"] == b"a person's"


def test_unreachable_hub(environment, tiny_checkpoint, tmp_path) -> None:
    # No server listens on port 9.
    beyond = environment("hf_me") | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "lamp_hf", "push", str(tiny_checkpoint), "me/away", "--license", "mit"]
    done = subprocess.run(command, env=beyond, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the Hub cannot be reached for me/away" in " ".join(done.stderr.split())

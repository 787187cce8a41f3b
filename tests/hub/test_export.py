"""Exported runs: half the size on disk, float32 when loaded, no local folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

import lamp_hf
from lamp_hf.publishing.export import export_checkpoint


def run_of(tiny_checkpoint: Path, folder: Path) -> Path:
    """A checkpoint as a training run leaves it: its LaMP came from a local folder."""
    model = AutoModel.from_pretrained(tiny_checkpoint)
    model.config.lamp_config._name_or_path = "/home/somebody/runs/lamp"
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(tiny_checkpoint).save_pretrained(folder)
    return folder


def test_weights_are_stored_in_half_and_used_in_single_precision(tiny_checkpoint, tmp_path):
    run = run_of(tiny_checkpoint, tmp_path / "run")
    output = export_checkpoint(run, tmp_path / "published" / "small")
    stored = load_file(output / "model.safetensors")
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    loaded, original = AutoModel.from_pretrained(output), AutoModel.from_pretrained(run)
    assert loaded.dtype == torch.float32
    for name, tensor in original.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded.state_dict()[name], expected), name
    assert isinstance(AutoProcessor.from_pretrained(output), lamp_hf.LampProcessor)


def test_full_disk_is_an_error_and_keeps_the_folder(tiny_checkpoint, tmp_path, monkeypatch):
    def no_space(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    run = run_of(tiny_checkpoint, tmp_path / "run")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("ours")
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", no_space)
    with pytest.raises(OSError, match=r"the weights cannot be written .*No space left on device"):
        export_checkpoint(run, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["README.md"]


def test_run_is_not_replaced_by_its_export(tiny_checkpoint, tmp_path):
    run = run_of(tiny_checkpoint, tmp_path / "runs" / "run")
    for output in (run, tmp_path / "runs"):
        with pytest.raises(ValueError, match="contains the run itself; export to another folder"):
            export_checkpoint(run, output)
    assert (run / "model.safetensors").is_file()


def test_local_folders_are_not_published(tiny_checkpoint, tmp_path):
    run = run_of(tiny_checkpoint, tmp_path / "run")
    assert "/home/somebody" in (run / "config.json").read_text()  # the export must remove this
    output = export_checkpoint(run, tmp_path / "small")
    assert "_name_or_path" not in json.dumps(json.loads((output / "config.json").read_text()))


def test_other_files_of_the_folder_are_kept(tiny_checkpoint, tmp_path):
    run, output = run_of(tiny_checkpoint, tmp_path / "run"), tmp_path / "small"
    (output / "takes" / "deep").mkdir(parents=True)
    (output / "README.md").write_text("my card")
    (output / "takes" / "deep" / "walk.bvh").write_text("my mocap")
    (output / "link").symlink_to("takes")
    (output / "config.json").write_text("of another model")
    export_checkpoint(run, output)
    assert (output / "README.md").read_text() == "my card"
    assert (output / "takes" / "deep" / "walk.bvh").read_text() == "my mocap"
    assert (output / "link").readlink() == Path("takes")
    assert AutoModel.from_pretrained(output).config.model_type == "lamp_text_to_motion"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "small"]  # nothing half-written is left

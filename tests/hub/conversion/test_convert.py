"""Conversion of the authors' checkpoints: files found, settings reported, and errors that leave nothing written."""

import io
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModel, AutoProcessor, pipeline

import lamp_hf.metrics
from lamp_hf.conversion import converter as conversion_module
from lamp_hf.conversion.converter import Conversion

FILES = {
    "motion-vqvae": "vq/model/vq.tar",
    "lamp": "qformer/model/qformer.tar",
    "text-to-motion": "mtrans/model/t2m.tar",
    "captioning": "m2t/model/m2t.pth",
    "evaluator": "text_mot_match/model/evaluator_finest.tar",
    "length-estimator": "length_estimator/model/length_estimator_finest.tar",
}


@pytest.fixture
def copies(originals: Path, tmp_path: Path) -> Path:
    """A copy of the originals that a test may change."""
    shutil.copytree(originals / "t2m", tmp_path / "t2m")
    return tmp_path / "t2m"


@pytest.fixture
def refused(tmp_path: Path, convert_originals: Callable[..., Any]) -> Callable[..., str]:
    """Runs a conversion that must fail without writing anything, and returns the error message."""

    def run(original: Path, error: type[Exception] = ValueError, **options: Any) -> str:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(error) as caught:
            convert_originals(original, tmp_path / "out", **options)
        assert sorted(tmp_path.iterdir()) == before
        return str(caught.value)

    return run


def change(path: Path, key: str, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors under a key of a file."""
    content = torch.load(path, weights_only=True)
    edit(content[key])
    torch.save(content, path)


def statistics_of(copies: Path) -> dict[str, Path]:
    """Return options with the statistics of the tokenizer's training."""
    return {name: copies / "vq" / "meta" / f"{name}.npy" for name in ("mean", "std")}


# ---- output folders ---------------------------------------------------------------------------------------


def test_folder_of_all_kinds_becomes_one_checkpoint_with_three_subfolders(converted: Conversion) -> None:
    assert [(m.kind, os.path.relpath(m.folder, converted.output)) for m in converted.models] == [
        ("text-to-motion", "."),
        ("captioning", "captioning"),
        ("evaluator", "evaluator"),
        ("length-estimator", "length-estimator"),
    ]
    assert converted.left_out == []
    assert [path.name for path in converted.output.parent.iterdir()] == [converted.output.name]
    for model in converted.models:
        assert {"README.md", "config.json", "model.safetensors"} <= {path.name for path in model.folder.iterdir()}
        assert not list(model.folder.glob("*.bin"))
        with safe_open(model.folder / "model.safetensors", "pt") as stored:
            tensors = [stored.get_tensor(name) for name in stored.keys()]  # noqa: SIM118 (no mapping)
        assert sum(tensor.numel() for tensor in tensors) == model.parameters
        assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}


def test_every_tensor_is_counted(converted: Conversion, originals: Path) -> None:
    main, captioner, evaluator, lengths = converted.models
    assert [file.path.name for file in main.sources] == ["t2m.tar", "qformer.tar", "vq.tar"]
    sizes = [len(file.tensors) for file in main.sources]
    # Unused in t2m.tar: the fixed positions, a layer, and two of BERT's tensors. Unused in qformer.tar: the Q-Former
    # and the tokenizer, which the two other files also contain, and BERT's tensors.
    repeated = sum(name.startswith(("Qformer.", "query_tokens", "vq_model.")) for name in main.sources[1].tensors)
    assert (main.tensors_used, main.tensors_unused) == (sum(sizes) - 5 - repeated, 5 + repeated)
    counts = [
        len(torch.load(originals / "t2m" / FILES[kind], weights_only=True)[key])
        for kind, key in (("captioning", "trans"), ("lamp", "motion_qformer"))
    ]
    assert captioner.tensors_used + captioner.tensors_unused == sum(counts)
    assert (evaluator.tensors_used, evaluator.tensors_unused) == (42, 0)
    assert (lengths.tensors_used, lengths.tensors_unused) == (14, 0)


def test_configurations_have_the_values_of_the_released_code(
    converted: Conversion, tokenizers: SimpleNamespace
) -> None:
    config = json.loads((converted.output / "config.json").read_text())
    assert config["attention_bias"] == "soft_causal"
    assert (config["mask_token_padding"], config["train_token_embeddings"]) == (False, True)
    assert (config["length_hidden_sizes"], config["max_motion_tokens"]) == (None, 49)
    lamp = config["lamp_config"]
    assert (lamp["mask_motion_padding"], lamp["mask_text_padding"]) == (False, False)
    special = (tokenizers.word_pieces, 3)  # [DEC] comes last
    assert (lamp["separate_motion_encoder"], lamp["bos_token_id"], lamp["eos_token_id"]) == (True, *special)
    generation = json.loads((converted.output / "generation_config.json").read_text())
    assert (generation["guidance_scale"], generation["num_inference_steps"]) == (4.0, 10)
    assert str(converted.output.parent) not in json.dumps(config)
    evaluator = json.loads((converted.output / "evaluator" / "config.json").read_text())
    assert (evaluator["text_input"], evaluator["mask_motion_padding"]) == ("glove", False)


def test_settings_are_reported_with_their_source(converted: Conversion) -> None:
    assert converted.models[0].settings == {
        "text-to-motion.max_text_length": (14, "given"),
        "motion-vqvae.dilation_growth_rate": (3, "published"),
        "lamp.num_attention_heads": (4, "given"),
        "text-to-motion.num_attention_heads": (4, "opt.txt"),
        "text-to-motion.max_motion_tokens": (49, "published"),
    }


def test_statistics_come_from_the_folders_of_the_checkpoints(converted: Conversion, originals: Path) -> None:
    extractor = AutoProcessor.from_pretrained(converted.output).feature_extractor
    assert np.allclose(extractor.mean, np.load(originals / "t2m" / "vq" / "meta" / "mean.npy"))
    judge = lamp_hf.LampFeatureExtractor.from_pretrained(converted.output / "evaluator")
    assert np.allclose(judge.std, np.load(originals / "t2m" / "Comp_v6_KLD005" / "meta" / "std.npy"))


def test_captioning_pipelines_run(converted: Conversion, walker: lamp_hf.Motion) -> None:
    for folder, model_class in (
        (converted.output / "captioning", "LampWithLanguageModelForMotionCaptioning"),
        (converted.output, "LampDecoderForMotionCaptioning"),
    ):
        pipe = pipeline("motion-captioning", model=str(folder))
        assert type(pipe.model).__name__ == model_class
        [answer] = pipe(walker, max_new_tokens=5)
        assert answer["caption"]
        assert 0 < answer["score"] <= 1


def test_card_of_a_conversion(converted: Conversion, originals: Path) -> None:
    text = (converted.output / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert (header["library_name"], header["license"], header["pipeline_tag"]) == ("lamp_hf", "mit", "text-to-motion")
    for file in converted.models[0].sources:
        assert f"| `{file.path.name}` | `{file.sha256}` |" in text
    assert "`text-to-motion.num_attention_heads`: 4 (opt.txt)" in text
    assert str(originals) not in text
    assert "CLIP ViT-B/32" in (converted.output / "length-estimator" / "README.md").read_text()


def test_second_conversion_keeps_a_user_edited_card(copies: Path, tmp_path: Path, convert_originals) -> None:
    output = tmp_path / "out"
    convert_originals(copies / FILES["evaluator"], output, license="mit")
    card = output / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    convert_originals(copies / FILES["evaluator"], output, overwrite=True)
    assert "My own words." in card.read_text()
    assert "license: mit" in card.read_text()
    (output / "adapter.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contains files that no conversion wrote: adapter\.safetensors"):
        convert_originals(copies / FILES["evaluator"], output, overwrite=True)
    (output / "adapter.safetensors").unlink()
    (output / "notes.md").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contains files that no conversion wrote: notes\.md"):
        convert_originals(copies / FILES["evaluator"], output, overwrite=True)


def test_checkpoint_that_no_conversion_wrote_is_not_replaced(
    copies: Path, tiny_checkpoint: Path, tmp_path: Path, convert_originals
) -> None:
    output = tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, output)
    with pytest.raises(FileExistsError, match=r"contains files that no conversion wrote: .*model\.safetensors"):
        convert_originals(copies / FILES["evaluator"], output, overwrite=True)
    assert (output / "model.safetensors").is_file()


def test_user_edited_card_in_a_removed_folder_is_not_lost(copies: Path, tmp_path: Path, convert_originals) -> None:
    output = tmp_path / "out"
    convert_originals(copies, output, license="mit")
    card = output / "captioning" / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    with pytest.raises(FileExistsError, match=r"captioning/README\.md: was edited by hand"):
        convert_originals(copies, output, kind="evaluator", overwrite=True)
    assert "My own words." in card.read_text()


def test_snippets_of_all_six_kinds_run(
    converted: Conversion, originals: Path, convert_originals, walker, waver, tmp_path: Path, monkeypatch
) -> None:
    folders = {model.kind: model.folder for model in converted.models}
    for kind in ("motion-vqvae", "lamp"):
        folders[kind] = convert_originals(originals, tmp_path / kind, kind=kind).models[0].folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAMP_HF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my_mocap").mkdir()
    walker.save("walk.bvh")
    for name, motion in (("walk", walker), ("wave", waver)):
        motion.save(f"my_mocap/{name}.bvh")
    assert set(folders) == set(FILES)
    left: dict[str, Any] = {}
    for kind, folder in folders.items():
        card = (folder / "README.md").read_text()
        left[kind] = {"text_features": torch.zeros(1, 16)}
        exec(card.split("```python\n")[1].split("```")[0], left[kind])
    assert Path("wave.bvh").stat().st_size > 1000
    assert left["motion-vqvae"]["codes"].shape == (1, 14)
    assert left["length-estimator"]["num_frames"].tolist()[0] % 4 == 0
    assert "Texts are given as the 16 text features of CLIP" in (folders["length-estimator"] / "README.md").read_text()
    # Metrics of motions alone work with this evaluator; metrics of texts do not.
    motions = {"predictions": [walker, waver, walker.crop(0.0, 2.0)], "references": [waver, walker, walker]}
    assert left["evaluator"]["fid"].compute(**motions)["fid"] > 0
    judge = {name: left["evaluator"][name] for name in ("evaluator", "processor")}
    for name, predictions in (("diversity", motions["predictions"]), ("multimodality", [motions["predictions"]])):
        metric = lamp_hf.metrics.load(name, **judge)
        assert metric.compute(predictions=predictions, num_pairs=3)[name] > 0
    for name in ("r_precision", "mm_dist"):
        with pytest.raises(ValueError, match="converted without its GloVe vectors reads only motions"):
            lamp_hf.metrics.load(name, **judge).compute(predictions=[walker, waver], references=["walks", "waves"])


def test_sample_of_a_converted_model_has_a_duration(converted: Conversion, tmp_path: Path) -> None:
    from lamp_hf.publishing.checkpoint_folder import CheckpointFolder
    from lamp_hf.publishing.sample import write_sample

    assert "duration=4.0" in (converted.output / "README.md").read_text()
    assert "sample.gif" in write_sample(CheckpointFolder.read(converted.output), tmp_path)
    assert (tmp_path / "sample.gif").is_file()


def test_license_is_not_invented(copies: Path, tmp_path: Path, convert_originals, caplog) -> None:
    with caplog.at_level(logging.WARNING, "lamp_hf"):
        convert_originals(copies / FILES["evaluator"], tmp_path / "out")
    assert "its card says `other`" in caplog.text
    assert yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---")[1])["license"] == "other"


def test_single_files(copies: Path, tmp_path: Path, convert_originals) -> None:
    given = statistics_of(copies)
    for kind, model_class in (
        ("motion-vqvae", lamp_hf.MotionVQVAEModel),
        ("lamp", lamp_hf.LampModel),
        ("text-to-motion", lamp_hf.LampForTextToMotion),
        ("captioning", lamp_hf.LampWithLanguageModelForMotionCaptioning),
        ("evaluator", lamp_hf.MotionTextEvaluatorModel),
        ("length-estimator", lamp_hf.MotionLengthEstimatorModel),
    ):
        needs_lamp = {"lamp": copies / FILES["lamp"]} if kind in ("text-to-motion", "captioning") else {}
        result = convert_originals(copies / FILES[kind], tmp_path / kind, **given, **needs_lamp)
        assert [(model.kind, model.folder) for model in result.models] == [(kind, tmp_path / kind)]
        assert type(AutoModel.from_pretrained(tmp_path / kind)) is model_class


def test_files_with_tensors_only(copies: Path, tmp_path: Path, convert_originals) -> None:
    content = torch.load(copies / FILES["motion-vqvae"], weights_only=True)
    torch.save(content["vq_model"], tmp_path / "bare.pt")
    torch.save({"net": content["vq_model"]}, tmp_path / "net_last.pth", _use_new_zipfile_serialization=False)
    given = statistics_of(copies)
    for file in ("bare.pt", "net_last.pth"):
        result = convert_originals(tmp_path / file, tmp_path / file.split(".")[0], **given)
        assert result.models[0].tensors_used == len(content["vq_model"])


def test_half_precision_becomes_single(copies: Path, tmp_path: Path, convert_originals) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name.startswith(("opt_model.", "llm.")):
                tensors[name] = tensor.half()

    change(copies / FILES["captioning"], "trans", halve)
    convert_originals(copies, tmp_path / "out", kind="captioning")
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_tokenizer_copy_inside_lamp_decodes_with_a_warning(
    copies: Path, tmp_path: Path, convert_originals, caplog
) -> None:
    (copies / FILES["motion-vqvae"]).unlink()
    with caplog.at_level(logging.WARNING, "lamp_hf"):
        convert_originals(copies / "mtrans", tmp_path / "alone", lamp=copies / FILES["lamp"], **statistics_of(copies))
    assert f"No motion tokenizer file found: the copy in {copies / FILES['lamp']} is used for decoding" in caplog.text


def test_tokenizer_file_decodes(copies: Path, tmp_path: Path, convert_originals, caplog) -> None:
    name = "vqvae.decoder.model.6.bias"
    change(copies / FILES["motion-vqvae"], "vq_model", lambda tensors: tensors[name].fill_(7.0))
    change(copies / FILES["text-to-motion"], "t2m_transformer", lambda tensors: tensors["query_tokens"].fill_(7.0))
    with caplog.at_level(logging.WARNING, "lamp_hf"):
        convert_originals(copies, tmp_path / "out", kind="text-to-motion")
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert (model.lamp.motion_vqvae.decoder.conv_out.bias == 7).all()
    assert (model.lamp.query_tokens == 7).all()
    lamp = copies / FILES["lamp"]
    assert f"{copies / FILES['motion-vqvae']} and {lamp} differ in vq_model.{name}. The model" in caplog.text
    assert f"{copies / FILES['text-to-motion']} and {lamp} differ in query_tokens. The model" in caplog.text


def test_steps_are_reported(copies: Path, tmp_path: Path, convert_originals) -> None:
    seen: list[tuple[str, int, int]] = []
    convert_originals(copies, tmp_path / "out", kind="lamp", on_step=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(7))
    assert {what for what, *_ in seen} >= {"Reading vq.tar", "Reading qformer.tar", "Converting lamp"}
    assert seen[-1] == ("Converting lamp", 6, 7)


# ---- KIT-ML, not in the reference files -------------------------------------------------------------------


@pytest.fixture(scope="module")
def kit(build_originals, convert_originals, tmp_path_factory) -> SimpleNamespace:
    """Files of all kinds for KIT-ML, in one flat folder."""
    folder = tmp_path_factory.mktemp("kit")
    contents = build_originals(251, lamp_size=64, transformer_size=64)
    for name, content in contents.items():
        torch.save(content, folder / name)
    rng = np.random.default_rng(0)
    np.save(folder / "Mean.npy", rng.normal(size=251))
    np.save(folder / "Std.npy", rng.uniform(0.1, 0.2, 251))
    output = folder.parent / f"{folder.name}-converted"
    result = convert_originals(folder, output, license="mit", settings={"captioning.num_attention_heads": 4})
    return SimpleNamespace(folder=folder, output=output, result=result, contents=contents)


def test_all_kinds_of_kit_ml(kit: SimpleNamespace, procedural: SimpleNamespace) -> None:
    assert [model.kind for model in kit.result.models] == [
        "text-to-motion",
        "captioning",
        "evaluator",
        "length-estimator",
    ]
    assert kit.result.models[0].settings["text-to-motion.num_attention_heads"] == (1, "published")
    assert kit.result.models[0].settings["lamp.num_attention_heads"] == (1, "published")
    extractor = AutoProcessor.from_pretrained(kit.output).feature_extractor
    assert (extractor.feature_size, extractor.fps, extractor.skeleton) == (251, 12.5, "kit_21")
    evaluator = AutoModel.from_pretrained(kit.output / "evaluator")
    assert evaluator.config.motion_dim == 251
    captioner = AutoModel.from_pretrained(kit.output / "captioning")
    assert captioner.config.language_model_config.num_attention_heads == 4
    assert captioner.config.lora_rank == 2
    adapters = [name for name in captioner.state_dict() if "lora_A" in name]
    assert len(adapters) == 2
    lengths = AutoModel.from_pretrained(kit.output / "length-estimator")
    assert lengths(torch.zeros(2, 16)).num_tokens.tolist() == [int(lengths(torch.zeros(1, 16)).num_tokens)] * 2


def test_kit_ml_motions_have_the_kit_skeleton(kit: SimpleNamespace) -> None:
    pipe = pipeline("text-to-motion", model=str(kit.output))
    assert pipe.model.generation_config.guidance_scale == 2.0
    motion = pipe("a person walks", num_frames=24, seed=0)["motion"]
    assert (motion.skeleton.name, motion.fps, motion.features.shape) == ("kit_21", 12.5, (24, 251))
    with torch.no_grad():
        tokenizer = pipe.model.lamp.motion_vqvae
        bias = kit.contents["vq.tar"]["vq_model"]["vqvae.decoder.model.6.bias"]
        assert torch.equal(tokenizer.decoder.conv_out.bias, bias)


# ---- invalid files ----------------------------------------------------------------------------------------


class Payload:
    """Writes a file when it is unpickled, with a function of `os` or a built-in function."""

    def __init__(self, path: Path, builtin: bool):
        self.path, self.builtin = path, builtin

    def __reduce__(self):
        if self.builtin:
            return eval, (f"open({str(self.path)!r}, 'w')",)
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize(("builtin", "name"), [(False, "posix.system"), (True, "eval")])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(copies: Path, tmp_path: Path, refused, zipped: bool, builtin: bool, name: str) -> None:
    file = copies / FILES["motion-vqvae"]
    reason = f"vq.tar: contains {name}, which is neither a tensor nor a plain value"
    content = torch.load(file, weights_only=True) | {"hook": Payload(tmp_path / "ran", builtin)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    error = refused(copies)
    assert reason in error
    assert "so loading it could run code, and it was not loaded" in error
    for protocol, said in (
        (2, reason),
        (5, "vq.tar: not a PyTorch checkpoint, or truncated (no code in it was run)"),
    ):
        file.write_bytes(pickle.dumps(Payload(tmp_path / "ran", builtin), protocol))
        assert said in refused(file)
    assert not (tmp_path / "ran").exists()


def test_objects_are_refused_even_if_harmless(copies: Path, refused) -> None:
    file = copies / FILES["lamp"]
    torch.save({"motion_qformer": SimpleNamespace(a=1)}, file)
    assert "contains types.SimpleNamespace, which is neither a tensor" in refused(file)
    torch.save({"motion_qformer": {}, "ep": np.int64(3)}, file)
    error = refused(file)
    assert "multiarray.scalar, which is neither a tensor" in error
    assert "torch.load(…, weights_only=False) and save only its dictionaries of tensors with torch.save" in error


def test_damaged_files(copies: Path, refused) -> None:
    file = copies / FILES["lamp"]
    whole = file.read_bytes()
    for cut in (len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:cut])
        assert "qformer.tar: the end of the file is missing; download it again" in refused(copies)
    file.write_bytes(b"")
    assert "qformer.tar: the file is empty" in refused(copies)
    file.write_bytes(b"<html>404</html>" * 100)
    assert "qformer.tar: not a PyTorch checkpoint" in refused(copies)
    queries = torch.load(io.BytesIO(whole), weights_only=True)["motion_qformer"]["query_tokens"].numpy().tobytes()
    for start, what in ((2000, "data.pkl"), (whole.index(queries), "data/")):
        file.write_bytes(whole[:start] + b"\xff" * 100 + whole[start + 100 :])
        error = refused(copies)
        assert f"{file}: not a PyTorch checkpoint, or damaged (qformer/{what}" in error
        assert ": wrong checksum)" in error


def test_truncated_file_in_the_old_format(copies: Path, refused) -> None:
    file = copies / FILES["motion-vqvae"]
    content = torch.load(file, weights_only=True)
    torch.save(content, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for cut in (40, len(whole) // 2, len(whole) - 100):
        file.write_bytes(whole[:cut])
        assert "vq.tar: not a PyTorch checkpoint, or" in refused(file)
    # This format has no checksums, so the damage shows up as NaN.
    codes = content["vq_model"]["vqvae.quantizer.codebook"].numpy().tobytes()
    assert whole.count(codes) == 1
    file.write_bytes(whole.replace(codes, b"\xff" * len(codes)))
    assert "contains NaN or infinity in vqvae.quantizer.codebook" in refused(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("kind", "key", "name"),
    [
        ("motion-vqvae", "vq_model", "vqvae.quantizer.codebook"),
        ("lamp", "motion_qformer", "temp"),
        ("text-to-motion", "t2m_transformer", "cond_emb.weight"),
        ("captioning", "trans", "opt_proj.bias"),
        ("evaluator", "motion_encoder", "hidden"),
        ("length-estimator", "estimator", "output.5.bias"),
    ],
)
def test_non_finite_weights_are_refused(copies: Path, refused, kind: str, key: str, name: str, value: float) -> None:
    change(copies / FILES[kind], key, lambda tensors: tensors[name].view(-1)[-1:].fill_(value))
    error = refused(copies, kind=kind)
    assert f"{copies / FILES[kind]}: contains NaN or infinity in " in error
    assert f"{name}, so the file is damaged or its training failed" in error


@pytest.mark.parametrize(
    ("convert_tensor", "what"),
    [
        (lambda tensor: tensor.to(torch.int8), "int8"),
        (lambda tensor: tensor.to(torch.complex64), "complex64"),
        (lambda tensor: tensor.to_sparse(), "sparse_coo"),
    ],
)
def test_tensors_of_other_types_are_refused(copies: Path, refused, convert_tensor: Callable, what: str) -> None:
    file, name = copies / FILES["captioning"], "opt_model.lm_head.weight"
    change(file, "trans", lambda tensors: tensors.update({name: convert_tensor(tensors[name])}))
    assert f"{file}: {name} is a {what} tensor, expected a dense floating-point tensor" in refused(file)


def test_files_with_misleading_names(copies: Path, refused) -> None:
    assert f"{copies / FILES['motion-vqvae']}: no lamp checkpoint found, only motion-vqvae" in refused(
        copies / FILES["motion-vqvae"], kind="lamp"
    )
    tensors = torch.load(copies / FILES["motion-vqvae"], weights_only=True)["vq_model"]
    torch.save({"motion_qformer": tensors}, copies / FILES["lamp"])
    assert (
        "the key 'motion_qformer' should contain a lamp checkpoint, but contains tensors of a motion-vqvae"
        in refused(copies)
    )
    error = refused(copies / FILES["text-to-motion"], lamp=copies / FILES["evaluator"])
    assert "evaluator_finest.tar: passed as lamp, but contains evaluator" in error
    torch.save({"motion_qformer": {"Qformer.weight": 3}}, copies / FILES["lamp"])
    assert "'Qformer.weight' has the type int, expected a tensor" in refused(copies)


def edits() -> Iterator[tuple[str, str, Callable[[dict[str, torch.Tensor]], Any], str]]:
    norm = "Qformer.bert.encoder.layer.1.output_query.LayerNorm.weight"
    layer = "seqTransEncoder.layers.2.linear2.weight"
    decoder = "opt_model.model.decoder"
    yield "lamp", "motion_qformer", lambda t: t.pop(norm), f"missing tensors (1): {norm}"
    yield "lamp", "motion_qformer", lambda t: t.pop("query_tokens"), "the tensor query_tokens is missing"
    yield "lamp", "motion_qformer", lambda t: t.update(temp=torch.tensor(-1.0)), "temp is -1, expected a number above 0"
    yield (
        "lamp",
        "motion_qformer",
        lambda t: t.update({"Qformer.cls.predictions.decoder.weight": 2 * t["Qformer.cls.predictions.decoder.weight"]}),
        "differ, but are one tensor in the released code",
    )
    yield (
        "text-to-motion",
        "t2m_transformer",
        lambda t: t.update({layer: torch.zeros(32, 71), "clip_model.ln.weight": torch.zeros(1), "a": torch.zeros(1)}),
        f"wrong shapes (1): {layer} (32, 71), expected (32, 72); unknown tensors (2): clip_model.ln.weight, a",
    )
    yield (
        "text-to-motion",
        "t2m_transformer",
        lambda t: t.update({"token_emb.weight": torch.zeros(20, 8)}),
        "token_emb.weight (20, 8), expected (26, 8)",
    )
    yield "motion-vqvae", "vq_model", lambda t: t.pop("vqvae.decoder.model.6.bias"), "vqvae.decoder.model.6.bias"
    yield (
        "motion-vqvae",
        "vq_model",
        lambda t: t.update({"vqvae.encoder.model.0.weight": torch.zeros(32, 100, 3)}),
        "reads 100 numbers per frame, expected 263 (HumanML3D) or 251 (KIT-ML)",
    )
    yield (
        "captioning",
        "trans",
        lambda t: t.update({f"{decoder}.final_layer_norm.bias": torch.full((32,), 9.0)}),
        f"the two copies of the language model (opt_model. and llm.) differ in {decoder}.final_layer_norm.bias",
    )
    yield "captioning", "trans", lambda t: t.pop("opt_proj.bias"), "missing tensors (1): opt_proj.bias"
    yield "length-estimator", "estimator", lambda t: t.pop("output.9.bias"), "missing tensors (1): output.9.bias"
    yield "evaluator", "motion_encoder", lambda t: t.pop("hidden"), "missing tensors (1): motion_encoder.hidden"
    yield "evaluator", "text_encoder", lambda t: t.update(x=torch.zeros(1)), "unknown tensors (1): text_encoder.x"


@pytest.mark.parametrize(("kind", "key", "edit", "message"), list(edits()), ids=lambda value: str(value)[:24])
def test_every_tensor_is_accounted_for(copies: Path, refused, kind: str, key: str, edit: Any, message: str) -> None:
    change(copies / FILES[kind], key, edit)
    error = refused(copies, kind=kind)
    assert message in error
    assert str(copies / FILES[kind]) in error


def test_error_names_what_is_missing(copies: Path, tmp_path: Path, refused) -> None:
    assert "no such file or folder" in refused(tmp_path / "nothing", FileNotFoundError)
    assert "no checkpoint in this folder" in refused(copies / "vq" / "meta", FileNotFoundError)
    error = refused(copies / FILES["text-to-motion"], FileNotFoundError)
    assert "lacks parts of the LaMP that it was trained on; add that LaMP" in error
    shutil.rmtree(copies / "vq" / "meta")
    error = refused(copies / FILES["lamp"], FileNotFoundError)
    assert "no mean.npy and std.npy next to this checkpoint" in error
    assert "mean and std go together" in refused(copies, mean=copies / "mean.npy")
    assert "no checkpoint found; expected one of" in refused(_saved(tmp_path / "other.pt", {"a": torch.zeros(1)}))


def _saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_passed_statistics_are_not_used_for_the_evaluator(
    copies: Path, tmp_path: Path, convert_originals, caplog
) -> None:
    own = copies / "Comp_v6_KLD005" / "meta"
    given = statistics_of(copies)
    result = convert_originals(copies, tmp_path / "all", **given)
    found = {model.kind: model.statistics for model in result.models}
    assert found["text-to-motion"] == found["captioning"] == (given["mean"], given["std"])
    assert found["evaluator"] == (own / "mean.npy", own / "std.npy")
    shutil.rmtree(own)
    result = convert_originals(copies, tmp_path / "others", **given)
    assert result.left_out == [copies / FILES["evaluator"]]
    assert "evaluator_finest.tar is left out: its own mean.npy and std.npy are not next to it" in caplog.text
    result = convert_originals(copies, tmp_path / "evaluator", kind="evaluator", **given)
    assert result.models[0].statistics == (given["mean"], given["std"])


def test_statistics_of_the_wrong_size_are_refused(copies: Path, refused) -> None:
    meta = copies / "vq" / "meta"
    np.save(meta / "std.npy", np.ones(251))
    assert f"{meta / 'std.npy'}: expected 263 numbers, found float64 (251,)" in refused(copies)
    np.save(meta / "std.npy", np.zeros(263))
    assert "some standard deviations are not positive" in refused(copies)
    np.save(meta / "std.npy", np.array([{}] * 263), allow_pickle=True)
    assert "std.npy" in refused(copies)


def test_two_files_of_a_needed_kind(copies: Path, tmp_path: Path, refused, convert_originals, caplog) -> None:
    transformers = [copies / "mtrans" / "model" / name for name in ("net_best_fid.tar", "t2m.tar")]
    shutil.copy(transformers[1], transformers[0])
    for options in ({}, {"kind": "text-to-motion"}):
        error = refused(copies, **options)
        assert (
            f"{transformers[0]} and {transformers[1]} are all text-to-motion checkpoints; pass the right one" in error
        )
        assert "(--lamp FILE, --motion-vqvae FILE)" in error
    assert convert_originals(copies, tmp_path / "evaluator", kind="evaluator").left_out == []
    parts = {"lamp": copies / FILES["lamp"], "motion_vqvae": copies / FILES["motion-vqvae"]}
    result = convert_originals(transformers[0], tmp_path / "out", **parts)
    assert [file.path.name for file in result.models[0].sources] == ["net_best_fid.tar", "qformer.tar", "vq.tar"]
    assert result.models[0].statistics == (copies / "vq" / "meta" / "mean.npy", copies / "vq" / "meta" / "std.npy")
    other = shutil.copy(copies / FILES["lamp"], copies / "qformer" / "model" / "latest.tar")
    caplog.clear()
    result = convert_originals(copies, tmp_path / "named", kind="captioning", lamp=copies / FILES["lamp"])
    assert result.left_out == [other]
    assert f"{other} is left out: {copies / FILES['lamp']} is used as lamp" in caplog.text


def test_folder_with_lamp_files_of_two_data_sets(
    copies: Path, tmp_path: Path, kit: SimpleNamespace, refused, convert_originals
) -> None:
    """Converts a folder like the authors' `pretrained/`."""
    pretrained = tmp_path / "pretrained"
    pretrained.mkdir()
    for kind in ("motion-vqvae", "text-to-motion", "captioning"):
        shutil.copy(copies / FILES[kind], pretrained)
    ours, theirs = pretrained / "h3d-qformer.tar", pretrained / "kit-qformer.tar"
    shutil.copy(copies / FILES["lamp"], ours)
    shutil.copy(kit.folder / "qformer.tar", theirs)
    for name in ("mean.npy", "std.npy"):
        shutil.copy(copies / "vq" / "meta" / name, pretrained)
    options = {"lamp.num_attention_heads": 4, "text-to-motion.num_attention_heads": 4}
    result = convert_originals(pretrained, tmp_path / "both", settings={**options, "captioning.num_attention_heads": 4})
    assert [source.path.name for source in result.models[0].sources] == ["t2m.tar", "h3d-qformer.tar", "vq.tar"]
    assert result.left_out == [theirs]
    (pretrained / "vq.tar").unlink()
    (pretrained / "m2t.pth").unlink()
    error = refused(pretrained)
    assert f"{ours} (263 numbers per frame) and {theirs} (251 numbers per frame) are all lamp checkpoints" in error


def test_unreadable_files_matter_only_if_a_file_is_missing(
    copies: Path, tmp_path: Path, refused, convert_originals, caplog
) -> None:
    names = ("encoder.model.0.weight", "encoder.model.0.bias", "decoder.model.0.weight", "quantizer.layers.0.codebook")
    theirs = _saved(copies / "rvq.tar", {"vq_model": {name: torch.zeros(1) for name in names}, "ep": 1})
    assert convert_originals(copies, tmp_path / "all").left_out == [theirs]
    contents = f"{', '.join(names[:3])} and 1 more under 'vq_model'"
    said = f"{theirs} is left out: it is not a checkpoint of a known kind (contents: {contents})"
    assert said in caplog.text
    (copies / FILES["motion-vqvae"]).unlink()
    error = refused(copies, kind="motion-vqvae")
    assert ": no motion-vqvae checkpoint found, only " in error
    assert said in error
    assert said in refused(theirs)

    code = _saved(copies / "another.ckpt", {"a": SimpleNamespace(b=1)})
    for kind in (None, "motion-vqvae", "text-to-motion"):
        assert "another.ckpt: contains types.SimpleNamespace" in refused(copies, kind=kind)
    assert convert_originals(copies, tmp_path / "evaluator", kind="evaluator").left_out == [code, theirs]
    assert "another.ckpt: contains types.SimpleNamespace" in caplog.text


def test_unrelated_files_are_left_out(copies: Path, tmp_path: Path, convert_originals, caplog) -> None:
    other = _saved(copies / "glove.pt", {"vectors": torch.zeros(2)})
    with caplog.at_level(logging.WARNING, "lamp_hf"):
        result = convert_originals(copies, tmp_path / "out", kind="lamp")
    assert result.left_out == [other]
    assert f"{other} is left out: it is not a checkpoint of a known kind" in caplog.text


def test_settings(copies: Path, refused, settings: dict[str, int]) -> None:
    assert "unknown settings: heads; the known settings are motion-vqvae.dilation" in refused(
        copies, settings={"heads": 4}
    )
    assert "lamp.max_text_length=0 is not a positive whole number" in refused(
        copies, settings={"lamp.max_text_length": 0}
    )
    error = refused(copies, settings={})
    assert "qformer.tar: cannot infer lamp.num_attention_heads from its tensors; " in error
    assert "m2t.pth: cannot infer captioning.num_attention_heads from its tensors (not a published size); pass" in error
    assert error.endswith("--set lamp.num_attention_heads=NUMBER --set captioning.num_attention_heads=NUMBER")
    one = refused(copies, settings={"captioning.num_attention_heads": 4}, kind="captioning")
    assert one.endswith("(not a published size); pass --set lamp.num_attention_heads=NUMBER")
    assert "qformer.tar: lamp.num_attention_heads=5 (given) does not divide its width, 48" in refused(
        copies, settings={**settings, "lamp.num_attention_heads": 5}
    )
    for kind in ("motion-vqvae", "lamp", "text-to-motion", "captioning", "evaluator"):
        options = copies / Path(FILES[kind]).parts[0] / "opt.txt"
        before = options.read_text() if options.is_file() else ""
        options.write_text("dataset_name: kit\n")
        error = refused(copies, kind=kind)
        assert f"{copies / FILES[kind]}: the opt.txt next to it says dataset_name: kit, whose motions have 251" in error
        options.write_text(before)
    (copies / "vq" / "opt.txt").write_text("dilation_growth_rate: three\n")
    assert "dilation_growth_rate: 'three' in the opt.txt next to it" in refused(copies, kind="motion-vqvae")


def test_options_of_the_tokenizer_apply_to_every_model(copies: Path, tmp_path: Path, convert_originals) -> None:
    (copies / "vq" / "opt.txt").write_text("dataset_name: t2m\ndilation_growth_rate: 2\n")
    for kind in ("motion-vqvae", "lamp", "text-to-motion", "captioning"):
        result = convert_originals(copies, tmp_path / kind, kind=kind)
        assert result.models[0].settings["motion-vqvae.dilation_growth_rate"] == (2, "opt.txt")
        config = AutoModel.from_pretrained(tmp_path / kind).config
        inner = config if kind == "motion-vqvae" else getattr(config, "lamp_config", config).motion_vqvae_config
        assert inner.dilation_growth_rate == 2


def test_tokenizers(copies: Path, tmp_path: Path, refused, tokenizers: SimpleNamespace) -> None:
    nowhere = str(tmp_path / "no" / "tokenizer")
    error = refused(copies, FileNotFoundError, text_tokenizer=nowhere)
    assert f"{nowhere}: no such folder; pass a folder with a tokenizer (--text-tokenizer)" in error
    error = refused(copies, FileNotFoundError, text_tokenizer="nobody/no-such-tokenizer")  # offline
    assert "nobody/no-such-tokenizer: cannot load this tokenizer" in error
    error = refused(copies, text_tokenizer=tokenizers.opt)
    counts = (tokenizers.symbols + 1, tokenizers.word_pieces + 1)
    assert "has {} word pieces including [DEC], but the checkpoint was trained with {}".format(*counts) in error
    error = refused(copies, kind="captioning", language_model_tokenizer=None)
    assert "its language model has the width 32, so it is not OPT-2.7b" in error
    error = refused(copies, kind="captioning", language_model_tokenizer=tokenizers.bert)
    assert "has no single token for a line break" in error


# ---- existing output folders ------------------------------------------------------------------------------


def test_existing_folder_is_replaced_only_on_request(copies: Path, tmp_path: Path, convert_originals) -> None:
    output = tmp_path / "out"
    output.mkdir()
    convert_originals(copies / FILES["length-estimator"], output)  # an empty one is used
    with pytest.raises(FileExistsError, match="is not empty; choose another folder, or set overwrite=True"):
        convert_originals(copies / FILES["evaluator"], output)
    assert type(AutoModel.from_pretrained(output)) is lamp_hf.MotionLengthEstimatorModel
    convert_originals(copies / FILES["evaluator"], output, overwrite=True)
    assert type(AutoModel.from_pretrained(output)) is lamp_hf.MotionTextEvaluatorModel
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t2m"]
    (output / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"contains files that no conversion wrote: thesis\.tex; move them"):
        convert_originals(copies / FILES["evaluator"], output, overwrite=True)
    assert (output / "thesis.tex").read_text() == "mine"


def test_original_files_are_never_overwritten(copies: Path, tmp_path: Path, convert_originals) -> None:
    for output in (copies, tmp_path, copies / FILES["lamp"]):
        with pytest.raises((ValueError, FileExistsError), match=r"contains the original checkpoints|is a file"):
            convert_originals(copies, output, overwrite=True)
    assert (copies / FILES["lamp"]).stat().st_size > 100_000


def test_failure_at_the_end_keeps_the_old_folder(copies: Path, tmp_path: Path, convert_originals, monkeypatch) -> None:
    output = tmp_path / "out"
    convert_originals(copies / FILES["evaluator"], output)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion_module, "write_run_card", fail)
    with pytest.raises(KeyboardInterrupt):
        convert_originals(copies, output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t2m"]


def test_unknown_kind_is_refused(copies: Path, refused) -> None:
    assert "kind='t2m' is unknown; choose one of motion-vqvae, lamp, text-to-motion" in refused(copies, kind="t2m")


@pytest.mark.parametrize("given", [False, True], ids=["statistics in the folder", "statistics given"])
def test_flat_folder_is_converted_completely(
    originals: Path, tmp_path: Path, convert_originals, settings: dict[str, int], caplog, given: bool
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in FILES.values():
        shutil.copy(originals / "t2m" / path, flat)
    # The opt.txt of the text-to-motion model is not in this folder.
    settings = {**settings, "text-to-motion.num_attention_heads": 4}
    meta = originals / "t2m" / "vq" / "meta"
    options = {"mean": meta / "mean.npy", "std": meta / "std.npy"} if given else {}
    if not given:
        for path in meta.iterdir():
            shutil.copy(path, flat)
    with caplog.at_level(logging.WARNING, "lamp_hf"):
        result = convert_originals(flat, tmp_path / "out", settings=settings, **options)
    kinds = {model.kind for model in result.models}
    assert kinds >= {"text-to-motion", "captioning", "length-estimator"}
    # An evaluator was trained with its own statistics.
    assert ("evaluator" in kinds) == (not given)
    assert ("evaluator_finest.tar is left out: its own mean.npy" in caplog.text) == given
    assert result.left_out == ([flat / "evaluator_finest.tar"] if given else [])
    assert lamp_hf.LampForTextToMotion.from_pretrained(tmp_path / "out").config.num_attention_heads == 4

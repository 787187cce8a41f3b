"""A tester for all models, and the table of models with tiny configurations and inputs.

It checks what users of transformers expect: models save and load, padding does not matter, attention
implementations agree, adapters work, and so on. The computation of each model is tested in a separate module.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import OPTConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

import lamp_hf
from lamp_hf.checkpoints.files import CheckpointError
from lamp_hf.modeling.masking_lamp import MaskingDraws

MOTION_LENGTHS = [24, 16, 9]
TEXT_LENGTHS = [7, 5, 3]
VOCAB_SIZE = 40


def tokenizer_config() -> lamp_hf.MotionVQVAEConfig:
    return lamp_hf.MotionVQVAEConfig(hidden_size=16, code_dim=8, num_codes=24, num_residual_layers=2)


def residual_config() -> lamp_hf.MotionVQVAEConfig:
    return lamp_hf.MotionVQVAEConfig(
        hidden_size=16, code_dim=8, num_codes=24, num_residual_layers=2, num_quantizers=3, quantizer_dropout=0.5
    )


def finite_scalar_config() -> lamp_hf.MotionVQVAEConfig:
    return lamp_hf.MotionVQVAEConfig(
        hidden_size=16, code_dim=8, num_codes=24, num_residual_layers=2, scalar_levels=[4, 3, 2]
    )


def lamp_config(tokenizer: Callable[[], lamp_hf.MotionVQVAEConfig] = tokenizer_config) -> lamp_hf.LampConfig:
    return lamp_hf.LampConfig(
        motion_vqvae_config=tokenizer(),
        vocab_size=VOCAB_SIZE,
        bos_token_id=39,
        eos_token_id=2,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=24,
        num_query_tokens=6,
        motion_hidden_size=12,
        projection_dim=8,
        max_text_length=16,
        initializer_range=0.2,
    )


def text_to_motion_config(
    tokenizer: Callable[[], lamp_hf.MotionVQVAEConfig] = tokenizer_config,
) -> lamp_hf.LampTextToMotionConfig:
    return lamp_hf.LampTextToMotionConfig(
        lamp_config=lamp_config(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        attention_bias="none",
        condition_on_words=True,
        max_motion_tokens=12,
        length_hidden_sizes=[8],
        initializer_range=0.2,
    )


def captioning_config() -> lamp_hf.LampWithLanguageModelConfig:
    language_model = OPTConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        word_embed_proj_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=24,
        max_position_embeddings=32,
        init_std=0.2,
    )
    return lamp_hf.LampWithLanguageModelConfig(
        lamp_config=lamp_config(), language_model_config=language_model, lora_rank=2, eos_token_id=3
    )


def evaluator_config() -> lamp_hf.MotionTextEvaluatorConfig:
    return lamp_hf.MotionTextEvaluatorConfig(
        movement_hidden_size=12,
        movement_size=12,
        motion_hidden_size=12,
        text_hidden_size=12,
        projection_dim=8,
        text_input="embeddings",
        word_embedding_size=8,
        vocab_size=VOCAB_SIZE,
        mismatches="all",
    )


def length_config() -> lamp_hf.MotionLengthEstimatorConfig:
    return lamp_hf.MotionLengthEstimatorConfig(input_size=8, hidden_sizes=[8], max_motion_tokens=12)


def motion() -> dict[str, torch.Tensor]:
    values = torch.randn(3, max(MOTION_LENGTHS), 263, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(max(MOTION_LENGTHS)) < torch.tensor(MOTION_LENGTHS)[:, None]
    return {"motion_values": values, "motion_attention_mask": mask.long()}


def text() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 39, (3, max(TEXT_LENGTHS)), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(max(TEXT_LENGTHS)) < torch.tensor(TEXT_LENGTHS)[:, None]
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def pairs() -> dict[str, Any]:
    return motion() | text()


def pretraining() -> dict[str, Any]:
    return pairs() | {"negatives": (torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1]))}


def text_to_motion() -> dict[str, Any]:
    codes = torch.randint(24, (3, 6), generator=torch.Generator().manual_seed(3))
    codes[1, 4:] = codes[2, 2:] = -100
    draws = MaskingDraws.draw(codes, 24, torch.Generator().manual_seed(4))
    return text() | {"motion_codes": codes, "draws": draws}


def residual_text_to_motion() -> dict[str, Any]:
    inputs = text_to_motion()
    finer = torch.randint(24, (3, 6, 2), generator=torch.Generator().manual_seed(6))
    first = inputs["motion_codes"][..., None]
    return inputs | {"motion_codes": torch.cat([first, finer.masked_fill(first < 0, -100)], -1)}


def motion_to_text() -> dict[str, Any]:
    return motion() | {"decoder_input_ids": text()["input_ids"]}


def captioning() -> dict[str, Any]:
    words = text()
    return pairs() | {"labels": words["input_ids"].masked_fill(words["attention_mask"] == 0, -100)}


def features() -> dict[str, Any]:
    return {"text_features": torch.randn(3, 8, generator=torch.Generator().manual_seed(5))}


@dataclass
class Case:
    """A model of the table.

    Args:
        model_class, config, inputs: The model; `inputs` has three rows, the first of which needs no padding.
        rows: Outputs with one row per row of the inputs, whose padding is at the end of the second dimension.
        loss: Whether it returns a loss.
        evaluates: Whether `Trainer.evaluate` reports the loss.
        hidden_states: Name of its outputs with `output_hidden_states`, with dots if they are part of another output.
        attentions: Name of its outputs with `output_attentions`; empty if it has none.
        embeddings: Whether it has word embeddings, which can be resized.
        adapter: Layers that a LoRA adapter of peft changes; none if the model already has an adapter.
        compiles: Whether it compiles without a break in the graph.
        checkpointing: Whether it supports gradient checkpointing.
        offloads: Whether parts can be offloaded to disk; not if it computes with single parameters of another model.
        option: Name of the configured option, if another case is the same model without it.
    """

    model_class: type[PreTrainedModel]
    config: Callable[[], PreTrainedConfig]
    inputs: Callable[[], dict[str, Any]]
    rows: tuple[str, ...]
    loss: bool = True
    evaluates: bool = True
    hidden_states: str = "hidden_states"
    attentions: str = "attentions"
    embeddings: bool = True
    adapter: tuple[str, ...] = ()
    compiles: bool = True
    checkpointing: bool = True
    offloads: bool = True
    option: str = ""

    @property
    def name(self) -> str:
        return self.model_class.__name__ + (f"-{self.option}" if self.option else "")

    def build(self, **changes: Any) -> Any:
        """Build the model with the same random weights every time, in evaluation mode."""
        torch.manual_seed(0)
        config = self.config()
        for name, value in changes.items():
            setattr(config, name, value)
        model = self.model_class(config).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if ".lora_B." in name:  # an untrained adapter changes nothing
                    tensor.normal_(std=0.2)
        return model

    def saved(self, root: Path) -> Path:
        """Save a checkpoint of the model, once."""
        folder = root / self.name
        if not folder.exists():
            self.build().save_pretrained(folder)
        return folder


ATTENTION = ("query", "value")
TOKENIZER: dict[str, Any] = {"attentions": "", "embeddings": False, "adapter": ("conv2",)}
CASES = [
    Case(lamp_hf.MotionVQVAEModel, tokenizer_config, motion, ("codes", "reconstruction"), **TOKENIZER),
    Case(
        lamp_hf.LampModel, lamp_config, pairs, ("motion_features", "text_features"), loss=False, evaluates=False,
        hidden_states="motion_model_output.hidden_states", attentions="motion_model_output.attentions",
        adapter=ATTENTION,
    ),
    Case(
        lamp_hf.LampForPreTraining, lamp_config, pretraining, (), hidden_states="model_output.hidden_states",
        attentions="model_output.attentions", adapter=ATTENTION, compiles=False, offloads=False,
    ),
    Case(
        lamp_hf.LampForMotionTextRetrieval, lamp_config, pairs, ("motion_features", "text_features"), loss=False,
        evaluates=False, hidden_states="motion_model_output.hidden_states", attentions="motion_model_output.attentions",
        adapter=ATTENTION,
    ),
    Case(
        lamp_hf.LampForTextToMotion, text_to_motion_config, text_to_motion, ("logits", "length_logits", "condition"),
        adapter=("qkv",),
    ),
    Case(
        lamp_hf.LampDecoderForMotionCaptioning, lamp_config, motion_to_text, ("logits",), loss=False, evaluates=False,
        hidden_states="decoder_hidden_states", attentions="decoder_attentions", adapter=ATTENTION, offloads=False,
    ),
    Case(lamp_hf.LampWithLanguageModelForMotionCaptioning, captioning_config, captioning, ("logits",)),
    Case(
        lamp_hf.MotionTextEvaluatorModel, evaluator_config, pairs, ("motion_features", "text_features"),
        attentions="", adapter=("fc1",), compiles=False,  # packed sequences of recurrent layers do not compile
    ),
    Case(
        lamp_hf.MotionLengthEstimatorModel, length_config, features, ("logits", "num_frames"), loss=False,
        evaluates=False, hidden_states="", attentions="", embeddings=False, adapter=("classifier",),
        checkpointing=False, offloads=False,
    ),
    Case(
        lamp_hf.MotionVQVAEModel, residual_config, motion, ("codes", "reconstruction"), option="residual", **TOKENIZER
    ),
    Case(
        lamp_hf.MotionVQVAEModel, finite_scalar_config, motion, ("codes", "reconstruction"), option="finite-scalar",
        **TOKENIZER,
    ),
    Case(
        lamp_hf.LampForTextToMotion, lambda: text_to_motion_config(finite_scalar_config), text_to_motion,
        ("logits", "length_logits", "condition"), adapter=("qkv",), option="finite-scalar",
    ),
    Case(
        lamp_hf.LampForTextToMotion, lambda: text_to_motion_config(residual_config), residual_text_to_motion,
        ("logits", "length_logits", "condition"), adapter=("qkv",), option="residual",
    ),
]  # fmt: skip


def flat(output: Any) -> list[torch.Tensor]:
    """Return all tensors of an output, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [tensor for each in output for tensor in flat(each)] if isinstance(output, list | tuple) else []


def assert_same(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Check that outputs are equal within `tolerance`; sums over other memory layouts differ by that much."""
    ours, theirs = flat(actual), flat(expected)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=tolerance, atol=tolerance)


def same_columns(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return rows if rows.ndim == 1 else rows[:, : like.shape[1]]


def gradients(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    output = model(**inputs)
    loss = output.loss if output.get("loss") is not None else sum(t.square().sum() for t in flat(output) if t.grad_fn)
    loss.backward()
    return {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}


class ModelTester:
    """Tests of every model in `CASES`; test classes inherit from it."""

    @pytest.fixture(params=CASES, ids=lambda case: case.name)
    def case(self, request: pytest.FixtureRequest) -> Case:
        return request.param

    @pytest.fixture
    def checkpoint(self, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return case.saved(tmp_path_factory.getbasetemp())

    # ---- checkpoints

    @torch.no_grad()
    def test_save_and_load_round_trip(self, case, checkpoint, tmp_path):
        model = case.build()
        loaded, report = case.model_class.from_pretrained(checkpoint, output_loading_info=True)
        assert not any(report.values()), report
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, loaded.state_dict()[name]), name
        assert_same(loaded(**case.inputs()), model(**case.inputs()))
        loaded.save_pretrained(tmp_path, max_shard_size="8KB")
        assert len(list(tmp_path.glob("*.safetensors"))) > 1 or case.model_class is lamp_hf.MotionLengthEstimatorModel
        assert_same(case.model_class.from_pretrained(tmp_path)(**case.inputs()), model(**case.inputs()))

    def test_missing_tensors_are_refused_and_unexpected_ones_reported(self, case, checkpoint, tmp_path):
        tensors = load_file(checkpoint / "model.safetensors")
        gone = sorted(name for name in tensors if name.endswith((".weight", "codebook")))[-1]
        tensors["more.weight"] = tensors.pop(gone)
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
        with pytest.raises(CheckpointError, match=f"lacks 1 of the tensors .*: {gone}"):
            case.model_class.from_pretrained(tmp_path)
        _, report = case.model_class.from_pretrained(tmp_path, output_loading_info=True)
        assert report["missing_keys"] == {gone}
        assert report["unexpected_keys"] == {"more.weight"}

    def test_missing_tensors_are_initialized_as_in_a_new_model(self, case, checkpoint, tmp_path):
        save_file({}, tmp_path / "model.safetensors", metadata={"format": "pt"})
        (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
        torch.manual_seed(1)
        fresh = case.model_class(case.config())
        loaded, _ = case.model_class.from_pretrained(tmp_path, output_loading_info=True)  # from the meta device
        for name, tensor in fresh.state_dict().items():
            other = loaded.state_dict()[name]
            assert not other.is_meta, name
            assert other.isfinite().all(), name
            if ".lora_" in name:
                continue  # up to peft
            if not tensor.is_floating_point() or len(tensor.unique()) == 1:
                assert torch.equal(tensor, other), name
            else:
                spread = tensor.std()
                error = spread * (2 / tensor.numel()) ** 0.5
                assert abs(tensor.mean() - other.mean()) < 5 * error, name
                assert abs(spread - other.std()) < 5 * error, name

    @torch.no_grad()
    @pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}], ids=str)
    def test_device_maps(self, case, checkpoint, device_map):
        loaded = case.model_class.from_pretrained(checkpoint, device_map=device_map)
        assert_same(loaded(**case.inputs()), case.build()(**case.inputs()))

    @torch.no_grad()
    def test_parts_are_offloaded_to_disk(self, case, checkpoint, tmp_path):
        if not case.offloads:
            return
        size = sum(tensor.numel() * 4 for tensor in case.build().state_dict().values())
        loaded = case.model_class.from_pretrained(
            checkpoint, device_map="auto", max_memory={"cpu": int(size * 0.8)}, offload_folder=tmp_path
        )
        assert "disk" in loaded.hf_device_map.values()
        assert_same(loaded(**case.inputs()), case.build()(**case.inputs()))

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_dtypes(self, case, checkpoint, dtype):
        """Inputs are float32 for every type of the model."""
        loaded = case.model_class.from_pretrained(checkpoint, dtype=dtype)
        assert loaded.dtype == dtype
        output, exact = loaded(**case.inputs()), case.build()(**case.inputs())
        for name in case.rows:
            assert output[name].isfinite().all(), name
            if name == "codes":
                assert torch.equal(output[name], exact[name])  # tokens are decided in float32
            elif exact[name].is_floating_point():
                scale = exact[name].abs().amax()
                assert (output[name].float() - exact[name]).abs().amax() < (
                    0.15 * scale if dtype.itemsize == 2 else 1e-6
                )

    # ---- outputs

    @torch.no_grad()
    def test_outputs_as_tuple_and_by_name(self, case):
        model, inputs = case.build(), case.inputs()
        named = model(**inputs)
        assert isinstance(named, ModelOutput)
        for output in (model(**inputs, return_dict=False), case.build(return_dict=False)(**inputs)):
            assert isinstance(output, tuple)
            assert_same(output, named.to_tuple())
        assert isinstance(case.build(return_dict=False)(**inputs, return_dict=True), ModelOutput)
        if case.loss:
            assert next(iter(named)) == "loss"  # the Trainer takes the first item of a tuple

    @torch.no_grad()
    def test_hidden_states_and_attentions(self, case):
        inputs = case.inputs()
        model = case.build(_attn_implementation="eager")
        plain = model(**inputs)
        for name, option in ((case.hidden_states, "output_hidden_states"), (case.attentions, "output_attentions")):
            if not name:
                continue
            look = operator.attrgetter(name)
            assert look(plain) is None
            told = look(model(**inputs, **{option: True}))
            assert told, name
            assert all(isinstance(each, torch.Tensor) for each in told), name
            by_config = case.build(_attn_implementation="eager", **{option: True})
            assert_same(look(by_config(**inputs)), told)
            if option == "output_attentions":
                assert all(torch.allclose(each.sum(-1), torch.ones(()), atol=1e-5) for each in told)

    def test_unknown_arguments_are_refused(self, case):
        with pytest.raises(TypeError, match="typo"):
            case.build()(**case.inputs(), typo=1)
        with pytest.raises(TypeError, match="does not know hiden_size"):
            type(case.config())(hiden_size=1)

    @torch.no_grad()
    def test_padding_changes_nothing(self, case):
        model, inputs = case.build(), case.inputs()
        together = model(**inputs)
        sizes = {"motion": MOTION_LENGTHS, "text": TEXT_LENGTHS, "codes": [6, 4, 2]}
        kinds = {"motion_values": "motion", "motion_attention_mask": "motion", "motion_codes": "codes"}
        for row in range(1, 3):
            alone = {}
            for name, value in inputs.items():
                if isinstance(value, torch.Tensor):
                    size = sizes[kinds.get(name, "text")][row] if value.ndim > 1 and name != "text_features" else None
                    alone[name] = value[row : row + 1, :size] if size else value[row : row + 1]
                elif isinstance(value, MaskingDraws):
                    cut = {key: each[row : row + 1] for key, each in vars(value).items()}
                    alone[name] = MaskingDraws(
                        **{k: v[:, : sizes["codes"][row]] if v.ndim > 1 else v for k, v in cut.items()}
                    )
            output = model(**alone)
            for name in case.rows:
                one = output[name][:1]
                torch.testing.assert_close(same_columns(together[name][row : row + 1], one), one, rtol=1e-4, atol=1e-5)

    # ---- training

    def test_gradient_checkpointing_does_not_change_gradients(self, case):
        if not case.checkpointing:
            assert not case.model_class.supports_gradient_checkpointing
            return
        plain = gradients(case.build().train(), case.inputs())
        model = case.build().train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        assert model.is_gradient_checkpointing
        found = gradients(model, case.inputs())
        assert plain.keys() == found.keys()
        assert plain
        for name, gradient in plain.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)

    @torch.no_grad()
    def test_attention_implementations_agree(self, case):
        outputs = [case.build(_attn_implementation=name)(**case.inputs()) for name in ("eager", "sdpa")]
        assert_same(*outputs, tolerance=1e-4)

    def test_evaluation_reports_the_loss(self, case, tmp_path):
        if not case.evaluates:
            return
        from transformers import Trainer, TrainingArguments

        inputs = case.inputs()
        rows = [{"row": row} for row in range(3)]
        arguments = TrainingArguments(
            tmp_path, per_device_eval_batch_size=3, report_to=[], remove_unused_columns=False, use_cpu=True
        )
        model = case.build()
        trainer = Trainer(model, arguments, data_collator=lambda _: inputs)
        metrics = trainer.evaluate(rows)
        with torch.no_grad():
            assert metrics["eval_loss"] == pytest.approx(float(model(**inputs).loss), rel=1e-4)

    # ---- changes

    def test_resized_embeddings_are_saved_and_loaded(self, case, tmp_path):
        if not case.embeddings:
            return
        model = case.build()
        before = model.get_input_embeddings().weight.detach().clone()
        model.resize_token_embeddings(VOCAB_SIZE + 5)
        assert model.config.get_text_config().vocab_size == VOCAB_SIZE + 5
        model.save_pretrained(tmp_path)
        loaded = case.model_class.from_pretrained(tmp_path)
        after = loaded.get_input_embeddings().weight
        assert after.shape[0] == VOCAB_SIZE + 5
        assert torch.equal(after[:VOCAB_SIZE], before)
        with torch.no_grad():
            assert_same(loaded(**case.inputs()), model(**case.inputs()))

    def test_adapters_are_saved_loaded_and_merged(self, case, tmp_path):
        from peft import LoraConfig, PeftModel, get_peft_model

        if not case.adapter:
            return
        inputs = case.inputs()
        names = {name: tensor for name, tensor in case.build().named_parameters() if tensor.requires_grad}
        assert names or case.model_class is lamp_hf.MotionVQVAEModel
        model = get_peft_model(
            case.build(), LoraConfig(r=2, target_modules=list(case.adapter), init_lora_weights=False)
        )
        with torch.no_grad():
            adapted = model.eval()(**inputs)
            model.save_pretrained(tmp_path)
            again = PeftModel.from_pretrained(case.build(), tmp_path).eval()
            assert_same(again(**inputs), adapted)
            plain = case.build()(**inputs)
            assert any(not torch.allclose(a, b) for a, b in zip(flat(adapted), flat(plain), strict=True))
            assert_same(again.merge_and_unload()(**inputs), adapted, tolerance=1e-4)

    @torch.no_grad()
    def test_compiles_without_a_break(self, case):
        if not case.compiles:
            return
        torch._dynamo.reset()
        model, inputs = case.build(), case.inputs()
        expected = copy.deepcopy(model(**inputs))
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert_same(compiled(**inputs), expected, tolerance=1e-5)

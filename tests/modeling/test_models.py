"""Every model passes the shared tester; parts can be exported; examples run."""

import doctest
import inspect

import pytest
import torch

import lamp_hf

from .common import CASES, ModelTester, motion, text

TOKENIZERS = [case for case in CASES if case.model_class is lamp_hf.MotionVQVAEModel]


class TestModels(ModelTester):
    pass


def embedded_tokenizer():
    return lamp_hf.LampForTextToMotion.from_pretrained("lamp-small").lamp.motion_vqvae


@torch.no_grad()
def test_decode_inverts_encode():
    tokenizer = embedded_tokenizer()
    codes = torch.randint(tokenizer.config.num_codes, (2, 9))
    codes[1, 5:] = -100
    motion_values = tokenizer.decode(codes)
    mask = (codes >= 0).repeat_interleave(4, dim=1).long()
    again = tokenizer.encode(motion_values, mask).codes
    assert torch.equal(again < 0, codes < 0)
    real = tokenizer(motion_values, mask).reconstruction
    torch.testing.assert_close(tokenizer.decode(again), real, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_half_precision_keeps_every_token_of_the_embedded_model():
    motion_values = torch.randn(4, 196, 263, generator=torch.Generator().manual_seed(0))
    exact = lamp_hf.LampModel.from_pretrained("lamp-small")
    short = lamp_hf.LampModel.from_pretrained("lamp-small", dtype=torch.bfloat16)
    assert torch.equal(exact.encode_motion(motion_values)[2], short.encode_motion(motion_values)[2])
    assert short.dtype == torch.bfloat16 == short.encode_motion(motion_values)[0].dtype


@pytest.mark.parametrize("part", ["encode", "decode"])
@pytest.mark.parametrize("case", TOKENIZERS, ids=lambda case: case.name)
@torch.no_grad()
def test_tokenizer_is_exported(case, part):
    class Part(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            output = getattr(self.model, part)(*inputs)
            return output if part == "decode" else output.codes

    module = Part(case.build())
    values = motion()
    codes = module.model.encode(**values).codes
    inputs = tuple(values.values()) if part == "encode" else (codes,)
    exported = torch.export.export(module, inputs, strict=False).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs))


@pytest.mark.parametrize("method", ["get_motion_features", "get_text_features"])
@torch.no_grad()
def test_encoders_are_exported(method):
    class Part(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return getattr(self.model, method)(*inputs)

    module = Part(CASES[1].build())
    inputs = tuple((motion() if "motion" in method else text()).values())
    exported = torch.export.export(module, inputs, strict=False).module()
    torch.testing.assert_close(exported(*inputs), module(*inputs))


PUBLIC = [case.model_class.forward for case in CASES if not case.option] + [lamp_hf.MotionVQVAEModel.encode]


@pytest.mark.parametrize("method", PUBLIC, ids=lambda method: method.__qualname__)
def test_examples_run(method):
    function = inspect.unwrap(method)
    (example,) = doctest.DocTestFinder().find(function, method.__qualname__, module=False, globs={})
    assert example.examples, f"{method.__qualname__} has no example"
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=told.append).failed == 0, "".join(told)

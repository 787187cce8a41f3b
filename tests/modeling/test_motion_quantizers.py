"""Other quantizers than the paper's codebook: their codes, their training, and unsupported uses."""

import copy
import functools
import itertools
import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from lamp_hf import MotionVQVAEConfig, MotionVQVAEModel
from lamp_hf.metrics.functional.reconstruction import evaluate_reconstruction
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.motion_quantizers import (
    CodebookQuantizer,
    FiniteScalarQuantizer,
    ResidualQuantizer,
    motion_quantizer,
)

OPTIONS = {
    "codebook": {"num_codes": 24},
    "residual": {"num_codes": 24, "num_quantizers": 3},
    "finite-scalar": {"num_codes": 24, "scalar_levels": [4, 3, 2]},
}


def config(option: str, **changes) -> MotionVQVAEConfig:
    return MotionVQVAEConfig(**{"hidden_size": 16, "code_dim": 8, "dropout": 0.0, **OPTIONS[option], **changes})


def trained(option: str, **changes) -> MotionVQVAEModel:
    """A tokenizer after some steps on waves, in evaluation mode."""
    return copy.deepcopy(_trained(option, **changes))


@functools.cache
@torch.enable_grad()
def _trained(option: str, **changes) -> MotionVQVAEModel:
    torch.manual_seed(0)
    model = MotionVQVAEModel(config(option, code_reset_threshold=0.1, **changes)).train()
    values = waves()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(60):
        loss = model(values).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def waves() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    phase = torch.rand(16, 1, 4, generator=generator) * 6.28
    phase = phase + torch.arange(64)[None, :, None] * torch.tensor([0.1, 0.2, 0.3, 0.4])
    return torch.sin(phase) @ torch.randn(4, 263, generator=generator)


def test_configuration_selects_the_quantizer():
    assert type(motion_quantizer(config("codebook"))) is CodebookQuantizer
    assert type(motion_quantizer(config("residual"))) is ResidualQuantizer
    assert type(motion_quantizer(config("finite-scalar"))) is FiniteScalarQuantizer
    names = MotionVQVAEModel(config("codebook")).quantizer.state_dict().keys()
    assert names == {"codebook", "code_count", "initialized"}  # in all existing checkpoints


@pytest.mark.parametrize("option", OPTIONS)
def test_training_learns_and_uses_codes(option):
    model, values = trained(option), waves()
    torch.manual_seed(0)
    untrained = MotionVQVAEModel(config(option)).eval()
    with torch.no_grad():
        before, after = untrained(values), model(values)
    assert after.reconstruction_loss < 0.75 * before.reconstruction_loss
    assert len(after.codes.reshape(-1, after.codes.shape[-1] if after.codes.ndim == 3 else 1).unique(dim=0)) > 8
    assert after.perplexity > 3


@pytest.mark.parametrize("option", OPTIONS)
@torch.no_grad()
def test_forward_nearest_and_lookup_agree(option):
    quantizer = trained(option).quantizer
    latents = torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.tensor([7, 5, 2])[:, None]
    output = quantizer(latents, mask)
    codes = quantizer.nearest(latents)
    assert codes.shape == ((3, 7, 3) if option == "residual" else (3, 7))
    assert 0 <= codes.min() <= codes.max() < 24
    assert torch.equal(output.codes[mask], codes[mask])
    assert (output.codes[~mask] == -100).all()
    torch.testing.assert_close(output.latents[mask], quantizer.lookup(codes)[mask], rtol=1e-5, atol=1e-6)
    assert (output.latents[~mask] == 0).all()


@pytest.mark.parametrize("option", OPTIONS)
def test_gradient_reaches_only_real_latents(option):
    quantizer = trained(option).quantizer
    latents = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    upstream = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((quantizer(latents, mask).latents * upstream).sum(), latents)
    if option == "finite-scalar":  # through its projections
        assert (gradient[mask].abs().amax(-1) > 0).all()
    else:
        assert torch.equal(gradient[mask], upstream[mask])
    assert (gradient[~mask] == 0).all()


@pytest.mark.parametrize("option", OPTIONS)
def test_established_codes_are_stable_during_training(option):
    model = trained(option)
    with torch.no_grad():
        codes = model.encode(waves()[:4]).codes
        known = codes.reshape(-1, *codes.shape[2:]).unique(dim=0)
        before = model.quantizer.lookup(known).clone()
    model.quantizer.settle(known)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        model(torch.randn(8, 64, 263)).loss.backward()
        optimizer.step()
    assert torch.equal(model.quantizer.lookup(known), before)


# ---- several codebooks


@torch.no_grad()
def test_each_codebook_quantizes_the_residual():
    quantizer = trained("residual").quantizer
    rest = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    codes = quantizer.nearest(rest)
    for k, layer in enumerate(quantizer.layers):
        distances = torch.cdist(rest, layer.codebook)
        torch.testing.assert_close(distances.gather(1, codes[:, k : k + 1])[:, 0], distances.amin(1))
        rest = rest - layer.codebook[codes[:, k]]
    torch.testing.assert_close(
        quantizer.lookup(codes), sum(layer.codebook[codes[:, k]] for k, layer in enumerate(quantizer.layers))
    )


@torch.no_grad()
def test_every_codebook_reduces_the_error():
    model, values = trained("residual", quantizer_dropout=0.5), waves()
    codes = model.encode(values).codes
    errors = [float((model.decode(codes[..., :k]) - values).square().mean()) for k in (1, 2, 3)]
    assert errors[2] < errors[1] < errors[0]
    torch.testing.assert_close(model.decode(codes), model(values).reconstruction, rtol=1e-4, atol=1e-5)


def test_dropout_removes_the_last_codebooks_of_some_clips():
    quantizer = ResidualQuantizer(config("residual", quantizer_dropout=0.5)).train()
    latents, mask = torch.randn(400, 6, 8), torch.ones(400, 6, dtype=torch.bool)
    mask[:, 4:] = False
    torch.manual_seed(0)
    output = quantizer(latents, mask)
    used = (output.codes[:, :4] >= 0).sum(-1)
    assert (used == used[:, :1]).all()  # all tokens of a clip alike
    assert (output.codes[:, 4:] == -100).all()
    present = output.codes[:, 0] >= 0
    assert (present.long().diff(dim=-1) <= 0).all()  # the last ones, never one between others
    counts = torch.bincount(used[:, 0], minlength=4) / 400
    torch.testing.assert_close(counts, torch.tensor([0.0, 1 / 6, 1 / 6, 4 / 6]), rtol=0, atol=0.07)
    kept = quantizer.lookup(output.codes[0, :4])
    assert kept.shape == (4, 8)
    assert used[0, 0] == 3
    quantizer.eval()
    assert (quantizer(latents, mask).codes[:, :4] >= 0).all()


def test_full_dropout_still_trains_every_codebook():
    quantizer = ResidualQuantizer(config("residual", quantizer_dropout=1.0)).train()
    for _ in range(20):
        output = quantizer(torch.randn(1, 6, 8), torch.ones(1, 6, dtype=torch.bool))
    assert all(bool(layer.initialized) for layer in quantizer.layers)
    assert output.latents.isfinite().all()


# ---- a grid


@pytest.mark.parametrize("levels", [[4, 3, 2], [8, 5, 5], [2, 2, 2, 2], [7, 6]], ids=str)
@torch.no_grad()
def test_every_combination_of_levels_is_one_code(levels):
    """Compare with the formulas of the paper, for a quantizer with identity projections."""
    count = len(levels)
    quantizer = FiniteScalarQuantizer(
        MotionVQVAEConfig(code_dim=count, num_codes=math.prod(levels), scalar_levels=levels)
    )
    for projection in (quantizer.project_in, quantizer.project_out):
        projection.weight.copy_(torch.eye(count))
        projection.bias.zero_()
    seen = {}
    for steps in itertools.product(*(range(n) for n in levels)):
        numbers = [step - n // 2 for step, n in zip(steps, levels, strict=True)]
        latents = []
        for number, n in zip(numbers, levels, strict=True):
            half, offset = (n - 1) * 1.001 / 2, 0.5 * (n % 2 == 0)
            latents.append(math.atanh((number + offset) / half) - math.atanh(offset / half))
        (code,) = quantizer.nearest(torch.tensor([latents])).tolist()
        seen[code] = [number / (n // 2) for number, n in zip(numbers, levels, strict=True)]
    assert sorted(seen) == list(range(math.prod(levels)))
    torch.testing.assert_close(quantizer.lookup(torch.arange(len(seen))), torch.tensor([seen[c] for c in sorted(seen)]))
    far = quantizer.nearest(torch.tensor([[-1e4] * count, [1e4] * count]))
    assert far.tolist() == [0, len(seen) - 1]


@torch.no_grad()
def test_codes_are_computed_in_full_precision_under_autocast():
    quantizer = trained("finite-scalar").quantizer
    latents, mask = torch.randn(8, 50, 8), torch.ones(8, 50, dtype=torch.bool)
    exact = quantizer(latents, mask).codes
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(latents, mask).codes, exact)
        assert torch.equal(quantizer.nearest(latents), exact)


# ---- what is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_quantizers": 0}, "num_quantizers=0 is below 1"),
        ({"num_quantizers": 2, "quantizer_dropout": 1.5}, r"quantizer_dropout=1.5 is outside \[0, 1\]"),
        (
            {"quantizer_dropout": 0.2},
            "quantizer_dropout=0.2 needs several codebooks, but num_quantizers=1; set it to 0",
        ),
        ({"scalar_levels": [8, 5]}, r"scalar_levels=\[8, 5\] make 40 codes, not num_codes=512; set num_codes=40"),
        (
            {"scalar_levels": [], "num_codes": 1},
            r"scalar_levels=\[\] is invalid; give a list of numbers, each at least 2",
        ),
        ({"scalar_levels": [512, 1]}, r"scalar_levels=\[512, 1\] is invalid; give a list of numbers, each at least 2"),
        ({"scalar_levels": [512], "num_quantizers": 2}, "num_quantizers=2 cannot be combined; choose one"),
    ],
)
def test_invalid_settings_are_refused(values, message):
    with pytest.raises(StrictDataclassError, match=message):
        MotionVQVAEConfig(**values)


@torch.no_grad()
def test_ignored_code_adds_nothing():
    quantizer = MotionVQVAEModel(config("residual")).quantizer
    codes = torch.randint(24, (2, 5, 3))
    without = codes.clone()
    without[0, :, 1:] = without[1, :, 2] = -100
    expected = torch.stack([quantizer.lookup(codes[0, :, :1]), quantizer.lookup(codes[1, :, :2])])
    assert torch.equal(quantizer.lookup(without), expected)
    assert torch.equal(quantizer.lookup_first(codes[..., 0]), quantizer.lookup(codes[..., :1]))


@pytest.mark.parametrize(
    ("option", "shape", "message"),
    [
        ("codebook", (2, 9, 1), r"codes \(2, 9, 1\) must be \(B, n\): this tokenizer has one code per token"),
        ("finite-scalar", (2, 9, 3), r"must be \(B, n\): this tokenizer has one code per token"),
        ("residual", (2, 9), r"codes \(2, 9\) must be \(B, n, k\) with k from 1 to 3"),
        ("residual", (2, 9, 4), r"codes \(2, 9, 4\) must be \(B, n, k\) with k from 1 to 3"),
    ],
)
def test_codes_of_another_tokenizer_are_refused(option, shape, message):
    with pytest.raises(ValueError, match=message):
        MotionVQVAEModel(config(option)).decode(torch.zeros(shape, dtype=torch.long))


def test_usage_counts_the_codes_of_all_codebooks():
    torch.manual_seed(0)
    model = MotionVQVAEModel(config("residual", num_codes=4)).train()
    model(torch.randn(4, 64, 263))
    model.eval()
    clip = torch.randn(16, 263).numpy()
    with torch.no_grad():
        codes = model.encode(**LampFeatureExtractor()([clip])).codes[0]
    expected = sum(len(layer.unique()) for layer in codes.unbind(-1)) / 12
    assert evaluate_reconstruction(model, LampFeatureExtractor(), [clip])["codebook_use"] == pytest.approx(expected)

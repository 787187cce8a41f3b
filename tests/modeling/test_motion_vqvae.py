"""The motion tokenizer: parity with the authors' code, padding, codebook training, saving."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lamp_hf.conversion.state_dicts import vqvae_state_dict
from lamp_hf.modeling.configuration_lamp import MotionVQVAEConfig
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.modeling.motion_quantizers import CodebookQuantizer
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import skeleton_for_feature_dim

LOSSES = ("reconstruction", "position", "velocity", "trajectory", "commitment")


def tiny(**changes) -> MotionVQVAEModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "code_dim": 8, "num_codes": 32, **changes}
    return MotionVQVAEModel(MotionVQVAEConfig(**sizes))


@pytest.fixture(scope="module")
def original(golden: Path) -> tuple[MotionVQVAEModel, dict[str, torch.Tensor]]:
    config = MotionVQVAEConfig(hidden_size=32, code_dim=16, num_codes=32, velocity_loss_weight=0)
    model = MotionVQVAEModel(config).eval()
    model.load_state_dict(vqvae_state_dict(load_file(golden / "vqvae.state_dict.safetensors")))
    return model, load_file(golden / "vqvae.io.safetensors")


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@torch.no_grad()
def test_forward_equals_released_code(original, parity):
    model, io = original
    output = model(io["motion"])
    latents, mask = model.get_latents(io["motion"])
    parity("vqvae", latents.transpose(1, 2), io["encoder_out"])
    assert torch.equal(output.codes, io["code_idx"])
    parity("vqvae", model.quantizer(latents, mask).latents.transpose(1, 2), io["quantized"])
    parity("vqvae", output.reconstruction, io["recon"])
    parity("vqvae", output.commitment_loss, io["commit_loss"])
    parity("vqvae", output.perplexity, io["perplexity"])
    parity("vqvae", output.reconstruction_loss, io["loss_rec_smoothl1"])
    parity("vqvae", output.position_loss, io["loss_vel_or_explicit"])
    parity("vqvae", output.loss, io["loss_total_commit0.02_vel0.5"])
    parity("vqvae", model.quantizer.codebook[io["code_idx"]], io["codebook_lookup"])


@torch.no_grad()
def test_decode_equals_released_code_alone_and_in_a_batch(original, parity):
    model, io = original
    batch = model.decode(io["code_idx"])
    for item in range(2):
        parity("vqvae", model.decode(io["code_idx"][item : item + 1]), io[f"decode_from_idx_sample{item}"])
        parity("vqvae", batch[item : item + 1], io[f"decode_from_idx_sample{item}"])


@torch.no_grad()
def test_length_not_divisible_by_four_equals_released_code(original, parity):
    model, io = original
    output = model(io["motion"][:, :30])
    assert torch.equal(output.codes, io["odd_motion_T30_code_idx"])
    parity("vqvae", output.reconstruction, io["odd_motion_T30_recon"])


@pytest.mark.parametrize("rows", ["manyrows", "fewrows"])
@pytest.mark.parametrize("start", ["preset", "firstcall"])
def test_moving_averages_equal_released_code(golden, monkeypatch, rows, start, parity):
    io = {
        name.removeprefix(f"ema_{start}_{rows}_"): tensor
        for name, tensor in load_file(golden / "vqvae.io.safetensors").items()
        if name.startswith(f"ema_{start}_{rows}_")
    }
    config = MotionVQVAEConfig(code_dim=16, num_codes=32)
    quantizer = CodebookQuantizer(config).train()
    if start == "preset":
        quantizer.codebook.copy_(io["codebook_before"])
        quantizer.code_count.copy_(io["code_count_before"])
        quantizer.initialized.fill_(True)
    noises = iter(io[f"tile_noise_call{i}"] for i in range(2) if f"tile_noise_call{i}" in io)

    def released_candidates(flat: torch.Tensor) -> torch.Tensor:
        # The released code takes the first rows in order; ours draws them (V4).
        if len(flat) >= 32:
            return flat[:32]
        copies = -(-32 // len(flat))
        return (flat.repeat(copies, 1) + next(noises) * (0.01 / 16**0.5))[:32]

    monkeypatch.setattr(quantizer, "candidate_rows", released_candidates)
    latents = io["x"].transpose(1, 2)
    output = quantizer(latents, torch.ones(latents.shape[:2], dtype=torch.bool))
    parity("vqvae", output.latents.transpose(1, 2), io["quantized"])
    parity("vqvae", output.commitment_loss, io["commit"])
    parity("vqvae", output.perplexity, io["perplexity"])
    parity("vqvae", quantizer.codebook, io["codebook_after"])
    # Ours resets the statistics of a replaced code; the released code keeps the old ones.
    kept = io["code_count_after"] >= 1
    assert kept.any()
    parity("vqvae", (quantizer.codebook * quantizer.code_count[:, None])[kept], io["code_sum_after"][kept])
    parity("vqvae", quantizer.code_count[kept], io["code_count_after"][kept])
    assert (quantizer.code_count[~kept] == 1).all()


def test_padding_changes_nothing():
    model = tiny().eval()
    lengths = [64, 30, 9]
    clips = [torch.randn(n, 263) for n in lengths]
    motion_values = torch.full((3, 64, 263), 7.0)  # padding can have any value
    mask = torch.zeros(3, 64, dtype=torch.long)
    for row, clip in enumerate(clips):
        motion_values[row, : len(clip)] = clip
        mask[row, : len(clip)] = 1
    with torch.no_grad():
        together = model(motion_values, mask)
        for row, clip in enumerate(clips):
            alone = model(clip[None])
            tokens = len(clip) // 4
            assert torch.equal(alone.codes[0], together.codes[row, :tokens])
            assert (together.codes[row, tokens:] == -100).all()
            close(together.reconstruction[row, : 4 * tokens], alone.reconstruction[0], 1e-5)
            assert (together.reconstruction[row, 4 * tokens :] == 0).all()


def test_trajectory_loss_penalizes_accumulated_errors(monkeypatch):
    model = tiny(trajectory_loss_weight=0.5).eval()
    motion = torch.zeros(1, 32, 263)
    off = torch.zeros(1, 32, 263)
    off[..., 0] = 0.1  # turns a little too far in every frame: after t frames the heading is off by 0.1 t
    monkeypatch.setattr(model.decoder, "forward", lambda latents, lengths: off)
    with torch.no_grad():
        biased = model(motion)
        off[..., 0] = 0.1 * (-1.0) ** torch.arange(32)  # back and forth, so nothing accumulates
        wavering = model(motion)
    expected = torch.arange(1, 33) * 0.1
    expected = torch.where(expected < 1, expected**2 / 2, expected - 0.5).mean() / 3  # one of three channels
    close(biased.trajectory_loss, expected)
    close(biased.reconstruction_loss, wavering.reconstruction_loss)
    assert wavering.trajectory_loss < biased.trajectory_loss / 100
    weighted = (
        biased.loss
        - wavering.loss
        - model.config.velocity_loss_weight * (biased.velocity_loss - wavering.velocity_loss)
    )
    close(weighted, 0.5 * (biased.trajectory_loss - wavering.trajectory_loss))


def test_foot_loss_is_the_sliding_distance_of_planted_feet(monkeypatch):
    """Compare with joints recovered from features, for a body whose root moves while its feet are on the floor."""
    skeleton = skeleton_for_feature_dim(263)
    model, std = tiny(foot_loss_weight=0.5).eval(), torch.rand(263, generator=torch.Generator().manual_seed(0)) + 0.5
    target, made = torch.zeros(1, 32, 263), torch.zeros(1, 32, 263)
    target[..., -4:] = -1.0
    target[:, 4:20, -3] = 1.0  # the left toe stands from frame 4 to frame 19
    toe = skeleton.contact_joints[1]
    made[..., 1] = 0.03 / std[1]  # the root moves 3 cm per frame along x
    made[..., 4 + 3 * (toe - 1) + 2] = torch.arange(32) * 0.04 / std[4 + 3 * (toe - 1) + 2]  # the toe 4 cm along z
    monkeypatch.setattr(model.decoder, "forward", lambda latents, lengths: made)
    with torch.no_grad():
        output = model(target, motion_std=std)
    joints = features_to_joints((made * std)[0].numpy(), skeleton)[:, toe]
    slides = np.linalg.norm(np.diff(joints, axis=0), axis=-1)[4:20]
    close(output.foot_loss, torch.tensor(slides.mean()).float(), 1e-5)
    close(output.foot_loss, torch.tensor(0.05), 1e-5)
    made[..., 4 + 3 * (toe - 1)] = -torch.arange(32) * 0.03 / std[4 + 3 * (toe - 1)]  # the toe does not move in x
    made[..., 4 + 3 * (toe - 1) + 2] = 0
    with torch.no_grad():
        still = model(target, motion_std=std)
    assert still.foot_loss < 1e-5
    expected = 0.5 * (output.foot_loss - still.foot_loss)
    losses = [
        each.loss - sum(getattr(model.config, f"{name}_loss_weight") * each[f"{name}_loss"] for name in LOSSES)
        for each in (output, still)
    ]
    close(losses[0] - losses[1], expected, 1e-5)
    with pytest.raises(ValueError, match=r"foot_loss_weight=0\.5 needs distances; give motion_std"):
        model.train()(target)


def test_loss_ignores_padding():
    model = tiny(trajectory_loss_weight=1.0).eval()
    clip = torch.randn(1, 32, 263)
    padded = torch.cat([clip, torch.full((1, 32, 263), 5.0)], dim=1)
    mask = torch.cat([torch.ones(1, 32), torch.zeros(1, 32)], dim=1).long()
    with torch.no_grad():
        close(model(padded, mask).loss, model(clip).loss, 1e-6)


def test_training_learns_and_uses_codes():
    torch.manual_seed(0)
    model = tiny(dropout=0.0, code_reset_threshold=0.1).train()
    phase = torch.rand(16, 1, 4) * 6.28 + torch.arange(64)[None, :, None] * torch.tensor([0.1, 0.2, 0.3, 0.4])
    motion_values = torch.sin(phase) @ torch.randn(4, 263)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(60):
        loss = model(motion_values).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    codes = model.eval()(motion_values).codes
    assert len(codes.unique()) > 10


@pytest.mark.parametrize(
    ("frozen", "learning"), [("freeze_tokens", ("decoder.",)), ("freeze_encoder", ("decoder.", "quantizer."))]
)
def test_frozen_parts_do_not_change_in_training(frozen, learning):
    torch.manual_seed(0)
    model = tiny(**{frozen: True}).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(torch.randn(4, 64, 263)).loss.backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.startswith(learning)}


def test_dead_codes_are_replaced_by_rows_of_the_batch():
    torch.manual_seed(0)
    quantizer = CodebookQuantizer(MotionVQVAEConfig(code_dim=8, num_codes=16)).train()
    quantizer.initialized.fill_(True)
    quantizer.code_count[:] = torch.tensor([50.0] * 2 + [0.0] * 14)
    quantizer.codebook[:2] = torch.randn(2, 8) * 0.1
    quantizer.codebook[2:] = 1e3
    rows = torch.randn(1, 64, 8)
    quantizer(rows, torch.ones(1, 64, dtype=torch.bool))
    is_row = (quantizer.codebook[2:, None] == rows[0]).all(-1)
    assert is_row.any(1).all()
    assert len(torch.unique(quantizer.codebook[2:], dim=0)) == 14
    assert (quantizer.code_count[2:] == 1).all()


def test_evaluation_does_not_change_the_codebook():
    model = tiny().eval()
    before = model.quantizer.codebook.clone()
    model(torch.randn(2, 32, 263))
    assert torch.equal(before, model.quantizer.codebook)


def test_save_and_load_bit_exact(tmp_path):
    model = tiny().train()
    model(torch.randn(4, 64, 263))
    model.save_pretrained(tmp_path)
    loaded = MotionVQVAEModel.from_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert bool(loaded.quantizer.initialized)


def test_error_names_invalid_input_and_its_value():
    model = tiny()
    with pytest.raises(ValueError, match="251 numbers per frame, this tokenizer was built for 263"):
        model(torch.randn(1, 32, 251))
    with pytest.raises(ValueError, match="clip of 3 frames is shorter than one token"):
        model(torch.randn(1, 3, 263))


def test_runs_in_bfloat16():
    model = tiny().to(torch.bfloat16).eval()
    output = model(torch.randn(2, 32, 263, dtype=torch.bfloat16))
    assert output.reconstruction.dtype == torch.bfloat16
    assert torch.isfinite(output.loss)


def test_codebook_learns_in_full_precision_under_autocast():
    torch.manual_seed(0)
    latents, mask = torch.randn(4, 12, 8), torch.ones(4, 12, dtype=torch.bool)
    results = []
    for enabled in (False, True):
        quantizer = tiny().quantizer.train()
        quantizer.initialized.fill_(True)
        quantizer.codebook.copy_(torch.randn(32, 8, generator=torch.Generator().manual_seed(1)))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert ((latents[0] @ latents[0].T).dtype == torch.bfloat16) == enabled
            codes = quantizer(latents, mask).codes
        results.append((codes, quantizer.codebook, quantizer.code_count))
    assert all(torch.equal(plain, mixed) for plain, mixed in zip(*results, strict=True))

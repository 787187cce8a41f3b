"""Decoding of motion tokens: seeds, batches, edits, storyboards, filters, configuration."""

import json
import logging
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from lamp_hf.modeling import generation_lamp
from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig
from lamp_hf.modeling.generation_lamp import MotionDecoder
from lamp_hf.modeling.masked_decoding import (
    Window,
    decode_windows,
    draw_codes,
    equal_passes,
    keep_likely,
    part_generator,
    plan_seam,
    plan_windows,
)
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion

MASK = 24
WORDS = [(5, 6, 7), (8, 9, 10, 11, 12), (13,), (20, 21)]


def texts(*rows: tuple[int, ...], length: int | None = None) -> dict[str, torch.Tensor]:
    """Return captions of these words, padded on the right."""
    length = length or max(map(len, rows)) + 2
    input_ids = torch.tensor([[1, *row, 2] + [0] * (length - 2 - len(row)) for row in rows])
    return {"input_ids": input_ids, "attention_mask": (input_ids != 0).long()}


@pytest.fixture(scope="module", params=[1, 3], ids=["one-codebook", "three-codebooks"])
def model(request: pytest.FixtureRequest, tiny_text_to_motion) -> LampForTextToMotion:
    return tiny_text_to_motion(num_quantizers=request.param)


def codes_for(model: LampForTextToMotion, codes: torch.Tensor) -> torch.Tensor:
    """Return codes `(B, n)`, with codes for the further codebooks of the model if it has any."""
    if model.config.num_quantizers == 1:
        return codes
    further = [((codes + 5 * k) % 24).masked_fill(codes < 0, -100) for k in range(1, model.config.num_quantizers)]
    return torch.stack([codes, *further], -1)


def steps_of(model: LampForTextToMotion, num_inference_steps: int) -> int:
    """Return the number of steps; each codebook after the first is one."""
    return num_inference_steps + model.config.num_quantizers - 1


@pytest.fixture(params=["cpu", "accelerator"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the network runs: one window at a time, or a fixed number of padded windows as on an accelerator."""
    if request.param == "accelerator":
        start = MotionDecoder.__init__

        def elsewhere(self, *args) -> None:
            start(self, *args)
            self.on_cpu, self.rows = False, 3

        monkeypatch.setattr(MotionDecoder, "__init__", elsewhere)
    return request.param


# ---- the same motion in any batch -----------------------------------------------------------------------------


def test_motion_does_not_depend_on_its_batch(model, passes):
    lengths, seeds = [9, 12, 4, 30], [3, 2**40, 3, 0]
    together = model.generate(**texts(*WORDS, length=12), num_tokens=lengths, seed=seeds)
    order = [2, 0, 3, 1, 0]
    shuffled = model.generate(
        **texts(*(WORDS[i] for i in order)), num_tokens=[lengths[i] for i in order], seed=[seeds[i] for i in order]
    )
    for row, words in enumerate(WORDS):
        n = lengths[row]
        alone = model.generate(**texts(words), num_tokens=n, seed=seeds[row])
        for batch, place in ((together, row), (shuffled, order.index(row))):
            assert torch.equal(batch.motion_codes[place, :n], alone.motion_codes[0])
            assert torch.equal(batch.motion_values[place, : 4 * n], alone.motion_values[0])
            assert (batch.motion_codes[place, n:] == -100).all()
            assert (batch.motion_values[place, 4 * n :] == 0).all()
            assert batch.motion_attention_mask[place].sum() == 4 * n
    assert torch.equal(shuffled.motion_codes[1], shuffled.motion_codes[4])
    assert together.num_tokens == lengths
    assert together.seeds == seeds


def test_padded_and_unpadded_passes_agree(tiny_text_to_motion, monkeypatch):
    """Padding on an accelerator changes nothing: greedy tokens equal those of unpadded passes."""
    for bias in ("causal", "soft_causal", "none"):
        model = tiny_text_to_motion(attention_bias=bias)
        arguments = {**texts(*WORDS), "num_tokens": [9, 12, 4, 7], "temperature": 0}
        plain = model.generate(**arguments)
        with monkeypatch.context() as patch:
            patch.setattr(MotionDecoder, "padded", lambda self, n: -(-n // 8) * 8)
            start = MotionDecoder.__init__

            def elsewhere(self, *args, start=start) -> None:
                start(self, *args)
                self.on_cpu, self.rows = False, 3

            patch.setattr(MotionDecoder, "__init__", elsewhere)
            padded = model.generate(**arguments)
        assert torch.equal(plain.motion_codes, padded.motion_codes)
        torch.testing.assert_close(plain.motion_values, padded.motion_values, rtol=0, atol=1e-4)


def test_motions_are_decoded_from_their_codes_by_the_tokenizer(model):
    made = model.generate(**texts(*WORDS[:2]), num_tokens=[5, 9], seed=1)
    for row, n in enumerate((5, 9)):
        with torch.no_grad():
            expected = model.lamp.motion_vqvae.decode(made.motion_codes[row : row + 1, :n])
        assert torch.equal(made.motion_values[row, : 4 * n], expected[0])
    assert made.motion_values.shape == (2, 36, 263)


def test_motions_of_one_text_differ_and_seeds_reproduce_them(model):
    made = model.generate(**texts(*WORDS[:2]), num_tokens=8, seed=[5, 90], num_motions_per_prompt=3)
    assert made.seeds == [5, 6, 7, 90, 91, 92]
    assert len({tuple(row) for row in made.motion_codes.flatten(1).tolist()}) == 6
    again = model.generate(**texts(WORDS[1]), num_tokens=8, seed=91)
    assert torch.equal(again.motion_codes[0], made.motion_codes[4])


def test_missing_seeds_are_drawn_and_returned(model):
    captions = texts(WORDS[0], WORDS[0])
    torch.manual_seed(0)
    first = model.generate(**captions, num_tokens=8)
    second = model.generate(**captions, num_tokens=8)
    assert len(set(first.seeds + second.seeds)) == 4
    torch.manual_seed(0)
    assert model.generate(**captions, num_tokens=8).seeds == first.seeds
    again = model.generate(**captions, num_tokens=8, seed=first.seeds)
    assert torch.equal(again.motion_codes, first.motion_codes)


def test_generation_does_not_change_the_global_random_state(model):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model.generate(**texts(WORDS[0]), num_tokens=8, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_equal_texts_are_encoded_once(model, monkeypatch):
    calls = []
    read = model.get_text_condition
    monkeypatch.setattr(model, "get_text_condition", lambda *args: calls.append(args) or read(*args))
    made = model.generate(**texts(WORDS[0], WORDS[1], WORDS[0]), num_tokens=4, seed=0, num_motions_per_prompt=2)
    assert len(calls) == 2
    assert torch.equal(made.motion_codes[0], made.motion_codes[4])


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), max_size=20), rows=st.integers(1, 5))
def test_passes_have_one_size_and_cover_all_windows(sizes, rows):
    seen = set()
    for indices in equal_passes(sizes, rows):
        assert len(indices) == rows
        assert len({sizes[index] for index in indices}) == 1
        assert not seen & set(indices)
        seen |= set(indices)
    assert seen == set(range(len(sizes)))


# ---- the loop -------------------------------------------------------------------------------------------------


def fixed_windows(logits: torch.Tensor, editable: torch.Tensor | None = None, codes: torch.Tensor | None = None):
    n = len(logits)
    return Window(
        torch.zeros(n, dtype=torch.long) if codes is None else codes,
        0,
        torch.ones(n, dtype=torch.bool) if editable is None else editable,
        torch.Generator().manual_seed(0),
        torch.zeros(1, 4),
        torch.zeros(4),
    )


def test_tokens_are_decided_most_likely_first():
    logits = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) * 3
    window = fixed_windows(logits)
    seen = []

    def predict(windows, scale):
        seen.append(windows[0].tokens.clone())
        return [logits]

    decode_windows([window], predict, MaskedMotionGenerationConfig(temperature=0), 8)
    masked = [tokens == 8 for tokens in seen]
    assert [int(mask.sum()) for mask in masked] == [16, 16, 15, 14, 12, 10, 8, 5, 3, 1]
    for before, after in pairwise(masked):
        assert not (after & ~before).any()  # kept tokens do not change
    sureness = logits.softmax(-1).amax(-1)
    assert sureness[masked[-1]].item() == sureness.min()
    assert torch.equal(window.sequence, logits.argmax(-1))


def test_remasking_noise_changes_which_tokens_are_decided_first():
    logits = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) * 3
    surest_kept = []
    for noise in (0.0, 3.0):
        kept = []

        def predict(windows, scale, kept=kept):
            kept.append((windows[0].tokens != 8).tolist())
            return [logits]

        config = MaskedMotionGenerationConfig(temperature=0, remasking_noise=noise)
        decode_windows([window := fixed_windows(logits)], predict, config, 8)
        assert [16 - sum(row) for row in kept] == [16, 16, 15, 14, 12, 10, 8, 5, 3, 1]
        for before, after in pairwise(np.array(kept)):
            assert not (before & ~after).any()  # kept tokens do not change
        assert torch.equal(window.sequence, logits.argmax(-1))
        surest_kept.append(kept[6])
    assert surest_kept[0] != surest_kept[1]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 30), steps=st.integers(1, 20), seed=st.integers(0, 1000))
def test_only_editable_tokens_change_and_all_are_decided(n, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    editable = torch.rand(n, generator=generator) < 0.5
    codes = torch.randint(100, 200, (n,), generator=generator)  # not a code of the model: kept tokens are ignored
    window = fixed_windows(torch.zeros(n, 8), editable, codes.clone())
    config = MaskedMotionGenerationConfig(num_inference_steps=steps)
    decode_windows([window], lambda windows, scale: [torch.zeros(n, 8)], config, 8)
    assert torch.equal(window.sequence[~editable], codes[~editable])
    assert (window.sequence[editable] < 8).all()


def test_filters_keep_the_most_likely_codes():
    logits = torch.tensor([[1.0, 4.0, 2.0, 3.0]])  # shares 3 %, 64 %, 9 %, 24 %
    for top_k, top_p, kept in ((4, None, 4), (2, None, 2), (9, 1.0, 4), (4, 0.65, 2), (4, 0.6, 1), (1, 0.9, 1)):
        filtered = keep_likely(logits, top_k, top_p)
        expected = logits.argsort(descending=True)[0, :kept]
        assert torch.equal(filtered[0].isfinite().nonzero().flatten(), expected.sort().values)
        assert torch.equal(filtered[filtered.isfinite()], logits[filtered.isfinite()])


def test_draws_follow_temperature_and_filters():
    logits = torch.tensor([2.0, 1.0, 0.0, -8.0]).expand(20_000, -1)
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        config = MaskedMotionGenerationConfig(temperature=temperature, top_k=3)
        codes, probabilities = draw_codes(logits, config, generator)
        expected = (logits[0, :3] / temperature).softmax(-1)
        torch.testing.assert_close(codes.bincount(minlength=3) / len(codes), expected, rtol=0, atol=0.015)
        # Confidence does not depend on temperature and filters.
        assert torch.equal(probabilities, logits.softmax(-1).gather(-1, codes[:, None])[:, 0])
    codes, _ = draw_codes(logits, MaskedMotionGenerationConfig(temperature=0), generator)
    assert (codes == 0).all()
    # By default, a tenth of the codes can be drawn: three of 24.
    many = torch.arange(24.0).expand(2000, -1)
    codes, _ = draw_codes(many * 0.1, MaskedMotionGenerationConfig(), generator)
    assert set(codes.tolist()) == {21, 22, 23}


def test_guidance_moves_from_the_negative_text_to_the_text(model):
    captions, options = texts(*WORDS[:2]), {"num_tokens": 10, "temperature": 0}
    plain = model.generate(**captions, **options, guidance_scale=1)
    guided = model.generate(**captions, **options, guidance_scale=4)
    assert not torch.equal(plain.motion_codes, guided.motion_codes)
    # Guidance by any factor from a text to the same text gives that text.
    same = {f"negative_{name}": tensor for name, tensor in captions.items()}
    assert torch.equal(model.generate(**captions, **options, **same).motion_codes, plain.motion_codes)
    negative = {f"negative_{name}": tensor for name, tensor in texts(WORDS[3]).items()}
    away = model.generate(**captions, **options, **negative)
    assert not torch.equal(away.motion_codes, guided.motion_codes)
    # A row of padding means no negative text, so that only some texts of a batch can have one.
    mixed = {f"negative_{name}": tensor for name, tensor in texts(WORDS[3], WORDS[3]).items()}
    mixed["negative_attention_mask"][0] = 0
    both = model.generate(**captions, **options, **mixed)
    assert torch.equal(both.motion_codes[0], guided.motion_codes[0])
    assert torch.equal(both.motion_codes[1], away.motion_codes[1])


@torch.no_grad()
def test_guided_logits_match_the_formula(model):
    conditions = torch.randn(2, 32)
    codes = torch.randint(24, (7,))
    shares = torch.linspace(0, 1, 7)
    window = Window(
        codes, 0, codes >= 0, torch.Generator(), conditions, torch.zeros(32), torch.stack([1 - shares, shares])
    )
    one, other, empty = model.predict_tokens(codes.expand(3, -1), torch.cat([conditions, torch.zeros(1, 32)]))
    mixed = one * (1 - shares)[:, None] + other * shares[:, None]
    decoder = MotionDecoder(model, MaskedMotionGenerationConfig())
    torch.testing.assert_close(decoder.predict([window], 1)[0], mixed)
    torch.testing.assert_close(decoder.predict([window], 2.5)[0], empty + 2.5 * (mixed - empty))


def test_callback_is_called_after_every_step(model):
    told = []
    model.generate(
        **texts(*WORDS[:2]),
        num_tokens=[12, 5],
        seed=0,
        num_inference_steps=6,
        step_callback=lambda done, total, tokens: told.append((done, total, tokens)),
    )
    steps = steps_of(model, 6)
    assert [(done, total) for done, total, _ in told] == [(step, steps) for step in range(1, steps + 1)]
    assert [len(row) for row in told[0][2]] == [12, 5]
    assert all((row != MASK).all() for row in told[-1][2])


@torch.no_grad()
def test_further_codebooks_depend_on_earlier_ones(tiny_text_to_motion):
    """Greedy codes are the most likely ones of the residual transformer, one codebook after the other."""
    model = tiny_text_to_motion(num_quantizers=3)
    captions = texts(*WORDS[:2])
    made = model.generate(**captions, num_tokens=9, temperature=0, guidance_scale=1.0, seed=0).motion_codes
    condition = model.get_text_condition(**captions)
    for codebook in (1, 2):
        hidden = made.clone()
        hidden[..., codebook:] = 7  # ignored
        logits = model.predict_residuals(hidden, condition, torch.full((2,), codebook))
        assert torch.equal(logits.argmax(-1), made[..., codebook])
    assert made.unique().numel() > 3
    decoded = model.lamp.motion_vqvae.decode(made)
    assert not torch.allclose(decoded, model.lamp.motion_vqvae.decode(made[..., :1]), atol=1e-2)


def test_residual_layers_without_residual_codebooks_are_refused(tiny_text_to_motion):
    model = tiny_text_to_motion()
    with pytest.raises(ValueError, match="num_quantizers=1: the tokenizer has only one codebook"):
        model.predict_residuals(torch.zeros(1, 4, 1, dtype=torch.long), torch.zeros(1, 32), torch.ones(1).long())
    with pytest.raises(ValueError, match=r"motion_codes \(1, 4, 1\) do not fit a tokenizer with num_quantizers=1"):
        model(**texts(WORDS[0]), motion_codes=torch.zeros(1, 4, 1, dtype=torch.long))


# ---- edits ----------------------------------------------------------------------------------------------------


def test_edit_keeps_everything_else(model, passes):
    codes = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], [2, 7, 1, 8, 2, 8, 1, 8, -100, -100, -100]])
    codes = codes_for(model, codes)
    edit_mask = torch.zeros(2, 11, dtype=torch.bool)
    edit_mask[0, 4:8] = edit_mask[1, 6:8] = True
    made = model.generate(**texts(*WORDS[:2]), motion_codes=codes, edit_mask=edit_mask, seed=[0, 1])
    assert torch.equal(made.motion_codes[~edit_mask], codes[~edit_mask])
    assert made.num_tokens == [11, 8]
    other = codes.clone()
    other[edit_mask] = 0  # the edited tokens do not matter
    again = model.generate(**texts(*WORDS[:2]), motion_codes=other, edit_mask=edit_mask, seed=[0, 1])
    assert torch.equal(again.motion_codes, made.motion_codes)
    alone = model.generate(**texts(WORDS[1]), motion_codes=codes[1:], edit_mask=edit_mask[1:], seed=1)
    assert torch.equal(alone.motion_codes[0, :8], made.motion_codes[1, :8])


def test_one_motion_can_be_edited_with_many_texts(model):
    codes, edit_mask = codes_for(model, torch.arange(10)[None]), (torch.arange(10) > 6)[None]
    options = {"motion_codes": codes, "edit_mask": edit_mask, "temperature": 0}
    made = model.generate(**texts(*WORDS[:3]), **options)
    assert (made.motion_codes[:, :7] == codes[:, :7]).all()
    for row in range(3):
        alone = model.generate(**texts(WORDS[row]), **options)
        assert torch.equal(alone.motion_codes[0], made.motion_codes[row])


def test_full_edit_is_a_new_motion_and_empty_edit_changes_nothing(model):
    codes = codes_for(model, torch.arange(10)[None])
    everything = torch.ones(1, 10, dtype=torch.bool)
    made = model.generate(**texts(WORDS[0]), motion_codes=codes, edit_mask=everything, seed=4)
    new = model.generate(**texts(WORDS[0]), num_tokens=10, seed=4)
    assert torch.equal(made.motion_codes, new.motion_codes)
    same = model.generate(**texts(WORDS[0]), motion_codes=codes, edit_mask=~everything, seed=4)
    assert torch.equal(same.motion_codes, codes)


def edit_follows(model: LampForTextToMotion, changed: int) -> bool:
    """Return whether an edit of tokens 4 and 5 of 10 depends on token `changed`."""
    edit_mask = torch.zeros(1, 10, dtype=torch.bool)
    edit_mask[0, 4:6] = True
    results = set()
    for code in range(0, 24, 2):
        codes = torch.arange(10)[None].clone()
        codes[0, changed] = code
        made = model.generate(**texts(WORDS[0]), motion_codes=codes, edit_mask=edit_mask, temperature=0)
        results.add(tuple(made.motion_codes[0, 4:6].tolist()))
    return len(results) > 1


@pytest.mark.parametrize(("bias", "sees"), [("none", True), ("soft_causal", True), ("causal", False)])
def test_edit_sees_both_sides_unless_attention_is_causal(tiny_text_to_motion, caplog, bias, sees):
    model = tiny_text_to_motion(attention_bias=bias)
    generation_lamp.logger.warning_once.cache_clear()
    logging.getLogger("transformers").propagate = True
    try:
        assert edit_follows(model, 3)
        assert edit_follows(model, 6) == sees
    finally:
        logging.getLogger("transformers").propagate = False
    warned = [record for record in caplog.records if "an edit or a seam does not take" in record.message]
    assert len(warned) == (0 if sees else 1)


def test_continuing_a_motion_gives_no_warning(tiny_text_to_motion, monkeypatch):
    model = tiny_text_to_motion(attention_bias="causal")
    warnings = []
    monkeypatch.setattr(generation_lamp.logger, "warning_once", warnings.append)
    codes = torch.arange(10)[None]
    model.generate(**texts(WORDS[0]), motion_codes=codes, edit_mask=codes > 4)
    assert not warnings
    model.generate(**texts(WORDS[0]), motion_codes=codes, edit_mask=codes < 4)
    assert len(warnings) == 1


# ---- long motions and storyboards -----------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=120), st.integers(2, 40))
def test_windows_decide_every_token_once(editable, max_tokens):
    editable = torch.tensor(editable)
    decided = torch.zeros(len(editable), dtype=torch.long)
    for start, end, chosen in plan_windows(editable, max_tokens):
        assert 0 <= start < end <= len(editable)
        assert end - start == min(max_tokens, len(editable)) == len(chosen)
        assert chosen.any()
        decided[start:end] += chosen
        pending = editable & (decided == 0)
        assert not (pending[:start] & editable[:start]).any()
    assert torch.equal(decided, editable.long())


def test_windows_contain_context():
    windows = plan_windows(torch.ones(100, dtype=torch.bool), 49)
    assert [(start, end) for start, end, _ in windows] == [(0, 49), (33, 82), (51, 100)]
    editable = torch.zeros(100, dtype=torch.bool)
    editable[40:50] = True
    assert [(start, end) for start, end, _ in plan_windows(editable, 49)] == [(21, 70)]


def test_long_motion_never_needs_a_longer_window(model, monkeypatch):
    seen = []
    predict = model.predict_tokens
    monkeypatch.setattr(model, "predict_tokens", lambda ids, *rest: seen.append(ids) or predict(ids, *rest))
    made = model.generate(**texts(WORDS[0]), num_tokens=40, seed=0)
    assert made.num_tokens == [40]
    assert ((made.motion_codes >= 0) & (made.motion_codes < 24)).all()
    assert {ids.shape[1] for ids in seen} == {12}
    first = model.generate(**texts(WORDS[0]), num_tokens=12, seed=0)
    assert torch.equal(made.motion_codes[0, :12], first.motion_codes[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.integers(0, 8), st.integers(2, 49))
def test_spans_around_seams_never_overlap(lengths, reach, max_tokens):
    before = 0
    for seam in range(len(lengths) - 1):
        start, end, first, last = plan_seam(lengths, seam, reach, max_tokens)
        at = sum(lengths[: seam + 1])
        assert 0 <= start <= first <= at <= last <= end <= sum(lengths)
        assert end - start <= max_tokens
        assert max(at - first, last - at) <= reach
        assert first >= before
        before = last


def test_storyboard_joins_its_parts_with_new_tokens_at_the_seams(model):
    captions, lengths = texts(*WORDS[:3]), [10, 26, 8]
    board = model.generate_storyboard(**captions, num_tokens=lengths, seed=11, seam_tokens=3)
    assert board.part_tokens == lengths
    assert board.num_tokens == [44]
    assert board.seeds == [11]
    assert board.motion_values.shape == (1, 176, 263)
    unjoined = model.generate_storyboard(**captions, num_tokens=lengths, seed=11, seam_tokens=0)
    around = torch.zeros(44, dtype=torch.bool)
    around[7:13] = around[33:39] = True
    assert torch.equal(board.motion_codes[0][~around], unjoined.motion_codes[0][~around])
    for seam in (slice(7, 13), slice(33, 39)):
        assert not torch.equal(board.motion_codes[0][seam], unjoined.motion_codes[0][seam])
    first = model.generate(**texts(WORDS[0]), num_tokens=10, seed=11)
    assert torch.equal(unjoined.motion_codes[0, :10], first.motion_codes[0])
    # The tokenizer decodes the whole motion at once.
    with torch.no_grad():
        assert torch.equal(board.motion_values, model.lamp.motion_vqvae.decode(board.motion_codes))
    again = model.generate_storyboard(**captions, num_tokens=lengths, seed=11)
    assert torch.equal(again.motion_codes, board.motion_codes)
    other = model.generate_storyboard(**captions, num_tokens=lengths, seed=12)
    assert not torch.equal(other.motion_codes, board.motion_codes)


def seam_follows(model: LampForTextToMotion, monkeypatch: pytest.MonkeyPatch, changed: slice) -> bool:
    """Return whether the tokens around the seam of two parts of 6 depend on these tokens of the parts."""
    decode = generation_lamp.decode_windows
    results = set()
    for code in range(0, 24, 3):

        def decode_and_change(windows, *rest, code=code):
            decode(windows, *rest)
            if len(windows) == 2:  # the parts are done
                windows[0].sequence[:] = torch.arange(12)
                windows[0].sequence[changed] = code

        monkeypatch.setattr(generation_lamp, "decode_windows", decode_and_change)
        made = model.generate_storyboard(**texts(*WORDS[:2]), num_tokens=[6, 6], seed=0, seam_tokens=2, temperature=0)
        results.add(tuple(made.motion_codes[0, 4:8].flatten().tolist()))
    return len(results) > 1


def test_seam_depends_on_both_sides(model, monkeypatch):
    assert seam_follows(model, monkeypatch, slice(2, 4))
    assert seam_follows(model, monkeypatch, slice(8, 10))


def test_weights_of_the_texts_change_across_a_seam(model, monkeypatch):
    seen = []
    decode = generation_lamp.decode_windows
    monkeypatch.setattr(
        generation_lamp, "decode_windows", lambda windows, *rest: seen.append(windows) or decode(windows, *rest)
    )
    model.generate_storyboard(**texts(*WORDS), num_tokens=6, seed=0, seam_tokens=3)
    assert [len(windows) for windows in seen] == [4, 2, 1]  # parts, seams 0 and 2, seam 1
    for windows in seen[1:]:
        for window in windows:
            earlier, later = window.weights[:, window.editable]
            assert torch.allclose(later, (torch.arange(6) + 0.5) / 6)
            assert torch.allclose(earlier + later, torch.ones(6))
            assert window.conditions.shape == (2, 32)


def test_storyboard_of_one_part_is_a_motion(model):
    board = model.generate_storyboard(**texts(WORDS[1]), num_tokens=30, seed=8)
    single = model.generate(**texts(WORDS[1]), num_tokens=30, seed=8)
    assert torch.equal(board.motion_codes, single.motion_codes)


def test_parts_of_one_text_differ(model):
    board = model.generate_storyboard(**texts(WORDS[0], WORDS[0]), num_tokens=10, seed=3, seam_tokens=0)
    assert not torch.equal(board.motion_codes[0, :10], board.motion_codes[0, 10:])


def test_parts_have_separate_noise():
    draws = [torch.rand(4, generator=part_generator(7, part)).tolist() for part in range(5)]
    assert len({tuple(draw) for draw in draws}) == 5
    assert draws[0] == torch.rand(4, generator=torch.Generator().manual_seed(7)).tolist()


# ---- configuration --------------------------------------------------------------------------------------------


def test_generation_config_is_saved_and_loaded_as_its_class(model, tmp_path):
    assert type(model.generation_config) is MaskedMotionGenerationConfig
    model.generation_config = MaskedMotionGenerationConfig(num_inference_steps=18, guidance_scale=2, seed=5)
    try:
        model.save_pretrained(tmp_path)
    finally:
        model.generation_config = MaskedMotionGenerationConfig()
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written["num_inference_steps"] == 18
    loaded = LampForTextToMotion.from_pretrained(tmp_path)
    assert type(loaded.generation_config) is MaskedMotionGenerationConfig
    values = {name: getattr(loaded.generation_config, name) for name in MaskedMotionGenerationConfig.fields}
    assert values == {
        "num_inference_steps": 18,
        "guidance_scale": 2,
        "temperature": 1.0,
        "top_k": None,
        "top_p": None,
        "remasking_noise": 0.0,
        "seed": 5,
    }
    assert loaded.generate(**texts(WORDS[0]), num_tokens=3).seeds == [5]
    (tmp_path / "generation_config.json").unlink()
    assert LampForTextToMotion.from_pretrained(tmp_path).generation_config.num_inference_steps == 10
    given = LampForTextToMotion.from_pretrained(tmp_path, generation_config=GenerationConfig(temperature=0.5))
    assert given.generation_config.temperature == 0.5
    assert given.generation_config.num_inference_steps == 10


def test_values_of_a_call_apply_only_to_that_call(model):
    steps = SimpleNamespace(count=0)

    def count(done, total, tokens) -> None:
        steps.count = total

    captions = texts(WORDS[0])
    model.generate(**captions, num_tokens=3, num_inference_steps=4, step_callback=count)
    assert steps.count == steps_of(model, 4)
    model.generate(**captions, num_tokens=3, step_callback=count)
    assert steps.count == steps_of(model, 10)
    config = MaskedMotionGenerationConfig(num_inference_steps=7)
    model.generate(**captions, num_tokens=3, step_callback=count, generation_config=config)
    assert steps.count == steps_of(model, 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps=0 is not a whole number from 1"),
        ({"temperature": -1}, "temperature=-1 is not a number of at least 0"),
        ({"top_k": 0}, "top_k=0 is not None or a whole number of at least 1"),
        ({"top_p": 1.5}, r"top_p=1.5 is not None or a number above 0 and up to 1"),
        ({"remasking_noise": -1}, "remasking_noise=-1 is not a number of at least 0"),
        ({"guidance_scale": -2}, "guidance_scale=-2 is not a number of at least 0"),
    ],
)
def test_invalid_values_are_refused(model, values, message):
    with pytest.raises(ValueError, match=message):
        MaskedMotionGenerationConfig(**values)
    with pytest.raises(ValueError, match=message):
        model.generate(**texts(WORDS[0]), **values)


def test_error_names_invalid_arguments(model):
    captions = texts(*WORDS[:2])
    codes, mask = codes_for(model, torch.zeros(2, 4, dtype=torch.long)), torch.ones(2, 4, dtype=torch.bool)
    cases = [
        ({"max_length": 3, "steps": 3}, "unknown arguments max_length, steps; use .*num_inference_steps, guid"),
        ({"num_tokens": [3]}, "num_tokens has 1 values for 2 motions"),
        ({"seed": [1, 2, 3]}, "seed has 3 values for 2 motions"),
        ({"num_tokens": 0}, "num_tokens=0 is not a whole number of at least 1"),
        ({"num_tokens": 2.5}, "num_tokens=2.5 is not a whole number of at least 1"),
        ({"num_motions_per_prompt": 0}, "num_motions_per_prompt=0"),
        ({"motion_codes": codes}, "motion_codes and edit_mask must be given together"),
        ({"motion_codes": codes, "edit_mask": mask, "num_tokens": 4}, "num_tokens and motion_codes were both given"),
        ({"motion_codes": codes[:, :3], "edit_mask": mask}, r"motion_codes \(2, 3.*\) and edit_mask \(2, 4\)"),
        (
            {"motion_codes": codes * 0 + 24, "edit_mask": mask},
            "motion_codes contain 24, but the tokenizer has only 24",
        ),
        ({"motion_codes": codes - 100, "edit_mask": mask}, "must start with a code"),
        ({"negative_input_ids": torch.ones(3, 2).long()}, "3 negative texts for 2 texts"),
    ]
    for values, message in cases:
        with pytest.raises(ValueError, match=message):
            model.generate(**captions, **values)
    with pytest.raises(ValueError, match="seam_tokens=-1"):
        model.generate_storyboard(**captions, seam_tokens=-1)
    with pytest.raises(ValueError, match="num_tokens has 3 values for 2 motions"):
        model.generate_storyboard(**captions, num_tokens=[1, 2, 3])


def test_missing_lengths_are_estimated(model):
    captions = texts(*WORDS)
    with torch.no_grad():
        expected = model.length_estimator.num_tokens(model.get_text_condition(**captions)).tolist()
    assert model.generate(**captions, seed=0).num_tokens == expected
    assert model.generate_storyboard(**captions, seed=0).part_tokens == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_inference_steps": 10**9}, "num_inference_steps=1000000000 is not a whole number from 1 to 1,000"),
        ({"num_inference_steps": True}, "num_inference_steps=True is not a whole number"),
        ({"temperature": "1"}, "temperature='1' is not a number of at least 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan is not a number of at least 0"),
        ({"top_p": "0.9"}, "top_p='0.9' is not None or a number"),
        ({"num_tokens": 10**12}, "1,000,000,000,000 motion tokens .* are more than one call generates"),
        ({"num_tokens": True}, "num_tokens=True is not a whole number of at least 1"),
        (
            {"num_tokens": 5, "num_motions_per_prompt": 90_000},
            "450,000 motion tokens .* than one call generates",
        ),
        ({"num_motions_per_prompt": True}, "num_motions_per_prompt=True is not a whole number"),
        ({"seed": 2**63}, "seed=9223372036854775808 is not None or a whole number"),
    ],
    ids=str,
)
def test_values_out_of_bounds_are_refused_before_any_work(tiny_text_to_motion, options, said):
    model = tiny_text_to_motion()
    with pytest.raises(ValueError, match=said):
        model.generate(torch.ones(1, 4, dtype=torch.long), **options)

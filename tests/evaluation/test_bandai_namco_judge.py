"""The judge of text-to-motion on procedural and on real motions."""

import random

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from lamp_hf.data import load_bandai_namco, motion_features
from lamp_hf.evaluation.probes.bandai_namco import LabeledClips, TextToMotionJudge, paraphrase
from lamp_hf.evaluation.probes.probe import MotionProbe, flipped
from lamp_hf.motion.motion import Motion

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def dataset(procedural) -> DatasetDict:
    """Waves of each hand, fast and slow walks, and a mirrored wave that the label "bye" does not describe."""
    rows = []
    for index in range(24):
        style = "normal" if index % 4 < 2 else "active"
        if index % 2:
            motion = procedural.walker(30 + index, speed=0.6 if style == "normal" else 1.3)
            rows.append(procedural.row(f"clip{index}", motion, ["walk"], content="walk", style=style))
        else:
            motion = procedural.waver(30 + index if style == "normal" else 80 + index, side="right")
            rows.append(procedural.row(f"clip{index}", motion, ["bye"], content="bye", style=style))
    mirrored = procedural.waver(44, side="left")
    rows.append(procedural.row("clip24", mirrored, ["bye"], content="bye", style="normal", mirrored=True))
    order = random.Random(0).sample(range(24), 24)
    splits = {"train": [rows[i] for i in order[:16]] + rows[24:], "validation": [rows[i] for i in order[16:]]}
    return DatasetDict({name: Dataset.from_list(part, features=motion_features()) for name, part in splits.items()})


@pytest.fixture(scope="module")
def judge(dataset) -> TextToMotionJudge:
    return TextToMotionJudge(dataset)


def test_mirrored_clips_without_a_label_are_left_out(dataset):
    clips = LabeledClips.from_dataset(dataset["train"])
    assert len(clips.joints) == len(clips.contents) == len(clips.styles) == 16
    assert not any(flipped(clip, content) for clip, content in zip(clips.joints, clips.contents, strict=True))


def test_real_clips_are_recognized(judge):
    scores = judge.judge_validation()
    assert scores["content_accuracy"] == 1.0
    assert scores["style_accuracy"] >= 0.75
    assert scores["flips"] == 0.0
    assert scores["jitter"] == pytest.approx(np.mean([Motion(joints=j).jitter() for j in judge.validation.joints]))


def test_wrong_motions_are_not_recognized(judge):
    clips = judge.validation
    wrong = ["walk" if content == "bye" else "bye" for content in clips.contents]
    assert judge.judge(clips.joints, wrong, clips.styles)["content_accuracy"] == 0.0
    assert judge.content_accuracies(clips.joints, wrong) == {"bye": 0.0, "walk": 0.0}
    assert judge.content_accuracies(clips.joints, clips.contents) == {"bye": 1.0, "walk": 1.0}
    mirrored = [Motion(joints=clip).mirror().joints for clip in clips.joints]
    assert judge.judge(mirrored, clips.contents, clips.styles)["flips"] == 1.0


def test_one_motion_is_generated_per_clip_at_its_length(judge):
    clips = judge.validation
    calls = []

    def pipe(texts, **options):
        calls.append((texts, options))
        return [{"motion": Motion(joints=clip)} for clip in clips.joints]

    texts = [f"text {i}" for i in range(len(clips.joints))]
    scores, motions = judge.generate_and_judge(pipe, texts, seed=5, batch_size=3)
    assert scores == judge.judge_validation()
    assert len(motions) == len(texts)
    judge.generate_and_judge(pipe, texts, real_lengths=False)
    (given, options), (_, estimated) = calls
    assert given == texts
    assert options["seed"] == list(range(5, 5 + len(texts)))
    assert all(
        0 <= len(clip) - n < 4 and n % 4 == 0 for clip, n in zip(clips.joints, options["num_frames"], strict=True)
    )
    assert "num_frames" not in estimated


def test_paraphrases_mention_content_and_style():
    rng = random.Random(3)
    sentences = {paraphrase("walk-turn-left", "sad", rng) for _ in range(600)}
    assert len(sentences) == 4 * 4 * 3
    assert all("left" in sentence and ("sad" in sentence or "crying" in sentence) for sentence in sentences)


@pytest.mark.slow
def test_probes_recognize_real_motion_capture(bandai_archive, tmp_path_factory):
    """Part of the real data set, read from its files: three different actions, one of them with sides."""
    names = [
        line.split()[0]
        for split in ("train.txt", "val.txt")
        for line in (bandai_archive.parent / split).read_text(encoding="utf-8").splitlines()
    ]
    wanted = ("walk-turn-left", "wave-left-hand", "run", "bow")
    chosen = [name for content in wanted for name in [name for name in names if name.split("_")[1] == content][:24]]
    dataset = load_bandai_namco(
        bandai_archive,
        names=chosen,
        mirror=False,
        num_proc=1,
        progress=False,
        cache_dir=tmp_path_factory.mktemp("cache"),
    )
    clips = LabeledClips.from_dataset(dataset["train"])
    odd = slice(1, None, 2)
    probe = MotionProbe(0.1).fit(clips.joints[::2], clips.contents[::2])
    assert probe.accuracy(clips.joints[odd], clips.contents[odd]) >= 0.95
    sides = [flipped(clip, content) for clip, content in zip(clips.joints, clips.contents, strict=True)]
    assert True not in sides
    assert sides.count(False) > 30

"""The first things users meet: the embedded checkpoint and the examples of README and docstrings."""

import doctest
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import pipeline

import lamp_hf
from lamp_hf.cli import main
from lamp_hf.evaluation.probes.bandai_namco import paraphrase, paraphrases
from lamp_hf.motion.motion import Motion
from lamp_hf.pipelines.familiarity import THRESHOLD
from lamp_hf.pipelines.text_warnings import UnfamiliarTextWarning

MEGABYTES = {"lamp-small": 60, "lamp-small-evaluator": 8, "lamp-cmu-evaluator": 8}
LICENSES = {"lamp-small": "cc-by-nc-4.0", "lamp-small-evaluator": "cc-by-nc-4.0", "lamp-cmu-evaluator": "cc-by-4.0"}


@pytest.fixture(scope="module")
def pipe() -> lamp_hf.TextToMotionPipeline:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        return pipeline("text-to-motion", device="cpu")


def test_embedded_checkpoint_is_the_default_and_complete(pipe: lamp_hf.TextToMotionPipeline) -> None:
    folder = lamp_hf.embedded_checkpoint()
    assert Path(pipe.model.name_or_path) == folder
    assert pipe.model.dtype == torch.float32
    assert pipe.fps == 20.0
    assert pipe.model.config.attention_bias == "none"  # edits and seams see later tokens


def test_packaged_checkpoints_are_small_and_have_a_license() -> None:
    folders = sorted(path.parent for path in lamp_hf.embedded_checkpoint().parent.glob("*/config.json"))
    assert [folder.name for folder in folders] == sorted(MEGABYTES)
    for folder in folders:
        assert sum(path.stat().st_size for path in folder.iterdir()) < MEGABYTES[folder.name] * 1e6
        header = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
        assert header["license"] == LICENSES[folder.name]
        assert header["library_name"] == "lamp_hf"


def test_motions_look_human(pipe: lamp_hf.TextToMotionPipeline) -> None:
    texts = ["a person walks forward", "a person waves with the right hand"]
    walk, wave = (result["motion"].joints for result in pipe(texts, duration=3.0, seed=1))
    names = lamp_hf.HUMANML3D_22.joint_names
    for joints in (walk, wave):
        assert 1.2 < np.median(joints[:, names.index("head"), 1]) < 1.8
        assert np.abs(np.median(joints[:, names.index("left_foot"), 1])) < 0.25
    traveled = [np.linalg.norm((joints[-1, 0] - joints[0, 0])[[0, 2]]) for joints in (walk, wave)]
    assert traveled[0] > 1.0
    assert traveled[1] < 0.5


def test_familiarity_distinguishes_known_texts(pipe: lamp_hf.TextToMotionPipeline) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = pipe(["a person walks forward", "a tired person walks and turns left"], num_frames=8)
        pipe("walk ahead and then turn to the right", num_frames=8)  # several actions in one known sentence
    assert min(result["familiarity"] for result in known) > 0.8
    with pytest.warns(UnfamiliarTextWarning, match="is far from everything that this checkpoint was trained on"):
        pipe("quarterly earnings beat the forecast of the analysts", num_frames=8)


@pytest.mark.parametrize(
    "text", ["a person does a backflip", "someone picks up a box", "a person crawls", "a man does push-ups", "swim"]
)
def test_sentence_frame_alone_does_not_make_a_text_familiar(pipe: lamp_hf.TextToMotionPipeline, text: str) -> None:
    with pytest.warns(UnfamiliarTextWarning, match="Nearest known sentences: "):
        assert pipe(text, num_frames=8)["familiarity"] < THRESHOLD


def test_known_and_unknown_sentences_are_distinguished(pipe: lamp_hf.TextToMotionPipeline) -> None:
    sentences = {
        kind: Path(__file__).with_name(f"{kind}_sentences.txt").read_text(encoding="utf-8").splitlines()
        for kind in ("known", "unknown")
    }
    assert min(len(set(texts)) for texts in sentences.values()) >= 150
    of = pipe.known_sentences
    assert of is not None
    scores = {kind: np.array([of.familiarity(text).score for text in texts]) for kind, texts in sentences.items()}
    area = (scores["known"][:, None] > scores["unknown"]).mean()
    assert area > 0.98  # 0.938 with all words; benchmarks/familiarity.py
    assert (scores["known"] < THRESHOLD).mean() < 0.03
    assert (scores["unknown"] < THRESHOLD).mean() > 0.82


def test_checkpoint_lists_its_known_sentences(pipe: lamp_hf.TextToMotionPipeline) -> None:
    assert pipe.known_sentences is not None
    groups = pipe.known_sentences.groups()
    assert {"walk", "bow", "running"} <= set(groups)
    assert sum(map(len, groups.values())) == len(set(pipe.processor.example_texts))
    assert "dance" in " ".join(pipe.suggest("a ballet dancer"))


def test_chosen_lengths_are_at_least_two_seconds(pipe: lamp_hf.TextToMotionPipeline) -> None:
    for text in ("a person runs fast", "a person raises the right hand", "dash"):
        assert pipe(text, seed=1)["motion"].duration >= 2.0
        assert pipe(text, seed=1, duration=0.6)["num_frames"] == 12


def test_threshold_separates_rewordings_from_unknown_sentences(pipe: lamp_hf.TextToMotionPipeline) -> None:
    parts = paraphrases()
    rng = random.Random(0)
    reworded = [
        paraphrase(content, style, rng) for content in parts["clauses"] for style in ["normal", *parts["styles"]]
    ]
    known = pipe.known_sentences
    assert known is not None
    assert np.mean([known.familiarity(text).is_low for text in reworded]) < 0.12  # some words are rare
    for strange in (
        "the stock market crashed yesterday",
        "cooking pasta with tomato sauce",
        "climbing a ladder",
        "quarterly earnings beat the forecast",
    ):
        assert known.familiarity(strange).is_low


def test_docstring_examples_run(pipe: lamp_hf.TextToMotionPipeline) -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for documented in (lamp_hf.TextToMotionPipeline, lamp_hf.TextToMotionPipeline.storyboard):
        name = documented.__qualname__
        examples = parser.get_doctest(documented.__doc__ or "", {"pipe": pipe}, name, None, 0)
        assert examples.examples
        assert runner.run(examples).failed == 0


def test_command_line_works_without_a_model_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "a person waves with both hands", "-o", str(tmp_path / "wave.bvh")])
    assert ended.value.code == 0
    assert Motion.load(tmp_path / "wave.bvh").num_frames > 10
    with pytest.raises(SystemExit):
        main(["info"])
    assert "cc-by-nc-4.0" in capsys.readouterr().out

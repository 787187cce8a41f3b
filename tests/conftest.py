"""Fixtures shared by all tests: procedural motions and the optional shared folder."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lamp_hf.data.schema import FeatureStatistics
from lamp_hf.motion import rotations
from lamp_hf.motion.features import features_to_joints, joints_to_features
from lamp_hf.motion.formats.rigs import LAMP_HF_JOINT_NAMES
from lamp_hf.motion.kinematics import forward_kinematics
from lamp_hf.motion.motion import Motion
from lamp_hf.motion.skeleton import HUMANML3D_22, KIT_21, skeleton_for_feature_dim

_ROOT = Path(__file__).resolve().parent.parent
_TRUNK = ("pelvis", "spine1", "spine2", "spine3", "neck", "head")
_LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
# Names of these joints in other software, and its words for the left and the right side.
_RIGS = {
    "lafan1": (
        "Hips Spine Spine1 Spine2 Neck Head {}UpLeg {}Leg {}Foot {}Toe {}Shoulder {}Arm {}ForeArm {}Hand",
        ("Left", "Right"),
    ),
    "3ds max": (
        "Hips Chest Chest2 Chest3 Neck Head {}Hip {}Knee {}Ankle {}Toe {}Collar {}Shoulder {}Elbow {}Wrist",
        ("Left", "Right"),
    ),
    "xsens": (
        "Pelvis L5 L3 T12 Neck Head {}UpperLeg {}LowerLeg {}Foot {}Toe {}Shoulder {}UpperArm {}Forearm {}Hand",
        ("Left", "Right"),
    ),
    "rokoko": (
        "Hips Spine1 Spine2 Spine3 Neck Head {}Thigh {}Shin {}Foot {}Toe {}Shoulder {}Arm {}ForeArm {}Hand",
        ("Left", "Right"),
    ),
    "daz": (
        "hip abdomen abdomen2 chest neck head {}Thigh {}Shin {}Foot {}Toe {}Collar {}Shldr {}ForeArm {}Hand",
        ("l", "r"),
    ),
}


@pytest.fixture(autouse=True)
def warnings_of_transformers() -> Iterator[None]:
    """Restores the warnings of transformers, which a command of `lamp-hf` in this process hides."""
    yield
    if (transformers := sys.modules.get("transformers")) is not None:
        transformers.logging.set_verbosity_warning()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real motion capture and reference numbers; not part of this repository."""
    path = Path(os.environ.get("LAMP_HF_SHARED", _ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"needs the shared data folder, absent at {path} (set LAMP_HF_SHARED)")
    return path


@pytest.fixture(scope="session")
def golden(shared_dir: Path) -> Path:
    """Folder with numbers printed by the authors' own code."""
    path = shared_dir / "golden"
    if not path.is_dir():
        pytest.skip(f"needs the reference numbers, absent at {path}")
    return path


@pytest.fixture
def parity(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Compares with a reference file and records the error; the largest one per file is printed at the end."""

    def compare(file: str, actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
        actual, expected = (x if isinstance(x, np.ndarray) else x.detach().numpy() for x in (actual, expected))
        assert actual.shape == expected.shape
        error, size = np.abs(actual - expected).max(), np.abs(expected).max()
        record_property("parity", (file, float(error), float(error / max(size, 1.0))))
        # Above 100, the precision of float32 is not better than 1e-6 of the value.
        assert error <= max(tolerance, 1e-6 * size), f"{file}: off by {error:.2e}"

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Largest error for each reference file."""
    errors: dict[str, list[tuple[float, float]]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "parity":
                errors.setdefault(value[0], []).append((value[1], value[2]))
    if errors:
        terminalreporter.section("largest error against the released code")
    for file, values in sorted(errors.items()):
        absolute, relative = (max(column) for column in zip(*values, strict=True))
        terminalreporter.write_line(f"{file:20} {absolute:.1e}, relative to size {relative:.1e}, {len(values)} tensors")


@pytest.fixture(scope="session")
def bandai_archive(shared_dir: Path) -> Path:
    """The Bandai-Namco development archive."""
    path = shared_dir / "data" / "bandai_bvh_dev.tar.xz"
    if not path.is_file():
        pytest.skip(f"needs the Bandai-Namco archive, absent at {path}")
    return path


def _pose(num_frames: int, turns: dict[str, tuple[str, np.ndarray]], root: np.ndarray) -> np.ndarray:
    """Joints (T, 22, 3) of the data set's own body with some joints turned about one axis each."""
    names = HUMANML3D_22.joint_names
    local = np.zeros((num_frames, 22, 4))
    local[..., 0] = 1.0
    for joint, (axis, angle) in turns.items():
        local[:, names.index(joint)] = rotations.about_axis(axis, np.broadcast_to(angle, num_frames))
    offsets = HUMANML3D_22.rest_offsets
    return forward_kinematics(local, root, offsets, HUMANML3D_22.parents)


def make_walker(
    num_frames: int = 60, *, speed: float = 1.1, turn: float = 0.0, fps: float = 20.0, text: str | None = None
) -> Motion:
    """Create a procedural walk: legs and arms swing alternately, and the path can bend.

    Args:
        num_frames: Frames.
        speed: Meters per second.
        turn: Radians per second, to the left if positive.
        fps: Frames per second.
        text: Caption.
    """
    time = np.arange(num_frames) / fps
    phase = 2 * np.pi * 0.9 * time
    heading = turn * time
    steps = np.stack([np.sin(heading), np.zeros_like(time), np.cos(heading)], axis=-1) * (speed / fps)
    root = np.cumsum(steps, axis=0) - steps[:1]
    root[:, 1] = 0.93 + 0.02 * np.cos(2 * phase)
    turns: dict[str, tuple[str, np.ndarray]] = {"pelvis": ("y", heading)}
    swing_size = speed / (2 * np.pi * 0.9 * 0.83)  # the standing foot moves back as fast as the body moves forward
    for side, sign in (("left", 1.0), ("right", -1.0)):
        swing = sign * np.sin(phase)
        turns[f"{side}_hip"] = ("x", -swing_size * swing)
        turns[f"{side}_knee"] = ("x", 0.9 * np.maximum(0.0, sign * np.cos(phase)))
        turns[f"{side}_shoulder"] = ("x", 0.4 * swing)
    return Motion(joints=_pose(num_frames, turns, root), fps=fps, text=text)


def make_waver(num_frames: int = 60, *, side: str = "right", fps: float = 20.0, text: str | None = None) -> Motion:
    """Create a procedural wave: one arm is raised sideways and its forearm swings; for arguments see `make_walker`."""
    time = np.arange(num_frames) / fps
    sign = 1.0 if side == "left" else -1.0
    raised = np.minimum(time / 0.6, 1.0)
    turns = {
        f"{side}_shoulder": ("z", sign * 2.2 * raised),
        f"{side}_elbow": ("z", sign * raised * (0.5 + 0.5 * np.sin(2 * np.pi * 1.5 * time))),
    }
    root = np.tile([0.0, 0.93, 0.0], (num_frames, 1))
    return Motion(joints=_pose(num_frames, turns, root), fps=fps, text=text)


def make_row(
    name: str, motion: Motion, captions: list[str], *, content: str = "", style: str = "", mirrored: bool = False
) -> dict[str, Any]:
    """Return a motion as a row of a data set, with the columns of `motion_features`."""
    return {
        "id": name,
        "motion": motion.features,
        "captions": [{"text": text, "start": 0.0, "end": 0.0} for text in captions],
        "source": "procedural",
        "fps": motion.fps,
        "num_frames": len(motion.features),
        "content": content,
        "style": style,
        "mirrored": mirrored,
    }


@pytest.fixture(scope="session")
def procedural() -> SimpleNamespace:
    """Functions that create procedural motions and rows of data sets: `procedural.walker(…)`, `waver`, `row`."""
    return SimpleNamespace(walker=make_walker, waver=make_waver, row=make_row)


@pytest.fixture(scope="session")
def walker(procedural: SimpleNamespace) -> Motion:
    """Three seconds of walking straight ahead."""
    make: Callable[..., Motion] = procedural.walker
    return make(text="a person walks forward")


@pytest.fixture(scope="session")
def waver(procedural: SimpleNamespace) -> Motion:
    """Three seconds of waving with the right hand."""
    make: Callable[..., Motion] = procedural.waver
    return make(text="a person waves with the right hand")


# Joints of a 22-joint body that represent KIT-ML's; its foot lies between ankle and toe.
_KIT_JOINTS = (0, 3, 6, 9, 15, 17, 19, 21, 16, 18, 20, 2, 5, 8, 11, 11, 1, 4, 7, 10, 10)


def kit_features(joints: np.ndarray) -> np.ndarray:
    """Compute KIT-ML's 251 features of joints (T, 22, 3) of another body, in millimeters."""
    picked = joints[:, _KIT_JOINTS]
    for foot, ankle in ((14, 13), (19, 18)):
        picked[:, foot] = (picked[:, foot] + picked[:, ankle]) / 2
    return joints_to_features(picked, KIT_21, retarget=False)


def write_field_folder(
    root: Path, clips: dict[str, np.ndarray], texts: dict[str, str], splits: dict[str, list[str]]
) -> Path:
    """Write a folder in the layout of HumanML3D and KIT-ML.

    Args:
        root: The folder to create.
        clips: Features (T, 263 or 251) by name.
        texts: The lines of `texts/<name>.txt`.
        splits: Names by split file, such as `train`.
    """
    for folder in ("new_joint_vecs", "new_joints", "texts"):
        (root / folder).mkdir(parents=True)
    for name, features in clips.items():
        np.save(root / "new_joint_vecs" / f"{name}.npy", features)
        skeleton = skeleton_for_feature_dim(features.shape[1])
        np.save(root / "new_joints" / f"{name}.npy", features_to_joints(features, skeleton) / skeleton.unit)
    for name, lines in texts.items():
        (root / "texts" / f"{name}.txt").write_text(lines, encoding="utf-8")
    listed = {**splits, "all": [name for names in splits.values() for name in names]}
    for split, names in listed.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    frames = FeatureStatistics()
    for name in splits["train"]:
        frames.add(clips[name])
    for file, values in zip(("Mean.npy", "Std.npy"), frames.mean_and_std(), strict=True):
        np.save(root / file, np.where(values == 0.0, 1.0, values) if file == "Std.npy" else values)
    return root


def _make_field_set(root: Path, name: str, num_train: int = 6) -> Path:
    clips, texts = {}, {}
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number in range(num_train + 4):
        split = "train" if number < num_train else "val" if number < num_train + 2 else "test"
        turn = 0.2 * (number - 2)
        motion = make_walker(70 + number, speed=0.8 + 0.05 * number, turn=turn)
        if number % 2:
            motion = make_waver(70 + number, side="left")
        says = ("walks", "VERB") if number % 2 == 0 else ("waves the left hand", "VERB")
        for prefix, made in (("", motion), ("M", motion.mirror())):
            clip = f"{prefix}{number:06d}"
            clips[clip] = made.features if name == "humanml3d" else kit_features(np.array(made.joints))
            words = says[0] if not prefix else says[0].replace("left", "right")
            texts[clip] = f"a person {words}#a/DET person/NOUN {words}/{says[1]}#0.0#0.0\nsomeone {words}#x#nan#nan\n"
            splits[split].append(clip)
    return write_field_folder(root, clips, texts, splits)


@pytest.fixture(scope="session")
def field_sets() -> SimpleNamespace:
    """Writes folders in the layout of HumanML3D and KIT-ML.

    `make(root, name)` writes ten procedural clips of 70 to 80 frames and their mirror images, six pairs of them for
    training; `write(root, clips, texts, splits)` writes the given clips, with the statistics of the training split.
    """
    return SimpleNamespace(make=_make_field_set, write=write_field_folder, kit_features=kit_features)


@pytest.fixture(scope="session")
def save_as_rig() -> Callable[[Motion, Path, str], None]:
    """Writes a motion as a BVH file with the joint names of another rig: lafan1, 3ds max, xsens, rokoko or daz."""

    def save(motion: Motion, path: Path, rig: str) -> None:
        pattern, (left, right) = _RIGS[rig]
        of_part = dict(zip(_TRUNK + _LIMBS, pattern.split(), strict=True))
        names = {}
        for ours, joint in zip(LAMP_HF_JOINT_NAMES, HUMANML3D_22.joint_names, strict=True):
            side, _, part = joint.rpartition("_")
            names[ours] = of_part[part].format(left if side == "left" else right)
        motion.save(path)
        text = re.sub(r"(?m)^(\s*(?:ROOT|JOINT) )(\w+)", lambda found: found[1] + names[found[2]], path.read_text())
        path.write_text(text)

    return save


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random text-to-motion checkpoint: 64 codes, ten tokens (40 frames) in one piece, 16 word pieces."""
    import torch
    from transformers import BertTokenizer

    import lamp_hf

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words += ["person", "the", "walks", "waves", "bows", "[DEC]"]
    tokenizer = BertTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        do_lower_case=True,
        model_max_length=16,
        additional_special_tokens=["[DEC]"],
    )
    config = lamp_hf.LampTextToMotionConfig(
        lamp_config={
            "motion_vqvae_config": {"hidden_size": 16, "code_dim": 8, "num_codes": 64, "num_residual_layers": 1},
            "vocab_size": len(words),
            "bos_token_id": len(words) - 1,
            "eos_token_id": 3,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_query_tokens": 4,
            "motion_hidden_size": 12,
            "projection_dim": 8,
            "max_text_length": 16,
            "max_position_embeddings": 32,
        },
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        attention_bias="none",
        max_motion_tokens=10,
        length_hidden_sizes=[8],
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    model = lamp_hf.LampForTextToMotion(config)
    with torch.no_grad():  # with random weights, the text has little effect
        model.text_to_condition.weight.mul_(100)
        model.masked_transformer.condition_projection.weight.mul_(100)
    model.lamp.motion_vqvae.quantizer.initialized.fill_(True)  # otherwise training would replace its codes
    model.save_pretrained(path)
    lamp_hf.LampProcessor(lamp_hf.LampFeatureExtractor(std=[0.1] * 263), tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_language_model(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model with random weights and the tokenizer of the tiny checkpoint."""
    import torch
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        word_embed_proj_dim=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        max_position_embeddings=20,
        dropout=0.0,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
        init_std=0.2,
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoints") / "language-model"
    OPTForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_captioner(tiny_checkpoint: Path, tiny_language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner with random weights that refers to the tiny checkpoint as its LaMP and to the tiny language model."""
    import torch
    from transformers import AutoTokenizer

    import lamp_hf

    torch.manual_seed(1)
    model = lamp_hf.LampWithLanguageModelForMotionCaptioning.from_parts(
        str(tiny_checkpoint), str(tiny_language_model), lora_rank=2, max_text_length=16
    )
    with torch.no_grad():  # a new adapter changes nothing
        for name, tensor in model.named_parameters():
            if ".lora_B." in name:
                tensor.normal_(std=0.5)
        model.projection.weight.mul_(3)
    path = tmp_path_factory.mktemp("checkpoints") / "captioner"
    model.save_pretrained(path)
    processor = lamp_hf.LampProcessor.from_pretrained(tiny_checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(tiny_language_model)
    lamp_hf.LampProcessor(processor.feature_extractor, tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def random_tensors() -> Callable[..., dict[str, Any]]:
    """Builds the tensors of an original checkpoint for a configuration, with random numbers."""

    def build(config: Any, seed: int = 0) -> dict[str, Any]:
        import torch

        from lamp_hf.conversion.layout import layout_of

        generator = torch.Generator().manual_seed(seed)
        tensors = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in layout_of(config).items()}
        if "temp" in tensors:
            tensors["temp"] = torch.tensor(2.6593)
        ties = {
            "Qformer.cls.predictions.decoder.weight": "Qformer.bert.embeddings.word_embeddings.weight",
            "opt_model.lm_head.weight": "opt_model.model.decoder.embed_tokens.weight",
        }
        for name, same in ties.items():
            if name in tensors:
                tensors[name] = tensors[same]
        return tensors

    return build


@pytest.fixture(scope="session")
def small_original_lamp() -> Callable[..., Any]:
    """Configuration of a small LaMP with the layers of the authors' model."""

    def make(*, motion_dim: int, vocab_size: int, hidden_size: int = 64) -> Any:
        from lamp_hf.modeling.configuration_lamp import LampConfig, MotionVQVAEConfig

        return LampConfig(
            motion_vqvae_config=MotionVQVAEConfig(motion_dim=motion_dim, hidden_size=16, code_dim=8, num_codes=24),
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=1,
            intermediate_size=32,
            max_position_embeddings=64,
            num_query_tokens=5,
            motion_hidden_size=20,
            projection_dim=12,
            separate_motion_encoder=True,
        )

    return make


@pytest.fixture(scope="session")
def original_text_to_motion(
    random_tensors, small_original_lamp, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """Small text-to-motion files with random numbers in the authors' layout.

    `folder` has the motion tokenizer, LaMP and the masked transformer; `text_tokenizer` has the matching `vocab.txt`.
    """
    import torch

    from lamp_hf.modeling.configuration_lamp import LampTextToMotionConfig

    root = tmp_path_factory.mktemp("original-text-to-motion")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "person", "walks", "forward"]
    (root / "bert").mkdir()
    (root / "bert" / "vocab.txt").write_text("\n".join(words) + "\n")
    lamp = small_original_lamp(motion_dim=263, vocab_size=len(words) + 1)  # and [DEC]
    files = {
        "vq/model/vq.tar": ("net", lamp.motion_vqvae_config),
        "qformer/model/qformer.tar": ("motion_qformer", lamp),
        "mtrans/model/t2m.tar": (
            "t2m_transformer",
            LampTextToMotionConfig(
                lamp_config=lamp,
                hidden_size=64,
                num_hidden_layers=1,
                train_token_embeddings=True,
                length_hidden_sizes=None,
            ),
        ),
    }
    for seed, (name, (key, config)) in enumerate(files.items()):
        path = root / "t2m" / name
        path.parent.mkdir(parents=True)
        torch.save({key: random_tensors(config, seed), "ep": 3, "total_it": 10}, path)
    meta = root / "t2m" / "vq" / "meta"
    meta.mkdir()
    np.save(meta / "mean.npy", np.zeros(263, dtype=np.float32))
    np.save(meta / "std.npy", np.full(263, 0.1, dtype=np.float32))
    return SimpleNamespace(folder=root / "t2m", text_tokenizer=str(root / "bert"))


@pytest.fixture(scope="session")
def tiny_base(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with known texts, which fine-tuning needs for rehearsal."""
    import shutil

    import lamp_hf

    folder = tmp_path_factory.mktemp("base") / "base"
    shutil.copytree(tiny_checkpoint, folder)
    processor = lamp_hf.LampProcessor.from_pretrained(folder)
    processor.example_texts = ["the person bows", "a person bows low", "bow"]
    processor.save_pretrained(folder)
    return folder

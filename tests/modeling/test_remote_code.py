"""Code in a checkpoint is never run, and users are not asked to run it."""

import builtins
import json
import shutil
from pathlib import Path

import pytest
import transformers

import lamp_hf
from lamp_hf.cli import main

CODE = """
from pathlib import Path
Path({ran!r}).touch()
from transformers import PreTrainedConfig
class Config(PreTrainedConfig):
    model_type = {kind!r}
"""


@pytest.fixture(params=["lamp_text_to_motion", "strange"])
def with_code(request, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A checkpoint with code, of a known or unknown kind; afterwards the code must not have run."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    ran = tmp_path / "ran"
    (folder / "code.py").write_text(CODE.format(ran=str(ran), kind=request.param))
    auto = dict.fromkeys(("AutoConfig", "AutoModel", "AutoProcessor", "AutoTokenizer"), "code.Config")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        path = folder / name
        values = json.loads(path.read_text()) | {"auto_map": auto}
        path.write_text(json.dumps(values | ({"model_type": request.param} if name == "config.json" else {})))
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("asked whether to run code"))
    yield folder
    assert not ran.exists()


LOADERS = {
    "model": lamp_hf.LampForTextToMotion.from_pretrained,
    "part": lamp_hf.LampModel.from_pretrained,
    "processor": lamp_hf.LampProcessor.from_pretrained,
    "captioner": lamp_hf.modeling.AutoModelForMotionCaptioning.from_pretrained,
    "pipeline": lambda name: transformers.pipeline("text-to-motion", model=name),
    "captioning": lambda name: transformers.pipeline("motion-captioning", model=name),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS.keys())
def test_remote_code_is_not_run(with_code: Path, load) -> None:
    known = json.loads((with_code / "config.json").read_text())["model_type"] == "lamp_text_to_motion"
    try:
        assert load(str(with_code)) is not None
    except Exception:
        if known:  # the code is not needed
            raise


@pytest.mark.parametrize("arguments", [("generate", "a person walks", "-d", "1", "-o", "x.npz", "-m"), ("info",)])
def test_commands_do_not_run_remote_code(with_code: Path, arguments, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(with_code)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, str(with_code)])
    assert ended.value.code in (0, 1)
    assert "Traceback" not in capsys.readouterr().err

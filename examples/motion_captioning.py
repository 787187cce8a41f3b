"""Say what happens in motion files, and keep it as the captions of a folder.

    python examples/motion_captioning.py my_mocap/

Writes `my_mocap/metadata.jsonl`, the table that training and search read. A person should look through it before
anything is trained on it.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)
from lamp_hf.motion.files import READERS


def main(folder: Annotated[str, typer.Argument(help="Folder of BVH, NPZ and NPY files.")]) -> None:
    """Caption every file of a folder, and write the captions beside them."""
    table = Path(folder) / "metadata.jsonl"
    if table.exists():
        raise FileExistsError(f"{table} exists; move it away first")
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in READERS)
    if not files:
        raise FileNotFoundError(f"{folder}: expected a folder with motion files ({' '.join(READERS)})")
    describe = pipeline("motion-captioning")
    lines = []
    for file, answers in zip(files, describe(files, num_beams=4), strict=True):
        for answer in answers:
            times = {name: answer[name] for name in ("start", "end") if name in answer}  # of long motions' parts
            lines.append({"file_name": file.relative_to(folder).as_posix(), "text": answer["caption"], **times})
            print(f"{answer['score']:.2f}  {file}  {answer['caption']}")
    table.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    run(main)

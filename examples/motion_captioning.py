"""Caption the motion files of a folder.

    python examples/motion_captioning.py my_mocap/

The script writes `my_mocap/metadata.jsonl`, the table of captions that training and search read. Check the captions
before you train on them.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the pipeline)
from lamp_hf.motion.files import READERS


def main(folder: Annotated[str, typer.Argument(help="Folder of motion files.")]) -> None:
    """Caption every motion file of a folder, and write the captions next to them."""
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
            times = {
                name: answer[name] for name in ("start", "end") if name in answer
            }  # only for parts of long motions
            lines.append({"file_name": file.relative_to(folder).as_posix(), "text": answer["caption"], **times})
            print(f"{answer['score']:.2f}  {file}  {answer['caption']}")
    table.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    run(main)

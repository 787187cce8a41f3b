"""Teach a text-to-motion model the motions of a folder, and look at what it has learnt.

    python examples/fine_tuning.py my_mocap/ my-model/

The folder holds motion files and `metadata.jsonl`, one line a file:
`{"file_name": "take_012.bvh", "text": "a person climbs a ladder", "content": "climb"}`.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

from lamp_hf.data import load_motion_dataset
from lamp_hf.training import fine_tune

FEW = 24  # motions


def main(
    data: Annotated[Path, typer.Argument(help="Folder of motions with metadata.jsonl.")],
    output: Annotated[Path, typer.Argument(help="Folder for the model.")],
    base: Annotated[str, typer.Option(help="What to start from: a name, a folder or a Hub id.")] = "lamp-small",
    lora: Annotated[bool, typer.Option("--lora", help="Train an adapter in place of the whole transformer.")] = False,
    change: Annotated[
        list[str] | None, typer.Option(help="A value of the recipe, as trainer.max_steps=200; may be repeated.")
    ] = None,
) -> None:
    """Fine-tune, print what was measured, and write a motion for every label."""
    clips = load_motion_dataset(data)["train"]
    if len(clips) < FEW:
        print(f"{len(clips)} motions are enough to try out how it goes; to learn from them takes some dozens")
    # Cut off, it goes on where it stopped when it is started again with the same arguments.
    done = fine_tune(data, output, base=base, lora=lora, overrides=change or ())

    for part, what in done.stages.items():
        print(f"{part}: {what}")
    for measure, scores in done.scores.items():
        print(f"{measure}: {', '.join(f'{name} {value:.3f}' for name, value in scores.items())}")
    print(f"minutes: {', '.join(f'{part} {minutes:.1f}' for part, minutes in done.minutes.items())}")

    pipe = pipeline("text-to-motion", model=str(output))
    texts = {row["content"]: row["captions"][0]["text"] for row in clips}
    for label, text in texts.items():
        path = output / "samples" / f"{label or 'sample'}.html"
        path.parent.mkdir(exist_ok=True)
        pipe(text, seed=1)["motion"].save(path)
        print(f"{path}: {text}")


if __name__ == "__main__":
    run(main)

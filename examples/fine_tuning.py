"""Fine-tune a text-to-motion model on a folder of motions, and generate samples with it.

    python examples/fine_tuning.py my_mocap/ my-model/

The folder contains motion files and `metadata.jsonl`, with one line per file:
`{"file_name": "take_012.bvh", "text": "a person climbs a ladder", "content": "climb"}`.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

from lamp_hf.data import load_motion_dataset
from lamp_hf.training import fine_tune

FEW = 24  # below this number of motions, print a hint


def main(
    data: Annotated[Path, typer.Argument(help="Folder of motions with metadata.jsonl.")],
    output: Annotated[Path, typer.Argument(help="Output folder for the model.")],
    base: Annotated[str, typer.Option(help="Checkpoint to start from: a name, a folder or a Hub id.")] = "lamp-small",
    lora: Annotated[
        bool, typer.Option("--lora", help="Train a LoRA adapter instead of the whole transformer.")
    ] = False,
    change: Annotated[
        list[str] | None, typer.Option(help="Recipe value to override, such as trainer.max_steps=200; can be repeated.")
    ] = None,
) -> None:
    """Fine-tune the model, print its scores, and write a motion for every label."""
    clips = load_motion_dataset(data)["train"]
    if len(clips) < FEW:
        print(f"{len(clips)} motions are enough for a try; to learn a new action, use a few dozen")
    # To resume an interrupted run, start the script again with the same arguments.
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

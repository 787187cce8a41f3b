"""Convert released LaMP checkpoints to a folder that `from_pretrained` and the pipelines load.

    python examples/conversion.py checkpoints/t2m lamp-humanml3d --license LICENSE

`lamp-hf convert` does the same on the command line, with options for files in other places.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the pipelines)
from lamp_hf.conversion import convert


def main(
    original: Annotated[Path, typer.Argument(help="Released checkpoint file, or a folder of them.")],
    output: Annotated[Path, typer.Argument(help="Output folder.")],
    license: Annotated[str | None, typer.Option(help="License of the weights, which the files do not name.")] = None,
    text_tokenizer: Annotated[
        str, typer.Option(help="BERT tokenizer: a folder or a Hub id.")
    ] = "google-bert/bert-base-uncased",
) -> None:
    """Convert checkpoints, print their settings, and generate a first motion."""
    conversion = convert(original, output, license=license, text_tokenizer=text_tokenizer)
    for model in conversion.models:
        print(f"{model.kind} in {model.folder}: {model.parameters:,} parameters, from {len(model.sources)} files")
        # Some settings cannot be read from the files. Check the values that were assumed.
        for name, (value, source) in model.settings.items():
            print(f"  {name} = {value} ({source})")
    for path in conversion.left_out:
        print(f"not used: {path}")

    if conversion.models[0].kind == "text-to-motion":
        pipe = pipeline("text-to-motion", model=str(output))
        # The length estimator of the released code is a separate model, so pass a duration.
        motion = pipe("a person walks forward", duration=4.0, seed=1)["motion"]
        # Save it next to the folder, which should contain only the checkpoint.
        player = output.with_name(f"{output.name}-walk.html")
        motion.save(player)
        print(f"saved a first motion: {player}")


if __name__ == "__main__":
    run(main)

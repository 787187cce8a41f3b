"""The authors' released checkpoints as a folder that `from_pretrained` and the pipelines load.

    python examples/conversion.py checkpoints/t2m lamp-humanml3d --license LICENSE

`lamp-hf convert` does the same without a line of Python, and has options for what does not lie where it is expected.
"""

from pathlib import Path
from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipelines known)
from lamp_hf.conversion import convert


def main(
    original: Annotated[Path, typer.Argument(help="A checkpoint file of theirs, or a folder of them.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    license: Annotated[str | None, typer.Option(help="Of the weights: the authors know it, the files do not.")] = None,
    text_tokenizer: Annotated[
        str, typer.Option(help="BERT's word pieces, a folder or a Hub id.")
    ] = "google-bert/bert-base-uncased",
) -> None:
    """Convert, say what was found in the files, and try out the result."""
    conversion = convert(original, output, license=license, text_tokenizer=text_tokenizer)
    for model in conversion.models:
        print(f"{model.kind} in {model.folder}: {model.parameters:,} numbers, of {len(model.sources)} files")
        # Tensors have shapes, and shapes do not tell everything. What was assumed is worth a look.
        for name, (value, source) in model.settings.items():
            print(f"  {name} = {value} ({source})")
    for path in conversion.left_out:
        print(f"left out: {path} is of no kind that is known")

    if conversion.models[0].kind == "text-to-motion":
        pipe = pipeline("text-to-motion", model=str(output))
        # The released code keeps its length estimator apart, so that the model must be told how long.
        motion = pipe("a person walks forward", duration=4.0, seed=1)["motion"]
        # Beside the folder: in it lies what the conversion wrote, and nothing else.
        player = output.with_name(f"{output.name}-walk.html")
        motion.save(player)
        print(f"a first motion: {player}")


if __name__ == "__main__":
    run(main)

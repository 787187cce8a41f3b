"""`lamp-hf convert`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lamp_hf.conversion.converter import Conversion

__all__ = ["convert"]


def convert(
    original: Annotated[
        Path, typer.Argument(help="Checkpoint released by the LaMP authors (.tar .pt .pth), or a folder of them.")
    ],
    output: Annotated[Path, typer.Argument(help="Output folder.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            help="Convert only one model: motion-vqvae, lamp, text-to-motion, captioning, evaluator or "
            "length-estimator.",
        ),
    ] = None,
    lamp: Annotated[
        Path | None,
        typer.Option(
            "--lamp",
            help="LaMP checkpoint for a text-to-motion model or a captioner, if it is elsewhere or there are several.",
        ),
    ] = None,
    motion_vqvae: Annotated[
        Path | None,
        typer.Option(
            "--motion-vqvae", help="Motion tokenizer for these models, if it is elsewhere or there are several."
        ),
    ] = None,
    mean: Annotated[
        Path | None,
        typer.Option(
            "--mean", help="Mean of the motion features (.npy). Defaults to meta/mean.npy next to the checkpoints."
        ),
    ] = None,
    std: Annotated[
        Path | None,
        typer.Option(
            "--std",
            help="Standard deviation of the motion features (.npy). Defaults to meta/std.npy next to the checkpoints.",
        ),
    ] = None,
    glove: Annotated[
        Path | None,
        typer.Option(
            "--glove",
            help="GloVe vectors of an evaluator: the folder with our_vab_data.npy, our_vab_words.pkl and "
            "our_vab_idx.pkl, or a text file of GloVe. Defaults to a folder glove in or around the originals.",
        ),
    ] = None,
    text_tokenizer: Annotated[
        str, typer.Option("--text-tokenizer", help="Folder or Hub id of the BERT tokenizer.")
    ] = "google-bert/bert-base-uncased",
    language_model_tokenizer: Annotated[
        str | None,
        typer.Option(
            "--language-model-tokenizer",
            help="Folder or Hub id of a captioner's tokenizer. Defaults to facebook/opt-2.7b for a model of that size.",
        ),
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", help="License of the weights, for the model card. Defaults to other.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=NUMBER: a value that cannot be read from the tensors, such as lamp.num_attention_heads=12.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier conversion in the output folder.")
    ] = False,
) -> None:
    """Convert checkpoints released by the LaMP authors to the format of lamp_hf.

    `lamp-hf convert checkpoints/t2m lamp-humanml3d`

    `lamp-hf convert t2m.tar lamp-kit --lamp kit-qformer.tar --motion-vqvae vq.tar --mean mean.npy --std std.npy`
    """
    given = _settings(settings or [])

    import transformers
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from lamp_hf.conversion.converter import convert as run

    transformers.logging.disable_progress_bar()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Looking for checkpoints", total=None)

        def on_step(what: str, done: int, total: int) -> None:
            progress.update(task, description=f"{what} ({done + 1} of {total})", completed=done, total=total)

        conversion = run(
            original,
            output,
            kind=kind,
            lamp=lamp,
            motion_vqvae=motion_vqvae,
            mean=mean,
            std=std,
            glove=glove,
            text_tokenizer=text_tokenizer,
            language_model_tokenizer=language_model_tokenizer,
            license=license,
            settings=given,
            overwrite=overwrite,
            on_step=on_step,
        )
    _print(Console(highlight=False, soft_wrap=True), conversion)


def _settings(texts: list[str]) -> dict[str, int]:
    settings = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not value.isdigit():
            raise typer.BadParameter(f"--set expects NAME=NUMBER, such as lamp.num_attention_heads=12, got {text!r}")
        settings[name] = int(value)
    return settings


def _print(console: "Console", conversion: "Conversion") -> None:
    from rich.table import Table

    table = Table(title=f"{conversion.output}", title_justify="left")
    table.add_column("kind", no_wrap=True)
    table.add_column("folder", no_wrap=True)
    table.add_column("from", overflow="fold")
    for title in ("parameters", "tensors used", "tensors skipped"):
        table.add_column(title, justify="right")
    for model in conversion.models:
        table.add_row(
            model.kind,
            os.path.relpath(model.folder, conversion.output),
            "\n".join(file.path.name for file in model.sources),
            f"{model.parameters:,}",
            f"{model.tensors_used:,}",
            f"{model.tensors_unused:,}",
        )
    console.print(table)
    for model in conversion.models:
        notes = [f"{name}={value} ({source})" for name, (value, source) in model.settings.items()]
        if model.statistics is not None:
            notes.append(f"statistics from {model.statistics[0]} and {model.statistics[1].name}")
        if model.glove:
            notes.append(f"GloVe vectors from {model.glove[0]}")
        if notes:
            console.print(f"{model.kind}: {', '.join(notes)}", markup=False)

"""`lamp-hf train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT
from lamp_hf.terminal import quiet_readers

if TYPE_CHECKING:
    from lamp_hf.training.fine_tuning import FineTuning

__all__ = ["train"]

# Data sets with packaged recipes; importing `lamp_hf.training` takes too long for a help text.
DATA_SETS = sorted(path.name for path in (Path(__file__).parents[1] / "training" / "recipes").iterdir())


def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="Stage to train: motion-vqvae, lamp, text-to-motion, language-model, captioning or evaluator."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the run. Repeat the command to resume an interrupted run."),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Recipe: a YAML file, or the name of a built-in one, such as humanml3d/lamp (data sets: "
            f"{', '.join(DATA_SETS)}). Without a recipe, the command fine-tunes a text-to-motion model.",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe values to override, such as trainer.max_steps=100.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Path of the data set or of your own motions.")] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help=f"Checkpoint to start from. Defaults to {DEFAULT_CHECKPOINT} for fine-tuning."),
    ] = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Fine-tuning: train a LoRA adapter instead of the whole masked transformer.")
    ] = False,
    push_to: Annotated[
        str | None,
        typer.Option("--push-to", help="Fine-tuning: Hub id (owner/name) to publish the result under."),
    ] = None,
    license: Annotated[
        str | None, typer.Option("--license", help="Fine-tuning: license of the result. Defaults to that of the base.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push-to: make the repository private.")] = False,
) -> None:
    """Train a model with a recipe, or fine-tune a text-to-motion model on your own motions.

    `lamp-hf train text-to-motion --data my_mocap/ --base lamp-small --output my-model`

    `lamp-hf train motion-vqvae -c humanml3d/motion-vqvae -o runs/motion-vqvae --data HumanML3D trainer.max_steps=2000`

    To use several GPUs, start with `accelerate launch -m lamp_hf train`; for several CPU processes, with
    `torchrun -m lamp_hf train`.
    """
    changes = list(overrides or [])
    if config is None:
        if stage != "text-to-motion" or data is None:
            raise typer.BadParameter(
                "choose a recipe with --config; to fine-tune, use the stage text-to-motion with --data"
            )
        from lamp_hf.training.fine_tuning import fine_tune

        quiet_readers()

        report = fine_tune(
            data,
            output,
            base=base or DEFAULT_CHECKPOINT,
            lora=lora,
            overrides=changes,
            push_to=push_to,
            private=private,
            license=license,
        )
        _print_report(report, output)
        return
    if lora or push_to or license or private:
        raise typer.BadParameter(
            "--lora, --push-to, --license and --private only apply to fine-tuning without --config; publish a run with "
            "`lamp-hf push`, and set LoRA in the recipe with the key lora"
        )
    quiet_readers()
    from lamp_hf.checkpoints.embedded import resolve_checkpoint
    from lamp_hf.training.recipe import load_recipe

    recipe = load_recipe(config, changes)
    if recipe.stage != stage:
        raise ValueError(f"{config} is a recipe for the stage {recipe.stage}, not {stage}")
    if data is not None:
        # A recipe names a known data set and takes its path; any other data set is named by its path.
        recipe.data["path" if "path" in recipe.data else "name"] = str(data)
    if base is not None:
        recipe.base = resolve_checkpoint(base)

    from lamp_hf.training.run import train as run

    print(f"finished: {run(recipe, output)}")


def _print_report(report: "FineTuning", output: Path) -> None:
    """Print what each stage did, and the scores before and after. Only the main process prints."""
    if not report.finished:
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for part, what in report.stages.items():
        console.print(f"{part}: {what}")
    table = Table(title="On held-out clips", title_justify="left")
    for column in ("", "base", "fine-tuned", "real clips"):
        table.add_column(column, justify="left" if not column else "right")
    for measure, values in report.scores.items():
        cells = [f"{values[name]:.3f}" if name in values else "" for name in ("before", "after", "real")]
        table.add_row(measure, *cells)
    console.print(table)
    console.print(f"finished in {sum(report.minutes.values()):.1f} minutes: {output}. Try it:")
    console.print(f'  lamp-hf generate "…" -m {output} -o motion.bvh')

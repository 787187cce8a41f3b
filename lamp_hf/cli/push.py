"""`lamp-hf push`."""

from typing import Annotated

import typer

__all__ = ["push"]


def push(
    folder: Annotated[
        str,
        typer.Argument(
            help="Folder of a finished run, checkpoint, motion index or data set, or the name of a metric of lamp_hf."
        ),
    ],
    repo: Annotated[str, typer.Argument(help="Hub id: owner/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    license: Annotated[
        str | None,
        typer.Option(
            "--license",
            help="License id of the Hub, such as cc-by-nc-4.0. Defaults to that of the base models, else other.",
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            help="Sentence to generate a motion from for the card; for a captioner, a motion file to caption.",
        ),
    ] = None,
    lamp: Annotated[str | None, typer.Option("--lamp", help="For a captioner: Hub id of its LaMP model.")] = None,
    language_model: Annotated[
        str | None, typer.Option("--language-model", help="For a captioner: Hub id of its language model.")
    ] = None,
    no_sample: Annotated[bool, typer.Option("--no-sample", help="Leave the sample out of the card.")] = False,
) -> None:
    """Publish a model, an index, a data set or a metric on the Hub. Log in first with `hf auth login`.

    `lamp-hf push runs/text-to-motion me/lamp-dance --license cc-by-4.0 --sample "a person dances"`

    `lamp-hf push my_mocap/ me/my-mocap --private`
    """
    if sample is not None and no_sample:
        raise typer.BadParameter("--sample and --no-sample cannot be used together")
    from lamp_hf.publishing.publish import publish

    named = {"lamp_name": lamp, "language_model_name": language_model}
    print(
        publish(
            folder,
            repo,
            private=private or None,
            license=license,
            sample="" if no_sample else sample,
            parts={key: name for key, name in named.items() if name},
        )
    )

"""Checks before fine-tuning begins."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import AutoConfig

from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.data import dataset_name
from lamp_hf.data.doctor import check_data
from lamp_hf.data.motionfolder import find_tables
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.terminal import counted
from lamp_hf.training.recipe import Recipe
from lamp_hf.training.stages.rehearsal import texts_to_rehearse

from .report import REPORT, FineTuning

__all__ = ["check_base", "check_clips", "check_fit", "check_output", "check_rehearsal", "check_source"]

logger = logging.getLogger(__name__)

SHOWN_FINDINGS = 5


def check_base(base: str) -> str:
    """Return the folder of a text-to-motion checkpoint.

    Raises:
        ValueError: The checkpoint contains another model.
    """
    checkpoint = resolve_checkpoint(base)
    model_type = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    if model_type != "lamp_text_to_motion":
        raise ValueError(f"{base} is a {model_type!r} model; fine-tuning starts from a text-to-motion model")
    return checkpoint


def check_source(data: str) -> dict[str, Any]:
    """Read the files of a data set and return the arguments with which [`load_motion_dataset`] loads it.

    Raises:
        ValueError: A file or a line of the table has an error.
    """
    path = Path(data)
    if path.exists() and (name := dataset_name(path)):
        return {"name": name, "path": data}
    if not path.is_dir() or not find_tables(path):
        return {"name": data}
    report = check_data(path)
    if report.errors:
        shown = "; ".join(str(finding) for finding in report.errors[:SHOWN_FINDINGS])
        more = len(report.errors) - SHOWN_FINDINGS
        raise ValueError(
            f"{data} has {counted(len(report.errors), 'error')}: {shown}{f'; and {more} more' if more > 0 else ''}. "
            f"`lamp-hf data check {data}` lists everything; correct the files or remove them from the table"
        )
    return {"name": data, "mirror": True}


def check_rehearsal(recipe: Recipe, checkpoint: str) -> None:
    """Check that the base can rehearse, if the recipe asks for it.

    Raises:
        ValueError: The base has no example texts or no length estimator.
    """
    if not recipe.rehearsal.get("num_motions"):
        return
    texts_to_rehearse(LampProcessor.from_pretrained(checkpoint))
    if AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).length_hidden_sizes is None:
        raise ValueError(
            "the base has no length estimator, so it cannot rehearse: set rehearsal.num_motions=0, and add clips of "
            "the actions that the model should keep"
        )


def check_output(output: Path, report: FineTuning, push_to: str | None) -> FineTuning:
    """Return the report of an unfinished run in the output folder, or the new report if the folder is empty.

    A finished run is also returned if only its upload is missing.

    Raises:
        FileExistsError: The folder contains something else, a finished model, or a run with other options.
    """
    if not output.exists() or (output.is_dir() and all(path.name == ".lock" for path in output.iterdir())):
        return report
    path = output / REPORT
    if not path.is_file():
        raise FileExistsError(f"{output} already contains other files: choose another folder for the model")
    found = FineTuning(**json.loads(path.read_text(encoding="utf-8")))
    same = found.asked == report.asked
    if found.finished and not (same and push_to):
        raise FileExistsError(
            f"{output} already contains a finished model: choose another folder, or publish the model with `lamp-hf "
            f"push {output} owner/name`"
        )
    if not same:
        raise FileExistsError(
            f"{output} contains an unfinished run with "
            f"{', '.join(f'{name}={each}' for name, each in found.asked.items())}: use the same options to resume it, "
            "or choose another folder"
        )
    if not found.finished:
        logger.warning("Resuming the unfinished run in %s", output)
    return found


def check_clips(dataset: DatasetDict, output: Path, report: FineTuning) -> FineTuning:
    """Return the report with the hash of the clips.

    Raises:
        FileExistsError: The report is from an unfinished run with other clips.
    """
    digest = hashlib.sha256()
    for split, rows in dataset.items():
        digest.update(json.dumps([split, rows["id"][:], rows["num_frames"][:], rows["captions"][:]]).encode())
    if report.clips and report.clips != digest.hexdigest() and not report.finished:
        raise FileExistsError(
            f"{output} contains an unfinished run, and {report.data} has changed since it began: choose another "
            "folder, or restore the earlier files and captions"
        )
    return replace(report, clips=report.clips or digest.hexdigest())


def check_fit(dataset: DatasetDict, checkpoint: str, data: str) -> None:
    """Check that the data set has the skeleton of the base.

    Raises:
        ValueError: The numbers of features per frame differ.
    """
    extractor = LampFeatureExtractor.from_pretrained(checkpoint)
    found = len(dataset["train"][0]["motion"][0])
    if found != extractor.feature_size:
        raise ValueError(
            f"{data} has motions of {found} features per frame, but the base reads {extractor.feature_size}: they have "
            "another skeleton; choose a base with the same skeleton"
        )

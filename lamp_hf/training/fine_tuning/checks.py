"""What is checked before fine-tuning begins."""

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
    checkpoint = resolve_checkpoint(base)
    model_type = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    if model_type != "lamp_text_to_motion":
        raise ValueError(f"{base} holds a {model_type!r} model; fine-tuning starts from a text-to-motion model")
    return checkpoint


def check_source(data: str) -> dict[str, Any]:
    """Arguments of [`load_motion_dataset`] for what lies at a path, after its files have been read."""
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
            f"`lamp-hf data check {data}` lists everything; correct the files or take them out of the table"
        )
    return {"name": data, "mirror": True}


def check_rehearsal(recipe: Recipe, checkpoint: str) -> None:
    if not recipe.rehearsal.get("num_motions"):
        return
    texts_to_rehearse(LampProcessor.from_pretrained(checkpoint))
    if AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).length_hidden_sizes is None:
        raise ValueError(
            "the base does not estimate how long motions are, so it cannot rehearse: train without rehearsal "
            "(rehearsal.num_motions=0), and add clips of what it should still do"
        )


def check_output(output: Path, report: FineTuning, push_to: str | None) -> FineTuning:
    """The report to go on with."""
    if not output.exists() or (output.is_dir() and all(path.name == ".lock" for path in output.iterdir())):
        return report
    path = output / REPORT
    if not path.is_file():
        raise FileExistsError(f"{output} holds something else already: choose another folder for the model")
    found = FineTuning(**json.loads(path.read_text(encoding="utf-8")))
    same = found.asked == report.asked
    if found.finished and not (same and push_to):
        raise FileExistsError(
            f"{output} holds a finished model already: choose another folder; `lamp-hf push {output} owner/name` "
            "publishes it"
        )
    if not same:
        raise FileExistsError(
            f"{output} holds an unfinished run with {', '.join(f'{name}={each}' for name, each in found.asked.items())}"
            ": give the same options to resume it, or choose another folder"
        )
    if not found.finished:
        logger.warning("Going on with the unfinished run in %s", output)
    return found


def check_clips(dataset: DatasetDict, output: Path, report: FineTuning) -> FineTuning:
    """The report with the clips that it is of; an earlier one must be of the same."""
    digest = hashlib.sha256()
    for split, rows in dataset.items():
        digest.update(json.dumps([split, rows["id"][:], rows["num_frames"][:], rows["captions"][:]]).encode())
    if report.clips and report.clips != digest.hexdigest() and not report.finished:
        raise FileExistsError(
            f"{output} holds an unfinished run, and {report.data} has changed since it began: choose another folder, "
            "or give the data back the files and captions that it had"
        )
    return replace(report, clips=report.clips or digest.hexdigest())


def check_fit(dataset: DatasetDict, checkpoint: str, data: str) -> None:
    extractor = LampFeatureExtractor.from_pretrained(checkpoint)
    found = len(dataset["train"][0]["motion"][0])
    if found != extractor.feature_size:
        raise ValueError(
            f"{data} has motions of {found} features per frame, the base reads {extractor.feature_size}: they have "
            "different skeletons, and need a base of their own"
        )

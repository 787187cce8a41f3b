"""Score generated motions with several metrics, next to real motions and mismatched texts.

    python examples/evaluation.py my_mocap/

The folder contains motion files and `metadata.jsonl`. `lamp-hf evaluate` runs the standard protocols, with repeats and
records; this script uses the metrics directly, which work with motions from any source.
"""

from typing import Annotated

import typer
from _command_line import run
from transformers import AutoModel, AutoProcessor, pipeline

import lamp_hf.metrics
from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.data import dataset_name, load_motion_dataset
from lamp_hf.evaluation.protocols.common import EvaluationSet


def main(
    data: Annotated[str, typer.Argument(help="Folder of motions with captions, clone of a data set, or Hub id.")],
    model: Annotated[str | None, typer.Option(help="Text-to-motion checkpoint. Defaults to lamp-small.")] = None,
    evaluator: Annotated[str, typer.Option(help="Checkpoint that embeds motions and texts.")] = "lamp-small-evaluator",
    limit: Annotated[int, typer.Option(min=4, help="Maximum number of clips, best a multiple of 32.")] = 64,
) -> None:
    """Generate a motion for the caption of every clip, and compare them with the clips."""
    known = dataset_name(data)
    splits = load_motion_dataset(known, path=data) if known else load_motion_dataset(data)
    # Training clips would flatter the model: use a held-out split if there is one.
    split = next(name for name in ("test", "validation", "train") if name in splits)
    # Keep one clip per caption, since a caption cannot identify one of several clips.
    rows = {captions[0]["text"]: row for row, captions in enumerate(splits[split]["captions"])}
    clips = EvaluationSet.from_dataset(splits[split].select(sorted(rows.values())), data, split, limit=limit)
    texts = clips.first_captions
    if len(clips) < 4:
        raise ValueError(f"{data} ({split}) has {len(clips)} different captions; expected at least 4, better dozens")
    mismatched = texts[1:] + texts[:1]

    pipe = pipeline("text-to-motion", model=model)
    frames = [len(motion.features) // pipe.frames_per_token * pipe.frames_per_token for motion in clips.motions]
    generated = [result["motion"] for result in pipe(texts, num_frames=frames, seed=list(range(len(clips))))]

    # Scores of different evaluators are not comparable: name the evaluator wherever you report them.
    checkpoint = resolve_checkpoint(evaluator)
    embedder = {
        "evaluator": AutoModel.from_pretrained(checkpoint),
        "processor": AutoProcessor.from_pretrained(checkpoint),
    }
    rows_of_table = {
        "real motions": (clips.motions, texts),
        "generated": (generated, texts),
        # A metric that scores this row like the one above ignores the texts.
        "generated, mismatched captions": (generated, mismatched),
    }
    print(f"{len(clips)} clips of {data} ({split}), evaluator {evaluator}")
    print(f"{'':31} R-Precision 1  MM-Dist    FID  foot skating")
    for name, (motions, captions) in rows_of_table.items():
        metrics = {each: lamp_hf.metrics.load(each, **embedder) for each in ("r_precision", "mm_dist", "motion_fid")}
        pairs = {"predictions": motions, "references": captions}
        r_precision = metrics["r_precision"].compute(**pairs, pool_size=min(32, len(clips)))["r_precision_1"]
        distance = metrics["mm_dist"].compute(**pairs)["mm_dist"]
        fid = metrics["motion_fid"].compute(predictions=motions, references=clips.motions)["fid"]
        skating = lamp_hf.metrics.load("foot_skating").compute(predictions=motions)["foot_skating"]
        print(f"{name:31} {r_precision:13.3f}  {distance:7.3f}  {fid:5.2f}  {skating:12.3f}")


if __name__ == "__main__":
    run(main)

"""How good generated motions are: several metrics, beside those of real motions and of texts that do not belong.

    python examples/evaluation.py my_mocap/

The folder holds motion files and `metadata.jsonl`. `lamp-hf evaluate` follows the field's protocols to the letter, with
repeats and records; here are the metrics themselves, for motions that come from anywhere.
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
    data: Annotated[str, typer.Argument(help="A folder of motions with captions, a clone of a data set, a Hub id.")],
    model: Annotated[str | None, typer.Option(help="A text-to-motion checkpoint; by default the embedded one.")] = None,
    evaluator: Annotated[str, typer.Option(help="Checkpoint whose features judge.")] = "lamp-small-evaluator",
    limit: Annotated[int, typer.Option(min=4, help="Clips; a multiple of 32 suits R-Precision.")] = 64,
) -> None:
    """Generate a motion for every clip's caption, and compare."""
    known = dataset_name(data)
    splits = load_motion_dataset(known, path=data) if known else load_motion_dataset(data)
    # What a model was trained on flatters it: take what was held out wherever there is something.
    split = next(name for name in ("test", "validation", "train") if name in splits)
    # One clip of each caption: nobody could tell from a caption which of several clips of it is meant.
    rows = {captions[0]["text"]: row for row, captions in enumerate(splits[split]["captions"])}
    clips = EvaluationSet.from_dataset(splits[split].select(sorted(rows.values())), data, split, limit=limit)
    texts = clips.first_captions
    if len(clips) < 4:
        raise ValueError(f"{data} ({split}) has {len(clips)} different captions; expected 4 or more, better dozens")
    elsewhere = texts[1:] + texts[:1]

    pipe = pipeline("text-to-motion", model=model)
    frames = [len(motion.features) // pipe.frames_per_token * pipe.frames_per_token for motion in clips.motions]
    generated = [result["motion"] for result in pipe(texts, num_frames=frames, seed=list(range(len(clips))))]

    # Numbers of two evaluators never compare: name the one that judged wherever you report them.
    judge = resolve_checkpoint(evaluator)
    judges = {"evaluator": AutoModel.from_pretrained(judge), "processor": AutoProcessor.from_pretrained(judge)}
    shown = {
        "real motions": (clips.motions, texts),
        "generated": (generated, texts),
        # A metric that does not tell this row from the one above does not hear the texts.
        "generated, captions of others": (generated, elsewhere),
    }
    print(f"{len(clips)} clips of {data} ({split}), judged by {evaluator}")
    print(f"{'':30} R-Precision 1  MM-Dist    FID  foot skating")
    for name, (motions, captions) in shown.items():
        metrics = {each: lamp_hf.metrics.load(each, **judges) for each in ("r_precision", "mm_dist", "motion_fid")}
        pairs = {"predictions": motions, "references": captions}
        r_precision = metrics["r_precision"].compute(**pairs, pool_size=min(32, len(clips)))["r_precision_1"]
        distance = metrics["mm_dist"].compute(**pairs)["mm_dist"]
        fid = metrics["motion_fid"].compute(predictions=motions, references=clips.motions)["fid"]
        skating = lamp_hf.metrics.load("foot_skating").compute(predictions=motions)["foot_skating"]
        print(f"{name:30} {r_precision:13.3f}  {distance:7.3f}  {fid:5.2f}  {skating:12.3f}")


if __name__ == "__main__":
    run(main)

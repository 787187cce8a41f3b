"""Evaluate a text-to-motion checkpoint on captions of the CMU database, next to real clips and retrieval.

python benchmarks/evaluate_lamp_cmu.py --data ARCHIVE --output FOLDER [--model CHECKPOINT] [--evaluator CHECKPOINT]

Generates motions for the validation captions, for training captions, and for other wordings of the same segments.
Prints top-1 and top-3 action accuracy by two probes, the standard metrics by the evaluator, errors of side, turn and
count, foot skating and jitter, with 95% intervals. Each column of the tables is saved in the folder as a JSON file.
Repeat the command to resume after an interruption; it reuses files that were measured in the same way. Without
--model, it measures real clips and retrieval only. `--actions shared` only uses the actions that lamp-small knows too.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import pipeline

import lamp_hf
from lamp_hf.checkpoints.embedded import resolve_checkpoint
from lamp_hf.data import load_cmu_mocap
from lamp_hf.data.conversion import default_cache_dir
from lamp_hf.evaluation.probes.cmu import CmuClips, CmuJudge, Interval, Retrieval, cmu_clips, text_sets
from lamp_hf.evaluation.protocols.text_to_motion import generate_for_clips
from lamp_hf.evaluation.records import weights_digest
from lamp_hf.files import atomic_path
from lamp_hf.metrics.embedder import Embedder
from lamp_hf.motion.motion import Motion

# Actions that lamp-small also knows, in other words, from the Bandai-Namco data.
SHARED = (
    "walk straight", "walk and turn", "walk backward", "walk slowly", "walk fast", "strut", "run", "run and turn",
    "wave", "bend forward", "box", "kick", "kick a ball",
)  # fmt: skip
CHUNK = 64
REAL, RETRIEVAL = "real clips", "retrieval"
VERSION = 1  # increase it when the scores of the same motions change

Maker = Callable[[CmuClips], tuple[list[Motion], list[str] | None]]


class Measurement:
    """Measures rows and stores each one as a JSON file."""

    def __init__(self, judge: CmuJudge, folder: Path, key: dict[str, Any], multimodality: tuple[int, int], seed: int):
        self.judge, self.folder, self.key, self.seed = judge, folder, key, seed
        self.texts, self.each = multimodality
        folder.mkdir(parents=True, exist_ok=True)

    def row(
        self, maker: str, what: str, clips: CmuClips, make: Maker, identity: str = "", pipe: Any = None
    ) -> dict[str, Any]:
        """Return the row of a motion source for a set of sentences; measure it unless the folder has it."""
        parts = {
            **self.key, "maker": maker, "identity": identity, "sentences": what, "clips": clips.digest,
            "multimodality": [self.texts, self.each] if pipe is not None else None,
        }  # fmt: skip
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        path = self.folder / f"{maker}, {what}.json".replace(" ", "-").replace(",", "")
        if path.exists():
            row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if row.get("digest") == digest:
                return row
        tqdm.write(f"{maker}: {what}, {len(clips)} motions")
        motions, takes = make(clips)
        scores = self.judge.scores(motions, clips, takes)
        figures = self.judge.summary(scores) | self.judge.field_measures(motions, clips)
        if self.key["evaluator"] and maker == REAL:
            figures["FID"] = self.judge.fid_floor(clips)
        if self.key["evaluator"] and pipe is not None and self.texts:
            figures["multimodality"] = self._multimodality(pipe, clips)
        row = {
            "digest": digest,
            **parts,
            "n": len(clips),
            "with_action": sum(action in self.judge.actions for action in clips.actions),
            "figures": {name: asdict(figure) for name, figure in figures.items()},
            "ids": clips.ids,
            "texts": clips.texts,
            "actions": clips.actions,
            "scores": scores,
        }
        with atomic_path(path) as unfinished:
            unfinished.write_text(json.dumps(row) + "\n", encoding="utf-8")
        return row

    def _multimodality(self, pipe: Any, clips: CmuClips) -> Interval:
        rows = np.random.default_rng(self.seed).choice(len(clips), min(self.texts, len(clips)), replace=False)
        jobs = [(int(row), self.seed + 2**32 + number) for row in rows for number in range(self.each)]
        made = generated(pipe, clips, jobs)
        return self.judge.multimodality([made[start : start + self.each] for start in range(0, len(made), self.each)])


def generated(pipe: Any, clips: CmuClips, jobs: Sequence[tuple[int, int]]) -> list[Motion]:
    """Generate a motion for each pair of clip and seed, with a progress bar."""
    data = clips.as_evaluation_set()
    order = sorted(range(len(jobs)), key=lambda place: len(clips.features[jobs[place][0]]))
    made: dict[int, Motion] = {}
    with tqdm(total=len(jobs), desc="generating", unit="motion") as bar:
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            motions = generate_for_clips(pipe, data, [jobs[place] for place in places])
            made.update(zip(places, motions, strict=True))
            bar.update(len(places))
    return [made[place] for place in range(len(jobs))]


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every row of the tables."""
    dataset = load_cmu_mocap(arguments.data, cache_dir=arguments.cache_dir)
    train, validation = cmu_clips(dataset["train"]), cmu_clips(dataset["validation"])
    evaluator = None
    if arguments.evaluator:
        folder = resolve_checkpoint(arguments.evaluator)
        model = lamp_hf.MotionTextEvaluatorModel.from_pretrained(folder)
        evaluator = Embedder(model, lamp_hf.LampProcessor.from_pretrained(folder))
    cache = Path(arguments.cache_dir) if arguments.cache_dir else default_cache_dir()
    judge = CmuJudge(
        train, cache_dir=cache / "probes", evaluator=evaluator, seed=arguments.seed, on_progress=tqdm.write
    )
    sets = {name: chosen(clips, arguments, judge) for name, clips in text_sets(train, validation).items()}
    key = {
        "version": VERSION,
        "probes": judge.probes.digest,
        "evaluator": weights_digest(evaluator.model) if evaluator else None,
        "seed": arguments.seed,
    }
    measurement = Measurement(
        judge,
        arguments.output,
        key,
        (arguments.multimodality_texts, arguments.multimodality_motions),
        arguments.seed,
    )
    rows = []
    if REAL in arguments.rows:
        rows += [measurement.row(REAL, what, clips, lambda c: (c.motions, None)) for what, clips in sets.items()]
    if RETRIEVAL in arguments.rows:
        retrieval: list[Retrieval] = []  # created when a row needs it

        def retrieve(clips: CmuClips) -> tuple[list[Motion], list[str]]:
            if not retrieval:
                tqdm.write("embedding captions")
                some = arguments.retrieval_captions
                retrieval.append(Retrieval(dataset["train"], num_captions=some, cache_dir=cache / "probes"))
            return retrieval[0](clips.texts, [len(features) for features in clips.features])

        identity = f"{arguments.retrieval_captions or 'all'} captions"
        rows += [measurement.row(RETRIEVAL, what, clips, retrieve, identity) for what, clips in sets.items()]
    if arguments.model:
        pipe = pipeline("text-to-motion", model=resolve_checkpoint(arguments.model))
        identity = weights_digest(pipe.model)

        def generate(clips: CmuClips) -> tuple[list[Motion], None]:
            return generated(pipe, clips, [(row, arguments.seed + row) for row in range(len(clips))]), None

        name = Path(arguments.model).name
        rows += [measurement.row(name, what, clips, generate, identity, pipe) for what, clips in sets.items()]
    return rows


def chosen(clips: CmuClips, arguments: argparse.Namespace, judge: CmuJudge) -> CmuClips:
    """Select the segments with the given actions, up to the limit."""
    rows = list(range(len(clips)))
    if arguments.actions:
        wanted = set(SHARED if arguments.actions == ["shared"] else arguments.actions)
        if unknown := wanted - judge.actions - set(SHARED):
            raise SystemExit(f"--actions: unknown to the probes: {', '.join(sorted(unknown))}")
        rows = [row for row in rows if clips.actions[row] in wanted]
    return clips.part(rows[: arguments.limit])


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table for each set of sentences."""
    console = Console(width=200)
    for what in dict.fromkeys(row["sentences"] for row in rows):
        ours = [row for row in rows if row["sentences"] == what]
        table = Table(
            title=f"{what}: {ours[0]['n']} motions, {ours[0]['with_action']} with an action known to the probes"
        )
        table.add_column("figure")
        for row in ours:
            table.add_column(row["maker"], justify="right")
        for name in dict.fromkeys(name for row in ours for name in row["figures"]):
            figures = [row["figures"].get(name) for row in ours]
            table.add_row(name, *("" if figure is None else str(Interval(**figure)) for figure in figures))
        console.print(table)
    console.print("The FID of real clips compares them with the same number of random training clips.")


def main() -> None:
    """Measure the rows and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="archive or folder of the CMU database")
    parser.add_argument("--output", type=Path, required=True, help="folder for the JSON files, one per row")
    parser.add_argument("--model", help="text-to-motion checkpoint")
    parser.add_argument("--evaluator", help="evaluator checkpoint, for the standard metrics")
    parser.add_argument(
        "--rows",
        nargs="*",
        default=[REAL, RETRIEVAL],
        choices=[REAL, RETRIEVAL],
        help="what to measure besides the model",
    )
    parser.add_argument("--retrieval-captions", type=int, help="captions per segment for retrieval; defaults to all")
    parser.add_argument("--actions", nargs="+", help="only use segments of these actions, or of the `shared` ones")
    parser.add_argument("--limit", type=int, help="maximum number of segments per set")
    parser.add_argument("--multimodality-texts", type=int, default=20, help="texts for multimodality; 0 skips it")
    parser.add_argument("--multimodality-motions", type=int, default=10, help="motions per text for multimodality")
    parser.add_argument("--cache-dir", help="defaults to $LAMP_HF_CACHE or ~/.cache/lamp_hf")
    parser.add_argument("--seed", type=int, default=0)
    show(measure(parser.parse_args()))


if __name__ == "__main__":
    main()

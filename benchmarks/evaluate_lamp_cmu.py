"""Judge a text-to-motion checkpoint on captions of the CMU database, beside real clips and beside retrieval.

python benchmarks/evaluate_lamp_cmu.py --data ARCHIVE --output FOLDER [--model CHECKPOINT] [--evaluator CHECKPOINT]

Asks for the validation captions, for captions that a model was trained on, and for second wordings of the same
segments. Prints class top-1 and top-3 by two probes, the measures of the field by the evaluator, errors of side, turn
and count, foot skating and jitter, with 95 % intervals. The folder keeps a JSON file for each row of the table: the
same command goes on after an interruption, and takes rows that were measured alike from the folder. Without --model it
measures real clips and retrieval. `--actions shared` asks for the actions alone that lamp-small knows, too.
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

# Actions that lamp-small, which was trained on Bandai-Namco's data, knows by other words.
SHARED = (
    "walk straight", "walk and turn", "walk backward", "walk slowly", "walk fast", "strut", "run", "run and turn",
    "wave", "bend forward", "box", "kick", "kick a ball",
)  # fmt: skip
CHUNK = 64
REAL, RETRIEVAL = "real clips", "retrieval"
VERSION = 1  # raise it whenever equal motions are judged differently

Maker = Callable[[CmuClips], tuple[list[Motion], list[str] | None]]


class Measurement:
    """Rows of the table, each kept as a JSON file."""

    def __init__(self, judge: CmuJudge, folder: Path, key: dict[str, Any], multimodality: tuple[int, int], seed: int):
        self.judge, self.folder, self.key, self.seed = judge, folder, key, seed
        self.texts, self.each = multimodality
        folder.mkdir(parents=True, exist_ok=True)

    def row(
        self, maker: str, what: str, clips: CmuClips, make: Maker, identity: str = "", pipe: Any = None
    ) -> dict[str, Any]:
        """The row of a maker of motions for a set of sentences, measured unless the folder has it."""
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
    """A motion for each pair of clip and seed, with a progress bar."""
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
    """Every row of the table."""
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
        retrieval: list[Retrieval] = []  # made where a row needs it

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
    """The segments to ask for: of some actions, or the first so many."""
    rows = list(range(len(clips)))
    if arguments.actions:
        wanted = set(SHARED if arguments.actions == ["shared"] else arguments.actions)
        if strangers := wanted - judge.actions - set(SHARED):
            raise SystemExit(f"--actions: the probes do not know {', '.join(sorted(strangers))}")
        rows = [row for row in rows if clips.actions[row] in wanted]
    return clips.part(rows[: arguments.limit])


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table for each set of sentences."""
    console = Console(width=200)
    for what in dict.fromkeys(row["sentences"] for row in rows):
        ours = [row for row in rows if row["sentences"] == what]
        table = Table(
            title=f"{what}: {ours[0]['n']} motions, {ours[0]['with_action']} with an action that the probes know"
        )
        table.add_column("figure")
        for row in ours:
            table.add_column(row["maker"], justify="right")
        for name in dict.fromkeys(name for row in ours for name in row["figures"]):
            figures = [row["figures"].get(name) for row in ours]
            table.add_row(name, *("" if figure is None else str(Interval(**figure)) for figure in figures))
        console.print(table)
    console.print("FID of real clips is that of as many random training clips.")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="archive or folder of the CMU database")
    parser.add_argument("--output", type=Path, required=True, help="folder of the JSON files, one a row")
    parser.add_argument("--model", help="text-to-motion checkpoint")
    parser.add_argument("--evaluator", help="checkpoint of an evaluator, for the measures of the field")
    parser.add_argument(
        "--rows", nargs="*", default=[REAL, RETRIEVAL], choices=[REAL, RETRIEVAL], help="beside the model"
    )
    parser.add_argument(
        "--retrieval-captions", type=int, help="captions of a segment that retrieval knows, default all"
    )
    parser.add_argument("--actions", nargs="+", help="ask for segments of these actions alone, or of the `shared` ones")
    parser.add_argument("--limit", type=int, help="ask for so many segments of each set at most")
    parser.add_argument("--multimodality-texts", type=int, default=20, help="0 leaves multimodality out")
    parser.add_argument("--multimodality-motions", type=int, default=10, help="motions for each of these texts")
    parser.add_argument("--cache-dir", help="by default $LAMP_HF_CACHE or ~/.cache/lamp_hf")
    parser.add_argument("--seed", type=int, default=0)
    show(measure(parser.parse_args()))


if __name__ == "__main__":
    main()

"""Measure how well familiarity separates sentences that a checkpoint knows from other sentences.

python benchmarks/familiarity.py [--model CHECKPOINT] [--sentences FILE] [--worst N]

Without `--sentences`, it reads `tests/pipelines/known_sentences.txt` (the actions of lamp-small, reworded) and
`unknown_sentences.txt` (other actions). `benchmarks/familiarity_cmu.yaml` contains 150 sentences of each kind for a
checkpoint that was trained on the CMU database. Prints the area under the ROC curve of the familiarity, and the errors
at several thresholds.
"""

import argparse
from pathlib import Path

import numpy as np
import yaml

import lamp_hf
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.pipelines.familiarity import THRESHOLD, KnownSentences

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "pipelines"
KINDS = ("known", "unknown")


def area(known: np.ndarray, unknown: np.ndarray) -> float:
    """Return the share of pairs in which the known sentence is more familiar than the unknown one."""
    return float((known[:, None] > unknown).mean() + 0.5 * (known[:, None] == unknown).mean())


def read_sentences(path: Path | None) -> dict[str, list[str]]:
    """Return the sentences of both kinds."""
    if path is None:
        return {kind: (FOLDER / f"{kind}_sentences.txt").read_text().splitlines() for kind in KINDS}
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {kind: list(values[kind]) for kind in KINDS}


def best_threshold(known: np.ndarray, unknown: np.ndarray) -> float:
    """Return the threshold that separates the kinds with the fewest errors; both kinds have the same weight."""
    places = np.unique(np.concatenate([known, unknown]))
    errors = [(known < place).mean() + (unknown >= place).mean() for place in places]
    return float(places[int(np.argmin(errors))])


def main() -> None:
    """Compute and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--sentences", type=Path, help="YAML file with the lists `known` and `unknown`")
    parser.add_argument("--worst", type=int, default=0, help="number of worst sentences of each kind to list")
    arguments = parser.parse_args()
    checkpoint = resolve_checkpoint(arguments.model)
    model = lamp_hf.LampForTextToMotion.from_pretrained(checkpoint).eval()
    processor = lamp_hf.LampProcessor.from_pretrained(checkpoint)
    texts = read_sentences(arguments.sentences)
    known = KnownSentences(processor.example_texts, processor.text_encoder, model.lamp.get_input_embeddings().weight)
    scores = {kind: np.array([known.familiarity(text).score for text in items]) for kind, items in texts.items()}
    best = best_threshold(scores["known"], scores["unknown"])
    print(f"area under the ROC curve {area(scores['known'], scores['unknown']):.3f}")
    for threshold in sorted({0.5, THRESHOLD, 0.6, 0.65, 0.7, best}):
        print(
            f"  below {threshold:.2f}: {(scores['known'] < threshold).mean():.3f} of {len(texts['known'])} known, "
            f"{(scores['unknown'] < threshold).mean():.3f} of {len(texts['unknown'])} unknown"
            f"{' (fewest errors)' if threshold == best else ''}"
        )
    for kind, sign in (("known", 1), ("unknown", -1)):
        for index in np.argsort(sign * scores[kind])[: arguments.worst]:
            print(f"{kind} {scores[kind][index]:.2f} {texts[kind][index]}")


if __name__ == "__main__":
    main()

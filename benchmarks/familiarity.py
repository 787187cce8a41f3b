"""How well familiarity tells sentences that lamp-small knows from those that it does not.

`python benchmarks/familiarity.py` reads `tests/pipelines/known_sentences.txt` (its actions, reworded) and
`unknown_sentences.txt` (other actions), and prints the area under the ROC curve of what the pipeline measures, and the
errors at several thresholds.
"""

import argparse
from pathlib import Path

import numpy as np

import lamp_hf
from lamp_hf.pipelines.familiarity import THRESHOLD, KnownSentences

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "pipelines"


def area(known: np.ndarray, unknown: np.ndarray) -> float:
    """Share of pairs in which the known sentence is the more familiar one."""
    return float((known[:, None] > unknown).mean() + 0.5 * (known[:, None] == unknown).mean())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worst", type=int, default=0, help="list so many of the worst of each kind")
    arguments = parser.parse_args()
    checkpoint = lamp_hf.embedded_checkpoint()
    model = lamp_hf.LampForTextToMotion.from_pretrained(checkpoint).eval()
    processor = lamp_hf.LampProcessor.from_pretrained(checkpoint)
    texts = {kind: (FOLDER / f"{kind}_sentences.txt").read_text().splitlines() for kind in ("known", "unknown")}
    known = KnownSentences(processor.example_texts, processor.text_encoder, model.lamp.get_input_embeddings().weight)
    scores = {kind: np.array([known.familiarity(text).score for text in items]) for kind, items in texts.items()}
    print(f"area under the curve {area(scores['known'], scores['unknown']):.3f}")
    for threshold in (0.5, THRESHOLD, 0.6, 0.65, 0.7):
        print(
            f"  below {threshold:.2f}: {(scores['known'] < threshold).mean():.3f} of {len(texts['known'])} known, "
            f"{(scores['unknown'] < threshold).mean():.3f} of {len(texts['unknown'])} unknown"
        )
    for kind, sign in (("known", 1), ("unknown", -1)):
        for index in np.argsort(sign * scores[kind])[: arguments.worst]:
            print(f"{kind} {scores[kind][index]:.2f} {texts[kind][index]}")


if __name__ == "__main__":
    main()

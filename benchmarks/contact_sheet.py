"""A picture with one generated motion for each action that the embedded checkpoint knows, to be looked at.

python benchmarks/contact_sheet.py --output sheet.png [--model CHECKPOINT] [--style sad] [--seed 0]
"""

import argparse
import random

from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the task known)
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.data import CaptionGrammar
from lamp_hf.motion.formats.video import contact_sheet


def main() -> None:
    """Parse, generate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="contact_sheet.png")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--style", default="normal")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    grammar = CaptionGrammar.load()
    rng = random.Random(arguments.seed)
    contents = [content for content in grammar.contents if content != "dance-long"]  # not in the data
    texts = [grammar.compose(content, arguments.style, rng) for content in contents]
    pipe = pipeline("text-to-motion", model=resolve_checkpoint(arguments.model))
    results = pipe(texts, seed=arguments.seed, batch_size=len(texts))
    motions = [
        result["motion"].with_text(f"{content}: {text}")
        for content, text, result in zip(contents, texts, results, strict=True)
    ]
    contact_sheet(motions, arguments.output, columns=3)
    print(f"{len(motions)} motions in {arguments.output}")


if __name__ == "__main__":
    main()

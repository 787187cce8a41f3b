"""Draw generated motions as strips of poses, in one picture.

python benchmarks/contact_sheet.py --output sheet.png [--model CHECKPOINT] [--sentences FILE] [--seed 0]

With `--sentences`, it generates a motion for each line of a file, such as `benchmarks/contact_sheet_sentences.txt` (100
sentences); the model chooses the lengths. Without it, it generates one motion for each action of the Bandai-Namco
grammar, which lamp-small knows, in the style `--style`.
"""

import argparse
import random
from pathlib import Path

from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the task)
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.data import CaptionGrammar
from lamp_hf.motion.formats.video import contact_sheet

BATCH_SIZE = 25


def grammar_sentences(style: str, seed: int) -> dict[str, str]:
    """Return a sentence for each action of the grammar, with the title of its strip as the key."""
    grammar = CaptionGrammar.load()
    rng = random.Random(seed)
    contents = [content for content in grammar.contents if content != "dance-long"]  # not in the data
    texts = {content: grammar.compose(content, style, rng) for content in contents}
    return {f"{content}: {text}": text for content, text in texts.items()}


def file_sentences(path: Path) -> dict[str, str]:
    """Return the lines of a file, with numbered titles as keys."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {f"{number}. {line}": line for number, line in enumerate(lines, start=1)}


def main() -> None:
    """Generate the motions and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="contact_sheet.png")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--sentences", type=Path, help="text file with one sentence per line")
    parser.add_argument("--style", default="normal", help="style of the grammar sentences")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--poses", type=int, default=6, help="poses per strip")
    parser.add_argument("--height", type=int, default=110, help="height of a pose in pixels")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    texts = (
        file_sentences(arguments.sentences)
        if arguments.sentences
        else grammar_sentences(arguments.style, arguments.seed)
    )
    pipe = pipeline("text-to-motion", model=resolve_checkpoint(arguments.model))
    seeds = [arguments.seed + number for number in range(len(texts))]
    results = pipe(list(texts.values()), seed=seeds, batch_size=BATCH_SIZE)
    motions = [
        result["motion"].with_text(f"{title} ({result['motion'].duration:.1f} s)")
        for title, result in zip(texts, results, strict=True)
    ]
    contact_sheet(
        motions,
        arguments.output,
        columns=arguments.columns,
        frames_per_motion=arguments.poses,
        pose_height=arguments.height,
    )
    print(f"{len(motions)} motions in {arguments.output}")


if __name__ == "__main__":
    main()

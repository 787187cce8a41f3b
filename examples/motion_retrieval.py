"""Search a folder of motion files by text and by example, and find near-duplicates.

    python examples/motion_retrieval.py my_mocap/ "a person waves"

The folder can contain files of all supported formats and rigs, with or without captions (`metadata.jsonl`). The first
run indexes it; later runs read only new files.
"""

from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (registers the pipeline)
from lamp_hf.retrieval import near_duplicates


def main(
    folder: Annotated[str, typer.Argument(help="Folder of motion files.")],
    text: Annotated[str, typer.Argument(help="Sentence to search for.")],
) -> None:
    """Print the motions that match a text, motions like the best match, and near-duplicates."""
    search = pipeline("motion-retrieval", index=folder)
    hits = search(text, top_k=5)
    print(f"{text!r} in {len(search.index)} motions:")
    for hit in hits:
        print(f"  {hit['score']:.3f}  {hit['file']}  {'; '.join(hit['captions'][:2])}")

    example = hits[0]["file"]
    print(f"motions like {example}:")
    for hit in search(example, top_k=4)[1:]:
        print(f"  {hit['score']:.3f}  {hit['file']}")

    print(f"captions that match {example}:")
    for hit in search(example, target="caption", top_k=3):
        print(f"  {hit['score']:.3f}  {hit['captions'][0]}")

    for group in near_duplicates(search.index):
        print("near-duplicates:", ", ".join(hit["file"] for hit in search.index.motion_hits(group)))


if __name__ == "__main__":
    run(main)

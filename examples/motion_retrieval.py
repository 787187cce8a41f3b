"""Search in a folder of motion files: by words, by example, and for copies.

    python examples/motion_retrieval.py my_mocap/ "a person waves"

The folder may hold BVH, NPY and NPZ files, of many rigs, with or without captions (`metadata.jsonl`). It is indexed
on the first run; later runs read only what is new.
"""

from typing import Annotated

import typer
from _command_line import run
from transformers import pipeline

import lamp_hf  # noqa: F401  (makes the pipeline known)
from lamp_hf.retrieval import near_duplicates


def main(
    folder: Annotated[str, typer.Argument(help="Folder of BVH, NPZ and NPY files.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
) -> None:
    """Print motions that fit the words, motions like the first of them, and copies."""
    search = pipeline("motion-retrieval", index=folder)
    hits = search(text, top_k=5)
    print(f"{text!r} in {len(search.index)} motions:")
    for hit in hits:
        print(f"  {hit['score']:.3f}  {hit['file']}  {'; '.join(hit['captions'][:2])}")

    example = hits[0]["file"]
    print(f"like {example}:")
    for hit in search(example, top_k=4)[1:]:
        print(f"  {hit['score']:.3f}  {hit['file']}")

    print("captions that fit it:")
    for hit in search(example, target="caption", top_k=3):
        print(f"  {hit['score']:.3f}  {hit['captions'][0]}")

    for group in near_duplicates(search.index):
        print("copies:", ", ".join(hit["file"] for hit in search.index.motion_hits(group)))


if __name__ == "__main__":
    run(main)

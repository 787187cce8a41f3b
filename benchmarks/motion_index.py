"""Measure a large motion index: build time, size on disk, latency, and recall of the FAISS search.

    python benchmarks/motion_index.py --data bandai_bvh.tar.xz [--motions 100000] [--noise 0.1] [--output index.json]

Real motions are encoded once and then repeated with noise on their vectors, until there are enough. Latency is for one
query at a time, on `--threads` cores. Recall is the share of the ten best motions of an exact search that the search
with FAISS finds too.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import lamp_hf
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.retrieval import Found, MotionIndex, MotionTextEncoder, find_source
from lamp_hf.retrieval.encoder import EncodedMotion
from lamp_hf.retrieval.sources import Clip

TOP_K = 10
RERANKED = 32


class Repeated:
    """Source and encoder of real motions that are repeated with noise.

    Args:
        encoder: Encodes the real motions (once) and all texts.
        clips: The real motions.
        count: Number of motions to create from them.
        noise: Length of the noise that is added to each unit vector.
    """

    name = identity = "repeated"
    root = None

    def __init__(self, encoder: MotionTextEncoder, clips: Sequence[Clip], count: int, noise: float):
        self.encoder, self.real, self.count, self.noise = encoder, clips, count, noise
        start = time.perf_counter()
        self.encoded = encoder.encode_motions([clip.motion for clip in clips])
        self.encoding_s = time.perf_counter() - start
        self._place = {id(clip.motion): place for place, clip in enumerate(clips)}
        self._rng = np.random.default_rng(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def __len__(self) -> int:
        return self.count

    def ids(self) -> Collection[str] | None:
        return None

    def clips(self, known: Collection[tuple[str, str]], chunk_size: int) -> Iterator[list[Clip | None]]:
        for start in range(0, self.count, chunk_size):
            chunk: list[Clip | None] = []
            for number in range(start, min(start + chunk_size, self.count)):
                clip = self.real[number % len(self.real)]
                chunk.append(Clip(f"{clip.id} {number}", "", clip.captions, str(number), clip.motion))
            yield chunk

    def encode_motions(self, motions: Sequence[np.ndarray]) -> list[EncodedMotion]:
        return [self.noisy(self._place[id(motion)]) for motion in motions]

    def noisy(self, place: int) -> EncodedMotion:
        """Return the vectors of a real motion with noise; each one has its own noise."""
        real = self.encoded[place]
        noise = self._rng.normal(size=real.features.shape).astype(np.float32)
        features = real.features + self.noise * noise / np.sqrt(noise.shape[-1])
        return EncodedMotion(features / np.linalg.norm(features, axis=-1, keepdims=True), real.latents)


def milliseconds(function: Callable[[Any], object], arguments: Sequence[Any]) -> dict[str, float]:
    """Return median and 99th percentile of one call per argument, after one warm-up call."""
    function(arguments[0])
    taken = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        taken.append(1000 * (time.perf_counter() - start))
    return {"p50_ms": float(np.percentile(taken, 50)), "p99_ms": float(np.percentile(taken, 99))}


def recall(found: list[list[Found]], exact: list[list[Found]]) -> dict[str, float]:
    """Return the share of exact hits that were found, and how much lower the found scores are, rank by rank."""
    shares = [len({f.row for f in a} & {f.row for f in b}) / len(b) for a, b in zip(found, exact, strict=True)]
    first = [a[0].row == b[0].row for a, b in zip(found, exact, strict=True)]
    lost = [y.score - x.score for a, b in zip(found, exact, strict=True) for x, y in zip(a, b, strict=True)]
    return {"recall_at_10": float(np.mean(shares)), "recall_at_1": float(np.mean(first)), "lost": float(np.mean(lost))}


def measure(index: MotionIndex, source: Repeated, num_queries: int) -> dict[str, dict[str, float]]:
    """Measure latency and recall of each kind of search."""
    rng = np.random.default_rng(1)
    encoder = source.encoder
    texts = sorted({text for clip in source.real for text in clip.captions})
    texts = [texts[place] for place in rng.permutation(len(texts))[:num_queries]]
    motions = [source.noisy(place).features for place in rng.permutation(len(source.real))[:num_queries]]
    vectors = [vector[None] for vector in encoder.encode_texts(texts)]

    def matched(place: int) -> None:
        [found] = index.find_motions(vectors[place], RERANKED)
        rows, similarities = zip(*found, strict=True)
        encoder.rerank_scores(similarities, index.latents(rows), [texts[place]] * len(rows))

    results = {"text encoding": milliseconds(lambda text: encoder.encode_texts([text]), texts)}
    kinds: dict[str, tuple[Callable[..., list[list[Found]]], Callable[..., Any], list[np.ndarray]]] = {
        "text to motion": (index.find_motions, index.motion_hits, vectors),
        "motion to motion": (index.find_similar, index.motion_hits, [features[None] for features in motions]),
        "motion to caption": (index.find_captions, index.caption_hits, [features[None] for features in motions]),
    }
    for name, (find, hits, queries) in kinds.items():

        def search(query: np.ndarray, find: Any = find, hits: Any = hits) -> object:
            return hits(find(query, TOP_K)[0])

        joint = np.concatenate(queries)
        exact = find(joint, TOP_K, exact=True)
        results[name] = milliseconds(search, queries) | recall(find(joint, TOP_K), exact)
    results[f"text to motion, {RERANKED} reranked"] = milliseconds(matched, range(min(num_queries, 20)))
    return results


def megabytes(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


def main() -> None:
    """Build the indexes, measure them and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="archive or clone of the Bandai-Namco set")
    parser.add_argument("--cache-dir", help="folder for converted motions")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--motions", type=int, default=100_000)
    parser.add_argument("--real", type=int, help="maximum number of real motions")
    parser.add_argument("--captions", type=int, default=2, help="captions per real motion")
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vectors", nargs="+", type=int, default=[1, 4, 24], help="FAISS vectors per motion")
    parser.add_argument("--folder", help="folder for the index; defaults to a temporary one")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    faiss.omp_set_num_threads(arguments.threads)

    checkpoint = resolve_checkpoint(arguments.model)
    model: Any = lamp_hf.LampForMotionTextRetrieval.from_pretrained(checkpoint)
    encoder = MotionTextEncoder(model, lamp_hf.LampProcessor.from_pretrained(checkpoint))
    options = {"path": arguments.data, "captions_per_clip": arguments.captions}
    loaded = find_source("bandai-namco", cache_dir=arguments.cache_dir, **options)
    real = [clip for chunk in loaded.clips((), 2048) for clip in chunk if clip is not None]
    if arguments.real is not None:
        real = [real[place] for place in np.random.default_rng(0).permutation(len(real))[: arguments.real]]
    source: Any = Repeated(encoder, real, arguments.motions, arguments.noise)
    figures: dict[str, Any] = {
        "motions": arguments.motions,
        "real_motions": len(real),
        "noise": arguments.noise,
        "threads": arguments.threads,
        "checkpoint": encoder.name,
        "fingerprint": encoder.fingerprint,
        "encoding_ms_per_motion": 1000 * source.encoding_s / len(real),
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        first: MotionIndex | None = None
        for vectors in arguments.vectors:
            start = time.perf_counter()
            if first is None:
                index = first = MotionIndex.create(Path(folder, str(vectors)), encoder, vectors_per_motion=vectors)
                index.add(source, source)
            else:
                index = with_vectors(first, Path(folder, str(vectors)), vectors)
            built_s = time.perf_counter() - start
            start = time.perf_counter()
            index = MotionIndex.open(index.path)
            index.find_motions(np.ones((1, encoder.projection_dim), np.float32))
            figures[f"{vectors} vectors"] = {
                # Opening includes a first query, which reads FAISS. Later indexes share the rows of the first one
                # and only rebuild FAISS.
                "build_s": built_s,
                "opening_s": time.perf_counter() - start,
                "rows_mb": megabytes(index.path, "*/*.arrow"),
                "faiss_mb": megabytes(index.path, "*.faiss"),
                "search": measure(index, source, arguments.queries),
            }
    show(figures, [f"{vectors} vectors" for vectors in arguments.vectors])
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def with_vectors(index: MotionIndex, path: Path, vectors: int) -> MotionIndex:
    """Create an index of the same rows, as hard links, with another number of FAISS vectors."""
    for file in [*index.path.glob("*/*.arrow"), index.path / "captions.faiss"]:
        target = path / file.relative_to(index.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)
    state = json.loads((index.path / "index.json").read_text(encoding="utf-8"))
    state |= {"vectors_per_motion": vectors, "groups": None}
    (path / "index.json").write_text(json.dumps(state), encoding="utf-8")
    other = MotionIndex.open(path)
    finder = other._motion_finder
    finder.prepare()
    (path / "index.json").write_text(json.dumps(state | {"groups": finder.groups}), encoding="utf-8")
    finder.update(progress=True)
    return other


def show(figures: dict[str, Any], kinds: Sequence[str]) -> None:
    """Print one table for each number of vectors."""
    console = Console(width=120)
    console.print(
        f"{figures['motions']} motions from {figures['real_motions']} real ones, noise {figures['noise']}, "
        f"{figures['threads']} threads; encoding takes {figures['encoding_ms_per_motion']:.1f} ms per motion"
    )
    for kind in kinds:
        facts = figures[kind]
        table = Table(
            title=f"{kind} per motion: built in {facts['build_s']:.1f} s, opened in {facts['opening_s']:.2f} s, "
            f"rows {facts['rows_mb']:.0f} MB, FAISS {facts['faiss_mb']:.0f} MB",
            title_justify="left",
        )
        for name in ("", "p50 ms", "p99 ms", "recall@10", "recall@1", "score lost"):
            table.add_column(name, justify="right" if name else "left")
        for name, row in facts["search"].items():
            cells = [f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}"]
            if "lost" in row:
                cells += [f"{row['recall_at_10']:.3f}", f"{row['recall_at_1']:.3f}", f"{row['lost']:.5f}"]
            table.add_row(name, *cells)
        console.print(table)


if __name__ == "__main__":
    main()

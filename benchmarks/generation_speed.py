"""Time the generation of motions at batch sizes 1 and 32, and its parts.

    python benchmarks/generation_speed.py [--model CHECKPOINT] [--paper-size] [--tokens 49] [--repeats 3]

`--paper-size` runs a model of the paper's size with random weights.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import lamp_hf  # noqa: F401  (registers the models)
from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.modeling.configuration_lamp import LampTextToMotionConfig
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.motion.motion import Motion


def best(function: Callable[[], object], repeats: int) -> float:
    """Return the best time of several runs in seconds, after one warm-up run."""
    function()
    return min(seconds(function) for _ in range(repeats))


def seconds(function: Callable[[], object]) -> float:
    """Return the duration of one run in seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Stopwatch:
    """Adds up the time that all calls of a method take."""

    def __init__(self, owner: object, method: str):
        self.total = 0.0
        self._method = getattr(owner, method)
        setattr(owner, method, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = self._method(*args, **kwargs)
        self.total += time.perf_counter() - start
        return result


def main() -> None:
    """Time the generation and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    parser.add_argument("--paper-size", action="store_true")
    parser.add_argument("--tokens", type=int, default=49)
    parser.add_argument("--text-length", type=int, default=16, help="word pieces per caption")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.paper_size:
        model = LampForTextToMotion(LampTextToMotionConfig()).eval()
    else:
        model = LampForTextToMotion.from_pretrained(resolve_checkpoint(arguments.model)).eval()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {torch.get_num_threads()} threads")
    print(
        f"{'batch':>5} {'all':>8} {'text':>8} {'decode':>8} {'VQ':>8} {'BVH':>8}   seconds, {arguments.tokens} tokens"
    )
    text, decoder = Stopwatch(model, "get_text_condition"), Stopwatch(model.lamp.motion_vqvae, "decode")
    for batch in (1, 32):
        input_ids = torch.randint(5, model.config.lamp_config.vocab_size - 1, (batch, arguments.text_length))
        input_ids[:, 0] = torch.arange(batch) + 5  # all captions differ
        mask = torch.ones_like(input_ids)
        seeds = list(range(batch))
        with torch.no_grad():
            output = model.generate(input_ids, mask, num_tokens=arguments.tokens, seed=seeds)
            runs = []
            for _ in range(arguments.repeats):
                text.total = decoder.total = 0.0
                whole = seconds(
                    lambda i=input_ids, m=mask, s=seeds: model.generate(i, m, num_tokens=arguments.tokens, seed=s)
                )
                runs.append((whole, text.total, decoder.total))
            whole, text_s, decoder_s = min(runs)
        motion = Motion(features=output.motion_values[0].numpy())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "motion.bvh"
            write = best(lambda m=motion, p=path: m.with_text("").save(p), arguments.repeats) * batch
        print(f"{batch:5} {whole:8.3f} {text_s:8.3f} {whole - text_s - decoder_s:8.3f} {decoder_s:8.3f} {write:8.3f}")
        print(f"{'':5} {whole / batch:8.3f} per motion")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()

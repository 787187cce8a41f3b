"""Measure the peak memory of fresh processes: imports, the loaded pipeline, one motion, 32 motions, a storyboard.

python benchmarks/memory.py [--model CHECKPOINT]
"""

import argparse
import subprocess
import sys

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint

START = "import lamp_hf; from transformers import pipeline; "
PRINT_PEAK = "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def peak_mib(code: str, *arguments: str) -> float:
    """Return the peak resident memory of a Python process that runs `code`, in MiB."""
    command = [sys.executable, "-c", "import sys; " + code + PRINT_PEAK, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kib = int(output.splitlines()[-1])
    return kib / 1024 / (1024 if sys.platform == "darwin" else 1)  # macOS reports bytes


def main() -> None:
    """Run each case in its own process and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT)
    model = resolve_checkpoint(parser.parse_args().model)
    load = START + "pipe = pipeline('text-to-motion', model=sys.argv[1]); "
    rows = {
        "import lamp_hf": "import lamp_hf",
        "import torch": "import torch",
        "import lamp_hf, its models": "import lamp_hf; lamp_hf.LampForTextToMotion",
        "pipeline loaded": load + "pass",
        "1 motion of 4 s": load + "pipe('a person walks', duration=4.0, seed=0)",
        "1 motion of 9.8 s": load + "pipe('a person walks', num_frames=196, seed=0)",
        "32 motions of 9.8 s": load + "pipe(['a person walks'] * 32, num_frames=196, seed=0, batch_size=32)",
        "storyboard of 60 s": load + "pipe.storyboard([('a person walks', 4.0)] * 15, seed=0)",
    }
    for name, code in rows.items():
        print(f"{name:28} {peak_mib(code, model):7,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()

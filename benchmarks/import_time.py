"""Time the start: `import lamp_hf`, the pipeline of transformers alone, and commands that need no model.

python benchmarks/import_time.py [--repeats 5]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def seconds(command: list[str], repeats: int) -> float:
    """Return the best time of several runs of a process, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Time all commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    python = sys.executable
    command = [python, "-m", "lamp_hf"]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "a.npy", Path(folder) / "a.bvh"
        np.save(source, np.random.default_rng(0).normal(size=(40, 22, 3)).cumsum(0) * 0.01)
        rows = {
            "python alone": [python, "-c", "pass"],
            "from transformers import pipeline": [python, "-c", "from transformers import pipeline"],
            "import lamp_hf": [python, "-c", "import lamp_hf"],
            "import lamp_hf, then pipeline": [python, "-c", "import lamp_hf; from transformers import pipeline"],
            "lamp-hf --help": [*command, "--help"],
            "lamp-hf convert-motion a.npy a.bvh": [*command, "convert-motion", str(source), str(target)],
        }
        times = {name: seconds(row, repeats) for name, row in rows.items()}
    for name, value in times.items():
        print(f"{name:40} {value:6.2f} s")
    ratio = times["import lamp_hf, then pipeline"] / times["from transformers import pipeline"]
    print(f"import with lamp_hf / with transformers alone: {ratio:.2f}")


if __name__ == "__main__":
    main()

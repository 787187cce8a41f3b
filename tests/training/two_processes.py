"""Train with all recipes of a folder; `torchrun` starts it in two processes.

two_processes.py FOLDER: the run of FOLDER/NAME.yaml is written to FOLDER/NAME.
"""

import sys
from pathlib import Path

import torch

from lamp_hf.training import load_recipe, train

torch.set_num_threads(1)
for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
    train(load_recipe(path), path.with_suffix(""))

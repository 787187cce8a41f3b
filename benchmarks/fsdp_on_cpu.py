"""Train by recipes, sharded by FSDP2 over processes on CPUs.

accelerate launch --config_file examples/accelerate/fsdp.yaml --num_processes 2 benchmarks/fsdp_on_cpu.py RECIPE …

RECIPE is a file, FOLDER/NAME.yaml; its run goes to FOLDER/NAME. Accelerate shards only on accelerators, although FSDP2
and gloo also run on CPUs. This script lifts that restriction and otherwise runs what `lamp-hf train` runs.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState

from lamp_hf.training import load_recipe, train

begin = AcceleratorState.__init__


def begin_sharded(self: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    """Set up the state of Accelerate, with the settings of FSDP although the processes run on CPUs."""
    begin(self, *args, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = begin_sharded  # type: ignore[method-assign]
    torch.set_num_threads(1)
    for path in map(Path, sys.argv[1:]):
        train(load_recipe(path), path.with_suffix(""))

"""One of two processes that share a batch; started by test_lamp.py as `lamp_process.py RANK FOLDER`."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from lamp_hf.modeling.modeling_lamp_pretraining import LampForPreTraining

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
model = LampForPreTraining.from_pretrained(folder).eval()
batch = load_file(folder / "batch.safetensors")
rows = slice(0, 3) if rank == 0 else slice(3, 5)
negatives = batch.pop("negative_motion")[rows], batch.pop("negative_text")[rows]
output = model(**{name: tensor[rows] for name, tensor in batch.items()}, negatives=negatives)
output.loss.backward()
results = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
losses = ("loss", "contrastive_loss", "matching_loss", "captioning_loss", "motion_token_loss")
results |= {name: getattr(output, name).detach() for name in losses}
for tensor in results.values():
    dist.all_reduce(tensor)
    tensor /= 2
save_file(results, folder / f"results{rank}.safetensors")
dist.destroy_process_group()

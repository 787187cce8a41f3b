"""Measure reconstructions of CMU validation clips by a tokenizer, per number of codebooks and per group of actions.

    python benchmarks/reconstruct_cmu.py --data ARCHIVE [--model CHECKPOINT]

Prints MPJPE with the pelvises aligned and with the drift of the root, the horizontal speed of planted feet, and the
jitter, beside those of the real clips.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from foot_skating import mean, slide
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from lamp_hf.checkpoints.embedded import DEFAULT_CHECKPOINT, resolve_checkpoint
from lamp_hf.data import load_cmu_mocap
from lamp_hf.data.cmu.actions import action_groups
from lamp_hf.evaluation.probes.cmu import CmuClips, cmu_clips
from lamp_hf.metrics.functional.reconstruction import joint_errors
from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
from lamp_hf.motion.motion import Motion


@torch.no_grad()
def reconstruct(
    model: MotionVQVAEModel, extractor: LampFeatureExtractor, clip: np.ndarray, codebooks: Sequence[int]
) -> dict[int, Motion]:
    """Reconstruct a clip with the first codebooks only, for several numbers of codebooks."""
    clip = clip[: len(clip) // model.config.frames_per_token * model.config.frames_per_token]
    codes = model.encode(**extractor([clip])).codes
    made = {}
    for count in codebooks:
        kept = codes if codes.ndim == 2 else codes[..., :count]
        made[count] = Motion(features=np.asarray(extractor.denormalize(model.decode(kept)[0].float().numpy())))
    return made


def measure(pairs: Sequence[tuple[Motion, Motion]]) -> list[str]:
    """Return the cells of a row: MPJPE, MPJPE with drift, slide of planted feet, jitter."""
    errors = [joint_errors(real.joints[: made.num_frames], made.joints) for real, made in pairs]
    aligned, drifting = (1000 * float(np.concatenate([pair[k] for pair in errors]).mean()) for k in (0, 1))
    return [f"{aligned:.1f}", f"{drifting:.1f}", *feet_and_jitter([made for _, made in pairs])]


def feet_and_jitter(motions: Sequence[Motion]) -> list[str]:
    """Return the cells with the speed of planted feet and the jitter."""
    speed = mean(slide(motion, motion.foot_plants()) for motion in motions)
    return [f"{speed:.3f}", f"{float(np.mean([motion.jitter() for motion in motions])):.1f}"]


def new_table(title: str, first: str) -> Table:
    """Return an empty table."""
    table = Table(title=title)
    table.add_column(first)
    for column in ("clips", "MPJPE mm", "with drift mm", "slide m/s", "jitter m/s³"):
        table.add_column(column, justify="right")
    return table


def main() -> None:
    """Reconstruct the clips and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the CMU database: an archive or a folder of BVH files")
    parser.add_argument("--model", default=DEFAULT_CHECKPOINT, help="a tokenizer, or a checkpoint with one")
    parser.add_argument("--cache-dir", help="folder for converted data sets")
    arguments = parser.parse_args()
    checkpoint = resolve_checkpoint(arguments.model)
    model = MotionVQVAEModel.from_pretrained(checkpoint).eval()
    extractor = LampFeatureExtractor.from_pretrained(checkpoint)
    clips: CmuClips = cmu_clips(load_cmu_mocap(arguments.data, cache_dir=arguments.cache_dir)["validation"])
    counts = range(1, model.config.num_quantizers + 1)
    made = [reconstruct(model, extractor, clip, counts) for clip in tqdm(clips.features, desc="reconstructing")]

    console = Console()
    real = clips.motions
    table = new_table("By number of codebooks", "codebooks")
    for count in counts:
        row = measure([(motion, each[count]) for motion, each in zip(real, made, strict=True)])
        table.add_row(str(count), str(len(real)), *row)
    table.add_row("real clips", str(len(real)), "0", "0", *feet_and_jitter(real))
    console.print(table)

    groups: dict[str, list[int]] = defaultdict(list)
    for row, action in enumerate(clips.actions):
        groups[action_groups()[action] if action is not None else "no named action"].append(row)
    table = new_table("By group of actions, all codebooks", "group")
    for group, rows in sorted(groups.items()):
        table.add_row(group, str(len(rows)), *measure([(real[row], made[row][counts[-1]]) for row in rows]))
    console.print(table)


if __name__ == "__main__":
    main()

"""Compare quantizers on the CMU database: tokenizers of the same width, trained for the same time.

    python benchmarks/motion_quantizers.py --data cmu_bvh.tar.xz --runs runs/ [--minutes 8] [--only rq-2x512 ...]

Each tokenizer is trained with the recipe cmu-mocap/motion-vqvae, for as many steps as fit into the time on this
machine. Time is processor time, so other processes change little. Finished tokenizers stay in `--runs` and are not
trained again; interrupted ones are resumed. The table contains all tokenizers in `--runs`, so several calls can
produce one table.
"""

import argparse
import json
import platform
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lamp_hf import LampFeatureExtractor, MotionVQVAEConfig, MotionVQVAEModel
from lamp_hf.data.cmu.facts import packaged_facts, subject_categories
from lamp_hf.files import atomic_path
from lamp_hf.metrics.functional.reconstruction import joint_errors
from lamp_hf.motion.features import features_to_joints
from lamp_hf.motion.skeleton import SKELETONS
from lamp_hf.training import Recipe, load_recipe, train
from lamp_hf.training.run import training_arguments
from lamp_hf.training.stages.motion_vqvae import MotionVQVAEStage

QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq-1024": {"num_codes": 1024},
    "fsq-4375": {"num_codes": 4375, "scalar_levels": [7, 5, 5, 5, 5]},
    "rq-2x512": {"num_codes": 512, "num_quantizers": 2, "quantizer_dropout": 0.2},
    "fsq-1000": {"num_codes": 1000, "scalar_levels": [8, 5, 5, 5]},
    "vq-4096": {"num_codes": 4096},
    "rq-4x512": {"num_codes": 512, "num_quantizers": 4, "quantizer_dropout": 0.2},
    "fsq-15360": {"num_codes": 15360, "scalar_levels": [8, 8, 8, 6, 5]},
    # The same quantizer as vq-1024, to measure the effect of the trajectory loss.
    "vq-1024-heading": {"num_codes": 1024, "trajectory_loss_weight": 0.005},
}
# Groups of actions: patterns for the description of the take, then for its subject; the first match counts.
GROUPS = {
    "dance": r"danc|salsa|ballet|charleston",
    "acrobatics": r"cartwheel|gymnast|handstand|flip|breakdance|climb|hang|swing(?!.*golf)|yoga|range of motion",
    "sport": r"golf|swing|ball|soccer|box|punch|kick|karate|martial|skate|swim",
    "jump": r"jump|hop|leap",
    "run": r"\brun|jog",
    "pantomime": r"nursery|animal|pantomime|zombie|robot|monster|bear|cat\b|chicken|dinosaur",
    "everyday": r"everyday|wash|sit|pick|box|bend|suitcase|carry|wave|laugh|clean|story|talk",
    "walk": r"walk|march|step|navigate|turn|limp|slope",
}
WARM_UP, TIMED = 5, 15  # steps
PART = 196  # frames


def group_of(take: str) -> str:
    """Return the group of a take, or "other"."""
    facts = packaged_facts()[take]
    for text in (facts.description, subject_categories().get(facts.subject, "")):
        for group, pattern in GROUPS.items():
            if re.search(pattern, text.lower()):
                return group
    return "other"


def recipe_of(name: str, arguments: argparse.Namespace) -> Recipe:
    """Return the recipe with another quantizer and without evaluation during training."""
    recipe = load_recipe("cmu-mocap/motion-vqvae", [f"data.path={arguments.data}"])
    recipe.model |= QUANTIZERS[name]
    recipe.trainer |= {"eval_strategy": "no", "load_best_model_at_end": False, "save_total_limit": 1, "save_steps": 200}
    recipe.trainer |= {"disable_tqdm": True, "logging_steps": 100}
    return recipe


def seconds_a_step(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the processor time of a training step (data, model, optimizer) with each quantizer.

    The quantizers take turns, so other processes slow all of them equally.
    """
    models, optimizers = {}, {}
    times: dict[str, list[float]] = {name: [] for name in QUANTIZERS}
    recipe = recipe_of("vq-1024", arguments)
    recipe.trainer["max_steps"] = WARM_UP + TIMED
    settings = training_arguments(recipe, arguments.runs)
    stage = MotionVQVAEStage(recipe, settings)
    for name in QUANTIZERS:
        config = MotionVQVAEConfig(**recipe_of(name, arguments).model)
        models[name] = MotionVQVAEModel(config).to(settings.device).train()
        optimizers[name] = torch.optim.AdamW(models[name].parameters(), lr=1e-4, fused=True)
    batch = settings.per_device_train_batch_size
    for step in range(WARM_UP + TIMED):
        for name, model in models.items():
            start = time.process_time()
            rows = stage.collate([stage.train_dataset[step * batch + row] for row in range(batch)])
            with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.bf16):
                loss = model(**{key: value.to(settings.device) for key, value in rows.items()}).loss
            optimizers[name].zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizers[name].step()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each[WARM_UP:]) for name, each in times.items()}


def train_one(name: str, step_s: float, arguments: argparse.Namespace) -> None:
    """Train a tokenizer for the given time, unless it is finished."""
    folder = Path(arguments.runs) / name
    if (folder / "time.json").is_file():
        return
    recipe = recipe_of(name, arguments)
    recipe.trainer["max_steps"] = int(arguments.minutes * 60 / step_s)
    train(recipe, folder)
    with atomic_path(folder / "time.json") as unfinished:
        spent = {"seconds_a_step": step_s, "steps": recipe.trainer["max_steps"]}
        unfinished.write_text(json.dumps(spent), encoding="utf-8")


def parts_of(clips: Sequence[np.ndarray], ids: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Cut clips into parts of whole tokens, at most as long as one generated piece; return the group of each too."""
    parts, groups = [], []
    for clip, name in zip(clips, ids, strict=True):
        for start in range(0, len(clip), PART):
            if frames := (len(clip) - start) // 4 * 4:
                parts.append(clip[start : start + min(frames, PART)])
                groups.append(group_of(name.split("@")[0]))  # such as 05_01@0-4.9s
    return parts, groups


@torch.no_grad()
def judge(folder: Path, parts: Sequence[np.ndarray], groups: Sequence[str]) -> dict[str, Any]:
    """Evaluate a trained tokenizer on parts of the validation clips."""
    model = MotionVQVAEModel.from_pretrained(folder).eval()
    extractor = LampFeatureExtractor.from_pretrained(folder)
    skeleton, layers, num_codes = SKELETONS[extractor.skeleton], model.config.num_quantizers, model.config.num_codes
    codes = [model.encode(**extractor([part]).to(model.device)).codes for part in parts]

    def errors(codebooks: int, heading: bool) -> list[np.ndarray]:
        found = []
        for part, tokens in zip(parts, codes, strict=True):
            made = extractor.denormalize(
                model.decode(tokens if layers == 1 else tokens[..., :codebooks])[0].cpu().numpy()
            )
            real = part.copy()
            if not heading:
                real[:, :3] = made[:, :3] = 0  # compare poses in the frame of the body, without the heading
            joints = features_to_joints(real, skeleton), features_to_joints(made, skeleton)
            found.append(1000 * joint_errors(*joints)[0])
        return found

    aligned, pose = errors(layers, heading=True), errors(layers, heading=False)
    all_codes = torch.cat([tokens[0].reshape(-1, layers) for tokens in codes])
    counts = [torch.bincount(layer, minlength=num_codes) for layer in all_codes.unbind(-1)]
    shares = [count / count.sum() for count in counts]
    result = {
        **json.loads((folder / "time.json").read_text(encoding="utf-8")),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bits_a_token": float(layers * np.log2(num_codes)),
        "mpjpe_mm": float(np.concatenate(aligned).mean()),
        "p95_mm": float(np.percentile(np.concatenate(aligned), 95)),
        "pose_mm": float(np.concatenate(pose).mean()),
        "codes_used": sum(int((count > 0).sum()) for count in counts),
        "codes": layers * num_codes,
        "perplexities": [float(torch.exp(-(s * torch.log(s.clamp(min=1e-12))).sum())) for s in shares],
        "groups_pose_mm": {
            group: float(np.concatenate([e for e, g in zip(pose, groups, strict=True) if g == group]).mean())
            for group in sorted(set(groups))
        },
    }
    if layers > 1:
        result["pose_mm_of_first_codebooks"] = [
            float(np.concatenate(errors(k, False)).mean()) for k in range(1, layers)
        ]
    return result


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    groups = sorted({group for result in results.values() for group in result["groups_pose_mm"]})
    table = Table(title="MPJPE in mm with aligned pelvises; `pose` and the groups also with aligned headings")
    for column in ("quantizer", "bits", "s/step", "steps", "all", "p95", "pose", "codes", "perplexity", *groups):
        table.add_column(column, justify="left" if column == "quantizer" else "right")
    for name, result in sorted(results.items(), key=lambda item: item[1]["mpjpe_mm"]):
        table.add_row(
            name,
            f"{result['bits_a_token']:.1f}",
            f"{result['seconds_a_step']:.3f}",
            str(result["steps"]),
            *(f"{result[key]:.1f}" for key in ("mpjpe_mm", "p95_mm", "pose_mm")),
            f"{result['codes_used']}/{result['codes']}",
            "/".join(f"{value:.0f}" for value in result["perplexities"]),
            *(f"{result['groups_pose_mm'][group]:.1f}" for group in groups),
        )
    Console(width=200).print(table)


def main() -> None:
    """Train the missing tokenizers, evaluate all, save and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the CMU database: an archive or a folder of BVH files")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the trained tokenizers")
    parser.add_argument("--minutes", type=float, default=8.0, help="processor time per tokenizer, in minutes")
    parser.add_argument("--only", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS), help="quantizers to train")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "motion-quantizers.json")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    times = arguments.runs / "step_times.json"
    steps_s = json.loads(times.read_text(encoding="utf-8")) if times.is_file() else {}
    if not QUANTIZERS.keys() <= steps_s.keys():
        steps_s = seconds_a_step(arguments)
        times.write_text(json.dumps(steps_s), encoding="utf-8")
    for name in arguments.only:
        train_one(name, steps_s[name], arguments)
    recipe = recipe_of("vq-1024", arguments)
    recipe.trainer["max_steps"] = 1
    stage = MotionVQVAEStage(recipe, training_arguments(recipe, Path("unused")))
    parts, groups = parts_of(stage.eval_clips, stage.dataset["validation"]["id"])
    trained = [name for name in QUANTIZERS if (arguments.runs / name / "time.json").is_file()]
    results = {name: judge(arguments.runs / name, parts, groups) for name in trained}
    report = {
        "command": f"python benchmarks/motion_quantizers.py --minutes {arguments.minutes:g}",
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "validation": {"parts": len(parts), "frames": sum(map(len, parts))},
        "quantizers": results,
    }
    with atomic_path(arguments.output) as unfinished:
        unfinished.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(results)


if __name__ == "__main__":
    main()

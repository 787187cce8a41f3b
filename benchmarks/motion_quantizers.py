"""Which quantizer keeps the CMU database's motions best: tokenizers of equal width, trained for equal time.

    python benchmarks/motion_quantizers.py --data cmu_bvh.tar.xz --runs runs/ [--minutes 8] [--only rq-2x512 ...]

Each is trained by the recipe cmu-mocap/motion-vqvae, for as many steps as fit into the time on this machine. Time is
that of the processor, so that what else runs on the machine changes little. What was trained stays in `--runs` and is
not trained again, what was cut off goes on, and the table is made of all that lies there: several calls make one table.
"""

import argparse
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from lamp_hf import LampFeatureExtractor, MotionVQVAEConfig, MotionVQVAEModel
from lamp_hf.data.cmu.facts import packaged_facts, subject_categories
from lamp_hf.evaluation.reconstruction import reconstruction_errors
from lamp_hf.motion.files import atomic_path
from lamp_hf.training import Recipe, load_recipe, train
from lamp_hf.training.motion_vqvae import MotionVQVAEStage
from lamp_hf.training.run import training_arguments

QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq-1024": {"num_codes": 1024},
    "fsq-4375": {"num_codes": 4375, "scalar_levels": [7, 5, 5, 5, 5]},
    "rq-2x512": {"num_codes": 512, "num_quantizers": 2, "quantizer_dropout": 0.2},
    "fsq-1000": {"num_codes": 1000, "scalar_levels": [8, 5, 5, 5]},
    "vq-4096": {"num_codes": 4096},
    "rq-4x512": {"num_codes": 512, "num_quantizers": 4, "quantizer_dropout": 0.2},
    "fsq-15360": {"num_codes": 15360, "scalar_levels": [8, 8, 8, 6, 5]},
}
# Groups of actions by words of the database about the take, then about its subject; the first that fits counts.
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


def group_of(take: str) -> str:
    """Group of a take, or "other"."""
    facts = packaged_facts()[take]
    for text in (facts.description, subject_categories().get(facts.subject, "")):
        for group, pattern in GROUPS.items():
            if re.search(pattern, text.lower()):
                return group
    return "other"


def recipe_of(name: str, arguments: argparse.Namespace) -> Recipe:
    """The recipe of the database with another quantizer, evaluated at the end alone."""
    recipe = load_recipe("cmu-mocap/motion-vqvae", [f"data.path={arguments.data}"])
    recipe.model |= QUANTIZERS[name]
    recipe.trainer |= {"eval_strategy": "no", "load_best_model_at_end": False, "save_total_limit": 1, "save_steps": 200}
    recipe.trainer |= {"disable_tqdm": True, "logging_steps": 100}
    return recipe


def seconds_a_step(arguments: argparse.Namespace) -> dict[str, float]:
    """Processor time of a training step with each quantizer: data, model, optimizer.

    They take turns, so that what else the machine does slows all of them alike.
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
    """Train a tokenizer for the time given, unless that is done."""
    folder = Path(arguments.runs) / name
    if (folder / "time.json").is_file():
        return
    recipe = recipe_of(name, arguments)
    recipe.trainer["max_steps"] = int(arguments.minutes * 60 / step_s)
    train(recipe, folder)
    with atomic_path(folder / "time.json") as unfinished:
        spent = {"seconds_a_step": step_s, "steps": recipe.trainer["max_steps"]}
        unfinished.write_text(json.dumps(spent), encoding="utf-8")


def perplexities(model: MotionVQVAEModel, extractor: LampFeatureExtractor, clips: Sequence[np.ndarray]) -> list[float]:
    """Of each codebook over all clips: how many codes would do, were they used alike."""
    codes = []
    for clip in clips:
        with torch.no_grad():
            each = model.encode(**extractor([clip]).to(model.device)).codes[0]
        codes.append(each.reshape(len(each), -1))
    shares = [torch.bincount(layer) / len(layer) for layer in torch.cat(codes).unbind(-1)]
    return [float(torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())) for share in shares]


def judge(folder: Path, clips: Sequence[np.ndarray], ids: Sequence[str]) -> dict[str, Any]:
    """What a trained tokenizer makes of the validation clips."""
    model = MotionVQVAEModel.from_pretrained(folder).eval()
    extractor = LampFeatureExtractor.from_pretrained(folder)

    def of(chosen: Callable[[str], bool]) -> tuple[np.ndarray, np.ndarray, set[int]]:
        return reconstruction_errors(model, extractor, [c for c, i in zip(clips, ids, strict=True) if chosen(i)])

    aligned, drifting, used = of(lambda _: True)
    groups = {i: group_of(i.split("@")[0]) for i in ids}  # such as 05_01@0-4.9s
    codes_a_token, num_codes = model.config.num_quantizers, model.config.num_codes
    result = {
        **json.loads((folder / "time.json").read_text(encoding="utf-8")),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bits_a_token": float(codes_a_token * np.log2(num_codes)),
        "mpjpe_mm": 1000 * float(aligned.mean()),
        "global_mpjpe_mm": 1000 * float(drifting.mean()),
        "p95_mpjpe_mm": 1000 * float(np.percentile(aligned, 95)),
        "codes_used": len(used),
        "codes": codes_a_token * num_codes,
        "perplexities": perplexities(model, extractor, clips),
        "groups_mpjpe_mm": {
            group: 1000 * float(of(lambda i, group=group: groups[i] == group)[0].mean())  # type: ignore[misc]
            for group in sorted(set(groups.values()))
        },
    }
    if codes_a_token > 1:
        result["first_codebook_mpjpe_mm"] = _mpjpe_of_first_codes(model, extractor, clips)
    return result


def _mpjpe_of_first_codes(
    model: MotionVQVAEModel, extractor: LampFeatureExtractor, clips: Sequence[np.ndarray]
) -> float:
    """What the first code of each token is worth alone."""
    whole = model.quantizer.forward

    def first(latents: torch.Tensor, mask: torch.Tensor) -> Any:
        output = whole(latents, mask)
        codes = output.codes[..., :1].clamp(min=0)
        output.latents = model.quantizer.lookup(codes) * mask[..., None]
        return output

    model.quantizer.forward = first  # type: ignore[method-assign]
    return 1000 * float(reconstruction_errors(model, extractor, clips)[0].mean())


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    groups = sorted({group for result in results.values() for group in result["groups_mpjpe_mm"]})
    table = Table(title="MPJPE in mm on the validation clips, pelvises at one place")
    for column in ("quantizer", "bits", "s/step", "steps", "all", "p95", "global", "codes", "perplexity", *groups):
        table.add_column(column, justify="left" if column == "quantizer" else "right")
    for name, result in sorted(results.items(), key=lambda item: item[1]["mpjpe_mm"]):
        table.add_row(
            name,
            f"{result['bits_a_token']:.1f}",
            f"{result['seconds_a_step']:.3f}",
            str(result["steps"]),
            *(f"{result[key]:.1f}" for key in ("mpjpe_mm", "p95_mpjpe_mm", "global_mpjpe_mm")),
            f"{result['codes_used']}/{result['codes']}",
            "/".join(f"{value:.0f}" for value in result["perplexities"]),
            *(f"{result['groups_mpjpe_mm'][group]:.1f}" for group in groups),
        )
    Console(width=200).print(table)


def main() -> None:
    """Train what is missing, judge all, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="the CMU database: an archive or a folder of BVH files")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the trained tokenizers")
    parser.add_argument("--minutes", type=float, default=8.0, help="processor time of each training")
    parser.add_argument("--only", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS), help="train these")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "motion-quantizers.json")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    if not (times := arguments.runs / "step_times.json").is_file():
        times.write_text(json.dumps(seconds_a_step(arguments)), encoding="utf-8")
    steps_s = json.loads(times.read_text(encoding="utf-8"))
    for name in arguments.only:
        train_one(name, steps_s[name], arguments)
    recipe = recipe_of("vq-1024", arguments)
    recipe.trainer["max_steps"] = 1
    stage = MotionVQVAEStage(recipe, training_arguments(recipe, Path("unused")))
    ids = stage.dataset["validation"]["id"]
    trained = [name for name in QUANTIZERS if (arguments.runs / name / "time.json").is_file()]
    results = {name: judge(arguments.runs / name, stage.eval_clips, ids) for name in trained}
    report = {
        "command": f"python benchmarks/motion_quantizers.py --minutes {arguments.minutes:g}",
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads",
        "validation": {"clips": len(ids), "frames": sum(map(len, stage.eval_clips))},
        "quantizers": results,
    }
    with atomic_path(arguments.output) as unfinished:
        unfinished.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    show(results)


if __name__ == "__main__":
    main()

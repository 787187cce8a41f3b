"""The Trainer of all stages, with separate loss terms in the log, the stage's own metrics and atomic checkpoints."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, SchedulerType, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from .sharding import whole_weights

__all__ = ["CLIP_NUMBERS", "UNFINISHED", "LampTrainer"]

CLIP_NUMBERS = "clip_numbers"  # batch key: the clip number of each row
UNFINISHED = "unfinished"  # folder for checkpoints that are being written
SHOWN_CLIPS = 8


class LampTrainer(Trainer):
    """`transformers.Trainer` for the stages of lamp_hf.

    Args:
        evaluate_model: Returns the metrics of a model by name. The trainer logs them as `eval_…`, and
            `metric_for_best_model` can name one of them.
        learning_rates: Learning rates of the parameters that do not use `args.learning_rate`.
        learning_rate_drops: `{step: factor}`; from each of these steps on, every learning rate is multiplied by the
            factor.
        name_of: Returns the name of a clip, given its number, for error messages.
        complete: Adds inputs to a batch, on its device, that a model has to compute.
    """

    def __init__(
        self,
        *args: Any,
        evaluate_model: Callable[[PreTrainedModel], dict[str, float]],
        learning_rates: dict[nn.Parameter, float],
        learning_rate_drops: dict[int, float] | None = None,
        name_of: Callable[[int], str] = str,
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.name_of = name_of
        self.complete = complete
        self.evaluate_model = evaluate_model
        self.learning_rates = learning_rates
        self.learning_rate_drops = learning_rate_drops or {}
        self._parts: dict[str, list[torch.Tensor]] = {}
        self._writing_to: str | None = None
        # Models with labels divide by the number of tokens in all accumulated batches and processes, so that each
        # token has the same weight. All other losses are means over their batch.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        clips = inputs.pop(CLIP_NUMBERS, None)
        if num_items_in_batch is not None:
            inputs["num_items_in_batch"] = num_items_in_batch / self.args.world_size  # gradients are averaged over them
        outputs = model(**self.complete(inputs))
        loss = outputs["loss"]
        self._refuse_not_finite(loss, outputs, [] if clips is None else clips.tolist())
        for name, value in outputs.items():
            if name.endswith("_loss") or name in ("perplexity", "token_accuracy"):
                self._parts.setdefault(name, []).append(value.detach().float())
        return (loss, outputs) if return_outputs else loss

    def _refuse_not_finite(self, loss: torch.Tensor, outputs: Any, clips: Sequence[int]) -> None:
        """Stop all processes if the loss of any process is not finite."""
        finite = torch.isfinite(loss.detach())
        if self.args.world_size > 1:
            finite = self.accelerator.reduce(finite.float(), "sum") == self.args.world_size
        if finite:
            return
        report = ""
        if not torch.isfinite(loss):
            parts = [name for name, value in outputs.items() if name.endswith("_loss") and not torch.isfinite(value)]
            names = [self.name_of(clip) for clip in clips]
            more = f" and {len(names) - SHOWN_CLIPS} more" if len(names) > SHOWN_CLIPS else ""
            report = (
                f"{', '.join(parts) or 'loss'} is {loss.item()}, in a batch of {', '.join(names[:SHOWN_CLIPS])}{more}"
            )
        reports = gather_object([report]) if self.args.world_size > 1 else [report]
        raise FloatingPointError(
            f"the loss is not finite at step {self.state.global_step + 1}: {'; '.join(filter(None, reports))}. Lower "
            f"the learning rate{self._or_precision()}; if the same clips appear every time, check them with `lamp-hf "
            "data check`. "
            f"{self._last_checkpoint()}"
        )

    def _or_precision(self) -> str:
        return " or turn off mixed precision" if self.args.bf16 or self.args.fp16 else ""

    def _last_checkpoint(self) -> str:
        last = get_last_checkpoint(str(self.args.output_dir)) if Path(str(self.args.output_dir)).is_dir() else None
        return f"The last checkpoint, {last}, is intact." if last else "There is no checkpoint yet."

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with a separate parameter group for every learning rate."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer(model)
        for group in list(optimizer.param_groups):
            for rate in sorted(set(self.learning_rates.values())):
                apart = [p for p in group["params"] if self.learning_rates.get(p) == rate]
                group["params"] = [p for p in group["params"] if self.learning_rates.get(p) != rate]
                if apart:
                    optimizer.add_param_group({**group, "params": apart, "lr": rate})
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Create the schedule of the arguments, multiplied by `learning_rate_drops`.

        Raises:
            ValueError: The schedule is not a function of the step alone.
        """
        if self.lr_scheduler is not None or not self.learning_rate_drops:
            return super().create_scheduler(num_training_steps, optimizer)
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if not isinstance(scheduler, LambdaLR):
            kind = SchedulerType(self.args.lr_scheduler_type).value
            raise ValueError(
                f"learning_rate_drops cannot be combined with lr_scheduler_type={kind}; choose another schedule"
            )
        scheduler.lr_lambdas = [self._dropping(rate_of) for rate_of in scheduler.lr_lambdas]
        return scheduler

    def _dropping(self, rate_of: Callable[[int], float]) -> Callable[[int], float]:
        """Return a schedule that is multiplied by the factors of all drops up to the step."""

        def rate(step: int) -> float:
            factors = (factor for start, factor in self.learning_rate_drops.items() if step >= start)
            return math.prod(factors, start=rate_of(step))

        return rate

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Apply weight decay to matrices only, not to biases, norms and the learned temperature (L3)."""
        matrices = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
        return [name for name in super().get_decay_parameter_names(model) if name in matrices]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            for name, values in self._parts.items():
                logs[name] = float(self.accelerator.reduce(torch.stack(values).mean(), "mean"))
            self._parts.clear()
        super().log(logs, start_time)

    def _refuse_broken_weights(self) -> None:
        """Stop all processes if the weights are not finite, before they are saved.

        A gradient may be infinite while the loss is finite. The next loss would reveal it, but only after a checkpoint
        with broken weights may have been written.
        """
        model = self.accelerator.unwrap_model(self.model)
        learned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        broken = [name for name, weight in learned.items() if not torch.isfinite(weight.detach()).all()]
        processes = torch.tensor(float(bool(broken)), device=self.args.device)
        if self.args.world_size > 1:
            processes = self.accelerator.reduce(processes, "sum")
        if processes:
            raise FloatingPointError(
                f"weights are not finite after step {self.state.global_step} ({', '.join(broken[:3])}; {len(broken)} "
                f"of {len(learned)} tensors): lower the learning rate, set max_grad_norm{self._or_precision()}. "
                f"{self._last_checkpoint()}"
            )

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        self._refuse_broken_weights()
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        with whole_weights(model):
            metrics = {f"{metric_key_prefix}_{k}": v for k, v in self.evaluate_model(model).items()}
            model.train(was_training)
            self.log(dict(metrics))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # ---- atomic checkpoints --------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if state_dict is not None and isinstance(self.model, PreTrainedModel):
            # Gathered by FSDP, tied weights are separate tensors, which `save_pretrained` would store twice.
            tied = self.model.all_tied_weights_keys
            state_dict = {name: tensor for name, tensor in state_dict.items() if tied.get(name) not in state_dict}
        super()._save(output_dir, state_dict)

    def _get_output_dir(self, trial: Any) -> str:
        return self._writing_to or super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint to a separate folder, move it into place when it is complete, then delete old ones."""
        run, name = Path(str(self.args.output_dir)), f"checkpoint-{self.state.global_step}"
        self._refuse_broken_weights()
        self._writing_to = str(run / UNFINISHED)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._writing_to = None
        self.accelerator.wait_for_everyone()  # all processes have written their random states
        self._point_to_best(name)
        if self.args.should_save:
            written = run / UNFINISHED / name
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
            if (run / name).exists():  # left by an earlier run that was resumed from an older checkpoint
                shutil.rmtree(run / name)
            written.rename(run / name)
            written.parent.rmdir()
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()

    def _point_to_best(self, being_written: str = "") -> None:
        """Update the path of the best checkpoint, since the folder of the run may have been moved or renamed."""
        best = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (best.name == being_written or best.is_dir()):
            self.state.best_model_checkpoint = str(best)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        # With a limit of one, transformers would also delete the newest checkpoint here if another one is the best. If
        # the run is killed during that deletion, it would later resume from an incomplete checkpoint.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)
        finally:
            self.args.save_total_limit = limit

    def _load_best_model(self) -> None:
        self._point_to_best()
        super()._load_best_model()

    def save_finished(self, output_dir: Path) -> None:
        """Write the model, its processor and the arguments to the run's folder, each file atomically."""
        folder = output_dir / UNFINISHED / "model"
        if self.is_fsdp_enabled:
            # Checkpoints of the run may be sharded; the finished model is not.
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        self.save_model(str(folder))
        if self.is_world_process_zero():
            # The configuration comes last, so that a folder with a configuration is always a complete checkpoint.
            for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(output_dir / path.name)
            shutil.rmtree(output_dir / UNFINISHED)

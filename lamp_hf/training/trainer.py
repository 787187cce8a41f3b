"""The one Trainer of all stages: logs every part of the loss, evaluates by the stage's own measure."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, SchedulerType, Trainer

__all__ = ["LampTrainer"]


class LampTrainer(Trainer):
    """`transformers.Trainer` for the stages of lamp_hf.

    Args:
        evaluate_model: Gives the metrics of a model, by plain names; the trainer logs them as `eval_…` and can
            choose the best checkpoint by them.
        learning_rates: Learning rates of parameters that do not learn at `args.learning_rate`.
        learning_rate_drops: `{step: factor}`: from each of these steps on, every learning rate is so many times what
            the schedule says.
    """

    def __init__(
        self,
        *args: Any,
        evaluate_model: Callable[[PreTrainedModel], dict[str, float]],
        learning_rates: dict[nn.Parameter, float],
        learning_rate_drops: dict[int, float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.evaluate_model = evaluate_model
        self.learning_rates = learning_rates
        self.learning_rate_drops = learning_rate_drops or {}
        self._parts: dict[str, list[torch.Tensor]] = {}
        # Every loss of lamp_hf is a mean over its batch.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        outputs = model(**inputs)
        loss = outputs["loss"]
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; lower the learning rate or "
                "turn mixed precision off. The last checkpoint is intact."
            )
        for name, value in outputs.items():
            if name.endswith("_loss") or name in ("perplexity", "token_accuracy"):
                self._parts.setdefault(name, []).append(value.detach().float())
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer, with a group of its own for every learning rate; the schedule scales them all."""
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
        """The schedule of the arguments, times the drops; transformers has no schedule with steps."""
        if self.lr_scheduler is not None or not self.learning_rate_drops:
            return super().create_scheduler(num_training_steps, optimizer)
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if not isinstance(scheduler, LambdaLR):
            kind = SchedulerType(self.args.lr_scheduler_type).value
            raise ValueError(f"learning_rate_drops cannot go with lr_scheduler_type={kind}")
        scheduler.lr_lambdas = [self._dropping(rate_of) for rate_of in scheduler.lr_lambdas]
        return scheduler

    def _dropping(self, rate_of: Callable[[int], float]) -> Callable[[int], float]:
        """A schedule's rate for a step, times the drops up to it."""

        def rate(step: int) -> float:
            factors = (factor for start, factor in self.learning_rate_drops.items() if step >= start)
            return math.prod(factors, start=rate_of(step))

        return rate

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Only matrices decay: no bias, no norm, no learned temperature (L3)."""
        matrices = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
        return [name for name in super().get_decay_parameter_names(model) if name in matrices]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= {name: torch.stack(values).mean().item() for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in self.evaluate_model(model).items()}
        model.train(was_training)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

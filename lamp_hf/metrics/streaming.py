"""Base classes of the metrics, which reduce each batch of motions and texts to a few numbers and store only these."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf

from lamp_hf.metrics.embedder import Embedder
from lamp_hf.metrics.inputs import as_array, paired

__all__ = ["GUO_2022", "EmbeddingMetric", "PairMetric", "StreamingMetric"]

GUO_2022 = """
@inproceedings{guo2022generating,
  title = {Generating Diverse and Natural 3D Human Motions from Text},
  author = {Guo, Chuan and Zou, Shihao and Zuo, Xinxin and Wang, Sen and Ji, Wei and Li, Xingyu and Cheng, Li},
  booktitle = {CVPR},
  year = {2022}
}
"""


class StreamingMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric whose `add_batch` reduces a batch to rows of numbers, from which `compute` computes the result.

    `evaluate` stores the rows in a file and gathers those of several processes (`num_process`, `process_id`,
    `experiment_id`).

    Args:
        seed: Seed of all random draws. Without it, `evaluate` would choose one at random.

    Raises:
        TypeError: An option is unknown; `evaluate` would ignore it silently.
    """

    def __init__(self, *args: Any, seed: int = 0, **options: Any):
        known = inspect.signature(evaluate.EvaluationModule.__init__).parameters
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(f"the metric has no option {', '.join(unknown)}; see its card for its options")
        super().__init__(*args, seed=seed, **options)
        # Return rows as arrays instead of lists of Python numbers. It is set here because MetricInfo allows this format
        # only for columns of single values; our columns also contain vectors, but all of one size.
        self._module_info.format = "numpy"
        self._storing = False

    def reduce(self, predictions: Any, references: Any) -> dict[str, Any]:
        """Reduce a batch to columns of rows."""
        raise NotImplementedError

    def add_batch(self, *, predictions: Any = None, references: Any = None, **inputs: Any) -> None:
        """Add a batch of predictions and references."""
        rows = self.reduce(predictions, references, **inputs)
        if len(next(iter(rows.values()))):
            with self._columns_are_inputs():
                super().add_batch(**rows)

    def add(self, *, prediction: Any = None, reference: Any = None, **inputs: Any) -> None:
        """Add one prediction and its reference."""
        # `evaluate.combine` passes single items as `predictions` and `references`.
        prediction, reference = inputs.pop("predictions", prediction), inputs.pop("references", reference)
        self.add_batch(
            predictions=None if prediction is None else [prediction],
            references=None if reference is None else [reference],
            **{f"{name}s": [value] for name, value in inputs.items()},
        )

    def compute(self, *, predictions: Any = None, references: Any = None, **options: Any) -> dict[str, Any] | None:
        """Compute the metric over all added batches and the inputs passed here, then clear them.

        Raises:
            ValueError: There are no inputs.
        """
        inputs = {name: options.pop(name) for name in self.input_names if name in options}
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references, **inputs)
        elif self.writer is None:
            raise ValueError("nothing to score: pass predictions to add_batch or to compute")
        with self._columns_are_inputs():
            return super().compute(**options)

    def _feature_names(self) -> list[str]:
        # `evaluate` assumes that stored columns and inputs have the same names, and `evaluate.combine` passes only
        # inputs with these names. Here the names differ, so report the columns only while rows are stored and read.
        return list(self.features) if self._storing else ["predictions", "references"]

    @contextmanager
    def _columns_are_inputs(self) -> Iterator[None]:
        self._storing = True
        try:
            yield
        finally:
            self._storing = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs besides predictions and references."""
        return tuple(inspect.signature(self.reduce).parameters)[2:]


class EmbeddingMetric(StreamingMetric):
    """A metric over embeddings, or over motions and texts that an evaluator embeds.

    Args:
        evaluator: A model with `get_motion_features` and `get_text_features`. With an evaluator, predictions and
            references are motions and sentences; without one, they are embeddings.
        processor: The model's processor.
    """

    def __init__(self, *args: Any, evaluator: Any = None, processor: Any = None, **options: Any):
        super().__init__(*args, **options)
        self.embedder = None if evaluator is None else Embedder(evaluator, processor)

    @staticmethod
    def columns(**more: Any) -> Features:
        """Return columns for one embedding per row."""
        return Features({"embedding": ListOf(Value("float32")), **more})

    def motion_embeddings(self, motions: Any, what: str = "predictions") -> np.ndarray:
        """Return the embeddings `(N, D)` of motions, or check embeddings that were passed directly.

        Raises:
            ValueError: The embeddings have different sizes or values that are not finite.
        """
        return self._checked(motions if self.embedder is None else self.embedder.motions(motions), what)

    def text_embeddings(self, texts: Any, what: str = "references") -> np.ndarray:
        """Return the embeddings `(N, D)` of sentences, or check embeddings that were passed directly."""
        return self._checked(texts if self.embedder is None else self.embedder.texts(texts), what)

    def pair_embeddings(self, predictions: Any, references: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings `(N, D)` of motions and of their texts.

        Raises:
            ValueError: The numbers of motions and texts, or the sizes of their embeddings, differ.
        """
        paired(predictions, references)
        motions, texts = self.motion_embeddings(predictions), self.text_embeddings(references)
        if motions.shape[-1] != texts.shape[-1]:
            raise ValueError(
                f"motion embeddings have {motions.shape[-1]} numbers and text embeddings {texts.shape[-1]}: embed both "
                "with the same model"
            )
        return motions, texts

    def _checked(self, embeddings: Any, what: str) -> np.ndarray:
        try:
            array = as_array(embeddings)
        except ValueError as error:
            raise ValueError(f"{what} are not embeddings of one size ({error})") from error
        if array.ndim != 2:
            remedy = "" if self.embedder else "; motions and sentences need load(…, evaluator=…, processor=…)"
            raise ValueError(f"{what} have the shape {array.shape}, expected embeddings (N, D){remedy}")
        if not np.isfinite(array).all():
            raise ValueError(f"{what} contain values that are not finite (NaN or infinity)")
        return array

    def provenance(self) -> dict[str, str]:
        """Return the name of the evaluator as `evaluator`, if there is one."""
        return {} if self.embedder is None else {"evaluator": self.embedder.name}


class PairMetric(EmbeddingMetric):
    """A metric over the embeddings of motions and of their texts."""

    @staticmethod
    def columns(**more: Any) -> Features:
        """Return columns for the embeddings of one pair per row."""
        return EmbeddingMetric.columns(text=ListOf(Value("float32")), **more)

    def reduce(self, predictions: Any, references: Any) -> dict[str, Any]:
        """Reduce pairs to the embeddings of motions and of their texts."""
        motions, texts = self.pair_embeddings(predictions, references)
        return {"embedding": motions, "text": texts}

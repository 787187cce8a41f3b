"""Base class of the caption metrics, which stores captions with their references and computes BERTScore."""

from typing import Any

from datasets import Features, Value
from datasets import Sequence as ListOf

from lamp_hf.metrics.streaming import StreamingMetric

__all__ = ["CaptionMetric"]


class CaptionMetric(StreamingMetric):
    """A metric that compares captions with their references.

    Args:
        bertscore_model, num_layers, idf, rescale_with_baseline, device: See
            [`lamp_hf.metrics.functional.sentences.BertScorer`]. `bertscore_model=None` selects the default model.
    """

    def __init__(
        self,
        *args: Any,
        bertscore_model: str | None = None,
        num_layers: int | None = None,
        idf: bool = False,
        rescale_with_baseline: bool = False,
        device: str | None = None,
        **options: Any,
    ):
        super().__init__(*args, **options)
        self._module_info.format = None  # lists, because captions have different numbers of references
        self.bertscore_model = bertscore_model
        self.bertscore_options: dict[str, Any] = {
            "num_layers": num_layers,
            "idf": idf,
            "rescale_with_baseline": rescale_with_baseline,
            "device": device,
        }

    @staticmethod
    def columns() -> Features:
        """Return columns for one caption and its references per row."""
        return Features({"caption": Value("string"), "references": ListOf(Value("string"))})

    def bertscore(self, captions: list[str], references: list[list[str]]) -> dict[str, Any]:
        """Compute mean precision, recall and F1. `bertscore_model` names the model, its layer and the weights."""
        # Imported here, because bert-score imports torch and matplotlib, which the other scores do not need.
        from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, BertScorer

        scorer = BertScorer(self.bertscore_model or DEFAULT_ENCODER, **self.bertscore_options)
        scores = scorer(captions, references)
        return {
            "bertscore_precision": float(scores.precision.mean()),
            "bertscore_recall": float(scores.recall.mean()),
            "bertscore_f1": float(scores.f1.mean()),
            "bertscore_model": scorer.name,
        }

"""What the metrics of captions share: rows of a caption with its references, and BERTScore over them."""

from typing import Any

from datasets import Features, Value
from datasets import Sequence as ListOf

from lamp_hf.metrics.streaming import StreamingMetric

__all__ = ["CaptionMetric"]


class CaptionMetric(StreamingMetric):
    """A metric that keeps captions with their references.

    Args:
        bertscore_model, num_layers, idf, rescale_with_baseline, device: See
            [`lamp_hf.metrics.functional.sentences.BertScorer`]; no model is the default one.
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
        self._module_info.format = None  # as lists: captions differ in their number of references
        self.bertscore_model = bertscore_model
        self.bertscore_options: dict[str, Any] = {
            "num_layers": num_layers,
            "idf": idf,
            "rescale_with_baseline": rescale_with_baseline,
            "device": device,
        }

    @staticmethod
    def columns() -> Features:
        """Columns for one caption in each row."""
        return Features({"caption": Value("string"), "references": ListOf(Value("string"))})

    def bertscore(self, captions: list[str], references: list[list[str]]) -> dict[str, Any]:
        """Means of precision, recall and F1, and `bertscore_model`: which model, layer and weights."""
        # Here, since bert-score brings torch and matplotlib, which the other scores do without.
        from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER, BertScorer

        scorer = BertScorer(self.bertscore_model or DEFAULT_ENCODER, **self.bertscore_options)
        scores = scorer(captions, references)
        return {
            "bertscore_precision": float(scores.precision.mean()),
            "bertscore_recall": float(scores.recall.mean()),
            "bertscore_f1": float(scores.f1.mean()),
            "bertscore_model": scorer.name,
        }

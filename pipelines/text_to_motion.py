"""`pipeline("text-to-motion")`: sentences in, motions out."""

import logging
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import Pipeline

from lamp_hf.modeling.generation_lamp import (
    MaskedMotionGenerationConfig,
    MaskedMotionGenerationOutput,
    StepCallback,
    draw_seed,
)
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.motion import Motion

from .editing import paste
from .requests import MotionRequest, checked_number, num_frames_of, per_text
from .saving import SavedPipeline

__all__ = ["TextToMotionPipeline"]

logger = logging.getLogger(__name__)

Span = tuple[float, float]
BATCH_SIZE = 64
PROGRESS_DELAY_S = 2.0  # work that is done sooner shows no progress bar


class TextToMotionPipeline(SavedPipeline, Pipeline):
    """Makes motions from text with a [`LampForTextToMotion`].

    ```python
    >>> import lamp_hf
    >>> from transformers import pipeline

    >>> pipe = pipeline("text-to-motion")
    >>> result = pipe("a person waves", duration=2.0, seed=1)
    >>> result["num_frames"], result["seed"], result["motion"].fps
    (40, 1, 20.0)

    ```

    Generation settings given to `pipeline(…)`, such as `guidance_scale=2.0`, hold for every call that does
    not give its own.
    """

    task = "text-to-motion"
    model: LampForTextToMotion
    processor: LampProcessor

    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, LampForTextToMotion):
            raise TypeError(f"text-to-motion needs a LampForTextToMotion, not a {type(self.model).__name__}")
        if self.processor is None:
            raise ValueError("text-to-motion needs a processor: give processor=LampProcessor.from_pretrained(…)")
        self.model.eval()
        self._progress_bar_config: dict[str, Any] = {}

    @property
    def fps(self) -> float:
        """Frames per second of the motions."""
        return self.processor.feature_extractor.fps

    @property
    def frames_per_token(self) -> int:
        """Frames of the smallest piece of motion that the model decides on."""
        return self.model.config.motion_vqvae_config.frames_per_token

    def set_progress_bar_config(self, **config: Any) -> None:
        """Arguments of tqdm for the progress bar of long calls; `disable=True` hides it."""
        self._progress_bar_config = config

    # ---- calls --------------------------------------------------------------------------------------------

    def __call__(  # type: ignore[override]
        self,
        text: str | Sequence[str],
        *,
        duration: float | Sequence[float] | None = None,
        num_frames: int | Sequence[int] | None = None,
        num_motions_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        temperature: float | None = None,
        motion: Motion | Sequence[Motion] | None = None,
        edit: Span | Sequence[Span] | None = None,
        callback_on_step_end: StepCallback | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Make motions from texts, or change parts of given ones.

        The same text, seed and length give the same motion alone and in any batch.

        With `motion` and `edit`, only the frames within the spans change. The features of all others come
        back bit for bit. Features describe a frame relative to the body, and its movement relative to the
        frame before: after an edit the motion goes on as it was, from the place and in the direction in
        which the edited part ends.

        Args:
            text: What the person does, one text or a list.
            duration: Length in seconds, one for all texts or one for each. Without it, and without
                `num_frames`, the model chooses.
            num_frames: Length in frames in place of `duration`.
            num_motions_per_prompt: Motions of each text.
            seed: One for all texts, or one for each text, or one for each motion. The j-th motion of a text
                whose seed is s, from 0, has the seed s + j. Without seeds they are drawn, and the results
                tell them.
            negative_prompt: What the motions shall not show, one text for all or one for each.
            guidance_scale: How closely to follow the text: 1 is the plain model, more is closer.
            num_inference_steps: Passes of the network.
            temperature: Of the draw: 0 takes the likeliest, more than 1 is more varied.
            motion: A motion to be changed, one for all texts or one for each, with the frame rate and the
                skeleton of the model.
            edit: Span of `motion` that changes, `(start, end)` in seconds, or a list of spans.
            callback_on_step_end: Called after each step with the number of steps done, the number of all,
                and the token ids of the motions of the batch.
            batch_size: Motions made together.

        Returns:
            For one text a dictionary of `motion` ([`Motion`]), `text`, `seed` and `num_frames`; with
            `num_motions_per_prompt` above 1 a list of them. For a list of texts, a list of what each one
            gives.

        Raises:
            TypeError: A value of the wrong kind.
            ValueError: A value that cannot work, lists of different lengths, or a motion that does not fit.
        """
        # 1. Check the inputs: what is wanted, motion by motion.
        texts = self._check_texts(text)
        lengths = self._check_lengths(len(texts), duration, num_frames)
        motions, spans = self._check_edit(len(texts), motion, edit)
        if motion is not None and lengths[0] is not None:
            raise ValueError("an edited motion keeps its length: give no duration or num_frames with motion=")
        negatives = per_text("negative_prompt", negative_prompt, len(texts), str)
        seeds = self._check_seeds(seed, len(texts), num_motions_per_prompt)
        requests = [
            MotionRequest(
                texts[i],
                seeds[i * num_motions_per_prompt + j],
                lengths[i],
                negatives[i],
                motions[i],
                spans[i],
            )
            for i in range(len(texts))
            for j in range(num_motions_per_prompt)
        ]
        settings = self._settings(guidance_scale, num_inference_steps, temperature)
        self._check_familiarity(texts)

        # 2. For each batch: texts and motions as tensors, tokens and what they stand for, motions.
        results: list[dict[str, Any]] = []
        size = batch_size or self._batch_size or BATCH_SIZE
        with self._progress_bar(len(requests), "motion") as bar:
            for start in range(0, len(requests), size):
                batch = requests[start : start + size]
                inputs = self.preprocess(batch)
                on_step = _Progress(bar, len(batch), callback_on_step_end)
                outputs = self.forward(inputs, callback_on_step_end=on_step, **settings)
                results += self.postprocess(outputs, requests=batch)

        # 3. One result for each text.
        grouped: list[Any] = results
        if num_motions_per_prompt > 1:
            groups = range(0, len(results), num_motions_per_prompt)
            grouped = [results[start : start + num_motions_per_prompt] for start in groups]
        return grouped[0] if isinstance(text, str) else grouped

    def storyboard(
        self,
        scenes: Sequence[tuple[str, float]],
        *,
        seed: int | None = None,
        negative_prompt: str | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        temperature: float | None = None,
        callback_on_step_end: StepCallback | None = None,
    ) -> dict[str, Any]:
        """One continuous motion, of any length, in which scenes follow each other.

        Each scene is made from its own text; then the motion around each seam is made anew with both sides
        in view.

        ```python
        >>> scenes = [("a person walks", 3.0), ("the person bows", 2.5)]
        >>> result = pipe.storyboard(scenes, seed=1)
        >>> result["num_frames"], result["scenes"][1]
        (110, ('the person bows', 3.0, 5.5))

        ```

        Args:
            scenes: Texts and their seconds.
            seed: Of the whole motion; drawn if not given.
            negative_prompt, guidance_scale, num_inference_steps, temperature, callback_on_step_end: As in a
                call.

        Returns:
            A dictionary of `motion`, `text` (of all scenes), `seed`, `num_frames` and `scenes`: each one's
            text, start and end in seconds.

        Raises:
            TypeError: A value of the wrong kind.
            ValueError: A value that cannot work.
        """
        if isinstance(scenes, str) or not all(isinstance(scene, list | tuple) and len(scene) == 2 for scene in scenes):
            raise TypeError('a storyboard is a list of (text, seconds), as in [("a person walks", 3.0), …]')
        texts = self._check_texts([text for text, _ in scenes])
        for _, seconds in scenes:
            num_frames_of("seconds", seconds, self.fps, self.frames_per_token)
        [used_seed] = self._check_seeds(seed, 1, 1)
        settings = self._settings(guidance_scale, num_inference_steps, temperature)
        self._check_familiarity(texts)

        # Scenes begin and end with a token. To round their ends, not their lengths, keeps errors from adding up.
        ends_s = np.cumsum([seconds for _, seconds in scenes])
        num_frames = round(ends_s[-1] * self.fps)
        ends = [math.floor(end * self.fps / self.frames_per_token + 0.5) for end in ends_s[:-1]]
        ends.append(math.ceil(num_frames / self.frames_per_token))
        inputs = self._tokenize(texts) | self._tokenize_negative([negative_prompt])
        inputs |= {"num_tokens": np.diff(ends, prepend=0).tolist(), "seed": used_seed}
        with self._progress_bar(100, "%") as bar:
            on_step = _Progress(bar, 100, callback_on_step_end)
            outputs = self.forward(inputs, callback_on_step_end=on_step, storyboard=True, **settings)
        request = MotionRequest("; ".join(texts), used_seed, num_frames)
        [result] = self.postprocess(outputs, requests=[request])
        result["scenes"] = list(zip(texts, [0.0, *ends_s[:-1].tolist()], ends_s.tolist(), strict=True))
        return result

    # ---- the steps that transformers names ---------------------------------------------------------------

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        known = MaskedMotionGenerationConfig.fields
        if strangers := sorted(set(kwargs) - set(known)):
            raise TypeError(f"unknown arguments {', '.join(strangers)}; known: {', '.join(known)}")
        return {}, kwargs, {}

    def preprocess(self, input_: Sequence[MotionRequest], **kwargs: Any) -> dict[str, Any]:
        """Arguments of the model's `generate` for a batch."""
        inputs = self._tokenize([request.text for request in input_])
        inputs |= self._tokenize_negative([request.negative for request in input_])
        inputs["seed"] = [request.seed for request in input_]
        if input_[0].motion is not None:
            inputs |= self._encode_edits(input_)
        elif input_[0].num_frames is not None:
            inputs["num_tokens"] = [math.ceil((request.num_frames or 0) / self.frames_per_token) for request in input_]
        return inputs

    def _forward(  # type: ignore[override]
        self, input_tensors: dict[str, Any], storyboard: bool = False, **kwargs: Any
    ) -> MaskedMotionGenerationOutput:
        """Tokens, and the normalised features that they stand for."""
        generate = self.model.generate_storyboard if storyboard else self.model.generate
        return generate(**input_tensors, **kwargs)

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: MaskedMotionGenerationOutput,
        *,
        requests: Sequence[MotionRequest] = (),
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Motions of exactly the wanted lengths; edited ones with all that was not to change."""
        assert model_outputs.motion_values is not None
        assert model_outputs.motion_attention_mask is not None
        mask = model_outputs.motion_attention_mask
        for row, request in enumerate(requests):
            length = request.num_frames if request.motion is None else len(request.motion.features)
            if length is not None:
                mask[row, length:] = 0
        texts = [request.text for request in requests]
        made = self.processor.post_process_motion(model_outputs.motion_values, mask, text=texts)
        results = []
        for request, motion in zip(requests, made, strict=True):
            if request.motion is not None:
                features = paste(request.motion.features, motion.features, request.spans)
                motion = Motion(features=features, fps=motion.fps, skeleton=motion.skeleton, text=request.text)
            results.append(
                {
                    "motion": motion,
                    "text": request.text,
                    "seed": request.seed,
                    "num_frames": len(motion.features),
                }
            )
        return results

    # ---- checks -------------------------------------------------------------------------------------------

    def _check_texts(self, text: str | Sequence[str]) -> list[str]:
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple):
            raise TypeError(f"text is a {type(text).__name__}; expected a string or a list of strings")
        if not texts:
            raise ValueError("no text was given")
        for item in texts:
            if not isinstance(item, str):
                raise TypeError(f"text holds {item!r}, a {type(item).__name__}; expected strings")
            if not item.strip():
                raise ValueError('text is empty; say what the person does, as in "a person walks"')
        return list(texts)

    def _check_lengths(self, count: int, duration: Any, num_frames: Any) -> list[int | None]:
        if duration is not None and num_frames is not None:
            raise ValueError("give duration (seconds) or num_frames, not both")
        if num_frames is not None:
            values = per_text("num_frames", num_frames, count, int)
            return [num_frames_of("num_frames", value, 1, self.frames_per_token) for value in values]
        if duration is not None:
            values = per_text("duration", duration, count, float)
            return [num_frames_of("duration", value, self.fps, self.frames_per_token) for value in values]
        return [None] * count

    def _check_edit(
        self, count: int, motion: Any, edit: Any
    ) -> tuple[list[Motion | None], list[tuple[tuple[int, int], ...]]]:
        if (motion is None) != (edit is None):
            raise ValueError("motion= and edit= go together: a motion, and (start, end) in seconds of the change")
        motions: list[Motion | None] = per_text("motion", motion, count, Motion)
        spans: list[tuple[tuple[int, int], ...]] = []
        for item in motions:
            spans.append(() if item is None else self._check_spans(item, edit))
        return motions, spans

    def _check_spans(self, motion: Motion, edit: Any) -> tuple[tuple[int, int], ...]:
        """Frames of the spans; those that touch become one."""
        self.processor.feature_extractor(motion)  # refuses a wrong frame rate or skeleton, and says what to do
        total = len(motion.features)
        several = isinstance(edit, list | tuple) and len(edit) and all(isinstance(span, list | tuple) for span in edit)
        chosen: list[tuple[int, int]] = []
        for span in edit if several else [edit]:
            if not isinstance(span, list | tuple) or len(span) != 2:
                raise TypeError(f"edit={edit!r}; expected (start, end) in seconds, or a list of such spans")
            start, end = (checked_number("edit", value) for value in span)
            if not 0 <= start < end <= motion.duration + 0.5 / self.fps:
                raise ValueError(
                    f"edit=({start:g}, {end:g}) is not within the motion, which lasts {motion.duration:g} s"
                )
            first, last = round(start * self.fps), min(round(end * self.fps), total)
            if first >= last:
                raise ValueError(f"edit=({start:g}, {end:g}) holds no frame at {self.fps:g} fps; widen it")
            chosen.append((first, last))
        merged: list[tuple[int, int]] = []
        for first, last in sorted(chosen):
            if merged and first <= merged[-1][1]:
                first, last = merged[-1][0], max(last, merged.pop()[1])
            merged.append((first, last))
        return tuple(merged)

    def _check_seeds(self, seed: Any, texts: int, copies: int) -> list[int]:
        """One seed for each motion."""
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
            raise ValueError(f"num_motions_per_prompt={copies!r} is not a whole number from 1")
        if seed is None:
            own = cast(MaskedMotionGenerationConfig, self.model.generation_config)
            seed = self._forward_params.get("seed", own.seed)
        if seed is None:
            return [draw_seed() for _ in range(texts * copies)]
        if isinstance(seed, list | tuple) and len(seed) == texts * copies:
            return per_text("seed", seed, texts * copies, int)
        return [start + copy for start in per_text("seed", seed, texts, int) for copy in range(copies)]

    def _settings(self, *values: Any) -> dict[str, Any]:
        """Generation settings of a call, over those of the pipeline; the model's own fill in the rest."""
        names = ("guidance_scale", "num_inference_steps", "temperature")
        given = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        settings = {**self._forward_params, **given}
        settings.pop("seed", None)
        return settings

    def _check_familiarity(self, texts: Sequence[str]) -> None:
        """Warn about texts that are cut, and about those far from what the model was trained on."""
        unique = list(dict.fromkeys(texts))
        for text in unique:
            if cut := self._cut_words(text):
                logger.warning(
                    "A text is longer than the %d word pieces that the model reads; left out: %r",
                    *(self.processor.tokenizer.model_max_length, cut),
                )
        threshold = self.model.config.text_familiarity_threshold
        with torch.no_grad():
            inputs = self.ensure_tensor_on_device(**self._tokenize(unique))
            similarities = self.model.text_familiarity(**inputs)
        if threshold is None or similarities is None:
            return
        for text, similarity in zip(unique, similarities.tolist(), strict=True):
            if similarity < threshold:
                logger.warning(
                    "%r is far from all that this checkpoint was trained on (similarity %.2f, usual is %.2f "
                    "or more): the motion may have little to do with it.",
                    *(text, similarity, threshold),
                )

    def _cut_words(self, text: str) -> str:
        """The end of a text that the tokenizer does not keep, from the first word that loses a piece."""
        tokenizer = self.processor.tokenizer
        whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        kept = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        if len(whole["input_ids"]) <= kept:
            return ""
        start = whole["offset_mapping"][kept][0]
        while start and not text[start - 1].isspace():
            start -= 1
        return text[start:].strip()

    # ---- tensors ------------------------------------------------------------------------------------------

    def _tokenize(self, texts: list[str]) -> dict[str, Any]:
        return dict(self.processor(text=texts))

    def _tokenize_negative(self, texts: Sequence[str | None]) -> dict[str, Any]:
        if all(text is None for text in texts):
            return {}
        negative = self._tokenize([text or "" for text in texts])
        return {f"negative_{name}": tensor for name, tensor in negative.items()}

    def _encode_edits(self, requests: Sequence[MotionRequest]) -> dict[str, torch.Tensor]:
        """Tokens of the motions to be changed, and which of them are decided anew."""
        step = self.frames_per_token
        clips = []
        for request in requests:
            assert request.motion is not None
            features = request.motion.features
            # The last frames need not fill a token; the last one stands still for those that are missing.
            clips.append(np.pad(features, ((0, -len(features) % step), (0, 0)), mode="edge"))
        encoded = self.processor(motion=clips).to(self.model.device)
        with torch.no_grad():
            codes = self.model.lamp.encode_motion(**encoded).motion_codes
        edit_mask = torch.zeros_like(codes, dtype=torch.bool)
        for row, request in enumerate(requests):
            for first, last in request.spans:
                edit_mask[row, first // step : math.ceil(last / step)] = True
        return {"motion_codes": codes, "edit_mask": edit_mask}

    def _progress_bar(self, total: int, unit: str) -> tqdm:
        return tqdm(total=total, **{"unit": unit, "delay": PROGRESS_DELAY_S, **self._progress_bar_config})


class _Progress:
    """Moves a progress bar along with the steps of a batch, and calls the user's callback.

    Args:
        bar: The bar.
        worth: What the whole batch is worth on it.
        callback: The user's, if any.
    """

    def __init__(self, bar: tqdm, worth: int, callback: StepCallback | None):
        self.bar = bar
        self.worth = worth
        self.callback = callback
        self.shown = 0

    def __call__(self, done: int, total: int, tokens: list[torch.Tensor]) -> None:
        now = self.worth * done // total
        self.bar.update(now - self.shown)
        self.shown = now
        if self.callback is not None:
            self.callback(done, total, tokens)

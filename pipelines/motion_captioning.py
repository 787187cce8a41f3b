"""`pipeline("motion-captioning")`: describes motions in sentences."""

import inspect
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, GenerationMixin, Pipeline

from lamp_hf.modeling.configuration_generation_lamp import whole
from lamp_hf.modeling.modeling_lamp_decoder_captioning import LampDecoderForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.inputs import MotionInput, as_motion
from lamp_hf.motion.limits import MAX_CLIP_FRAMES
from lamp_hf.motion.motion import Motion

from .requests import num_frames_of
from .saving import SavedPipeline
from .streams import in_batches, is_stream, refuse_unknown

__all__ = ["MotionCaptioningPipeline"]

BATCH_SIZE = 32
PROGRESS_DELAY_S = 2.0  # faster calls show no progress bar
# Arguments of transformers' `generate`, without the model's inputs.
GENERATION_SETTINGS = (
    *(name for name in GenerationConfig().to_dict() if name != "transformers_version"),
    *(set(inspect.signature(GenerationMixin.generate).parameters) - {"self", "inputs", "kwargs"}),
)
# Limits of a call. Larger values are likely mistakes and would take all of the memory.
LARGEST = {"num_beams": 100, "num_return_sequences": 100, "max_new_tokens": 10_000, "max_length": 10_000}
NUMERIC_SETTINGS = ("temperature", "top_p", "length_penalty", "repetition_penalty")


@dataclass(frozen=True)
class MotionWindow:
    """A part of a motion, which gets its own captions.

    Args:
        motion: Index of the motion.
        first, last: Frames of the window, without `last`.
        features: Features of these frames, `(last - first, D)`.
        timed: Whether the result has the start and the end of the window.
    """

    motion: int
    first: int
    last: int
    features: np.ndarray
    timed: bool


class MotionCaptioningPipeline(SavedPipeline, Pipeline):
    """Describes motions in sentences.

    Checkpoints of LaMP and of text-to-motion use LaMP's own decoder, [`LampDecoderForMotionCaptioning`]; checkpoints of
    [`LampWithLanguageModelForMotionCaptioning`] use their language model.

    ```python
    >>> import lamp_hf
    >>> from transformers import pipeline

    >>> pipe = pipeline("motion-captioning")
    >>> [answer] = pipe(motion)
    >>> sorted(answer)
    ['caption', 'score']
    >>> len(pipe([motion, "walk.bvh"], num_beams=4, num_return_sequences=3)[1])
    3

    ```

    Settings given to `pipeline(…)`, such as `num_beams=4`, are the defaults of every call. Threads may share a
    pipeline, because calls do not change it.
    """

    task = "motion-captioning"
    model: LampDecoderForMotionCaptioning | LampWithLanguageModelForMotionCaptioning
    processor: LampProcessor

    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, LampDecoderForMotionCaptioning | LampWithLanguageModelForMotionCaptioning):
            raise TypeError(
                "motion-captioning needs a LampDecoderForMotionCaptioning or a "
                f"LampWithLanguageModelForMotionCaptioning, got a {type(self.model).__name__}"
            )
        if self.processor is None:
            raise ValueError("motion-captioning needs a processor; give processor=LampProcessor.from_pretrained(…)")
        self.model.eval()

    @property
    def fps(self) -> float:
        """Frame rate of the model, frames per second; motions are resampled to it."""
        return self.processor.feature_extractor.fps

    @property
    def frames_per_token(self) -> int:
        """Number of frames per motion token, and of the shortest motion that the model reads."""
        lamp = cast(Any, self.model.lamp)
        return lamp.config.motion_vqvae_config.frames_per_token

    def __call__(  # type: ignore[override]
        self,
        motion: MotionInput | Iterable[MotionInput],
        *,
        window_s: float | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Caption motions.

        Motions of more than 196 frames, longer than any that LaMP was trained on, are captioned window by window.

        Args:
            motion: A [`Motion`]; the path of a motion file, such as a `.bvh` or `.npy` file; an array of features
                `(T, D)` or joints `(T, J, 3)` in meters at the model's frame rate; a list of these; or a generator, a
                `KeyDataset` or another dataset of these. A generator or a dataset may have any length; its results are
                computed when requested.
            window_s: Length of the longest window in seconds; defaults to 196 frames. A longer motion is cut into the
                smallest possible number of equal windows.
            prompt: Words with which every caption begins. The released captioner begins with "a man is".
            batch_size: Number of windows to caption together, 32 by default. For a generator or a dataset, also the
                number of motions to read at a time, 1 by default.
            generate_kwargs: Arguments of transformers' `generate`: `num_beams`, `num_return_sequences`, `do_sample`,
                `temperature`, `top_p`, `max_new_tokens`, …

        Returns:
            For one motion, a list of dictionaries of `caption` and `score`, best first: one, or `num_return_sequences`.
            The score is the geometric mean of the probabilities of the tokens of the caption after the prompt, at most
            1. If the motion
            was cut into windows, or `window_s` is given, the dictionaries also have `start` and `end` in seconds, and
            the list has the captions of all windows in order. For a list of motions, a list of such lists; for a
            generator or a dataset, an iterator of them.

        Raises:
            FileNotFoundError: The file does not exist.
            MotionFormatError: The file cannot be read.
            TypeError: A value has the wrong type, or an argument is unknown.
            ValueError: A value is invalid, or a motion does not fit the model.
        """
        known = ("window_s", "prompt", "batch_size", *GENERATION_SETTINGS)
        refuse_unknown(type(self).__name__, generate_kwargs, known)
        window_s = self._preprocess_params.get("window_s") if window_s is None else window_s
        if window_s is not None:
            num_frames_of("window_s", window_s, self.fps, 2 * self.frames_per_token)
        size = batch_size if batch_size is not None else self._batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"batch_size={size!r} is not a whole number of at least 1")
        settings = {**self._forward_params, **generate_kwargs}
        _check_settings(settings)
        prompt = self._preprocess_params.get("prompt") if prompt is None else prompt
        if prompt is not None:
            settings["prompt_ids"] = self._prompt_ids(prompt)
        if isinstance(motion, Motion | os.PathLike) or not is_stream(motion):
            return self._caption(motion, window_s, size or BATCH_SIZE, settings)
        return self._stream(motion, window_s, size or 1, settings)

    def _stream(self, motions: Any, window_s: float | None, size: int, settings: dict[str, Any]) -> Iterator[Any]:
        for batch in in_batches(motions, size):
            yield from self._caption(batch, window_s, size, settings, show_progress=False)

    def _caption(
        self, motion: Any, window_s: float | None, size: int, settings: dict[str, Any], show_progress: bool = True
    ) -> Any:
        # 1. Check the inputs and cut motions, at the model's frame rate, into windows.
        single = isinstance(motion, str | os.PathLike | Motion | np.ndarray | torch.Tensor)
        items: Any = [motion] if single else motion
        if not isinstance(items, list | tuple):
            raise TypeError(
                f"cannot caption a {type(motion).__name__}; give a Motion, a path, an array, or a list of these"
            )
        if not items:
            raise ValueError("no motion was given")
        motions = [self.read_motion(item) for item in items]
        windows = [window for number, item in enumerate(motions) for window in self._windows(item, number, window_s)]

        # 2. For each batch of windows of similar lengths: preprocess, generate, and postprocess the captions.
        answers: list[list[dict[str, Any]]] = [[] for _ in windows]
        order = sorted(range(len(windows)), key=lambda place: len(windows[place].features))
        hidden = None if show_progress else True  # None: shown in terminals and notebooks
        with tqdm(total=len(windows), unit="window", delay=PROGRESS_DELAY_S, disable=hidden) as bar:
            for start in range(0, len(order), size):
                places = order[start : start + size]
                inputs = self.preprocess([windows[place] for place in places])
                captions = self.postprocess(self.forward(inputs, **settings), count=len(places))
                for place, captions_of_window in zip(places, captions, strict=True):
                    answers[place] = captions_of_window
                bar.update(len(places))

        # 3. Group the results by motion.
        results: list[list[dict[str, Any]]] = [[] for _ in motions]
        for window, captions_of_window in zip(windows, answers, strict=True):
            times = {"start": window.first / self.fps, "end": window.last / self.fps} if window.timed else {}
            results[window.motion] += [{**answer, **times} for answer in captions_of_window]
        return results[0] if single else results

    # ---- inputs -------------------------------------------------------------------------------------------

    def read_motion(self, item: MotionInput) -> Motion:
        """Read a motion, in any form that a call accepts, resample it to the model's frame rate, and check it.

        Raises:
            FileNotFoundError, MotionFormatError, TypeError, ValueError: As in a call of the pipeline.
        """
        extractor = self.processor.feature_extractor
        if not isinstance(item, Motion | str | os.PathLike | np.ndarray | torch.Tensor):
            raise TypeError(f"cannot caption a {type(item).__name__}; give a Motion, a path or an array")
        is_array = isinstance(item, np.ndarray | torch.Tensor)
        motion = as_motion(item, fps=extractor.fps if is_array else None)
        if abs(motion.fps - extractor.fps) > 1e-3:
            motion = motion.resample(extractor.fps)
        extractor(motion)  # raises an error if the skeleton is wrong or values are not finite
        if (frames := len(motion.features)) < self.frames_per_token:
            raise ValueError(
                f"{motion.name or 'a motion'} has {frames} frames at {extractor.fps:g} fps; the shortest motion "
                f"that the model reads has {self.frames_per_token}"
            )
        return motion

    def _prompt_ids(self, prompt: str) -> list[int]:
        """Return the tokens of the beginning of captions.

        Raises:
            TypeError: It is not a string.
            ValueError: It has no words, or leaves no room for others.
        """
        if not isinstance(prompt, str):
            raise TypeError(f"prompt={prompt!r} is a {type(prompt).__name__}, expected a string")
        ids = self.processor.tokenizer(prompt.strip(), add_special_tokens=False)["input_ids"]
        longest = cast(int, self.model.config.max_text_length) - 2  # without the first and the last token of a caption
        if not 0 < len(ids) < longest:
            raise ValueError(f"prompt={prompt!r} has {len(ids)} tokens; expected 1 to {longest - 1}")
        return list(ids)

    def _windows(self, motion: Motion, number: int, window_s: float | None) -> list[MotionWindow]:
        longest = MAX_CLIP_FRAMES
        if window_s is not None:
            longest = num_frames_of("window_s", window_s, self.fps, 2 * self.frames_per_token)
        total = len(motion.features)
        count = math.ceil(total / longest)
        bounds = [round(total * place / count) for place in range(count + 1)]
        timed = count > 1 or window_s is not None
        return [
            MotionWindow(number, first, last, motion.features[first:last], timed)
            for first, last in itertools.pairwise(bounds)
        ]

    # ---- the steps that transformers names ----------------------------------------------------------------

    def _sanitize_parameters(
        self, window_s: float | None = None, prompt: str | None = None, **generate_kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        refuse_unknown(type(self).__name__, generate_kwargs, ("window_s", "prompt", *GENERATION_SETTINGS))
        given = {"window_s": window_s, "prompt": prompt}
        return {name: value for name, value in given.items() if value is not None}, generate_kwargs, {}

    def preprocess(self, input_: Sequence[MotionWindow], **kwargs: Any) -> dict[str, Any]:
        """Prepare the normalized features of windows."""
        return dict(self.processor(motion=[window.features for window in input_]))

    def _forward(self, input_tensors: dict[str, Any], **generate_kwargs: Any) -> Any:  # type: ignore[override]
        """Generate token ids and scores."""
        return self.model.caption(**input_tensors, **generate_kwargs)

    def postprocess(self, model_outputs: Any, count: int = 1, **kwargs: Any) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        """Decode the captions of `count` windows, best first for each window."""
        texts = self.processor.tokenizer.batch_decode(model_outputs["sequences"], skip_special_tokens=True)
        scores = model_outputs["scores"].tolist()
        answers = [{"caption": text.strip(), "score": score} for text, score in zip(texts, scores, strict=True)]
        each = len(answers) // count
        groups = [answers[start : start + each] for start in range(0, len(answers), each)]
        return [sorted(group, key=lambda answer: -answer["score"]) for group in groups]


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Check numbers among the generation settings.

    Raises:
        ValueError: A value has the wrong type or is out of bounds; the message gives its name and value.
    """
    for name, most in LARGEST.items():
        value = settings.get(name)
        if value is not None and not whole(value, most):
            raise ValueError(f"{name}={value!r} is not a whole number from 1 to {most:,}")
    for name in NUMERIC_SETTINGS:
        value = settings.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
            raise ValueError(f"{name}={value!r} is not a number")

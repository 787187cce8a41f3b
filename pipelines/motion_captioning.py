"""`pipeline("motion-captioning")`: motions in, sentences out."""

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
from lamp_hf.modeling.modeling_lamp_captioning import LampForMotionCaptioning
from lamp_hf.modeling.modeling_lamp_motion_to_text import LampForMotionToText
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.inputs import as_motion
from lamp_hf.motion.motion import Motion

from .requests import num_frames_of
from .saving import SavedPipeline
from .streams import in_batches, is_stream, refuse_unknown

__all__ = ["MotionCaptioningPipeline"]

BATCH_SIZE = 32
LONGEST_FRAMES = 196  # of the field's training clips; LaMP has seen none that is longer
PROGRESS_DELAY_S = 2.0  # work that is done sooner shows no progress bar
# What transformers' `generate` takes beside the model's inputs, which the motion gives.
GENERATION_SETTINGS = (
    *(name for name in GenerationConfig().to_dict() if name != "transformers_version"),
    *(set(inspect.signature(GenerationMixin.generate).parameters) - {"self", "inputs", "kwargs"}),
)
# What one call may ask for: beyond, it would take all of the memory, which is hardly meant.
LARGEST = {"num_beams": 100, "num_return_sequences": 100, "max_new_tokens": 10_000, "max_length": 10_000}
NUMBERS = ("temperature", "top_p", "length_penalty", "repetition_penalty")
MotionInput = Motion | str | os.PathLike[str] | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Window:
    """A part of a motion that is captioned by itself.

    Args:
        motion: Number of the motion.
        first, last: Its frames, from `first` up to, and without, `last`.
        features: Of these frames, `(last - first, D)`.
        timed: Whether the answer says which part this is.
    """

    motion: int
    first: int
    last: int
    features: np.ndarray
    timed: bool


class MotionCaptioningPipeline(SavedPipeline, Pipeline):
    """Says what happens in a motion.

    Checkpoints of LaMP and of text-to-motion caption with LaMP's own [`LampForMotionToText`], those of a
    [`LampForMotionCaptioning`] with their language model.

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

    Settings given to `pipeline(…)`, such as `num_beams=4`, hold for every call that does not give its own. Threads may
    share a pipeline: nothing of a call is kept.
    """

    task = "motion-captioning"
    model: LampForMotionToText | LampForMotionCaptioning
    processor: LampProcessor

    _load_processor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, LampForMotionToText | LampForMotionCaptioning):
            raise TypeError(
                "motion-captioning needs a LampForMotionToText or a LampForMotionCaptioning, not a "
                f"{type(self.model).__name__}"
            )
        if self.processor is None:
            raise ValueError("motion-captioning needs a processor: give processor=LampProcessor.from_pretrained(…)")
        self.model.eval()

    @property
    def fps(self) -> float:
        """Frames per second of the motions that the model reads; others are resampled."""
        return self.processor.feature_extractor.fps

    @property
    def frames_per_token(self) -> int:
        """Frames of the shortest motion that the model reads."""
        lamp = cast(Any, self.model.lamp)
        return lamp.config.motion_vqvae_config.frames_per_token

    def __call__(  # type: ignore[override]
        self,
        motion: MotionInput | Iterable[MotionInput],
        *,
        window_s: float | None = None,
        batch_size: int | None = None,
        **generate_kwargs: Any,
    ) -> Any:
        """Caption motions.

        Motions of more than 196 frames, longer than any that LaMP was trained on, are captioned window by window.

        Args:
            motion: A [`Motion`]; the path of a file (`.bvh`, `.npy`, `.npz`); an array, features `(T, D)` or joints
                `(T, J, 3)` in meters at the model's frame rate; a list of these; or a generator, a
                `KeyDataset` or another dataset of these, of any length, whose results come as they are asked for.
            window_s: Seconds of a window, 196 frames if not said otherwise. A longer motion is cut into the fewest
                equal windows that are no longer.
            batch_size: Windows captioned together; of a generator or a dataset also the motions that are read at once,
                one if not said otherwise.
            generate_kwargs: Of transformers' `generate`: `num_beams`, `num_return_sequences`, `do_sample`,
                `temperature`, `top_p`, `max_new_tokens`, …

        Returns:
            For one motion a list of dictionaries of `caption` and `score`, one, or with `num_return_sequences` as
            many, best first. The score is the geometric mean of the probabilities that the model gives the caption's
            words, 1 at most. Of motions in windows, and of all if `window_s` is given, each answer also has `start`
            and `end` in seconds, and those of a window follow those of the one before. For a list of motions a list
            of such lists, for a generator or a dataset an iterator of them.

        Raises:
            FileNotFoundError: There is no file of this path.
            MotionFormatError: It cannot be read.
            TypeError: A value of the wrong kind, or an unknown argument.
            ValueError: A value that cannot work, or a motion that does not fit the model.
        """
        refuse_unknown(type(self).__name__, generate_kwargs, ("window_s", "batch_size", *GENERATION_SETTINGS))
        window_s = self._preprocess_params.get("window_s") if window_s is None else window_s
        if window_s is not None:
            num_frames_of("window_s", window_s, self.fps, 2 * self.frames_per_token)
        size = batch_size if batch_size is not None else self._batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"batch_size={size!r} is not a whole number of at least 1")
        settings = {**self._forward_params, **generate_kwargs}
        _check_settings(settings)
        if isinstance(motion, Motion | os.PathLike) or not is_stream(motion):
            return self._caption(motion, window_s, size or BATCH_SIZE, settings)
        return self._stream(motion, window_s, size or 1, settings)

    def _stream(self, motions: Any, window_s: float | None, size: int, settings: dict[str, Any]) -> Iterator[Any]:
        for batch in in_batches(motions, size):
            yield from self._caption(batch, window_s, size, settings, show_progress=False)

    def _caption(
        self, motion: Any, window_s: float | None, size: int, settings: dict[str, Any], show_progress: bool = True
    ) -> Any:
        # 1. Check the inputs: motions at the model's frame rate, in windows.
        single = isinstance(motion, str | os.PathLike | Motion | np.ndarray | torch.Tensor)
        items: Any = [motion] if single else motion
        if not isinstance(items, list | tuple):
            raise TypeError(f"cannot caption a {type(motion).__name__}; give a Motion, a path, an array, or a list")
        if not items:
            raise ValueError("no motion was given")
        motions = [self.read_motion(item) for item in items]
        windows = [window for number, item in enumerate(motions) for window in self._windows(item, number, window_s)]

        # 2. For each batch of windows of like lengths: tensors, token ids and scores, captions.
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

        # 3. One list of answers for each motion.
        results: list[list[dict[str, Any]]] = [[] for _ in motions]
        for window, captions_of_window in zip(windows, answers, strict=True):
            times = {"start": window.first / self.fps, "end": window.last / self.fps} if window.timed else {}
            results[window.motion] += [{**answer, **times} for answer in captions_of_window]
        return results[0] if single else results

    # ---- inputs -------------------------------------------------------------------------------------------

    def read_motion(self, item: MotionInput) -> Motion:
        """A motion, in any form that a call takes, at the model's frame rate and long enough to be read.

        Raises:
            FileNotFoundError, MotionFormatError, TypeError, ValueError: As a call.
        """
        extractor = self.processor.feature_extractor
        if not isinstance(item, Motion | str | os.PathLike | np.ndarray | torch.Tensor):
            raise TypeError(f"cannot caption a {type(item).__name__}; give a Motion, a path or an array")
        is_array = isinstance(item, np.ndarray | torch.Tensor)
        motion = as_motion(item, fps=extractor.fps if is_array else None)
        if abs(motion.fps - extractor.fps) > 1e-3:
            motion = motion.resample(extractor.fps)
        extractor(motion)  # refuses another skeleton and values that are not finite, and says what to do
        if (frames := len(motion.features)) < self.frames_per_token:
            raise ValueError(
                f"{motion.name or 'a motion'} has {frames} frames at {extractor.fps:g} fps; the shortest that the "
                f"model reads has {self.frames_per_token}"
            )
        return motion

    def _windows(self, motion: Motion, number: int, window_s: float | None) -> list[Window]:
        longest = LONGEST_FRAMES
        if window_s is not None:
            longest = num_frames_of("window_s", window_s, self.fps, 2 * self.frames_per_token)
        total = len(motion.features)
        count = math.ceil(total / longest)
        bounds = [round(total * place / count) for place in range(count + 1)]
        timed = count > 1 or window_s is not None
        return [
            Window(number, first, last, motion.features[first:last], timed)
            for first, last in itertools.pairwise(bounds)
        ]

    # ---- the steps that transformers names ----------------------------------------------------------------

    def _sanitize_parameters(
        self, window_s: float | None = None, **generate_kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        refuse_unknown(type(self).__name__, generate_kwargs, ("window_s", *GENERATION_SETTINGS))
        return {} if window_s is None else {"window_s": window_s}, generate_kwargs, {}

    def preprocess(self, input_: Sequence[Window], **kwargs: Any) -> dict[str, Any]:
        """Normalized features of windows."""
        return dict(self.processor(motion=[window.features for window in input_]))

    def _forward(self, input_tensors: dict[str, Any], **generate_kwargs: Any) -> Any:  # type: ignore[override]
        """Token ids and scores."""
        return self.model.caption(**input_tensors, **generate_kwargs)

    def postprocess(self, model_outputs: Any, count: int = 1, **kwargs: Any) -> list[list[dict[str, Any]]]:  # type: ignore[override]
        """Captions of each of `count` windows, best first."""
        texts = self.processor.tokenizer.batch_decode(model_outputs["sequences"], skip_special_tokens=True)
        scores = model_outputs["scores"].tolist()
        answers = [{"caption": text.strip(), "score": score} for text, score in zip(texts, scores, strict=True)]
        each = len(answers) // count
        groups = [answers[start : start + each] for start in range(0, len(answers), each)]
        return [sorted(group, key=lambda answer: -answer["score"]) for group in groups]


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that cannot work, by name and value.

    Raises:
        ValueError: One is of another type than expected, or out of bounds.
    """
    for name, most in LARGEST.items():
        value = settings.get(name)
        if value is not None and not whole(value, most):
            raise ValueError(f"{name}={value!r} is not a whole number from 1 to {most:,}")
    for name in NUMBERS:
        value = settings.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | np.number)):
            raise ValueError(f"{name}={value!r} is not a number")

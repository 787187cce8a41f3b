"""`pipeline("text-to-motion")`: generates motions from sentences."""

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import Pipeline

from lamp_hf.modeling.configuration_generation_lamp import MaskedMotionGenerationConfig, whole
from lamp_hf.modeling.generation_lamp import MaskedMotionGenerationOutput, MotionDecoder, StepCallback
from lamp_hf.modeling.masked_decoding import draw_seed
from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
from lamp_hf.modeling.processing_lamp import LampProcessor
from lamp_hf.motion.limits import check_prompt
from lamp_hf.motion.motion import Motion

from .actions import split_actions
from .editing import editable, paste
from .familiarity import THRESHOLD, Familiarity, KnownSentences
from .requests import MAX_MOTIONS, MotionRequest, checked_number, num_frames_of, per_text
from .saving import SavedPipeline
from .streams import in_batches, is_stream, refuse_unknown
from .text_warnings import CutTextWarning, EditWarning, SeveralActionsWarning, UnfamiliarTextWarning, warn

__all__ = ["TextToMotionPipeline"]

Span = tuple[float, float | None]
BATCH_SIZE = 64
# Lower limit of lengths that the model chooses. It was also trained on clips of half a second, such as a single step,
# but "a person runs" should give a longer motion.
SHORTEST_CHOSEN_S = 2.0
# Settings of a call, besides the generation settings, that `pipeline(…)` accepts too.
CALL_SETTINGS = ("duration", "num_frames", "num_motions_per_prompt", "negative_prompt", "split", "step_callback")
PROGRESS_DELAY_S = 2.0  # faster calls show no progress bar


class TextToMotionPipeline(SavedPipeline, Pipeline):
    """Generates motions from text with a [`LampForTextToMotion`].

    ```python
    >>> import lamp_hf
    >>> from transformers import pipeline

    >>> pipe = pipeline("text-to-motion")
    >>> result = pipe("a person waves", duration=2.0, seed=1)
    >>> result["num_frames"], result["seed"], result["motion"].fps
    (40, 1, 20.0)

    ```

    Settings given to `pipeline(…)`, such as `guidance_scale=2.0` or `duration=3.0`, are the defaults of every call.
    Threads may share a pipeline, because calls do not change it.
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
            raise TypeError(f"text-to-motion needs a LampForTextToMotion, got a {type(self.model).__name__}")
        if self.processor is None:
            raise ValueError("text-to-motion needs a processor; give processor=LampProcessor.from_pretrained(…)")
        self.model.eval()
        self._progress_bar_config: dict[str, Any] = {}
        self._known: tuple[list[str], KnownSentences] | None = None

    @property
    def fps(self) -> float:
        """Frame rate of the motions, frames per second."""
        return self.processor.feature_extractor.fps

    @property
    def frames_per_token(self) -> int:
        """Number of frames per motion token."""
        return self.model.config.motion_vqvae_config.frames_per_token

    def set_progress_bar_config(self, **config: Any) -> None:
        """Set arguments of tqdm for the progress bar, which appears if a call takes more than two seconds.

        By default it appears in terminals and notebooks; `disable=True` hides it, `disable=False` also writes it to
        files.
        """
        self._progress_bar_config = config

    # ---- calls --------------------------------------------------------------------------------------------

    def __call__(  # type: ignore[override]
        self,
        text: str | Iterable[str],
        *,
        duration: float | Sequence[float] | None = None,
        num_frames: int | Sequence[int] | None = None,
        num_motions_per_prompt: int | None = None,
        seed: int | Sequence[int] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        motion: Motion | Sequence[Motion] | None = None,
        edit: Span | Sequence[Span] | None = None,
        split: bool | None = None,
        step_callback: StepCallback | None = None,
        batch_size: int | None = None,
        **generation_settings: Any,
    ) -> Any:
        """Generate motions from texts, or change parts of given motions.

        The same text, seed and length give the same motion alone and in any batch.

        With `motion` and `edit`, only frames within the spans change. The features of all other frames are returned bit
        for bit. Features describe a frame relative to the body and to the frame before, so the motion after an edit
        continues from the place and in the direction in which the edited part ends.

        Args:
            text: Description of the motion: one text, a list of texts, or a generator, a `KeyDataset` or another
                dataset of texts. A generator or a dataset may have any length; its results are generated when
                requested.
            duration: Length in seconds, one for all texts or one for each. Without `duration` and `num_frames`, the
                model chooses a length of at least two seconds.
            num_frames: Length in frames, instead of `duration`.
            num_motions_per_prompt: Number of motions per text, up to 1,000.
            seed: One seed for all texts, one for each text, or one for each motion. The j-th motion (from 0) of a text
                with the seed s has the seed s + j. By default, seeds are drawn; the results contain them.
            negative_prompt: Text that the motions should not show, one for all texts or one for each.
            motion: Motion to change, one for all texts or one for each, with the frame rate and the skeleton of the
                model.
            edit: Span of `motion` to change, `(start, end)` in seconds, or a list of spans. An end of `None` is the end
                of the motion. An end after the motion is moved to its end, with a warning.
            split: Whether to generate a storyboard for each text that names several actions, such as "a man walks
                forward then waves"; a `duration` is divided among the actions.
            step_callback: Called after each step with the number of steps done, the total number of steps, and the
                token ids of the motions of the batch.
            batch_size: Number of motions to generate together.
            generation_settings: Values of [`MaskedMotionGenerationConfig`]: `guidance_scale` (1 turns guidance off;
                larger values follow the text more closely), `num_inference_steps` (decoding steps), `temperature` (0
                takes the most likely tokens; values above 1 give more variety), `top_k`, `top_p`, `remasking_noise`.

        Returns:
            For one text, a dictionary of `motion` ([`Motion`]), `text`, `seed`, `num_frames` and `familiarity` (1 for
            texts like those in the training data, less for others, `None` if the checkpoint has no `example_texts`);
            with `num_motions_per_prompt` above 1, a list of dictionaries. For a list of texts, a list of such results;
            for a generator or a dataset, an iterator of them.

        Raises:
            TypeError: A value has the wrong type, or an argument is unknown.
            ValueError: A value is invalid, lists have different lengths, or a motion does not fit the model.

        Warns:
            CutTextWarning, EditWarning, SeveralActionsWarning, UnfamiliarTextWarning: The motion may not match the
                request.
        """
        given = {
            "duration": duration,
            "num_frames": num_frames,
            "num_motions_per_prompt": num_motions_per_prompt,
            "negative_prompt": negative_prompt,
            "split": split,
            "step_callback": step_callback,
        }
        options = {**self._preprocess_params, **{name: value for name, value in given.items() if value is not None}}
        if duration is not None and num_frames is None:
            options.pop("num_frames", None)  # the pipeline's; a call with one of the two overrides both
        elif num_frames is not None and duration is None:
            options.pop("duration", None)
        settings = self._settings(generation_settings)
        size = batch_size if batch_size is not None else self._batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f"batch_size={size!r} is not a whole number of at least 1")
        options |= {"seed": seed, "motion": motion, "edit": edit}
        if not is_stream(text):
            single = isinstance(text, str)
            texts: Any = [text] if single else text
            results = self._generate(texts, size or BATCH_SIZE, settings, **options)
            return results[0] if single else results
        for name, value in options.items():
            if isinstance(value, list) or (isinstance(value, tuple) and name != "edit"):
                raise ValueError(f"{name} is a list; for a generator or a dataset of texts, give one value for all")
        return self._stream(cast("Iterable[str]", text), size or 1, settings, options)

    def _stream(
        self, texts: Iterable[str], size: int, settings: dict[str, Any], options: dict[str, Any]
    ) -> Iterator[Any]:
        for batch in in_batches(texts, size):
            yield from self._generate(batch, size, settings, show_progress=False, **options)

    def _generate(
        self,
        text: Sequence[str],
        batch_size: int,
        settings: dict[str, Any],
        *,
        seed: Any,
        motion: Any,
        edit: Any,
        duration: Any = None,
        num_frames: Any = None,
        num_motions_per_prompt: int = 1,
        negative_prompt: Any = None,
        split: bool = False,
        step_callback: StepCallback | None = None,
        show_progress: bool = True,
    ) -> list[Any]:
        """Return one result for each text, or one list of results."""
        # 1. Check the inputs and make a request for each motion.
        texts = self._check_texts(text)
        lengths = self._check_lengths(len(texts), duration, num_frames)
        motions, spans = self._check_edit(len(texts), motion, edit)
        if motion is not None and (duration is not None or num_frames is not None):
            raise ValueError("an edited motion keeps its length; leave out duration and num_frames")
        negatives = per_text("negative_prompt", negative_prompt, len(texts), str)
        for negative in negatives:
            if negative:
                check_prompt(negative, "negative_prompt")
        seeds = self._check_seeds(seed, len(texts), num_motions_per_prompt)
        if split not in (True, False):
            raise TypeError(f"split={split!r} is not True or False")
        if split and motion is not None:
            raise ValueError("split=True cannot be combined with motion=; make one edit per action")
        parts = [split_actions(item) if split else [item] for item in texts]
        known = self._check_familiarity(texts, parts, edits=motion is not None)
        requests = [
            MotionRequest(
                texts[i],
                seeds[i * num_motions_per_prompt + j],
                lengths[i],
                negatives[i],
                motions[i],
                spans[i],
                known[i],
            )
            for i in range(len(texts))
            for j in range(num_motions_per_prompt)
        ]
        scenes = [parts[i] for i in range(len(texts)) for _ in range(num_motions_per_prompt)]
        simple = [index for index, sentences in enumerate(scenes) if len(sentences) == 1]
        batches = [simple[start : start + batch_size] for start in range(0, len(simple), batch_size)]

        # 2. For each batch: preprocess the requests, generate, and postprocess the motions.
        results: list[Any] = [None] * len(requests)
        with self._progress_bar(show_progress) as bar:
            for indices in batches:
                batch = [requests[index] for index in indices]
                inputs = self.preprocess(batch)
                on_step = _Progress(bar, 100 * len(batch) / len(requests), step_callback)
                outputs = self.forward(inputs, step_callback=on_step, **settings)
                for index, result in zip(indices, self.postprocess(outputs, requests=batch), strict=True):
                    results[index] = result
            for index, request in enumerate(requests):
                if len(scenes[index]) > 1:
                    on_step = _Progress(bar, 100 / len(requests), step_callback)
                    results[index] = self._storyboard(scenes[index], None, request, settings, on_step)

        # 3. Group the results by text.
        if num_motions_per_prompt == 1:
            return results
        groups = range(0, len(results), num_motions_per_prompt)
        return [results[start : start + num_motions_per_prompt] for start in groups]

    def storyboard(
        self,
        scenes: Sequence[tuple[str, float | None]],
        *,
        seed: int | None = None,
        negative_prompt: str | None = None,
        step_callback: StepCallback | None = None,
        **generation_settings: Any,
    ) -> dict[str, Any]:
        """Generate one continuous motion of any length from a sequence of scenes.

        Each scene is generated from its own text. Then the motion around each seam is generated again, with both sides
        visible to the model.

        ```python
        >>> scenes = [("a person walks", 3.0), ("the person bows", 2.5)]
        >>> result = pipe.storyboard(scenes, seed=1)
        >>> result["num_frames"], result["scenes"][1]
        (110, ('the person bows', 3.0, 5.5))

        ```

        Args:
            scenes: Text and length in seconds of each scene; with a length of `None`, the model chooses.
            seed: Seed of the whole motion; drawn by default.
            negative_prompt, step_callback, generation_settings: As in a call of the pipeline.

        Returns:
            A dictionary of `motion`, `text` (all texts), `seed`, `num_frames`, `familiarity` (the lowest of all scenes)
            and `scenes`, a list of the text, the start and the end in seconds of each scene.

        Raises:
            TypeError: A value has the wrong type, or an argument is unknown.
            ValueError: A value is invalid.
        """
        if isinstance(scenes, str) or not all(isinstance(scene, list | tuple) and len(scene) == 2 for scene in scenes):
            raise TypeError('scenes must be a list of (text, seconds), such as [("a person walks", 3.0), …]')
        texts = self._check_texts([text for text, _ in scenes])
        lengths = [None if seconds is None else checked_number("seconds", seconds) for _, seconds in scenes]
        for seconds in lengths:
            if seconds is not None:
                num_frames_of("seconds", seconds, self.fps, self.frames_per_token)
        if sum(seconds or 0 for seconds in lengths):
            num_frames_of("seconds", sum(seconds or 0 for seconds in lengths), self.fps, self.frames_per_token)
        if negative_prompt is not None:
            check_prompt(negative_prompt, "negative_prompt")
        [used_seed] = self._check_seeds(seed, 1, 1)
        settings = self._settings(generation_settings)
        known = self._check_familiarity(texts, [[text] for text in texts], edits=False)
        least = min((item for item in known if item is not None), default=None)
        request = MotionRequest("; ".join(texts), used_seed, None, negative_prompt, familiarity=least)
        with self._progress_bar(True) as bar:
            on_step = _Progress(bar, 100, step_callback)
            return self._storyboard(texts, lengths, request, settings, on_step)

    def _storyboard(
        self,
        texts: Sequence[str],
        seconds: Sequence[float | None] | None,
        request: MotionRequest,
        settings: dict[str, Any],
        on_step: StepCallback,
    ) -> dict[str, Any]:
        """Generate the storyboard of a request.

        Args:
            texts: Text of each scene.
            seconds: Length of each scene in seconds; the model chooses lengths that are `None`. If `seconds` is `None`,
                the model chooses all lengths, and they are scaled to the frames of the request, if it has a length.
            request: Request for the whole motion.
            settings: Generation settings.
            on_step: Called after each step.
        """
        inputs = self._tokenize(list(texts))
        lengths_s: list[Any] = list(seconds) if seconds is not None else [None] * len(texts)
        if any(length is None for length in lengths_s):
            tokens = self._chosen_tokens(inputs)
            chosen = [count * self.frames_per_token / self.fps for count in tokens]
            lengths_s = [own if length is None else length for own, length in zip(chosen, lengths_s, strict=True)]
            if seconds is None and request.num_frames is not None:
                shortest = len(texts) * self.frames_per_token
                if request.num_frames < shortest:
                    raise ValueError(
                        f"{len(texts)} actions do not fit into {request.num_frames} frames; they need {shortest}"
                    )
                share = request.num_frames / self.fps / sum(lengths_s)
                lengths_s = [length * share for length in lengths_s]
        # Scenes begin and end at token boundaries. Rounding their ends, not their lengths, keeps errors from adding up.
        ends_s = np.cumsum(lengths_s)
        num_frames = round(ends_s[-1] * self.fps)
        ends = [math.floor(end * self.fps / self.frames_per_token + 0.5) for end in ends_s[:-1]]
        ends.append(math.ceil(num_frames / self.frames_per_token))
        for place in range(len(ends)):  # a scaled scene may be shorter than a token
            ends[place] = max(ends[place], place + 1)
        inputs |= self._tokenize_negative([request.negative])
        inputs |= {"num_tokens": np.diff(ends, prepend=0).tolist(), "seed": request.seed}
        outputs = self.forward(inputs, step_callback=on_step, storyboard=True, **settings)
        whole_request = MotionRequest(
            "; ".join(texts) if seconds is not None else request.text,
            request.seed,
            num_frames,
            familiarity=request.familiarity,
        )
        [result] = self.postprocess(outputs, requests=[whole_request])
        result["scenes"] = list(zip(texts, [0.0, *ends_s[:-1].tolist()], ends_s.tolist(), strict=True))
        return result

    # ---- what the model knows ---------------------------------------------------------------------------

    @property
    def known_sentences(self) -> KnownSentences | None:
        """Sentences that the checkpoint was trained on; `None` if its processor has no `example_texts`."""
        examples = self.processor.example_texts
        if not examples:
            return None
        known = self._known
        if known is None or known[0] != examples:
            embeddings = cast(torch.nn.Embedding, self.model.lamp.get_input_embeddings()).weight
            known = (list(examples), KnownSentences(examples, self.processor.text_encoder, embeddings))
            self._known = known
        return known[1]

    def suggest(self, text: str, count: int = 5) -> list[str]:
        """Return the sentences in the training data that are nearest to a text, nearest first.

        ```python
        >>> len(pipe.suggest("a person plays the guitar", count=3))
        3

        ```

        Args:
            text: Description of a motion.
            count: Number of sentences.

        Raises:
            TypeError: `text` is not a string.
            ValueError: A value is invalid, or the processor of the checkpoint has no `example_texts`.
        """
        known = self.known_sentences
        if known is None:
            raise ValueError(
                "this checkpoint does not list its training texts; suggest needs a processor with example_texts"
            )
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count={count!r} is not a whole number of at least 1")
        return known.suggest(check_prompt(text), count)

    # ---- the steps that transformers names ---------------------------------------------------------------

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        settings = MaskedMotionGenerationConfig.fields
        refuse_unknown(type(self).__name__, kwargs, (*CALL_SETTINGS, *settings))
        of_calls = {name: value for name, value in kwargs.items() if name in CALL_SETTINGS and value is not None}
        return of_calls, {name: value for name, value in kwargs.items() if name in settings}, {}

    def preprocess(self, input_: Sequence[MotionRequest], **kwargs: Any) -> dict[str, Any]:
        """Prepare the arguments of the model's `generate` for a batch of requests."""
        inputs = self._tokenize([request.text for request in input_])
        inputs |= self._tokenize_negative([request.negative for request in input_])
        inputs["seed"] = [request.seed for request in input_]
        if input_[0].motion is not None:
            inputs |= self._encode_edits(input_)
        elif input_[0].num_frames is not None:
            inputs["num_tokens"] = [math.ceil((request.num_frames or 0) / self.frames_per_token) for request in input_]
        else:
            inputs["num_tokens"] = self._chosen_tokens(inputs)
        return inputs

    def _forward(  # type: ignore[override]
        self, input_tensors: dict[str, Any], storyboard: bool = False, **kwargs: Any
    ) -> MaskedMotionGenerationOutput:
        """Generate tokens and normalized features."""
        generate = self.model.generate_storyboard if storyboard else self.model.generate
        return generate(**input_tensors, **kwargs)

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: MaskedMotionGenerationOutput,
        *,
        requests: Sequence[MotionRequest] = (),
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Turn features into motions: cut them to the requested lengths and restore the frames that an edit keeps."""
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
                    "familiarity": request.familiarity,
                }
            )
        return results

    # ---- checks -------------------------------------------------------------------------------------------

    def _check_texts(self, text: Any) -> list[str]:
        if not isinstance(text, list | tuple):
            raise TypeError(f"text is a {type(text).__name__}; expected a string, a list or an iterable of strings")
        if not text:
            raise ValueError("no text was given")
        return [check_prompt(item) for item in text]

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
            raise ValueError(
                "motion= and edit= must be given together: a motion, and the span (start, end) to change in seconds"
            )
        motions: list[Motion | None] = per_text("motion", motion, count, Motion)
        spans: list[tuple[tuple[int, int], ...]] = []
        for item in motions:
            spans.append(() if item is None else self._check_spans(item, edit))
        return [None if item is None else editable(item) for item in motions], spans

    def _check_spans(self, motion: Motion, edit: Any) -> tuple[tuple[int, int], ...]:
        """Return the spans in frames; spans that touch are merged."""
        self.processor.feature_extractor(motion)  # raises an error if the frame rate or the skeleton is wrong
        total = motion.num_frames
        several = isinstance(edit, list | tuple) and len(edit) and all(isinstance(span, list | tuple) for span in edit)
        chosen: list[tuple[int, int]] = []
        for span in edit if several else [edit]:
            if not isinstance(span, list | tuple) or len(span) != 2:
                raise TypeError(f"edit={edit!r}; expected (start, end) in seconds, or a list of such spans")
            start = checked_number("edit", span[0])
            end = motion.duration if span[1] is None else checked_number("edit", span[1])
            if not 0 <= start < min(end, motion.duration):
                raise ValueError(
                    f"edit=({start:g}, {end:g}) is not within the motion, which lasts {motion.duration:g} s"
                )
            if end > motion.duration + 0.5 / self.fps:
                warn(
                    EditWarning,
                    f"edit=({start:g}, {end:g}) ends after the motion, which lasts {motion.duration:g} s. An edit "
                    f"keeps the length of a motion, so only {start:g} to {motion.duration:g} s is edited.",
                )
            first, last = round(start * self.fps), min(round(end * self.fps), total)
            if first >= last:
                raise ValueError(f"edit=({start:g}, {end:g}) contains no frame at {self.fps:g} fps; widen it")
            chosen.append((first, last))
        merged: list[tuple[int, int]] = []
        for first, last in sorted(chosen):
            if merged and first <= merged[-1][1]:
                first, last = merged[-1][0], max(last, merged.pop()[1])
            merged.append((first, last))
        return tuple(merged)

    def _check_seeds(self, seed: Any, texts: int, copies: int) -> list[int]:
        """Return one seed for each motion."""
        if not whole(copies, MAX_MOTIONS):
            raise ValueError(f"num_motions_per_prompt={copies!r} is not a whole number from 1 to {MAX_MOTIONS:,}")
        if seed is None:
            own = cast(MaskedMotionGenerationConfig, self.model.generation_config)
            seed = self._forward_params.get("seed", own.seed)
        if seed is None:
            return [draw_seed() for _ in range(texts * copies)]
        if isinstance(seed, list | tuple) and len(seed) == texts * copies:
            return per_text("seed", seed, texts * copies, int)
        return [start + copy for start in per_text("seed", seed, texts, int) for copy in range(copies)]

    def _settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the generation settings of a call merged into those of the pipeline.

        Raises:
            TypeError: A setting is unknown.
            ValueError: A setting is invalid.
        """
        known = tuple(name for name in MaskedMotionGenerationConfig.fields if name != "seed")
        refuse_unknown(type(self).__name__, given, (*CALL_SETTINGS, "seed", "motion", "edit", "batch_size", *known))
        given = {name: value for name, value in given.items() if value is not None}
        settings = {**self._forward_params, **given}
        settings.pop("seed", None)
        copy.deepcopy(self.model.generation_config).update(**settings)  # raises an error if a value is invalid
        return settings

    def _check_familiarity(
        self, texts: Sequence[str], parts: Sequence[Sequence[str]], edits: bool
    ) -> list[float | None]:
        """Return the familiarity of each text; warn if a text is unfamiliar, too long, or names several actions.

        Args:
            texts: Texts of the call.
            parts: Sentences from which motions are generated, for each text.
            edits: Whether motions are edited; then there is no warning about several actions.
        """
        known = self.known_sentences
        found: dict[str, Familiarity | None] = {}
        for sentence in dict.fromkeys(sentence for sentences in parts for sentence in sentences):
            if cut := self.processor.cut_words(sentence):
                warn(
                    CutTextWarning,
                    f"A text is longer than the {self.processor.tokenizer.model_max_length} word pieces that the model "
                    f"reads; ignored: {cut!r}",
                )
            familiarity = found[sentence] = None if known is None else known.familiarity(sentence)
            if familiarity is not None and familiarity.is_low:
                nearest = "; ".join(map(repr, familiarity.nearest))
                warn(
                    UnfamiliarTextWarning,
                    f"{sentence!r} is far from everything that this checkpoint was trained on (familiarity "
                    f"{familiarity.score:.2f}, below {THRESHOLD:.2f}), so the motion may not match it. "
                    f"Nearest known sentences: {nearest}. pipe.suggest(text) and `lamp-hf prompts` list more.",
                )
        if not edits:
            for text, sentences in zip(texts, parts, strict=True):
                actions = split_actions(text) if len(sentences) == 1 else []
                if len(actions) > 1 and not ((own := found[text]) and own.is_known_sequence):
                    warn(
                        SeveralActionsWarning,
                        f"{text!r} names {len(actions)} actions, but a motion usually shows only the first: "
                        f"{'; '.join(map(repr, actions))}. To generate them one after the other, use "
                        "pipe(text, split=True) or `lamp-hf generate --split`.",
                    )
        scores = [[found[sentence] for sentence in sentences] for sentences in parts]
        return [min((item.score for item in items if item is not None), default=None) for items in scores]

    # ---- tensors ------------------------------------------------------------------------------------------

    def _tokenize(self, texts: list[str]) -> dict[str, Any]:
        return dict(self.processor(text=texts))

    def _chosen_tokens(self, inputs: dict[str, Any]) -> list[int]:
        """Return the numbers of tokens that the model chooses for texts, at least `SHORTEST_CHOSEN_S`."""
        model = self.model
        decoder = MotionDecoder(model, cast(MaskedMotionGenerationConfig, model.generation_config))
        with torch.no_grad():
            _, lengths = decoder.read(inputs["input_ids"], inputs["attention_mask"])
        if lengths is None:
            raise ValueError(
                "this checkpoint has no length estimator; give duration or num_frames (on the command line --duration)"
            )
        shortest = round(SHORTEST_CHOSEN_S * self.fps / self.frames_per_token)
        return [max(length, min(shortest, model.config.max_motion_tokens)) for length in lengths]

    def _tokenize_negative(self, texts: Sequence[str | None]) -> dict[str, Any]:
        if all(text is None for text in texts):
            return {}
        negative = self._tokenize([text or "" for text in texts])
        return {f"negative_{name}": tensor for name, tensor in negative.items()}

    def _encode_edits(self, requests: Sequence[MotionRequest]) -> dict[str, torch.Tensor]:
        """Return the tokens of the motions to edit and the mask of the tokens to decode again."""
        step = self.frames_per_token
        clips = []
        for request in requests:
            assert request.motion is not None
            features = request.motion.features
            # If the last frames do not fill a token, the last frame is repeated.
            clips.append(np.pad(features, ((0, -len(features) % step), (0, 0)), mode="edge"))
        encoded = self.processor(motion=clips).to(self.model.device)
        with torch.no_grad():
            codes = self.model.lamp.encode_motion(**encoded).motion_codes
        edit_mask = torch.zeros(codes.shape[:2], dtype=torch.bool, device=codes.device)
        for row, request in enumerate(requests):
            for first, last in request.spans:
                edit_mask[row, first // step : math.ceil(last / step)] = True
        return {"motion_codes": codes, "edit_mask": edit_mask}

    def _progress_bar(self, shown: bool) -> tqdm:
        layout = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        options = {"disable": None, "delay": PROGRESS_DELAY_S, "bar_format": layout, **self._progress_bar_config}
        return tqdm(total=100, **(options if shown else {"disable": True}))


class _Progress:
    """Step callback that updates a progress bar and calls the user's callback.

    Args:
        bar: Progress bar.
        worth: Share of the bar that the whole batch fills.
        callback: The user's step callback, if any.
    """

    def __init__(self, bar: tqdm, worth: float, callback: StepCallback | None):
        self.bar = bar
        self.worth = worth
        self.callback = callback

    def __call__(self, done: int, total: int, tokens: list[torch.Tensor]) -> None:
        self.bar.update(self.worth / total)
        if self.callback is not None:
            self.callback(done, total, tokens)

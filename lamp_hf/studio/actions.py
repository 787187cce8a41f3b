"""What the studio can do: functions from motions and texts to motions and texts, without a page."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamp_hf.motion.limits import check_prompt
from lamp_hf.motion.motion import Motion
from lamp_hf.pipelines.actions import split_actions
from lamp_hf.pipelines.editing import editable
from lamp_hf.pipelines.text_warnings import TextToMotionWarning
from lamp_hf.serving.limits import Limits

from .models import StudioModels
from .sessions import Clip, Job

__all__ = [
    "TAKES",
    "Advice",
    "Hit",
    "Settings",
    "advise",
    "caption",
    "edit_span",
    "extend",
    "generate_storyboard",
    "generate_takes",
    "search",
]

TAKES = 4
HITS = 4
BEAMS = 4
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """Settings of a generation.

    Attributes:
        seed: Seed; drawn if `None`.
        guidance: Guidance scale; the checkpoint's if `None`.
        avoid: Text that the motions should not show.
    """

    seed: int | None = None
    guidance: float | None = None
    avoid: str = ""

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the pipeline."""
        given = {"seed": self.seed, "guidance_scale": self.guidance, "negative_prompt": self.avoid.strip() or None}
        return {name: value for name, value in given.items() if value is not None}


CHOSEN_BY_MODEL = Settings()


@dataclass(frozen=True)
class Advice:
    """What a user should know about a text.

    Attributes:
        unknown: Whether the text is far from everything that the model was trained on.
        nearest: Known sentences that are nearest to an unknown text.
        actions: The actions of a text that names several, of which a motion shows only the first.
        ignored: Words at the end of the text that the model does not read.
    """

    text: str
    unknown: bool = False
    nearest: Sequence[str] = ()
    actions: Sequence[str] = ()
    ignored: str = ""

    def __bool__(self) -> bool:
        return bool(self.unknown or self.actions or self.ignored)


@dataclass(frozen=True)
class Hit:
    """A motion or a sentence that a search found.

    Attributes:
        text: Captions of the motion, or the sentence.
        score: Cosine similarity.
        motion: The motion; `None` for a sentence.
    """

    text: str
    score: float
    motion: Motion | None = None


# ---- generation -------------------------------------------------------------------------------------------


def generate_takes(
    models: StudioModels,
    text: str,
    *,
    seconds: float | None = None,
    settings: Settings = CHOSEN_BY_MODEL,
    job: Job | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Generate `TAKES` variations of a text.

    Args:
        models: The pipelines.
        text: Description of the motion.
        seconds: Length; the model chooses if `None`.
        settings: Settings of the generation. The variations have the seed and the numbers after it.
        job: Job that can be canceled.
        progress: Called with the number of steps done and of all steps.

    Returns:
        Results of [`TextToMotionPipeline`].

    Raises:
        CanceledError: The job was canceled.
        ValueError: A value is invalid or beyond the limits.
    """
    check_prompt(text)
    _check_seconds(seconds, models.limits)
    with _quiet():
        results: list[dict[str, Any]] = models.writer(
            text.strip(),
            duration=seconds,
            num_motions_per_prompt=TAKES,
            step_callback=_steps(job, progress),
            **settings.arguments(),
        )
    return results


def generate_storyboard(
    models: StudioModels,
    scenes: Sequence[tuple[str, float | None]],
    *,
    settings: Settings = CHOSEN_BY_MODEL,
    job: Job | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Generate one continuous motion from scenes; scenes without text are left out.

    Args:
        models: The pipelines.
        scenes: Text and length in seconds of each scene; the model chooses lengths that are `None`.
        settings, job, progress: See [`generate_takes`].

    Raises:
        CanceledError: The job was canceled.
        ValueError: A value is invalid or beyond the limits.
    """
    given = [(text.strip(), seconds) for text, seconds in scenes if text and text.strip()]
    if not given:
        raise ValueError("the storyboard is empty; write at least one scene")
    for _, seconds in given:
        _check_seconds(seconds, models.limits)
    _check_seconds(sum(seconds or 0.0 for _, seconds in given) or None, models.limits, "the storyboard")
    with _quiet():
        result = models.writer.storyboard(given, step_callback=_steps(job, progress), **settings.arguments())
    return Clip(result["motion"], result["scenes"])


def edit_span(
    models: StudioModels,
    clip: Clip,
    text: str,
    start: float,
    end: float,
    *,
    settings: Settings = CHOSEN_BY_MODEL,
    job: Job | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Generate a span of a motion again from a text; the other frames stay.

    Args:
        models: The pipelines.
        clip: The motion.
        text: Description of the span.
        start, end: The span in seconds.
        settings, job, progress: See [`generate_takes`].

    Raises:
        CanceledError: The job was canceled.
        ValueError: A value is invalid.
    """
    check_prompt(text)
    end = min(end, clip.motion.duration)
    if not 0 <= start < end:
        raise ValueError(f"the span from {start:g} s to {end:g} s is empty; drag over a part of the time line")
    with _quiet():
        result = models.writer(
            text.strip(),
            motion=clip.motion,
            edit=(start, end),
            step_callback=_steps(job, progress),
            **settings.arguments(),
        )
    return Clip(result["motion"].with_text(clip.motion.text or text.strip()), clip.scenes)


def extend(
    models: StudioModels,
    clip: Clip,
    text: str,
    seconds: float,
    *,
    settings: Settings = CHOSEN_BY_MODEL,
    job: Job | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Continue a motion: generate frames after its end that follow from it.

    Args:
        models: The pipelines.
        clip: The motion.
        text: Description of what follows.
        seconds: Length of what follows.
        settings, job, progress: See [`generate_takes`].

    Returns:
        The whole motion, with a scene for what follows.

    Raises:
        CanceledError: The job was canceled.
        ValueError: A value is invalid or beyond the limits.
    """
    check_prompt(text)
    if seconds is None or not seconds > 0:
        raise ValueError("the continuation has no length; choose the seconds to add")
    motion = editable(clip.motion)
    _check_seconds(motion.duration + seconds, models.limits, "the motion")
    more = round(seconds * motion.fps)
    held = np.pad(motion.features, ((0, more), (0, 0)), mode="edge")  # the model replaces the frames that are added
    longer = Clip(Motion(features=held, fps=motion.fps, skeleton=motion.skeleton, text=clip.motion.text))
    start, end = motion.duration, longer.motion.duration
    made = edit_span(models, longer, text, start, end, settings=settings, job=job, progress=progress)
    before = list(clip.scenes) or [(clip.motion.text or "start", 0.0, start)]
    scenes = [*before, (text.strip(), start, end)]
    return Clip(made.motion.with_text("; ".join(scene[0] for scene in scenes)), scenes)


# ---- what the model knows ---------------------------------------------------------------------------------


def advise(models: StudioModels, text: str) -> Advice:
    """Return what a user should know about a text before looking at the motion."""
    text = check_prompt(text).strip()
    known = models.writer.known_sentences
    familiarity = None if known is None else known.familiarity(text)
    unknown = familiarity is not None and familiarity.is_low
    parts = split_actions(text)
    several = len(parts) > 1 and not (familiarity is not None and familiarity.is_known_sequence)
    return Advice(
        text,
        unknown=unknown,
        nearest=models.writer.suggest(text) if unknown else (),
        actions=parts if several else (),
        ignored=models.writer.processor.cut_words(text) or "",
    )


def caption(models: StudioModels, motion: Motion, *, job: Job | None = None) -> list[dict[str, Any]]:
    """Describe a motion: its captions, best first, or those of each window of a long motion in order.

    Raises:
        CanceledError: The job was canceled.
        ValueError: The motion cannot be read by the model.
    """
    if job is not None:
        job.check()
    answers: list[dict[str, Any]] = models.captioner(motion, num_beams=BEAMS)
    return answers


def search(
    models: StudioModels, query: str | Motion, *, job: Job | None = None, count: int = HITS
) -> tuple[list[Hit], list[Hit]]:
    """Find motions like a motion, or for a text, and the known sentences that are nearest to a motion.

    Args:
        models: The pipelines.
        query: A motion or a text.
        job: Job that can be canceled.
        count: Number of hits of each kind.

    Returns:
        Motions of the index, if the studio has one, and sentences; best first.

    Raises:
        CanceledError: The job was canceled.
        ValueError: The query cannot be read by the model, or there is nothing to search.
    """
    if job is not None:
        job.check()
    if isinstance(query, str):
        if models.search is None:
            raise ValueError("this studio has no motions to search; start it with --index and a folder of motions")
        check_prompt(query, "the text to search for")
        return _motions(models.search, query, count), []
    motion = models.captioner.read_motion(query)
    motions = [] if models.search is None else _motions(models.search, motion, count)
    if not models.known_sentences:
        return motions, []
    [encoded] = models.encoder.encode_motions([motion.features])
    # As in the index: a text matches a motion as well as its best query token does.
    scores = (models.known_vectors @ encoded.features.T).max(axis=1)
    order = np.argsort(-scores, kind="stable")[:count]
    return motions, [Hit(models.known_sentences[k], float(scores[k])) for k in order]


def _motions(pipe: Any, query: str | Motion, count: int) -> list[Hit]:
    hits = []
    for found in pipe(query, top_k=count):
        text = "; ".join(found["captions"][:3]) or found["id"]
        motion = None if found["file"] is None else Motion.load(found["file"], **pipe.reader_options).with_text(text)
        hits.append(Hit(text, found["score"], motion))
    return hits


# ---- checks -----------------------------------------------------------------------------------------------


def _check_seconds(seconds: float | None, limits: Limits, what: str = "a motion") -> None:
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= limits.max_seconds):
        raise ValueError(f"{what} of {seconds:g} s is not possible here; choose up to {limits.max_seconds:g} s")


def _steps(job: Job | None, progress: Progress | None) -> Callable[[int, int, Any], None]:
    """Return a step callback that ends a canceled job and shows the progress of the others."""
    if job is not None:
        job.check()  # it may have been canceled while it waited for others

    def on_step(done: int, total: int, _: Any) -> None:
        if job is not None:
            job.check()
        if progress is not None:
            progress(done, total)

    return on_step


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about texts, which the page shows itself; see `advise`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextToMotionWarning)
        yield

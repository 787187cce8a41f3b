"""A sample of what a checkpoint makes, for its card."""

from pathlib import Path
from typing import Any

from lamp_hf.motion.inputs import as_motion
from lamp_hf.motion.motion import Motion

__all__ = ["SAMPLE_FILE", "write_sample"]

SAMPLE_FILE = "sample.gif"
SENTENCE = "a person waves with both hands"
SIZE_PIXELS = 320
SEED = 1
DURATION_S = 4.0  # of models that do not estimate lengths


def write_sample(folder: Path, task: str | None, output: Path, asked: str | None = None) -> str:
    """Have a checkpoint make something, and draw it.

    Args:
        folder: The checkpoint.
        task: `"text-to-motion"`: it makes a motion of a sentence. `"motion-captioning"`: it captions a motion. Others
            have no sample.
        output: Folder that gets `sample.gif`.
        asked: The sentence, or the motion file; by default one that people know, or what lamp-small makes of it.

    Returns:
        Markdown that shows it, empty where there is nothing to show.
    """
    if task == "text-to-motion":
        text = asked or SENTENCE
        pipe = _pipeline(task, folder)
        length = {} if pipe.model.length_estimator is not None else {"duration": DURATION_S}
        motion = pipe(text, seed=SEED, **length)["motion"]
        _draw(motion, text, output)
        return f"![{text}]({SAMPLE_FILE})\n\nMade by this model of “{text}”, seed {SEED}."
    if task == "motion-captioning":
        pipe = _pipeline(task, folder)
        if asked is None:
            motion, origin = _pipeline("text-to-motion")(SENTENCE, seed=SEED)["motion"], "a motion that lamp-small made"
        else:
            motion, origin = as_motion(asked), f"`{Path(asked).name}`"
        caption = pipe(motion)[0]["caption"]
        _draw(motion, caption, output)
        return f"![{caption}]({SAMPLE_FILE})\n\nWhat this model says of {origin}: “{caption}”."
    return ""


def _pipeline(task: str, folder: Path | None = None) -> Any:
    import transformers

    create: Any = transformers.pipeline  # its type hints know the tasks of transformers alone
    return create(task, model=None if folder is None else str(folder), device="cpu")


def _draw(motion: Motion, caption: str, output: Path) -> None:
    motion.save(output / SAMPLE_FILE, size=SIZE_PIXELS, fps=min(motion.fps, 20.0), caption=caption)

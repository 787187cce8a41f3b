"""Helpers shared by several commands: load a pipeline, write motions, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.motion.files import WRITERS
from lamp_hf.terminal import shown

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion
    from lamp_hf.motion.retarget import Character
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline


__all__ = ["EXACT_FORMATS", "FORMATS", "check_text", "fail", "load_pipeline", "print_table", "save", "say"]

MAX_CHARACTERS = 10_000  # same as in the pipelines, which take seconds to import
EXIT_ERROR = 1
FORMATS = " ".join(WRITERS)
EXACT_FORMATS = (".npy", ".npz")  # store the motion unchanged; the other formats may plant feet


def load_pipeline(model: str | None, device: str | None) -> "TextToMotionPipeline":
    """Load the text-to-motion pipeline of `--model`."""
    import transformers

    checkpoint = find_checkpoint(model, "text-to-motion")
    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    pipe: TextToMotionPipeline = create("text-to-motion", model=checkpoint, device=device)
    return pipe


def check_text(text: str) -> None:
    """Raise an error if a sentence is empty or too long, before a model is loaded."""
    if not text.strip():
        raise ValueError('text is empty; describe what the person does, such as "a person walks"')
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"text has {len(text):,} characters; shorten it to at most {MAX_CHARACTERS:,}")


def save(motion: "Motion", path: Path, plant_feet: bool | None, character: "Character | None" = None) -> str:
    """Write a motion, on a character if there is one, and return a line that describes the file."""
    if character is not None:
        motion.on(character, plant_feet=plant_feet is not False).save(path)
        return f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s, on {character.name}"
    options = {} if path.suffix.lower() in EXACT_FORMATS else {"plant_feet": plant_feet}
    report = motion.save(path, **options)
    text = f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s"
    error = getattr(report, "mean_error_m", None)
    return text if error is None else f"{text}, mean joint error {error * 1000:.1f} mm"


def print_table(rows: dict[str, Any]) -> None:
    """Print names and values in two aligned columns."""
    width = max(map(len, rows))
    for name, value in rows.items():
        say(f"{name:<{width}}  {value}")


def say(text: str) -> None:
    """Print a line, with control characters escaped."""
    print(shown(text))


def fail(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """Print an error and exit."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text(f"Error: {shown(message, lines=True)}", style="red")
    )
    raise SystemExit(code)

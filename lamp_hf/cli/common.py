"""Helpers shared by several commands: load a pipeline, write motions, print."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.motion.files import EXACT_FORMATS, WRITERS
from lamp_hf.terminal import shown

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion
    from lamp_hf.motion.retarget import Character
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline


__all__ = ["FORMATS", "fail", "feet_options", "load_pipeline", "print_table", "save", "say"]

EXIT_ERROR = 1
FORMATS = " ".join(WRITERS)


def load_pipeline(model: str | None, device: str | None) -> "TextToMotionPipeline":
    """Load the text-to-motion pipeline of `--model`."""
    import transformers

    checkpoint = find_checkpoint(model, "text-to-motion")
    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    pipe: TextToMotionPipeline = create("text-to-motion", model=checkpoint, device=device)
    return pipe


def save(
    motion: "Motion",
    path: Path,
    adjust: Mapping[str, Any],
    showing: Mapping[str, Any],
    character: "Character | None" = None,
) -> str:
    """Write a motion and return a line that describes the file.

    Args:
        motion: The motion.
        path: The file.
        adjust: Keyword arguments of `Motion.adjust`, from `adjust_options`.
        showing: More options of the writer, from `showing_options`.
        character: The character to write the motion on, from `find_character`.
    """
    motion = motion.adjust(**adjust)
    feet = feet_options(adjust)
    if character is not None:
        motion.on(character, **feet).save(path)
        return f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s, on {character.name}"
    options = {} if path.suffix.lower() in EXACT_FORMATS else feet
    report = motion.save(path, **options, **showing)
    text = f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s"
    error = getattr(report, "mean_error_m", None)
    return text if error is None else f"{text}, mean joint error {error * 1000:.1f} mm"


def feet_options(adjust: Mapping[str, Any]) -> dict[str, Any]:
    """Return the writer's option for planted feet; to plant the feet of a loop again would break it."""
    return {} if adjust["loop"] or adjust["in_place"] else {"plant_feet": adjust["plant_feet"]}


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

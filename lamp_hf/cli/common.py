"""What several commands share: how they load a pipeline, write motions and print."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.motion.files import WRITERS
from lamp_hf.terminal import shown

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline


__all__ = ["EXACT_FORMATS", "FORMATS", "check_text", "fail", "load_pipeline", "print_table", "save", "say"]

MAX_CHARACTERS = 10_000  # as in the pipelines, which take seconds to import
EXIT_ERROR = 1
FORMATS = " ".join(WRITERS)
EXACT_FORMATS = (".npy", ".npz")  # contain the motion as it is; feet are planted in the others


def load_pipeline(model: str | None, device: str | None) -> "TextToMotionPipeline":
    """Load the text-to-motion pipeline of `--model`."""
    import transformers

    checkpoint = find_checkpoint(model, "text-to-motion")
    create: Any = transformers.pipeline  # its type hints know the tasks of transformers alone
    pipe: TextToMotionPipeline = create("text-to-motion", model=checkpoint, device=device)
    return pipe


def check_text(text: str) -> None:
    """Refuse a sentence that is empty or too long, before a model is loaded."""
    if not text.strip():
        raise ValueError('text is empty; say what the person does, as in "a person walks"')
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")


def save(motion: "Motion", path: Path, plant_feet: bool | None) -> str:
    """Write a motion, and say so."""
    options = {} if path.suffix.lower() in EXACT_FORMATS else {"plant_feet": plant_feet}
    report = motion.save(path, **options)
    text = f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s"
    error = getattr(report, "mean_error_m", None)
    return text if error is None else f"{text}, joints within {error * 1000:.1f} mm of the motion's on average"


def print_table(rows: dict[str, Any]) -> None:
    """Print names and values, aligned."""
    width = max(map(len, rows))
    for name, value in rows.items():
        say(f"{name:<{width}}  {value}")


def say(text: str) -> None:
    """Print a line, with what a terminal would obey made visible."""
    print(shown(text))


def fail(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """Print an error and end the process."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text(f"Error: {shown(message, lines=True)}", style="red")
    )
    raise SystemExit(code)

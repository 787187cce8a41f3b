"""`lamp-hf caption`; it imports what it needs when it runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamp_hf.cli_checkpoints import find_checkpoint

if TYPE_CHECKING:
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline

__all__ = ["caption"]


def caption(
    files: Annotated[list[Path], typer.Argument(help="Motion files (.bvh .npz .npy), or folders of them.")],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Captions of each motion.")] = 1,
    beams: Annotated[
        int | None, typer.Option("--beams", min=1, help="Beams of the search; by default 1, and as many as --num.")
    ] = None,
    window: Annotated[
        float | None, typer.Option("--window", help="Seconds captioned at a time; by default 196 frames.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a file.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Folder or Hub id of a checkpoint; by default the embedded one."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, mps …; by default an accelerator if present.")
    ] = None,
) -> None:
    """Say what happens in motion files.

    `lamp-hf caption walk.bvh`

    `lamp-hf caption my_mocap/ --window 4`
    """
    paths = motion_files(files)
    pipe = _pipeline(model, device)
    motions, failures = {}, []
    for path in paths:
        try:
            motions[path] = pipe.read_motion(path)
        except (ValueError, OSError) as error:
            # Files are named without their folders there, of which there may be several here.
            failures.append(" ".join(str(error).split()).replace(path.name, str(path), 1))
    options: dict[str, Any] = {"num_beams": beams or num, "num_return_sequences": num}
    answers = pipe(list(motions.values()), window_s=window, **options) if motions else []
    for path, captions in zip(motions, answers, strict=True):
        if as_json:
            print(json.dumps({"file": str(path), "captions": captions}, ensure_ascii=False))
        else:
            for answer in captions:
                span = f" {answer['start']:.1f}-{answer['end']:.1f} s" if "start" in answer else ""
                print(f"{path}{span}: {answer['caption']} ({answer['score']:.2f})")
    if failures:
        raise ValueError(f"{len(failures)} of {len(paths)} files could not be captioned: {'; '.join(failures)}")


def motion_files(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and in place of folders the motion files in them.

    Raises:
        FileNotFoundError: A path does not exist, or a folder holds no motion file.
    """
    from lamp_hf.motion.files import READERS

    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in READERS)
            if not inside:
                raise FileNotFoundError(f"{path} has no motion files ({' '.join(READERS)})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file")
    return found


def _pipeline(model: str | None, device: str | None) -> "MotionCaptioningPipeline":
    import transformers

    checkpoint = find_checkpoint(model, "motion-captioning")
    create: Any = transformers.pipeline  # its type hints know the tasks of transformers alone
    pipe: MotionCaptioningPipeline = create("motion-captioning", model=checkpoint, device=device)
    return pipe

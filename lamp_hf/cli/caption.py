"""`lamp-hf caption`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.cli.options import (
    DeviceOption,
    MappingOption,
    ModelOption,
    SourceFpsOption,
    UnitOption,
    UpAxisOption,
    reading_options,
)
from lamp_hf.motion.files import READERS
from lamp_hf.terminal import quiet_readers, shown, shown_json

if TYPE_CHECKING:
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline

__all__ = ["caption"]

FILES_AT_A_TIME = 64


def caption(
    files: Annotated[list[Path], typer.Argument(help=f"Motion files ({' '.join(READERS)}) or folders of them.")],
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Number of captions per motion.")] = 1,
    beams: Annotated[
        int | None, typer.Option("--beams", min=1, help="Number of beams for beam search. Defaults to --num.")
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            help="Length in seconds of the windows to caption. Defaults to the longest that the model reads.",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help='Words with which every caption begins, such as "a person". Defaults to none.'),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = False,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Describe what happens in motion files.

    `lamp-hf caption walk.bvh`

    `lamp-hf caption my_mocap/ --window 4`
    """
    from lamp_hf.motion.inputs import as_motion, failure

    reading = reading_options(mapping, source_fps, unit, up_axis)
    paths, problems = motion_files(files)
    failures = [f"{path}: {problem}" for path, problem in problems.items()]
    if not paths:
        raise ValueError(_left_out(failures, len(failures)))
    if len(paths) > 1:
        quiet_readers()
    pipe = _pipeline(model, device)
    options: dict[str, Any] = {"num_beams": beams or num, "num_return_sequences": num}
    for first in range(0, len(paths), FILES_AT_A_TIME):
        motions = {}
        for path in paths[first : first + FILES_AT_A_TIME]:
            try:
                motions[path] = pipe.read_motion(as_motion(path, **reading))
            except Exception as error:  # one bad file must not stop the others
                failures.append(failure(path, error))
        answers = pipe(list(motions.values()), window_s=window, prompt=prompt, **options) if motions else []
        for path, captions in zip(motions, answers, strict=True):
            if as_json:
                print(shown_json(json.dumps({"file": str(path), "captions": captions}, ensure_ascii=False)))
                continue
            for answer in captions:
                span = f" {answer['start']:.1f}-{answer['end']:.1f} s" if "start" in answer else ""
                print(shown(f"{path}{span}: {answer['caption']} ({answer['score']:.2f})"))
    if failures:
        raise ValueError(_left_out(failures, len(paths) + len(problems)))


def _left_out(failures: Sequence[str], total: int) -> str:
    return f"{len(failures)} of {total} files could not be captioned: {'; '.join(failures)}"


def motion_files(paths: Sequence[Path]) -> tuple[list[Path], dict[Path, str]]:
    """Replace folders with the motion files in them; return the readable files, and the reason for each unreadable one.

    Raises:
        FileNotFoundError: If a path does not exist, or a folder contains no motion files.
    """
    from lamp_hf.motion.inputs import find_motion_files, no_motion_files, problem_of

    found: list[Path] = []
    problems: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            inside = find_motion_files(path)
            if not any(inside):
                raise FileNotFoundError(no_motion_files(path))
            found += inside.files
            problems |= inside.problems
        elif not (problem := problem_of(path)):
            found.append(path)
        elif problem == "no such file":
            raise FileNotFoundError(f"{path}: {problem}")
        else:
            problems[path] = problem
    return list(dict.fromkeys(found)), problems


def _pipeline(model: str | None, device: str | None) -> "MotionCaptioningPipeline":
    import transformers

    checkpoint = find_checkpoint(model, "motion-captioning")
    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    pipe: MotionCaptioningPipeline = create("motion-captioning", model=checkpoint, device=device)
    return pipe

"""`lamp-hf`: parses the command line, calls the library, prints.

The commands import what they need when they run: help and conversion answer without torch.
"""

import errno
import math
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lamp_hf import (
    __version__,
    cli_captioning,
    cli_convert,
    cli_data,
    cli_evaluate,
    cli_publish,
    cli_retrieval,
    cli_train,
)
from lamp_hf.cli_checkpoints import find_checkpoint
from lamp_hf.cli_options import MappingOption, SourceFpsOption, UnitOption, UpAxisOption, reading_options
from lamp_hf.motion.files import READERS, WRITERS, find_writer
from lamp_hf.terminal import counted, logs_on_stderr, quiet_readers, shown

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

__all__ = ["app", "main"]

MAX_FPS = 1000
MAX_CHARACTERS = 10_000  # as in the pipelines, which take seconds to import
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # a full disk, and one that cannot be written to
EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
FORMATS = " ".join(WRITERS)
EXACT_FORMATS = (".npy", ".npz")  # hold a motion as it is; feet are planted in the others

app = typer.Typer(
    name="lamp-hf",
    help="Human motion from text: generate, caption, search, inspect, convert, train, evaluate, publish.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Checkpoint: folder, Hub id or name; by default the embedded lamp-small."),
]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; the process ends with 0, with 1 after an error, with 2 after wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given  # taken out here, so that it may stand before or after the command
    try:
        with logs_on_stderr():
            _warn_on_stderr()
            app([argument for argument in given if argument != "--debug"], prog_name="lamp-hf")
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except SystemExit as ended:  # typer makes one of Ctrl-C, without a word
        if ended.code == EXIT_INTERRUPTED:
            _fail("interrupted", EXIT_INTERRUPTED)
        raise
    except Exception as error:
        if debug:
            raise
        _fail(_one_line(error))
    raise SystemExit(0)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lamp-hf {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


@app.command()
def generate(
    text: Annotated[list[str], typer.Argument(help="What the person does. Several texts give several motions.")],
    output: Annotated[Path, typer.Option("--output", "-o", help=f"File to write; its suffix is the format: {FORMATS}")],
    duration: Annotated[
        list[float] | None,
        typer.Option("--duration", "-d", help="Seconds, once for all or once per text; by default the model decides."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", "-s", min=0, help="The same seed, text and duration give the same motion.")
    ] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Number of motions per text.")] = 1,
    guidance_scale: Annotated[
        float | None, typer.Option("--guidance-scale", min=0, help="How closely to follow the text; 1 is plain.")
    ] = None,
    storyboard: Annotated[
        bool, typer.Option("--storyboard", help="Make one motion of all texts in turn; -d once per text or not at all.")
    ] = False,
    split: Annotated[
        bool, typer.Option("--split", help='Make the actions of one text in turn, such as "a man walks then waves".')
    ] = False,
    motion: Annotated[
        Path | None, typer.Option("--motion", help=f"With --edit: the motion to change ({' '.join(READERS)}).")
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option("--edit", help="START:END, the seconds of --motion to make again; without END, to its end."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frame rate of the output; by default that of the model, usually 20.")
    ] = None,
    no_plant_feet: Annotated[
        bool, typer.Option("--no-plant-feet", help="Leave feet that slide on the floor as they are.")
    ] = False,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
    model: ModelOption = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, mps …; by default an accelerator if there is one.")
    ] = None,
) -> None:
    """Generate a motion from a sentence. `lamp-hf prompts` lists what the model knows.

    `lamp-hf generate "a person waves" -o wave.bvh -d 4 --seed 1`

    `lamp-hf generate "a person walks then waves" --split -o both.bvh`

    `lamp-hf generate "a person walks" "the person bows" -d 3 -d 2.5 --storyboard -o scene.glb`

    `lamp-hf generate "a person bows" --motion walk.bvh --edit 1.0:2.5 -o edited.bvh`
    """
    # All that can be wrong is said now: the model takes a while to load.
    find_writer(output)
    if not output.parent.is_dir():
        raise FileNotFoundError(f"the folder {output.parent} does not exist; create it first")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; name a file")
    for sentence in text:
        _check_text(sentence)
    durations = duration or []
    for value in durations:
        if not 0 <= value < math.inf:
            raise ValueError(f"--duration {value:g}: expected seconds, 0 or more")
    if fps is not None and not 1 <= fps <= MAX_FPS:
        raise typer.BadParameter(f"--fps {fps:g} is not a frame rate from 1 to {MAX_FPS}")
    if storyboard and (len(durations) not in (0, len(text)) or num > 1 or motion or edit or split):
        raise typer.BadParameter(
            "--storyboard needs one --duration per text or none at all, no --num, --split, --motion or --edit"
        )
    if (motion is None) != (edit is None) or (motion and (durations or split)):
        raise typer.BadParameter("--motion and --edit go together, and without --duration and --split")
    if not storyboard and len(durations) not in (0, 1, len(text)):
        raise typer.BadParameter(
            f"--duration was given {len(durations)} times for {counted(len(text), 'text')}; give it once for all, or "
            "once for each"
        )
    reading = reading_options(mapping, source_fps, unit, up_axis)
    if reading and motion is None:
        raise typer.BadParameter("--mapping, --source-fps, --unit and --up-axis are for the file of --motion")
    options: dict[str, Any] = {"seed": seed}
    if guidance_scale is not None:
        options["guidance_scale"] = guidance_scale
    source = None
    if motion is not None and edit is not None:
        source, options["edit"] = _read_edit(motion, edit, reading)

    pipe = _pipeline(model, device)
    if storyboard:
        seconds: list[Any] = durations or [None] * len(text)
        results = [pipe.storyboard(list(zip(text, seconds, strict=True)), **options)]
    else:
        if source is not None:
            options["motion"] = source if abs(source.fps - pipe.fps) < 1e-3 else source.resample(pipe.fps)
        if durations:
            options["duration"] = durations[0] if len(durations) == 1 else durations
        per_text = pipe(list(text), num_motions_per_prompt=num, split=split, **options)
        results = [result for group in per_text for result in (group if num > 1 else [group])]
    for number, result in enumerate(results, start=1):
        path = output if len(results) == 1 else output.with_stem(f"{output.stem}-{number}")
        made = result["motion"] if fps is None else result["motion"].resample(fps)
        _say(f"{_save(made, path, False if no_plant_feet else None)}, seed {result['seed']}, {result['text']!r}")


@app.command()
def prompts(
    like: Annotated[str | None, typer.Argument(help="List only the sentences nearest to this one.")] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Sentences per group, or nearest sentences.")] = 5,
    model: ModelOption = None,
) -> None:
    """List what a text-to-motion model knows: sentences of its training, grouped by action.

    `lamp-hf prompts`

    `lamp-hf prompts "play the guitar"`
    """
    if like is not None:
        _check_text(like)
    pipe = _pipeline(model, "cpu")
    known = pipe.known_sentences
    if known is None:
        raise ValueError("this checkpoint does not say what it was trained on: its processor has no example_texts")
    if like is not None:
        for sentence in known.suggest(like, num):
            _say(sentence)
        return
    for name, sentences in known.groups().items():
        _say(f"{name} ({len(sentences)})")
        for sentence in sentences[:num]:
            _say(f"  {sentence}")
    _say(f"{len(known.sentences)} sentences; --num shows more of each group")


@app.command()
def info(
    target: Annotated[
        str | None,
        typer.Argument(help="A motion file, a folder of them, an index or a checkpoint."),
    ] = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
) -> None:
    """Describe a motion file, a folder of motions, an index or, by default, the embedded checkpoint.

    `lamp-hf info walk.bvh`

    `lamp-hf info my_mocap/`
    """
    reading = reading_options(mapping, source_fps, unit, up_axis)
    path = None if target is None else Path(target)
    if path is not None and (path.is_file() or (path.suffix.lower() in READERS and not path.is_dir())):
        from lamp_hf.motion.inputs import as_motion

        motion = as_motion(path, **reading)
        _say(f"{target}: {motion.skeleton.name}, {motion.report()}")
        return
    if path is not None and path.is_dir() and not (path / "config.json").is_file():
        from lamp_hf.motion.inputs import find_motion_files, no_motion_files

        if (path / "index.json").is_file() and not reading:
            from lamp_hf.retrieval.index import MotionIndex

            _table(MotionIndex.open(path).describe())
            return
        if any(find_motion_files(path)):
            _describe_folder(path, reading)
            return
        raise FileNotFoundError(f"{no_motion_files(path)}; it is not a checkpoint or an index either")
    if reading:
        raise typer.BadParameter("--mapping, --source-fps, --unit and --up-axis are for motion files and folders")
    from lamp_hf.embedded import DEFAULT_CHECKPOINT
    from lamp_hf.hub.describe import describe_checkpoint

    _table(describe_checkpoint(target or DEFAULT_CHECKPOINT))


@app.command("convert-motion")
def convert_motion(
    source: Annotated[Path, typer.Argument(help=f"A motion file ({' '.join(READERS)}), or a folder of them.")],
    destination: Annotated[Path, typer.Argument(help=f"A file ({FORMATS}); for a folder, a folder.")],
    to: Annotated[str | None, typer.Option("--to", help=f"Format to convert a folder to: {FORMATS}")] = None,
    fps: Annotated[float | None, typer.Option("--fps", help="Resample to this frame rate.")] = None,
    plant_feet: Annotated[
        bool | None,
        typer.Option(
            "--plant-feet/--no-plant-feet",
            help="Keep feet that stand on the floor from sliding; by default for files of features, as models make "
            "them, and not for recordings.",
            show_default=False,
        ),
    ] = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
) -> None:
    """Convert motion files between formats. Originals are never overwritten.

    `lamp-hf convert-motion walk.bvh walk.glb`

    `lamp-hf convert-motion my_mocap/ players/ --to .html`
    """
    reading = reading_options(mapping, source_fps, unit, up_axis)
    suffix = f".{to.lstrip('.')}" if to is not None else destination.suffix
    if plant_feet and suffix.lower() in EXACT_FORMATS:
        raise typer.BadParameter(f"--plant-feet is not for {suffix} files, which hold a motion as it is")
    if source.is_dir():
        _convert_folder(source, destination, to, fps, reading, plant_feet)
        return
    if to is not None:
        raise typer.BadParameter(f"--to is for folders, but {source} is {'a file' if source.exists() else 'not there'}")
    find_writer(destination)
    _refuse_originals({source: destination})
    _say(_convert_file(source, destination, fps, reading, plant_feet))


app.command()(cli_train.train)
app.command()(cli_captioning.caption)
app.command()(cli_convert.convert)
app.command()(cli_retrieval.index)
app.command()(cli_retrieval.search)
app.command()(cli_publish.push)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_evaluate.app, name="evaluate")


# ---- helpers ----------------------------------------------------------------------------------------------


def _pipeline(model: str | None, device: str | None) -> "TextToMotionPipeline":
    import transformers

    checkpoint = find_checkpoint(model, "text-to-motion")
    create: Any = transformers.pipeline  # its type hints know the tasks of transformers alone
    pipe: TextToMotionPipeline = create("text-to-motion", model=checkpoint, device=device)
    return pipe


def _check_text(text: str) -> None:
    if not text.strip():
        raise ValueError('text is empty; say what the person does, as in "a person walks"')
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")


def _read_edit(path: Path, edit: str, reading: dict[str, Any]) -> "tuple[Motion, tuple[float, float | None]]":
    """The motion to be changed, and the span."""
    from lamp_hf.motion.inputs import as_motion

    start, end = _span(edit)
    motion = as_motion(path, **reading)
    if not 0 <= start < motion.duration or (end is not None and end <= start):
        raise ValueError(f"--edit {edit} is not within {path}, which lasts {motion.duration:g} s")
    return motion, (start, end)


def _convert_file(
    source: Path, target: Path, fps: float | None, reading: dict[str, Any], plant_feet: bool | None
) -> str:
    from lamp_hf.motion.inputs import as_motion

    motion = as_motion(source, **reading)
    return _save(motion if fps is None else motion.resample(fps), target, plant_feet)


def _convert_folder(
    source: Path,
    destination: Path,
    to: str | None,
    fps: float | None,
    reading: dict[str, Any],
    plant_feet: bool | None,
) -> None:
    from lamp_hf.motion.inputs import failure, find_motion_files, no_motion_files

    if to is None:
        raise typer.BadParameter(f"{source} is a folder: say the format with --to, one of {FORMATS}")
    suffix = f".{to.lstrip('.')}"
    find_writer(f"{destination}/*{suffix}")
    if destination.exists() and not destination.is_dir():
        raise NotADirectoryError(f"{destination} is a file; expected a folder for the motions of {source}")
    found = find_motion_files(source)
    if not any(found):
        raise FileNotFoundError(no_motion_files(source))
    targets = {file: destination / file.relative_to(source).with_suffix(suffix) for file in found.files}
    _refuse_originals(targets)
    quiet_readers()
    failures = [f"{path}: {problem}" for path, problem in found.problems.items()]
    for file in _progress(found.files):
        target = targets[file]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _convert_file(file, target, fps, reading, plant_feet)
        except OSError as error:
            if error.errno in NO_PLACE:  # nor would there be for the others
                raise
            failures.append(failure(file, error))
        except Exception as error:  # whatever it is: one file shall not stop the others
            failures.append(failure(file, error))
    total = len(found.files) + len(found.problems)
    _say(f"{total - len(failures)} of {total} files converted to {destination}")
    if failures:
        _fail("\n".join(failures))


def _refuse_originals(targets: dict[Path, Path]) -> None:
    """Check that each file has a target of its own, which is none of the files."""
    originals = {}
    for file in targets:
        with suppress(OSError):
            status = file.stat()
            originals[status.st_dev, status.st_ino] = file
    sources: dict[Path, Path] = {}
    for file, target in targets.items():
        if (other := sources.setdefault(target, file)) != file:
            raise ValueError(f"{other} and {file} would both become {target}: rename one, or convert to another format")
        with suppress(OSError):
            status = target.stat()
            if original := originals.get((status.st_dev, status.st_ino)):
                raise ValueError(f"{target} would overwrite the original {original}: choose another destination")


def _describe_folder(folder: Path, reading: dict[str, Any]) -> None:
    """What lies in a folder of motions; each file is read."""
    from collections import Counter

    from lamp_hf.data.doctor import check_data
    from lamp_hf.motion.inputs import find_motion_files

    quiet_readers()
    report = check_data(folder, reader_options=reading)
    formats = Counter(path.suffix.lower() for path in find_motion_files(folder).files)
    files = ", ".join(f"{count} {suffix}" for suffix, count in sorted(formats.items()))
    _table({"folder": folder, "layout": report.layout, "files": files or "none", **report.counts})
    if report.findings:
        others = len(report.findings) - len(report.errors)
        found = f"{counted(len(report.errors), 'error')}, {counted(others, 'warning')}"
        _say(f"{found}: `lamp-hf data check {folder}` lists them")


def _save(motion: "Motion", path: Path, plant_feet: bool | None) -> str:
    """Write a motion, and say so."""
    options = {} if path.suffix.lower() in EXACT_FORMATS else {"plant_feet": plant_feet}
    report = motion.save(path, **options)
    text = f"{path}: {motion.num_frames} frames, {motion.duration:.2f} s"
    error = getattr(report, "mean_error_m", None)
    return text if error is None else f"{text}, joints within {error * 1000:.1f} mm of the motion's on average"


def _span(text: str) -> tuple[float, float | None]:
    start, separator, end = text.partition(":")
    try:
        span = float(start), float(end) if end.strip() else None
    except ValueError:
        span = math.nan, None
    if not separator or not all(math.isfinite(value) for value in span if value is not None):
        raise typer.BadParameter(f"--edit expects START:END in seconds, as 1.0:2.5 or 1.0:, and got {text!r}")
    return span


def _progress(files: Sequence[Path]) -> Any:
    from rich.console import Console
    from rich.progress import track

    return track(files, description="Converting", console=Console(stderr=True))


def _table(rows: dict[str, Any]) -> None:
    width = max(map(len, rows))
    for name, value in rows.items():
        _say(f"{name:<{width}}  {value}")


def _say(text: str) -> None:
    print(shown(text))


def _fail(message: str, code: int = EXIT_ERROR) -> NoReturn:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text(f"Error: {shown(message, lines=True)}", style="red")
    )
    raise SystemExit(code)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    listed = re.sub(r"(?<!:)\n {2,}(?=\S)", "; ", str(error))  # the items of a list stay apart
    return " ".join(listed.split()) or type(error).__name__


def _warn_on_stderr() -> None:
    """Show what the library warns of as one line, and every time."""
    show = warnings.showwarning

    def show_line(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if category.__module__.startswith("lamp_hf."):
            print(shown(f"WARNING: {message}"), file=sys.stderr)
        else:
            show(message, category, *args, **kwargs)

    warnings.showwarning = show_line

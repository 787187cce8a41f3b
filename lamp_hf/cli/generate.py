"""`lamp-hf generate` and `lamp-hf prompts`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamp_hf.cli.common import FORMATS, feet_options, load_pipeline, save, say
from lamp_hf.cli.options import (
    CharacterMappingOption,
    CharacterOption,
    DeviceOption,
    FpsOption,
    InPlaceOption,
    LoopOption,
    MappingOption,
    MirrorOption,
    ModelOption,
    OriginOption,
    PlantFeetOption,
    RigOption,
    SourceFpsOption,
    StyleOption,
    UnitOption,
    UpAxisOption,
    adjust_options,
    find_character,
    reading_options,
    showing_options,
)
from lamp_hf.motion.files import READERS, find_writer
from lamp_hf.motion.limits import MAX_GENERATED_FRAMES, MAX_SIDE_BY_SIDE, check_prompt
from lamp_hf.motion.skeleton import SKELETONS
from lamp_hf.terminal import counted

if TYPE_CHECKING:
    from lamp_hf.motion.motion import Motion


__all__ = ["generate", "prompts"]

# The frame rate of a checkpoint is known only after loading it; this bound holds for all skeletons.
LONGEST_DURATION_S = MAX_GENERATED_FRAMES / min(skeleton.default_fps for skeleton in SKELETONS.values())


def generate(
    text: Annotated[
        list[str], typer.Argument(help="Sentence that describes the motion. Several texts give several motions.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=f"Output file. Its suffix sets the format: {FORMATS}")],
    duration: Annotated[
        list[float] | None,
        typer.Option(
            "--duration",
            "-d",
            help="Length in seconds, once for all texts or once per text. Defaults to the model's choice.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", "-s", min=0, help="Random seed. The same seed, text and duration give the same motion."),
    ] = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, help="Number of motions per text.")] = 1,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance-scale", min=0, help="How closely to follow the text; 1 turns guidance off."),
    ] = None,
    storyboard: Annotated[
        bool,
        typer.Option(
            "--storyboard",
            help="Generate one continuous motion from all texts, in order. Give -d once per text or not at all.",
        ),
    ] = False,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help='Split a text such as "a man walks then waves" into actions, and generate them in order.',
        ),
    ] = False,
    motion: Annotated[
        Path | None, typer.Option("--motion", help=f"With --edit: the motion file to change ({' '.join(READERS)}).")
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit", help="Part of --motion to regenerate, as START:END in seconds. Without END, up to the end."
        ),
    ] = None,
    fps: FpsOption = None,
    mirror: MirrorOption = False,
    loop: LoopOption = False,
    in_place: InPlaceOption = False,
    origin: OriginOption = False,
    plant_feet: PlantFeetOption = None,
    style: StyleOption = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Write one .html file that plays all motions side by side.")
    ] = False,
    character: CharacterOption = None,
    character_mapping: CharacterMappingOption = None,
    rig: RigOption = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Generate motions from text. `lamp-hf prompts` lists what the model knows.

    `lamp-hf generate "a person waves" -o wave.bvh -d 4 --seed 1`

    `lamp-hf generate "a person walks" --loop --in-place -o cycle.glb`

    `lamp-hf generate "a person walks then waves" --split -o both.bvh`

    `lamp-hf generate "a person walks" "the person bows" -d 3 -d 2.5 --storyboard -o scene.glb`

    `lamp-hf generate "a person dances" -n 4 --side-by-side -o takes.html`

    `lamp-hf generate "a person waves" --character hero.glb -o hero_wave.glb`

    `lamp-hf generate "a person bows" --motion walk.bvh --edit 1.0:2.5 -o edited.bvh`
    """
    # Check everything before the model is loaded, which takes a while.
    target = find_character(character, rig, character_mapping, output)
    if target is None:
        find_writer(output)
    if not output.parent.is_dir():
        raise FileNotFoundError(f"the folder {output.parent} does not exist; create it first")
    if output.is_dir():
        raise IsADirectoryError(f"{output} is a folder; expected a file name")
    for sentence in text:
        check_prompt(sentence)
    durations = duration or []
    for value in durations:
        if not 0 <= value < math.inf:
            raise ValueError(f"--duration {value:g}: expected seconds, 0 or more")
    longest = sum(durations) if storyboard else max(durations, default=0.0)
    if longest > LONGEST_DURATION_S:
        raise ValueError(f"--duration: {longest:g} s is too long; expected at most {LONGEST_DURATION_S:,.0f} s")
    adjust = adjust_options(
        output.suffix, fps=fps, mirror=mirror, loop=loop, in_place=in_place, origin=origin, plant_feet=plant_feet
    )
    showing = showing_options(output.suffix, style, character=target)
    if side_by_side and (output.suffix.lower() != ".html" or storyboard or len(text) * num > MAX_SIDE_BY_SIDE):
        raise typer.BadParameter(
            f"--side-by-side needs an .html file and at most {MAX_SIDE_BY_SIDE} motions, and cannot be combined with "
            "--storyboard"
        )
    if storyboard and (len(durations) not in (0, len(text)) or num > 1 or motion or edit or split):
        raise typer.BadParameter(
            "--storyboard needs one --duration per text or none, and cannot be combined with --num, --split, --motion "
            "or --edit"
        )
    if (motion is None) != (edit is None) or (motion and (durations or split)):
        raise typer.BadParameter("--motion and --edit go together, and cannot be combined with --duration or --split")
    if not storyboard and len(durations) not in (0, 1, len(text)):
        raise typer.BadParameter(
            f"--duration was given {len(durations)} times for {counted(len(text), 'text')}; give it once for all, or "
            "once per text"
        )
    reading = reading_options(mapping, source_fps, unit, up_axis)
    if reading and motion is None:
        raise typer.BadParameter("--mapping, --source-fps, --unit and --up-axis only apply to the file of --motion")
    options: dict[str, Any] = {"seed": seed}
    if guidance_scale is not None:
        options["guidance_scale"] = guidance_scale
    source = None
    if motion is not None and edit is not None:
        source, options["edit"] = _read_edit(motion, edit, reading)

    pipe = load_pipeline(model, device)
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
    if side_by_side:
        from lamp_hf.motion.formats.html import write_html

        motions = [result["motion"].adjust(**adjust) for result in results]
        write_html(motions, output, **feet_options(adjust), **showing)
        for result in results:
            say(f"{output}: {result['motion'].duration:.2f} s, seed {result['seed']}, {result['text']!r}")
        return
    for number, result in enumerate(results, start=1):
        path = output if len(results) == 1 else output.with_stem(f"{output.stem}-{number}")
        scenes = {"scenes": result["scenes"]} if "scenes" in result and path.suffix.lower() == ".html" else {}
        line = save(result["motion"], path, adjust, {**showing, **scenes}, target)
        say(f"{line}, seed {result['seed']}, {result['text']!r}")


def prompts(
    like: Annotated[str | None, typer.Argument(help="List only the sentences nearest to this one.")] = None,
    num: Annotated[
        int,
        typer.Option(
            "--num", "-n", min=1, help="Number of sentences to list per action, or in total if a sentence is given."
        ),
    ] = 5,
    model: ModelOption = None,
) -> None:
    """List sentences that the model was trained on, grouped by action.

    `lamp-hf prompts`

    `lamp-hf prompts "play the guitar"`
    """
    if like is not None:
        check_prompt(like)
    pipe = load_pipeline(model, "cpu")
    known = pipe.known_sentences
    if known is None:
        raise ValueError(
            "this checkpoint does not say what it was trained on: its processor has no example_texts; pass another "
            "checkpoint with --model"
        )
    if like is not None:
        for sentence in known.suggest(like, num):
            say(sentence)
        return
    for name, sentences in known.groups().items():
        say(f"{name} ({len(sentences)})")
        for sentence in sentences[:num]:
            say(f"  {sentence}")
    say(f"{len(known.sentences)} sentences; --num shows more of each group")


def _read_edit(path: Path, edit: str, reading: dict[str, Any]) -> "tuple[Motion, tuple[float, float | None]]":
    """Load the motion to edit, and return it with the span in seconds."""
    from lamp_hf.motion.inputs import as_motion

    start, end = _span(edit)
    motion = as_motion(path, **reading)
    if not 0 <= start < motion.duration or (end is not None and end <= start):
        raise ValueError(
            f"--edit {edit} is not within {path}, which lasts {motion.duration:g} s; pass a span within it"
        )
    return motion, (start, end)


def _span(text: str) -> tuple[float, float | None]:
    start, separator, end = text.partition(":")
    try:
        span = float(start), float(end) if end.strip() else None
    except ValueError:
        span = math.nan, None
    if not separator or not all(math.isfinite(value) for value in span if value is not None):
        raise typer.BadParameter(f"--edit expects START:END in seconds, such as 1.0:2.5 or 1.0:, got {text!r}")
    return span

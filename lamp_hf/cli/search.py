"""`lamp-hf index` and `lamp-hf search`."""

from collections.abc import Iterable
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
from lamp_hf.extras import require_faiss
from lamp_hf.motion.files import READERS
from lamp_hf.terminal import quiet_readers, shown

if TYPE_CHECKING:
    from lamp_hf.retrieval.encoder import MotionTextEncoder

__all__ = ["index", "search"]

ProcessesOption = Annotated[
    int | None,
    typer.Option("--num-proc", min=1, help="Number of processes that read motion files. Defaults to one per core."),
]


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of motion files, saved data set or Hub id; or, with --data, a name such as bandai-namco."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the index, to create or extend. Defaults to a folder in the cache."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Path of the data set, if SOURCE is a name.")] = None,
    vectors: Annotated[
        int | None,
        typer.Option(
            "--vectors",
            min=1,
            help="Number of FAISS vectors per motion; more vectors give better results. Defaults to 4.",
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip files that cannot be read.")] = False,
    num_proc: ProcessesOption = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="List near-duplicate clips.")] = False,
    threshold: Annotated[
        float,
        typer.Option("--threshold", min=0.0, max=1.0, help="With --duplicates: minimum similarity of near-duplicates."),
    ] = 0.85,
    push_to: Annotated[str | None, typer.Option("--push-to", help="Hub id to upload the index to.")] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push-to: make the repository private.")] = False,
    license: Annotated[
        str | None, typer.Option("--license", help="With --push-to: license id of the Hub, such as cc-by-nc-4.0.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Build a search index of motions. Run it again to add new motions.

    `lamp-hf index my_mocap/`

    `lamp-hf index my_mocap/ -o mocap_index --push-to me/mocap-index`

    `lamp-hf index my_mocap/ --duplicates`
    """
    if push_to is None and (private or license):
        raise typer.BadParameter("--private and --license only apply with --push-to")
    reading = reading_options(mapping, source_fps, unit, up_axis)
    require_faiss()
    quiet_readers()
    from lamp_hf.retrieval import build_index, find_source, near_duplicates
    from lamp_hf.retrieval.opening import cached_index_path

    options: dict[str, Any] = {} if data is None else {"path": str(data)}
    motions = find_source(source, skip_bad=skip_bad, num_proc=num_proc, reader_options=reading, **options)
    encoder = _encoder(model, device)
    path = output if output is not None else cached_index_path(motions, encoder)
    made = build_index(path, motions, encoder, vectors_per_motion=vectors)
    print(shown(f"{path}: {len(made)} motions, {made.num_captions} captions, {encoder.name}"))
    if duplicates:
        groups = near_duplicates(made, threshold)
        rows = [
            (str(number), f"{hit['score']:.3f}", hit["file"] or hit["id"], _captions(hit["captions"]))
            for number, group in enumerate(groups, start=1)
            for hit in made.motion_hits(group)
        ]
        _show(["group", "score", "file", "captions"], rows, empty="no near-duplicates")
    if push_to is not None:
        print(made.push_to_hub(push_to, private=private or None, license=license))


def search(
    query: Annotated[
        str, typer.Argument(help=f"Sentence that describes the motion, or a motion file ({' '.join(READERS)}).")
    ],
    where: Annotated[
        str, typer.Argument(help="Folder of motion files, folder of an index, or Hub id.", metavar="INDEX")
    ],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Number of results.")] = 5,
    captions: Annotated[
        bool, typer.Option("--captions", help="Find captions for a motion file, instead of motions.")
    ] = False,
    rerank: Annotated[
        int, typer.Option("--rerank", min=0, help="Number of results to re-rank with the matching head.")
    ] = 0,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every motion; slower on large indexes.")] = False,
    num_proc: ProcessesOption = None,
    mapping: MappingOption = None,
    source_fps: SourceFpsOption = None,
    unit: UnitOption = None,
    up_axis: UpAxisOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Find motions by text or by example. The query file itself is not among the results.

    `lamp-hf search "a kick" my_mocap/`

    `lamp-hf search walk.bvh mocap_index --captions`
    """
    reading = reading_options(mapping, source_fps, unit, up_axis)
    by_motion = Path(query).suffix.lower() in READERS
    if captions and not by_motion:
        raise typer.BadParameter("--captions needs a motion file as query")
    if rerank and by_motion and not captions:
        raise typer.BadParameter("--rerank compares texts with motions and cannot compare two motions; leave it out")
    require_faiss()
    # Check everything before the model is loaded.
    if by_motion:
        from lamp_hf.motion.inputs import as_motion

        as_motion(query, **reading)
    quiet_readers()  # show details of the query, but not of every file in the folder
    from lamp_hf.pipelines.motion_retrieval import MotionRetrievalPipeline
    from lamp_hf.retrieval.index import is_index
    from lamp_hf.retrieval.sources import find_source, may_be_on_hub

    if not is_index(where) and not may_be_on_hub(where):
        find_source(where, reader_options=reading)
    elif reading and not by_motion:
        raise typer.BadParameter(
            f"--mapping, --source-fps, --unit and --up-axis only apply to motion files; {where} is an index"
        )

    encoder = _encoder(model, device)
    pipe = MotionRetrievalPipeline(
        model=encoder.model,
        processor=encoder.processor,
        index=where,
        num_proc=num_proc,
        reader_options=reading,
        device=encoder.model.device,
    )
    hits = pipe(
        Path(query) if by_motion else query,
        top_k=top_k,
        target="caption" if captions else "motion",
        rerank=rerank,
        exact=exact,
    )
    matches = ["match"] if rerank else []
    rows = [
        (
            str(place),
            f"{hit['score']:.3f}",
            *(f"{hit[name]:.3f}" for name in matches),
            hit["file"] or hit["id"],
            _captions(hit["captions"]),
        )
        for place, hit in enumerate(hits, start=1)
    ]
    _show(["", "score", *matches, "file", "captions"], rows, empty=f"nothing found: {where} has no other motions")


def _encoder(model: str | None, device: str | None) -> "MotionTextEncoder":
    import torch

    from lamp_hf.modeling import LampForMotionTextRetrieval, LampProcessor
    from lamp_hf.retrieval.encoder import MotionTextEncoder

    checkpoint = find_checkpoint(model, "motion-retrieval")
    loaded: Any = LampForMotionTextRetrieval.from_pretrained(checkpoint)
    processor: Any = LampProcessor.from_pretrained(checkpoint)
    chosen = device or torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return MotionTextEncoder(loaded.to(chosen), processor)


def _captions(captions: list[str]) -> str:
    more = f" (+{len(captions) - 1})" if len(captions) > 1 else ""
    return f"{captions[0]}{more}" if captions else ""


def _show(header: list[str], rows: Iterable[tuple[str, ...]], *, empty: str) -> None:
    """Print a table. File names are never truncated, so they can be copied."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = list(rows)
    if not rows:
        print(shown(empty))
        return
    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold", justify="right" if name in ("", "group", "score", "match") else "left")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    console.print(table)

"""`lamp-hf evaluate`: run protocols, print their tables and write their records."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamp_hf.cli.checkpoints import find_checkpoint
from lamp_hf.terminal import quiet_readers

if TYPE_CHECKING:
    from lamp_hf.evaluation.protocols.common import EvaluationSet
    from lamp_hf.evaluation.records import EvaluationRecord, Row
    from lamp_hf.metrics.embedder import Embedder

__all__ = ["app"]

EMBEDDED_EVALUATOR = "lamp-small-evaluator"

app = typer.Typer(
    help="Evaluate a checkpoint with standard protocols. Use `accelerate launch -m lamp_hf evaluate` for several GPUs.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Model = Annotated[str, typer.Argument(help="Checkpoint: a folder, a Hub id or a built-in name, such as lamp-small.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Data set: Bandai-Namco (archive or clone), HumanML3D, KIT-ML, a folder with metadata.jsonl, or a Hub id.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Split to evaluate on. Defaults to test, else validation, else the only split."),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        "-p",
        help="Protocol to run; can be repeated. Defaults to all protocols that the data set is large enough for.",
    ),
]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Number of repeats, each with its own seed.")]
Seed = Annotated[int, typer.Option("--seed", "-s", help="Seed of the first repeat.")]
Limit = Annotated[int | None, typer.Option("--limit", min=2, help="Maximum number of clips, for a quick try.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the records, one JSON file per protocol.")]
Card = Annotated[bool, typer.Option("--write-card", help="Write the results into the model-index of MODEL/README.md.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip files that cannot be read.")]
Cache = Annotated[
    Path | None, typer.Option("--cache-dir", help="Folder for converted clips. Defaults to ~/.cache/lamp_hf.")
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Device, such as cpu, cuda or mps. Defaults to the one that accelerate finds."),
]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of the model in tables. Defaults to the name of the checkpoint.")
]
Evaluator = Annotated[
    str,
    typer.Option(
        "--evaluator",
        help="Checkpoint that embeds motions and texts. Scores of different evaluators are not comparable.",
    ),
]

PoolSize = Annotated[
    int,
    typer.Option(
        "--pool-size",
        min=2,
        help="Number of pairs in a pool. Smaller pools suit small sets, but are easier and raise the scores.",
    ),
]

RECORDS_FOLDER = Path("evaluations")
# Names of evaluation splits, in order of preference.
SPLITS = ("test", "validation", "val", "valid", "dev")


@app.command()
def reconstruction(
    model: Model,
    data: Data,
    protocol: Protocols = None,
    evaluator: Annotated[
        str | None,
        typer.Option("--evaluator", help="Checkpoint that embeds motions and texts, for FID and R-Precision."),
    ] = None,
    pool_size: PoolSize = 32,
    split: Split = None,
    repeats: Repeats = 20,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = RECORDS_FOLDER,
    write_card: Card = False,
    name: Name = None,
    skip_bad: SkipBad = False,
    cache_dir: Cache = None,
    device: Device = None,
) -> None:
    """Evaluate how well the motion tokenizer reconstructs motions: MPJPE and, with an evaluator, FID and R-Precision.

    `lamp-hf evaluate reconstruction lamp-small --data DATA`

    `lamp-hf evaluate reconstruction lamp-small --data DATA --evaluator lamp-small-evaluator`
    """
    from lamp_hf.evaluation.protocols import reconstruction as task

    _chosen(protocol, task.PROTOCOLS)
    checkpoint = find_checkpoint(model, "reconstruction")
    card = _card(checkpoint, write_card)
    clips = _data(data, split, limit, skip_bad, cache_dir)
    tokenizer, extractor = _tokenizer(checkpoint, device)
    record = task.evaluate_reconstruction_protocol(
        _name(name, checkpoint),
        tokenizer,
        extractor,
        clips,
        evaluator=None if evaluator is None else _embedder(evaluator, device),
        repeats=repeats,
        seed=seed,
        pool_size=pool_size,
        on_estimate=_say_how_long,
    )
    _finish([record], output, card)


@app.command("text-to-motion")
def text_to_motion(
    model: Model,
    data: Data,
    protocol: Protocols = None,
    evaluator: Evaluator = EMBEDDED_EVALUATOR,
    captioner: Annotated[
        str, typer.Option("--captioner", help="Captioning checkpoint for LaMP-BertScore.")
    ] = "lamp-small",
    split: Split = None,
    repeats: Repeats = 20,
    multimodality_texts: Annotated[
        int, typer.Option("--multimodality-texts", min=0, help="Number of texts for MultiModality.")
    ] = 100,
    multimodality_motions: Annotated[
        int, typer.Option("--multimodality-motions", min=10, help="Number of motions per text for MultiModality.")
    ] = 30,
    pool_size: PoolSize = 32,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="Generation setting and its values, such as guidance_scale=1,2,4; can be repeated for combinations.",
        ),
    ] = None,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = RECORDS_FOLDER,
    write_card: Card = False,
    name: Name = None,
    skip_bad: SkipBad = False,
    cache_dir: Cache = None,
    device: Device = None,
) -> None:
    """Evaluate generated motions: R-Precision, FID, MM-Dist, Diversity, MultiModality, LaMP-BertScore, foot skating.

    The protocols are humanml3d, released, lamp-bertscore and physics. released replaces humanml3d by default if the
    evaluator was converted with its GloVe vectors; it gives the numbers of published tables. With the default settings,
    both generate tens of thousands of motions; on a CPU, reduce the repeats and the MultiModality texts.

    `lamp-hf evaluate text-to-motion lamp-small --data DATA --repeats 5 --multimodality-texts 10`

    `lamp-hf evaluate text-to-motion lamp-small --data DATA --sweep guidance_scale=1,2,4`
    """
    from lamp_hf.evaluation.protocols import text_to_motion as task
    from lamp_hf.evaluation.sweeps import joined_sweep, sweep_settings, variant_name

    combinations = sweep_settings(sweep or ())

    protocols = _chosen(protocol, task.PROTOCOLS, task.DEFAULT_PROTOCOLS)
    checkpoint = find_checkpoint(model, "text-to-motion")
    if not protocol and _reads_annotations(evaluator):
        protocols = ("released", *protocols[1:])
    judges = {
        "humanml3d": lambda: {"evaluator": _embedder(evaluator, device)},
        "released": lambda: {"evaluator": _embedder(evaluator, device)},
        "lamp-bertscore": lambda: {
            "captioner": _pipeline("motion-captioning", find_checkpoint(captioner, "motion-captioning"), device)
        },
    }
    card = _card(checkpoint, write_card)
    clips = _data(data, split, limit, skip_bad, cache_dir)
    protocols = _that_fit(protocols, task.misfits(protocols, clips, pool_size=pool_size))
    options: dict[str, Any] = {}
    for judged in protocols:
        if "evaluator" not in options or judged not in task.FEATURE_PROTOCOLS:
            options |= judges.get(judged, dict)()
    model_name = _name(name, checkpoint)
    found = [
        task.evaluate_text_to_motion_protocols(
            variant_name(model_name, settings),
            _pipeline("text-to-motion", checkpoint, device, **settings),
            clips,
            protocols=protocols,
            repeats=repeats,
            seed=seed,
            multimodality_texts=multimodality_texts,
            multimodality_motions=multimodality_motions,
            pool_size=pool_size,
            on_estimate=_say_how_long,
            **options,
        )
        for settings in combinations
    ]
    records = [joined_sweep(model_name, of_protocol) for of_protocol in zip(*found, strict=True)]
    _finish(records, output, card, suffix="-sweep" if sweep else "")


@app.command()
def editing(
    model: Model,
    data: Data,
    protocol: Protocols = None,
    evaluator: Evaluator = EMBEDDED_EVALUATOR,
    pool_size: PoolSize = 32,
    split: Split = None,
    repeats: Repeats = 20,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = RECORDS_FOLDER,
    write_card: Card = False,
    name: Name = None,
    skip_bad: SkipBad = False,
    cache_dir: Cache = None,
    device: Device = None,
) -> None:
    """Evaluate edited motions: FID and R-Precision of the whole, the seams, and whether other frames stay as they are.

    The protocols are in-betweening, outpainting, prefix, suffix and editing, which uses the caption of another clip.

    `lamp-hf evaluate editing lamp-small --data DATA --repeats 2`
    """
    from lamp_hf.evaluation.protocols import editing as task

    protocols = _chosen(protocol, task.PROTOCOLS)
    checkpoint = find_checkpoint(model, "text-to-motion")
    judge = find_checkpoint(evaluator, "evaluation")
    card = _card(checkpoint, write_card)
    clips = _data(data, split, limit, skip_bad, cache_dir)
    records = task.evaluate_editing_protocols(
        _name(name, checkpoint),
        _pipeline("text-to-motion", checkpoint, device),
        clips,
        evaluator=_embedder(judge, device),
        protocols=protocols,
        repeats=repeats,
        seed=seed,
        pool_size=pool_size,
        on_estimate=_say_how_long,
    )
    _finish(records, output, card)


@app.command()
def retrieval(
    model: Model,
    data: Data,
    protocol: Protocols = None,
    rerank: Annotated[
        int | None,
        typer.Option("--rerank", min=1, help="Add a row with re-ranking of this many candidates per query."),
    ] = None,
    pool_size: PoolSize = 32,
    dissimilar_size: Annotated[
        int, typer.Option("--dissimilar-size", min=2, help="Number of pairs in the subset of the protocol dissimilar.")
    ] = 100,
    split: Split = None,
    repeats: Repeats = 20,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = RECORDS_FOLDER,
    write_card: Card = False,
    name: Name = None,
    skip_bad: SkipBad = False,
    cache_dir: Cache = None,
    device: Device = None,
) -> None:
    """Evaluate text-to-motion and motion-to-text retrieval: recall and median rank.

    The protocols are those of TMR (all, threshold, dissimilar and small_batches), which are the default, and released,
    which measures what the released code of LaMP measures.

    `lamp-hf evaluate retrieval lamp-small --data DATA --rerank 10`
    """
    from lamp_hf.evaluation.protocols import retrieval as task

    protocols = _chosen(protocol, task.PROTOCOLS, task.DEFAULT_PROTOCOLS)
    checkpoint = find_checkpoint(model, "motion-retrieval")
    card = _card(checkpoint, write_card)
    clips = _data(data, split, limit, skip_bad, cache_dir)
    misfits = task.misfits(protocols, clips, pool_size=pool_size, dissimilar_size=dissimilar_size)
    protocols = _that_fit(protocols, misfits)
    records = task.evaluate_retrieval_protocols(
        _name(name, checkpoint),
        _encoder(checkpoint, device),
        clips,
        protocols=protocols,
        rerank=rerank,
        pool_size=pool_size,
        dissimilar_size=dissimilar_size,
        repeats=repeats,
        seed=seed,
        on_estimate=_say_how_long,
    )
    _finish(records, output, card)


@app.command()
def captioning(
    model: Model,
    data: Data,
    protocol: Protocols = None,
    evaluator: Evaluator = EMBEDDED_EVALUATOR,
    no_evaluator: Annotated[
        bool, typer.Option("--no-evaluator", help="Score captions only, without R-Precision and MM-Dist.")
    ] = False,
    beams: Annotated[int, typer.Option("--beams", min=1, help="Number of beams for beam search.")] = 1,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help='Words with which every caption begins: "a man is" in the released code.'),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, help="Largest number of tokens after the prompt: 47 in the released code."
        ),
    ] = None,
    bertscore_model: Annotated[
        str | None,
        typer.Option(
            "--bertscore-model",
            help="Language model of BERTScore. Published tables use roberta-large. Defaults to all-MiniLM-L6-v2.",
        ),
    ] = None,
    pool_size: PoolSize = 32,
    split: Split = None,
    repeats: Repeats = 20,
    seed: Seed = 0,
    limit: Limit = None,
    output: Output = RECORDS_FOLDER,
    write_card: Card = False,
    name: Name = None,
    skip_bad: SkipBad = False,
    cache_dir: Cache = None,
    device: Device = None,
) -> None:
    """Evaluate captions: BLEU, ROUGE-L, CIDEr, BERTScore, R-Precision, and label accuracy if the clips have labels.

    `lamp-hf evaluate captioning lamp-small --data DATA`

    `lamp-hf evaluate captioning CONVERTED/captioning --data HumanML3D --evaluator CONVERTED/evaluator --prompt
    "a man is" --beams 5 --max-new-tokens 47 --bertscore-model roberta-large`
    """
    from lamp_hf.evaluation.protocols import captioning as task
    from lamp_hf.metrics.functional.sentences import DEFAULT_ENCODER

    _chosen(protocol, task.PROTOCOLS)
    checkpoint = find_checkpoint(model, "motion-captioning")
    card = _card(checkpoint, write_card)
    clips = _data(data, split, limit, skip_bad, cache_dir)
    writing = {"num_beams": beams, "prompt": prompt, "max_new_tokens": max_new_tokens}
    record = task.evaluate_captioning_protocol(
        _name(name, checkpoint),
        _pipeline("motion-captioning", checkpoint, device),
        clips,
        evaluator=None if no_evaluator else _embedder(evaluator, device),
        bertscore_model=bertscore_model or DEFAULT_ENCODER,
        pool_size=pool_size,
        on_estimate=_say_how_long,
        repeats=repeats,
        seed=seed,
        **{name: value for name, value in writing.items() if value is not None},
    )
    _finish([record], output, card)


@app.command()
def compare(
    records: Annotated[list[Path], typer.Argument(help="Record files (JSON) of one protocol on one split.")],
) -> None:
    """Compare the records of several models in one table. Records that were measured differently are rejected.

    `lamp-hf evaluate compare evaluations/text-to-motion-humanml3d-*.json`
    """
    from lamp_hf.evaluation.records import EvaluationRecord, comparison

    loaded = [EvaluationRecord.load(path) for path in records]
    _print_table(loaded[0], comparison(loaded))


# ---- helpers ----------------------------------------------------------------------------------------------


def _chosen(asked: Sequence[str] | None, known: Sequence[str], default: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the requested protocols; by default the default ones, or all of them."""
    for protocol in asked or ():
        if protocol not in known:
            raise typer.BadParameter(f"unknown protocol {protocol!r}; expected one of {', '.join(known)}")
    return tuple(dict.fromkeys(asked or default or known))


def _that_fit(protocols: Sequence[str], misfits: Mapping[str, str]) -> tuple[str, ...]:
    """Return the protocols that the data set is large enough for; print why the others are skipped."""
    fitting = tuple(protocol for protocol in protocols if protocol not in misfits)
    if not fitting:
        raise ValueError("; ".join(f"{protocol}: {reason}" for protocol, reason in misfits.items()))
    for protocol, reason in misfits.items():
        _say(f"skipped {protocol}: {reason}")
    return fitting


def _say_how_long(seconds: float, what: str) -> None:
    """Print how long the work will take, before it starts."""
    shown = "less than a minute" if seconds < 60 else f"about {seconds / 60:.0f} min"
    if seconds >= 5400:
        shown = f"about {seconds / 3600:.1f} h; use --limit or --repeats to shorten it"
    _say(f"{what}: {shown}")


def _say(text: str) -> None:
    """Print a progress line to stderr, from the main process only."""
    from lamp_hf.processes import process_state

    if process_state().is_main_process:
        typer.echo(text, err=True)


def _card(checkpoint: str, wanted: bool) -> Path | None:
    """Return the model card to write into, or `None` if it is not wanted."""
    if not wanted:
        return None
    card = Path(checkpoint) / "README.md"
    if not card.is_file():
        raise FileNotFoundError(f"--write-card needs a model card, but {card} does not exist; create it first")
    return card


def _name(asked: str | None, checkpoint: str) -> str:
    from lamp_hf.evaluation.protocols.common import shown_name

    return asked or shown_name(checkpoint)


def _data(data: str, split: str | None, limit: int | None, skip_bad: bool, cache_dir: Path | None) -> "EvaluationSet":
    from lamp_hf.data import dataset_name, load_motion_dataset
    from lamp_hf.data.named_sets import NAMED_SETS
    from lamp_hf.evaluation.protocols.common import EvaluationSet

    quiet_readers()
    known = dataset_name(data)
    loaded = load_motion_dataset(data, skip_bad=skip_bad, cache_dir=cache_dir)
    if split is None:
        split = next((name for name in SPLITS if name in loaded), None)
        if split is None and len(loaded) == 1:
            [split] = loaded
            _say(f"{data} has only the split {split}; evaluating on it")
    if split is None or split not in loaded:
        missing = "" if split is None else f", but not {split}"
        raise ValueError(f"{data} has the splits {', '.join(loaded)}{missing}; choose one with --split")
    compose = NAMED_SETS[known].grammar if known else None
    grammar = compose(data) if compose else None
    return EvaluationSet.from_dataset(loaded[split], known or _name(None, data), split, limit=limit, grammar=grammar)


def _device(asked: str | None) -> Any:
    from lamp_hf.processes import process_state

    return asked or process_state().device


def _pipeline(task: str, checkpoint: str, device: str | None, **settings: Any) -> Any:
    import transformers

    create: Any = transformers.pipeline  # its type hints cover only the built-in tasks
    return create(task, model=checkpoint, device=_device(device), **settings)


def _reads_annotations(evaluator: str) -> bool:
    """Return whether an evaluator is the released one, with its GloVe vectors."""
    import transformers

    checkpoint = find_checkpoint(evaluator, "evaluation")
    config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    return getattr(config, "text_input", None) == "glove" and config.num_word_vectors > 0


def _embedder(evaluator: str, device: str | None) -> "Embedder":
    import transformers

    from lamp_hf.metrics.embedder import Embedder

    checkpoint = find_checkpoint(evaluator, "evaluation")
    model: Any = transformers.AutoModel.from_pretrained(checkpoint, trust_remote_code=False)
    # An evaluator without its GloVe vectors has no tokenizer.
    wordless = getattr(model.config, "text_input", None) == "glove" and not model.config.num_word_vectors
    processor_class: Any = transformers.AutoFeatureExtractor if wordless else transformers.AutoProcessor
    return Embedder(model.to(_device(device)), processor_class.from_pretrained(checkpoint))


def _encoder(checkpoint: str, device: str | None) -> Any:
    from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
    from lamp_hf.modeling.processing_lamp import LampProcessor
    from lamp_hf.retrieval.encoder import MotionTextEncoder

    model: Any = LampForMotionTextRetrieval.from_pretrained(checkpoint)
    return MotionTextEncoder(model.to(_device(device)), LampProcessor.from_pretrained(checkpoint))


def _tokenizer(checkpoint: str, device: str | None) -> tuple[Any, Any]:
    """Load the motion tokenizer of a checkpoint, alone or as part of a larger model, and its feature extractor."""
    from transformers import AutoConfig, AutoModel

    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_lamp import LampModel
    from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion

    kind = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False).model_type
    if kind == "motion_vqvae":
        tokenizer: Any = AutoModel.from_pretrained(checkpoint, trust_remote_code=False)
    elif kind == "lamp_text_to_motion":
        tokenizer = LampForTextToMotion.from_pretrained(checkpoint).lamp.motion_vqvae
    else:
        tokenizer = LampModel.from_pretrained(checkpoint).motion_vqvae
    return tokenizer.to(_device(device)).eval(), LampFeatureExtractor.from_pretrained(checkpoint)


def _finish(records: "Iterable[EvaluationRecord]", output: Path, card: Path | None, suffix: str = "") -> None:
    """Print the tables and write the records, from the main process only."""
    from lamp_hf.evaluation.records import comparison, write_to_card
    from lamp_hf.processes import process_state

    if not process_state().is_main_process:
        return
    output.mkdir(parents=True, exist_ok=True)
    for record in records:
        _print_table(record, comparison([record]))
        path = output / f"{record.protocol.task}-{record.protocol.name}-{record.model.replace('/', '--')}{suffix}.json"
        record.save(path)
        typer.echo(f"saved {path}\n")
        if card is not None:
            write_to_card(card, record)
            typer.echo(f"updated the model-index of {card}\n")


def _print_table(record: "EvaluationRecord", rows: "Mapping[str, Row]") -> None:
    from rich.console import Console
    from rich.table import Table

    protocol = record.protocol
    evaluator = f", evaluator {protocol.evaluator}" if protocol.evaluator else ""
    title = (
        f"{protocol.task}, protocol {protocol.name}: {protocol.n} clips of {protocol.dataset} ({protocol.split}), "
        f"{protocol.repeats} repeats{evaluator}"
    )
    # One row per metric: there are more metrics than models, and terminals are narrow.
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True, min_width=max(len(metric) for row in rows.values() for metric in row))
    for row in rows:
        table.add_column(row)
    for metric in dict.fromkeys(metric for row in rows.values() for metric in row):
        table.add_row(metric, *(f"{row[metric]:.3f}" if metric in row else "" for row in rows.values()))
    Console().print(table)

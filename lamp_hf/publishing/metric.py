"""Publish metrics as Hub spaces."""

from pathlib import Path

from lamp_hf import metrics
from lamp_hf.hub.card_text import header_of, merged_card, split_card
from lamp_hf.hub.upload import CARD, Target

__all__ = ["push_metric"]


def push_metric(
    name_or_folder: str | Path, repo_id: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Push a metric as a space, from which `evaluate.load(repo_id)` loads it. Loading it requires lamp_hf.

    Args:
        name_or_folder: Name of a metric of lamp_hf, or the folder of a metric, with `NAME/NAME.py` and a README.md.
        repo_id, private, token: See [`push_checkpoint`].

    Returns:
        URL of the space.

    Raises:
        FileNotFoundError: The metric does not exist.
        HubError: The Hub refuses, or the upload did not finish.
    """
    folder = Path(metrics.folder(str(name_or_folder)) if str(name_or_folder) in metrics.NAMES else name_or_folder)
    script, card = folder / f"{folder.name}.py", folder / CARD
    for path in (script, card):
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: not a metric, {path.name} is missing; add it")
    target = Target(repo_id, repo_type="space", private=private, token=token)
    text = card.read_text(encoding="utf-8")
    header = {**header_of(text, str(card)), "sdk": "static", "library_name": "lamp_hf"}
    files: dict[str, Path | bytes] = {
        f"{Path(target.repo_id).name}.py": script,  # evaluate looks for a script named like the space
        "requirements.txt": b"lamp_hf[evaluate]\n",
    }
    merged = merged_card(target.read(CARD), header, split_card(text)[1])
    if merged is not None:
        files[CARD] = merged.encode()
    return target.commit(files, f"Upload the metric {folder.name}", space_sdk="static")

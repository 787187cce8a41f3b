"""Publish a motion index to the Hub with a card."""

from pathlib import Path
from typing import Any, Protocol

from lamp_hf.hub.card_text import CARD_ITSELF, merged_card, user_header
from lamp_hf.hub.licenses import find_license, warn_of_license
from lamp_hf.hub.upload import CARD, Target

__all__ = ["PublishableIndex", "index_card", "push_index"]

UPLOADED = ("motions/*.arrow", "captions/*.arrow", "*.faiss")

CONFIGS = [{"config_name": part, "data_files": f"{part}/*.arrow"} for part in ("motions", "captions")]
TEXT = """
# {title}

Index for searching motions by text and by motion. It contains {num_motions:,} motions and {num_captions:,} captions,
encoded with the checkpoint `{checkpoint}` (hash `{fingerprint}`). It does not contain the motion files: each result
gives the path of its file in the folder that was indexed.

```python
import lamp_hf
from transformers import pipeline

search = pipeline("motion-retrieval", model="{checkpoint}", index="{repo_id}")
search("a person waves with both hands", top_k=5)
```
"""


class PublishableIndex(Protocol):
    """The parts of a [`MotionIndex`] that publishing needs."""

    path: Path

    def __len__(self) -> int:
        """Number of motions."""

    @property
    def num_captions(self) -> int:
        """Number of captions."""

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint."""

    @property
    def fingerprint(self) -> str:
        """Hash of the checkpoint."""

    def portable_state(self) -> str:
        """Text of `index.json` without the folders of this machine."""


def push_index(
    index: PublishableIndex,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    token: str | None = None,
) -> str:
    """Upload an index as a dataset repository, in one commit.

    Args:
        index: The index.
        repo_id, private, license, token: See [`MotionIndex.push_to_hub`].

    Returns:
        URL of the repository.
    """
    target = Target(repo_id, repo_type="dataset", private=private, token=token)
    files: dict[str, Path | bytes] = {
        path.relative_to(index.path).as_posix(): path
        for pattern in UPLOADED
        for path in sorted(index.path.glob(pattern))
        if not path.name.startswith(".")
    }
    files["index.json"] = index.portable_state().encode()
    card = index_card(index, target.repo_id, target.read(CARD), license)
    if card is not None:
        files[CARD] = card.encode()
    return target.commit(files, "Upload motion index", replaces=UPLOADED)


def index_card(index: PublishableIndex, repo_id: str, existing: str | None, license: str | None) -> str | None:
    """Return the card of an index, or `None` if the existing one is user-edited.

    Args:
        index: The index.
        repo_id: Hub id of the repository.
        existing: The repository's present card.
        license: License identifier of the Hub, or `None`.
    """
    header: dict[str, Any] = {"library_name": "lamp_hf", "tags": ["lamp_hf", "human-motion", "motion-retrieval"]}
    header["configs"] = CONFIGS
    card_license = find_license(license, [(CARD_ITSELF, user_header(existing, f"{repo_id}/README.md"))])
    text = TEXT.format(
        title=repo_id.rpartition("/")[2],
        num_motions=len(index),
        num_captions=index.num_captions,
        checkpoint=index.checkpoint,
        fingerprint=index.fingerprint,
        repo_id=repo_id,
    )
    card = merged_card(existing, header, text, card_license)
    if card is not None:
        warn_of_license(card_license, repo_id)
    return card

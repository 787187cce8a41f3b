"""The card of a motion index on the Hub."""

from typing import TYPE_CHECKING, Any

from lamp_hf.hub.card_text import CARD_ITSELF, merged_card, persons_header
from lamp_hf.hub.licences import find_licence, warn_of_licence

if TYPE_CHECKING:
    from .index import MotionIndex

__all__ = ["index_card"]

CONFIGS = [{"config_name": part, "data_files": f"{part}/*.arrow"} for part in ("motions", "captions")]
TEXT = """
# {title}

{num_motions:,} motions and {num_captions:,} captions as vectors of the checkpoint `{checkpoint}`
(hash `{fingerprint}`), for search by text and by motion. The motions themselves are not here; a hit names the file
by its path in the folder that was indexed.

```python
import lamp_hf
from transformers import pipeline

search = pipeline("motion-retrieval", model="{checkpoint}", index="{repo_id}")
search("a person waves with both hands", top_k=5)
```
"""


def index_card(index: "MotionIndex", repo_id: str, existing: str | None, license: str | None) -> str | None:
    """The card of an index, or `None` if a person has written the existing one.

    Args:
        index: The index.
        repo_id: Its name on the Hub.
        existing: The card that is there.
        license: As the Hub spells it, if one is asked for.
    """
    header: dict[str, Any] = {"library_name": "lamp_hf", "tags": ["lamp_hf", "human-motion", "motion-retrieval"]}
    header["configs"] = CONFIGS
    licence = find_licence(license, [(CARD_ITSELF, persons_header(existing, f"{repo_id}/README.md"))])
    text = TEXT.format(
        title=repo_id.rpartition("/")[2],
        num_motions=len(index),
        num_captions=index.num_captions,
        checkpoint=index.checkpoint,
        fingerprint=index.fingerprint,
        repo_id=repo_id,
    )
    card = merged_card(existing, header, text, licence)
    if card is not None:
        warn_of_licence(licence, repo_id)
    return card

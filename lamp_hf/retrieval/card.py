"""The card of a motion index on the Hub."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .index import MotionIndex

__all__ = ["index_card"]

CARD = """---
library_name: lamp_hf
tags:
- human-motion
- motion-retrieval
configs:
- config_name: motions
  data_files: motions/*.arrow
- config_name: captions
  data_files: captions/*.arrow
---

# Motion index

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


def index_card(index: "MotionIndex", repo_id: str) -> str:
    """Markdown with the header that the Hub reads."""
    return CARD.format(
        num_motions=len(index),
        num_captions=index.num_captions,
        checkpoint=index.checkpoint,
        fingerprint=index.fingerprint,
        repo_id=repo_id,
    )

"""Publish processors without a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamp_hf.hub.card_text import CARD_ITSELF, merged_card, user_header, user_written
from lamp_hf.hub.licenses import find_license, warn_of_license
from lamp_hf.hub.upload import CARD, Target, matches

from .checkpoint import PUBLISHED, push_saved, with_tags

__all__ = ["push_processor"]


def push_processor(processor: Any, repo_id: str, **options: Any) -> str:
    """Push a processor or a feature extractor; if the repository has no model yet, with a card.

    Args:
        processor: The processor or feature extractor.
        repo_id: See [`push_checkpoint`].
        options: `private`, `license`, `tags`, `revision`, `create_pr`, `commit_message`, `commit_description` and
            `token`, see [`push_checkpoint`].
    """
    return push_saved(processor.save_pretrained, _push_processor_files, repo_id, options)


PROCESSOR_TEXT = """
# {title}

This processor turns motions and sentences into inputs for models of `lamp_hf`. This repository has no model yet.

```python
import lamp_hf
from transformers import {auto}

processor = {auto}.from_pretrained("{repo_id}")
```
"""


def _push_processor_files(
    folder: str,
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    tags: Sequence[str] | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
    token: str | None = None,
) -> str:
    target = Target(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
    files: dict[str, Path | bytes] = {
        path.name: path for path in sorted(Path(folder).iterdir()) if matches(path.name, PUBLISHED)
    }
    there = target.read(CARD)
    if "config.json" not in target.files and not user_written(there):
        card_license = find_license(license, [(CARD_ITSELF, user_header(there, f"{repo_id}/{CARD}"))])
        warn_of_license(card_license, target.repo_id)
        auto = "AutoProcessor" if "processor_config.json" in files else "AutoFeatureExtractor"
        text = PROCESSOR_TEXT.format(title=Path(target.repo_id).name, auto=auto, repo_id=target.repo_id)
        header = {"library_name": "lamp_hf", "tags": ["lamp_hf", "human-motion"]}
        files[CARD] = with_tags(merged_card(there, header, text, card_license) or "", tags).encode()
    message = commit_message or "Upload processor with lamp_hf"
    return target.commit(files, message, description=commit_description)

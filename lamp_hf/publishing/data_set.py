"""Publish motion data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

from lamp_hf.hub.card_text import (
    CARD_ITSELF,
    card_to_keep,
    header_of,
    merged_card,
    user_header,
    user_written,
    with_entries,
)
from lamp_hf.hub.errors import HubError, clear_hub_errors
from lamp_hf.hub.licenses import find_license, license_of_user_card, warn_of_license
from lamp_hf.hub.upload import CARD, Target

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


__all__ = ["push_dataset"]

DATASET_TEXT = """
# {title}

{clips} clips of human motion with captions, in the columns of `lamp_hf`: features of each frame as in HumanML3D,
captions with their times, and frames per second.

```python
from lamp_hf import load_motion_dataset

dataset = load_motion_dataset("{repo_id}")  # streaming=True reads row by row and stores nothing
```
"""


def push_dataset(
    dataset: "DatasetDict | Dataset",
    repo_id: str,
    *,
    private: bool | None = None,
    license: str | None = None,
    card: str | None = None,
    token: str | None = None,
) -> str:
    """Push a motion data set, which [`load_motion_dataset`] loads or streams from the Hub.

    Args:
        dataset: Data set as [`load_motion_dataset`] returns it.
        repo_id, private, token: See [`push_checkpoint`].
        license: License as the Hub spells it. Defaults to that of the existing card, else to `other`, with a warning.
        card: Text of a README.md, used unless the repository's card is user-edited.

    Returns:
        URL of the repository.

    Raises:
        HubError: The Hub refuses, or the upload did not finish.
        ValueError: The columns are not those of a motion data set.
    """
    from datasets import Dataset, DatasetDict

    from lamp_hf.data.loading import checked_dataset

    splits: DatasetDict = checked_dataset(
        DatasetDict(train=dataset) if isinstance(dataset, Dataset) else dataset, repo_id
    )
    target = Target(repo_id, repo_type="dataset", private=private, token=token)
    there = target.read(CARD)
    existing = card_to_keep(there, card)
    user_entries = user_header(existing, f"{repo_id}/{CARD}" if existing is there else f"{CARD} of the data set")
    if user_written(existing):
        card_license = license_of_user_card(user_entries, license, target.repo_id)
    else:
        card_license = find_license(license, [(CARD_ITSELF, user_entries)])
        warn_of_license(card_license, target.repo_id)
    clips = " and ".join(f"{len(split):,} ({name})" for name, split in splits.items())
    text = DATASET_TEXT.format(title=Path(target.repo_id).name, clips=clips, repo_id=target.repo_id)

    def readme(there: str | None) -> str:
        existing = card_to_keep(there, card)
        return merged_card(existing, {"tags": ["lamp_hf", "human-motion"]}, text, card_license) or str(existing)

    target.check_card(readme(there))
    url = target.create()
    try:
        with clear_hub_errors(target.repo_id):
            splits.push_to_hub(target.repo_id, private=private, token=token)
    except HubError as error:
        raise HubError(
            f"{error}. The upload did not finish, and {target.repo_id} is {target.state}; push again"
        ) from error
    target.refresh("complete except for its card")
    written = target.read(CARD)
    entries = header_of(written, f"{repo_id}/{CARD}")
    of_datasets = {key: value for key, value in entries.items() if key in ("dataset_info", "configs")}
    target.commit({CARD: with_entries(readme(written), of_datasets).encode()}, "Upload the card")
    return url

"""Saves and publishes pipelines as a model with its processor."""

import os
from typing import Any, cast

__all__ = ["SavedPipeline"]


class SavedPipeline:
    """Mixin for pipelines that have a model and a processor.

    The methods of transformers would mark the checkpoint as one with custom code and leave out the processor.
    """

    model: Any
    processor: Any

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and the processor; `pipeline(task, model=save_directory)` loads them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish the model, the processor and a card; see [`lamp_hf.publishing.checkpoint.push_checkpoint`] for the
        options.

        Returns:
            URL of the repository.
        """
        from lamp_hf.publishing.checkpoint import push_pipeline

        return push_pipeline(cast(Any, self), repo_id, **options)

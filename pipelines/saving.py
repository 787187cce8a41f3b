"""How a pipeline is saved and published: its model and its processor, from which it loads again."""

import os
from typing import Any, cast

__all__ = ["SavedPipeline"]


class SavedPipeline:
    """For pipelines of a model with a processor.

    What transformers does here would mark the checkpoint as one that brings its own code, and leave out the
    processor.
    """

    model: Any
    processor: Any

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save model and processor, from which `pipeline(task, model=save_directory)` loads."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish model, processor and a card; see [`lamp_hf.publishing.checkpoint.push_checkpoint`] for the options.

        Returns:
            URL of the repository.
        """
        from lamp_hf.publishing.checkpoint import push_pipeline

        return push_pipeline(cast(Any, self), repo_id, **options)

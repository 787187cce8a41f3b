"""The tasks of checkpoints, by the type of their model."""

__all__ = ["MODEL_TYPES", "tasks_of"]

# Model types that each task can load.
MODEL_TYPES = {
    "text-to-motion": ("lamp_text_to_motion",),
    "motion-captioning": ("lamp", "lamp_text_to_motion", "lamp_captioning"),
    "motion-retrieval": ("lamp", "lamp_text_to_motion"),
    "reconstruction": ("motion_vqvae", "lamp", "lamp_text_to_motion"),
    "evaluation": ("motion_text_evaluator", "lamp"),
}


def tasks_of(model_type: str) -> list[str]:
    """Return the tasks that can load a type of model, such as `"lamp"`, in the order of `MODEL_TYPES`."""
    return [task for task, types in MODEL_TYPES.items() if model_type in types]

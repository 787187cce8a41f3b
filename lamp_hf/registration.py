"""Registers the models, processors and pipelines of lamp_hf with transformers.

transformers does not have a plug-in entry point, so `pipeline("text-to-motion")` needs `import lamp_hf` first. That
import must stay cheap: `lamp-hf convert-motion` and the processes that convert motion files need only NumPy, while
importing transformers with torch takes seconds. This module therefore does not import them. It registers as soon as
transformers has been imported, or immediately if it already is. Afterwards, `import transformers` also loads the
models and pipelines of lamp_hf.

The hook waits for the package `transformers`, not for one of its modules. Those modules import each other in circles:
every language model imports `models.auto` before it is complete, so importing our models after one module could find
another one half loaded. The top package is lazy, and complete before any of its modules is imported.
"""

import functools
import sys
from collections.abc import Callable, Container, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register", "register_when_transformers_is_imported"]


def register() -> None:
    """Register configurations, models, processors and pipelines. Calling it again has no effect."""
    from transformers import (
        AutoConfig,
        AutoFeatureExtractor,
        AutoModel,
        AutoProcessor,
        AutoTokenizer,
        Pipeline,
        PreTrainedConfig,
        PreTrainedModel,
    )
    from transformers.pipelines import PIPELINE_REGISTRY

    from lamp_hf.checkpoints.embedded import CHECKPOINTS_FOLDER, DEFAULT_CHECKPOINT
    from lamp_hf.modeling.configuration_lamp import (
        LampConfig,
        LampTextToMotionConfig,
        LampWithLanguageModelConfig,
        MotionLengthEstimatorConfig,
        MotionTextEvaluatorConfig,
        MotionVQVAEConfig,
    )
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_auto import AutoModelForMotionCaptioning
    from lamp_hf.modeling.modeling_lamp import LampModel
    from lamp_hf.modeling.modeling_lamp_language_model_captioning import LampWithLanguageModelForMotionCaptioning
    from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
    from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
    from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimatorModel
    from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
    from lamp_hf.modeling.processing_lamp import LampProcessor
    from lamp_hf.modeling.tokenization_glove import GloveTokenizer
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline
    from lamp_hf.pipelines.motion_retrieval import MotionRetrievalPipeline
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

    # Configuration, model and processor of each model type.
    types: tuple[tuple[type[PreTrainedConfig], type[PreTrainedModel], type | None], ...] = (
        (MotionVQVAEConfig, MotionVQVAEModel, LampFeatureExtractor),
        (LampConfig, LampModel, LampProcessor),
        (LampTextToMotionConfig, LampForTextToMotion, LampProcessor),
        (LampWithLanguageModelConfig, LampWithLanguageModelForMotionCaptioning, LampProcessor),
        (MotionTextEvaluatorConfig, MotionTextEvaluatorModel, LampProcessor),
        (MotionLengthEstimatorConfig, MotionLengthEstimatorModel, None),  # reads the features of another model
    )
    for config_class, model_class, processor_class in types:
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)
        if processor_class is not None:
            AutoFeatureExtractor.register(config_class, LampFeatureExtractor, exist_ok=True)
        if processor_class is LampProcessor:
            AutoProcessor.register(config_class, LampProcessor, exist_ok=True)
    # Evaluators that read word pieces name their tokenizer in tokenizer_config.json.
    AutoTokenizer.register(MotionTextEvaluatorConfig, GloveTokenizer, exist_ok=True)
    pipelines: dict[str, tuple[type[Pipeline], type]] = {
        TextToMotionPipeline.task: (TextToMotionPipeline, LampForTextToMotion),
        MotionCaptioningPipeline.task: (MotionCaptioningPipeline, AutoModelForMotionCaptioning),
        MotionRetrievalPipeline.task: (MotionRetrievalPipeline, LampForMotionTextRetrieval),
    }
    for task, (pipeline_class, task_model) in pipelines.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task,
                pipeline_class=pipeline_class,
                pt_model=task_model,
                default={"model": (str(CHECKPOINTS_FOLDER / DEFAULT_CHECKPOINT), "main")},
                type="multimodal",
            )
    for auto_class in (AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer):
        _take_embedded_names(auto_class)
    _check_names_first(pipelines)


def _take_embedded_names(auto_class: Any) -> None:
    """Let an auto class of transformers accept the name of an embedded checkpoint; other names are passed through.

    `from_pretrained` must be wrapped because auto classes read the configuration by that name before they call a
    class of ours.
    """
    from lamp_hf.checkpoints.embedded import embedded_path

    original = auto_class.from_pretrained.__func__
    if hasattr(original, "__wrapped_by_lamp_hf__"):
        return

    @functools.wraps(original)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        return original(cls, embedded_path(pretrained_model_name_or_path), *args, **kwargs)

    from_pretrained.__wrapped_by_lamp_hf__ = True  # type: ignore[attr-defined]
    auto_class.from_pretrained = classmethod(from_pretrained)


def _check_names_first(tasks: Container[str]) -> None:
    """Make `transformers.pipeline` check the model name of our tasks before it requests files from the Hub.

    Without this, a mistyped name causes many requests (adapter, configuration and more, five times each), and the
    default model causes a warning. `trust_remote_code` defaults to False so that transformers does not ask whether to
    run code from the repository: our models do not need any.
    """
    import transformers
    from transformers import pipelines

    original: Callable[..., Any] = pipelines.pipeline
    if hasattr(original, "__wrapped_by_lamp_hf__"):
        return

    @functools.wraps(original)
    def pipeline(task: str | None = None, model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if task in tasks:
            from lamp_hf.checkpoints.embedded import embedded_checkpoint
            from lamp_hf.checkpoints.files import checked_name

            if model is None:
                model = str(embedded_checkpoint())
            elif isinstance(model, str):
                options = {**(kwargs.get("model_kwargs") or {}), **kwargs}
                model = checked_name(model, options)
            if kwargs.get("trust_remote_code") is None:
                kwargs["trust_remote_code"] = False
        return original(task, model, *args, **kwargs)

    pipeline.__wrapped_by_lamp_hf__ = True  # type: ignore[attr-defined]
    pipelines.pipeline = pipeline
    transformers.pipeline = pipeline


def register_when_transformers_is_imported() -> None:
    """Register now if transformers is already imported, otherwise right after it is."""
    if "transformers" in sys.modules:
        register()
    elif not any(isinstance(finder, _AfterTransformers) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTransformers())


class _AfterTransformers(MetaPathFinder):
    """Finds transformers with the other finders and registers lamp_hf once the package has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "transformers":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                break
        else:
            return None
        loader = spec.loader
        if loader is None:
            return None
        execute = loader.exec_module

        def execute_then_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                register()

        loader.exec_module = execute_then_register  # type: ignore[method-assign]
        return spec

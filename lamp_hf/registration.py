"""Makes the models, processors and pipelines of lamp_hf known to transformers.

transformers has no plug-in entry point: whoever wants `pipeline("text-to-motion")` imports lamp_hf first.
That import must stay cheap, because `lamp-hf convert-motion` and the processes that convert motion files
need NumPy alone, while transformers with torch takes seconds. So nothing heavy is imported here.
Registration happens as soon as transformers itself has been imported, or at once where it already has.

The import to wait for is `transformers` and none of its modules. Those import each other in circles: any
language model imports `models.auto` before it is ready itself, so that importing our models right after
one of them would find another half done. The top package is lazy, and complete before any of its modules
is looked for.
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
    """Register configurations, models, processors and pipelines; a second call changes nothing."""
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
        LampCaptioningConfig,
        LampConfig,
        LampTextToMotionConfig,
        MotionLengthEstimatorConfig,
        MotionTextEvaluatorConfig,
        MotionVQVAEConfig,
    )
    from lamp_hf.modeling.feature_extraction_lamp import LampFeatureExtractor
    from lamp_hf.modeling.modeling_auto import AutoModelForMotionCaptioning
    from lamp_hf.modeling.modeling_lamp import LampModel
    from lamp_hf.modeling.modeling_lamp_captioning import LampForMotionCaptioning
    from lamp_hf.modeling.modeling_lamp_motion_text_retrieval import LampForMotionTextRetrieval
    from lamp_hf.modeling.modeling_lamp_text_to_motion import LampForTextToMotion
    from lamp_hf.modeling.modeling_motion_length_estimator import MotionLengthEstimatorModel
    from lamp_hf.modeling.modeling_motion_text_evaluator import MotionTextEvaluatorModel
    from lamp_hf.modeling.modeling_motion_vqvae import MotionVQVAEModel
    from lamp_hf.modeling.processing_lamp import LampProcessor
    from lamp_hf.pipelines.motion_captioning import MotionCaptioningPipeline
    from lamp_hf.pipelines.motion_retrieval import MotionRetrievalPipeline
    from lamp_hf.pipelines.text_to_motion import TextToMotionPipeline

    models: dict[type[PreTrainedConfig], type[PreTrainedModel]] = {
        MotionVQVAEConfig: MotionVQVAEModel,
        LampConfig: LampModel,
        LampTextToMotionConfig: LampForTextToMotion,
        LampCaptioningConfig: LampForMotionCaptioning,
        MotionTextEvaluatorConfig: MotionTextEvaluatorModel,
    }
    for config_class, model_class in models.items():
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoModel.register(config_class, model_class, exist_ok=True)
        AutoFeatureExtractor.register(config_class, LampFeatureExtractor, exist_ok=True)
    # Reads features of another model's, and so has nothing that prepares motion or text for it.
    AutoConfig.register(MotionLengthEstimatorConfig.model_type, MotionLengthEstimatorConfig, exist_ok=True)
    AutoModel.register(MotionLengthEstimatorConfig, MotionLengthEstimatorModel, exist_ok=True)
    for config_class in (LampConfig, LampTextToMotionConfig, LampCaptioningConfig, MotionTextEvaluatorConfig):
        AutoProcessor.register(config_class, LampProcessor, exist_ok=True)
    pipelines: dict[str, tuple[type[Pipeline], type]] = {
        TextToMotionPipeline.task: (TextToMotionPipeline, LampForTextToMotion),
        MotionCaptioningPipeline.task: (MotionCaptioningPipeline, AutoModelForMotionCaptioning),
        MotionRetrievalPipeline.task: (MotionRetrievalPipeline, LampForMotionTextRetrieval),
    }
    for task, (pipeline_class, model_class) in pipelines.items():
        if task not in PIPELINE_REGISTRY.get_supported_tasks():
            PIPELINE_REGISTRY.register_pipeline(
                task,
                pipeline_class=pipeline_class,
                pt_model=model_class,
                default={"model": (str(CHECKPOINTS_FOLDER / DEFAULT_CHECKPOINT), "main")},
                type="multimodal",
            )
    for auto_class in (AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer):
        _take_embedded_names(auto_class)
    _check_names_first(pipelines)


def _take_embedded_names(auto_class: Any) -> None:
    """Let an auto class of transformers take the name of an embedded checkpoint; all other names stay its own matter.

    It offers no other way: a class of ours is asked only once the configuration has been found by the name.
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
    """Have `transformers.pipeline` look at the name of a model for our tasks before it asks the Hub for its files.

    Left to itself it asks for an adapter, a configuration and more, five times each, when a name is mistyped; and
    it warns whoever takes the default model. It also asks whether to run code of the repository: ours needs none.
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
    """Register now if transformers is loaded, else as soon as it will be."""
    if "transformers" in sys.modules:
        register()
    elif not any(isinstance(finder, _AfterTransformers) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterTransformers())


class _AfterTransformers(MetaPathFinder):
    """Finds transformers as the other finders do, and registers once it has been executed."""

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

"""Motion captioning: projected queries of LaMP are the soft prompt of a causal language model (LaMP, section 3.4)."""

import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, TransformersKwargs, can_return_tuple
from transformers.utils.hub import cached_file

from lamp_hf.checkpoints.embedded import resolve_checkpoint

from .base_lamp import LampBaseModel
from .configuration_lamp import LampWithLanguageModelConfig
from .modeling_lamp import LampModel
from .modeling_lamp_decoder_captioning import (
    LampDecoderForMotionCaptioning,
    MotionCaptions,
    mean_log_probs,
    through_end,
)
from .modeling_lamp_qformer import requested_outputs

__all__ = ["LampWithLanguageModelForMotionCaptioning", "encode_captions", "load_lamp"]

IGNORED_LABEL = -100
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class LampWithLanguageModelForMotionCaptioning(LampBaseModel):
    """Captions motions with any causal language model, prompted by a [`LampModel`].

    Training changes the projection, a LoRA adapter of peft in the language model and, with `config.lamp_name=None`,
    LaMP without its motion tokenizer. `save_pretrained` stores the trained parts; `from_pretrained` also loads LaMP and
    the language model by their names in the configuration. [`merge_adapter`] merges the adapter into the language
    model. `model.language_model.save_pretrained(…)` saves only the adapter, in the format of peft.

    Below, Q is the number of queries of LaMP and H its hidden size.
    """

    config: LampWithLanguageModelConfig
    config_class = LampWithLanguageModelConfig
    main_input_name = "motion_values"
    input_modalities = ["motion", "text"]
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    # from_pretrained loads the adapter separately if the language model is loaded by its name.
    _keys_to_ignore_on_load_unexpected = [r"^language_model\."]
    lamp: LampModel | None
    language_model: Any

    def __init__(
        self,
        config: LampWithLanguageModelConfig,
        lamp: LampModel | None = None,
        language_model: PreTrainedModel | None = None,
    ):
        """Build a captioner.

        Args:
            config: Configuration of the captioner.
            lamp, language_model: Existing parts. Missing parts are created with random weights or, if the configuration
                has a name for them, must be added with [`attach`].
        """
        super().__init__(config)
        self.projection = nn.Linear(config.lamp_config.hidden_size, config.embedding_size)
        self.lamp = None
        self.language_model = None
        if lamp is None and config.lamp_name is None:
            self.lamp = cast(LampModel, LampModel._from_config(config.lamp_config))
        if language_model is None and config.language_model_name is None:
            self.language_model = AutoModelForCausalLM.from_config(config.language_model_config)
        self.post_init()  # before the existing parts are added, so that their weights do not change
        if self.language_model is not None:
            self._adapt()
        self.attach(lamp, language_model)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.projection:
            init.normal_(module.weight, std=module.in_features**-0.5)

    def _adapt(self) -> None:
        """Add the adapter to the language model and freeze the other weights."""
        config = self.config
        if config.lora_rank:
            from peft import LoraConfig, get_peft_model  # imported here because it is slow to import

            targets = config.lora_target_modules
            adapter = LoraConfig(
                task_type="CAUSAL_LM",
                r=config.lora_rank,
                lora_alpha=cast(int, config.lora_alpha),
                lora_dropout=float(config.lora_dropout),
                target_modules=None if targets is None else list(targets),
            )
            self.language_model = get_peft_model(self.language_model, adapter)
        else:
            self.language_model.requires_grad_(False)

    # ---- parts --------------------------------------------------------------------------------------------

    @classmethod
    def from_parts(cls, lamp: str | LampModel, language_model: str | PreTrainedModel, **values: Any) -> Self:
        """Create a captioner.

        Args:
            lamp: A LaMP, which becomes part of this model; or its name, in which case it is frozen and not saved.
            language_model: A causal language model, to which the adapter is added in place; or its name, in which case
                only the adapter is saved.
            values: Values of [`LampWithLanguageModelConfig`]. `bos_token_id`, `eos_token_id` and `pad_token_id` default
                to those of the language model.
        """
        lamp_name = lamp if isinstance(lamp, str) else None
        language_model_name = language_model if isinstance(language_model, str) else None
        lamp = load_lamp(lamp) if isinstance(lamp, str) else lamp
        if isinstance(language_model, str):
            language_model = cast(
                PreTrainedModel, AutoModelForCausalLM.from_pretrained(language_model, trust_remote_code=False)
            )
        tokens = ("bos_token_id", "eos_token_id", "pad_token_id")
        text_config = language_model.config.get_text_config(decoder=True)
        values = {**{name: getattr(text_config, name, None) for name in tokens}, **values}
        config = cls.config_class(
            lamp_config=lamp.config.to_dict(),
            lamp_name=lamp_name,
            language_model_config=language_model.config.to_dict(),
            language_model_name=language_model_name,
            **values,
        )
        return cls(config, lamp, language_model)

    def attach(self, lamp: LampModel | None = None, language_model: PreTrainedModel | None = None) -> None:
        """Add LaMP, or a language model without an adapter, to this model."""
        if lamp is not None:
            self.lamp = lamp
        if language_model is not None:
            self.language_model = language_model
            self._adapt()
        self._settle()

    def _settle(self) -> None:
        """Freeze parts that are not trained, and exclude parts that are loaded by name from checkpoints."""
        elsewhere = set()
        if self.lamp is not None and self.config.lamp_name is not None:
            self.lamp.requires_grad_(False)
            elsewhere |= {f"lamp.{name}" for name in self.lamp.state_dict()}
        if self.language_model is not None and self.config.language_model_name is not None:
            names = self.language_model.state_dict()
            elsewhere |= {f"language_model.{name}" for name in names if ".lora_" not in name}
        self._keys_to_ignore_on_save = elsewhere
        # peft has renamed the tensors of the language model.
        self.all_tied_weights_keys = self.get_expanded_tied_weights_keys(all_submodels=True)
        self.list_unsplit_modules()
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a LaMP that is loaded by its name stays in evaluation mode."""
        super().train(mode)
        if self.lamp is not None and self.config.lamp_name is not None:
            self.lamp.eval()
        return self

    def merge_adapter(self) -> None:
        """Merge the adapter into the language model, which is saved with this model from now on."""
        if self.config.lora_rank:
            self.language_model = self._language_model().merge_and_unload()
        self.config.lora_rank = 0
        self.config.language_model_name = None
        self._settle()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        language_model_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load a captioner and the parts that it names.

        Args:
            pretrained_model_name_or_path, model_args, kwargs: As for any model of transformers.
            language_model_kwargs: Arguments of `AutoModelForCausalLM.from_pretrained` for a language model that is
                loaded by its name, such as quantization, attention implementation or dtype.

        Raises:
            CheckpointError: The checkpoint has no weights, is incomplete, is damaged or contains another kind of model.
            ValueError: The adapter does not fit the language model.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        lamp, language_model = None, None
        if model.config.lamp_name is not None:
            lamp = load_lamp(model.config.lamp_name)
            nn.Module.to(lamp, model.device, model.dtype)
        if model.config.language_model_name is not None:
            options = {"dtype": model.dtype, "trust_remote_code": False, **(language_model_kwargs or {})}
            language_model = AutoModelForCausalLM.from_pretrained(model.config.language_model_name, **options)
            if "device_map" not in options:
                nn.Module.to(language_model, model.device)
        model.attach(lamp, language_model)
        if language_model is not None and model.config.lora_rank:
            model._load_adapter(weight_files(pretrained_model_name_or_path, kwargs))
        model.eval()
        return loaded

    def _load_adapter(self, files: Sequence[str]) -> None:
        from safetensors import safe_open

        prefix = "language_model."
        adapter: dict[str, torch.Tensor] = {}
        for file in files:
            with safe_open(file, framework="pt") as stored:
                names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118 (no mapping)
                adapter |= {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
        result = self.language_model.load_state_dict(adapter, strict=False)
        missing = [name for name in result.missing_keys if ".lora_" in name]
        if missing or result.unexpected_keys:
            raise ValueError(
                f"the adapter in {files[0]} does not fit {self.config.language_model_name}: {len(missing)} tensors are "
                f"missing, {len(result.unexpected_keys)} are unknown; load it with its own language model"
            )

    # ---- inputs -------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        return self._language_model().get_input_embeddings()

    def get_output_embeddings(self) -> Any:
        """Return the output layer of the language model; FSDP shards it together with tied word embeddings."""
        return self._language_model().get_output_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self._language_model().set_input_embeddings(value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> Any:
        """Change the vocabulary of the language model, as for any model of transformers.

        Raises:
            ValueError: The language model is loaded by its name and not saved with this model.
        """
        if self.config.language_model_name is not None:
            raise ValueError(
                f"the vocabulary of {self.config.language_model_name} would be lost: it is loaded by its name and not "
                "saved with this captioner; call merge_adapter() first, or pass the resized model to from_parts"
            )
        language_model = self._language_model()
        embeddings = language_model.resize_token_embeddings(*args, **kwargs)
        self.config.language_model_config.get_text_config(decoder=True).vocab_size = embeddings.num_embeddings
        return embeddings

    def _language_model(self) -> Any:
        if self.language_model is None:
            raise ValueError(
                f"the language model {self.config.language_model_name} is missing: load this captioner with "
                "from_pretrained, or pass the language model to attach()"
            )
        return self.language_model

    def query(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the query outputs `(B, Q, H)` of LaMP.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            motion_embeds, motion_token_mask: Output of LaMP's `encode_motion`, instead of `motion_values`.
        """
        if self.lamp is None:
            raise ValueError(
                f"the LaMP {self.config.lamp_name} is missing: load this captioner with from_pretrained or use attach()"
            )
        if motion_embeds is None:
            if motion_values is None:
                raise ValueError("the motion is missing: give motion_values, or motion_embeds from encode_motion()")
            encoded = self.lamp.encode_motion(motion_values, motion_attention_mask, output_codes=False)
            motion_embeds, motion_token_mask = encoded.motion_embeds, encoded.motion_token_mask
        states = self.lamp.motion_to_states(motion_embeds.to(self.lamp.dtype))
        return self.lamp.query(states, motion_token_mask)

    def _queries(
        self,
        motion_values: torch.Tensor | None,
        motion_attention_mask: torch.Tensor | None,
        query_output: torch.Tensor | None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if query_output is not None:
            return query_output
        if motion_values is None and motion_embeds is None:
            raise ValueError("the motion is missing: give motion_values, or query_output from query()")
        return self.query(motion_values, motion_attention_mask, motion_embeds, motion_token_mask)

    def _prompted(
        self, query_output: torch.Tensor, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings of soft prompt and words, `(B, Q + L, E)`, and their mask, `(B, Q + L)`."""
        embeds = self.projection(query_output.to(self.projection.weight.dtype))
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        if input_ids is not None:
            words = self.get_input_embeddings()(input_ids)
            embeds = torch.cat([embeds.to(words.dtype), words], 1)
            mask = torch.cat([mask, torch.ones_like(input_ids) if attention_mask is None else attention_mask], 1)
        return embeds, mask

    # ---- use ----------------------------------------------------------------------------------------------

    @can_return_tuple
    def forward(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        query_output: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        motion_embeds: torch.Tensor | None = None,
        motion_token_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the language model on soft prompts followed by captions.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            query_output: Output of [`query`], `(B, Q, H)`, instead of `motion_values`. If LaMP is frozen, training may
                cache it.
            input_ids, attention_mask: Captions, `(B, L)`, padded on the right; see [`encode_captions`].
            labels: Captions, `(B, L)`, with -100 on tokens that the loss ignores.
            motion_embeds, motion_token_mask: Output of LaMP's `encode_motion`, `(B, n, code_dim)` and `(B, n)`, instead
                of `motion_values`. If LaMP is trained, training may cache it, because the motion tokenizer is not.
            kwargs: Arguments of the language model, such as `output_hidden_states` and `output_attentions`.

        Returns:
            An output with `logits` `(B, Q + L, vocab_size)` and, with `labels`, `loss`, the mean cross-entropy of the
            tokens of the captions.

        Raises:
            TypeError: The language model does not have an argument.
            ValueError: The motion, LaMP or the language model is missing.

        Example:

        ```python
        >>> import torch
        >>> from lamp_hf import LampWithLanguageModelForMotionCaptioning, LampModel
        >>> from transformers import OPTConfig, OPTForCausalLM

        >>> language_model = OPTForCausalLM(OPTConfig(hidden_size=24, ffn_dim=24, num_hidden_layers=1))
        >>> lamp = LampModel.from_pretrained("lamp-small")
        >>> model = LampWithLanguageModelForMotionCaptioning.from_parts(lamp, language_model)
        >>> captions = torch.tensor([[2, 10, 11, 50118]])
        >>> output = model(torch.zeros(1, 40, 263), input_ids=captions, labels=captions)
        >>> output.loss.ndim, output.logits.shape[1]  # 24 queries and 4 words
        (0, 28)

        ```
        """
        self._check_options(kwargs)
        requested = requested_outputs(self.config.output_hidden_states or None, self.config.output_attentions or None)
        query_output = self._queries(
            motion_values, motion_attention_mask, query_output, motion_embeds, motion_token_mask
        )
        embeds, mask = self._prompted(query_output, input_ids, attention_mask)
        if labels is not None:
            labels = F.pad(labels, (embeds.shape[1] - labels.shape[1], 0), value=IGNORED_LABEL)
        output: CausalLMOutputWithPast = self._language_model()(
            inputs_embeds=embeds, attention_mask=mask, labels=labels, return_dict=True, **{**requested, **kwargs}
        )
        return output

    def _check_options(self, options: dict[str, Any]) -> None:
        """Reject arguments that the language model would silently ignore."""
        model = self._language_model()
        model = model.get_base_model() if self.config.lora_rank else model
        known = {*inspect.signature(model.forward).parameters, *TransformersKwargs.__annotations__}
        unknown = sorted(name for name in options if name not in known)
        if unknown:
            raise TypeError(f"{type(self).__name__}.forward() got unexpected arguments: {', '.join(unknown)}")

    @torch.no_grad()
    def generate(
        self,
        motion_values: torch.Tensor | None = None,
        motion_attention_mask: torch.Tensor | None = None,
        query_output: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Write captions.

        Args:
            motion_values, motion_attention_mask, query_output: Motions; see [`forward`].
            input_ids, attention_mask: Beginning of the captions, `(B, L)`, or `(1, L)` for all, padded on the left if
                padded. Defaults to `config.bos_token_id`. The released code uses "a man is".
            kwargs: Arguments of transformers' `generate`: `num_beams`, `do_sample`, `max_new_tokens`,
                `num_return_sequences`, `output_scores`, … `max_length` includes the soft prompt.

        Returns:
            The output of transformers' `generate`: the new token ids, `(B * num_return_sequences, L)`.

        Raises:
            ValueError: The motion, LaMP or the language model is missing.
        """
        config = self.config
        query_output = self._queries(motion_values, motion_attention_mask, query_output)
        if input_ids is None and config.bos_token_id is not None:
            input_ids = torch.full((1, 1), config.bos_token_id, device=query_output.device)
        if input_ids is not None and len(input_ids) == 1:
            input_ids = input_ids.expand(len(query_output), -1)
            attention_mask = None if attention_mask is None else attention_mask.expand(len(query_output), -1)
        embeds, mask = self._prompted(query_output, input_ids, attention_mask)
        defaults: dict[str, Any] = {}
        if "generation_config" not in kwargs:
            defaults |= {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id}
            if not kwargs.keys() & {"max_new_tokens", "max_length"}:
                begun = 0 if input_ids is None else input_ids.shape[1]
                defaults["max_new_tokens"] = max(config.max_text_length - begun, 1)
        return self._language_model().generate(inputs_embeds=embeds, attention_mask=mask, **{**defaults, **kwargs})

    @torch.no_grad()
    def caption(
        self,
        motion_values: torch.Tensor,
        motion_attention_mask: torch.Tensor | None = None,
        prompt_ids: Sequence[int] = (),
        **kwargs: Any,
    ) -> MotionCaptions:
        """Write captions with scores.

        Args:
            motion_values, motion_attention_mask: Motions; see [`LampModel`].
            prompt_ids: Tokens with which every caption begins, without `config.bos_token_id`. They are part of the
                result, but not of its score.
            kwargs: See [`generate`].
        """
        config = self.config
        query_output = self.query(motion_values, motion_attention_mask)
        begin = [*([] if config.bos_token_id is None else [config.bos_token_id]), *prompt_ids]
        if begin:
            kwargs["input_ids"] = torch.tensor([begin], device=query_output.device)
        sequences = self.generate(query_output=query_output, **{**kwargs, "return_dict_in_generate": False})
        query_output = query_output.repeat_interleave(len(sequences) // len(query_output), 0)
        begun = sequences.new_tensor(begin).expand(len(sequences), -1)
        shown = torch.cat([begun, sequences[:, :-1]], 1)  # the last query, or the beginning, predicts the first token
        logits = self(query_output=query_output, input_ids=shown).logits[:, -sequences.shape[1] :]
        mask = through_end(sequences, cast(int, config.eos_token_id))
        scores = mean_log_probs(logits, sequences, mask).exp()
        prompt = sequences.new_tensor(list(prompt_ids)).expand(len(sequences), -1)
        return MotionCaptions(sequences=torch.cat([prompt, sequences], 1), scores=scores)


def weight_files(name: str | os.PathLike[str], options: dict[str, Any]) -> list[str]:
    """Return the safetensors files of a checkpoint, one or several, downloaded if it is on the Hub.

    Args:
        name: Folder or Hub id.
        options: Arguments of `from_pretrained`: `variant`, `revision`, `token`, …
    """
    found = {key: options[key] for key in HUB_ARGUMENTS if options.get(key) is not None}
    variant = f".{options['variant']}" if options.get("variant") else ""
    whole = SAFE_WEIGHTS_NAME.removesuffix(".safetensors") + variant + ".safetensors"
    index = SAFE_WEIGHTS_INDEX_NAME.removesuffix(".json") + variant + ".json"
    try:
        return [cast(str, cached_file(name, whole, **found))]
    except OSError:
        parts = json.loads(Path(cast(str, cached_file(name, index, **found))).read_text(encoding="utf-8"))
        return [cast(str, cached_file(name, part, **found)) for part in sorted(set(parts["weight_map"].values()))]


def load_lamp(name: str) -> LampModel:
    """Load the LaMP in a checkpoint, given its folder, Hub id or embedded name."""
    loaded = cast(
        LampDecoderForMotionCaptioning, LampDecoderForMotionCaptioning.from_pretrained(resolve_checkpoint(name))
    )
    lamp = loaded.lamp
    lamp.config.is_encoder_decoder = False
    return lamp


def encode_captions(
    tokenizer: Any, texts: Sequence[str], config: PreTrainedConfig, max_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenize captions for the training of a language model.

    Args:
        tokenizer: Tokenizer of the language model.
        texts: Captions.
        config: Configuration whose `bos_token_id` and `eos_token_id`, if not `None`, begin and end every caption.
        max_length: Largest number of tokens of a caption, including these two. A truncated caption has no end token.

    Returns:
        `input_ids` and `attention_mask`, `(B, L)`, padded on the right.
    """
    start, end = ([] if token is None else [token] for token in (config.bos_token_id, config.eos_token_id))
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    rows = [torch.tensor((start + ids + end)[:max_length]) for ids in encoded]
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id or 0), mask

"""Which tensors the authors' checkpoints hold: names and shapes of every kind, by the configuration of our model.

Against this a file is checked before anything of it is used, so that an error names its tensors as its authors do.
The names are those of the released code (gentlefress/LaMP at 48deb9e, and MoMask's length estimator).
"""

import re

from lamp_hf.modeling.configuration_lamp import (
    LampCaptioningConfig,
    LampConfig,
    LampTextToMotionConfig,
    MotionLengthEstimatorConfig,
    MotionTextEvaluatorConfig,
    MotionVQVAEConfig,
)

__all__ = ["KINDS", "UNUSED", "layout_of"]

Shapes = dict[str, tuple[int, ...]]
AnyConfig = (
    MotionVQVAEConfig
    | LampConfig
    | LampTextToMotionConfig
    | LampCaptioningConfig
    | MotionTextEvaluatorConfig
    | MotionLengthEstimatorConfig
)

KINDS = ("motion-vqvae", "lamp", "text-to-motion", "captioning", "evaluator", "length-estimator")

# The positions of BERT, a constant; and what is saved a second time, being tied to cls.predictions.bias.
_QFORMER_UNUSED = r"Qformer\.bert\.embeddings\.position_ids|Qformer\.cls\.predictions\.decoder\.bias"
# Tensors that take no part in what a model computes; they may be missing, and may have any shape.
UNUSED: dict[str, re.Pattern[str]] = {
    "motion-vqvae": re.compile(r"(?!)"),
    "lamp": re.compile(_QFORMER_UNUSED),
    # Fixed sinusoids, and a layer without gradient (T6).
    "text-to-motion": re.compile(rf"{_QFORMER_UNUSED}|position_enc\.pe|clip2qformer\.(weight|bias)"),
    # A T2M-GPT and a VQ-VAE without part in the forward pass.
    "captioning": re.compile(rf"{_QFORMER_UNUSED}|(trans_base|trans_head|vq_model)\..*"),
    "evaluator": re.compile(r"(?!)"),
    "length-estimator": re.compile(r"(?!)"),
}


def layout_of(config: AnyConfig) -> Shapes:
    """Names and shapes of the tensors in a checkpoint for whose model this is the configuration.

    Tensors that take no part (`UNUSED`) are left out. A captioner's language model is under `opt_model.`, its adapted
    layers under the names of recent versions of peft.
    """
    if isinstance(config, MotionVQVAEConfig):
        return _encoder("vqvae.encoder.", config) | _decoder("vqvae.", config)
    if isinstance(config, LampConfig):
        return _lamp(config)
    if isinstance(config, LampTextToMotionConfig):
        return _text_to_motion(config)
    if isinstance(config, LampCaptioningConfig):
        return _captioning(config)
    if isinstance(config, MotionTextEvaluatorConfig):
        return _evaluator(config)
    return _length_estimator(config)


def _linear(name: str, size_out: int, size_in: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (size_out, size_in, *kernel), f"{name}.bias": (size_out,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


# ---- motion tokenizer -------------------------------------------------------------------------------------


def _residual(name: str, config: MotionVQVAEConfig) -> Shapes:
    shapes: Shapes = {}
    for block in range(config.num_residual_layers):
        shapes |= _linear(f"{name}.model.{block}.conv1", config.hidden_size, config.hidden_size, 3)
        shapes |= _linear(f"{name}.model.{block}.conv2", config.hidden_size, config.hidden_size, 1)
    return shapes


def _encoder(prefix: str, config: MotionVQVAEConfig) -> Shapes:
    width = config.hidden_size
    shapes = _linear(f"{prefix}model.0", width, config.motion_dim, 3)
    for stage in range(2, 2 + config.num_downsampling_layers):
        shapes |= _linear(f"{prefix}model.{stage}.0", width, width, 4)
        shapes |= _residual(f"{prefix}model.{stage}.1", config)
    return shapes | _linear(f"{prefix}model.{2 + config.num_downsampling_layers}", config.code_dim, width, 3)


def _decoder(prefix: str, config: MotionVQVAEConfig) -> Shapes:
    """Decoder and codebook."""
    width, last = config.hidden_size, 1 + config.num_downsampling_layers
    shapes = _linear(f"{prefix}decoder.model.0", width, config.code_dim, 3)
    for stage in range(2, last + 1):
        shapes |= _residual(f"{prefix}decoder.model.{stage}.0", config)
        shapes |= _linear(f"{prefix}decoder.model.{stage}.2", width, width, 3)
    shapes |= _linear(f"{prefix}decoder.model.{last + 1}", width, width, 3)
    shapes |= _linear(f"{prefix}decoder.model.{last + 3}", config.motion_dim, width, 3)
    return shapes | {f"{prefix}quantizer.codebook": (config.num_codes, config.code_dim)}


# ---- LaMP -------------------------------------------------------------------------------------------------


def _qformer(config: LampConfig) -> Shapes:
    width, ffn = config.hidden_size, config.intermediate_size
    query_ffn = config.query_intermediate_size or ffn
    embeddings = "Qformer.bert.embeddings"
    shapes: Shapes = {
        "query_tokens": (1, config.num_query_tokens, width),
        f"{embeddings}.word_embeddings.weight": (config.vocab_size, width),
        f"{embeddings}.position_embeddings.weight": (config.max_position_embeddings, width),
    } | _norm(f"{embeddings}.LayerNorm", width)
    for index in range(config.num_hidden_layers):
        layer = f"Qformer.bert.encoder.layer.{index}"
        blocks = {"attention": width}
        if index % config.cross_attention_frequency == 0:
            blocks["crossattention"] = config.motion_hidden_size
        for block, size_in in blocks.items():
            shapes |= _linear(f"{layer}.{block}.self.query", width, width)
            shapes |= _linear(f"{layer}.{block}.self.key", width, size_in)
            shapes |= _linear(f"{layer}.{block}.self.value", width, size_in)
            shapes |= _linear(f"{layer}.{block}.output.dense", width, width)
            shapes |= _norm(f"{layer}.{block}.output.LayerNorm", width)
        for suffix, size in (("", ffn), ("_query", query_ffn)):
            shapes |= _linear(f"{layer}.intermediate{suffix}.dense", size, width)
            shapes |= _linear(f"{layer}.output{suffix}.dense", width, size)
            shapes |= _norm(f"{layer}.output{suffix}.LayerNorm", width)
    head = "Qformer.cls.predictions"
    shapes |= {f"{head}.bias": (config.vocab_size,), f"{head}.decoder.weight": (config.vocab_size, width)}
    return shapes | _linear(f"{head}.transform.dense", width, width) | _norm(f"{head}.transform.LayerNorm", width)


def _lamp(config: LampConfig) -> Shapes:
    tokenizer: MotionVQVAEConfig = config.motion_vqvae_config
    width = config.hidden_size
    shapes = _qformer(config)
    shapes |= {f"vq_model.{name}": shape for name, shape in layout_of(tokenizer).items()}
    shapes |= _encoder("motion_encoder.", tokenizer)
    shapes |= {
        "motion_projection": (tokenizer.code_dim, config.motion_hidden_size),
        "text_projection": (width, config.motion_hidden_size),
        "temp": (),
        "motion_cls.weight": (tokenizer.num_codes, width),
    }
    for name, size in (("text_proj", config.projection_dim), ("motion_proj", config.projection_dim), ("itm_head", 2)):
        shapes |= _linear(name, size, width)
    return shapes


# ---- what stands on LaMP ----------------------------------------------------------------------------------


def _text_to_motion(config: LampTextToMotionConfig) -> Shapes:
    lamp: LampConfig = config.lamp_config
    width, codes, code_dim = config.hidden_size, config.num_codes, config.motion_vqvae_config.code_dim
    shapes = _qformer(lamp) | _linear("text2former", lamp.motion_hidden_size, lamp.hidden_size)
    shapes |= {"token_emb.weight": (codes + 2, code_dim)}
    shapes |= _linear("input_process.poseEmbedding", width, code_dim) | _linear("cond_emb", width, lamp.hidden_size)
    for index in range(config.num_hidden_layers):
        layer = f"seqTransEncoder.layers.{index}"
        shapes |= {
            f"{layer}.self_attn.in_proj_weight": (3 * width, width),
            f"{layer}.self_attn.in_proj_bias": (3 * width,),
        }
        shapes |= _linear(f"{layer}.self_attn.out_proj", width, width)
        shapes |= _linear(f"{layer}.linear1", config.intermediate_size, width)
        shapes |= _linear(f"{layer}.linear2", width, config.intermediate_size)
        shapes |= _norm(f"{layer}.norm1", width) | _norm(f"{layer}.norm2", width)
    shapes |= _linear("output_process.dense", width, width) | _norm("output_process.LayerNorm", width)
    return shapes | _linear("output_process.poseFinal", codes, width)


def _captioning(config: LampCaptioningConfig) -> Shapes:
    lamp: LampConfig = config.lamp_config
    model = config.language_model_config
    width, ffn = model.hidden_size, model.ffn_dim
    shapes = _qformer(lamp) | _encoder("motion_encoder.", lamp.motion_vqvae_config)
    shapes |= {"motion_projection": (lamp.motion_vqvae_config.code_dim, lamp.motion_hidden_size)}
    shapes |= _linear("opt_proj", config.embedding_size, lamp.hidden_size)
    decoder = "opt_model.model.decoder"
    shapes |= {
        f"{decoder}.embed_tokens.weight": (model.vocab_size, model.word_embed_proj_dim),
        # OPT counts positions from 2.
        f"{decoder}.embed_positions.weight": (model.max_position_embeddings + 2, width),
        "opt_model.lm_head.weight": (model.vocab_size, model.word_embed_proj_dim),
    }
    shapes |= _norm(f"{decoder}.final_layer_norm", width)
    for index in range(model.num_hidden_layers):
        layer = f"{decoder}.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            inner = f"{layer}.self_attn.{name}"
            if config.lora_rank and name in (config.lora_target_modules or ()):
                shapes |= _linear(f"{inner}.base_layer", width, width)
                shapes[f"{inner}.lora_A.default.weight"] = (config.lora_rank, width)
                shapes[f"{inner}.lora_B.default.weight"] = (width, config.lora_rank)
            else:
                shapes |= _linear(inner, width, width)
        shapes |= _norm(f"{layer}.self_attn_layer_norm", width) | _norm(f"{layer}.final_layer_norm", width)
        shapes |= _linear(f"{layer}.fc1", ffn, width) | _linear(f"{layer}.fc2", width, ffn)
    return shapes


# ---- networks that judge, and lengths ---------------------------------------------------------------------


def _recurrent(prefix: str, size_in: int, hidden: int, size_out: int) -> Shapes:
    shapes: Shapes = {f"{prefix}hidden": (2, 1, hidden)} | _linear(f"{prefix}input_emb", hidden, size_in)
    for way in ("", "_reverse"):
        for gate in ("ih", "hh"):
            shapes[f"{prefix}gru.weight_{gate}_l0{way}"] = (3 * hidden, hidden)
            shapes[f"{prefix}gru.bias_{gate}_l0{way}"] = (3 * hidden,)
    shapes |= _linear(f"{prefix}output_net.0", hidden, 2 * hidden) | _norm(f"{prefix}output_net.1", hidden)
    return shapes | _linear(f"{prefix}output_net.3", size_out, hidden)


def _evaluator(config: MotionTextEvaluatorConfig) -> Shapes:
    words, size = config.word_embedding_size, config.movement_size
    shapes = _linear("movement_encoder.main.0", config.movement_hidden_size, config.motion_dim - 4, 4)
    shapes |= _linear("movement_encoder.main.3", size, config.movement_hidden_size, 4)
    shapes |= _linear("movement_encoder.out_net", size, size)
    shapes |= _linear("text_encoder.pos_emb", words, config.num_pos_tags)
    shapes |= _recurrent("text_encoder.", words, config.text_hidden_size, config.projection_dim)
    return shapes | _recurrent("motion_encoder.", size, config.motion_hidden_size, config.projection_dim)


def _length_estimator(config: MotionLengthEstimatorConfig) -> Shapes:
    shapes: Shapes = {}
    size = config.input_size
    for index, width in enumerate(config.hidden_sizes):
        shapes |= _linear(f"output.{4 * index}", width, size) | _norm(f"output.{4 * index + 1}", width)
        size = width
    # Dropout follows each hidden layer but the last; the first class is a motion of no tokens.
    return shapes | _linear(f"output.{4 * len(config.hidden_sizes) - 1}", config.max_motion_tokens + 1, size)

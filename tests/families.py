"""Tiny random models of any family that transformers knows: each config class with its sizes shrunk."""

import inspect
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

VOCABULARY = 160
HIDDEN, HEADS, HEAD_DIM, LAYERS = 32, 4, 8, 2
WIDE = 0.2
SIZES = (
    (
        HIDDEN,
        "hidden_size d_model n_embd dim model_dim embed_dim word_embed_proj_dim embedding_size hidden_dim emb_dim",
    ),
    (HIDDEN, "dim_model attention_hidden_size lru_width decoder_hidden_size d_embed hidden_dimension width"),
    (48, "intermediate_size ffn_dim d_inner n_inner ffn_hidden_size encoder_ffn_dim decoder_ffn_dim dim_ff dff"),
    (48, "moe_intermediate_size shared_expert_intermediate_size feed_forward_size shared_intermediate_size mlp_dim"),
    (48, "expert_ffn_hidden_size intermediate_size_mlp block_ff_dim"),
    (LAYERS, "num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers depth num_decoder_layers"),
    (LAYERS, "num_encoder_layers"),
    (HEADS, "num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads"),
    (HEADS, "attention_heads num_encoder_attention_heads num_decoder_attention_heads"),
    (2, "num_key_value_heads num_kv_heads n_head_kv num_experts_per_tok moe_top_k moe_k num_global_key_value_heads"),
    (2, "topk_group n_group mamba_n_groups n_groups num_experts_per_token moe_topk"),
    (HEAD_DIM, "head_dim attention_head_dim d_kv v_head_dim qk_nope_head_dim qk_rope_head_dim linear_key_head_dim"),
    (HEAD_DIM, "linear_value_head_dim index_head_dim mamba_head_dim mamba_d_head global_head_dim"),
    (16, "q_lora_rank kv_lora_rank hidden_size_per_layer_input o_lora_rank mamba_d_state state_size ssm_state_size"),
    (4, "num_experts num_local_experts n_routed_experts moe_num_experts linear_num_key_heads index_n_heads"),
    (4, "linear_num_value_heads num_hash_layers"),
    (8, "mamba_n_heads mamba_num_heads index_topk"),
    (VOCABULARY, "vocab_size vocab_size_per_layer_input padded_vocab_size n_tokens"),
    (512, "max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length"),
    (8, "sliding_window attention_window_size attention_chunk_size sliding_window_size window_size chunk_size"),
    (8, "mamba_chunk_size"),
)
SIZE_OF = {name: size for size, names in SIZES for name in names.split()}
"""What each field of a config becomes at most."""
LISTS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types")


def _computed(config: PreTrainedConfig, name: str) -> bool:
    return isinstance(getattr(type(config), config.attribute_map.get(name, name), None), property)


def shrunk(config: PreTrainedConfig) -> dict[str, Any]:
    """The arguments that make a config of the same class tiny."""
    config.allow_global_per_layer_attribute_access = True
    known = set(inspect.signature(type(config)).parameters) | set(vars(config))
    values: dict[str, Any] = {}
    for name in sorted(known):
        now = getattr(config, name, None)
        if _computed(config, name):
            continue
        if isinstance(now, PreTrainedConfig):
            values[name] = shrunk(now)
        elif isinstance(now, dict) and "mrope_section" in now:
            values[name] = now | {"mrope_section": [2, 1, 1], "rope_theta": 100.0}
        elif name == "head_dim" and now is None:
            values[name] = HEAD_DIM
        elif name == "num_key_value_heads" and now == getattr(config, "num_attention_heads", None):
            values[name] = HEADS
        elif name in SIZE_OF and isinstance(now, int) and not isinstance(now, bool):
            values[name] = min(now, SIZE_OF[name])
        elif name.endswith("token_id") and isinstance(now, int):
            values[name] = min(now, VOCABULARY - 1)
    layers = [n for n in ("num_hidden_layers", "n_layer", "num_layers", "n_layers") if n in values]
    for name in LISTS:
        now = getattr(config, name, None)
        if isinstance(now, list | tuple) and now and layers and not isinstance(now[0], list | tuple):
            kinds = list(dict.fromkeys(now))
            values[layers[0]] = max(values[layers[0]], len(kinds))
    for name in LISTS:
        now = getattr(config, name, None)
        if isinstance(now, list | tuple) and now and layers and not _computed(config, name):
            kinds = list(dict.fromkeys(now))
            values[name] = (kinds * 9)[: values[layers[0]]]
    return values


_DECODER = {
    name: {"is_decoder": True}
    for name in (
        *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
        *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl"),
    )
}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}
CHANGED: dict[str, dict[str, Any]] = _DECODER | {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "lm_head_multiplier": 0.5},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "mamba_d_head": 8},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "nemotron": {"num_key_value_heads": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "gemma4_text": {"num_kv_shared_layers": 0},
    "gemma4_unified_text": {"num_kv_shared_layers": 0},
    "hrm_text": {},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "attention_hidden_size": 64,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "deepseek_v2": {"topk_method": "greedy", "num_experts_per_tok": 2},
    "qwen2_vl": {"text_config": _ROPE},
    "qwen2_5_vl": {"text_config": _ROPE},
    "qwen2_5_omni_thinker": {"text_config": _ROPE},
    "glm4v": {"text_config": _ROPE},
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gemma4_assistant": {},
    "reformer": {"is_decoder": True},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
}
"""What single families need beyond that."""

WITH_IMAGES = ["aya_vision", "cohere2_vision", "glm4v", "idefics3", "internvl", "llava", "mistral3", "paligemma"]
WITH_IMAGES += ["qwen2_5_omni_thinker", "qwen2_5_vl", "qwen2_vl", "qwen3_omni_moe_thinker", "qwen3_vl", "qwen3_vl_moe"]
WITH_IMAGES += ["smolvlm"]
"""Families for images and text that are tried with text alone, besides those that transformers loads for text."""
NOT_BUILT = {
    "blt": "reads bytes through parts of their own",
    "cohere_compass_text": "its default config builds no model",
    "dbrx": "its default config builds no model",
    "dots3_note_text": "its default config builds no tiny model",
    "dots3_note": "its sizes depend on each other",
    "gemma3n": "needs timm for its images",
    "gemma4_assistant": "drafts for another model",
    "gemma4_unified_assistant": "drafts for another model",
    "kimi_linear": "its reference kernel takes minutes",
    "musicgen": "writes audio",
    "musicgen_melody": "writes audio",
    "prophetnet": "predicts several tokens at a time",
    "qwen4_exp": "its default config builds no model",
    "qwen4_exp_text": "its default config builds no model",
    "reformer": "its sizes depend on each other",
    "zamba": "its default config builds no tiny model",
}
"""Why a family is not tried."""


def tried() -> list[str]:
    """The families that are built: one of each class."""
    classes: dict[str, str] = {}
    for name, kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        if name not in NOT_BUILT:
            classes.setdefault(kind, name)
    named = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in classes.values()]
    return sorted([*named, *WITH_IMAGES])


def config_of(model_type: str) -> PreTrainedConfig:
    """The tiny config of a family."""
    values = shrunk(AutoConfig.for_model(model_type))
    for name, value in CHANGED.get(model_type, {}).items():
        values[name] = values.get(name, {}) | value if isinstance(value, dict) else value
    return AutoConfig.for_model(model_type, **values)


def model(model_type: str, seed: int = 0) -> torch.nn.Module:
    """A tiny random model, for text, in evaluation mode."""
    torch.manual_seed(seed)
    kind = AutoModelForCausalLM if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForImageTextToText
    made = kind.from_config(config_of(model_type)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            # So wide that what a token attends to makes a difference.
            spread = float(parameter.float().std()) if parameter.dim() > 1 else 0.0
            if 1e-5 < spread < WIDE:
                parameter.mul_(WIDE / spread)
    return made

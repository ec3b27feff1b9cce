"""Shapes of well-known models, as their public configurations give them: enough to plan a run without any file."""

from typing import Any

_QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
_LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5}


def _sizes(hidden: int, feed_forward: int, layers: int, heads: int, key_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
    }


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm2-135m": (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        _LLAMA
        | _sizes(576, 1536, 30, 9, 3)
        | {"vocab_size": 49152, "max_position_embeddings": 8192, "rope_theta": 100000.0, "tie_word_embeddings": True},
    ),
    "qwen2.5-0.5b": ("Qwen/Qwen2.5-0.5B-Instruct", _QWEN | _sizes(896, 4864, 24, 14, 2)),
    "qwen2.5-1.5b": ("Qwen/Qwen2.5-1.5B-Instruct", _QWEN | _sizes(1536, 8960, 28, 12, 2)),
    "qwen2.5-3b": ("Qwen/Qwen2.5-3B-Instruct", _QWEN | _sizes(2048, 11008, 36, 16, 2)),
    "qwen2.5-7b": (
        "Qwen/Qwen2.5-7B-Instruct",
        _QWEN | _sizes(3584, 18944, 28, 28, 4) | {"vocab_size": 152064, "tie_word_embeddings": False},
    ),
    "llama-3.1-8b": (
        "meta-llama/Llama-3.1-8B-Instruct",
        _LLAMA
        | _sizes(4096, 14336, 32, 32, 8)
        | {"vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0},
    ),
    # The decoder alone: text never passes through the tower that reads images.
    "gemma-3-4b": (
        "google/gemma-3-4b-it",
        _sizes(2560, 10240, 34, 8, 4)
        | {
            "model_type": "gemma3_text",
            "vocab_size": 262208,
            "head_dim": 256,
            "sliding_window": 1024,
            "max_position_embeddings": 131072,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
    ),
}
"""Short names to hub ids and the values of their configurations."""


def shape_of(name: str) -> Any:
    """Return transformers' configuration of a short name or hub id in ``SHAPES``; None for any other name."""
    from transformers import AutoConfig

    for short, (hub_id, values) in SHAPES.items():
        if name in (short, hub_id):
            values = dict(values)
            return AutoConfig.for_model(values.pop("model_type"), **values)
    return None

"""The output head of a model: what turns a final hidden state into logits."""

import weakref
from typing import Any

import torch
from torch import nn

from unisd.errors import UsageError
from unisd.models.load import base_model
from unisd.objective import Head


def output_head(model: nn.Module) -> Head:
    """Return the head of a causal language model: weight ``[V, H]``, bias, soft-cap (Gemma 2), scale (Cohere, Granite).

    The tensors are the model's own, not copies; while a teacher's weights are swapped in, they are the teacher's.

    Raises:
        UsageError: the head is not a plain linear layer (an adapter was put on it, for example).
    """
    inner: Any = base_model(model)
    layer = inner.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    if hasattr(layer, "get_merged_weights") and hasattr(layer, "base_layer"):
        # PEFT's trained rows of an embedding that is the head, too: the weight with those rows put in.
        weight = layer.base_layer.weight if layer.disable_adapters else layer.get_merged_weights(layer.active_adapters)
    elif hasattr(layer, "base_layer") or not isinstance(weight, torch.Tensor):
        raise UsageError("the output head carries an adapter; leave lm_head out of lora.target_modules")
    if not weight.is_floating_point():
        raise UsageError("the output head is quantised; load the model with its head left out (llm_int8_skip_modules)")
    scale, softcap = after_head(inner, _FOUND.get(inner, "scaled and capped"))
    return Head(weight, getattr(layer, "bias", None), softcap, scale)


AFTER = ("scaled and capped", "capped", "scaled", "nothing more")
"""What may be made of the logits, of what a configuration declares: some families scale the states before the head."""
_FOUND: "weakref.WeakKeyDictionary[nn.Module, str]" = weakref.WeakKeyDictionary()


def found_after_head(inner: nn.Module, after: str) -> None:
    """Remember what a model was seen to make of its logits, one of ``AFTER``."""
    _FOUND[inner] = after


def after_head(inner: Any, after: str) -> tuple[float, float | None]:
    """Return the scale and the soft-cap that a configuration declares, as far as ``after`` says."""
    config = inner.config.get_text_config() if hasattr(inner.config, "get_text_config") else inner.config
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    scale *= float(getattr(config, "lm_head_multiplier", None) or 1.0)
    caps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    softcap = next((float(value) for name in caps if (value := getattr(config, name, None)) is not None), None)
    return scale if "scaled" in after else 1.0, softcap if "capped" in after else None

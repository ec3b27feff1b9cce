"""The output head of a model: what turns a final hidden state into logits."""

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
    config = inner.config.get_text_config() if hasattr(inner.config, "get_text_config") else inner.config
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    softcap = getattr(config, "final_logit_softcapping", None)
    return Head(weight, getattr(layer, "bias", None), None if softcap is None else float(softcap), scale)

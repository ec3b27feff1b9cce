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
    if hasattr(layer, "base_layer") or not isinstance(weight, torch.Tensor):
        raise UsageError("the output head carries an adapter; leave lm_head out of lora.target_modules")
    if not weight.is_floating_point():
        raise UsageError("the output head is quantised; load the model with its head left out (llm_int8_skip_modules)")
    config = inner.config.get_text_config() if hasattr(inner.config, "get_text_config") else inner.config
    scale = 1.0 / float(getattr(config, "logits_scaling", None) or 1.0)
    for name in ("logit_scale", "lm_head_multiplier"):
        scale *= float(getattr(config, name, None) or 1.0)
    caps = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    softcap = next((value for name in caps if (value := getattr(config, name, None)) is not None), None)
    return Head(weight, getattr(layer, "bias", None), None if softcap is None else float(softcap), scale)

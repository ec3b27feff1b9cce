"""Models whose weights are kept in few bits: made so on loading (bitsandbytes), or found so (GPTQ, AWQ, …).

Such weights stay as they are; an adapter on them is trained (QLoRA). Fast paths that would need the plain weights leave
these layers alone: they look for ``nn.Linear`` itself. Norms, embeddings and the head have ``model.dtype``, in which
products are computed, too; float32 is what PEFT's preparation for few bits makes of them.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn

from unisd.errors import UsageError

Quantization = Literal["none", "4bit", "8bit"]


def quantization_config(kind: str, dtype: torch.dtype, declared: Mapping[str, Any] | None = None) -> Any:
    """Return what transformers loads a model with: 4-bit NormalFloat with double quantisation, LLM.int8, or None.

    Args:
        kind: ``none``, ``4bit`` or ``8bit``.
        dtype: in which products are computed.
        declared: the quantisation that the checkpoint has already, as its config says it.

    Raises:
        UsageError: an unknown kind, bitsandbytes is missing, or the checkpoint is quantised in another way.
    """
    if kind not in get_args(Quantization):
        raise UsageError(
            f"model.quantization: unknown value {kind!r}; choose one of {', '.join(get_args(Quantization))}"
        )
    if kind == "none":
        return None
    if declared is not None:
        if _kind(declared) != kind:
            raise UsageError(
                f"model.quantization: the checkpoint is quantised already ({_kind(declared)}); leave it out"
            )
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"model.quantization: {kind} needs bitsandbytes; pip install 'unisd[bnb]', or leave the setting out"
        )
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def declared_quantization(name: str) -> dict[str, Any] | None:
    """Return what the config of a folder or hub id says of its quantisation, or None."""
    from transformers import PreTrainedConfig

    try:
        found, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError):  # loading will say what is wrong with it
        return None
    declared = found.get("quantization_config") or found.get("text_config", {}).get("quantization_config")
    return dict(declared) if declared else None


def quantization_of(model: nn.Module) -> str | None:
    """Return how a loaded model's weights are quantised: ``4bit``, ``8bit``, a method's name, or None."""
    quantizer: Any = getattr(model, "hf_quantizer", None)
    return None if quantizer is None else _kind(quantizer.quantization_config.to_dict())


def check_adapter_trains(model: nn.Module, base: nn.Module, device: torch.device) -> None:
    """Check that a quantised model can be trained as it is, and make its layers pass gradients on.

    Args:
        model: as it is trained, wrapped or not.
        base: the transformers model in it.
        device: where training runs.

    Raises:
        UsageError: all weights would be trained, the method passes no gradients, or the model lies elsewhere.
    """
    kind = quantization_of(base)
    if kind is None:
        return
    quantizer: Any = base.hf_quantizer
    if model is base:
        raise UsageError(f"model.quantization: weights in few bits ({kind}) cannot be trained; train an adapter (lora)")
    if not quantizer.is_trainable:
        raise UsageError(f"model: no adapter can be trained on weights of the kind {kind}; choose the plain checkpoint")
    at = next(base.parameters()).device
    if at.type != device.type:
        raise UsageError(f"model.quantization: the weights were made for {at.type}, training is on {device.type}; "
                         "leave training.use_cpu out, or hide the accelerator")  # fmt: skip
    keep_gradients(base)


def keep_gradients(model: nn.Module) -> None:
    """Keep bitsandbytes from packing 4-bit weights for reading alone.

    On a CPU with AVX512-BF16 it does so the first time that a layer reads in evaluation mode, as the teacher does; from
    then on its products have no gradient, in training, too. Layers that are packed already are unpacked.
    """
    for module in model.modules():
        layer: Any = module
        if not hasattr(layer, "support_avx512bf16_for_cpu"):
            continue
        if getattr(getattr(layer.weight, "quant_state", None), "packing_format_for_cpu", False):
            layer.state_dict()  # which unpacks them
        layer.support_avx512bf16_for_cpu = False


def _kind(declared: Mapping[str, Any]) -> str:
    for kind in ("4bit", "8bit"):
        if declared.get(f"load_in_{kind}") or declared.get(f"_load_in_{kind}"):
            return kind
    method = declared.get("quant_method", "unknown")
    return str(getattr(method, "value", method))

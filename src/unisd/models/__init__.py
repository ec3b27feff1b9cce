"""Models: loading, adapters, the output head, packed forward passes."""

from unisd.models.head import output_head
from unisd.models.load import (
    ModelSettings,
    has_adapter,
    load_model,
    load_model_and_tokenizer,
    load_tokenizer,
    max_positions,
)
from unisd.models.lora import LoraSettings, attach

__all__ = [
    "LoraSettings",
    "ModelSettings",
    "attach",
    "has_adapter",
    "load_model",
    "load_model_and_tokenizer",
    "load_tokenizer",
    "max_positions",
    "output_head",
]

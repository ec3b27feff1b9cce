"""LoRA adapters."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from unisd.errors import UsageError


@dataclass
class LoraSettings:
    """The adapter (defaults: the paper's, METHOD 4)."""

    enabled: bool = True
    """Train a LoRA adapter; false trains all weights."""
    r: int = 64
    """Rank."""
    alpha: int = 128
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = 0.05
    """Dropout on the adapter's input."""
    target_modules: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter."""

    def __post_init__(self) -> None:
        if self.r < 1:
            raise UsageError(f"lora.r: {self.r} is not a rank; use 1 or more")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"lora.dropout: {self.dropout} is not in [0, 1)")

    def peft_config(self) -> Any:
        """Return the PEFT configuration."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )


def attach(model: nn.Module, peft_config: Any) -> nn.Module:
    """Wrap ``model`` with a new adapter.

    Raises:
        UsageError: none of the target modules exists in the model.
    """
    from peft import get_peft_model

    try:
        adapted: nn.Module = get_peft_model(model, peft_config)
    except ValueError as error:
        raise UsageError(f"lora.target_modules: {str(error).splitlines()[0]}") from error
    return adapted

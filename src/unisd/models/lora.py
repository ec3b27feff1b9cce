"""LoRA adapters."""

from typing import Any, Literal

from torch import nn

from unisd.errors import UsageError
from unisd.settings import Field, group


@group
class LoraSettings:
    """The adapter."""

    enabled: bool = True
    """Train a LoRA adapter; false trains all weights."""
    r: int = Field(default=64, ge=1)
    """Rank."""
    alpha: int = 128
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[str] | Literal["all-linear"] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter; all-linear: every one but the output head."""

    def peft_config(self) -> Any:
        """Return the PEFT configuration."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
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

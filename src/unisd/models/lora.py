"""LoRA adapters."""

from typing import Any

from torch import nn

from unisd.errors import UsageError
from unisd.models.targets import check_targets, default_targets
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
    target_modules: list[str] | str | None = None
    """Names of the layers that get an adapter, or a regular expression over whole names; all-linear: every linear layer
    but the output head. null: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj, and all-linear where a
    model lacks one of them."""
    target_parameters: list[str] | None = None
    """Names of weights that are no layers and get an adapter, too: those of experts, for example
    experts.gate_up_proj. PEFT takes them without dropout alone."""

    def __post_init__(self) -> None:
        if self.target_parameters and self.dropout:
            raise UsageError("lora.target_parameters: PEFT has no dropout for them; set lora.dropout=0")

    def peft_config(self, model: nn.Module | None = None) -> Any:
        """Return the PEFT configuration, for ``model`` where the names of its layers decide."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=default_targets(model) if self.target_modules is None else self.target_modules,
            target_parameters=self.target_parameters,
            task_type="CAUSAL_LM",
        )


def attach(model: nn.Module, peft_config: Any) -> nn.Module:
    """Wrap ``model`` with a new adapter.

    Raises:
        UsageError: something that the configuration names does not exist in the model, or takes no adapter.
    """
    from peft import get_peft_model

    try:
        check_targets(model, peft_config)
        adapted: nn.Module = get_peft_model(model, peft_config)
    except (ValueError, TypeError, RuntimeError, LookupError) as error:
        cause = " ".join(str(error).split())[:300]
        if "lora_dropout" in cause:
            raise UsageError(
                "lora.dropout: weights of experts, which all-linear means, too, take none; set it to 0, or name layers"
            ) from error
        raise UsageError(f"lora{'.target_modules' if 'arget' in cause else ''}: {cause}") from error
    return adapted

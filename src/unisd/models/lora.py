"""LoRA adapters."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn

from unisd.errors import UsageError
from unisd.models.adapters import check_kind, is_wrapped, kinds
from unisd.models.load import base_model, has_adapter
from unisd.models.probe import alike, answers
from unisd.models.targets import check_targets, default_targets
from unisd.settings import Field, group


@group
class LoraSettings:
    """The adapter."""

    enabled: bool = True
    """Train a LoRA adapter; false trains all weights."""
    start: Literal["continue", "merge"] = "continue"
    """Where the model is an adapter or a run that trained one: ``continue`` trains it on, with its own settings;
    ``merge`` adds it to its base, and starts a new adapter (or, with ``enabled`` off, trains all weights)."""
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

    use_dora: bool = False
    """DoRA: the size of each weight's columns is learned apart from their direction (arXiv 2402.09353)."""
    use_rslora: bool = False
    """Rank-stabilised scale: alpha / √r in place of alpha / r (arXiv 2312.03732)."""

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
            use_dora=self.use_dora,
            use_rslora=self.use_rslora,
            task_type="CAUSAL_LM",
        )

    def begin(self, model: nn.Module) -> tuple[nn.Module, Any]:
        """Return the model that is trained, and the PEFT configuration of the adapter that it gets; None: no new one.

        Raises:
            UsageError: settings that do not fit a model that has an adapter, or an adapter that cannot be merged.
        """
        if not has_adapter(model):
            return model, self.peft_config(model) if self.enabled else None
        if self.start == "continue":
            if not self.enabled:
                raise UsageError(
                    "lora.enabled: false trains all weights, and the model is an adapter; "
                    "leave it out to train the adapter on, or add lora.start=merge to train all weights of both"
                )
            return model, None
        base = merged(model)
        return base, self.peft_config(base) if self.enabled else None

    def of_adapter(self, folder: str, asked: Mapping[str, Any]) -> "LoraSettings":
        """Return these settings with what a saved LoRA adapter says of itself; other kinds have none of them.

        Args:
            folder: where the adapter lies.
            asked: the settings that were given by hand, which must not differ.

        Raises:
            UsageError: one differs, or the adapter cannot be read.
        """
        try:
            kept = json.loads((Path(folder) / "adapter_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{folder}/adapter_config.json cannot be read: {error}; name another adapter") from error
        names = {"r": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
        names |= {name: name for name in ("target_modules", "use_dora", "use_rslora")}
        plain_lora = kept.get("peft_type") == "LORA"
        own = {name: kept[theirs] for name, theirs in names.items() if plain_lora and theirs in kept}
        if isinstance(own.get("target_modules"), list):
            own["target_modules"] = sorted(own["target_modules"])
        else:  # a pattern of PEFT's, which is no setting here
            own.pop("target_modules", None)
        for name, value in asked.items():
            value = sorted(value) if isinstance(value, list) else value
            if name in own and value != own[name]:
                has = f"has {own[name]!r}"
            elif name in names and not plain_lora and value != getattr(LoraSettings(), name):
                has = f"is of kind {kept.get('peft_type')}"
            else:
                continue
            raise UsageError(
                f"lora.{name}: {value!r} was asked for, but the adapter {folder} {has}; "
                "leave it out, or add lora.start=merge for a new adapter"
            )
        return dataclasses.replace(self, **own)


def merged(model: nn.Module) -> nn.Module:
    """Add a model's adapters to its base; return the base alone, all of it trainable.

    Raises:
        UsageError: an adapter that cannot be merged, or that is another model when merged.
    """
    wrapped: Any = model
    refused = f"lora.start: an adapter of kind {kinds(model)[0]} cannot be merged"
    name, before = getattr(base_model(model), "name_or_path", ""), answers(model)
    try:
        base: nn.Module = wrapped.merge_and_unload()
    except (AttributeError, NotImplementedError, RuntimeError, ValueError, TypeError) as error:
        why = str(error).splitlines()[0] or type(error).__name__
        raise UsageError(f"{refused} ({why}); use lora.start=continue") from error
    if not alike(before, answers(base), next(base.parameters()).dtype):
        # An embedding that is the head, too, and had an adapter in one of the two places.
        raise UsageError(f"{refused} here (merged it is another model); use lora.start=continue")
    base.name_or_path = name  # type: ignore[assignment]
    return base.requires_grad_(True)


def attach(model: nn.Module, peft_config: Any) -> nn.Module:
    """Wrap ``model`` with a new adapter.

    Raises:
        UsageError: something that the configuration names does not exist in the model or takes no adapter, the model
            has one already, or PEFT's method cannot be used here.
    """
    from peft import get_peft_model

    if is_wrapped(model):
        raise UsageError(
            "peft_config: the model has an adapter already; leave peft_config out to train that on, "
            "or give the base model with the adapter merged (merge_and_unload)"
        )
    check_kind(peft_config)
    _check_new(model, peft_config)
    try:
        check_targets(model, peft_config)
        adapted: nn.Module = get_peft_model(model, peft_config)
    except UsageError:
        raise
    except Exception as error:  # whatever PEFT, or a package that a method of its needs, says of the configuration
        cause = " ".join(str(error).split())[:300]
        if "lora_dropout" in cause:
            raise UsageError(
                "lora.dropout: weights of experts, which all-linear means, too, take none; set it to 0, or name layers"
            ) from error
        if isinstance(error, AttributeError | KeyError | IndexError | TypeError | AssertionError):
            usual = {field.name: field.default for field in dataclasses.fields(peft_config)}
            given = [
                name
                for name, value in usual.items()
                if name not in _ALWAYS and getattr(peft_config, name) not in (value, None, {}, [])
            ]
            raise UsageError(
                f"peft_config: PEFT cannot make this adapter on this model ({type(error).__name__}: {cause}); it may "
                f"want something before (see its documentation), or leave one of these out: {', '.join(given)}"
            ) from error
        raise UsageError(f"lora{'.target_modules' if 'arget' in cause else ''}: {cause}") from error
    return adapted


_ALWAYS = ("task_type", "peft_type", "peft_version", "r", "target_modules", "runtime_config")


def _check_new(model: nn.Module, config: Any) -> None:
    """Refuse what PEFT would take for a new adapter, and make something else of, or nothing.

    Raises:
        UsageError: in one line, with a remedy.
    """
    task = getattr(config.task_type, "value", config.task_type)
    if task not in (None, "CAUSAL_LM"):
        raise UsageError(f"peft_config.task_type: {task} is for models of another kind; set CAUSAL_LM")
    if config.inference_mode:
        raise UsageError("peft_config.inference_mode: true makes an adapter that is not trained; leave it out")
    start = getattr(config, "init_lora_weights", None)
    seen = {"eva": False, "lora_ga": any(hasattr(module, "_peft_loraga_grad") for module in model.modules())}
    if not seen.get(str(start), True):
        first = {"eva": "initialize_lora_eva_weights", "lora_ga": "preprocess_loraga"}[str(start)]
        raise UsageError(
            f"peft_config.init_lora_weights: {start} starts from what data say, and none were asked; call PEFT's "
            f"{first}, and pass the model that get_peft_model makes, or choose another start"
        )
    if getattr(config, "use_qalora", False) and getattr(model, "quantization_method", None) is None:
        raise UsageError("peft_config.use_qalora: it has no effect on weights that are not quantised; leave it out")

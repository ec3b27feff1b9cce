"""The model card that goes with trained weights."""

from typing import Any

import yaml
from torch import nn

from unisd import __version__
from unisd.mechanisms import Acting
from unisd.models.adapters import by_kind, kinds, trained
from unisd.models.load import base_of, is_adapter, weights_folder
from unisd.training.repeat import evaluate_weights
from unisd.training.runfile import RunSettings

_CITATION = """@article{unisd2026,
  title   = {Unified Self-Distillation for Large Language Models},
  journal = {arXiv preprint arXiv:2605.06597},
  year    = {2026}
}"""


def model_card(
    settings: RunSettings, model: nn.Module, steps: int, items: int, acting: list[Acting], audit: str = ""
) -> str:
    """Return a model card (Markdown with front matter): what was trained, on what, how, and what each mechanism did.

    Args:
        settings: the whole run.
        model: what was trained.
        steps: optimizer steps.
        items: training items.
        acting: what each mechanism did.
        audit: the tables of an audit before the run, where there was one.
    """
    adapters, name = kinds(model), settings.model.name
    front: dict[str, Any] = {
        "base_model": base_of(weights_folder(name)) if is_adapter(name) else name,
        "library_name": "peft" if adapters else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["self-distillation", "unisd", *(kind.lower() for kind in adapters)],
    }
    mechanisms = "\n".join(f"| {a.mechanism} | {'yes' if a.acts else 'no'} | {a.evidence} |" for a in acting)
    groups = "\n".join(f"* `{name}`: {_line(values)}" for name, values in settings.groups.items())
    measured = f"\n## What the teacher had to teach\n\n{audit}\n" if audit else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {settings.model.name} adapted by self-distillation on {settings.task.name}

Recipe `{settings.recipe}`: {settings.description}. {steps} optimizer steps over {items} training items of
`{settings.task.name}` (source: {settings.task.source or "hub"}), with unisd {__version__}. The model was its own
teacher; no stronger model was used.

## What each mechanism did

| mechanism | acts | measured |
|---|---|---|
{mechanisms or "| none is switched on | | |"}
{measured}
## Settings

* trained: {_trained(model)}
* `lora`: {_line(vars(settings.lora)) if settings.lora.enabled else "off"}
* `training`: {_line(settings.training)}
{groups}

All settings, defaults included, are in the run's `config.yaml`. Measure the result with

    {evaluate_weights(settings, "THIS_FOLDER")}

## Citation

```bibtex
{_CITATION}
```
"""


def _trained(model: nn.Module) -> str:
    """Return what was trained: how many parameters of how many, and their tensors by kind."""
    named = trained(model)
    count, every = (sum(value.numel() for value in values) for values in (named.values(), model.parameters()))
    tensors = ", ".join(f"{number} {kind}" for kind, number in by_kind(model, named).most_common())
    what = f"an adapter of kind {' and '.join(kinds(model))}" if kinds(model) else "the model itself"
    return f"{what}, {count:,} of {every:,} parameters ({count / every:.1%}), in tensors {tensors}"


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

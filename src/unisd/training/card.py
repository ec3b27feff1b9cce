"""The model card that goes with trained weights."""

from typing import Any

import yaml

from unisd import __version__
from unisd.mechanisms import Acting
from unisd.training.runfile import RunSettings

_CITATION = """@article{unisd2026,
  title   = {Unified Self-Distillation for Large Language Models},
  journal = {arXiv preprint arXiv:2605.06597},
  year    = {2026}
}"""


def model_card(settings: RunSettings, steps: int, items: int, acting: list[Acting], audit: str = "") -> str:
    """Return a model card (Markdown with front matter): what was trained, on what, how, and what each mechanism did.

    ``audit`` holds the tables of an audit before the run, where there was one.
    """
    kind = {"library_name": "peft"} if settings.lora.enabled else {"library_name": "transformers"}
    front: dict[str, Any] = {
        "base_model": settings.model.name,
        **kind,
        "pipeline_tag": "text-generation",
        "tags": ["self-distillation", "unisd", *(["lora"] if settings.lora.enabled else [])],
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

* `lora`: {_line(vars(settings.lora)) if settings.lora.enabled else "off: all weights were trained"}
* `training`: {_line(settings.training)}
{groups}

All settings, defaults included, are in the run's `config.yaml`. Measure the result with
`unisd evaluate <this folder> --task {settings.task.name}`.

## Citation

```bibtex
{_CITATION}
```
"""


def _line(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

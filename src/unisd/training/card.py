"""The model card that goes with trained weights.

It is made from what lies in the run's folder, and anew when more is known: after an evaluation, and for the hub.
"""

import dataclasses
import functools
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from unisd import __version__
from unisd.errors import UniSDError, warn
from unisd.models.adapters import by_kind, kinds, trained
from unisd.models.load import base_of, is_adapter, weights_folder
from unisd.models.origin import Origin, is_place, kept_base, origin_of
from unisd.settings import plain
from unisd.training.arguments import OwnArguments, UniSDConfig
from unisd.training.repeat import evaluate_weights
from unisd.training.runfile import RunSettings, assemble, differences, load_recipe

PAPER = """@misc{jin2026unisd,
  title         = {UniSD: Towards a Unified Self-Distillation Framework for Large Language Models},
  author        = {Jin, Yiqiao and Wang, Yiyang and Fu, Lucheng and Xiao, Yijia and Luo, Yinyi and Liu, Haoxin and
                   Prakash, B. Aditya and Hester, Josiah and Wang, Jindong and Kumar, Srijan},
  year          = {2026},
  eprint        = {2605.06597},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2605.06597}
}"""
SOFTWARE = """@software{unisd,
  title   = {unisd},
  author  = {{The unisd authors}},
  year    = {2026},
  version = {%s}
}"""
NOT_MEASURED = "Nothing was measured yet. `unisd evaluate` asks held-out questions before and after."


def facts(model: nn.Module, steps: int, items: int, rows_a_step: int, again: int) -> dict[str, Any]:
    """Return what a card says and the run's folder would not know later, as plain values for its ``summary.json``.

    Args:
        model: what was trained.
        steps: optimizer steps.
        items: training items at hand.
        rows_a_step: items of a step, over all processes.
        again: steps that learn from the same items in succession.
    """
    named = trained(model)
    count, every = (sum(value.numel() for value in values) for values in (named.values(), model.parameters()))
    tensors = ", ".join(f"{number} {kind}" for kind, number in by_kind(model, named).most_common())
    what = f"an adapter of kind {' and '.join(kinds(model))}" if kinds(model) else "the model itself"
    return {
        "items_seen": min(items, -(-steps // max(again, 1)) * rows_a_step),
        "adapters": kinds(model),
        "trained": f"{what}, {count:,} of {every:,} parameters ({count / every:.1%}), in tensors {tensors}",
    }


def card_of(run: Path, results: str = "", base: str | None = None) -> str:
    """Return the card of a finished run: what was trained, on what, how, with what results, and how to cite it.

    Args:
        run: its folder, with ``config.yaml`` and ``summary.json``.
        results: what was measured (Markdown); empty: nothing yet.
        base: what the base is called on the hub, where its own name does not say.

    Raises:
        UniSDError: a file of the run is missing or damaged.
    """
    settings = assemble(file=run / "config.yaml")
    try:
        said = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        audit = _audit(run)
        return _written(settings, said, _base(run, settings, base), results, audit)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UniSDError(f"{run}: summary.json is missing or damaged ({error!r}); finish the run again") from error


def _written(settings: RunSettings, said: Mapping[str, Any], base: Origin, results: str, audit: str) -> str:
    task = settings.task
    front: dict[str, Any] = {
        **({"base_model": base.hub} if base.hub else {}),
        "library_name": "peft" if said["adapters"] else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["self-distillation", "unisd", *(kind.lower() for kind in said["adapters"])],
    }
    acting = "\n".join(
        f"| {each['mechanism']} | {'yes' if each['acts'] else 'no'} | {each['evidence']} |"
        for each in said["mechanisms"]
    )
    dropped = "".join(f"; {number} dropped: {why}" for why, number in sorted(said.get("dropped", {}).items()))
    data = f"{said['items_seen']:,} different items seen of {said['items']:,} at hand, in {said['steps']:,} steps"
    groups = "\n".join(f"* `{name}`: {_line(values)}" for name, values in settings.groups.items())
    recipe = load_recipe(settings.recipe).get("training", {}) if settings.recipe else {}
    argued = recipe | _telling(settings)
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {base.hub or "A model"} adapted by self-distillation on {public(task.name)}

The model was its own teacher: shown a worked demonstration of an item, it scored the answers that it gave without one.
No stronger model was used.

| | |
|---|---|
| base model | {base.hub or base.weights} |
| its weights | {base.weights} |
| what was trained | {said["trained"]} |
| recipe | `{settings.recipe or "none"}`: {settings.description or "settings of its own"} |
| task | `{public(task.name)}`, source {public(task.source) if task.source else "the task's own"} |
| data | {data}{dropped} |
| made with | unisd {__version__} |

## Results

{results or NOT_MEASURED}

## What each mechanism did

| mechanism | acts | measured |
|---|---|---|
{acting or "| none is switched on | | |"}
{audit}
## How to repeat it

```bash
{command(settings)}
{public(evaluate_weights(settings, "THIS_FOLDER"))}
```

## Settings

* `lora`: {_line(vars(settings.lora)) if settings.lora.enabled else "off"}
* `training`: {_line(argued)}
{groups}


## Citation

```bibtex
{PAPER}
```

```bibtex
{SOFTWARE % __version__}
```
"""


def _base(run: Path, settings: RunSettings, given: str | None) -> Origin:
    """Return where the model came from that a reader must load first."""
    adapter = run / "adapter"
    name = kept_base(adapter) if adapter.is_dir() else None
    if name is None:
        name = settings.model.name
        name = base_of(weights_folder(name)) if is_adapter(name) else name
    found = origin_of(name)
    return Origin(given, found.weights, found.known) if given else found


def command(settings: RunSettings) -> str:
    """Return the command that trains such a run, without this machine's places: what differs from its recipe."""
    asked, task, model = settings.plain(), settings.task, settings.model
    recipe = ["--recipe", settings.recipe] if settings.recipe else ["RUN_FILE"]
    words = ["unisd", "train", *recipe, "--task", task.name, *(["--source", task.source] if task.source else [])]
    words += ["--model", model.name]
    usual = assemble(settings.recipe, given={"model": {"name": model.name}}).plain() if settings.recipe else asked
    asked["training"] = _telling(settings)
    for name, _, value in differences(usual, asked):
        if name not in ("task.name", "task.source", "model.name"):
            words += ["--set", f"{name}={yaml_word(value)}"]
    return shlex.join(public(word) for word in words) + " --output RUN"


def yaml_word(value: Any) -> str:
    """Return a value as ``--set`` reads it, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")


def _telling(settings: RunSettings) -> dict[str, Any]:
    """Return the trainer's arguments that say something of the result: neither usual ones, nor a machine's."""
    usual = argument_defaults() | (load_recipe(settings.recipe).get("training", {}) if settings.recipe else {})
    told = {name: value for name, value in settings.training.items() if name not in OF_THE_MACHINE}
    return {name: value for name, value in told.items() if value != usual.get(name) and (value or usual.get(name))}


@functools.cache
def argument_defaults() -> dict[str, Any]:
    """Return the trainer's arguments with their defaults, as a run's ``config.yaml`` shows them."""
    found = {}
    for name, field in UniSDConfig.__dataclass_fields__.items():
        made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        found[name] = getattr(made, "value", made)
    return found | plain(OwnArguments())


OF_THE_MACHINE = (
    "output_dir", "logging_dir", "run_name", "report_to", "use_cpu", "disable_tqdm", "local_rank", "debug", "project",
    "resume_from_checkpoint", "hub_token", "accelerator_config", "trackio_space_id", "dataloader_pin_memory",
    "logging_steps", "log_level", "deepspeed", "fsdp_config",
)  # fmt: skip
"""Arguments of the trainer that say where a run was, and nothing of its result."""


def public(text: str) -> str:
    """Return a name or a text without the places of a machine: of a folder its own name stays, as ``…/name``."""
    if is_place(text) and Path(text).is_absolute():
        return f"…/{Path(text).name}"
    return re.sub(r"(?<![\w/.:])(?:[A-Za-z]:\\|~?/)[\w.@+-]+(?:[\\/][\w.@+-]+)+", _last, text)


def _last(found: re.Match[str]) -> str:
    return "…/" + re.split(r"[\\/]", found[0])[-1]


def _line(values: Mapping[str, Any]) -> str:
    return public(", ".join(f"{name} {value}" for name, value in values.items()))


def _audit(run: Path) -> str:
    path = run / "audit.json"
    if not path.is_file():
        return ""
    try:
        return f"\n## What the teacher had to teach\n\n{json.loads(path.read_text(encoding='utf-8'))['markdown']}\n"
    except (ValueError, KeyError, TypeError):
        warn(f"{path} is damaged; the model card says nothing of the audit")
        return ""

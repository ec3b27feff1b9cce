"""``unisd train --plan``: what a run needs of each rank, and the rows and the checkpointing that its device allows."""

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn

from unisd import hub
from unisd.errors import UniSDError, UsageError, warn
from unisd.fast.lean import lean_adapters
from unisd.files import write_json
from unisd.models import LoraSettings, ModelSettings, has_adapter
from unisd.models.adapters import active_names, kinds
from unisd.models.load import DTYPES, base_model, resolve
from unisd.models.packed import PackedSequence
from unisd.models.quantised import quantization_of
from unisd.models.reading import completion_states
from unisd.models.shapes import SHAPES, shape_of
from unisd.training.arguments import UniSDConfig
from unisd.training.dry import dry, dry_copy, kept_bytes
from unisd.training.forecast import (
    BESIDE,
    ROW_TOKENS,
    Forecast,
    Lengths,
    assumed_rows,
    choose_row,
    fewest_rows,
    forecast,
)
from unisd.training.runfile import RunSettings

ROWS_FILE = "rows.json"
"""What was chosen for a run's device, in the run's folder: a resumed run cuts its steps alike."""
_MEASURED = 1024
GIB = 2**30


@dataclass(frozen=True)
class Planned:
    """A plan: what a step takes with the rows that were chosen."""

    forecast: Forecast
    tokens_per_row: int
    checkpointing: bool
    kept: dict[str, float]
    """Bytes that a token of a row keeps for its backward pass: ``plain``, and ``checkpointed``."""
    memory: int | None
    """Bytes of the device; None: not given."""
    lengths: Lengths
    ranks: int

    @property
    def fits(self) -> bool | None:
        """Whether a step fits; None where nobody said into what."""
        return None if self.memory is None else self.forecast.peak <= self.memory * (1 - BESIDE)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        chosen = {"tokens_per_row": self.tokens_per_row, "checkpointing": self.checkpointing, "fits": self.fits}
        assumed = {"prompt_tokens": self.lengths.prompt, "context_tokens": self.lengths.context, "ranks": self.ranks}
        return {**self.forecast.plain(), **chosen, "kept_bytes_a_token": self.kept, "memory": self.memory, **assumed}


def model_config(settings: ModelSettings) -> Any:
    """Return the configuration of a model: of a built-in shape, a folder, a ``config.json``, or a hub id.

    Raises:
        UniSDError: there is none.
    """
    from transformers import AutoConfig

    shape = shape_of(settings.name)
    if shape is not None and not Path(settings.name).exists():
        return shape
    try:
        with hub.access(settings.name, "configuration", f"give a folder, a config.json, or one of {', '.join(SHAPES)}"):
            return AutoConfig.from_pretrained(resolve(settings.name), trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        cause = " ".join(str(error).split())[:200]
        raise UniSDError(
            f"--model {settings.name}: no configuration can be read ({cause}); give a folder, a config.json, or one "
            f"of {', '.join(SHAPES)}"
        ) from error


def kept_a_token(model: nn.Module, tokens: int = _MEASURED, lean: bool = True) -> float:
    """Return the bytes that a row's token keeps for its backward pass, counted by saved-tensor hooks; call it dry.

    Args:
        model: from :func:`unisd.training.dry.dry_copy`.
        tokens: of the row that is read.
        lean: through the lean layers, as a step is learned; false: through the layers' own forward passes.
    """
    sequence = PackedSequence([0] * 2, [0] * (tokens - 1))

    def forward() -> Any:
        return completion_states(model, [sequence], share=True)

    if not lean:
        return kept_bytes(model, forward) / tokens
    with lean_adapters(model):
        return kept_bytes(model, forward) / tokens


def planned(
    settings: RunSettings,
    device: str = "cuda",
    memory: int | None = None,
    ranks: int = 1,
    lengths: Lengths | None = None,
) -> Planned:
    """Plan a run without its weights.

    Args:
        settings: the whole run.
        device: ``cuda`` or ``cpu``.
        memory: bytes of the device; where it is given and ``tokens_per_row`` is not set, rows are chosen by it, and
            checkpointing is switched on where it is needed.
        ranks: processes that share a step.
        lengths: what is assumed of the texts.

    Raises:
        UsageError: settings that contradict each other.
        UniSDError: the model's configuration cannot be had.
    """
    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: use 1 or more")
    if settings.model.quantization == "8bit":
        raise UsageError("--plan: 8-bit weights cannot be counted; plan with model.quantization=4bit or none")
    lengths = lengths or Lengths()
    config, of_model = settings.config("plan"), model_config(settings.model)
    return _planned(config, settings.model, settings.lora, of_model, device, memory, ranks, lengths)


def _planned(
    config: UniSDConfig,
    model: ModelSettings,
    lora: LoraSettings | None,
    of_model: Any,
    device: str,
    memory: int | None,
    ranks: int,
    lengths: Lengths,
) -> Planned:
    def make(checkpointing: bool) -> nn.Module:
        return dry_copy(of_model, DTYPES[model.dtype], lora, model.quantization, checkpointing, model.attention)

    with dry(device):
        kept = {"plain": kept_a_token(make(False)), "checkpointed": kept_a_token(make(True))}
    asked, checkpointing = config.tokens_per_row, bool(config.gradient_checkpointing)
    count = config.per_device_train_batch_size * config.gradient_accumulation_steps

    def run(tokens: int, checkpointing: bool) -> Forecast:
        config.tokens_per_row = tokens
        fewest = fewest_rows(config, lengths, count)
        rows = assumed_rows(config, lengths, fewest)
        return forecast(config, functools.partial(make, checkpointing), rows, device, ranks, count=count)

    longest = lengths.prompt + config.rollout.max_completion_length - 1
    tokens = asked or (512 if device == "cpu" else ROW_TOKENS)
    if memory is not None and not asked and device != "cpu":
        alone = run(longest, checkpointing)
        cost = kept["checkpointed" if checkpointing else "plain"]
        fixed = max(alone.phases["learn"] - cost * longest, sum(alone.parts.values()))
        tokens, needed = choose_row(memory * (1 - BESIDE), fixed, cost, kept["checkpointed"], longest)
        checkpointing = checkpointing or needed
    found = run(tokens, checkpointing)
    return Planned(found, tokens, checkpointing, kept, memory, lengths, ranks)


def free_bytes(device: torch.device) -> int | None:
    """Return what this process can have of a device's memory, weights that are there included; None if nobody says."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def fit_rows(trainer: Any, resume: bool) -> None:
    """Choose rows, and checkpointing, by the memory of the trainer's accelerator, and let it use them.

    A CPU keeps its small rows, and rows that were asked for stay. What was chosen is kept in the run's folder
    (``rows.json``), and a resumed run takes it from there.

    Args:
        trainer: before it trains; the lengths are those of its rows.
        resume: whether the run goes on.

    Raises:
        UsageError: the file is damaged.
    """
    args, kept = trainer.args, Path(trainer.args.output_dir) / ROWS_FILE
    chosen = _chosen_before(kept) if resume else None if args.tokens_per_row else _chosen(trainer)
    if chosen is None:
        return
    if not resume and trainer.is_world_process_zero():
        write_json(kept, chosen)
    args.tokens_per_row = chosen["tokens_per_row"]
    if chosen["checkpointing"] and not args.gradient_checkpointing:
        args.gradient_checkpointing = True
        trainer.model.enable_input_require_grads()


def made_of(model: nn.Module) -> tuple[ModelSettings, LoraSettings | None]:
    """Return what a model is made of, as settings: how its weights are kept, and its adapter, None without one.

    An adapter of another kind counts as LoRA by the default settings.
    """
    inner: Any = base_model(model)
    dtype = {kind: name for name, kind in DTYPES.items()}.get(inner.dtype, "float32")
    few_bits = quantization_of(inner)
    settings = ModelSettings(
        dtype=dtype,
        quantization=few_bits if few_bits in ("4bit", "8bit") else "none",  # type: ignore[arg-type]
        attention=inner.config._attn_implementation,
    )
    if not has_adapter(model):
        return settings, None
    config: Any = model.peft_config[active_names(model)[0]]  # type: ignore[index, union-attr]
    if kinds(model) != ["LORA"]:
        return settings, LoraSettings()
    targets = config.target_modules
    names = targets if isinstance(targets, str) else sorted(targets or ())
    return settings, LoraSettings(
        r=config.r, alpha=config.lora_alpha, dropout=config.lora_dropout, target_modules=names or None
    )


def _chosen(trainer: Any) -> dict[str, Any] | None:
    args, rows = trainer.args, trainer.train_dataset
    free, of_model = free_bytes(args.device), base_model(trainer.model).config
    settings, lora = made_of(trainer.model)
    if free is None or settings.quantization == "8bit":
        return None
    if args.world_size > 1:
        free = min(gather_object([free]))
    prompt = max(len(row.student_ids) for row in rows)
    context = max((len(ids) for row in rows for part in row.contexts.values() for ids in part), default=prompt)
    lengths = Lengths(prompt, max(0, context - prompt))
    try:
        plan = _planned(copy.copy(args), settings, lora, of_model, "cuda", free, args.world_size, lengths)
    except Exception as error:  # a family that cannot be run dry trains all the same
        cause = " ".join(str(error).split())[:120]
        warn(f"tokens_per_row: its memory cannot be planned ({cause}), so rows have {ROW_TOKENS} tokens; set it if "
             "they do not fit")  # fmt: skip
        return None
    if not plan.fits:
        warn(f"a step needs about {plan.forecast.peak / GIB:.1f} GiB, and {free / GIB:.1f} are free; see unisd train "
             "--plan, and use shorter completions, a smaller batch or model.quantization=4bit")  # fmt: skip
    return {"tokens_per_row": plan.tokens_per_row, "checkpointing": plan.checkpointing, "free_bytes": free}


def _chosen_before(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        chosen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {
            "tokens_per_row": int(chosen["tokens_per_row"]),
            "checkpointing": bool(chosen["checkpointing"]),
        } | chosen
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is damaged ({' '.join(str(error).split())}); remove it and set training.tokens_per_row in "
            "config.yaml"
        ) from error


def lines(plan: Planned, name: str) -> list[str]:
    """Return a plan as lines to print."""
    found, ranks = plan.forecast, f"{plan.ranks} rank" + ("s" if plan.ranks > 1 else "")
    told = [f"{name} on {found.device}, {ranks}; assumed: prompts of {plan.lengths.prompt} tokens, "
            f"contexts of {plan.lengths.context} more"]  # fmt: skip
    told += [f"  {part:<10}{_gib(size)}" for part, size in found.parts.items()]
    told += [f"  {phase:<10}{_gib(size)}  at most, all that is there included" for phase, size in found.phases.items()]
    told.append(f"  {'peak':<10}{_gib(found.peak)}  of tensors; a device needs about {BESIDE:.0%} of its own besides")
    if plan.memory is not None:
        word = "fits" if plan.fits else "does not fit"
        told.append(f"  {word} into {plan.memory / GIB:.1f} GiB")
    rows = f"tokens_per_row {plan.tokens_per_row:,}, checkpointing {'on' if plan.checkpointing else 'off'}"
    kept = plan.kept["checkpointed" if plan.checkpointing else "plain"] / 1e6
    told.append(f"  rows: {rows}; a token of a row keeps {kept:.2f} MB")
    told.append("  tokens of a step: " + ", ".join(f"{kind} {number:,}" for kind, number in found.tokens.items()))
    told.append("  forward passes: " + ", ".join(f"{kind} {number:,}" for kind, number in found.forwards.items()))
    sent = f"sent to other ranks: {found.exchanged / GIB:.2f} GiB"
    told.append(f"  operations: {found.operations / 1e12:,.1f} TFLOP; {sent}")
    return told


def _gib(size: int) -> str:
    return f"{size / GIB:8.2f} GiB"

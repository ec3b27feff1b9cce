"""What a run is, so that no other one goes on from its checkpoints: settings, rows, model, tokenizer, order."""

import hashlib
import importlib.metadata
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unisd import __version__
from unisd.contexts import PreparedRow
from unisd.errors import UsageError, warn
from unisd.files import fingerprint
from unisd.models.adapters import active_names, bare_names
from unisd.models.load import base_model
from unisd.training.arguments import UniSDConfig, groups
from unisd.training.fields import LEAVES, REFUSED

# What changes how long a run is, where it lies, or what is told and kept of it, and never what a step does; beside what
# leaves results as they are (`LEAVES`). Rows of a step are compared by themselves; task and model by what they give.
_FREE = re.compile(
    r"output_dir|logging_.*|report_to|run_name|project|trackio_.*|disable_tqdm|save_.*|eval_.*|per_device_.*|use_cpu|"
    r"gradient_accumulation_steps|max_steps|num_train_epochs|load_best_model_at_end|metric_for_best_model|"
    r"greater_is_better|ignore_data_skip|restore_callback_states_from_checkpoint|tokens_per_row|"
    r"recipe|task|model|lora|rollout\.(batch_size|log_completions_steps)|guard\..*"
)
_PLACE = ("base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "peft_version")
_CHUNK = 2**16
"""Words that are added up at a time: on a CPU they stay in its cache."""


def identity(
    args: UniSDConfig,
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[PreparedRow],
    optimizer: str = "",
    waiting: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a run is, as nested plain values; call it before anything has moved.

    Args:
        args: its settings.
        model: what it trains, with the weights that it starts from.
        tokenizer: the model's.
        rows: those of training.
        optimizer: what is used in place of the one that the settings name.
        waiting: slots whose contexts are made for the rows that are drawn alone; see :func:`contexts_of`.
    """
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    found = {
        "settings": dict(_settings(args)) | {"optimizer": optimizer},
        "adapter": dict(_adapter(model)),
        "rows": _rows(rows, waiting),
        "tokenizer": _tokenizer(tokenizer),
        "model": _weights(model),
        "step": {"rows": per_step, "processes": args.world_size, "parts": _parts(args, model, len(rows), per_step)},
        "length": {"max_steps": args.max_steps, "num_train_epochs": args.num_train_epochs},
        "versions": versions(),
    }
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def versions() -> dict[str, str]:
    """Return the versions of the code that decides what a step does."""
    return {"unisd": __version__} | {
        name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")
    }


def check_same(kept: Mapping[str, Any], own: Mapping[str, Any], checkpoint: Path) -> None:
    """Compare the run that wrote a checkpoint with the one that is to go on from it. Other versions get a warning:
    an update is often what lets a run go on, and changes results by rounding, if at all.

    Raises:
        UsageError: they differ; the first difference is named.
    """
    for part, what in _PARTS.items():
        before, now = kept.get(part, {}), own.get(part, {})
        # What one of two versions does not know cannot be compared; contexts that one of two runs has not can.
        # Of contexts that wait, an earlier version has hashed those of all rows.
        waits = own.get("drawn", {})
        names = [name for name in before if name in now]
        for name in [name for name in {**before, **now} if name not in waits] if part == "rows" else names:
            if before.get(name) != now.get(name):
                raise _other(checkpoint, what.format(name), before.get(name), now.get(name))
    before, now = kept["step"], own["step"]
    if before["rows"] != now["rows"]:
        raise UsageError(
            f"{checkpoint}: a step had {before['rows']} rows and has {now['rows']} here (batch × accumulation × "
            "processes); set training.per_device_train_batch_size or training.gradient_accumulation_steps "
            "so that it has as many"
        )
    if before["processes"] != now["processes"]:
        for why in (now["parts"], before["parts"]):
            if why:
                raise UsageError(
                    f"{checkpoint} was written by {before['processes']} processes and {now['processes']} resume, which "
                    f"is not exact: {why}; resume with {before['processes']}"
                )
    for name, was in kept["length"].items():
        if was != own["length"][name]:
            warn(
                f"training.{name} is {own['length'][name]} and was {was} when {checkpoint.name} was written: from its "
                "next step on the learning rate is that of a run of the new length"
            )
    changed = [f"{name} {was} (now {own['versions'].get(name)})" for name, was in kept["versions"].items()
               if own["versions"].get(name) != was]  # fmt: skip
    if changed:
        warn(f"{checkpoint.name} was written with {', '.join(changed)}: the run goes on, and its bits may differ")


_PARTS = {
    "settings": "{}",
    "adapter": "the adapter's {}",
    "rows": "the training rows' {}",
    "drawn": "the {} of the rows that were drawn",
    "tokenizer": "the tokenizer's {}",
    "model": "the {} of the model that training starts from",
}


def _other(checkpoint: Path, what: str, before: Any, now: Any) -> UsageError:
    return UsageError(
        f"{checkpoint} is of another run: {what}: {_short(now)} here, {_short(before)} there; "
        "set it back, or start anew in another folder"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:60]}…"


def _settings(args: UniSDConfig) -> Iterator[tuple[str, Any]]:
    known = groups()
    for name, value in args.to_dict().items():
        if name in known:
            yield from ((f"{name}.{n}", v) for n, v in value.items() if not _FREE.fullmatch(f"{name}.{n}"))
        elif name not in LEAVES and name not in REFUSED and not _FREE.fullmatch(name):
            yield f"training.{name}", value


def _adapter(model: nn.Module) -> Iterator[tuple[str, Any]]:
    configs: Any = getattr(model, "peft_config", {})
    yield "method", ", ".join(str(getattr(configs[name], "peft_type", name)) for name in active_names(model)) or "none"
    for adapter in active_names(model):
        for name, value in vars(configs[adapter]).items():
            if name not in _PLACE:
                plain = sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)
                yield name, re.sub(r" at 0x[0-9a-f]+", "", str(plain))


def contexts_of(rows: Sequence[PreparedRow], slots: Iterable[str]) -> dict[str, str]:
    """Return hashes of the contexts in some slots, by the names under which `check_same` compares them."""
    return {f"{slot} contexts": _hashed(i for row in rows for i in row.contexts.get(slot, [])) for slot in slots}


def _rows(rows: Sequence[PreparedRow], waiting: Sequence[str]) -> dict[str, Any]:
    slots = sorted({slot for row in rows for slot in row.contexts} - set(waiting))
    parts: dict[str, Iterable[Sequence[int]]] = {
        "prompts": (row.student_ids for row in rows),
        "completions": (row.completion_ids or [] for row in rows),
    }
    names = fingerprint([row.id for row in rows])
    hashes = {name: _hashed(ids) for name, ids in parts.items()} | contexts_of(rows, slots)
    return {"number": len(rows), "names": names} | hashes


def _hashed(sequences: Iterable[Sequence[int]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for ids in sequences:
        digest.update(array("q", [len(ids), *ids]).tobytes())
    return digest.hexdigest()


def _tokenizer(tokenizer: Any) -> dict[str, str]:
    return {
        "words": fingerprint(tokenizer.get_vocab()),
        "special tokens": fingerprint({name: str(value) for name, value in tokenizer.special_tokens_map.items()}),
        "chat template": fingerprint(str(getattr(tokenizer, "chat_template", None))),
    }


def _weights(model: nn.Module) -> dict[str, str]:
    """Return hashes of shapes and of values: all bits of all weights, wherever they lie."""
    config = {k: v for k, v in base_model(model).config.to_dict().items() if k not in _NOT_OF_THE_MODEL}  # type: ignore[operator, union-attr]
    silent = _silent(model)
    values, shapes = hashlib.blake2b(digest_size=8), {}
    for name, tensor in model.named_parameters():
        shapes[name] = [list(tensor.shape), str(tensor.dtype)]
        if name not in silent:
            values.update(json.dumps([name, *_sums(tensor.detach())]).encode())
    return {"configuration": fingerprint(json.loads(json.dumps(config, default=str))), "shapes": fingerprint(shapes),
            "weights": values.hexdigest()}  # fmt: skip


_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")


def _silent(model: nn.Module) -> set[str]:
    """Return the factors of adapters that another factor, which is zero, keeps from saying anything: random, mostly."""
    if not active_names(model):
        return set()
    base, adapters = bare_names(model), set(active_names(model))
    factors: dict[str, list[str]] = {}
    for name in dict(model.named_parameters()).keys() - base.keys():
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part in adapters), None)
        if place is not None:
            factors.setdefault(".".join(parts[: place - 1]), []).append(name)
    zero = {name for name, value in model.named_parameters() if name not in base and not bool(value.detach().any())}
    return {name for names in factors.values() if zero & set(names) for name in names}


def _sums(tensor: Tensor) -> list[int]:
    """Return two sums over a tensor's bits, plain and by place: whole numbers, so that no order of adding matters.

    The bits are read as words of 8 bytes, and sums wrap around at 64 bits.
    """
    raw = tensor.contiguous().flatten().view(torch.uint8)
    words = nn.functional.pad(raw, (0, -len(raw) % 8)).view(torch.int64) if len(raw) % 8 else raw.view(torch.int64)
    size = _CHUNK if tensor.device.type == "cpu" else 64 * _CHUNK
    places = torch.arange(1, min(size, len(words)) + 1, device=tensor.device)
    plain = placed = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, len(words), size):
        part = words[start : start + size]
        total = part.sum()
        plain, placed = plain + total, placed + (part * places[: len(part)]).sum() + start * total
    return [int(value) for value in torch.stack([plain, placed]).tolist()]


def _parts(args: UniSDConfig, model: nn.Module, rows: int, per_step: int) -> str:
    """Return why another number of processes would not learn the same; empty where it would, to rounding."""
    draws = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    config = base_model(model).config.to_dict()  # type: ignore[operator, union-attr]
    draws |= any("dropout" in name and isinstance(value, float) and value > 0 for name, value in config.items())
    if draws or args.neftune_noise_alpha:
        return "dropout draws from a stream of each process"
    if rows % per_step and not args.dataloader_drop_last and args.mechanisms.uses == 1:
        return f"{rows} rows are no multiple of the {per_step} of a step, and the last step is filled up otherwise"
    return ""

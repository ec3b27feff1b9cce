"""Saving what was trained so that plain PEFT or transformers loads it, and loading it back before success is said."""

import copy
import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unisd.devices import wide
from unisd.errors import UniSDError, UsageError, warn
from unisd.files import write_json
from unisd.models.adapters import active_names, bare_names, kinds, trained, without_numbers
from unisd.models.load import base_model, has_adapter

_ADAPTER = "adapter_model.safetensors"
_CONFIG = "adapter_config.json"
# Starts that move a part of the base's weights into the adapter: the base that is left fits this adapter alone.
_MOVES_WEIGHTS = ("pissa", "olora", "corda", "lora_ga")


def check_trainable(model: nn.Module) -> None:
    """Refuse a model of which nothing would be trained, or of which something trained would not be saved.

    Raises:
        UsageError: in one line, with a remedy.
    """
    names = trained(model)
    if not names:
        remedy = (
            "its adapter was made for use alone, or is switched off; load it with is_trainable=True, set its "
            "inference_mode to False, or call enable_adapter_layers()"
            if has_adapter(model)
            else "set requires_grad of what is to be trained, or give a peft_config"
        )
        raise UsageError(f"model: none of its parameters is trainable: {remedy}")
    coarse = sorted({str(v.dtype).removeprefix("torch.") for v in names.values() if v.dtype.itemsize < 4})
    if coarse:
        warn(
            f"model: what is trained is kept in {coarse[0]}, in which small steps are rounded away; set "
            "model.dtype=float32 with training.bf16=true (products in bfloat16, no more memory than fp32 copies take)"
        )
    if "ADALORA" in kinds(model):
        warn(
            "model: AdaLoRA's schedule of ranks and its orthogonal term are not run, so every layer keeps its first "
            "rank (init_r); use LoRA with a rank_pattern to share ranks out"
        )
    if not has_adapter(model):
        return
    kept = {tensor.data_ptr() for name in active_names(model) for tensor in _state(model, name).values()}
    bare = bare_names(model)
    lost = [name for name, value in names.items() if value.data_ptr() not in kept]
    if of_base := [name for name in lost if name in bare]:
        raise UsageError(
            f"model: {len(of_base)} trained tensors of the base ({', '.join(without_numbers(of_base)[:3])}) would not "
            "be saved with the adapter; freeze them, or name their modules in modules_to_save"
        )
    if lost := lost or _not_made_again(model, {value.data_ptr() for value in names.values()}):
        raise UsageError(
            f"model: {len(lost)} trained tensors of the adapter ({', '.join(without_numbers(lost)[:3])}) would not be "
            "there when it is loaded, for PEFT does not save them or what makes them; use a configuration without them"
        )


def _not_made_again(model: nn.Module, trained_at: set[int]) -> list[str]:
    """Return the trained tensors that PEFT's state holds and does not make from the configuration as it is saved."""
    name = active_names(model)[0]
    held = _state(model, name)
    if all(map(_is_factor, held)):  # plain LoRA, which needs no trial
        return []
    wrapped: Any = model
    with tempfile.TemporaryDirectory() as folder:
        wrapped.peft_config[name].save_pretrained(folder)
        made = _made_by(model, Path(folder))
    if made is None:
        return []
    return [key for key, value in held.items() if value.data_ptr() in trained_at and made.get(key) != value.shape]


def moved_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the start of a new adapter that took its weights out of the base (PiSSA, OLoRA and alike); else nothing.

    With it `finish_adapter` saves the difference, a LoRA adapter of twice the rank for the base as it was.
    """
    name = next(iter(active_names(model)), "")
    config: Any = getattr(model, "peft_config", {}).get(name)
    init = str(getattr(config, "init_lora_weights", ""))
    if getattr(config, "use_dora", False) or not init.lower().startswith(_MOVES_WEIGHTS):
        return {}
    return {key: value.detach().clone() for key, value in _state(model, name).items() if _is_factor(key)}


def finish_adapter(model: nn.Module, folder: Path, start: dict[str, Tensor]) -> None:
    """Bring a saved adapter into the form that PEFT loads from its folder alone, whatever the adapter is called.

    Args:
        model: the model whose adapters lie in ``folder``, as PEFT saved them.
        folder: where.
        start: what `moved_weights` gave when the adapter was new.
    """
    name = active_names(model)[0]
    if (folder / name / _CONFIG).is_file():
        for file in (folder / name).iterdir():
            shutil.move(file, folder / file.name)
        (folder / name).rmdir()
    if not start:
        return
    tensors = load_file(folder / _ADAPTER)
    for key, before in start.items():
        # s B A - s B₀ A₀ = s [B, -B₀] [A; A₀]
        first = ".lora_A." in key or ".lora_embedding_A" in key
        before = before.to(tensors[key].device)
        tensors[key] = torch.cat([tensors[key], before if first else -before], dim=0 if first else 1)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / _ADAPTER, metadata={"format": "pt"})
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    more = 2**0.5 if config.get("use_rslora") else 2
    config |= {"init_lora_weights": True, "r": config["r"] * 2, "lora_alpha": config["lora_alpha"] * more}
    for key, factor in (("rank_pattern", 2), ("alpha_pattern", more)):
        config[key] = {layer: value * factor for layer, value in (config.get(key) or {}).items()}
    write_json(folder / _CONFIG, config)


def check_saved(model: nn.Module, folder: Path, moved: bool = False) -> None:
    """Read back what was saved, and compare it with the model in memory.

    An adapter's tensors are compared one by one, and its configuration must make the same tensors on the bare model,
    which is built without memory for its weights. A whole model's tensors are compared one by one.

    Args:
        model: what was saved.
        folder: where it lies.
        moved: whether it was converted by `finish_adapter`, so that values differ from those in memory.

    Raises:
        UniSDError: something is missing, or differs.
    """
    lost = _lost_of_adapter(model, folder, moved) if has_adapter(model) else _lost_of_model(model, folder)
    if lost:
        raise UniSDError(
            f"what was saved in {folder.name} is not what was trained: {len(lost)} tensors are missing or differ "
            f"({', '.join(without_numbers(lost)[:3])}); the last checkpoint holds the training's state"
        )


def _lost_of_adapter(model: nn.Module, folder: Path, moved: bool) -> list[str]:
    saved = load_file(folder / _ADAPTER)
    held = _state(model, active_names(model)[0])
    lost = [name for name, value in held.items() if name not in saved or not _same(saved[name], value, moved)]
    made = _made_by(model, folder)
    if made is not None:
        lost += [name for name, value in saved.items() if name in held and made.get(name) != value.shape]
        lost += [name for name in made if name not in saved]
    return sorted(set(lost))


def _made_by(model: nn.Module, folder: Path) -> dict[str, torch.Size] | None:
    """Return the tensors that plain PEFT makes of a saved configuration on the bare model; None if it needs values."""
    from peft import PeftConfig, PeftModel

    inner: Any = base_model(model)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bare = type(inner)(copy.deepcopy(inner.config))
            config = PeftConfig.from_pretrained(str(folder))
            made = PeftModel(bare, config, low_cpu_mem_usage=True)
    except (NotImplementedError, RuntimeError, ValueError, TypeError):
        return None
    return {name: value.shape for name, value in _state(made, "default").items()}


def _lost_of_model(model: nn.Module, folder: Path) -> list[str]:
    held = dict(model.named_parameters())
    tied = model.state_dict(keep_vars=True).keys() - held.keys()
    other = [0, 0.0]  # what the files call by other names: checkpoints of some families join or split tensors
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                value = opened.get_tensor(name)
                if name in held and _same(value, held[name]):
                    del held[name]
                elif name not in tied:
                    other = [other[0] + value.numel(), other[1] + float(value.double().square().sum())]
    left = sum(value.numel() for value in held.values())
    squares = sum(float(wide(value.detach()).square().sum()) for value in held.values())
    as_many = other[0] == left and abs(other[1] - squares) <= 1e-6 * squares
    return [] if as_many and (folder / "config.json").is_file() else sorted(held) or ["config.json"]


def _same(saved: Tensor, held: Tensor, moved: bool = False) -> bool:
    return moved or (saved.shape == held.shape and torch.equal(saved, held.detach().to(saved.device)))


def _is_factor(key: str) -> bool:
    return any(part in key for part in (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B"))


def _state(model: nn.Module, name: str) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return found

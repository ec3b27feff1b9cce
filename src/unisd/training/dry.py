"""A step without weights and without the device: the real code on tensors that have shapes alone.

Tensors of PyTorch's meta device compute nothing and hold nothing, but every operation makes tensors of the right shape
and dtype, and autograd keeps what it would keep. So memory is counted by running what would be run: `dry` lets such
tensors report the device that is meant, and :class:`Tally` follows what lives.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import masking_utils

from unisd.fast.replaced import PLAIN_FAMILIES
from unisd.models import LoraSettings, attach
from unisd.models.load import base_model
from unisd.models.trial import READERS, Trust
from unisd.models.trust import assume

FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NormalFloat: half a byte, an 8-bit scale a block of 64, an fp32 one of 256 such blocks."""
_META = torch.device("meta")


class Tally(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is open and still live.

    A storage counts from the operation that makes it until nothing holds it: views count once, and what autograd keeps
    counts. Scratch memory inside of a kernel and what an allocator rounds up to are not seen.

    Args:
        devices: kinds of device that count; None: all.
    """

    def __init__(self, devices: tuple[str, ...] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.devices = devices
        self.bytes = 0
        """That live now."""
        self.peak = 0
        """The most that lived at once since `restart`."""
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow what it made."""
        with torch._C.DisableTorchFunction():  # the devices here are the real ones
            result = func(*args, **(kwargs or {}))
            made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
            for value in made:
                if self.devices is None or value.device.type in self.devices:
                    self._follow(value, (args, kwargs))
        return result

    def restart(self) -> int:
        """Forget the peak; return the bytes that live now."""
        self.peak = self.bytes
        return self.bytes

    def _follow(self, value: Tensor, given: Any) -> None:
        held, key, size = _storage(value)
        if key in self._known or any(
            key == _storage(each)[1] for each in tree_leaves(given) if isinstance(each, Tensor)
        ):
            return  # a view of what was there before counts as little as that
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(held, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _storage(value: Tensor) -> tuple[Any, int, int]:
    """Return what holds a tensor's values, what it is known by, and its bytes."""
    try:
        held = value.untyped_storage()
    except NotImplementedError:  # a packed weight, which shows no storage
        return value, id(value), value.numel() * value.dtype.itemsize
    return held, held._cdata, held.nbytes()


@contextlib.contextmanager
def dry(device: str) -> Iterator[None]:
    """Let meta tensors report ``device``, and whatever is made there be a meta tensor, while the context is open.

    Code that branches on the kind of device takes the branch that it would take there. Numbers that the host reads do
    not exist: those of tensors made from Python values are remembered, any other reads as 1.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    with (
        _Dry(device),
        mock.patch.object(torch.random, "fork_rng", return_value=contextlib.nullcontext()),
        mock.patch.object(masking_utils, "find_packed_sequence_indices", _told_apart),
    ):
        yield


class _Dry(TorchFunctionMode):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = torch.device(device)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if func == _DEVICE:  # a new object each time that it is looked up
                return self.device
            if func in _KINDS:
                return _KINDS[func] == self.device.type
            if func in _READS:
                return _READS[func](_value(args[0]))
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is _REORDER:
            return args[0].clone()
        if func in (torch.Tensor.backward, torch.autograd.backward):
            with self:  # what runs inside, checkpointed layers again among it, must find this mode, too
                _engine_run_backward((args[0],), (torch.ones_like(args[0]),), False, False, (), True, True)
            return None
        named = (torch.device, str) if func is torch.Tensor.to else torch.device
        args = tuple(_META if isinstance(arg, named) and self._meant(arg) else arg for arg in args)
        if kwargs.get("device") is not None and self._meant(kwargs["device"]):
            kwargs["device"] = _META
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.is_meta:
            _remember(func, args, result)
        return result

    def _meant(self, device: torch.device | str) -> bool:
        return torch.device(device).type == self.device.type

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Attend by the kernel that the device would choose; a meta tensor alone would get the plain products."""
        aten: Any = torch.ops.aten
        half = query.dtype in (torch.bfloat16, torch.float16)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask, 0.0)
        if self.device.type == "cpu":
            more = {"attn_mask": attn_mask, "scale": scale}
            result = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, dropout_p, is_causal, **more)
        elif attn_mask is None and half and query.shape[-1] <= 256:
            more = {"scale": scale}
            result = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, **more)
        else:
            if key.shape[1] != query.shape[1]:
                groups = query.shape[1] // key.shape[1]
                key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
            if attn_mask is not None:
                attn_mask = attn_mask.expand(*query.shape[:3], key.shape[2])
            keeps = torch.is_grad_enabled()
            result = aten._scaled_dot_product_efficient_attention(
                query, key, value, attn_mask, keeps, dropout_p, is_causal, scale=scale
            )
        attended: Tensor = result[0]
        return attended


_REORDER = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_DEVICE = torch.Tensor.device.__get__  # type: ignore[attr-defined]
_KINDS = {
    torch.Tensor.is_cuda.__get__: "cuda",  # type: ignore[attr-defined]
    torch.Tensor.is_cpu.__get__: "cpu",  # type: ignore[attr-defined]
    torch.Tensor.is_meta.__get__: "meta",  # type: ignore[attr-defined]
}
_READS: dict[Any, Callable[[Tensor], Any]] = {
    torch.Tensor.tolist: lambda value: value.tolist(),
    torch.Tensor.item: lambda value: value.item(),
    torch.Tensor.__bool__: lambda value: bool(value.all()),
    torch.Tensor.__int__: int,
    torch.Tensor.__index__: int,
    torch.Tensor.__float__: float,
}


def _value(tensor: Tensor) -> Tensor:
    """Return what a meta tensor stands for, as far as it was made from Python values; else ones."""
    known: Tensor | None = getattr(tensor, "_dry_value", None)
    return torch.ones(tensor.shape, dtype=tensor.dtype, device="cpu") if known is None else known


def _remember(func: Any, args: Any, result: Any) -> None:
    if func is torch.tensor:
        result._dry_value = torch.tensor(args[0])
    elif func is torch.Tensor.to and args[0].device.type == "cpu":
        result._dry_value = args[0]
    elif args and result is args[0]:  # changed in place
        result._dry_value = None
    elif func is torch.Tensor.max and len(args) == 1 and (known := getattr(args[0], "_dry_value", None)) is not None:
        result._dry_value = known.max()


def _told_apart(position_ids: Tensor) -> Tensor:
    """Return what tells packed sequences apart; transformers' own reads first whether there are several."""
    return torch.zeros_like(position_ids).cumsum(-1)


def dry_copy(
    config: Any,
    dtype: torch.dtype,
    lora: LoraSettings | None = None,
    quantization: str = "none",
    checkpointing: bool = False,
    attention: str | None = None,
) -> nn.Module:
    """Make a model of a configuration on the meta device, as a run would train it.

    Open `dry` and a :class:`Tally` around it to have its bytes counted.

    Args:
        config: transformers' configuration of a causal language model.
        dtype: of its weights.
        lora: the adapter that is trained; None: all weights are.
        quantization: ``none`` or ``4bit``, which counts the weights of the linear layers in four bits.
        checkpointing: whether layers are computed again in the backward pass.
        attention: transformers' name of an implementation; None lets it choose.
    """
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention or "sdpa")
        if lora is not None and lora.enabled:
            model = attach(model, lora.peft_config(model))
            if quantization == "4bit":
                _in_four_bits(model)
    inner: Any = base_model(model)
    if checkpointing:
        # Random streams are the device's, which is not there; and the engine sees which device tensors really have.
        how = {"use_reentrant": False, "preserve_rng_state": False, "determinism_check": "none"}
        inner.gradient_checkpointing_enable(how)
        inner.enable_input_require_grads()
    reader = next(name for name, reader in READERS.items() if reader.suits(model))
    assume(inner, Trust(segments=inner.config.get_text_config().model_type in PLAIN_FAMILIES, reader=reader))
    trained: nn.Module = model.train()
    return trained


def _in_four_bits(model: nn.Module) -> None:
    """Put stand-ins in the places of frozen linear layers, but for the head."""
    inner: Any = base_model(model)
    head = inner.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head and not child.weight.requires_grad:
                setattr(module, name, _FourBits(child))


def packed_weights(model: nn.Module) -> int:
    """Return how many weights of a dry model are counted in four bits."""
    return sum(m.in_features * m.out_features for m in model.modules() if isinstance(m, _FourBits))


class _FourBits(nn.Module):
    """A linear layer as bitsandbytes keeps it: four bits a weight, made whole for each product and then let go."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, plain.bias
        packed = torch.empty(int(plain.weight.numel() * FOUR_BITS), dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.dtype = plain.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        shape = (self.out_features, self.in_features)
        made: Tensor = _FourBitProduct.apply(x.to(self.dtype), shape, self.bias)  # type: ignore[no-untyped-call]
        return made.to(x.dtype)


class _FourBitProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, int], bias: Tensor | None) -> Tensor:
        ctx.shape = shape
        return functional.linear(x, x.new_empty(shape), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return gradient @ gradient.new_empty(ctx.shape), None, None


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, weights left out: by saved-tensor hooks.

    Args:
        model: whose parameters and buffers do not count.
        forward: runs it with gradient; its result counts where it is kept.
    """
    own = {held.untyped_storage()._cdata for held in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(kept.values())

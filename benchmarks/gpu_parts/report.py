"""What a part found: checks that hold or not, figures, and the machine; written as JSON at every change."""

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "pydantic", "trl")


class Report:
    """One part's findings, kept in ``<folder>/<part>.json`` from the first check on.

    Args:
        part: its name.
        device: ``cuda``, ``mps`` or ``cpu``.
        folder: where results are kept; None keeps them nowhere.
        machine: describe the machine, which imports torch.
    """

    def __init__(self, part: str, device: str, folder: Path | None = None, machine: bool = True) -> None:
        self.part = part
        self.device = device
        self.folder = folder
        self.machine = describe(device) if machine else {}
        self.checks: list[dict[str, Any]] = []
        self.figures: list[dict[str, Any]] = []
        self.skipped = ""
        self.finished = False
        self.started = time.perf_counter()

    @property
    def small(self) -> bool:
        """Whether sizes are those of the short form, which a CPU runs."""
        return self.device == "cpu"

    @property
    def state(self) -> str:
        """``passed``, ``failed`` or ``skipped``; a part that has not come to its end, or checked nothing, failed."""
        if self.skipped:
            return SKIPPED
        good = self.finished and bool(self.checks) and all(check["ok"] for check in self.checks)
        return PASSED if good else FAILED

    def check(self, name: str, ok: bool, detail: str = "") -> None:
        """Note that something holds, or not."""
        self.checks.append({"name": name, "ok": bool(ok), "detail": detail})
        self.write()

    def figure(self, name: str, value: float, unit: str) -> None:
        """Note a measured number."""
        self.figures.append({"name": name, "value": value, "unit": unit})
        self.write()

    def skip(self, why: str) -> None:
        """Say why this part measures nothing here."""
        self.skipped = why
        self.write()

    @contextlib.contextmanager
    def checking(self, name: str) -> Iterator[None]:
        """Note as failed what raises, with its message, and go on; the block notes success itself."""
        try:
            yield
        except (Exception, SystemExit) as error:  # whatever went wrong is a finding
            self.check(name, False, in_a_line(error))

    def finish(self) -> None:
        """Say that the part came to its end."""
        self.finished = True
        self.write()

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "part": self.part,
            "state": self.state,
            "device": self.device,
            "seconds": round(time.perf_counter() - self.started, 1),
            "date": time.strftime("%Y-%m-%d"),
            "skipped": self.skipped,
            "checks": self.checks,
            "figures": self.figures,
            "machine": self.machine,
        }

    def write(self) -> None:
        """Keep what is known so far, whole."""
        if self.folder is not None:
            write_json(self.folder / f"{self.part}.json", self.plain())


def in_a_line(error: BaseException) -> str:
    """Return an error's kind and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def write_json(path: Path, values: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def describe(device: str) -> dict[str, Any]:
    """Return the device's name, its memory and the versions in use, without names of hosts or paths."""
    import torch

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    found: dict[str, Any] = {"versions": versions, "torch_threads": torch.get_num_threads()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"device": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
        found["cuda"] = torch.version.cuda
    elif device == "mps":
        found |= {"device": f"Apple {platform.processor()}"}
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        found |= {"device": f"CPU ({next(names, platform.machine())}, {os.cpu_count()} cores)"}
    return found

"""What the operating system offers to shut a program in, found out by trying it."""

import contextlib
import functools
import json
import os
import shutil
import signal
import site
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError

_START = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import _runner; _runner.main()"
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_FOLDER = "/sandbox"  # as in _confine; named here because that module loads on Linux only
_START_SECONDS = 30.0
"""How much longer than its own limit a launcher may take before it counts as stuck (loaded machines start slowly)."""
_probing = threading.Lock()


@dataclass(frozen=True)
class Protection:
    """What shuts a program in on this machine."""

    mode: str
    """``namespaces`` (a root, processes and a network of its own), ``landlock`` (rules on paths) or ``none``."""
    namespaces: dict[str, bool] = field(default_factory=dict)
    """Whether each kind can be entered: user, mount, pid, network, ipc, uts."""
    landlock: int = 0
    """The kernel's Landlock version; 0 where there is none."""
    seccomp: bool = False
    """Whether system calls can be filtered: no new processes, programs, network or signals."""
    limits: bool = True
    """Whether the kernel's limits on time, memory and files are there (any POSIX system)."""
    problem: str = ""
    """Why a stronger mode did not work although the kernel names it."""

    @property
    def minimum(self) -> bool:
        """Whether files, network and processes are out of reach: without this, programs run only if told to."""
        return self.mode == "namespaces" or (self.mode == "landlock" and self.seccomp)

    @property
    def lines(self) -> list[str]:
        """What `unisd doctor` prints, one line each."""
        level = {"namespaces": "full", "landlock": "minimum"}.get(self.mode if self.minimum else "", "none")
        entered = [name for name, works in self.namespaces.items() if works]
        missing = [name for name, works in self.namespaces.items() if not works]
        lines = [
            f"sandbox: {level} protection (mode {self.mode})",
            f"namespaces: {', '.join(entered) or 'none'}" + (f" (missing: {', '.join(missing)})" if missing else ""),
            f"Landlock: version {self.landlock}" if self.landlock else "Landlock: missing",
            f"system-call filter (seccomp): {'yes' if self.seccomp else 'missing'}",
            f"limits on time, memory and files: {'yes' if self.limits else 'missing'}",
        ]
        if self.mode == "landlock":
            lines.append("without namespaces, programs cannot write files at all, not even in their own folder")
        if self.problem:
            lines.append(f"a stronger mode failed: {self.problem}")
        if not self.minimum:
            lines.append(
                "files and network are not protected: generated programs run only with UNISD_ALLOW_UNPROTECTED=1"
            )
        return lines


def protection() -> Protection:
    """Return what this machine offers. The first call tries it out (about half a second), later ones remember."""
    with _probing:
        return _probe()


@functools.cache
def _probe() -> Protection:
    if os.name != "posix":
        return Protection(mode="none", limits=False)
    found = _ask(["probe"], "", 0.0, None)
    problem = found.get("error", "")
    if problem:
        found = {"namespaces": {}, "landlock": 0, "seccomp": False}
    for mode, offered in (
        ("namespaces", found["namespaces"] and all(found["namespaces"].values())),
        ("landlock", found["landlock"] > 0),
    ):
        if offered:
            shield = Protection(mode=mode, problem=problem, **found)
            try:
                answer = start(shield, {"program": "import fractions", "tests": ["assert True"], "setup": ""}, _TRIAL)
            except UniSDError as error:
                problem = str(error)
                continue
            if answer["passed"]:
                return shield
            problem = f"{mode}: {answer['reason']}"
    return Protection(mode="none", problem=problem, **found)


_TRIAL = {"seconds": 20.0, "cpu_seconds": 20.0, "memory_bytes": 1 << 30, "processes": 8}
_TRIAL |= dict.fromkeys(["file_bytes", "folder_bytes", "output_bytes"], 1 << 20)


def start(shield: Protection, sources: dict[str, Any], limits: dict[str, float]) -> dict[str, Any]:
    """Run one job (``program``, ``tests``, ``setup``) in a launcher and return ``passed``, ``reason``, ``separable``.

    Raises:
        UniSDError: the sandbox could not be set up.
    """
    with _folder(shield.mode) as folder:
        tests = json.dumps(sources["tests"])
        job = {
            "program": sources["program"],
            "setup": sources["setup"],
            "mode": shield.mode,
            "landlock": shield.landlock > 0,
            "seccomp": shield.seccomp,
        }
        readable, importable = _python_paths()
        job |= {"limits": limits, "readable": [*readable, folder], "path": importable}
        for together in (False, True):
            head = json.dumps({**job, "together": together})
            answer = _ask([], f"{len(head):016x}{head}{tests}", limits["seconds"], folder)
            if "together" not in answer:
                break
    if "error" in answer:
        raise UniSDError(f"the sandbox cannot be set up: {answer['error']}; see what `unisd doctor` says of it")
    return answer


def _ask(arguments: list[str], job: str, seconds: float, folder: str | None) -> dict[str, Any]:
    """Start a launcher; return its answer, or an ``error`` if it ended or hung without one: that is no verdict."""
    home = folder or "/"
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, "PYTHONHASHSEED": "0"}
    environment |= dict.fromkeys(["PYTHONUTF8", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    environment["MALLOC_ARENA_MAX"] = "2"  # more would reserve address space for every thread
    process = subprocess.Popen(
        [sys.executable, "-s", "-P", "-S", "-c", _START, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home if os.path.isdir(home) else "/",
        env=environment,
        start_new_session=True,
    )
    try:
        # JSON keeps lone surrogates as escapes, so this is ASCII
        answer, trouble = process.communicate(job.encode("ascii"), timeout=seconds + _START_SECONDS)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # the worker dies with it
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return {"error": f"the launcher gave no answer within {seconds + _START_SECONDS:g} s"}
        raise
    with contextlib.suppress(ValueError):
        result = json.loads(answer)
        if process.returncode == 0 and isinstance(result, dict):
            return result
    lines = trouble.decode("utf-8", "replace").strip().splitlines() or ["the launcher ended without an answer"]
    return {"error": lines[-1]}


@contextlib.contextmanager
def _folder(mode: str) -> Iterator[str]:
    """Yield the private folder; with namespaces it is made in memory, and nothing is left on this machine's disks."""
    if mode == "namespaces":
        yield _FOLDER
        return
    path = tempfile.mkdtemp(prefix="unisd-sandbox-")
    try:
        yield path
    finally:
        remove(path)


def remove(path: str) -> None:
    """Remove a folder whatever a program has put there or locked in it."""
    with contextlib.suppress(OSError):
        os.chmod(path, stat.S_IRWXU)
    for parent, folders, _ in os.walk(path):
        for name in folders:
            inner = os.path.join(parent, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _python_paths() -> tuple[list[str], list[str]]:
    """Return the paths that a program may read, and those of them that it imports installed packages from."""
    paths = sysconfig.get_paths()
    packages = list(dict.fromkeys([paths["purelib"], paths["platlib"], *site.getsitepackages()]))
    readable = [paths["stdlib"], paths["platstdlib"], *packages, *_LIBRARIES, *_DEVICES]
    if sys.base_prefix not in ("/", "/usr"):
        readable.append(os.path.join(sys.base_prefix, "lib"))
    readable += [os.path.realpath(path) for path in readable]
    return list(dict.fromkeys(path for path in readable if os.path.exists(path))), packages

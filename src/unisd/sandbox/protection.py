"""What the operating system offers to shut a program in, found out by trying it."""

import contextlib
import functools
import json
import os
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unisd.errors import UniSDError

# The judge's interpreter finds its files as a package of their own: they need nothing else of this one.
_START = (
    f"import sys, types; box = sys.modules['box'] = types.ModuleType('box'); box.__path__ = [{str(Path(__file__).parent)!r}];"
    " from box import _runner; _runner.main()"
)
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/usr/share/zoneinfo")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_FOLDER = "/sandbox"  # as in _confine; named here because that module loads on Linux only
_START_SECONDS = 30.0
"""How much longer than its own limit a judge may take before it counts as stuck (loaded machines start slowly)."""
_KINDS = {
    "namespaces": "namespaces (user, mount, pid, network, ipc, uts)",
    "landlock": "Landlock",
    "seccomp": "system-call filter (seccomp)",
}


@dataclass(frozen=True)
class Protection:
    """What shuts a program in on this machine."""

    kinds: tuple[str, ...] = ()
    """What works here, together: ``namespaces`` (a root, processes and a network of its own), ``landlock`` (rules on
    paths), ``seccomp`` (no new processes, programs, network or signals)."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why the other kinds do not work."""

    @property
    def minimum(self) -> bool:
        """Whether files, network and processes are out of reach: without this, programs run only if told to."""
        return "namespaces" in self.kinds or {"landlock", "seccomp"} <= set(self.kinds)

    @property
    def lines(self) -> list[str]:
        """What `unisd doctor` prints, one line each."""
        level = "full" if "namespaces" in self.kinds else "minimum" if self.minimum else "no"
        lines = [f"sandbox: {level} protection"]
        for kind, words in _KINDS.items():
            missing = f"missing ({self.problems[kind]})" if kind in self.problems else "missing"
            lines.append(f"{words}: {'yes' if kind in self.kinds else missing}")
        lines.append(f"limits on time, memory and files: {'yes' if os.name == 'posix' else 'missing'}")
        if level == "minimum":
            lines.append("without namespaces, programs cannot write files at all, not even in their own folder")
        if level == "no":
            lines.append(
                "files and network are not protected: generated programs run only with UNISD_ALLOW_UNPROTECTED=1"
            )
        return lines


@functools.cache
def protection() -> Protection:
    """Return what this machine offers. The first call tries it out (about half a second), later ones remember."""
    found, problems = Protection(), {}
    limits = {"seconds": 20.0, "cpu_seconds": 20.0, "memory_bytes": 1 << 30, "processes": 8}
    limits |= dict.fromkeys(["file_bytes", "folder_bytes"], 1 << 20)
    for kind in _KINDS if sys.platform == "linux" else ():
        trial = Protection((*found.kinds, kind))
        try:
            answer = start(trial, {"program": "import fractions", "tests": ["assert True"], "setup": ""}, limits)
        except UniSDError as error:
            problems[kind] = str(error)
        else:
            found = trial if answer["passed"] else found
            problems |= {} if answer["passed"] else {kind: answer["reason"]}
    return Protection(found.kinds, problems)


def start(shield: Protection, sources: dict[str, Any], limits: dict[str, float]) -> dict[str, Any]:
    """Run one job (``program``, ``tests``, ``setup``) and return ``passed``, ``reason``, ``separable``.

    Raises:
        UniSDError: the sandbox could not be set up.
    """
    tests = json.dumps(sources["tests"])  # kept apart from the rest: only the judge reads them
    readable, importable = _python_paths()
    # With namespaces the private folder is made in memory, and nothing is left on this machine's disks.
    own = "namespaces" not in shield.kinds
    with tempfile.TemporaryDirectory(prefix="unisd-sandbox-", ignore_cleanup_errors=True) if own else _IN_MEMORY as home:
        job = {"program": sources["program"], "setup": sources["setup"], "kinds": shield.kinds, "limits": limits}
        job |= {"readable": [*readable, home], "path": importable}
        for together in (False, True):
            head = json.dumps({**job, "together": together})
            answer = _ask(f"{len(head):016x}{head}{tests}", limits, home)
            if not answer["together"]:
                break
    return answer | {"separable": answer["separable"] and not together}


_IN_MEMORY = contextlib.nullcontext(_FOLDER)


def _ask(job: str, limits: dict[str, float], home: str) -> dict[str, Any]:
    """Start a judge; return its answer. One that ended or hung without one gives no verdict: UniSDError."""
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": home, "TMPDIR": home, "PYTHONHASHSEED": "0"}
    environment |= dict.fromkeys(["PYTHONUTF8", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"], "1")
    environment["MALLOC_ARENA_MAX"] = "2"  # more would reserve address space for every thread
    trouble = "the judge ended without an answer"
    with subprocess.Popen(
        [sys.executable, "-s", "-P", "-S", "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home if os.path.isdir(home) else "/",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            # JSON keeps lone surrogates as escapes, so this is ASCII
            output, errors = process.communicate(job.encode("ascii"), limits["seconds"] + _START_SECONDS)
            trouble = [trouble, *errors.decode("utf-8", "replace").strip().splitlines()][-1]
        except subprocess.TimeoutExpired:
            output, trouble = b"", f"the judge gave no answer within {limits['seconds'] + _START_SECONDS:g} s"
        finally:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # the program dies with its judge; this is for other systems
    ending = -process.returncode
    if ending > 0 and ending != signal.SIGKILL:
        reason = f"the tests ended with {signal.Signals(ending).name}"
        if ending == signal.SIGALRM:
            reason = f"took longer than {limits['seconds']:g} s"
        return {"passed": False, "reason": reason, "separable": True, "together": False}
    with contextlib.suppress(ValueError):
        answer = json.loads(output.partition(b"\n")[0])
        if ending == 0 and isinstance(answer, dict):
            return answer
    raise UniSDError(f"the sandbox cannot be set up: {trouble}; see what `unisd doctor` says of it")


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

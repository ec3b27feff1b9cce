"""One command that shows on a GPU what tests cannot show without one.

    python benchmarks/gpu_check.py                      # on the first GPU; the page is docs/gpu/results.md
    python benchmarks/gpu_check.py --device cpu         # small sizes: to see that the check itself runs
    python benchmarks/gpu_check.py --only recipes --only resume

Each part runs in a process of its own for less than ten minutes and keeps what it finds at once, in a JSON file of its
name; the page is made anew after each. Nothing is downloaded or installed: weights are random, the tokenizer is made on
the spot, and packages that are missing are taken from the wheels in build/gpu-wheels, where `make gpu-wheels` put them.
Exit code 0: all parts passed or were skipped; 1: one failed; 2: it cannot run here.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpu_parts import PARTS, part
from gpu_parts.page import MARKS, page, read
from gpu_parts.report import FAILED, Report, in_a_line

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
WHEELS = ROOT / "build" / "gpu-wheels"
PAGE = "results.md"
LIMIT = 570
"""Seconds that a part may take."""
NEEDED = ("torch", "transformers", "peft", "accelerate", "pydantic", "yaml", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), help="default: the accelerator that is there")
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="a part; repeatable; default: all")
    parser.add_argument("--output", type=Path, help="default: docs/gpu, and on a CPU runs/gpu-check")
    parser.add_argument("--wheels", type=Path, default=WHEELS, help="a folder of wheels to use where packages lack")
    parser.add_argument("--inside", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        return inside(options.inside, options.device, options.output)
    with carried(options.wheels) as folders:
        if missing := [name for name in NEEDED if not _found(name, folders)]:
            print(
                f"{', '.join(missing)}: not installed, and not in {options.wheels}; run make gpu-wheels with a network"
            )
            return 2
        device = options.device or _accelerator()
        if device is None or (device != "cpu" and device != _accelerator()):
            print(f"--device {device or 'cuda'}: there is none here; use --device cpu for the short form")
            return 2
        output = options.output or (ROOT / "runs" / "gpu-check" if device == "cpu" else ROOT / "docs" / "gpu")
        states = [run_part(name, device, output, folders) for name in options.only or PARTS]
    print(f"page: {output / PAGE}")
    return int(FAILED in states)


def run_part(name: str, device: str, output: Path, folders: Sequence[Path] = (), limit: float = LIMIT) -> str:
    """Run one part in a process of its own, and make the page anew; return the part's state."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{name}.json"
    file.unlink(missing_ok=True)
    command = [
        sys.executable,
        str(HERE / "gpu_check.py"),
        "--inside",
        name,
        "--device",
        device,
        "--output",
        str(output),
    ]
    print(f"{name}: {PARTS[name]} …", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            code = subprocess.run(
                command, env=environment(name, device, folders), stdout=said, stderr=said, timeout=limit, check=False
            ).returncode
            end = "" if code == 0 else f"its process ended with code {code}"
        except subprocess.TimeoutExpired:
            end = f"it took longer than {limit:.0f} s"
        said.seek(0)
        last = said.read().splitlines()[-30:]
    results = read(output)
    if name not in results or end:
        keep_ending(name, device, output, end or "it wrote no result", started)
        results = read(output)
    result = results[name]
    (output / PAGE).write_text(page(results), encoding="utf-8")
    print(
        f"{name}: {MARKS[result['state']]}, {result['seconds']:.0f} s"
        + f" ({result['skipped']})" * bool(result["skipped"])
    )
    for check in result["checks"]:
        if not check["ok"]:
            print(f"  {check['name']}: {check['detail']}")
    if end:
        print("\n".join(f"  | {line}" for line in last))
    return str(result["state"])


def keep_ending(name: str, device: str, output: Path, why: str, started: float) -> None:
    """Add to what a part has kept that it did not come to its end; ``started`` is when it began, on this clock."""
    report = Report(name, device, output, machine=False)
    report.started = started
    if kept := read(output).get(name):
        report.checks, report.figures, report.machine = kept["checks"], kept["figures"], kept["machine"]
    report.check("the part came to its end", False, why)


def inside(name: str, device: str, output: Path | None) -> int:
    """Run a part in this process."""
    report = Report(name, device, output)
    report.write()
    try:
        part(name).run(report)
    except Exception as error:
        report.check("the part came to its end", False, in_a_line(error))
        raise
    report.finish()
    return 0


def environment(name: str, device: str, folders: Sequence[Path]) -> dict[str, str]:
    """Return the environment of a part: one device, no network, deterministic kernels where they are compared."""
    paths = [str(ROOT / "src"), str(HERE), *map(str, folders), os.environ.get("PYTHONPATH", "")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    more = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if name == "resume" else {}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUDA_VISIBLE_DEVICES": "" if device == "cpu" else visible,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "PYTHONWARNINGS": "ignore",
        **more,
    }


@contextlib.contextmanager
def carried(wheels: Path) -> Iterator[list[Path]]:
    """Unpack those wheels of a folder whose packages are not installed; yield the folders to import from."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "site-packages"  # by this name dill knows modules that it need not pickle whole
        missing = [wheel for wheel in sorted(wheels.glob("*.whl")) if not _installed(wheel.name.split("-")[0])]
        for wheel in missing:
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(folder)
        yield [folder] if missing else []


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _found(name: str, folders: Sequence[Path]) -> bool:
    if any((folder / name).is_dir() for folder in folders):
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # it was blocked
        return False


def _accelerator() -> str | None:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


if __name__ == "__main__":
    sys.exit(main())

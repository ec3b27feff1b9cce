"""Time, memory and error of the fused divergence against plain autograd, bare matrix products and TRL's tiles.

    python benchmarks/divergence.py                     # the claim: 1,024 tokens, V = 32,768, H = 256, float32
    python benchmarks/divergence.py --quick             # seconds instead of minutes
    python benchmarks/divergence.py --output result.json

All contestants run in turn, round after round, so that a busy machine slows them alike; compare ratios, not times.
`products` is the least that any method must do: student logits, teacher logits and the gradient in the hidden states,
as three plain `torch.mm`. Memory is the rise of the process's peak over its inputs, each in a process of its own.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unisd.objective import DivergenceKind, Head, divergence, fused_objective

KINDS: tuple[DivergenceKind, ...] = ("jsd", "forward_kl", "reverse_kl")
TEMPERATURE = 0.7
TRL_BETA = {"forward_kl": 0.0, "jsd": 0.5, "reverse_kl": 1.0}


@dataclass
class Setting:
    kind: DivergenceKind
    tokens: int
    vocabulary: int
    hidden: int
    trained: bool
    dtype: str


@dataclass
class Batch:
    student: Tensor
    teacher: Tensor
    weight: Tensor
    targets: Tensor
    coefficients: Tensor


def make(setting: Setting) -> Batch:
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, setting.dtype)
    student = torch.randn(setting.tokens, setting.hidden, generator=generator)
    teacher = student + 0.3 * torch.randn(setting.tokens, setting.hidden, generator=generator)
    weight = torch.randn(setting.vocabulary, setting.hidden, generator=generator).mul_(2 / setting.hidden**0.5)
    return Batch(
        student.to(dtype).requires_grad_(),
        teacher.to(dtype),
        weight.to(dtype).requires_grad_(setting.trained),
        torch.randint(setting.vocabulary, (setting.tokens,), generator=generator),
        torch.rand(setting.tokens, generator=generator) / setting.tokens,
    )


def ours(batch: Batch, kind: DivergenceKind) -> Tensor:
    teacher_head = Head(batch.weight.detach())
    return fused_objective(
        batch.student,
        Head(batch.weight),
        batch.targets,
        batch.coefficients,
        kind=kind,
        temperature=TEMPERATURE,
        teacher=batch.teacher,
        teacher_head=teacher_head,
    ).loss


def plain(batch: Batch, kind: DivergenceKind) -> Tensor:
    with torch.no_grad():
        teacher = batch.teacher @ batch.weight.t()
    value = divergence(batch.student @ batch.weight.t(), teacher, kind, temperature=TEMPERATURE)
    return (batch.coefficients.to(value.dtype) * value).sum()


def trl(batch: Batch, kind: DivergenceKind) -> Tensor:
    function = importlib.import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
    head = batch.weight.detach()
    value, _ = function.apply(
        batch.student, batch.weight, None, batch.teacher, head, None, TRL_BETA[kind], TEMPERATURE, 1.0, None, 1.0, None
    )
    result: Tensor = (batch.coefficients * value).sum()
    return result


LOSSES: dict[str, Callable[[Batch, DivergenceKind], Tensor]] = {"ours": ours, "plain": plain, "trl": trl}


def step(name: str, batch: Batch, kind: DivergenceKind) -> None:
    """One forward and backward pass, or the bare products."""
    if name == "products":
        with torch.no_grad():
            logits = batch.student @ batch.weight.t()
            torch.mm(batch.teacher, batch.weight.t())
            torch.mm(logits, batch.weight)
            if batch.weight.requires_grad:
                torch.mm(logits.t(), batch.student)
        return
    batch.student.grad = batch.weight.grad = None
    LOSSES[name](batch, kind).backward()


def contestants() -> tuple[list[str], str]:
    """Names in order, and a remark on whoever is absent."""
    try:
        importlib.import_module("trl.kernels.chunked_divergence")
    except Exception as error:
        return ["ours", "plain", "products"], f"TRL is left out: {type(error).__name__}: {error}".splitlines()[0]
    return ["ours", "plain", "products", "trl"], "TRL takes part"


def times(names: list[str], batch: Batch, kind: DivergenceKind, rounds: int, clock: str) -> dict[str, list[float]]:
    """Seconds per contestant and round, taken in turn after one round that does not count."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in names}
    for count in range(rounds + 1):
        for name in names:
            start = now()
            step(name, batch, kind)
            if count:
                taken[name].append(now() - start)
    return taken


def errors(names: list[str], batch: Batch, kind: DivergenceKind) -> dict[str, float]:
    """Relative error of the hidden states' gradient against float64 over at most 128 tokens."""
    few = slice(0, 128)

    def gradient(name: str, dtype: torch.dtype) -> Tensor:
        part = Batch(
            batch.student.detach()[few].to(dtype).requires_grad_(),
            batch.teacher[few].to(dtype),
            batch.weight.detach().to(dtype),
            batch.targets[few],
            batch.coefficients[few],
        )
        step(name, part, kind)
        assert part.student.grad is not None
        return part.student.grad.double()

    exact = gradient("plain", torch.float64)
    measured = {name: gradient(name, batch.student.dtype) for name in names if name != "products"}
    return {name: float((got - exact).norm() / exact.norm()) for name, got in measured.items()}


def peak(name: str, setting: Setting) -> float | None:
    """Extra MiB at the peak of one pass, in a fresh process; None where the system cannot tell."""
    command = [sys.executable, __file__, "--measure", name, json.dumps(vars(setting))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    return float(done.stdout) if done.returncode == 0 else None


def measure(name: str, text: str) -> None:
    """The inside of `peak`."""

    def high_water() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    setting = Setting(**json.loads(text))
    step(name, make(Setting(setting.kind, 4, 2048, setting.hidden, setting.trained, setting.dtype)), setting.kind)
    batch = make(setting)
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water()
    step(name, batch, setting.kind)
    print(high_water() - before)


def run(setting: Setting, names: list[str], rounds: int, clock: str) -> dict[str, Any]:
    batch = make(setting)
    taken = times(names, batch, setting.kind, rounds, clock)
    error = errors(names, batch, setting.kind)
    rows = {}
    for name in names:
        middle = statistics.median(taken[name])
        rows[name] = {
            "median_s": middle,
            "fastest_s": min(taken[name]),
            "slowest_s": max(taken[name]),
            # A round's contestants ran next to each other: the median of their ratios is steadier than the ratio of
            # medians.
            "of_plain": statistics.median(a / b for a, b in zip(taken[name], taken["plain"], strict=True)),
            "of_products": statistics.median(a / b for a, b in zip(taken[name], taken["products"], strict=True)),
            "peak_extra_mib": peak(name, setting),
            "gradient_error": error.get(name),
        }
    return {"setting": vars(setting), "rounds": rounds, "results": rows}


def table(report: dict[str, Any]) -> str:
    setting = report["setting"]
    head = "trained head" if setting["trained"] else "frozen head"
    size = f"N={setting['tokens']} V={setting['vocabulary']} H={setting['hidden']}"
    lines = [f"\n{setting['kind']}, {size}, {setting['dtype']}, {head}, {report['rounds']} rounds"]
    columns = ("", "median ms", "fastest..slowest", "× plain", "× products", "peak MiB", "error")
    lines.append("{:<10}{:>10}{:>20}{:>9}{:>12}{:>10}{:>10}".format(*columns))
    for name, row in report["results"].items():
        spread = f"{1e3 * row['fastest_s']:.0f}..{1e3 * row['slowest_s']:.0f}"
        memory = "?" if row["peak_extra_mib"] is None else f"{row['peak_extra_mib']:.0f}"
        error = "-" if row["gradient_error"] is None else f"{row['gradient_error']:.1e}"
        ratios = f"{row['of_plain']:>9.2f}{row['of_products']:>12.2f}"
        lines.append(f"{name:<10}{1e3 * row['median_s']:>10.0f}{spread:>20}{ratios}{memory:>10}{error:>10}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--trained", action="store_true", help="the head needs a gradient, too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None, help="default: as torch chooses")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for one thread on a busy machine"
    )
    parser.add_argument("--quick", action="store_true", help="a small problem and three rounds: to see that it runs")
    parser.add_argument("--output", type=Path, default=None, help="write the numbers as JSON")
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "SETTING"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.measure:
        measure(*options.measure)
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.quick:
        options.tokens, options.vocabulary, options.hidden, options.rounds = 256, 8192, 64, 3
    names, remark = contestants()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.clock} clock. {remark}.")
    reports = []
    for kind in options.kinds:
        size = (options.tokens, options.vocabulary, options.hidden)
        reports.append(run(Setting(kind, *size, options.trained, options.dtype), names, options.rounds, options.clock))
        print(table(reports[-1]), flush=True)
    if options.output:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
        about |= {"clock": options.clock, "remark": remark}
        options.output.write_text(json.dumps({**about, "reports": reports}, indent=2) + "\n")


if __name__ == "__main__":
    main()

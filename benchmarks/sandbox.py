"""Verdicts of the sandbox beside those of the official way, on references and on wrong variants of them; and the time.

    python benchmarks/sandbox.py DATA                    # all references of MBPP, sanitized MBPP and HumanEval
    python benchmarks/sandbox.py DATA --mutants 600      # and 600 programs with one change each

DATA holds `mbpp/mbpp.jsonl`, `mbpp/sanitized-mbpp.json` and `humaneval/HumanEval.jsonl.gz`. The official way is what
the data sets' own harnesses do: program and tests are executed in one name space. A difference is printed in full.
"""

import argparse
import ast
import contextlib
import gzip
import io
import json
import multiprocessing
import os
import random
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from unisd.sandbox import Limits, Outcome, run_tests

Item = tuple[str, str, list[str]]
SECONDS = 30.0
SWAPS: dict[type, list[type]] = {
    ast.Add: [ast.Sub, ast.Mult],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Add, ast.FloorDiv],
    ast.Div: [ast.FloorDiv, ast.Mult],
    ast.FloorDiv: [ast.Div],
    ast.Mod: [ast.FloorDiv],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.In: [ast.NotIn],
}


def items(data: Path) -> dict[str, list[Item]]:
    """Return name, program and tests of every reference, by data set."""
    found: dict[str, list[Item]] = {"mbpp": [], "sanitized": [], "humaneval": []}
    for line in (data / "mbpp" / "mbpp.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tests = [row["test_setup_code"] or "pass", *row["test_list"], *row["challenge_test_list"]]
        found["mbpp"].append((f"mbpp/{row['task_id']}", row["code"], tests))
    for row in json.loads((data / "mbpp" / "sanitized-mbpp.json").read_text(encoding="utf-8")):
        tests = ["\n".join(row["test_imports"]) or "pass", *row["test_list"]]
        found["sanitized"].append((f"sanitized/{row['task_id']}", row["code"], tests))
    with gzip.open(data / "humaneval" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            test = f"{row['test']}\ncheck({row['entry_point']})"
            found["humaneval"].append((row["task_id"], row["prompt"] + row["canonical_solution"], [test]))
    return found


def mutant(program: str, stream: random.Random) -> str | None:
    """Return a program with one change: an operator, a constant, a returned value, a condition or a statement."""
    tree = ast.parse(program)
    changes = []
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
            changes += [(node, "op", kind()) for kind in SWAPS[type(node.op)]]
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            changes += [(node, "ops", [kind(), *node.ops[1:]]) for kind in SWAPS[type(node.ops[0])]]
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            changes += [(node, "value", node.value + 1), (node, "value", node.value - 1)]
        elif isinstance(node, ast.Constant) and type(node.value) is str:
            changes.append((node, "value", node.value + "x"))
        elif isinstance(node, ast.Return) and node.value is not None:
            wrapped = [ast.List([node.value], ast.Load()), ast.Call(ast.Name("str", ast.Load()), [node.value], [])]
            wrapped += [ast.Constant(None), ast.Call(ast.Name("iter", ast.Load()), [node.value], [])]
            changes += [(node, "value", value) for value in wrapped]
        elif isinstance(node, ast.If | ast.While):
            changes.append((node, "test", ast.UnaryOp(ast.Not(), node.test)))
        elif isinstance(node, ast.FunctionDef | ast.For) and len(node.body) > 1:
            changes += [(node, "body", [*node.body[:k], *node.body[k + 1 :]]) for k in range(len(node.body))]
    if not changes:
        return None
    node, field, value = stream.choice(changes)
    setattr(node, field, value)
    return ast.unparse(ast.fix_missing_locations(tree))


def official(item: Item) -> bool:
    """Execute program and tests in one name space, in a process of its own; return whether they ended well in time."""
    receiver, sender = multiprocessing.Pipe(False)

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        os.setsid()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                scope: dict[str, object] = {}
                for source in (item[1], *item[2]):
                    exec(source, scope)
            sender.send(True)
        except BaseException:
            sender.send(False)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    sender.close()
    passed = False
    with contextlib.suppress(EOFError):
        passed = receiver.poll(SECONDS) and receiver.recv()
    process.kill()
    process.join()
    return bool(passed)


def outcomes(chosen: list[Item]) -> list[Outcome]:
    """Judge all items, one per core at a time."""
    limits = Limits(seconds=SECONDS, cpu_seconds=SECONDS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda item: run_tests(item[1], item[2], limits=limits), chosen))


def compare(name: str, chosen: list[Item]) -> int:
    """Print one line about a set of programs, and every difference; return how many there are."""
    began, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    judged = outcomes(chosen)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.monotonic() - began, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    verdicts = [official(item) for item in chosen]
    different = [n for n, outcome in enumerate(judged) if outcome.passed != verdicts[n]]
    apart = [n for n, outcome in enumerate(judged) if not outcome.separable]
    print(
        f"{name}: {sum(o.passed for o in judged)} of {len(chosen)} pass; {wall:.1f} s, {cpu:.1f} s of processor time; "
        f"not separable: {len(apart)} {[chosen[n][0] for n in apart]}; other verdicts than officially: {len(different)}"
    )
    for n in different:
        print(f"--- {chosen[n][0]}: officially {verdicts[n]}, here {judged[n]}\n{chosen[n][1]}\n{chosen[n][2]}")
    return len(different)


def main() -> int:
    """Run the comparison; exit code 1 where verdicts differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--mutants", type=int, default=0, help="how many changed programs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-mutants", action="store_true")
    arguments = parser.parse_args()
    sets = items(arguments.data)
    different = 0
    if not arguments.only_mutants:
        different += sum(compare(name, chosen) for name, chosen in sets.items())
    stream = random.Random(arguments.seed)
    pool = [item for chosen in sets.values() for item in chosen]
    changed: list[Item] = []
    while len(changed) < arguments.mutants:
        name, program, tests = stream.choice(pool)
        if (variant := mutant(program, stream)) is not None:
            changed.append((name, variant, tests))
    if changed:
        different += compare("mutants", changed)
    return 1 if different else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The reference solutions of MBPP and HumanEval pass (every 25th and 10th item, official files), others fail."""

import importlib.util
import os
from itertools import pairwise
from pathlib import Path

import pytest

from unisd.sandbox import protection

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("UNISD_DATA") or ROOT.parent / "shared" / "data")
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no official files at {DATA}; set UNISD_DATA"),
    pytest.mark.skipif(not protection().minimum, reason="this system cannot shut programs in"),
]
spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / "sandbox.py")
assert spec is not None
assert spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize(("name", "step"), [("mbpp", 25), ("sanitized", 25), ("humaneval", 10)])
def test_reference_solutions_pass(name: str, step: int) -> None:
    chosen = benchmark.items(DATA)[name][::step]
    assert len(chosen) > 15
    assert [(o.reason, o.separable) for o in benchmark.outcomes(chosen)] == [("", True)] * len(chosen)


def test_solutions_of_other_items_fail() -> None:
    chosen = benchmark.items(DATA)["mbpp"][::40]
    swapped = [(name, program, tests) for (name, program, _), (_, _, tests) in pairwise(chosen)]
    assert not any(outcome.passed for outcome in benchmark.outcomes(swapped))

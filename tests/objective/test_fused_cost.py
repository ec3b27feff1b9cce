"""What the fused pass may cost: memory, products, and never a word between host and device."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from unisd.objective import Head, sampled_logprobs
from unisd.objective._sweep import plan

from .reference import Contrast, fused

KINDS = ["forward_kl", "reverse_kl", "jsd", "cross_entropy"]
N, V, H = 600, 16384, 8

MEASURE = """
import json, sys, threading, time
import torch
torch.set_num_threads(1)
from unisd.objective import Head, Problem, divergence, fused_objective

how, n, v, h = sys.argv[1], *map(int, sys.argv[2:])

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) / 1024

def run(student, head, teacher, targets, c):
    student.requires_grad_()
    if how == "plain":
        loss = (c * divergence(student @ head.weight.t(), teacher @ head.weight.t(), "jsd")).sum()
    else:
        loss = fused_objective(Problem(
            student, head, targets, c, kind="jsd", temperature=0.7, cap=0.5, teacher=teacher, teacher_head=head
        )).loss
    loss.backward()

def inputs(n, v):
    return torch.randn(n, h), Head(torch.randn(v, h) / h**0.5), torch.randn(n, h), torch.randint(v, (n,)), torch.rand(n)

run(*inputs(4, 2048))  # the libraries' own first-use memory is not the pass's
batch = inputs(n, v)
open("/proc/self/clear_refs", "w").write("5")  # peak := now
before = status("VmHWM")
run(*batch)
print(json.dumps(status("VmHWM") - before))
"""


def arguments(n=N, vocabulary=V, width=H, trained=False):
    weight = torch.randn(vocabulary, width, requires_grad=trained)
    return {
        "student": torch.randn(n, width, requires_grad=True),
        "student_head": Head(weight),
        "targets": torch.randint(vocabulary, (n,)),
        "coefficients": torch.rand(n),
        "teacher": torch.randn(n, width),
        "teacher_head": Head(weight.detach()),
        "temperature": 0.7,
        "cap": torch.tensor(2.0),
        "contrast": Contrast(-torch.rand(n), torch.rand(n) < 0.5, torch.rand(n), 0.5),
    }


class Watch(TorchDispatchMode):
    """Counts operators and remembers the largest tensor that any of them returned."""

    def __init__(self):
        super().__init__()
        self.counts, self.largest = Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.counts[func.overloadpacket._qualified_op_name] += 1
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel(), tensor.untyped_storage().nbytes() // 4)
        return result


@pytest.fixture(autouse=True)
def _warm():
    """Let the once-per-process check of the product happen outside of what is watched."""
    batch = arguments(2, 8, 4)
    fused(**batch, kind="jsd").loss.backward()


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_tensor_of_tokens_times_vocabulary(kind, trained):
    batch = arguments(trained=trained)
    with Watch() as watch:
        fused(**batch, kind=kind).loss.backward()
    chunk, _ = plan(N, V, torch.empty(0), 2)
    assert chunk < N / 2
    assert watch.largest == chunk * V


def test_the_watch_sees_what_it_should():
    batch = arguments()
    with Watch() as watch:
        logits = batch["student"] @ batch["student_head"].weight.t()
        logits.sum().item()
    assert watch.largest == N * V
    assert watch.counts["aten::_local_scalar_dense"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_host_and_device_never_wait_for_each_other(kind):
    batch = arguments(64, 300, trained=True)
    with Watch() as watch:
        fused(**batch, kind=kind, chunk_tokens=20).loss.backward()
        sampled_logprobs(batch["student"], batch["student_head"], batch["targets"], chunk_tokens=20)
    waiting = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal")
    assert watch.counts["aten::softmax"] + watch.counts["aten::_softmax"] > 0
    assert not [name for name in watch.counts if name.split("::")[1] in waiting]


@pytest.mark.parametrize(("trained", "expected"), [(False, 3), (True, 4)], ids=["frozen", "trained"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_products_with_the_vocabulary(kind, trained, expected):
    batch = arguments(32, 500, trained=trained)
    with Watch() as watch:
        fused(**batch, kind=kind).loss.backward()
    assert products(watch) == expected


def test_values_alone_cost_two_products():
    batch = arguments(32, 500, trained=True)
    with Watch() as watch, torch.no_grad():
        result = fused(**batch, kind="jsd")
    assert products(watch) == 2
    assert not result.loss.requires_grad
    batch["student"], batch["student_head"] = batch["student"].detach(), batch["teacher_head"]
    with Watch() as watch:
        again = fused(**batch, kind="jsd")
    assert products(watch) == 2
    assert torch.equal(again.values["divergence"], result.values["divergence"])
    assert torch.equal(again.loss, result.loss)


def products(watch):
    return sum(watch.counts[name] for name in ("aten::mm", "aten::addmm", "aten::addmm_", "mkldnn::_linear_pointwise"))


def extra_mib(how, n, v=32768, h=256):
    source = Path(__file__).parents[2] / "src"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)}
    command = [sys.executable, "-c", MEASURE, how, str(n), str(v), str(h)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux to reset the peak")
def test_peak_memory():
    """N = 1024, V = 32768, H = 256: plain autograd takes more than a gigabyte, and the pass is flat in N."""
    assert extra_mib("plain", 512) > 400  # the measure works
    small, large = extra_mib("fused", 512), extra_mib("fused", 1024)
    assert large < 65
    assert large - small < 8

import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = str(Path(__file__).with_name("two_ranks.py"))


def run(command, cache):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "UNISD_CACHE": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def run_two(folder, kind):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    run([*torchrun, SCRIPT, str(folder), "2", kind], folder.parent)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "full", "reused"])
def test_two_processes_give_one_processs_loss_and_weights(tmp_path, kind, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    # The script puts a watch in its place.
    monkeypatch.setattr(torch.distributed, "destroy_process_group", torch.distributed.destroy_process_group)
    runpy.run_path(SCRIPT)["main"](one, 4, kind)
    run_two(two, kind)

    alone, first, second = (
        json.loads(path.read_text())
        for path in (one / "completions-0.json", two / "completions-0.json", two / "completions-1.json")
    )
    if kind == "reused":
        # The case is there at which ranks could wait for each other: one has no token that counts, the other has.
        counts = [[any(ids for _, ids in rank[step]) for rank in (first, second)] for step in range(6)]
        assert [True, False] in counts or [False, True] in counts
        assert any(row.get("reuse/weight", 1.0) != 1.0 for row in lines(one))
    for step in range(len(alone)):
        shared = sorted(first[step] + second[step])
        assert shared == sorted(alone[step])
        assert not {item for item, _ in first[step]} & {item for item, _ in second[step]}
        told = [[ids for _, ids in rank[step]] for rank in (first, second)]
        assert told[0] != told[1] or not any(told[0])
    for a, b in zip(lines(one), lines(two), strict=True):
        for name in a:
            if not name.startswith(("time/", "memory/", "speed/")):
                assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-6), name
    if kind == "full":
        # Once all completions of the step were left out, once those of one rank.
        learned = [tuple(any(ids for _, ids in rank[step]) for rank in (first, second)) for step in range(3)]
        assert learned == [(False, False), (False, True), (True, True)]
        texts = [(folder / "completions.jsonl").read_text().splitlines() for folder in (one, two)]
        written = [[json.loads(line) for line in each] for each in texts]
        assert [len(each) for each in written] == [8, 8]
        for a, b in zip(*(sorted(each, key=lambda row: (row["id"], row["sample"])) for each in written), strict=True):
            mean, other = a.pop("divergence"), b.pop("divergence")
            assert a == b
            assert a["counted"] == (mean is not None) == (other is not None)
            assert (mean or 0.0) == pytest.approx(other or 0.0, rel=1e-4)
    a, b = torch.load(one / "weights.pt"), torch.load(two / "weights.pt")
    for part in ("student", "ema"):
        for name, value in a[part].items():
            # Adam divides by the size of the gradient, which lifts rounding where that is near zero.
            torch.testing.assert_close(b[part][name], value, rtol=1e-3, atol=2e-5)
    if kind != "reused":
        return
    rows = [json.loads(line) for line in (two / "checkpoints/checkpoint-3/window.jsonl").read_text().splitlines()]
    assert [row["rank"] for row in rows] == [0, 0, 1, 1]
    run_two(two, "resumed")  # in the middle of a window, on both ranks
    again = torch.load(two / "weights.pt")
    for part in ("student", "ema"):
        assert all(torch.equal(again[part][name], value) for name, value in b[part].items())

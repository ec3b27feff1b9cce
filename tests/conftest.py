"""Tiny random models of three families and a tokenizer, made in memory."""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

import tiny

torch.set_num_threads(1)
for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL), ("SIGTERM", signal.SIG_DFL)):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if (
        number is not None and signal.getsignal(number) is signal.SIG_IGN
    ):  # a shell's choice for what is in the background
        signal.signal(number, usual)


def pytest_collection_finish():
    """Keep what was imported out of the garbage collector's sight: every training run starts by asking it to search."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.accelerator.is_available():
        pytest.skip("needs an accelerator, and there is none here")


@pytest.fixture(scope="session")
def tokenizer():
    return tiny.tokenizer()


@pytest.fixture(params=sorted(tiny.FAMILIES))
def any_model(request):
    return tiny.model(request.param)


@pytest.fixture
def model():
    return tiny.model("llama")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

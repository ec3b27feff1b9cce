"""The product is left rightᵀ whichever kernel runs, and a kernel that is gone or does something else is not used."""

import pytest
import torch

from unisd import fast
from unisd.fast import products
from unisd.fast.products import product


@pytest.fixture(autouse=True)
def _fresh_check():
    products._has_onednn_product.cache_clear()
    yield
    products._has_onednn_product.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (40, 64, 33)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mode", ["auto", "off"])
def test_it_is_the_plain_product(dtype, shape, transposed, mode):
    torch.manual_seed(0)
    n, k, m = shape
    left = torch.randn(n, k).to(dtype)
    right = torch.randn(k, m).to(dtype).t() if transposed else torch.randn(m, k).to(dtype)
    with fast.use(mode):
        torch.testing.assert_close(product(left, right), left @ right.t())
        out = torch.empty(n, m, dtype=dtype)
        assert product(left, right, out) is out
    torch.testing.assert_close(out, left @ right.t())


def test_it_is_written_into_a_part_of_a_tensor():
    left, right, out = torch.randn(3, 4), torch.randn(2, 4), torch.zeros(3, 6)
    product(left, right, out[:, 2:4])
    torch.testing.assert_close(out[:, 2:4], left @ right.t())
    assert not out[:, :2].any()
    assert not out[:, 4:].any()


def _absent(left, right):
    raise AttributeError("no such operator")


def _another(left, right):
    return left @ right.t() + 1


@pytest.mark.parametrize("kernel", [_absent, _another])
def test_another_kernel_is_not_taken(monkeypatch, kernel):
    monkeypatch.setattr(products, "_onednn_product", kernel)
    left, right = torch.randn(3, 4), torch.randn(5, 4)
    assert not products._has_onednn_product()
    torch.testing.assert_close(product(left, right), left @ right.t(), rtol=0, atol=0)


def test_the_kernel_runs_where_it_is_meant_to(monkeypatch):
    """In single precision, with fast paths; the check of the machine is made once."""
    calls = []

    def kernel(left, right):
        calls.append(left.dtype)
        return left @ right.t()

    monkeypatch.setattr(products, "_onednn_product", kernel)
    left, right = torch.ones(3, 4), torch.ones(5, 4)
    product(left, right)
    product(left.double(), right.double())
    with fast.use("off"):
        product(left, right)
    checked = 2
    assert calls == [torch.float32] * (checked + 1)

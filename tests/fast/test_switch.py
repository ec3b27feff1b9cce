"""One switch for all fast paths: it holds until it is set again, and a context restores it."""

import pytest
import torch

import tiny
from unisd import fast
from unisd.errors import UsageError
from unisd.fast.lean import lean_adapters
from unisd.fast.merged import merged_weights
from unisd.fast.segments import segments_suit
from unisd.fast.slots import slots_suit
from unisd.training.runfile import ModelSettings, assemble


@pytest.fixture(autouse=True)
def _as_it_was():
    with fast.use("auto"):
        yield


def test_it_is_on_unless_switched_off():
    assert fast.enabled()
    fast.use("off")
    assert not fast.enabled()
    fast.use("auto")
    assert fast.enabled()


def test_a_context_restores_what_was_before_even_after_an_error():
    with fast.use("off"):
        assert not fast.enabled()
        with fast.use("auto"):
            assert fast.enabled()
        assert not fast.enabled()
    assert fast.enabled()
    with pytest.raises(ZeroDivisionError), fast.use("off"):
        raise ZeroDivisionError
    assert fast.enabled()


@pytest.mark.parametrize("mode", ["on", "", None, True])
def test_another_mode_is_refused_and_changes_nothing(mode):
    with pytest.raises(UsageError, match=r"model\.fast: unknown value .*; choose auto or off"):
        fast.use(mode)
    assert fast.enabled()


def test_every_way_in_asks_it():
    model = tiny.lora(tiny.model(), trained=True)
    decoder = model.get_base_model().get_decoder()

    def taken():
        with merged_weights(model):
            merged = any("forward" in vars(module) for module in model.modules())
        with lean_adapters(model):
            lean = any("forward" in vars(module) for module in model.modules())
        return [merged, lean, slots_suit(decoder), segments_suit(decoder)]

    with torch.no_grad():
        assert taken() == [True] * 4
        fast.use("off")
        assert taken() == [False] * 4


def test_it_is_a_setting_of_a_run():
    assert ModelSettings().fast == "auto"
    assert assemble("core", overrides=["model.fast=off"]).model.fast == "off"
    with pytest.raises(UsageError, match=r"model\.fast"):
        assemble("core", overrides=["model.fast=sometimes"])

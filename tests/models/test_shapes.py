"""Built-in shapes against the numbers of parameters that their makers publish."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from unisd.models.shapes import SHAPES, shape_of
from unisd.training.runfile import model_presets

PARAMETERS = {
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.1-8b": 8_030_261_248,
    "gemma-3-4b": 4_300_079_472 - 416_866_032 - (1152 * 2560 + 1152),  # without the tower and what joins it
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_as_many_parameters_as_the_model(name):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape_of(name), dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def test_a_model_has_one_shape_by_either_name():
    for short, (hub_id, _) in SHAPES.items():
        assert shape_of(short).to_dict() == shape_of(hub_id).to_dict()
    assert shape_of("nobody/knows") is None
    assert set(SHAPES) == set(model_presets())

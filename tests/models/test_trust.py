"""What is found out about a model once: kept, found again, and never trusted where it could not be seen."""

import json
import random

import pytest
import torch
from torch import nn

import families
import tiny
from unisd import fast
from unisd.errors import UsageError, warn_once
from unisd.models import trial, trust
from unisd.models.readers import PaddedReader, SlotReader
from unisd.models.trial import distance, numbers
from unisd.models.trust import trusted, trusted_reader


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """An empty cache, and the models that were tried."""
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path))
    seen = []
    monkeypatch.setattr(trust, "tried", lambda model, readers: seen.append(model) or trial.tried(model, readers))
    return seen


def files(folder):
    return sorted(folder.glob("reading/*.json"))


def test_a_second_start_tries_nothing(trials, tmp_path):
    found = trusted(tiny.model())
    assert (found.rows, found.segments, found.reader, found.why) == ("packed", True, "slots", "")
    assert trusted(tiny.model(seed=1)) == found
    assert len(trials) == len(files(tmp_path)) == 1


def test_an_adapter_is_read_like_its_base(trials):
    base = tiny.model()
    assert trusted(tiny.lora(base)) == trusted(base)
    assert len(trials) == 1


def test_what_it_depends_on_is_tried_anew(trials):
    model = tiny.model()
    trusted(model)
    model.set_attn_implementation("eager")
    assert not trusted(model).segments
    trusted(model.to(torch.float64))
    trusted(tiny.model("qwen2"))
    with fast.use("off"):
        assert trusted_reader(tiny.model()) is PaddedReader
    assert trusted_reader(tiny.model()) is SlotReader
    assert len(trials) == 5


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": "woven"}', '{"rows": 3}', '{"colour": "red"}', "null"])
def test_a_broken_file_is_harmless(trials, tmp_path, text):
    found = trusted(tiny.model())
    files(tmp_path)[0].write_text(text, encoding="utf-8")
    assert trusted(tiny.model(seed=1)) == found
    assert len(trials) == 2
    assert json.loads(files(tmp_path)[0].read_text(encoding="utf-8"))["rows"] == "packed"


def test_a_cache_that_cannot_be_written_is_harmless(trials, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "file"))
    assert trusted(tiny.model()).rows == "packed"


def test_random_streams_and_modes_stay_as_they_were(trials):
    model = tiny.model().train()
    model.get_decoder().layers[0].eval()
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate()
    trusted(model)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_line_says_why_rows_are_not_packed(trials, capsys):
    warn_once.cache_clear()
    for seed in (0, 1):
        assert trusted(families.model("opt", seed)).rows == "padded"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: model: OPTForCausalLM reads packed sequences otherwise than alone (by ")
    assert lines[0].endswith("); it reads one sequence a row, in padded batches, which is slower")


class Summing(nn.Module):
    """An attention layer's output and the mean of all that stands before, across sequences: a leak of some strength."""

    def __init__(self, inner, strength):
        super().__init__()
        self.inner, self.strength = inner, strength

    def forward(self, *args, **kwargs):
        output, *rest = self.inner(*args, **kwargs)
        count = torch.arange(1, output.shape[1] + 1)[None, :, None]
        return (output + self.strength * output.cumsum(1) / count, *rest)


@pytest.mark.parametrize("strength", [0.0, 1e-3, 1.0])
def test_a_known_name_is_no_proof(trials, strength):
    """A model of a known type whose code does otherwise loses every fast path, and is read right."""
    model = tiny.model()
    layer = model.get_decoder().layers[0]
    layer.self_attn = Summing(layer.self_attn, strength)
    found = trusted(model)
    assert (found.rows, found.reader) == (("packed", "slots") if strength == 0 else ("padded", "whole"))
    assert found.segments is (strength == 0)


def test_code_from_elsewhere_is_part_of_what_it_depends_on(monkeypatch, tmp_path):
    model = tiny.model()
    plain = trust._code(model)
    model.added = Summing(nn.Identity(), 1.0)
    assert trust._code(model) not in (plain, None)
    monkeypatch.setattr(trust.inspect, "getsourcefile", lambda kind: str(tmp_path / "gone.py"))
    assert trust._code(model) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("family", sorted(tiny.FAMILIES))
def test_rounding_is_no_leak(trials, family, dtype):
    assert trusted(tiny.model(family).to(dtype)).rows == "packed"


@pytest.mark.parametrize("family", ["gpt_oss", "falcon", "lfm2", "mamba"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_is_seen_in_half_precision_too(trials, family, dtype):
    assert trusted(families.model(family).to(dtype)).rows != "packed"


def test_what_does_not_read_from_left_to_right_is_refused(trials):
    for name, family in {"XLNetLMHeadModel": "xlnet", "XLMWithLMHeadModel": "xlm"}.items():
        with pytest.raises(UsageError, match=f"^model: {name} reads a token with what comes after it; choose a causal"):
            trusted(families.model(family))


def test_what_cannot_read_a_text_by_itself_is_refused(trials):
    model = tiny.model()
    model.config.vocab_size = 0
    with pytest.raises(UsageError, match=r"^model: LlamaForCausalLM cannot read a text by itself .*; choose a causal"):
        trusted(model)


def test_where_nothing_can_be_seen_nothing_is_packed_or_kept(trials, tmp_path):
    model = tiny.model()
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            layer.self_attn.o_proj.weight.zero_()
    assert trusted(model).rows == "padded"
    assert files(tmp_path) == []


def test_long_sequences_stand_alone_where_positions_turn(trials):
    from unisd.models.packed import PackedSequence
    from unisd.models.reading import rows_of

    model = tiny.model()
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    model.config.max_position_embeddings = 200
    assert trusted(model).turn == 200
    sequences = [PackedSequence([1] * length, [2]) for length in (300, 20, 30, 201)]
    assert sorted(map(sorted, rows_of(model, sequences, 4096))) == [[0], [1, 2], [3]]


def test_distance_is_relative_and_blind_to_a_shift():
    one = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, -1.0]])
    assert distance(one + 5, one) < 1e-6
    assert distance(torch.stack([one[0], one[1] * 1.5]), one) == pytest.approx(0.5)
    assert distance(one[:1], one) == distance(one * float("nan"), one) == float("inf")


def test_numbers_are_found_by_the_name_that_holds_them():
    import re

    config = {"window": 8, "deep": {"window_sizes": [4, 300], "other": 5}, "window_on": True, "size": 9}
    assert sorted(numbers(config, re.compile("window"))) == [4, 8, 300]
    assert sorted(numbers(config, re.compile("window"), 100)) == [4, 8]

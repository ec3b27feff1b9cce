"""What is read slot by slot equals a forward pass over the whole sequence."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

import tiny
from unisd.models import readers
from unisd.models.readers import EqualReader, PaddedReader, SingleReader, SlotReader, WholeReader
from unisd.models.trust import trusted_reader

SYSTEM = list(range(3, 23))
# Longer than Gemma-3's sliding window of 8 tokens; two share their beginning.
PROMPTS = [[*SYSTEM, 40, 41, 42], [*SYSTEM, 50], [60, 61], [1]]
CONTINUED = [[7, 8, 9, 10], [11, 12, 13, 14], [15, 16, 17, 18], [2, 3, 4, 5]]


def whole(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def positions(lengths, count):
    return torch.tensor([list(range(length, length + count)) for length in lengths])


@pytest.fixture(params=["packed", "padded"])
def beginning(request, monkeypatch):
    if request.param == "padded":
        monkeypatch.setattr(readers, "segments_suit", lambda decoder: False)


@pytest.fixture(params=sorted(tiny.FAMILIES))
def family_model(request):
    return tiny.lora(tiny.model(request.param), trained=True).eval()


@pytest.mark.usefixtures("beginning")
@pytest.mark.parametrize("count", [1, 2, 4])
@torch.no_grad()
def test_reading_in_parts_equals_one_pass(family_model, count):
    reader = SlotReader(family_model)
    first = reader.begin(PROMPTS)
    for prompt, logits in zip(PROMPTS, first, strict=True):
        torch.testing.assert_close(logits, whole(family_model, prompt)[-1], rtol=1e-4, atol=1e-5)
    for start in range(0, 4, count):
        ids = torch.tensor([more[start : start + count] for more in CONTINUED])
        read = reader.read(ids, positions([len(prompt) + start for prompt in PROMPTS], count))
        assert read.shape[:2] == (4, count)
        for row, (prompt, more) in enumerate(zip(PROMPTS, CONTINUED, strict=True)):
            expected = whole(family_model, [*prompt, *more[: start + count]])[-count:]
            torch.testing.assert_close(read[row], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_what_was_wrong_is_written_over(family_model):
    reader = SlotReader(family_model)
    reader.begin(PROMPTS)
    at = [len(prompt) for prompt in PROMPTS]
    reader.read(torch.tensor([[90, 91, 92]] * 4), positions(at, 3))
    ids = torch.tensor([more[:2] for more in CONTINUED])
    read = reader.read(ids, positions(at, 2))
    for row, (prompt, more) in enumerate(zip(PROMPTS, CONTINUED, strict=True)):
        expected = whole(family_model, [*prompt, *more[:2]])[-2:]
        torch.testing.assert_close(read[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reader_class", [SlotReader, PaddedReader, EqualReader, SingleReader, WholeReader])
@torch.no_grad()
def test_rows_can_leave_and_long_texts_find_room(family_model, reader_class):
    reader = reader_class(family_model)
    torch.testing.assert_close(reader.begin(PROMPTS)[2], whole(family_model, PROMPTS[2])[-1], rtol=1e-4, atol=1e-5)
    reader.keep([3, 1])
    kept = [list(PROMPTS[3]), list(PROMPTS[1])]
    for step in range(40):
        tokens = [5 + step, 50 - step]
        read = reader.read(
            torch.tensor([[t] for t in tokens]), torch.tensor([[len(ids)] for ids in kept], dtype=torch.long)
        )
        for ids, token in zip(kept, tokens, strict=True):
            ids.append(token)
    assert read.shape[:2] == (2, 1)
    for row, ids in enumerate(kept):
        torch.testing.assert_close(read[row, 0], whole(family_model, ids)[-1], rtol=1e-4, atol=1e-5)


def test_slots_suit_known_families_with_their_usual_kernel_and_head(family_model):
    assert trusted_reader(family_model) is SlotReader
    family_model.get_base_model().get_decoder().config.model_type = "a newcomer"
    assert trusted_reader(family_model) is PaddedReader


def test_slots_do_not_suit_other_kernels_or_an_adapted_head(model):
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    model.set_attn_implementation("eager")
    assert trusted_reader(model) is PaddedReader
    model.set_attn_implementation("sdpa")
    assert trusted_reader(get_peft_model(model, config)) is PaddedReader


@torch.no_grad()
def test_the_model_attends_as_before_afterwards(model):
    before = model(torch.tensor([PROMPTS[0]])).logits
    reader = SlotReader(model)
    reader.begin(PROMPTS)
    reader.read(torch.tensor([[1]] * 4), positions([len(p) for p in PROMPTS], 1))
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(model(torch.tensor([PROMPTS[0]])).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize("reader", [SlotReader, PaddedReader, EqualReader, WholeReader])
@torch.no_grad()
def test_logits_of_half_precision_are_not_rounded(reader):
    """At every step: two tokens that are nearly as likely keep their places."""
    model = tiny.model().bfloat16()
    made = reader(model)
    last = made.begin(PROMPTS)
    for step in range(3):
        assert last.dtype == torch.float32
        assert not torch.equal(last, last.bfloat16().float())  # it would be, had the head's own product been taken
        read = [[*prompt, *more[:step]] for prompt, more in zip(PROMPTS, CONTINUED, strict=True)]
        torch.testing.assert_close(last, _by_head(model, read), rtol=2e-2, atol=0.3)
        ids = torch.tensor([[more[step]] for more in CONTINUED])
        last = made.read(ids, positions([len(prompt) + step for prompt in PROMPTS], 1))[:, -1]


def _by_head(model, sequences):
    """The logits after each sequence, from its states, in single precision."""
    states = torch.stack([model.model(torch.tensor([ids])).last_hidden_state[0, -1] for ids in sequences])
    return states.float() @ model.lm_head.weight.float().t()

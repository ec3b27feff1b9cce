from collections import Counter

import pytest

from contexts import families
from contexts.items import choice, numbered
from unisd.contexts import PromptBuilder, negative_contexts
from unisd.errors import UsageError
from unisd.rollout import CompletionStore
from unisd.rollout.base import SamplingParams
from unisd.tasks.base import NegativeRequest, Task

PARAMS = SamplingParams(16)


class Wrong(Task):
    """Asks for each wrong letter in turn; a text is wrong if it argues for its letter."""

    name = "letters"
    splits = ("train",)
    max_new_tokens = 8

    def load(self, split, source=None):
        return []

    def grade(self, example, text):
        raise AssertionError

    def negative_requests(self, example):
        return [NegativeRequest(f"Argue for {o}: {example.question}", o) for o in "ABC" if o != example.answer]

    def negative(self, example, request, text):
        return f"Reasoning: {text}\nAnswer: {request.target}" if text.startswith(f"So {request.target}") else None


def argue(builder):
    def write(request):
        letter = builder.tokenizer.decode(request.prompt_ids).split("Argue for ")[1][0]
        return f"So {letter} because of {request.key[-1]}"

    return write


@pytest.fixture
def builder():
    return PromptBuilder(families.FAMILIES["llama"](), "turn")


@pytest.fixture
def store(tmp_path):
    return CompletionStore(tmp_path / "texts.jsonl", "m")


def test_each_item_draws_one_verified_text(builder, store):
    task, items = Wrong(), numbered(30)
    assert isinstance(task, Task)
    sampler = families.FakeSampler(argue(builder))
    report = negative_contexts(task, items, sampler, builder, PARAMS, store)
    assert (report.written, report.dropped, report.without) == (120, {}, 0)
    numbers = Counter()
    for item, context in zip(items, report.contexts, strict=True):
        assert context.kind == "negative"
        assert not context.text.endswith(f"Answer: {item.answer}")
        numbers[context.text.split("because of ")[1][0]] += 1
    assert set(numbers) == set("0123")  # any of the four may be drawn
    assert len({request.key for request in sampler.asked}) == 120
    by_item = Counter(request.key[2] for request in sampler.asked)
    assert set(by_item.values()) == {4}
    # Two wrong letters, four texts: each letter twice, every time with a stream of its own.
    prompts = Counter(tuple(request.prompt_ids) for request in sampler.asked)
    assert set(prompts.values()) == {2}


def test_requests_are_in_the_chat_template(builder, store):
    sampler = families.FakeSampler(argue(builder))
    negative_contexts(Wrong(), numbered(1), sampler, builder, PARAMS, store, per_item=1)
    (request,) = sampler.asked
    assert list(request.prompt_ids) == builder.student_ids("Argue for B: What holds thing number 0?")


def test_the_draw_depends_on_seed_and_id(builder, store):
    items = numbered(20)
    sampler = families.FakeSampler(argue(builder))
    first = negative_contexts(Wrong(), items, sampler, builder, PARAMS, store).contexts
    assert negative_contexts(Wrong(), items[::-1], sampler, builder, PARAMS, store).contexts[::-1] == first
    assert negative_contexts(Wrong(), items, sampler, builder, PARAMS, store, seed=1).contexts != first
    assert len(sampler.asked) == 80


def test_texts_that_are_not_surely_wrong_are_dropped_and_counted(builder, store):
    right = argue(builder)
    texts = ["", "  ", "I am not sure"]

    def write(request):
        return texts[request.key[-1]] if request.key[-1] < 3 else right(request)

    items = numbered(5)
    report = negative_contexts(Wrong(), items, families.FakeSampler(write), builder, PARAMS, store)
    assert report.dropped == {"the text is empty": 10, "the text is not surely wrong": 5}
    assert all(context.text.split("because of ")[1][0] == "3" for context in report.contexts)
    few = negative_contexts(Wrong(), items, families.FakeSampler(write), builder, PARAMS, store, per_item=3)
    assert few.contexts == [None] * 5
    assert few.without == 5


def test_a_negative_that_repeats_the_gold_demonstration_is_dropped(builder, store):
    class Careless(Wrong):
        def negative(self, example, request, text):
            return example.demonstration.upper() if request.target == "B" else " "

    report = negative_contexts(Careless(), numbered(1), families.FakeSampler(argue(builder)), builder, PARAMS, store)
    assert report.contexts == [None]
    assert report.dropped == {"the text repeats the gold demonstration": 2, "the text is not surely wrong": 2}


def test_items_and_requests_that_cannot_be_asked_are_counted(builder, store):
    class Picky(Wrong):
        def negative_requests(self, example):
            return [] if example.id == "item-0" else super().negative_requests(example)

    items = [*numbered(3), choice("long", "Why " * 200, "so.", "A")]
    sampler = families.FakeSampler(argue(builder))
    report = negative_contexts(Picky(), items, sampler, builder, PARAMS, store, per_item=2, max_prompt_length=400)
    assert [context is None for context in report.contexts] == [True, False, False, True]
    assert report.written == 4
    assert report.dropped == {
        "the task has no request for the item": 1,
        "the request is longer than max_prompt_length": 2,
    }


def test_a_killed_run_goes_on(builder, tmp_path):
    items = numbered(20)
    store = CompletionStore(tmp_path / "t.jsonl", "m", batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        negative_contexts(Wrong(), items, families.FakeSampler(argue(builder), dies_at=3), builder, PARAMS, store)
    rest = families.FakeSampler(argue(builder))
    report = negative_contexts(Wrong(), items, rest, builder, PARAMS, store)
    assert len(rest.asked) == 80 - 24
    whole = CompletionStore(tmp_path / "other.jsonl", "m")
    assert negative_contexts(Wrong(), items, families.FakeSampler(argue(builder)), builder, PARAMS, whole) == report


def test_at_least_one_text_per_item(builder, store):
    with pytest.raises(UsageError, match="1 or more, not 0"):
        negative_contexts(Wrong(), numbered(1), families.FakeSampler(str), builder, PARAMS, store, per_item=0)

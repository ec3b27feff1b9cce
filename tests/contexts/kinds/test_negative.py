from collections import Counter

import pytest

from contexts import families
from contexts.items import Bare, choice, made, numbered
from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.rollout import CompletionStore, SamplingParams
from unisd.tasks.base import NegativeRequest


class Wrong(Bare):
    """Asks for each wrong letter in turn; a text is wrong if it argues for its letter."""

    name = "letters"

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


@pytest.fixture
def sampler(builder):
    return families.FakeSampler(argue(builder))


@pytest.fixture
def negatives(builder, store, sampler):
    def make(items, **given):
        return made(
            "negative", items, **{"task": Wrong(), "sampler": sampler, "builder": builder, "store": store, **given}
        )

    return make


def number_of(context):
    return context.text.split("because of ")[1][0]


def test_each_item_draws_one_verified_text(negatives, sampler):
    items = numbered(30)
    found = negatives(items)
    assert (found.dropped, found.notes) == ({}, [])
    numbers = Counter()
    for item, (context,) in zip(items, found.contexts, strict=True):
        assert context.kind == "negative"
        assert not context.text.endswith(f"Answer: {item.answer}")
        numbers[number_of(context)] += 1
    assert set(numbers) == set("0123")  # any of the four may be drawn
    assert len({request.key for request in sampler.asked}) == len(sampler.asked) == 120
    by_item = Counter(request.key[2] for request in sampler.asked)
    assert set(by_item.values()) == {4}
    # Two wrong letters, four texts: each letter twice, every time with a stream of its own.
    prompts = Counter(tuple(request.prompt_ids) for request in sampler.asked)
    assert set(prompts.values()) == {2}


def test_requests_are_in_the_chat_template(negatives, sampler, builder):
    negatives(numbered(1), per_item=1)
    (request,) = sampler.asked
    assert list(request.prompt_ids) == builder.student_ids("Argue for B: What holds thing number 0?")
    assert request.key == ("negative", "letters", "item-0", 0)


def test_texts_are_sampled_like_demonstrations(negatives, builder):
    seen = []

    class Watch(families.FakeSampler):
        def sample(self, requests, params, progress=None):
            seen.append(params)
            return super().sample(requests, params)

    negatives(numbered(1), sampler=Watch(argue(builder)), room=33, temperature=0.4, seed=7)
    assert seen == [SamplingParams(33, 0.4, seed=7)]


def test_the_draw_depends_on_seed_and_id(builder, store):
    # This writer knows no seed: where the seed changes, only the draw among its texts does.
    items = numbered(20)

    def drawn(items, seed=42):
        sampler = families.FakeSampler(argue(builder))
        found = made("negative", items, task=Wrong(), sampler=sampler, builder=builder, store=store, seed=seed)
        return found.contexts, len(sampler.asked)

    first, written = drawn(items)
    assert written == 80
    assert drawn(items[::-1]) == (first[::-1], 0)
    assert drawn(items[:3]) == (first[:3], 0)
    assert drawn(items, seed=1)[0] != first


def test_texts_that_are_not_surely_wrong_are_dropped_and_counted(negatives, builder):
    right = argue(builder)
    texts = ["", "  ", "I am not sure"]

    def write(request):
        return texts[request.key[-1]] if request.key[-1] < 3 else right(request)

    items, sampler = numbered(5), families.FakeSampler(write)
    found = negatives(items, sampler=sampler)
    assert found.dropped == {"the text is empty": 10, "the text is not surely wrong": 5}
    assert [number_of(context) for (context,) in found.contexts] == ["3"] * 5
    few = negatives(items, sampler=sampler, per_item=3)
    assert few.contexts == [[]] * 5
    assert few.notes == ["5 of 5 items have no verified negative; they train without one"]


def test_a_negative_that_repeats_the_gold_demonstration_is_dropped(negatives):
    class Careless(Wrong):
        def negative(self, example, request, text):
            return example.demonstration.upper() if request.target == "B" else " "

    found = negatives(numbered(1), task=Careless())
    assert found.contexts == [[]]
    assert found.dropped == {"the text repeats the gold demonstration": 2, "the text is not surely wrong": 2}


def test_items_and_requests_that_cannot_be_asked_are_counted(negatives, sampler):
    class Picky(Wrong):
        def negative_requests(self, example):
            return [] if example.id == "item-0" else super().negative_requests(example)

    items = [*numbered(3), choice("long", "Why " * 200, "so.", "A")]
    found = negatives(items, task=Picky(), per_item=2, max_prompt_length=400)
    assert [len(contexts) for contexts in found.contexts] == [0, 1, 1, 0]
    assert len(sampler.asked) == 4
    assert found.dropped == {
        "the task has no request for the item": 1,
        "the request is longer than max_prompt_length": 2,
    }
    assert found.notes == ["2 of 4 items have no verified negative; they train without one"]


def test_a_task_without_requests_has_no_negatives(negatives, sampler):
    found = negatives(numbered(2), task=Bare())
    assert found.contexts == [[], []]
    assert found.dropped == {"the task has no request for the item": 2}
    assert sampler.calls == []


def test_a_killed_run_goes_on(negatives, builder, tmp_path):
    items = numbered(20)
    store = CompletionStore(tmp_path / "t.jsonl", "m", batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        negatives(items, sampler=families.FakeSampler(argue(builder), dies_at=3), store=store)
    rest = families.FakeSampler(argue(builder))
    found = negatives(items, sampler=rest, store=store)
    assert len(rest.asked) == 80 - 24
    assert negatives(items, store=CompletionStore(tmp_path / "other.jsonl", "m")) == found


@pytest.mark.parametrize(("count", "per_item"), [(1, 0), (2, 4), (0, 4)])
def test_one_negative_from_one_or_more_texts(negatives, count, per_item):
    said = f"1 negative, drawn from 1 or more texts, not {count} from {per_item}"
    with pytest.raises(UsageError, match=said):
        negatives(numbered(1), count=count, per_item=per_item)


def test_the_first_verified_text_is_taken_and_no_more_are_written(negatives, sampler, store):
    items = numbered(30)
    first = negatives(items, first=True)
    assert len(sampler.asked) == 30
    # The same texts under the same keys: of those of all, the one at which the item begins.
    number = {item.id: number_of(context) for item, (context,) in zip(items, first.contexts, strict=True)}
    assert Counter(number.values()).keys() == {"0", "1", "2", "3"}
    assert first.contexts == negatives(items).contexts
    assert len(sampler.asked) == 120


def test_behind_a_text_that_is_not_wrong_the_next_is_written(negatives, builder):
    items, write = numbered(12), argue(builder)
    bad = families.FakeSampler(lambda r: "It is A." if r.key[-1] in (0, 1) else write(r))
    found = negatives(items, first=True, sampler=bad)
    assert all(number_of(context) in "23" for (context,) in found.contexts)
    starts = [request.key[-1] for request in bad.asked[:12]]
    wanted = sum({0: 3, 1: 2, 2: 1, 3: 1}[start] for start in starts)
    assert (len(bad.asked), found.dropped) == (wanted, {"the text is not surely wrong": wanted - 12})
    none = families.FakeSampler(lambda r: "It is A.")
    found = negatives(items, first=True, sampler=none, seed=3)
    assert (found.contexts, len(none.asked)) == ([[]] * 12, 48)
    assert found.notes == ["12 of 12 items have no verified negative; they train without one"]

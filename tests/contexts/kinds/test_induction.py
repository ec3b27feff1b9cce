from collections import Counter
from dataclasses import replace

import pytest

from contexts import families
from contexts.items import Bare, choice, numbered
from unisd.contexts import Making, Need, PromptBuilder, get
from unisd.contexts.kinds.induction import Induction
from unisd.errors import UniSDError, UsageError
from unisd.rollout import CompletionStore, SamplingParams

GENERAL = "Read what is asked. Compare every option with it, in round {}. Keep the one that fits best."
# Never a solved item: it may draw every instruction that was fit for use.
READER = replace(choice("reader", "What holds the sea?", "", "A"), demonstration=None)


@pytest.fixture
def builder():
    return PromptBuilder(families.FAMILIES["qwen"](), "paper")


@pytest.fixture
def store(tmp_path):
    return CompletionStore(tmp_path / "texts.jsonl", "m")


def general(request):
    return GENERAL.format(request.key[-1])


@pytest.fixture
def induce(builder, store):
    def make(items, count, write=general, pool_size=100, **making):
        sampler = families.FakeSampler(write)
        given = Making(Bare(), items, sampler=sampler, builder=builder, store=store, **making)
        return Induction(pool_size).make(Need("slot", "induction", count), given), sampler

    return make


def texts_of(contexts):
    return sorted(context.text for context in contexts)


def sources(request, builder, items):
    asked = builder.tokenizer.decode(request.prompt_ids)
    return [item for item in items if f"\n{item.question}\n" in asked]


def test_each_item_draws_distinct_instructions_of_other_items(induce, builder):
    items = numbered(25)
    found, sampler = induce(items, 3, pool_size=30)
    assert (len(sampler.asked), found.dropped, found.notes) == (30, {}, [])
    written_from = {general(request): sources(request, builder, items) for request in sampler.asked}
    assert len(written_from) == 30
    for item, contexts in zip(items, found.contexts, strict=True):
        assert len({context.text for context in contexts}) == 3
        for context in contexts:
            assert context.kind == "induction"
            assert item not in written_from[context.text]


def test_requests_show_three_to_five_solved_items_in_the_chat_template(induce, builder):
    items = [*numbered(20), READER]
    _, sampler = induce(items, 1)
    assert len(sampler.asked) == 100
    assert {request.key for request in sampler.asked} == {("induction", "task", number) for number in range(100)}
    sizes = Counter(len(sources(request, builder, items)) for request in sampler.asked)
    assert set(sizes) == {3, 4, 5}
    for request in sampler.asked:
        asked = builder.tokenizer.decode(request.prompt_ids)
        assert asked.startswith("<|im_start|>system")
        assert asked.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert "three to four sentences" in asked
        assert f"Below are {len(sources(request, builder, items))} problems" in asked
        assert all(item.demonstration in asked for item in sources(request, builder, items))
        assert READER.question not in asked


def test_sampling_follows_the_method(builder, store):
    seen = []

    class Watch(families.FakeSampler):
        def sample(self, requests, params, progress=None):
            seen.append(params)
            return super().sample(requests, params)

    making = Making(Bare(), numbered(9), sampler=Watch(general), builder=builder, store=store, seed=7)
    making.room, making.temperature = 16, 0.1  # those of demonstrations
    get("induction").make(Need("slot", "induction"), making)
    assert set(seen) == {SamplingParams(256, 0.7, 1.0, 7)}


def test_the_draw_is_stable_and_the_texts_are_kept(induce):
    items = [*numbered(12), READER, replace(READER, id="other")]
    first, _ = induce(items, 5)
    again, sampler = induce(items, 5)
    assert again == first
    assert sampler.calls == []
    # The texts are the same with every seed, and both readers may draw any of them.
    other, _ = induce(items, 5, seed=1)
    assert first.contexts[-1] != first.contexts[-2] != other.contexts[-2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it has no whole sentence"),
        ("Think about it and then", "it has no whole sentence"),
        ("...", "it has no whole sentence"),
        ("Do it so.\n```python\npass\n```\nDone.", "it holds code"),
        ("Do it so.\ndef solve(x):\n    return x.\n", "it holds code"),
        ("Compare them. The answer is B.", "it states an answer"),
        ("Compare them. Answer: B. Well done.", "it states an answer"),
        ("Compare them. The answers are (B).", "it states an answer"),
        ("As said: the lantern stands in a house where nobody sells it. Think.", "it copies a solved item"),
        ("If asked where would a person find a lantern that is not for sale, think.", "it copies a solved item"),
    ],
)
def test_unfit_instructions_are_dropped_and_counted(induce, text, fault):
    question = "Where would a person find a lantern that is not for sale?"
    items = [
        choice(f"i{i}", question, f"the lantern stands in a house where {who} sells it.", "B")
        for i, who in enumerate(["nobody", "nobody", "nobody", "no one", "no man", "no woman"])
    ]

    def write(request):
        return text if request.key[-1] < 4 else general(request)

    found, _ = induce([*items, READER], 5, write, pool_size=9)
    assert found.dropped == {fault: 4}
    assert texts_of(found.contexts[-1]) == [GENERAL.format(number) for number in range(4, 9)]


@pytest.mark.parametrize(
    "text",
    [
        "Answer the question with care. A person reads it twice before saying so.",
        "Finish with the answer on its own line, written as Answer: X, and nothing else.",
        "For each option (A, B or C), ask whether it fits. Import nothing from elsewhere.",
    ],
)
def test_fit_instructions_stay(induce, text):
    found, _ = induce(numbered(9), 1, lambda request: f"{text} In round {request.key[-1]}.")
    assert found.dropped == {}


def test_a_text_is_cut_after_its_last_whole_sentence(induce):
    written, kept = (
        " Ask {} things, e.g. 3.5 of them! “Then stop.” Or g",
        "Ask {} things, e.g. 3.5 of them! “Then stop.”",
    )
    found, _ = induce([*numbered(9), READER], 100, lambda request: written.format(request.key[-1]))
    assert texts_of(found.contexts[-1]) == sorted(kept.format(number) for number in range(100))


def test_repeated_instructions_count_once(induce):
    found, _ = induce([*numbered(30), READER], 3, lambda request: GENERAL.format(request.key[-1] % 3).upper())
    assert texts_of(found.contexts[-1]) == [GENERAL.format(i).upper() for i in range(3)]
    assert found.dropped == {"it repeats another instruction": 97}
    with pytest.raises(UniSDError, match=r"only 3 of 100 .* 4 are needed"):
        induce([*numbered(30), READER], 4, lambda request: GENERAL.format(request.key[-1] % 3).upper())


def test_no_item_draws_what_tells_its_own_answer(induce):
    told = replace(READER, question="Where would a person find a lantern that is not for sale at all?")

    def write(request):
        return f"{told.question} Think of that." if request.key[-1] == 0 else general(request)

    found, _ = induce([*numbered(9), told, READER], 4, write, pool_size=4)
    assert found.dropped == {}
    assert texts_of(found.contexts[-2]) == [GENERAL.format(number) for number in (1, 2, 3)]
    assert len(found.contexts[-1]) == 4


def test_requests_that_do_not_fit_are_not_sent(induce):
    items = [*numbered(8), choice("long", "Why " * 300, "so.", "A")]
    found, sampler = induce(items, 1, max_prompt_length=1300)
    assert 0 < found.dropped["the request is longer than max_prompt_length"] < 100
    assert len(sampler.asked) + found.dropped["the request is longer than max_prompt_length"] == 100
    assert all(len(request.prompt_ids) <= 1300 for request in sampler.asked)


def test_a_model_that_writes_nothing_of_use_fails_in_words(induce):
    with pytest.raises(UniSDError, match=r"only 0 of 100 .* 2 are needed \(it has no whole sentence: 100\)"):
        induce(numbered(9), 2, lambda request: "hm")


@pytest.mark.parametrize(("count", "size"), [(0, 10), (3, 2), (2, 101), (1, 0)])
def test_what_is_out_of_range_is_refused(induce, count, size):
    with pytest.raises(UsageError, match=f"≤ 100, not {count} and {size}"):
        induce(numbered(9), count, pool_size=size)


def test_too_few_solved_items_are_said_in_words(induce):
    with pytest.raises(UsageError, match="5 or more items with a demonstration, and there are 4"):
        induce([*numbered(4), READER], 1)


def test_an_item_left_with_fewer_instructions_says_so_by_a_shorter_list(induce):
    found, _ = induce(numbered(5), 3, pool_size=3)
    assert [len(contexts) < 3 for contexts in found.contexts].count(True) >= 4


def test_the_kind_asks_for_a_full_pool():
    assert get("induction").pool_size == 100

"""Contexts from other training items: what the kinds ``random`` and ``retrieval`` have in common."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contexts.items import Bare, choice, made, numbered
from unisd.contexts import Context, Making, Need
from unisd.contexts.leakage import normalised
from unisd.contexts.others import first_fit
from unisd.errors import UsageError

both = pytest.mark.parametrize("kind", ["random", "retrieval"])
QUESTIONS = ["What is it?", "what is IT", "Where do bees live?", "Where do bees live", "Why?", "∑?", "Who sang a song?"]


@both
@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(QUESTIONS), min_size=1, max_size=9), st.integers(1, 4))
def test_an_item_never_sees_itself_or_its_twins(kind, questions, count):
    # Twins have options of their own: a prompt that differs does not make another question.
    items = [
        choice(f"id{i}", question, f"reason number {i}.", "A", f"A. this\nB. that {i}")
        for i, question in enumerate(questions)
    ]
    usable = [[o for o in items if normalised(o.question) != normalised(item.question)] for item in items]
    try:
        found = made(kind, items, count).contexts
    except UsageError:
        assert any(len(others) < count for others in usable)
        return
    for item, others, contexts in zip(items, usable, found, strict=True):
        allowed = {(other.prompt, other.demonstration) for other in others}
        assert len(contexts) == count
        assert len({context.text for context in contexts}) == count
        for context in contexts:
            assert context.kind == kind
            assert (context.question, context.text) in allowed
            assert context.text != item.demonstration


@both
def test_items_without_a_demonstration_are_given_contexts_but_are_none(kind):
    items = numbered(8)
    items[2] = replace(items[2], demonstration=None)
    items[5] = replace(items[5], demonstration="  ")
    found = made(kind, items, 5).contexts
    assert all(len(contexts) == 5 for contexts in found)
    prompts = {context.question for contexts in found for context in contexts}
    assert prompts == {item.prompt for i, item in enumerate(items) if i not in (2, 5)}


@both
def test_too_few_items_are_said_in_words(kind):
    with pytest.raises(UsageError, match=rf"'item-0' needs 4 {kind} contexts, but only 3 of 4 training items .* fewer"):
        made(kind, numbered(4), 4)
    assert all(len(contexts) == 3 for contexts in made(kind, numbered(4), 3).contexts)
    with pytest.raises(UsageError, match="1 or more, not 0"):
        made(kind, numbered(4), 0)


@both
def test_what_leaks_is_passed_over_and_counted(kind):
    items = numbered(5)
    told = "the lantern stands in the old house because nobody sells things there."
    items[0] = choice("item-0", "Where is thing number zero of them all?", told, "B")
    items[1] = choice("item-1", "Where is thing number one of them all?", told, "C")
    reasons = set()
    for seed in range(20):
        found = made(kind, items, 3, seed=seed)
        assert items[1].prompt not in {context.question for context in found.contexts[0]}
        assert items[0].prompt not in {context.question for context in found.contexts[1]}
        reasons |= set(found.dropped)
    assert reasons == {"the other item tells the item's own question or answer"}


@both
def test_an_item_with_the_same_solution_under_other_names_is_passed_over_and_counted(kind):
    items = [replace(item, shape=str(i // 2)) for i, item in enumerate(numbered(6))]
    found = made(kind, items, 4, seed=1)
    for i, contexts in enumerate(found.contexts):
        assert items[i ^ 1].prompt not in {context.question for context in contexts}
    assert set(found.dropped) == {"the other item has the same solution under other names"}
    assert sum(found.dropped.values()) > 0


@both
def test_contexts_from_a_pool_of_other_items(kind):
    items, pool = numbered(3), [replace(item, question=f"{item.question} Really?") for item in numbered(12)[6:]]
    pool[0] = items[0]  # the same question in the pool is passed over, an equal id with another question is not
    pool[1] = replace(pool[1], id=items[0].id)
    found = made(kind, items, 5, pool=pool).contexts
    assert {context.question for context in found[0]} == {item.prompt for item in pool[1:]}
    with pytest.raises(UsageError, match="only 5 of 6"):
        made(kind, items, 6, pool=pool)


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 3))
def test_the_first_fit_items_of_a_ranking_are_taken_once_each(ranking, count):
    items = numbered(5)
    making = Making(Bare(), items[:1], pool=items)
    fit = [other for other in dict.fromkeys(ranking) if other != 0]
    need = Need("slot", "random", count)
    if len(fit) < count:
        with pytest.raises(UsageError, match=f"only {len(fit)} of 5"):
            first_fit("random", need, making, lambda index: ranking)
    else:
        expected = [Context("random", items[other].demonstration, items[other].prompt) for other in fit[:count]]
        assert first_fit("random", need, making, lambda index: ranking).contexts == [expected]

import sys
import types
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contexts.items import choice, cos_e, numbered
from unisd.contexts import leaks, probes, random_contexts, retrieval_contexts
from unisd.contexts.leakage import normalised
from unisd.errors import UniSDError, UsageError


def drawn(examples, count, kind, pool=None):
    if kind == "random":
        return random_contexts(examples, count, 42, pool)
    return retrieval_contexts(examples, count, pool=pool)


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
        found = drawn(items, count, kind)
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
    found = drawn(items, 5, kind)
    assert all(len(contexts) == 5 for contexts in found)
    prompts = {context.question for contexts in found for context in contexts}
    assert prompts == {item.prompt for i, item in enumerate(items) if i not in (2, 5)}


@both
def test_too_few_items_are_said_in_words(kind):
    with pytest.raises(UsageError, match=rf"'item-0' needs 4 {kind} contexts, but only 3 of 4 training items .* fewer"):
        drawn(numbered(4), 4, kind)
    assert all(len(contexts) == 3 for contexts in drawn(numbered(4), 3, kind))
    with pytest.raises(UsageError, match="1 or more, not 0"):
        drawn(numbered(4), 0, kind)


@both
def test_what_leaks_is_passed_over(kind):
    items = numbered(5)
    told = "the lantern stands in the old house because nobody sells things there."
    items[0] = choice("item-0", "Where is thing number zero of them all?", told, "B")
    items[1] = choice("item-1", "Where is thing number one of them all?", told, "C")
    for seed in range(20):
        found = random_contexts(items, 3, seed) if kind == "random" else retrieval_contexts(items, 3)
        assert items[1].prompt not in {context.question for context in found[0]}
        assert items[0].prompt not in {context.question for context in found[1]}


@both
def test_contexts_from_a_pool_of_other_items(kind):
    items, pool = numbered(3), [replace(item, question=f"{item.question} Really?") for item in numbered(12)[6:]]
    pool[0] = items[0]  # the same question in the pool is passed over, an equal id with another question is not
    pool[1] = replace(pool[1], id=items[0].id)
    found = drawn(items, 5, kind, pool)
    assert {context.question for context in found[0]} == {item.prompt for item in pool[1:]}
    with pytest.raises(UsageError, match="only 5 of 6"):
        drawn(items, 6, kind, pool)


def test_random_contexts_depend_on_seed_and_id_alone():
    items = numbered(40)
    found = random_contexts(items, 3, 1)
    assert random_contexts(items, 3, 1) == found
    assert random_contexts(items, 3, 2) != found
    assert random_contexts([items[7]], 3, 1, pool=items) == [found[7]]
    assert random_contexts(items[::-1], 3, 1, pool=items)[::-1] == found


def test_appended_items_change_few_random_contexts():
    items = numbered(100)
    before, after = random_contexts(items[:80], 3, 1), random_contexts(items, 3, 1)[:80]
    fresh = {item.prompt for item in items[80:]}
    come = [c for old, new in zip(before, after, strict=True) for c in new if c not in old]
    assert 0.1 < len(come) / 240 < 0.3
    # An old item comes only where a fresh one was drawn twice.
    assert sum(context.question not in fresh for context in come) <= 3


def test_random_contexts_use_all_items_about_equally():
    items = numbered(30)
    uses = Counter(context.question for seed in range(60) for c in random_contexts(items, 3, seed) for context in c)
    assert len(uses) == 30
    assert max(uses.values()) < 1.5 * min(uses.values())


def test_retrieval_takes_the_nearest_first_and_ties_in_order():
    items = [
        choice("0", "Where do bees make honey?", "hives.", "A"),
        choice("1", "Who sails a ship?", "sailors.", "B"),
        choice("2", "Where do bees sleep?", "hives too.", "A"),
        choice("3", "Where do wasps sleep?", "nests.", "C"),
        choice("4", "Where do bees sleep at night?", "in hives.", "C"),
        choice("5", "Who sings?", "singers.", "B"),
    ]
    index = {item.prompt: number for number, item in enumerate(items)}
    found = [[index[context.question] for context in contexts] for contexts in retrieval_contexts(items, 3)]
    assert found[2] == [4, 3, 0]
    assert found[0][:2] == [2, 4]
    assert found[1][0] == 5


def test_retrieval_looks_beyond_many_twins():
    twins = [choice(f"twin-{i}", "Where do bees live?", f"reason {i}.", "A", f"A. hive {i}") for i in range(40)]
    near = choice("near", "Where do small bees live?", "near.", "A")
    far = [choice(f"far-{i}", f"Who sails ship number {i}?", f"far {i}.", "B") for i in range(40)]
    found = retrieval_contexts([*far, *twins, near], 2)
    assert all(contexts[0].question == near.prompt for contexts in found[40:80])


def test_retrieval_fills_up_where_no_word_is_shared():
    items = [choice(word, f"{word}?", f"reason for {word}.", "A") for word in ("bee", "sea", "sky", "sun", "ice")]
    found = retrieval_contexts(items, 4)
    assert all(len({context.question for context in contexts}) == 4 for contexts in found)
    assert retrieval_contexts(items, 4) == found


def test_retrieval_on_real_questions():
    items = cos_e(1500)
    found = retrieval_contexts(items, 3)
    by_prompt = {item.prompt: item for item in items}
    shared = random_shared = 0
    for item, contexts, others in zip(items, found, random_contexts(items, 3, 0), strict=True):
        own = set(normalised(item.question).split())
        for context in contexts:
            other = by_prompt[context.question]
            assert other.id != item.id
            assert normalised(other.question) != normalised(item.question)
            assert not leaks(item, context)
            shared += len(own & set(normalised(other.question).split()))
        random_shared += sum(len(own & set(normalised(by_prompt[c.question].question).split())) for c in others)
    assert shared > 2 * random_shared
    planted = choice("planted", "Where is a lantern likely to be, if it is not for a sale?", "none.", "A")
    assert retrieval_contexts([planted], 1, pool=items)[0][0].question == items[0].prompt


class Encoder:
    """Embeds by first letters; never asked to load anything."""

    asked: ClassVar[list[int]] = []

    def __init__(self, name):
        assert name == probes.DENSE_MODEL

    def encode(self, texts, normalize_embeddings, convert_to_tensor, show_progress_bar):
        assert normalize_embeddings
        assert convert_to_tensor
        self.asked.append(len(texts))
        rows = torch.tensor([[float(text.lower().count(letter)) for letter in "abcdefgh"] for text in texts]) + 1e-3
        noise = 1e-7 * (torch.arange(len(texts)) % 7).unsqueeze(-1)  # as of texts batched with other texts
        return torch.nn.functional.normalize(rows, dim=-1) * (1 + noise)


def test_dense_retrieval_takes_the_nearest_embeddings(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Encoder))
    texts = ["aaa", "bbb", "aab", "a a a!", "abb", "bbbb", "ccc"]
    items = [choice(str(i), text, f"reason {i}.", "A") for i, text in enumerate(texts)]
    found = [[int(c.text.split()[2][0]) for c in contexts] for contexts in retrieval_contexts(items, 3, "dense")]
    assert Encoder.asked == [7]
    assert found[0] == [3, 2, 4]  # "a a a!" has other words than "aaa": near, not the same question
    assert found[1] == [5, 4, 2]
    assert found[2] == [0, 3, 4]  # a tie comes in order
    lone = retrieval_contexts(items[:1], 1, "dense", pool=items[1:])
    assert lone[0][0].question == items[3].prompt


def test_dense_ties_come_in_order(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=Encoder))
    items = [choice(str(i), f"ab {i}", f"reason {i}.", "A") for i in range(100)]
    found = retrieval_contexts(items, 3, "dense")
    assert [context.question for context in found[50]] == [item.prompt for item in items[:3]]


def test_dense_retrieval_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'unisd\[dense\]'"):
        retrieval_contexts(numbered(4), 2, "dense")
    with pytest.raises(UsageError, match="lexical, dense"):
        retrieval_contexts(numbered(4), 2, "sparse")


def test_dense_retrieval_without_its_model(monkeypatch):
    def fail(name):
        raise OSError("no network\nat all")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=fail))
    with pytest.raises(UniSDError, match=r"cannot load .*MiniLM.*OSError: no network\)"):
        retrieval_contexts(numbered(4), 2, "dense")


@both
def test_an_item_with_the_same_solution_under_other_names_is_passed_over_and_counted(kind):
    items = [replace(item, shape=str(i // 2)) for i, item in enumerate(numbered(6))]
    counted = Counter()
    if kind == "random":
        found = random_contexts(items, 4, 1, passed_over=counted)
    else:
        found = retrieval_contexts(items, 4, passed_over=counted)
    for i, contexts in enumerate(found):
        assert items[i ^ 1].prompt not in {context.question for context in contexts}
    assert counted == {"the other item has the same solution under other names": sum(counted.values())}
    assert counted.total() > 0

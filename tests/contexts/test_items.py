import json
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy
import pandas
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from contexts.items import Bare, Hint, numbered, registered
from unisd.contexts import (
    Context,
    ContextKind,
    Item,
    Made,
    Making,
    Need,
    columns_of,
    make_contexts,
    read_columns,
)
from unisd.contexts.items import column_of
from unisd.errors import UniSDError, UsageError

PROMPT = "Where do bees live?"
OTHER = {"kind": "retrieval", "text": "Ships sail.", "question": "Who sails?"}
GOLD = Need("gold", "gold")
PROBES = Need("auxiliary", "retrieval", 2, required=False)
NEGATIVE = Need("negative", "negative", required=False)


class Told(ContextKind):
    """Says what it was asked and given; a class for each answer."""

    name, summary, about, words = "told", "what it is told", "general", "induction"
    answer = Made([])

    def make(self, need: Need, making: Making) -> Made:
        type(self).asked = need, making
        return self.answer


def told(name, contexts, dropped=None, notes=()):
    return type("Told", (Told,), {"name": name, "answer": Made(contexts, dropped or {}, list(notes))})


def thoughts(kind, *texts):
    return [Context(kind, text) for text in texts]


# From a task's examples to items


def test_items_hold_the_examples_and_what_was_made_for_them():
    examples = numbered(4)
    items, dropped, notes = make_contexts([GOLD, Need("auxiliary", "random", 2)], Making(Bare(), examples))
    assert (dropped, notes) == ({}, [])
    assert len(items) == 4
    for item, example in zip(items, examples, strict=True):
        assert (item.id, item.prompt, item.completion) == (example.id, example.prompt, example.demonstration)
        assert list(item.contexts) == ["gold", "auxiliary"]
        assert item.contexts["gold"] == [Context("gold", example.demonstration)]
        assert [context.kind for context in item.contexts["auxiliary"]] == ["random", "random"]
        assert example.prompt not in {context.question for context in item.contexts["auxiliary"]}


def test_without_needs_items_have_no_contexts():
    examples = [replace(numbered(1)[0], demonstration=None), replace(numbered(2)[1], demonstration=" ")]
    items, dropped, notes = make_contexts([], Making(Bare(), examples))
    assert [(item.id, item.completion, item.contexts) for item in items] == [("item-0", None, {}), ("item-1", None, {})]
    assert (dropped, notes) == ({}, [])


def test_each_slot_is_made_once_for_all_who_need_it():
    asking = told("one", [thoughts("induction", "Think.")])
    making = Making(Bare(), numbered(1))
    with registered(asking):
        items, _, _ = make_contexts((Need("mine", "one", count) for count in (1, 3, 2)), making)
    assert asking.asked == (Need("mine", "one", 3), making)
    assert items[0].contexts == {"mine": thoughts("induction", "Think.")}


def test_what_was_left_out_is_counted_by_kind_and_notes_are_handed_on():
    first = told("one", [thoughts("induction", "Think.")], {"too odd": 2, "too long": 1}, ["a note"])
    second = told("two", [[]], {"too odd": 5}, ["another", "and one more"])
    with registered(first, second):
        needs = [Need("a", "one"), Need("b", "two"), Need("c", "one")]
        items, dropped, notes = make_contexts(needs, Making(Bare(), numbered(1)))
    assert dropped == {"one: too odd": 4, "one: too long": 2, "two: too odd": 5}
    assert notes == ["a note", "another", "and one more", "a note"]
    assert items[0].contexts["b"] == []


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_kind_that_makes_a_wrong_number_is_refused(number):
    with registered(told("mine", [[]] * number)), pytest.raises(UniSDError) as caught:
        make_contexts([Need("auxiliary", "mine")], Making(Bare(), numbered(2)))
    said = f"kind of context 'mine' made {number} lists of contexts for 2 items; repair the package it comes from"
    assert str(caught.value) == said
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ([Need("auxiliary", "golden")], "no kind of context 'golden'; did you mean 'gold'"),
        ([Need("auxiliary", "random"), Need("auxiliary", "retrieval")], "slot 'auxiliary' is to hold both"),
    ],
)
def test_needs_that_nobody_can_serve(needs, said):
    with pytest.raises(UsageError, match=said):
        make_contexts(needs, Making(Bare(), numbered(3)))


def test_a_malformed_prompt_is_named_with_its_item():
    examples = [numbered(1)[0], replace(numbered(2)[1], prompt=" ")]
    with pytest.raises(UsageError, match="item 'item-1': a user message is empty"):
        make_contexts([], Making(Bare(), examples))


# From items to columns and back

texts = st.text(min_size=1).filter(str.strip)
general = st.builds(lambda text: Context("induction", text), texts)
another = st.builds(Context, st.sampled_from(["retrieval", "random"]), texts, texts)
prompts = texts | st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}), max_size=3
).map(lambda earlier: [*earlier, {"role": "user", "content": PROMPT}])
some_items = st.builds(
    lambda name, prompt, completion, gold, negative, auxiliary, mine: Item(
        name,
        prompt,
        completion,
        {
            "gold": [Context("gold", gold)],
            "negative": [Context("negative", text) for text in negative],
            "auxiliary": auxiliary,
            "mine": [Context("gold", text) for text in mine],
        },
    ),
    texts,
    prompts,
    texts,
    texts,
    st.lists(texts, max_size=2),
    st.lists(general | another, max_size=3),
    st.lists(texts, max_size=2),
)


@given(some_items)
def test_columns_are_read_as_they_were_written(item):
    needs = [GOLD, NEGATIVE, PROBES, Need("mine", "gold", required=False)]
    row = columns_of(item)
    assert read_columns(row, 0, needs, completion_required=True) == item
    assert read_columns(json.loads(json.dumps(row)), 0, needs, completion_required=True) == item
    assert read_columns(row, 0, [GOLD]) == Item(item.id, item.prompt, None, {"gold": item.contexts["gold"]})


def test_rows_hold_the_public_columns():
    contexts = {
        "gold": [Context("gold", "In hives.")],
        "negative": [Context("negative", "In caves.")],
        "auxiliary": [Context(**OTHER), Context("induction", "Think.")],
    }
    assert columns_of(Item("one", PROMPT, "Hives.", contexts)) == {
        "id": "one",
        "prompt": PROMPT,
        "completion": "Hives.",
        "privileged_context": "In hives.",
        "negative_context": "In caves.",
        "auxiliary_contexts": [OTHER, {"kind": "induction", "text": "Think.", "question": None}],
    }


def test_what_an_item_lacks_is_null_in_its_row():
    row = columns_of(Item("one", PROMPT, None, {"gold": [], "negative": [], "auxiliary": [], "mine": []}))
    nothing = {"privileged_context": None, "negative_context": None, "auxiliary_contexts": [], "mine_context": []}
    assert row == {"id": "one", "prompt": PROMPT, "completion": None, **nothing}
    assert columns_of(Item("one", PROMPT, None, {})) == {"id": "one", "prompt": PROMPT, "completion": None}


@pytest.mark.parametrize(
    ("slot", "column"),
    [
        ("gold", "privileged_context"),
        ("auxiliary", "auxiliary_contexts"),
        ("negative", "negative_context"),
        ("second_try", "second_try_context"),
    ],
)
def test_the_column_of_a_slot(slot, column):
    assert column_of(slot) == column
    contexts = thoughts("gold", "A.", "B.")
    row = columns_of(Item("one", PROMPT, None, {slot: contexts}))
    assert [Context(**entry) for entry in row[column]] == contexts
    assert read_columns(row, 0, [Need(slot, "gold", 2)]).contexts == {slot: contexts}


def test_made_items_pass_through_a_dataset():
    needs = [GOLD, Need("auxiliary", "random", 2)]
    items, _, _ = make_contexts(needs, Making(Bare(), numbered(5)))
    stored = Dataset.from_list([columns_of(item) for item in items])
    assert [read_columns(row, n, needs, completion_required=True) for n, row in enumerate(stored)] == items


# A user's rows


def row(**columns):
    return {"id": "one", "prompt": PROMPT, "privileged_context": "In hives.", **columns}


def test_a_full_row():
    given = row(completion="Hives.", auxiliary_contexts=[OTHER, "Think."], negative_context="In caves.", more=3)
    assert read_columns(given, 0, [GOLD, PROBES, NEGATIVE], completion_required=True) == Item(
        "one",
        PROMPT,
        "Hives.",
        {
            "gold": [Context("gold", "In hives.")],
            "auxiliary": [Context(**OTHER), Context("induction", "Think.")],
            "negative": [Context("negative", "In caves.")],
        },
    )


def test_only_what_is_needed_is_read():
    given = row(completion=3, auxiliary_contexts=3, negative_context=3, privileged_context=3)
    assert read_columns(given, 0, []) == Item("one", PROMPT, None, {})


@pytest.mark.parametrize("absent", [{}, {"auxiliary_contexts": None, "negative_context": None}])
def test_a_null_stands_for_a_column_left_out(absent):
    assert read_columns(row(**absent), 0, [PROBES, NEGATIVE]).contexts == {"auxiliary": [], "negative": []}


def test_one_context_or_a_list_by_text_or_by_mapping():
    def read(value):
        return read_columns(row(mine_context=value), 0, [Need("mine", "gold")]).contexts["mine"]

    one = {"kind": "gold", "text": "A."}
    for value in ("A.", ["A."], ("A.",), one, [one], {**one, "question": None}):
        assert read(value) == thoughts("gold", "A.")
    assert read(["A.", {**one, "text": "B."}, "C."]) == thoughts("gold", "A.", "B.", "C.")
    assert read([]) == []


@pytest.mark.parametrize(
    ("needed", "taken"),
    [
        ("gold", "gold"),
        ("negative", "negative"),
        ("induction", "induction"),
        ("hint", "hint"),
        ("thought", "thought"),
        ("retrieval", "induction"),
        ("random", "induction"),
    ],
)
def test_the_kind_of_a_plain_text(needed, taken):
    with registered(Hint, type("Thought", (Hint,), {"name": "thought", "about": "general"})):
        read = read_columns(row(mine_context="Think."), 0, [Need("mine", needed)])
        assert read.contexts == {"mine": [Context(taken, "Think.")]}


@pytest.mark.parametrize("kind", ["retrieval", "random", "induction", "mine"])
def test_an_entry_may_be_of_any_kind_that_is_not_about_the_item(kind):
    entry = {"kind": kind, "text": "a", "question": "b" if kind in ("retrieval", "random") else None}
    with registered(type("Mine", (Hint,), {"name": "mine", "about": "general"})):
        read = read_columns(row(auxiliary_contexts=[entry]), 0, [PROBES])
        assert read.contexts == {"auxiliary": [Context(**entry)]}


@pytest.mark.parametrize("kind", ["gold", "negative", "hint"])
def test_what_is_about_the_item_stands_only_where_that_kind_is_needed(kind):
    entry = {"kind": kind, "text": "a"}
    with registered(Hint):
        assert read_columns(row(mine_context=entry), 0, [Need("mine", kind)]).contexts["mine"] == thoughts(kind, "a")
        with pytest.raises(UsageError, match=f"of kind '{kind}'; choose one of induction, random, retrieval"):
            read_columns(row(auxiliary_contexts=[entry]), 0, [PROBES])


def test_any_mapping_serves_as_an_entry():
    class Entry(Mapping):
        def __getitem__(self, key):
            return OTHER[key]

        def __iter__(self):
            return iter(OTHER)

        def __len__(self):
            return len(OTHER)

    expected = {"auxiliary": [Context(**OTHER)]}
    assert read_columns(row(auxiliary_contexts=[Entry()]), 0, [PROBES]).contexts == expected
    assert read_columns(row(auxiliary_contexts=Entry()), 0, [PROBES]).contexts == expected


def test_ids():
    assert read_columns(row(id=7), 0, []).id == "7"
    assert read_columns(row(id=0), 0, []).id == "0"
    nameless = [read_columns(row(id=None, prompt=p), n, []).id for p, n in (("A?", 0), ("A?", 1), ("B?", 0))]
    assert len(set(nameless)) == 3
    without = {"prompt": "A?"}
    assert read_columns(without, 0, []).id == nameless[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"prompt": None}, "'prompt', .*missing; every row needs a prompt"),
        ({"prompt": " "}, "'prompt', .*empty"),
        ({"prompt": 3}, "'prompt', .*not int"),
        ({"prompt": [{"role": "user"}]}, "'prompt', .*content"),
        ({"privileged_context": None}, "'privileged_context', .*missing; give every row 1, or switch off"),
        ({"privileged_context": ""}, "'privileged_context', .*non-empty text, not ''; or leave it out"),
        ({"privileged_context": 3}, "'privileged_context', .*text or a list of contexts was expected, not int"),
        ({"privileged_context": [3]}, "'privileged_context', .*type int; give texts"),
        ({"privileged_context": {}}, "'privileged_context', .*kind None; choose one of gold, induction"),
        ({"completion": None}, "'completion', .*missing; give every row the reply"),
        ({"completion": " "}, "'completion', .*is ' '; give every row the reply"),
        ({"completion": 1}, "'completion', .*is 1; give every row the reply"),
        ({"negative_context": ""}, "'negative_context', .*non-empty text"),
        ({"negative_context": {}}, "'negative_context', .*kind None; choose one of induction, negative, random"),
        ({"negative_context": {"kind": "gold", "text": "a"}}, "'negative_context', .*kind 'gold'; choose one of ind"),
        ({"auxiliary_contexts": 3}, "'auxiliary_contexts', .*list of contexts was expected, not int"),
        ({"auxiliary_contexts": [3]}, "'auxiliary_contexts', .*type int"),
        ({"auxiliary_contexts": [None]}, "'auxiliary_contexts', .*type NoneType"),
        ({"auxiliary_contexts": [["a"]]}, "'auxiliary_contexts', .*type list"),
        ({"auxiliary_contexts": [""]}, "'auxiliary_contexts', .*non-empty text"),
        ({"auxiliary_contexts": ["Think.", OTHER | {"kind": "gold"}]}, "'auxiliary_contexts', .*kind 'gold'; choose"),
        ({"auxiliary_contexts": [OTHER | {"kind": "gold!"}]}, "'auxiliary_contexts', .*no kind of context 'gold!'"),
        ({"auxiliary_contexts": [OTHER | {"kind": ["random"]}]}, r"'auxiliary_contexts', .*kind \['random'\]; choose"),
        ({"auxiliary_contexts": [{"text": "a"}]}, "'auxiliary_contexts', .*kind None"),
        ({"auxiliary_contexts": [OTHER | {"question": None}]}, "'auxiliary_contexts', .*other item's prompt"),
        ({"auxiliary_contexts": [OTHER | {"kind": "induction"}]}, "'auxiliary_contexts', .*no question of its own"),
        ({"auxiliary_contexts": [{"kind": "random", "question": "q"}]}, "'auxiliary_contexts', .*non-empty text"),
        ({"auxiliary_contexts": [OTHER | {"text": None}]}, "'auxiliary_contexts', .*non-empty text, not None"),
        ({"id": ""}, "'id', .*non-empty text was expected, not ''"),
        ({"id": 1.5}, "'id', .*not 1.5"),
        ({"id": True}, "'id', .*not True"),
    ],
)
def test_faults_of_columns_are_named_with_row_and_remedy(columns, said):
    with pytest.raises(UsageError, match=rf"column {said}") as caught:
        read_columns(row(**{"completion": "Hives.", **columns}), 11, [GOLD, PROBES, NEGATIVE], completion_required=True)
    assert "row 11 (counted from 0): " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_required_column_that_is_missing_says_how_many_are_needed():
    for bare in (row(), row(auxiliary_contexts=None)):
        with pytest.raises(UsageError, match=r"'auxiliary_contexts', row 0 .*missing; give every row 2, or switch off"):
            read_columns(bare, 0, [Need("auxiliary", "retrieval", 2)])
    with pytest.raises(UsageError, match=r"'hint_context', row 0 .*missing"):
        read_columns(row(), 0, [Need("hint", "gold")])


@pytest.mark.parametrize("slot", ["gold", "negative"])
def test_a_context_of_another_kind_comes_back_as_it_was(slot):
    item = Item("1", "p", None, {slot: [Context("retrieval", "t", "q")]})
    assert read_columns(columns_of(item), 0, [Need(slot, "retrieval")]) == item


def test_no_slot_shares_the_column_of_gold():
    with pytest.raises(UsageError, match="a slot 'privileged' would share its column with gold"):
        Need("privileged", "gold")


# Cells of any kind


NOTHING = [None, math.nan, pandas.NA, numpy.array(math.nan)]


@pytest.mark.parametrize("nothing", NOTHING, ids=lambda value: type(value).__name__)
def test_missing_cells_are_absent(nothing):
    row = {"prompt": PROMPT, "privileged_context": "In hives.", "negative_context": nothing, "id": nothing}
    item = read_columns(row, 0, [GOLD, NEGATIVE])
    assert item.contexts["negative"] == []
    assert item.id == read_columns({"prompt": PROMPT}, 0, []).id
    for column in ("prompt", "privileged_context", "completion"):
        with pytest.raises(UsageError, match=rf"column '{column}', row 5 \(counted from 0\): it is missing"):
            read_columns({**row, "completion": "x", column: nothing}, 5, [GOLD], completion_required=True)


@pytest.mark.parametrize("column", ["prompt", "privileged_context", "completion", "id", "negative_context"])
@pytest.mark.parametrize(
    ("cell", "said"), [("a\ud83d", "half of a pair"), (b"a", "bytes"), (math.inf, "finite"), ([10**5000], "digits")]
)
def test_cells_that_cannot_be_used_are_named(column, cell, said):
    row = {"prompt": PROMPT, "privileged_context": "In hives.", "completion": "In hives.", column: cell}
    with pytest.raises(UsageError, match=rf"column '{column}', row 3 \(counted from 0\): .*{said}"):
        read_columns(row, 3, [GOLD, NEGATIVE], completion_required=True)


@pytest.mark.parametrize("write", [json.dumps, str])
def test_messages_that_a_table_holds_as_text_are_named(write):
    prompt = write([{"role": "user", "content": PROMPT}])
    with pytest.raises(UsageError, match=r"column 'prompt', row 3 .*: it is messages written as text; read them first"):
        read_columns({"prompt": prompt}, 3, [])


def test_columns_that_nothing_reads_may_hold_anything():
    row = {"prompt": PROMPT, "privileged_context": "In hives.", "image": object(), "notes": "\udc00", 3: 4}
    assert read_columns(row, 0, [GOLD]).prompt == PROMPT


def test_a_prompt_that_is_missing_is_told_with_the_columns_that_are_there():
    with pytest.raises(
        UsageError, match=r"every row needs a prompt \(text or messages\); this one has question, answer$"
    ):
        read_columns({"question": "Why?", "answer": "So."}, 0, [GOLD])


def test_arrays_of_tables_are_lists():
    messages = numpy.array([{"role": "user", "content": PROMPT}], dtype=object)
    row = {"id": numpy.int64(7), "prompt": messages, "auxiliary_contexts": numpy.array(["Think.", "Look."])}
    item = read_columns(row, 0, [PROBES])
    assert (item.id, item.prompt, len(item.contexts["auxiliary"])) == ("7", [{"role": "user", "content": PROMPT}], 2)
    assert read_columns({"prompt": PROMPT, "id": 7.0}, 0, []).id == "7"


def test_a_reply_may_be_a_conversation_of_one_message():
    def read(*messages):
        return read_columns({"prompt": PROMPT, "completion": list(messages)}, 0, [], completion_required=True)

    assert read({"role": "assistant", "content": "In hives.", "name": None}).completion == "In hives."
    parts = [{"type": "text", "text": "In "}, {"type": "text", "text": "hives."}]
    assert read({"role": "assistant", "content": parts}).completion == "In hives."
    thought = read({"role": "assistant", "content": "In hives.", "reasoning_content": "They build."})
    assert thought.completion == "<think>\nThey build.\n</think>\n\nIn hives."
    reply, user = {"role": "assistant", "content": "In hives."}, {"role": "user", "content": "Why?"}
    for replies in (
        [user],
        [reply, user, reply],
        [],
        [{**reply, "tool_calls": [{}]}],
        [{**reply, "content": ""}],
        [{**reply, "thinking": 5}],
    ):
        with pytest.raises(UsageError, match="give every row the reply to learn, as text"):
            read(*replies)


@pytest.mark.parametrize("row", ["a", 5, None, ["a"], ("prompt", "a")])
def test_a_row_is_a_mapping(row):
    with pytest.raises(UsageError, match=r"row 4 \(counted from 0\) is of type .*; give a mapping of columns"):
        read_columns(row, 4, [GOLD])


TEXTS = st.text(st.characters(categories=["Cs", "L", "Zs", "Cc"]), max_size=5)
KEYS = st.sampled_from(["role", "content", "kind", "text"])
CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=2) | st.just(pandas.NA),
    lambda v: (
        st.lists(v, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(["role", "content", "kind", "text"]), v)
    ),
    max_leaves=6,
)
COLUMNS = st.sampled_from(
    ["id", "prompt", "completion", "privileged_context", "auxiliary_contexts", "negative_context"]
)


@given(st.dictionaries(COLUMNS, CELLS, max_size=6), st.booleans(), st.booleans())
def test_any_row_is_read_or_refused_in_a_line(row, fill, completion):
    if fill:
        row = {"prompt": PROMPT, "privileged_context": "In hives.", "completion": "So."} | row
    try:
        said = columns_of(read_columns(row, 0, [GOLD, PROBES, NEGATIVE], completion))
    except UsageError as error:
        said = str(error)
    # A row that was read can be written down; a message is one line.
    assert len(json.dumps(said, allow_nan=False, ensure_ascii=False).encode().splitlines()) == 1
    assert not isinstance(said, str) or len(said.splitlines()) == 1

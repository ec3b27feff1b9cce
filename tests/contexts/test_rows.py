from dataclasses import replace

import pytest
from datasets import Dataset

from contexts import families
from contexts.items import numbered
from unisd.contexts import Context, Limits, PromptBuilder, prepare_rows, random_contexts, training_rows
from unisd.errors import UsageError

GOLD = "Bees live in hives, where they store honey.\nAnswer: A"


def row(**columns):
    return {"id": "one", "prompt": "Where do bees live?", "privileged_context": GOLD, **columns}


def probe(text="Ships sail.", question="Who sails?", kind="retrieval"):
    return {"kind": kind, "text": text, "question": question}


@pytest.fixture
def builder():
    return PromptBuilder(families.FAMILIES["llama"](), "turn")


def prepared(rows, builder, prompt=5000, completion=100, positions=None, probes=0, **options):
    return prepare_rows(rows, builder, prompt, completion, positions, probes, **options)


def test_a_full_row(builder):
    given = row(
        completion="Hives.",
        auxiliary_contexts=[probe(), probe(None, None, "induction") | {"text": "Think."}, "Think twice."],
        negative_context="In caves.",
    )
    (made,), report = prepared([given], builder, probes=3)
    assert made.id == "one"
    assert made.student_ids == builder.student_ids(given["prompt"])
    assert made.gold_ids == builder.teacher_ids(given["prompt"], Context("gold", GOLD))
    assert made.negative_ids == builder.teacher_ids(given["prompt"], Context("negative", "In caves."))
    assert made.completion_ids == builder.completion_ids("Hives.")
    contexts = [
        Context("retrieval", "Ships sail.", "Who sails?"),
        Context("induction", "Think."),
        Context("induction", "Think twice."),
    ]
    assert made.probe_ids == [builder.teacher_ids(given["prompt"], context) for context in contexts]
    assert report.lines() == ["1 of 1 items kept"]


def test_optional_columns_may_be_left_out_or_null(builder):
    bare = {"prompt": [{"role": "user", "content": "Where do bees live?"}], "privileged_context": GOLD}
    null = row(completion=None, auxiliary_contexts=None, negative_context=None, id=None)
    made, _ = prepared([bare, null], builder)
    for item in made:
        assert (item.probe_ids, item.negative_ids, item.completion_ids) == ([], None, None)
        assert item.gold_ids is not None
    assert made[0].student_ids == made[1].student_ids
    assert made[0].id != made[1].id
    assert [item.id for item in prepared([bare, null], builder)[0]] == [item.id for item in made]
    twins, _ = prepared([row(id=None), row(id=None)], builder)
    assert twins[0].id != twins[1].id
    plain, _ = prepared([row(privileged_context=None)], builder, gold_required=False)
    assert plain[0].gold_ids is None


def test_rows_may_come_from_a_dataset(builder):
    items = numbered(6)
    rows = training_rows(items, random_contexts(items, 2, 1), [None, *[Context("negative", "No.")] * 5])
    direct, _ = prepared(rows, builder, probes=2)
    stored, _ = prepared(Dataset.from_list(rows), builder, probes=2)
    assert stored == direct
    assert [item.negative_ids is None for item in stored] == [True, *[False] * 5]
    chat = [row(prompt=[{"role": "system", "content": "Hi."}, {"role": "user", "content": "Why?", "name": "Ann"}])]
    assert prepared(Dataset.from_list(chat), builder)[0] == prepared(chat, builder)[0]


def lengths(builder, given):
    (made,), _ = prepared([given], builder)
    return len(made.student_ids), len(made.gold_ids)


def test_the_exact_length_fits_and_one_more_token_does_not(builder):
    long = row(prompt="Where do bees live? " * 10)
    student, gold = lengths(builder, long)
    assert student < gold
    for limits in ((gold, 10, None), (5000, 10, gold + 10)):
        made, report = prepared([long], builder, *limits)
        assert (len(made), report.dropped) == (1, {})
    too_long, beyond = (
        "prompt longer than max_prompt_length",
        "prompt and max_completion_length beyond the model's positions",
    )
    for limits, reason in (
        ((gold - 1, 10, None), f"gold {too_long} ({gold - 1})"),
        ((5000, 10, gold + 9), f"gold {beyond} ({gold + 9})"),
        ((student - 1, 9, None), f"student {too_long} ({student - 1})"),
        ((5000, 9, student + 8), f"student {beyond} ({student + 8})"),
    ):
        short = row(id="two", prompt="Why?", privileged_context="So.")
        made, report = prepared([long, short], builder, *limits)
        assert [item.id for item in made] == ["two"]
        assert report.dropped == {reason: 1}
        assert (report.rows, report.kept) == (2, 1)
        assert report.ids == {reason: ["one"]}


def test_nothing_is_truncated(builder):
    words = "honey " * 300 + "bees"
    (made,), _ = prepared([row(prompt=f"Why? {words}")], builder)
    assert builder.tokenizer.decode(made.gold_ids).count(words) == 2
    assert builder.tokenizer.decode(made.student_ids).count(words) == 1


def test_an_auxiliary_that_does_not_fit_is_left_out(builder):
    _, gold = lengths(builder, row())
    long = probe("Ships sail. " * 50)
    given = row(auxiliary_contexts=[probe(), long, probe(kind="random")])
    (made,), report = prepared([given], builder, gold + 40, probes=2)
    assert len(made.probe_ids) == 2
    assert report.absent == {f"retrieval prompt longer than max_prompt_length ({gold + 40})": 1}
    assert report.dropped == {}
    few = row(id="few", auxiliary_contexts=[probe(), long, long])
    made, report = prepared([given, few], builder, gold + 40, probes=2)
    assert [item.id for item in made] == ["one"]
    assert report.dropped == {"fewer than 2 auxiliary contexts left": 1}
    made, _ = prepared([few], builder, gold + 40, probes=1)
    assert len(made[0].probe_ids) == 1


def test_an_item_that_came_with_too_few_auxiliaries_is_dropped(builder):
    rows = [row(auxiliary_contexts=[]), row(id="b", auxiliary_contexts=["Think."] * 2)]
    made, report = prepared(rows, builder, probes=2)
    assert [item.id for item in made] == ["b"]
    assert report.dropped == {"fewer than 2 auxiliary contexts left": 1}


def test_an_auxiliary_that_gives_the_item_away_is_left_out(builder):
    telling = [probe(text=f"So: {GOLD}"), probe(question="where do BEES live")]
    given = row(auxiliary_contexts=[probe(), *telling, "Answer: A"])
    (made,), report = prepared([given], builder, probes=2)
    assert len(made.probe_ids) == 2
    assert report.absent == {"retrieval context gives away the privileged one": 2}


def test_a_negative_that_does_not_fit_is_absent(builder):
    _, gold = lengths(builder, row())
    given = row(negative_context="In caves. " * 40)
    (made,), report = prepared([given], builder, gold)
    assert made.negative_ids is None
    assert report.absent == {f"negative prompt longer than max_prompt_length ({gold})": 1}


def test_a_completion_that_does_not_fit(builder):
    given, short = row(completion="x" * 10), row(id="two", completion="x" * 9)
    reason = "completion longer than max_completion_length (10)"  # one token ends the turn
    made, report = prepared([given, short], builder, completion=10)
    assert [item.completion_ids is None for item in made] == [True, False]
    assert (report.absent, report.dropped) == ({reason: 1}, {})
    made, report = prepared([given, short], builder, completion=10, completion_required=True)
    assert [item.id for item in made] == ["two"]
    assert (report.absent, report.dropped) == ({}, {reason: 1})


def test_a_gold_prompt_that_is_not_required_is_absent(builder):
    student, gold = lengths(builder, row())
    (made,), report = prepared([row()], builder, gold - 1, gold_required=False)
    assert made.gold_ids is None
    assert report.absent == {f"gold prompt longer than max_prompt_length ({gold - 1})": 1}
    assert len(made.student_ids) == student


def test_the_report_names_a_few_items(builder):
    rows = [row(id=f"long-{i}", prompt="Why? " * 100) for i in range(8)]
    made, report = prepared([*rows, row()], builder, 400)
    assert len(made) == 1
    assert report.lines() == [
        "1 of 9 items kept",
        "8 items dropped: student prompt longer than max_prompt_length (400) "
        "(ids long-0, long-1, long-2, long-3, long-4, …)",
    ]


def test_all_rows_dropped_or_none_given(builder):
    with pytest.raises(UsageError, match=r"every one of the 2 rows is dropped \(2: student prompt longer .* raise"):
        prepared([row(), row(id="two")], builder, 5)
    with pytest.raises(UsageError, match="no rows"):
        prepared([], builder)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"prompt": None}, "column 'prompt', row 1 .*missing"),
        ({"prompt": " "}, "column 'prompt', row 1 .*empty"),
        ({"prompt": 3}, "column 'prompt', row 1 .*not int"),
        ({"prompt": [{"role": "user"}]}, "column 'prompt', row 1 .*content"),
        ({"privileged_context": None}, "column 'privileged_context', row 1 .*missing; give every row"),
        ({"privileged_context": ""}, "column 'privileged_context', row 1 .*empty; .* drop the row"),
        ({"privileged_context": ["a"]}, "column 'privileged_context', row 1 .*text was expected, not list"),
        ({"completion": " "}, "column 'completion', row 1 .*empty; .* make it null"),
        ({"completion": 1}, "column 'completion', row 1 .*not int"),
        ({"negative_context": ""}, "column 'negative_context', row 1 .*empty"),
        ({"negative_context": {}}, "column 'negative_context', row 1 .*not dict"),
        ({"auxiliary_contexts": "text"}, "column 'auxiliary_contexts', row 1 .*a list was expected, not str"),
        ({"auxiliary_contexts": [3]}, "column 'auxiliary_contexts', row 1 .*type int"),
        ({"auxiliary_contexts": [""]}, "column 'auxiliary_contexts', row 1 .*non-empty text"),
        ({"auxiliary_contexts": [probe(kind="gold")]}, "column 'auxiliary_contexts', row 1 .*kind 'gold'; choose"),
        ({"auxiliary_contexts": [{"text": "a"}]}, "column 'auxiliary_contexts', row 1 .*kind None"),
        ({"auxiliary_contexts": [probe(question=None)]}, "column 'auxiliary_contexts', row 1 .*other item's prompt"),
        ({"auxiliary_contexts": [{"kind": "random", "question": "q"}]}, "column 'auxiliary_contexts', row 1 .*text"),
        ({"id": ""}, "column 'id', row 1"),
        ({"id": 1.5}, "column 'id', row 1"),
        ({"id": True}, "column 'id', row 1"),
        ({"id": "zero"}, "column 'id': rows 0 and 1 .*both 'zero'; make"),
    ],
)
def test_faults_of_columns_are_named_with_row_and_remedy(builder, columns, said):
    with pytest.raises(UsageError, match=said) as caught:
        prepared([row(id="zero"), row(**columns)], builder)
    assert "\n" not in str(caught.value)


def test_required_columns_that_are_missing(builder):
    with pytest.raises(UsageError, match=r"column 'auxiliary_contexts', row 0 .*missing .* 2 contexts"):
        prepared([row()], builder, probes=2)
    with pytest.raises(UsageError, match=r"column 'completion', row 0 .*missing"):
        prepared([row()], builder, completion_required=True)
    without = row()
    del without["privileged_context"]
    with pytest.raises(UsageError, match=r"column 'privileged_context', row 0 .*missing"):
        prepared([without], builder)


def test_integer_ids_are_taken_as_text(builder):
    made, _ = prepared([row(id=7), row(id="8")], builder)
    assert [item.id for item in made] == ["7", "8"]


def test_limits():
    assert Limits(5, 3, None).misfit([0] * 5, "prompt") is None
    assert Limits(5, 3, 8).misfit([0] * 5, "prompt") is None
    assert "longer" in Limits(5, 3, 8).misfit([0] * 6, "prompt")
    assert "beyond" in Limits(5, 3, 7).misfit([0] * 5, "prompt")


def test_training_rows_hold_the_public_columns():
    items = numbered(3)
    assert training_rows(items)[0] == {
        "id": "item-0",
        "prompt": items[0].prompt,
        "privileged_context": items[0].demonstration,
        "completion": items[0].demonstration,
    }
    contexts = random_contexts(items, 2, 1)
    rows = training_rows(items, contexts, [Context("negative", "No."), None, None])
    assert [given["negative_context"] for given in rows] == ["No.", None, None]
    for given, own in zip(rows, contexts, strict=True):
        assert [Context(**entry) for entry in given["auxiliary_contexts"]] == own


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"probes": [[]]}, "3 examples but 1 probes"),
        ({"negatives": [None] * 4}, "3 examples but 4 negatives"),
        ({"probes": [[], [], [Context("gold", "a")]]}, "kind 'gold' cannot stand here"),
        ({"negatives": [None, None, Context("gold", "a")]}, "kind 'gold' cannot stand here"),
    ],
)
def test_contexts_that_do_not_belong_to_the_examples(arguments, said):
    with pytest.raises(UsageError, match=said):
        training_rows(numbered(3), **arguments)


def test_an_example_without_a_demonstration_cannot_be_trained_on():
    for nothing in (None, " "):
        with pytest.raises(UsageError, match="'item-1' has no demonstration"):
            training_rows([numbered(1)[0], replace(numbered(2)[1], demonstration=nothing)])


def test_contexts_from_the_library_pass_the_check_of_rows(builder):
    # Rows know no bare question and no answer: what passed ``leaks`` must pass the weaker test of rows, too.
    items = numbered(30)
    made, report = prepared(training_rows(items, random_contexts(items, 3, 5)), builder, probes=3)
    assert len(made) == 30
    assert report.absent == {}

import json

import pytest
from datasets import Dataset

from contexts import families
from contexts.items import Bare, Hint, numbered, registered
from rollout.templates import FAMILIES
from said import warned
from unisd.contexts import Context, Item, Making, Need, PromptBuilder, columns_of, make_contexts, prepare_rows
from unisd.errors import UsageError

PROMPT = "Where do bees live?"
GOLD = "Bees live in hives, where they store honey.\nAnswer: A"
GOLD_NEED = Need("gold", "gold")
NEGATIVE_NEED = Need("negative", "negative", required=False)


def first(row, slot):
    """The prompt with the slot's first context; None without one."""
    return next(iter(row.contexts.get(slot, ())), None)


def row(**columns):
    return {"id": "one", "prompt": PROMPT, "privileged_context": GOLD, **columns}


def probe(text="Ships sail.", question="Who sails?", kind="retrieval"):
    return {"kind": kind, "text": text, "question": question}


@pytest.fixture
def builder():
    return PromptBuilder(families.FAMILIES["llama"](), "turn")


def prepared(rows, builder, prompt=5000, completion=100, positions=None, probes=0, needs=None, **options):
    """Rows with gold and perhaps a negative, and ``probes`` required probes; or with ``needs``."""
    if needs is None:
        needs = [GOLD_NEED, NEGATIVE_NEED, *[Need("auxiliary", "retrieval", probes)] * (probes > 0)]
    return prepare_rows(rows, builder, prompt, completion, positions, needs, **options)


def test_a_full_row(builder):
    given = row(
        completion="Hives.",
        auxiliary_contexts=[probe(), probe(None, None, "induction") | {"text": "Think."}, "Think twice."],
        negative_context="In caves.",
    )
    (made,), report = prepared([given], builder, probes=3, completion_required=True)
    assert made.id == "one"
    assert made.student_ids == builder.student_ids(PROMPT)
    assert made.completion_ids == builder.completion_ids("Hives.", PROMPT)
    contexts = {
        "gold": [Context("gold", GOLD)],
        "negative": [Context("negative", "In caves.")],
        "auxiliary": [
            Context("retrieval", "Ships sail.", "Who sails?"),
            Context("induction", "Think."),
            Context("induction", "Think twice."),
        ],
    }
    seen = {slot: [builder.teacher_ids(PROMPT, context) for context in given] for slot, given in contexts.items()}
    assert made.contexts == seen
    assert [first(made, slot) for slot in seen] == [prompts[0] for prompts in seen.values()]
    assert first(made, "mine") is None
    assert report.lines() == ["1 of 1 items kept"]
    item = Item("one", PROMPT, "Hives.", contexts)
    assert prepared([item], builder, probes=3, completion_required=True) == ([made], report)


def test_optional_columns_may_be_left_out_or_null(builder):
    bare = {"prompt": [{"role": "user", "content": PROMPT}], "privileged_context": GOLD}
    null = row(completion=None, auxiliary_contexts=None, negative_context=None, id=None)
    needs = [GOLD_NEED, NEGATIVE_NEED, Need("auxiliary", "retrieval", 2, required=False)]
    made, report = prepared([bare, null], builder, needs=needs)
    for item in made:
        assert item.contexts == {
            "gold": [builder.teacher_ids(PROMPT, Context("gold", GOLD))],
            "auxiliary": [],
            "negative": [],
        }
        assert first(item, "negative") is None
        assert item.completion_ids is None
    assert report.lines() == ["2 of 2 items kept"]
    assert made[0].student_ids == made[1].student_ids
    assert made[0].id != made[1].id
    assert [item.id for item in prepared([bare, null], builder)[0]] == [item.id for item in made]
    twins, _ = prepared([row(id=None), row(id=None)], builder)
    assert twins[0].id != twins[1].id


def test_without_needs_nothing_but_the_prompt_is_read(builder):
    given = row(privileged_context=3, auxiliary_contexts=3, negative_context=3, completion=3)
    (made,), _ = prepared([given], builder, needs=[])
    assert (made.contexts, made.completion_ids) == ({}, None)
    assert made.student_ids == builder.student_ids(PROMPT)


@pytest.mark.parametrize("kind", ["random", "retrieval"])
def test_contexts_from_the_library_pass_the_check_of_rows(builder, kind):
    # Rows know no bare question and no answer: what passed ``leaks`` must pass the weaker test of rows, too.
    needs = [GOLD_NEED, Need("auxiliary", kind, 3)]
    items, _, _ = make_contexts(needs, Making(Bare(), numbered(30)))
    direct, report = prepared(items, builder, needs=needs, completion_required=True)
    assert [len(item.contexts["auxiliary"]) for item in direct] == [3] * 30
    assert (report.absent, report.dropped) == ({}, {})
    rows = [columns_of(item) for item in items]
    assert prepared(rows, builder, needs=needs, completion_required=True)[0] == direct
    assert prepared(Dataset.from_list(rows), builder, needs=needs, completion_required=True)[0] == direct


def test_rows_may_come_from_a_dataset(builder):
    chat = [row(prompt=[{"role": "system", "content": "Hi."}, {"role": "user", "content": "Why?", "name": "Ann"}])]
    assert prepared(Dataset.from_list(chat), builder)[0] == prepared(chat, builder)[0]
    some = [row(negative_context=None), row(id="two", negative_context="In caves.")]
    stored, _ = prepared(Dataset.from_list(some), builder)
    assert stored == prepared(some, builder)[0]
    assert [first(item, "negative") is None for item in stored] == [True, False]


def test_needs_of_one_slot_are_joined(builder):
    given = row(auxiliary_contexts=["Think."] * 2)
    needs = [Need("auxiliary", "random", 2, required=False), Need("auxiliary", "random", 1)]
    (made,), _ = prepared([given], builder, needs=iter(needs))
    assert len(made.contexts["auxiliary"]) == 2
    with pytest.raises(UsageError, match=r"dropped \(1: fewer than 3 auxiliary contexts left"):
        prepared([given], builder, needs=[*needs, Need("auxiliary", "random", 3, required=False)])
    with pytest.raises(UsageError, match="slot 'auxiliary' is to hold both"):
        prepared([given], builder, needs=[*needs, Need("auxiliary", "induction")])


def test_a_slot_and_a_kind_of_ones_own(builder):
    with registered(Hint):
        needs, hint = [GOLD_NEED, Need("mine", "hint")], Context("hint", "Look up.")
        for value in ("Look up.", {"kind": "hint", "text": "Look up."}, ["Look up."]):
            (made,), _ = prepared([row(mine_context=value)], builder, needs=needs)
            assert made.contexts["mine"] == [builder.teacher_ids(PROMPT, hint)]
        with pytest.raises(UsageError, match=r"column 'mine_context', row 0 .*missing"):
            prepared([row()], builder, needs=needs)
        items, _, _ = make_contexts(needs, Making(Bare(), numbered(2)))
        made, _ = prepared(items, builder, needs=needs)
        assert [len(item.contexts["mine"]) for item in made] == [1, 1]


def lengths(builder, given):
    (made,), _ = prepared([given], builder)
    return len(made.student_ids), len(first(made, "gold"))


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
        assert report.absent == {}
        assert (report.rows, report.kept) == (2, 1)
        assert report.ids == {reason: ["one"]}


def test_nothing_is_truncated(builder):
    words = "honey " * 300 + "bees"
    (made,), _ = prepared([row(prompt=f"Why? {words}")], builder)
    assert builder.tokenizer.decode(first(made, "gold")).count(words) == 2
    assert builder.tokenizer.decode(made.student_ids).count(words) == 1


def test_an_auxiliary_that_does_not_fit_is_left_out(builder):
    _, gold = lengths(builder, row())
    long = probe("Ships sail. " * 50)
    given = row(auxiliary_contexts=[probe(), long, probe(kind="random")])
    (made,), report = prepared([given], builder, gold + 40, probes=2)
    assert made.contexts["auxiliary"] == [
        builder.teacher_ids(PROMPT, Context(**probe(kind=kind))) for kind in ("retrieval", "random")
    ]
    assert report.absent == {f"retrieval prompt longer than max_prompt_length ({gold + 40})": 1}
    assert report.dropped == {}
    few = row(id="few", auxiliary_contexts=[probe(), long, long])
    made, report = prepared([given, few], builder, gold + 40, probes=2)
    assert [item.id for item in made] == ["one"]
    assert report.dropped == {"fewer than 2 auxiliary contexts left": 1}
    assert report.absent == {f"retrieval prompt longer than max_prompt_length ({gold + 40})": 3}
    made, _ = prepared([few], builder, gold + 40, probes=1)
    assert len(made[0].contexts["auxiliary"]) == 1


def test_an_item_that_came_with_too_few_auxiliaries_is_dropped(builder):
    rows = [row(auxiliary_contexts=[]), row(id="b", auxiliary_contexts=["Think."] * 2)]
    made, report = prepared(rows, builder, probes=2)
    assert [item.id for item in made] == ["b"]
    assert report.dropped == {"fewer than 2 auxiliary contexts left": 1}


@pytest.mark.parametrize("given", [0, 1, 2, 3])
def test_an_item_goes_without_what_is_optional_and_too_few(builder, given):
    optional = Need("auxiliary", "retrieval", 2, required=False)
    (made,), report = prepared([row(auxiliary_contexts=["Think."] * given)], builder, needs=[GOLD_NEED, optional])
    assert len(made.contexts["auxiliary"]) == (given if given >= 2 else 0)
    assert report.dropped == {}
    # One that is there and of no use is counted; where there is none, nothing is left out.
    assert report.absent == ({"fewer than 2 auxiliary contexts left": 1} if given == 1 else {})


@pytest.mark.parametrize("required", [True, False])
def test_a_lone_context_that_does_not_fit_gives_its_own_reason(builder, required):
    _, gold = lengths(builder, row())
    reason = f"induction prompt longer than max_prompt_length ({gold + 40})"
    rows = [row(mine_context="Ships sail. " * 50), row(id="two", mine_context="Think.")]
    made, report = prepared(rows, builder, gold + 40, needs=[GOLD_NEED, Need("mine", "induction", required=required)])
    assert [item.id for item in made] == (["two"] if required else ["one", "two"])
    assert [len(item.contexts["mine"]) for item in made] == ([1] if required else [0, 1])
    assert (report.dropped, report.absent) == (({reason: 1}, {}) if required else ({}, {reason: 1}))


def test_a_lone_context_of_several_that_are_needed_is_too_few_at_any_length(builder):
    unfit = row(auxiliary_contexts=["Ships sail. " * 50])
    made, report = prepared([unfit, row(id="two", auxiliary_contexts=["Think."] * 2)], builder, 400, probes=2)
    assert [item.id for item in made] == ["two"]
    assert report.dropped == {"fewer than 2 auxiliary contexts left": 1}
    assert report.absent == {"induction prompt longer than max_prompt_length (400)": 1}


def test_an_auxiliary_that_gives_the_item_away_is_left_out(builder):
    telling = [probe(text=f"So: {GOLD}"), probe(question="where do BEES live")]
    given = row(auxiliary_contexts=[probe(), *telling, "Answer: A"])
    (made,), report = prepared([given], builder, probes=2)
    assert len(made.contexts["auxiliary"]) == 2
    assert report.absent == {"retrieval context gives away the privileged one": 2}
    # Without a teacher there is nothing to give away.
    (made,), report = prepared([given], builder, needs=[Need("auxiliary", "retrieval")])
    assert (len(made.contexts["auxiliary"]), report.absent) == (4, {})


def test_every_gold_context_is_kept_from_the_auxiliaries(builder):
    second = "Wild bees live in hollow trees, which are warm and dry."
    given = row(privileged_context=[GOLD, second], auxiliary_contexts=[probe(text=second), probe(text=GOLD), probe()])
    (made,), report = prepared([given], builder, probes=1)
    assert [len(made.contexts[slot]) for slot in ("gold", "auxiliary")] == [2, 1]
    assert report.absent == {"retrieval context gives away the privileged one": 2}


def test_what_is_about_the_item_may_be_like_its_gold_context(builder):
    (made,), report = prepared([row(negative_context=GOLD.replace("A", "B"), mine_context=GOLD)], builder)
    assert first(made, "negative") is not None
    assert report.absent == {}
    (made,), report = prepared([row(mine_context=GOLD)], builder, needs=[GOLD_NEED, Need("mine", "gold")])
    assert first(made, "mine") == first(made, "gold")


@pytest.mark.parametrize("said", [GOLD, GOLD.upper() + "\n", "In caves, for they are warm.\n**Answer:** A.", "Hives."])
def test_a_negative_that_is_right_is_left_out(builder, said):
    gold = GOLD.replace("Answer: A", "**Answer:** A.") if "caves" in said else GOLD
    given = row(privileged_context=gold, completion="Hives.", negative_context=said)
    (made,), report = prepared([given], builder, completion_required=True)
    assert first(made, "negative") is None
    assert report.absent == {"negative context says what is right, as the privileged one or the completion does": 1}


@pytest.mark.parametrize("said", ["Hives-", "In hives.\nAnswer: B", "Answer: A or B", ""])
def test_a_negative_that_is_wrong_in_a_sign_stays(builder, said):
    given = row(completion="Hives.", negative_context=said or "Answer: B")
    (made,), report = prepared([given], builder, completion_required=True)
    assert first(made, "negative") is not None
    assert report.absent == {}


def test_the_gold_slot_gives_nothing_away_whatever_its_kind(builder):
    (made,), report = prepared([row()], builder, needs=[Need("gold", "induction")])
    assert first(made, "gold") == builder.teacher_ids(PROMPT, Context("induction", GOLD))
    assert report.absent == {}


def test_a_negative_that_does_not_fit_is_absent(builder):
    _, gold = lengths(builder, row())
    given = row(negative_context="In caves. " * 40)
    (made,), report = prepared([given], builder, gold)
    assert first(made, "negative") is None
    assert report.absent == {f"negative prompt longer than max_prompt_length ({gold})": 1}


def test_a_completion_that_does_not_fit(builder):
    given, short = row(completion="x" * 10), row(id="two", completion="x" * 9)
    reason = "completion longer than max_completion_length (10)"  # one token ends the turn
    made, report = prepared([given, short], builder, completion=10)
    assert [item.completion_ids for item in made] == [None, None]
    assert (report.absent, report.dropped) == ({}, {})
    made, report = prepared([given, short], builder, completion=10, completion_required=True)
    assert [item.id for item in made] == ["two"]
    assert made[0].completion_ids == builder.completion_ids("x" * 9, PROMPT)
    assert (report.absent, report.dropped) == ({}, {reason: 1})


def test_a_required_completion_that_is_missing(builder):
    with pytest.raises(UsageError, match=r"column 'completion', row 0 .*missing"):
        prepared([row()], builder, completion_required=True)
    with pytest.raises(
        UsageError, match=r"row 0 \(counted from 0, id 'one'\): it has no completion to learn; give it one"
    ):
        prepared([Item("one", PROMPT, None, {})], builder, needs=[], completion_required=True)


def test_a_gold_prompt_that_is_not_required_is_absent(builder):
    student, gold = lengths(builder, row())
    (made,), report = prepared([row()], builder, gold - 1, needs=[Need("gold", "gold", required=False)])
    assert made.contexts == {"gold": []}
    assert report.absent == {f"gold prompt longer than max_prompt_length ({gold - 1})": 1}
    assert len(made.student_ids) == student


def test_an_item_without_a_required_slot_is_dropped(builder):
    items = [Item("one", PROMPT, None, {}), Item("two", PROMPT, None, {"gold": [Context("gold", GOLD)]})]
    made, report = prepared(items, builder)
    assert [item.id for item in made] == ["two"]
    assert report.dropped == {"fewer than 1 gold contexts left": 1}


def test_the_first_of_several_reasons_is_named(builder):
    wide = "Why? " * 100
    needs = [Need("auxiliary", "induction"), GOLD_NEED]
    fit = row(id="two", completion="Hives.", auxiliary_contexts=["Why?"])
    for columns, reason in (
        ({"prompt": wide, "privileged_context": wide}, "student prompt longer than max_prompt_length (300)"),
        ({"privileged_context": wide}, "gold prompt longer than max_prompt_length (300)"),
        ({}, "completion longer than max_completion_length (10)"),
        ({"completion": "Hives."}, "fewer than 1 auxiliary contexts left"),
    ):
        unfit = row(**{"completion": wide, "auxiliary_contexts": [], **columns})
        _, report = prepared([unfit, fit], builder, 300, 10, needs=needs, completion_required=True)
        assert report.dropped == {reason: 1}


def test_the_report_names_a_few_items(builder):
    rows = [row(id=f"long-{i}", prompt="Why? " * 100) for i in range(8)]
    made, report = prepared([*rows, row()], builder, 400)
    assert len(made) == 1
    assert report.lines() == [
        "1 of 9 items kept",
        "8 items dropped: student prompt longer than max_prompt_length (400) "
        "(ids long-0, long-1, long-2, long-3, long-4, …)",
    ]
    _, report = prepared([row(negative_context="In caves. " * 600)], builder)
    assert report.lines() == [
        "1 of 1 items kept",
        "1 parts left out: negative prompt longer than max_prompt_length (5000) (ids one)",
    ]


def test_all_rows_dropped_or_none_given(builder):
    with pytest.raises(UsageError, match=r"every one of the 2 rows is dropped \(2: student prompt longer .* raise"):
        prepared([row(), row(id="two")], builder, 5)
    with pytest.raises(UsageError, match="no rows"):
        prepared([], builder)


def test_faults_of_columns_are_named_with_their_row(builder):
    with pytest.raises(UsageError, match=r"column 'privileged_context', row 1 .*missing"):
        prepared([row(id="zero"), row(privileged_context=None)], builder)
    with pytest.raises(UsageError, match=r"column 'auxiliary_contexts', row 0 .*missing; give every row 2"):
        prepared([row()], builder, probes=2)


def test_ids_are_unique(builder):
    with pytest.raises(UsageError, match=r"column 'id': rows 0 and 2 .*both 'zero'; make the ids unique"):
        prepared([row(id="zero"), row(), row(id="zero")], builder)
    item = Item("7", PROMPT, None, {"gold": [Context("gold", GOLD)]})
    with pytest.raises(UsageError, match=r"rows 0 and 1 .*both '7'"):
        prepared([row(id=7), item], builder)
    # What is dropped counts, too.
    with pytest.raises(UsageError, match=r"rows 0 and 1 .*both 'one'"):
        prepared([row(prompt="Why? " * 100), row()], builder, 400)


def test_rows_that_cannot_be_read_are_listed_where_that_is_asked_for(builder):
    bad = []
    given = [row(id="a"), row(id="b", prompt=3), 5, row(id="a"), row(id="c", privileged_context=None), row(id="d")]
    made, report = prepared(given, builder, bad=bad)
    assert [one.id for one in made] == ["a", "d"]
    assert (report.rows, report.kept, dict(report.dropped)) == (2, 2, {})
    assert [str(place) for place, _ in bad] == [f"the data set, row {n}" for n in (1, 2, 3, 4)]
    assert "column 'prompt', row 1" in bad[0][1]
    assert "both 'a'" in bad[2][1]
    with pytest.raises(
        UsageError, match=r"no row is left: 1 cannot be read, first the data set, row 0: column 'prompt'"
    ):
        prepared([row(prompt=3)], builder, bad=[])


TOOL = {"type": "function", "function": {"name": "add_up", "parameters": {}}}


def test_rows_may_have_variables_of_the_template_and_tools():
    thinks = PromptBuilder(FAMILIES["Qwen3"].tokenizer(), "paper", None, {"enable_thinking": False})
    given = [
        row(id="a", completion="2", chat_template_kwargs=None),
        row(id="b", completion="2", chat_template_kwargs={"enable_thinking": True}),
        row(id="c", completion="2", chat_template_kwargs='{"enable_thinking": true}', tools=[TOOL]),
        row(id="d", completion="2", chat_template_kwargs=None, tools=json.dumps([TOOL])),
    ]
    made, _ = prepared([*Dataset.from_list(given[:2]), *given[2:]], thinks, completion_required=True)
    shown = [thinks.tokenizer.decode(each.student_ids) for each in made]
    assert [text.endswith("</think>\n\n") for text in shown] == [True, False, False, True]
    assert ["add_up" in text for text in shown] == [False, False, True, True]
    seen = [thinks.tokenizer.decode(first(each, "gold")) for each in made]
    assert [text.endswith("</think>\n\n") for text in seen] == [True, False, False, True]
    assert ["add_up" in text for text in seen] == [False, False, True, True]
    gold = [thinks.tokenizer.decode(each.completion_ids) for each in made]
    assert ["<think>" in text for text in gold] == [False, True, True, False]
    assert {each.opened for each in made} == {""}
    opens = PromptBuilder(FAMILIES["QwQ"].tokenizer(), "paper")
    assert prepared([row()], opens)[0][0].opened == "<think>\n"

    opens = PromptBuilder(FAMILIES["QwQ"].tokenizer(), "paper")
    assert prepared([row()], opens)[0][0].opened == "<think>\n"


def test_tools_may_be_functions():
    def add_up(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: one.
            b: the other.
        """
        return a + b

    builder = PromptBuilder(FAMILIES["Qwen3"].tokenizer(), "paper")
    (made,), _ = prepared([row(tools=[add_up])], builder)
    assert "Add two numbers." in builder.tokenizer.decode(made.student_ids)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"chat_template_kwargs": "off"}, "column 'chat_template_kwargs', row 0 .*: not JSON"),
        ({"chat_template_kwargs": [1]}, "column 'chat_template_kwargs', row 0 .*: a mapping"),
        ({"chat_template_kwargs": {"tokenize": False}}, "column 'chat_template_kwargs', row 0 .*'tokenize' is no"),
        ({"tools": "add_up"}, "column 'tools', row 0 .*: tools are no JSON"),
        ({"tools": [3]}, "column 'tools', row 0 .*: a tool is 3"),
    ],
)
def test_variables_and_tools_that_are_none_are_refused(builder, columns, said):
    with pytest.raises(UsageError, match=said):
        prepared([row(**columns)], builder)


def test_columns_that_nothing_reads_are_named_once(builder):
    given = [row(id=str(n), completion="2", source="web", empty=None, chat_template_kwargs=None) for n in range(3)]
    with warned(r"nothing reads under these settings: completion, source \(read") as said:
        prepared(given, builder)
    assert len(said) == 1
    with warned(None):
        prepared([row(completion="2", negative_context=None)], builder, completion_required=True)


def test_integer_ids_are_taken_as_text(builder):
    made, _ = prepared([row(id=7), row(id="8")], builder)
    assert [item.id for item in made] == ["7", "8"]


@pytest.mark.parametrize("given", [None, ("prompt", "what"), 7, "a text"])
def test_what_is_no_row_is_told_its_place(builder, given):
    with pytest.raises(UsageError, match=r"row 1 \(counted from 0\) is of type .*; give a mapping"):
        prepared([row(), given], builder)


def test_a_refusal_of_the_template_names_the_row():
    builder = PromptBuilder(families.FAMILIES["gemma2"](), "turn")
    twice = [{"role": "user", "content": PROMPT}] * 2
    with pytest.raises(UsageError, match=r"row 1 \(counted from 0, id 'two'\): the chat template refuses"):
        prepared([row(), row(id="two", prompt=twice)], builder)


def test_where_nothing_is_left_the_remedy_is_that_of_the_reason(builder):
    auxiliary = Need("auxiliary", "retrieval", 3)
    few = "give each row 3 in the column 'auxiliary_contexts', or lower contexts.count"
    with pytest.raises(UsageError, match=rf"\(1: fewer than 3 auxiliary contexts left\); {few}$"):
        prepared([row(auxiliary_contexts=["One."])], builder, needs=[GOLD_NEED, auxiliary])
    with pytest.raises(UsageError, match=r"1 gold contexts left\); give each row 1 in the column 'privileged_"):
        prepared([row(privileged_context=[])], builder)
    with pytest.raises(UsageError, match=rf"\); {few}; raise the limits or shorten the rows$"):
        prepared([row(auxiliary_contexts=["One. " * 400] * 3)], builder, prompt=900, needs=[GOLD_NEED, auxiliary])

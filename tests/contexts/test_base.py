import pytest
from hypothesis import given
from hypothesis import strategies as st

from contexts import families
from contexts.items import Bare, Hint, made, numbered, registered
from rollout.templates import FAMILIES
from unisd.contexts import Context, ContextKind, Making, Need, PromptBuilder, make_contexts, merged
from unisd.errors import UsageError
from unisd.rollout import CompletionStore, SamplingParams

PARAMS = SamplingParams(9)


@pytest.fixture
def builder():
    return PromptBuilder(families.FAMILIES["qwen"](), "turn")


@pytest.fixture
def store(tmp_path):
    return CompletionStore(tmp_path / "texts.jsonl", "m")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("golden", "a"), "no kind of context 'golden'; did you mean 'gold'"),
        ((None, "a"), "no kind of context 'None'"),
        (("gold", " "), r"non-empty text, not ' '.*leave it out"),
        (("gold", None), "non-empty text, not None"),
        (("gold", 3), "non-empty text, not 3"),
        (("gold", "a", "q"), "no question of its own"),
        (("negative", "a", "q"), "no question of its own"),
        (("induction", "a", "q"), "no question of its own"),
        (("retrieval", "a"), "needs the other item's prompt"),
        (("random", "a", " "), "needs the other item's prompt"),
        (("random", "a", 3), "needs the other item's prompt"),
    ],
)
def test_malformed_contexts_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        Context(*arguments)


@pytest.mark.parametrize(("about", "question"), [("item", None), ("general", None), ("another", "Why?")])
def test_whether_a_context_has_a_question_follows_from_what_its_kind_is_about(about, question):
    with registered(type("Own", (Hint,), {"name": "own", "about": about})):
        assert Context("own", "a", question).question == question
        with pytest.raises(UsageError, match="question"):
            Context("own", "a", None if question else "Why?")


SLOTS = {"gold": "gold", "auxiliary": "random", "negative": "negative", "mine": "gold"}
some_needs = st.lists(
    st.builds(
        lambda slot, *rest: Need(slot, SLOTS[slot], *rest),
        st.sampled_from(sorted(SLOTS)),
        st.integers(1, 5),
        st.booleans(),
        st.integers(1, 9),
    )
)


@given(some_needs)
def test_needs_of_one_slot_are_joined_to_what_serves_all(needs):
    joined = merged(needs)
    assert [need.slot for need in joined] == list(dict.fromkeys(need.slot for need in needs))
    for need in joined:
        asked = [other for other in needs if other.slot == need.slot]
        assert need == Need(
            need.slot,
            SLOTS[need.slot],
            max(other.count for other in asked),
            any(other.required for other in asked),
            max(other.per_item for other in asked),
        )


def test_needs_may_come_one_at_a_time():
    assert merged(iter([Need("gold", "gold"), Need("gold", "gold", 2)])) == [Need("gold", "gold", 2)]


def test_two_kinds_in_one_slot_are_refused():
    with pytest.raises(UsageError, match=r"slot 'auxiliary' is to hold both 'random' and 'induction'; .* two slots"):
        merged([Need("auxiliary", "random"), Need("gold", "gold"), Need("auxiliary", "induction")])


def test_the_model_writes_what_is_asked(builder, store):
    sampler = families.FakeSampler(lambda request: f"text {request.key[-1]}")
    making = Making(Bare(), [], sampler=sampler, builder=builder, store=store)
    assert making.written([("Why?", ("a", 1)), ("How?", ("a", 2))], PARAMS, "texts") == ["text 1", "text 2"]
    asked = {request.key: request.prompt_ids for request in sampler.asked}
    assert asked == {("a", 1): builder.student_ids("Why?"), ("a", 2): builder.student_ids("How?")}


def test_what_is_longer_than_the_limit_is_not_sent(builder, store):
    asked = [("Why? " * n, ("a", n)) for n in (3, 1, 4, 2)]
    exact = len(builder.student_ids("Why? " * 2))
    sampler = families.FakeSampler(lambda request: f"text {request.key[-1]}")
    making = Making(Bare(), [], sampler=sampler, builder=builder, store=store, max_prompt_length=exact)
    assert making.written(asked, PARAMS, "texts") == [None, "text 1", None, "text 2"]
    assert sorted(request.key[-1] for request in sampler.asked) == [1, 2]
    making.max_prompt_length = None
    assert making.written(asked, PARAMS, "texts") == ["text 3", "text 1", "text 4", "text 2"]


def test_thoughts_are_cut_from_what_is_written(store):
    asks = PromptBuilder(FAMILIES["QwQ"].tokenizer(), "paper")  # its prompts open the thought
    texts = {1: "Hm.\n</think>\n\ntext", 2: "Hm. It"}
    sampler = families.FakeSampler(lambda request: texts[request.key[-1]])
    making = Making(Bare(), [], sampler=sampler, builder=asks, store=store)
    assert making.written([("Why?", (1,)), ("How?", (2,))], PARAMS, "texts") == ["\n\ntext", ""]


def test_the_store_is_made_once_and_only_when_something_is_written(builder, store):
    opened = []
    sampler = families.FakeSampler(lambda request: "text")
    making = Making(Bare(), numbered(6), sampler=sampler, builder=builder, store=lambda: opened.append(1) or store)
    make_contexts([Need("gold", "gold"), Need("auxiliary", "random")], making)
    assert opened == []
    for key in (1, 2):
        assert making.written([("Why?", (key,))], PARAMS, "texts") == ["text"]
    assert opened == [1]


@pytest.mark.parametrize("lacking", ["sampler", "builder", "store"])
@pytest.mark.parametrize(("kind", "what"), [("negative", "negatives"), ("induction", "instructions")])
def test_nobody_to_write_is_said_in_words(builder, store, lacking, kind, what):
    given = {"sampler": families.FakeSampler(str), "builder": builder, "store": store, lacking: None}
    with pytest.raises(UsageError, match=f"{what} are written by the model; give Making a sampler, a builder and"):
        made(kind, numbered(6), **given)


@pytest.mark.parametrize("shown", [True, False])
def test_the_label_names_a_progress_bar_where_bars_are_wanted(builder, store, monkeypatch, shown):
    labels = []
    monkeypatch.setattr(CompletionStore, "texts", lambda self, sampler, sent, params, label: labels.append(label) or [])
    Making(Bare(), [], sampler=1, builder=builder, store=store, progress=shown).written([], PARAMS, "negatives")
    assert labels == ["negatives" if shown else None]


def test_a_kind_that_nobody_makes_comes_with_the_rows():
    class Given(ContextKind):
        name, summary, about, words = "given", "a text of the user's", "item", "gold"

    with registered(Given), pytest.raises(UsageError, match=r"kind 'given' are not made from a task; .* columns"):
        made("given", numbered(2))

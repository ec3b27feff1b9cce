import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from evaluation.asked import Choices, examples
from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.audit import Auditor, area_under_curve, audit_sample
from unisd.rollout import Completion, CompletionStore, make_sampler

ITEMS = examples(24)
KEYS = {example.id: example.answer for example in ITEMS}


class Told:
    """Repeats the answer of the demonstration in its prompt; without one, or in other layouts, it does not know."""

    def __init__(self, tokenizer, layouts=("turn",)):
        self.tokenizer, self.layouts = tokenizer, layouts

    def sample(self, requests, params, progress=None):
        return [Completion([*self._text(request).encode()], True) for request in requests]

    def _text(self, request):
        if request.key[0] != "evaluation":
            wrong = self.tokenizer.decode(request.prompt_ids).split('the answer is "')[-1].split('"')[0]
            return f"Most people would say that it looks {wrong} at once."
        prompt = self.tokenizer.decode(request.prompt_ids)
        turns = prompt.count("<|im_start|>assistant\n") > 1
        if turns and "turn" in self.layouts:
            shown = prompt.rsplit("<|im_end|>", 2)[0].rstrip()[-1]
            return f"Answer: {shown}"
        return "I do not know."

    def decode(self, completion):
        return bytes(completion.ids).decode()


@pytest.fixture
def auditor(tokenizer, tmp_path):
    def build(sampler, model=None):
        store = CompletionStore(tmp_path / "texts.jsonl", "m")
        builder = PromptBuilder(tokenizer, "paper")
        return Auditor(Choices(), ITEMS, model or tiny.model(), sampler, builder, store, 16, progress=False)

    return build


def test_the_layout_in_which_the_teacher_is_right_is_named(auditor, tokenizer):
    found = auditor(Told(tokenizer)).audit(audit_sample(ITEMS, 12), kinds=("retrieval",))
    assert found.layout == "turn"
    assert found.teaches
    assert found.layouts["turn"].correct == 12
    assert found.layouts["paper"].correct == found.student.correct == 0
    assert found.verdict()[0].startswith("Layout to use: turn. Teacher minus student: +100.0 points")
    assert not any("nothing to teach" in line for line in found.verdict())


def test_negatives_that_mislead_are_counted(auditor, tokenizer):
    found = auditor(Told(tokenizer)).audit(audit_sample(ITEMS, 12), kinds=())
    assert found.negative.n == found.misled > 0
    assert found.negative.correct == 0


def test_a_teacher_that_is_no_better_is_said_to_have_nothing_to_teach(auditor, tokenizer):
    found = auditor(Told(tokenizer, layouts=())).audit(examples(60), ("turn",), kinds=(), negatives=False)
    assert not found.teaches
    assert found.decided
    assert any("nothing to teach" in line for line in found.verdict())
    assert found.negative is None


def test_an_audit_of_too_few_items_says_only_that(auditor, tokenizer):
    nothing = Told(tokenizer, layouts=())
    found = auditor(nothing).audit(audit_sample(ITEMS, 12), kinds=("retrieval",))
    assert found.too_few
    (line,) = found.verdict()
    assert line.startswith("12 items are too few to say whether the teacher has anything to teach: its gain")
    needed = found.items_needed()
    assert f"Ask about {needed} (unisd audit --items N" in line
    assert auditor(nothing).audit(examples(needed), ("turn",), (), negatives=False).decided
    undecided = auditor(nothing).audit(ITEMS, kinds=("retrieval",))
    assert not undecided.too_few
    assert len(undecided.verdict()) == 1
    assert not auditor(Told(tokenizer)).audit(audit_sample(ITEMS, 12), kinds=()).too_few


def test_agreement_of_probes_is_counted(auditor, tokenizer):
    found = auditor(Told(tokenizer)).audit(audit_sample(ITEMS, 12), layouts=("turn",), kinds=("retrieval",))
    agreement = found.agreement
    assert agreement.items == 12
    assert 0 <= agreement.right_where_agreed <= agreement.agreed <= 12
    assert agreement.auc is None  # the student is never right


def test_a_real_model_end_to_end(auditor, tokenizer):
    model = tiny.model()
    found = auditor(make_sampler(model, tokenizer), model).audit(audit_sample(ITEMS, 6))
    summary = found.summary()
    assert set(summary["divergence"]) == {"paper", "turn", "system"}
    assert all(d["mean"] > 0 and d["tokens"] > 0 for d in summary["divergence"].values())
    assert set(found.kinds) >= {"random", "retrieval"}
    assert set(found.kinds) | set(found.unavailable) == {"random", "retrieval", "induction"}
    assert "| student |" in found.markdown()


def test_bad_input_is_said(auditor, tokenizer):
    with pytest.raises(UsageError, match="unknown kind of context 'gold'"):
        auditor(Told(tokenizer)).audit(ITEMS[:4], kinds=("gold",))
    with pytest.raises(UsageError, match="use 2 or more"):
        auditor(Told(tokenizer)).audit(ITEMS[:1])


def test_area_under_the_curve():
    assert area_under_curve([3, 2, 1], [True, False, False]) == 1
    assert area_under_curve([1, 2, 3], [True, False, False]) == 0
    assert area_under_curve([1, 1], [True, False]) == 0.5
    assert area_under_curve([1, 2], [True, True]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_turning_the_scores_round_turns_the_area_round(rows):
    scores, flags = [s for s, _ in rows], [f for _, f in rows]
    area = area_under_curve(scores, flags)
    if area is not None:
        assert area_under_curve([-s for s in scores], flags) == pytest.approx(1 - area)

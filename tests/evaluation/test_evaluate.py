import dataclasses
import threading
import time

import pytest

from evaluation.asked import Choices, Scripted, examples, letter
from rollout.templates import FAMILIES
from unisd.contexts import PromptBuilder
from unisd.errors import UniSDError, UsageError
from unisd.evaluation.answers import TOO_LONG
from unisd.evaluation.evaluate import drawn, evaluate, regrade
from unisd.rollout import CompletionStore
from unisd.tasks import Grade, grade_all


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, "paper")


def test_every_example_is_asked_and_graded(builder):
    found = evaluate(Choices(), examples(8), Scripted(letter), builder, progress=None)
    assert [item.correct for item in found.items] == [True, True, True, False] * 2
    assert (found.n, found.correct, found.parsable) == (8, 6, 6)
    summary = found.summary()
    assert summary["accuracy"]["count"] == 6
    assert summary["accuracy_among_parsable"]["value"] == 1.0
    assert summary["subjects"]["art"]["of"] == summary["subjects"]["law"]["of"] == 4
    assert summary["subjects"]["art"]["count"] == 4


def think(request):
    """A thought that names the wrong answer; every third is never closed."""
    number = int(request.key[1])
    return "Answer: C" + ("" if number % 3 == 2 else f"\n</think>\n\nAnswer: {'ABC'[number % 3]}")


@pytest.mark.parametrize("name", ["QwQ", "Qwen3"])
def test_thoughts_are_cut_before_grading_or_kept(name):
    """Of three items two are right; the third never came to an answer, though its thought names the right one."""
    asks = PromptBuilder(FAMILIES[name].tokenizer(), "paper")
    opened = "" if name == "QwQ" else "<think>\n"  # who opens the thought: the prompt, or the model
    sampler = Scripted(lambda request: opened + think(request))
    found = evaluate(Choices(), examples(3), sampler, asks, progress=None)
    assert [item.parsed for item in found.items] == ["A", "B", None]
    assert all(item.output.startswith("<think>\nAnswer: C") for item in found.items)
    kept = evaluate(Choices(), examples(3), sampler, asks, progress=None, thoughts="keep")
    assert kept.items[2].correct
    assert regrade(Choices(), kept) == found
    assert regrade(Choices(), found, "keep") == kept


def test_several_samples_give_pass_at_k_and_an_interval_over_examples(builder):
    def sometimes(request):
        number, sample = int(request.key[1]), request.key[2]
        return f"Answer: {'ABC'[number % 3]}" if sample < number else "Answer: ?"

    found = evaluate(Choices(), examples(3), Scripted(sometimes), builder, progress=None, samples=2, temperature=1.0)
    summary = found.summary()
    assert [item.sample for item in found.items] == [0, 1] * 3
    assert summary["samples"] == 2
    assert summary["accuracy"]["value"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert summary["pass_at_k"]["1"]["value"] == pytest.approx(0.5)
    assert summary["pass_at_k"]["2"]["value"] == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="greedy answers would be equal"):
        evaluate(Choices(), examples(2), Scripted(letter), builder, progress=None, samples=2)


def test_a_killed_evaluation_goes_on_without_losing_or_repeating_an_item(builder, tmp_path):
    class Dies(Scripted):
        def sample(self, requests, params, progress=None):
            if len(self.asked) >= 4:
                raise KeyboardInterrupt
            return super().sample(requests, params)

    store = CompletionStore(tmp_path / "answers.jsonl", "weights", batch_size=2)
    first, second = Dies(letter), Scripted(letter)
    with pytest.raises(KeyboardInterrupt):
        evaluate(Choices(), examples(8), first, builder, progress=None, store=store)
    found = evaluate(Choices(), examples(8), second, builder, progress=None, store=store)
    keys = [request.key for request in [*first.asked, *second.asked]]
    assert len(keys) == len(set(keys)) == 8
    whole = evaluate(Choices(), examples(8), Scripted(letter), builder, progress=None)
    assert found == whole


def test_answers_of_other_weights_or_other_decoding_are_not_used(builder, tmp_path):
    store = CompletionStore(tmp_path / "answers.jsonl", "weights")
    evaluate(Choices(), examples(4), Scripted(letter), builder, progress=None, store=store)
    for other, room in ((CompletionStore(tmp_path / "answers.jsonl", "trained"), None), (store, 9)):
        again = Scripted(letter)
        evaluate(Choices(), examples(4), again, builder, room, progress=None, store=other)
        assert len(again.asked) == 4


def test_a_prompt_without_room_for_an_answer_is_not_sent_and_counts_as_unanswered(builder):
    asked = examples(4)
    lengths = [len(builder.student_ids(example.prompt)) for example in asked]
    sampler, long = Scripted(letter), dataclasses.replace(asked[0], prompt=asked[0].prompt + " more")
    found = evaluate(Choices(), [long, *asked[1:]], sampler, builder, 16, progress=None, max_length=max(lengths) + 16)
    assert [request.key[1] for request in sampler.asked] == ["1", "2", "3"]
    assert [item.note == TOO_LONG for item in found.items] == [True, False, False, False]
    assert found.summary()["too_long"] == 1
    assert not found.items[0].correct
    assert found.items[1].correct
    assert regrade(Choices(), found) == found
    with pytest.raises(UsageError, match=r"no prompt leaves room for 16 tokens .* use --max-new-tokens 15 or fewer"):
        evaluate(Choices(), asked, sampler, builder, 16, progress=None, max_length=min(lengths) + 15)


def test_regrading_needs_no_model_and_follows_the_grader(builder):
    class Strict(Choices):
        def grade(self, example, text):
            return Grade(False, "nothing", {"style": 0.5}, "too strict")

    found = evaluate(Choices(), examples(4), Scripted(letter), builder, progress=None)
    assert regrade(Choices(), found) == found
    stricter = regrade(Strict(), found)
    assert stricter.correct == 0
    assert {(item.parsed, item.note) for item in stricter.items} == {("nothing", "too strict")}
    assert [item.output for item in stricter.items] == [item.output for item in found.items]
    assert stricter.summary()["scores"]["style"]["value"] == pytest.approx(0.5)
    other = Choices()
    other.name = "others"
    with pytest.raises(UsageError, match="the answers are of the task choices"):
        regrade(other, found)


def test_a_grader_that_fails_ends_an_evaluation_but_not_grading_in_bulk(builder):
    class Broken(Choices):
        def grade(self, example, text):
            if example.id == "1":
                raise RuntimeError("no\nluck")
            return super().grade(example, text)

    grades = grade_all(Broken(), examples(3), ["Answer: A"] * 3)
    assert [grade.correct for grade in grades] == [True, False, False]
    assert [grade.note for grade in grades] == ["", "not graded: RuntimeError: no luck", ""]
    with pytest.raises(UniSDError, match="choices: 1 of 3 answers were not graded: RuntimeError: no luck; repair it"):
        evaluate(Broken(), examples(3), Scripted(letter), builder, progress=None)
    with pytest.raises(ValueError, match="3 examples and 2 texts"):
        grade_all(Choices(), examples(3), ["", ""])


def test_programs_are_graded_in_parallel_and_in_order():
    threads = set()

    class Programs(Choices):
        runs_programs = True

        def grade(self, example, text):
            threads.add(threading.get_ident())
            time.sleep(0.01)
            return Grade(True, text)

    task = Programs()
    grades = grade_all(task, examples(12), [str(i) for i in range(12)])
    assert [grade.parsed for grade in grades] == [str(i) for i in range(12)]
    assert threading.get_ident() not in threads


def test_a_task_says_what_can_be_guessed_and_what_belongs_together():
    first, second = examples(2)
    task = Choices()
    assert task.options(first) == ["A", "B", "C"]
    assert task.chance(first) == pytest.approx(1 / 3)
    assert task.gold(first) == first.demonstration
    assert [task.group(first), task.group(second)] == ["art", "law"]


def test_a_smaller_draw_is_part_of_a_larger_one():
    items = examples(30)
    assert [e.id for e in drawn(items, 5)] == [e.id for e in drawn(items, 20)][:5]
    assert drawn(items, None) == items
    assert drawn(items, 99) == items


def test_nothing_to_ask_is_said(builder):
    with pytest.raises(UsageError, match="choices: no items to evaluate"):
        evaluate(Choices(), [], Scripted(letter), builder)

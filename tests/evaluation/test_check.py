"""What a check shows of a task and of rows: prompts as they are, their lengths, and rows that cannot be read."""

from dataclasses import replace

import pytest

import tiny
from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.check import Limits, check_rows, check_task, unread
from unisd.tasks.exact import ExactTask, exact_example
from unisd.tasks.sources import Place

WIDE = Limits(10_000, 10_000)


class Sums(ExactTask):
    name, splits, max_new_tokens = "sums", ("train", "test"), 100

    def load(self, split, source=None):
        return [
            exact_example(f"{split}{i}", f"{split}: {i} and 7?", str(i + 7), kind="number", rationale="Count on")
            for i in range(40)
        ]


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, "paper")


def splits(task):
    return {split: task.load(split) for split in task.splits}


def rows(*given):
    return [(row, Place("rows.jsonl", number)) for number, row in enumerate(given, start=1)]


def test_items_are_shown_as_the_student_and_the_teacher_see_them(builder):
    task = Sums()
    items = splits(task)
    items["train"] = [replace(e, system="Be brief.") for e in items["train"]]
    check = check_task(task, items, builder, WIDE)
    assert len(check.seen) == 3
    for seen in check.seen:
        example = next(e for e in items["train"] if e.id == seen.id)
        opened = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{example.prompt}"
        assert seen.student == f"{opened}<|im_end|>\n<|im_start|>assistant\n"
        assert seen.teacher.startswith(opened)
        assert example.demonstration in seen.teacher
        assert seen.answer == example.answer
    assert check.counts == {"train": 40, "test": 40}
    assert check.errors == 0
    assert check_task(task, items, builder, WIDE, shown=0).seen == []


def test_lengths_are_those_of_the_prompts(builder):
    task = Sums()
    items = splits(task)
    long = replace(items["test"][7], prompt="x" * 700)
    items["test"][7] = long
    check = check_task(task, items, builder, Limits(300, 20), shown=0)
    student = check.lengths["test"]["student"]
    assert student["most"] == len(builder.student_ids(long.prompt))
    assert student["50%"] == sorted(len(builder.student_ids(e.asked)) for e in items["test"])[20]
    assert (student["limit"], student["over"]) == (300, 1)
    said = [finding for finding in check.findings if finding.level == "warning"]
    assert ("test7",) in [tuple(finding.ids) for finding in said if "prompts of test" in finding.what]
    assert any("contexts.max_prompt_length" in finding.what for finding in said)
    assert any("rollout.max_completion_length" in finding.what for finding in said)
    positions = check_task(task, items, builder, Limits(1_000, 50, positions=250), shown=0)
    assert positions.lengths["test"]["student"]["limit"] == 200
    task.max_new_tokens = 5
    told = check_task(task, items, builder, WIDE, shown=0).findings
    assert any("max_new_tokens is 5: raise it, or answers are cut off" in finding.what for finding in told)


def test_every_item_that_is_too_long_is_counted_though_few_are_measured(builder, monkeypatch):
    monkeypatch.setattr("unisd.evaluation.check.MEASURED", 3)
    monkeypatch.setattr("unisd.evaluation.check._LONGEST", 1)
    items = [replace(e, prompt="x" * (700 if i % 8 == 0 else 100)) for i, e in enumerate(Sums().load("train"))]
    check = check_task(Sums(), {"train": items}, builder, Limits(600, 1_000), shown=0)
    assert check.lengths["train"]["student"]["over"] == 5


def test_findings_come_worst_first_and_as_plain_values(builder):
    task = Sums()
    items = {"train": task.load("train"), "test": [*task.load("train")[:5], *task.load("test")]}
    bad = unread([(Place("rows.jsonl", 3), "not JSON")], "train", dropped=True)
    check = check_task(task, items, builder, WIDE, shown=1, said=bad)
    levels = [finding.level for finding in check.findings]
    assert levels == sorted(levels)  # error, note, warning are not in this order by chance
    assert check.errors == 1
    plain = check.plain()
    assert plain["errors"] == 1
    assert plain["findings"][0]["ids"][0] == "test: train0"
    assert plain["grading"]["gold"] == {"correct": 85, "of": 85, "share": 1.0, "expected": 1.0, "wrong": []}
    assert unread([(Place("rows.jsonl", 3), "not JSON")], "train", dropped=False)[0].level == "error"


def test_rows_for_the_trainer(builder):
    good = {"prompt": "What is 1 and 2?", "privileged_context": "1 and 2 make 3.\nAnswer: 3"}
    told = {"prompt": "It is so that 3 and 4 make 7.", "privileged_context": "3 and 4 make 7"}
    given = rows(good, good, {"prompt": 3, "privileged_context": "x"}, {"prompt": "x"}, told, {"prompt": "y", "id": "a",
                 "privileged_context": "z"}, {"prompt": "y!", "id": "a", "privileged_context": "z"})  # fmt: skip
    check = check_rows("rows.jsonl", given, [(Place("rows.jsonl", 9), "not JSON")], builder, WIDE)
    assert check.counts == {"rows": 8}
    unreadable, leaked, twice, _ = check.findings
    assert (unreadable.level, unreadable.count) == ("error", 4)
    assert [one.split(":")[0] for one in unreadable.ids] == [f"rows.jsonl, line {n}" for n in (9, 3, 4, 7)]
    assert (leaked.level, leaked.count, twice.level, twice.count) == ("error", 1, "warning", 1)
    assert any(seen.student.startswith("<|im_start|>user\nWhat is 1") for seen in check.seen)


def test_rows_of_completions_and_of_messages(builder):
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}]
    check = check_rows("rows", rows({"prompt": asked, "completion": "Hi."}), [], builder, WIDE)
    (seen,) = check.seen
    assert seen.student.startswith("<|im_start|>system\nBe brief.")
    assert seen.teacher is None
    assert check.lengths["rows"]["reply"]["most"] == len(builder.completion_ids("Hi.", asked))


def test_rows_of_something_else(builder):
    with pytest.raises(UsageError, match=r"no column 'prompt' \(it has q, a\); rename one, or describe a task"):
        check_rows("rows.csv", rows({"q": 1, "a": 2}), [], builder, WIDE)
    with pytest.raises(UsageError, match="it has no rows"):
        check_rows("rows.csv", [], [], builder, WIDE)


def test_the_tiny_tokenizer_counts_bytes():
    """What the tests above rely on."""
    assert len(tiny.tokenizer()("xyz")["input_ids"]) == 3

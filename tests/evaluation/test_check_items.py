"""Each thing that can be wrong with items is found, named by its items, and not found where it is not."""

from dataclasses import replace

import pytest

from unisd.evaluation.check_items import Finding, answers, duplicates, graded, leaks, one_sided
from unisd.tasks.base import Example, Grade
from unisd.tasks.choice import ChoiceTask, choice_example
from unisd.tasks.exact import ExactTask, exact_example

ANIMALS = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]


class Exam(ChoiceTask):
    name, splits = "exam", ("train", "test")

    def load(self, split, source=None):
        return choices(split)


class Sums(ExactTask):
    name, splits = "sums", ("train", "test")

    def load(self, split, source=None):
        return sums(split)


class Kind(Sums):
    """Everything is right that is a number."""

    def grade(self, example, text):
        return Grade(any(map(str.isdecimal, text)), text)


class Odd(Sums):
    """The golds of odd items are wrong, and saying nothing is right."""

    def grade(self, example, text):
        return Grade(not text or int(example.answer) % 2 == 0, text, note="" if text else "silence")


class Broken(Sums):
    def grade(self, example, text):
        raise RuntimeError("no sandbox here")


def choices(split, count=40):
    return [
        choice_example(
            f"{split}{i}", f"Question {i} of {split}: which one is it?", ANIMALS[:4], i % 4, rationale="It is so."
        )
        for i in range(count)
    ]


def sums(split, count=40):
    first = 0 if split == "train" else 1_000
    return [
        exact_example(
            f"{split}{i}", f"What is {first + i} and 7?", str(first + i + 7), kind="number", rationale="Count."
        )
        for i in range(count)
    ]


def both(make):
    return {split: make(split) for split in ("train", "test")}


def found(findings, part):
    return [finding for finding in findings if part in finding.what]


@pytest.mark.parametrize(("task", "make"), [(Exam(), choices), (Sums(), sums)])
def test_nothing_is_found_where_nothing_is_wrong(task, make):
    splits = both(make)
    results, wrong = graded(task, splits)
    assert wrong == []
    assert duplicates(task, splits, "train") == leaks(task, splits) == one_sided(answers(task, splits), splits) == []
    assert (results["gold"].share, results["empty"].share, results["gold"].of) == (1, 0, 80)
    assert results["shuffled"].share == results["shuffled"].expected


def test_what_the_grader_gets_wrong_is_named():
    splits = both(sums)
    results, wrong = graded(Kind(), splits)
    assert results["shuffled"].share == 1
    (finding,) = wrong
    assert (finding.level, finding.count) == ("error", 80)
    assert "answers of other items are graded as right, though they differ" in finding.what
    results, wrong = graded(Odd(), splits)
    gold, empty, shuffled = wrong
    assert (gold.level, gold.count, empty.count) == ("error", 40, 80)
    assert "right answers are graded as WRONG" in gold.what
    assert gold.ids[:2] == ("train: train0", "train: train2")  # 7, 9: odd
    assert "empty answers are graded as right" in empty.what
    assert shuffled.count == 40
    _, wrong = graded(Broken(), splits)
    assert {finding.level for finding in wrong} == {"warning"}
    assert "gold answers were not graded here: RuntimeError: no sandbox here" in wrong[0].what


def test_a_tolerance_that_is_too_wide_shows():
    wide = [replace(e, fields={**e.fields, "tolerance": 0.9}) for e in sums("train")]
    _, wrong = graded(Sums(), {"train": wide})
    assert "the grader accepts too much" in wrong[0].what


def test_programs_are_graded_in_part_and_that_is_said():
    task = Sums()
    task.runs_programs = True
    results, wrong = graded(task, both(sums))
    assert results["gold"].of == results["empty"].of == results["shuffled"].of == 32
    assert [f.what for f in wrong] == ["grading runs programs, so 32 of 80 items were graded"]


def test_items_without_a_worked_answer_are_counted():
    splits = {"test": [replace(e, demonstration=None) for e in sums("test")]}
    results, wrong = graded(Sums(), splits)
    assert results["gold"].of == results["shuffled"].of == 0
    assert wrong == [Finding("note", "40 items have no worked answer: they are for evaluation alone")]


def test_test_items_in_train():
    splits = both(sums)
    splits["test"] += [replace(splits["train"][3], id="copy")]
    (finding,) = duplicates(Sums(), splits, "train")
    assert (finding.level, finding.ids) == ("error", ("test: copy",))
    assert finding.what == "1 of 41 items of test stand in train, too; remove them there"
    many = {"train": sums("train"), "test": [*sums("test", 200), replace(splits["train"][3], id="copy")]}
    assert [f.level for f in duplicates(Sums(), many, "train")] == ["warning"]
    splits = both(sums) | {"dev": [replace(e, id=f"dev{e.id}") for e in sums("test")]}
    assert [f.level for f in duplicates(Sums(), splits, "train")] == ["warning"]


def test_near_copies_have_the_same_answer():
    splits = both(sums)
    item = splits["train"][0]
    near = replace(item, id="near", prompt=item.prompt.upper().replace(" AND ", "  and,  "))
    splits["test"] += [near, replace(near, id="other", answer="8")]
    (finding,) = duplicates(Sums(), splits, "train")[-1:]
    assert (finding.level, finding.ids) == ("warning", ("test: near",))
    assert "but for case, signs and spaces" in finding.what
    within = {"train": [*splits["train"], near]}
    (finding,) = duplicates(Sums(), within, "train")
    assert (finding.level, finding.ids) == ("note", ("train: near",))


def test_items_that_come_twice_and_contradict_each_other():
    items = sums("train")
    (finding,) = duplicates(Sums(), {"train": [*items, replace(items[0], id="again")]}, "train")
    assert (finding.level, finding.ids) == ("warning", ("train: again",))
    other = replace(items[0], id="other", answer="99", fields={**items[0].fields, "accepted": ["99"]})
    (finding,) = duplicates(Sums(), {"train": [*items, other]}, "train")
    assert (finding.level, finding.ids) == ("error", ("train: other",))
    assert "have another answer; one of the two is wrong" in finding.what
    told = replace(items[0], id="told", system="Be brief.")
    assert duplicates(Sums(), {"train": [*items, told]}, "train") == []


def test_prompts_that_tell_their_answer():
    items = choices("train")
    shown = replace(items[1], prompt=f"{items[1].prompt}\n\nFor example:\nIt is so.\nAnswer: B")
    declared = replace(items[2], question="Which? The answer is C")
    findings = leaks(Exam(), {"train": [items[0], shown, declared, *items[3:]]})
    demonstrated, told = findings
    assert (demonstrated.level, demonstrated.ids) == ("error", ("train: train1",))
    assert (told.level, told.ids) == ("warning", ("train: train2",))
    many = [replace(e, question=f"Which? The answer is {e.answer}") for e in items]
    assert [f.level for f in leaks(Exam(), {"train": many})] == ["error"]


def test_a_demonstration_that_is_the_answer_alone_is_a_note():
    items = [replace(e, demonstration=f"Answer: {e.answer}") for e in choices("train")]
    (finding,) = leaks(Exam(), {"train": items})
    assert (finding.level, finding.what[:53]) == ("note", "40 of 40 demonstrations of train are the answer alone")


def test_answers_that_are_all_alike():
    items = [choice_example(str(i), f"Which is number {i}?", ANIMALS[:4], 0) for i in range(20)]
    about = answers(Exam(), {"train": items})
    assert (about["train"]["best"], about["train"]["constant"], about["train"]["chance"]) == ("A", 1, 0.25)
    (finding,) = one_sided(about, {"train": items})
    assert "one answer, 'A', is right for 100% of the items, where chance is 25%" in finding.what
    assert one_sided(about, {"train": items[:3]}) == []


def test_examples_need_no_demonstration_or_family():
    class Bare(Sums):
        options = ExactTask.options

        def gold(self, example):
            return None

    items = [Example(str(i), f"Say {i}", f"Say {i}", str(i)) for i in range(3)]
    results, _ = graded(Bare(), {"train": [replace(e, fields=sums("train")[0].fields) for e in items]})
    assert results["shuffled"].expected is None

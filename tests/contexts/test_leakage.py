from dataclasses import replace

import pytest

from contexts.items import choice, cos_e
from unisd.contexts import Context, leaks
from unisd.contexts.leakage import normalised, repeats, says_the_same, words
from unisd.tasks.base import Example

LANTERN = choice(
    "lantern",
    "If a lantern is not for sale, where is it likely to be?",
    "A house is the only place that is not likely to sell things.",
    "B",
)
SOLUTION = """def even(n):
    found = []
    k = 0
    while len(found) < n:
        if k % 2 == 0:
            found.append(k)
        k += 1
    last = found[-1]
    return last"""
CODE = Example(
    "code",
    "Write a function to find the nth even number.\nassert even(3) == 4",
    "Write a function to find the nth even number.",
    SOLUTION,
    f"```python\n{SOLUTION}\n```",
)


def other(question="Where do bees live?", text="Reasoning: bees make honey in hives and live there.\nAnswer: A"):
    return Context("retrieval", text, f"Answer with a letter.\n\n{question}\nA. hive\nB. pond\nC. attic")


def test_a_shared_letter_is_no_leak():
    for letter in "ABC":
        assert not leaks(LANTERN, other(text=f"Reasoning: bees make honey in hives and live there.\nAnswer: {letter}"))
    bare = replace(LANTERN, demonstration="Answer: B")
    assert not leaks(bare, other(text="Answer: B"))
    assert not leaks(replace(LANTERN, demonstration="The answer is B."), other(text="The answer is B."))


@pytest.mark.parametrize("letter", "ABC")
def test_a_copied_demonstration_leaks_whatever_its_letter(letter):
    copied = LANTERN.demonstration.replace("Answer: B", f"Answer: {letter}")
    assert leaks(LANTERN, other(text=copied))
    assert leaks(LANTERN, other(text=f"Look: {copied.upper()} That is all."))
    assert leaks(LANTERN, Context("induction", f"Solve it so. {copied}"))


def test_the_answer_that_closes_a_demonstration_does_not_count():
    eight = choice("e", "Why?", "homes keep their old things in the dark", "B")
    assert leaks(eight, other(text=eight.demonstration.replace("Answer: B", "Answer: C")))


def test_a_copied_reason_leaks_without_the_words_of_the_format():
    assert leaks(LANTERN, Context("induction", "A house is the only place that is not likely to sell things. Think."))
    call = "Thought: I need the weather of Paris\nAction Input: today and tomorrow"
    tool = Example("t", "Which call?", "Which?", "x", call)
    assert leaks(tool, other(text="I need the weather of Paris\ntoday and tomorrow"))


def test_a_copied_item_leaks():
    assert leaks(LANTERN, Context("random", "Something else.", LANTERN.prompt))
    assert leaks(LANTERN, Context("random", "Something else.", f"  {LANTERN.prompt.upper()}!"))
    assert leaks(LANTERN, Context("random", "Something else.", LANTERN.question))
    assert leaks(LANTERN, other(question=LANTERN.question))  # with other options
    assert leaks(LANTERN, Context("induction", f"When asked: {LANTERN.question} Think of homes."))
    assert leaks(LANTERN, Context("gold", LANTERN.demonstration))


def test_a_short_question_leaks_only_as_a_whole():
    short = choice("short", "What is it?", "it is a thing that people use every day at home.", "A")
    assert leaks(short, Context("random", "Something.", "what is it"))
    assert not leaks(short, Context("random", "Something.", "What is it that bees make?"))


def test_nearly_the_same_solution_leaks_and_a_related_one_does_not():
    renamed = CODE.demonstration.replace("even(n)", "nth_even(n)")
    assert leaks(CODE, Context("retrieval", renamed, "Write a function for even numbers."))
    odd = "```python\ndef odd(n):\n    return 2 * n - 1\n```"
    assert not leaks(CODE, Context("retrieval", odd, "Write a function to find the nth odd number."))


def test_a_longer_question_that_holds_the_items_own_leaks():
    longer = "Write a function to find the nth even number using a loop.\nassert loop(3) == 4"
    assert leaks(CODE, Context("retrieval", "def loop(n): ...", longer))


def test_a_long_answer_leaks_by_itself():
    item = Example("a", "Who wrote it, and what did they mean by it?", "Who wrote it?", "x", "y")
    assert not leaks(item, other(text="x y"))
    said = "the author meant that nothing which is human was alien to him"
    assert leaks(replace(item, answer=said), other(text=f"Surely {said}, as we know."))
    label = replace(item, answer="not enough information")
    assert not leaks(label, other(text="Reasoning: nothing is said.\nAnswer: not enough information"))


def test_an_item_without_a_demonstration_is_judged_by_its_question():
    blank = replace(LANTERN, demonstration=None)
    assert not leaks(blank, other())
    assert leaks(blank, other(question=LANTERN.question))


def test_what_repeats_as_a_whole_also_leaks():
    # The answer's own word makes it eight: too short for the test of the solution, long enough for the whole.
    item = replace(LANTERN, demonstration="Reasoning: homes keep their things inside. Answer: B")
    same = other(text=item.demonstration)
    assert repeats(same, item.demonstration)
    assert leaks(item, same)
    assert not leaks(item, other(text=item.demonstration.replace("Answer: B", "Answer: C")))


def test_words_of_scripts_without_spaces():
    assert words("Ab_c 1x 東京は。") == ["ab", "c", "1x", "東", "京", "は"]
    assert normalised(" Where,  IS it?") == "where is it"
    assert normalised("∑ ?") == "∑?"
    assert normalised("∑?") != normalised("∏?")
    item = Example("z", "日本の首都はどこですか。", "日本の首都はどこですか。", "A", "日本の首都は東京という都市です。")
    assert leaks(item, Context("induction", "よく考える。日本の首都は東京という都市です。"))
    assert not leaks(item, Context("induction", "よく考えて、問題の国と都市を思い出すことが大切です。"))


def test_most_real_pairs_do_not_leak():
    items = cos_e(400)
    pairs = [(item, items[(i * 7 + 3) % 400]) for i, item in enumerate(items) if (i * 7 + 3) % 400 != i]
    found = sum(leaks(item, Context("random", o.demonstration, o.prompt)) for item, o in pairs)
    assert found <= 2
    assert all(leaks(item, Context("random", item.demonstration, item.prompt)) for item in items)


def test_what_says_the_same():
    assert says_the_same("It is 4.\n", " it is  4.")
    assert says_the_same("3, I guess.\nAnswer: 4", "2 and 2.\nAnswer:  4")
    assert not says_the_same("return a - b", "return a + b")
    assert not says_the_same("So it is.\nIt is 4.", "Indeed.\nIt is 4.")  # no line of an answer
    assert not says_the_same("", "4")

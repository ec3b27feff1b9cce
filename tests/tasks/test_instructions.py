import json
import re
from collections import Counter

import pytest

from unisd.errors import UsageError
from unisd.tasks import get
from unisd.tasks.constraints import KINDS, prepared, sentences_of, verdicts, words_of
from unisd.tasks.instructions import Instructions, read_prompts

EXAMPLES = Instructions().load("test")
GENERIC = (
    "The quick brown fox, so they say, jumps over 2 lazy dogs every day; people vex each other with it. Nobody knows "
    "why. However, a good many typists have used this line since 1885, and it still works well. Keyboards change, "
    "habits do not. Is that not odd? Perhaps we simply like what we know. In any case, practice makes perfect, as the "
    "proverb has it, and so the fox goes on jumping, always."
)
COUNTS = {1: "one", 2: "two|both|twice", 3: "three", 4: "four", 5: "five", 6: "six"}
SAYS = {
    "sentences": "sentences", "words_at_most": "words", "words_at_least": "words", "sentences_begin": "sentences?",
    "contains": "words|mentions", "without_words": "words?|without|do not use", "word_times": "word",
    "without_letter": "letter",
    "without_commas": "commas?", "without_digits": "digits?", "lowercase": "lower ?case|capital letters?",
    "uppercase": "upper ?case|capital letters|lower case", "bullets": "bullet points", "numbered": "numbered list",
    "lines": "lines", "paragraphs": "paragraphs", "title": "title", "quoted": "double quotation marks",
    "begins_with": "begins?|starts?|starting|first words", "ends_with": "ends?|finish|close|last",
    "one_of": "one|only",
    "json_keys": "json",
}  # fmt: skip


def stated(parameter, prompt: str) -> bool:
    """Whether a prompt states a parameter: numbers as digits or words, texts in quotes or in a list."""
    if parameter is True:
        return True
    if isinstance(parameter, int):
        return bool(re.search(rf"(?i)\b(?:{parameter}|{COUNTS.get(parameter, parameter)})\b", prompt))
    if isinstance(parameter, dict):
        times = {2: "exactly twice"}.get(parameter["times"], f"exactly {COUNTS[parameter['times']]} times")
        return f'"{parameter["word"]}"' in prompt and times in prompt
    if isinstance(parameter, list):
        return all(f'"{text}"' in prompt or re.search(rf"[:,] {text}[,.]| {text},", prompt) for text in parameter)
    return f'"{parameter}"' in prompt or (len(parameter) == 1 and f"letter {parameter}" in prompt)


def test_there_are_enough_of_every_kind():
    uses = Counter(kind for example in EXAMPLES for kind in example.fields["constraints"])
    assert len(EXAMPLES) >= 160
    assert uses.keys() == KINDS.keys()
    assert min(uses.values()) >= 7
    assert sum(len(example.fields["constraints"]) > 1 for example in EXAMPLES) >= 40
    assert len({example.prompt for example in EXAMPLES}) == len(EXAMPLES)


def test_a_prompt_states_what_is_checked():
    for example in EXAMPLES:
        for kind, parameter in example.fields["constraints"].items():
            assert stated(parameter, example.prompt), (kind, example.prompt)
            assert re.search(rf"(?i)\b(?:{SAYS[kind]})\b", example.prompt), (kind, example.prompt)
        assert example.prompt == prepared(example.prompt)
    assert not stated(3, "Use exactly four sentences.")
    assert not stated(["red", "blue"], 'Use "red".')


def test_a_prompt_can_be_followed_and_is_not_by_chance():
    task = Instructions()
    for example in EXAMPLES:
        grade = task.grade(example, task.gold(example))
        assert (grade.correct, grade.note, grade.scores) == (True, "", {"constraints": 1.0}), example.prompt
        for text in ("", " \n", example.prompt, GENERIC):
            assert not task.grade(example, text).correct, example.prompt
        alone = verdicts(example.prompt, example.fields["constraints"])  # without the rule against repeating the prompt
        assert not all(alone.values()), example.prompt


def test_the_paragraph_is_an_ordinary_one():
    assert (len(sentences_of(GENERIC)), len(words_of(GENERIC))) == (7, 74)
    assert set("abcdefghijklmnopqrstuvwxyz") <= set(GENERIC.lower())


def test_replies_fit_into_the_room_for_them():
    assert max(len(words_of(example.answer)) for example in EXAMPLES) * 1.4 <= Instructions.max_new_tokens


def test_a_grade_says_what_was_not_followed():
    example = next(e for e in EXAMPLES if e.fields["constraints"].keys() == {"numbered", "lowercase"})
    grade = get("instructions").grade(example, "1. Red\n2. Blue")
    assert (grade.correct, grade.parsed) == (False, "1. Red\n2. Blue")
    assert (grade.note, grade.scores) == ("not followed: numbered, lowercase", {"constraints": 0.0})
    half = get("instructions").grade(example, "1. red\n2. blue")
    assert (half.note, half.scores) == ("not followed: numbered", {"constraints": 0.5})
    assert get("instructions").grade(example, " ").parsed is None
    cut = get("instructions").grade(example, example.answer, cut=True)
    assert (cut.correct, cut.note) == (False, "not followed: numbered")


def test_items_are_grouped_by_their_kind():
    groups = Counter(Instructions().group(example) for example in EXAMPLES)
    assert groups.keys() - KINDS.keys() == {"several constraints"}
    assert groups["bullets"] >= 6


def test_other_splits_and_sources_are_refused(tmp_path):
    assert Instructions().load("test", "sample") == EXAMPLES
    with pytest.raises(UsageError, match="instructions has no split 'train'; choose one of test"):
        Instructions().load("train")
    for source in ("hub", str(tmp_path)):
        with pytest.raises(UsageError, match="come with the package; use the source 'sample'"):
            Instructions().load("test", source)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "prompt": "p", "reply": "r"}, "line 2: the field 'constraints' is missing"),
        ({"id": "a", "prompt": "p", "reply": "r", "constraints": {"rhymes": 1}}, "line 2: .* no kind of constraint"),
        ({"id": "a", "prompt": "p", "reply": "r", "constraints": []}, "line 2: .* a mapping"),
        ({"id": "i", "prompt": "p", "reply": "r", "constraints": {"lines": 1}}, "the id i comes a second time"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, row, message):
    good = {"id": "i", "prompt": "p", "reply": "r", "constraints": {"lines": 1}}
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=message):
        read_prompts(path)

import time

import pytest

from unisd.errors import UsageError
from unisd.tasks.constraints import KINDS, check_constraints, prepared, sentences_of, verdicts, words_of

TEXTS = [
    ("One. Two! Three? Four…", 4),
    ("Dr. Smith met Mrs. Jones at 5 p.m. on Mill St. in Leeds. They spoke.", 2),
    ("It closes at 5 p.m. Then we left.", 2),
    ("We saw lamps, beds, etc. Nobody bought any.", 2),
    ("Use nuts, e.g. almonds, i.e. no seeds, approx. ten. Done.", 2),
    ("J. R. R. Tolkien wrote it. George W. Bush did not.", 2),
    ("There is no plan B. It failed. So did I. Then we slept.", 4),
    ("Did he agree? No. He left. See No. 5 and p. 12.", 4),
    ("He lives in the U.S. and works. He left the U.S. The end.", 3),
    ("It costs 3.50 euros at shop.example.org now.", 1),
    ("1. First comes this. 2. Then that.", 2),
    ("1. Wash it\n2. Dry it\n3. Fold it", 3),
    ("- Wash it\n* Dry it\n• Fold it", 3),
    ("A heading\n\nA text without an end", 2),
    ("One line\nthat goes on.", 1),
    ("Well... maybe. Well... Maybe.", 3),
    ('"Stop!" he cried. "It is late." He ran.', 3),
    ('"It is late." she said. (So it was.) We went.', 3),
    ("He said “No.” Then he left.", 2),
    ("Wait!!! What?! Go.", 3),
    ("all small. two of them! and a third", 3),
    ("all small (indeed.) and so on", 2),
    ("**Bold one.** _Slanted two._", 2),
    ("これは本です。それは猫です！", 2),
    ("\n---\n***\n! ? ...", 0),
    ("Straße. Éclair. Ωmega.", 3),
    ("", 0),
]


@pytest.mark.parametrize(("text", "count"), TEXTS)
def test_sentences(text, count):
    found = sentences_of(prepared(text))
    assert len(found) == count, found
    assert "".join("".join(found).split()) in "".join(prepared(text).split()) or count == 0 or "\n" in text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one two  three\nfour", 4),
        ("it's well-known, isn't it", 4),
        ("a — b – c -- d", 4),
        ("yes—no", 2),
        ("- * ... !", 0),
        ("costs 3.50 euros", 3),
        ("naïve Ωmega", 2),
    ],
)
def test_words(text, count):
    assert len(words_of(text)) == count


FOLLOWED = {
    "sentences": (2, ["One. Two.", "  One. Two. \n", "Mr. A. Jones left. He ran."], ["One.", "One. Two. Three."]),
    "words_at_most": (3, ["one two three", "one", "one - two"], ["one two three four", "one—two—three—four"]),
    "words_at_least": (3, ["one two three", "a b c d"], ["one two", "one two -- !"]),
    "sentences_begin": (
        "S",
        ["So. Say it.", "some. such.", '"Stop!" Sam said.', "- Sun\n- Sea", "So it was. 'So be it.'"],
        ["So. Then.", "So on\n\nand on", "Ša. So."],
    ),
    "contains": (
        ["ice", "cold tea"],
        ["ICE and Cold  tea.", "cold\ntea, (ice)", "ice's place, cold tea"],
        ["ice, tea", "mice and cold tea", "iced cold tea"],
    ),
    "without_words": (["ice", "tea"], ["mice steal", "iced teapot"], ["Ice", "a tea.", "TEA-time"]),
    "word_times": (
        {"word": "sea", "times": 2},
        ["Sea, sea", "the sea's season: SEA"],
        ["sea", "sea sea sea", "seas sea", "season sea"],
    ),
    "without_letter": ("e", ["A cat is in.", "ß"], ["we", "WE", "café", "cafe\u0301", "É"]),
    "without_commas": (True, ["one; two"], ["one, two", "一，二", "١،٢"]),
    "without_digits": (True, ["five", "VII"], ["5", "five5", "x²", "①", "٣"]),
    "lowercase": (True, ["all small, 5!", "ß é"], ["One", "aB", "É", "5!", "ǅ"]),
    "uppercase": (True, ["ALL LARGE, 5!", "É"], ["ONE two", "OnE", "STRAßE", "5!"]),
    "bullets": (
        2,
        ["- a\n- b", "* a\n+ b", "Here:\n\n• a\n  ◦ b\nDone.", "– a\n— b\n---", "-\ta\n-\tb", "- a\r\n- b"],
        ["- a", "- a\n- b\n- c", "1. a\n2. b", "-a\n-b", "* * *\n- a", "- a\n-   ", "**a**\n**b**"],
    ),
    "numbered": (
        2,
        ["1. a\n2. b", "1) a\n\n2) b", "So:\n **1.** a\n **2.** b\nDone."],
        ["1. a", "2. a\n1. b", "1. a\n2. b\n3. c", "1. a\n1. b", "- a\n- b", "1.a\n2.b", "1. a 2. b"],
    ),
    "lines": (2, ["a\nb", "a\n\nb\n", "a\r\nb", "a\n***\nb"], ["a", "a\nb\nc"]),
    "paragraphs": (2, ["a\n\nb", "a\nb\n \t\n\nc", "a\r\n\r\nb", "a\n\n***\n\nb"], ["a\nb", "a\n\nb\n\nc", "a"]),
    "title": (
        True,
        ["<<A title>>\ntext", "<<A>>  \n\ntext"],
        ["<<A>>", "<A>\ntext", "text <<A>>\ntext", "<<A>> text\nmore", "<<>>\ntext", "text\n<<A>>", "<<A>>\n---"],
    ),
    "quoted": (True, ['"yes"', "“yes”", ' "a. b" '], ["yes", '"yes', '"yes" he said', "'yes'", '""', '"', '"!"']),
    "begins_with": ("It is", ["It is so", "It is", " It is, then"], ["it is so", "It isn't", "Well, It is", '"It is"']),
    "ends_with": (
        "the end.",
        ["It is the end.", "the end.", "the end.\n"],
        ["The End.", "the end", "the end. Really.", '"the end."', "bathe end."],
    ),
    "one_of": (["yes", "not now"], ["yes", "Yes.", " not now\n"], ["yes!", "yes, sure", "no", "yes not now", '"yes"']),
    "json_keys": (
        ["a", "b"],
        ['{"a": 1, "b": [2]}', '```json\n{"b": 1,\n "a": {}}\n```', '```\n{"a": "", "b": null}\n```',
         '~~~\n{"a":1,"b":2}\n~~~'],
        [
            '{"a": 1}', '{"a": 1, "b": 2, "c": 3}', '{"a": 1, "a": 2, "b": 3}', '{"a": 1, "b": 2,}', "{'a': 1, 'b': 2}",
            'Here: {"a": 1, "b": 2}', '{"a": 1, "b": 2} Done.', '```json\n{"a": 1, "b": 2}\n```\nDone', '["a", "b"]',
            '{"a": NaN, "b": 1}', '{"a": {"b": 1}}', "[" * 100_000, '```json\n{"a": 1, "b": 2}', '"a"',
        ],
    ),
}  # fmt: skip


def test_every_kind_has_its_table():
    assert FOLLOWED.keys() == KINDS.keys()
    assert len(KINDS) >= 12


@pytest.mark.parametrize("kind", FOLLOWED)
def test_replies_that_follow_a_constraint_and_replies_that_do_not(kind):
    parameter, passing, failing = FOLLOWED[kind]
    check_constraints({kind: parameter})
    assert [text for text in passing if not verdicts(text, {kind: parameter})[kind]] == []
    assert [text for text in failing if verdicts(text, {kind: parameter})[kind]] == []
    assert not any(verdicts(text, {kind: parameter})[kind] for text in ("", " \n", "...", "\ud800"))


def test_each_constraint_of_several_is_judged_by_itself():
    said = {"sentences": 2, "without_commas": True, "lowercase": True}
    assert verdicts("One, two. Three.", said) == {"sentences": True, "without_commas": False, "lowercase": False}


def test_repeating_the_prompt_follows_nothing():
    prompt = "Describe a cat without commas."
    assert verdicts(f" {prompt}\n", {"without_commas": True}, prompt) == {"without_commas": False}
    assert verdicts(f"{prompt} Cats purr.", {"without_commas": True}, prompt) == {"without_commas": True}


@pytest.mark.parametrize("kind", FOLLOWED)
def test_a_reply_that_was_cut_off_follows_what_has_been_settled_alone(kind):
    parameter, passing, _ = FOLLOWED[kind]
    assert verdicts(passing[0], {kind: parameter}, cut=True) == {kind: not KINDS[kind].whole}


LONG = [
    "." * 60_000 + "x", "e.g. " * 12_000, "- " + " " * 60_000, "\n" * 60_000, "`" * 60_000, "```" + " " * 60_000,
    "A." * 30_000, "a" * 60_000, "<" * 60_000, '{"a":' * 12_000, "1. " * 20_000, "! " * 30_000, "." + '"' * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=[text[:6].strip() for text in LONG])
def test_no_reply_is_slow_to_check(text):
    start = time.process_time()
    for kind, (parameter, _, _) in FOLLOWED.items():
        verdicts(text, {kind: parameter})
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([], "a mapping from kinds"),
        ({}, "a mapping from kinds"),
        ({"rhymes": 2}, "no kind of constraint 'rhymes'; use sentences"),
        ({"sentences": 0}, "sentences: 0 cannot be"),
        ({"sentences": True}, "sentences: True cannot be"),
        ({"sentences": "3"}, "sentences: '3' cannot be"),
        ({"without_commas": False}, "without_commas: False cannot be"),
        ({"without_letter": "ab"}, "without_letter: 'ab' cannot be"),
        ({"ends_with": ""}, "ends_with: '' cannot be"),
        ({"contains": "word"}, "contains: 'word' cannot be"),
        ({"contains": []}, r"contains: \[\] cannot be"),
        ({"word_times": {"word": "a"}}, "word_times: .* cannot be"),
    ],
)
def test_constraints_that_are_none_are_named(constraints, message):
    with pytest.raises(UsageError, match=message):
        check_constraints(constraints)

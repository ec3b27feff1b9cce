"""The house task: its generator, what its splits share, and how answers are read."""

import hashlib
import json
from collections import Counter
from importlib import resources

import pytest

from unisd.errors import UsageError
from unisd.tasks import get
from unisd.tasks.base import NegativeRequest
from unisd.tasks.house import SPLITS, House, documentation, functions, phrases, written
from unisd.tasks.tools import Call

TASK = House()
ITEMS = {split: TASK.load(split) for split in SPLITS}
FIRST = ITEMS["test"][0]


def words(text):
    """A text as a careless reader would compare it."""
    return "".join(filter(str.isalnum, text.casefold()))


def test_each_split_has_its_number_of_items_and_all_functions_in_turn():
    assert {split: len(items) for split, items in ITEMS.items()} == {"train": 700, "validation": 140, "test": 350}
    for items in ITEMS.values():
        assert len({example.id for example in items}) == len({example.question for example in items}) == len(items)
        assert set(Counter(TASK.group(example) for example in items).values()) == {len(items) // len(functions())}
        assert [TASK.group(example) for example in items[:7]] == list(functions())


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_splits_share_neither_phrasings_nor_values(one, other):
    for kind in ("phrasings", "values"):
        for name, of in phrases()[kind].items():
            both = [{words(str(text)) for text in of[split]} for split in (one, other)]
            assert not both[0] & both[1], name
            assert all(len(found) == len(of[split]) for found, split in zip(both, (one, other), strict=True)), name
    used = [
        {(name, words(str(value))) for e in ITEMS[split] for name, value in e.fields["calls"][0]["arguments"].items()}
        for split in (one, other)
    ]
    assert not used[0] & used[1]
    assert not {e.fields["phrasing"] for e in ITEMS[one]} & {e.fields["phrasing"] for e in ITEMS[other]}
    assert not {words(e.question) for e in ITEMS[one]} & {words(e.question) for e in ITEMS[other]}


def test_every_request_says_all_that_its_call_needs():
    for example in (example for items in ITEMS.values() for example in items):
        call = example.fields["calls"][0]
        assert list(call["arguments"]) == functions()[call["name"]]["arguments"]
        assert all(str(value) in example.question for value in call["arguments"].values())
        assert example.prompt == f"{documentation()}\n\nRequest: {example.question}"
        assert json.loads(example.demonstration) == {"name": call["name"], "arguments": call["arguments"]}
        assert TASK.grade(example, example.demonstration).correct


def test_the_items_are_always_the_same_and_the_options_draw_others():
    questions = "\n".join(example.question for split in SPLITS for example in House().load(split, "sample"))
    assert hashlib.sha256(questions.encode()).hexdigest()[:16] == "1ffb5e47a81c7b8c"
    few, other = get("house:train=21,test=7").load("train"), get("house:seed=1").load("train")
    assert few == ITEMS["train"][:21]
    assert [example.question for example in other] != [example.question for example in ITEMS["train"]]


def test_a_guesser_is_never_right():
    keys = Counter(example.answer for example in ITEMS["test"])
    assert max(keys.values()) / len(ITEMS["test"]) < 0.02
    assert TASK.chance(FIRST) == 0
    asked = [example for example in ITEMS["test"] if TASK.group(example) == "light"]
    said = [example.demonstration for example in ITEMS["train"] if TASK.group(example) == "light"]
    assert not any(TASK.grade(example, text).correct for example in asked for text in said[:20])


def test_the_licence_comes_with_the_data():
    data = resources.files("unisd.tasks") / "data/house"
    assert "MIT No Attribution" in (data / "LICENSE").read_text(encoding="utf-8")
    assert "licence" in (data / "README.md").read_text(encoding="utf-8")


LAMP = Call("light", FIRST.fields["calls"][0]["arguments"])
ROOM, LEVEL = LAMP.arguments["room"], LAMP.arguments["level"]


@pytest.mark.parametrize(
    ("text", "correct", "note"),
    [
        (written(LAMP), True, ""),
        (f"Sure!\n```json\n{written(LAMP)}\n```", True, ""),
        (f'[{{"name": "light", "arguments": {{"level": {LEVEL}, "room": "{ROOM}"}}}}]', True, ""),
        (f'light(room="{ROOM}", level={LEVEL})', True, ""),
        (written(Call("light", {"room": ROOM.upper(), "level": f" {LEVEL}"})), True, ""),
        (written(Call("light", {"room": ROOM, "level": float(LEVEL)})), True, ""),
        (written(Call("light", {"room": ROOM, "level": LEVEL + 1})), False, "wrong arguments"),
        (written(Call("light", {"room": ROOM})), False, "wrong arguments"),
        (written(Call("light", {"room": ROOM, "level": LEVEL, "color": "red"})), False, "wrong arguments"),
        (written(Call("light", {"room": ROOM, "brightness": LEVEL})), False, "wrong arguments"),
        (written(Call("light", {"room": f"the {ROOM}", "level": LEVEL})), False, "wrong arguments"),
        (written(Call("heat", {"room": ROOM, "level": LEVEL})), False, "wrong function"),
    ],
)
def test_what_is_readable_is_graded_by_function_and_arguments(text, correct, note):
    grade = TASK.grade(FIRST, text)
    assert (grade.correct, grade.note) == (correct, note)
    assert grade.parsed is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"The lamp in the {ROOM} is at {LEVEL} now.",
        written(Call("set_lamp", LAMP.arguments)),
        f"{written(LAMP)}\n{written(LAMP)}",
        json.dumps({"room": ROOM, "level": LEVEL}),
        '{"name": 3}',
        "[" * 5000,
    ],
)
def test_what_holds_no_single_documented_call_is_unreadable(text):
    grade = TASK.grade(FIRST, text)
    assert (grade.correct, grade.parsed, dict(grade.scores)) == (False, None, {"function": 0.0, "arguments": 0.0})


def test_scores_tell_the_function_from_its_arguments():
    half = TASK.grade(FIRST, written(Call("light", {"room": ROOM, "level": LEVEL + 1}))).scores
    assert half == {"function": 1.0, "arguments": 0.5}


def test_a_negative_is_surely_wrong_and_set_like_the_gold():
    request = NegativeRequest("", "wrong arguments")
    assert len(TASK.negative_requests(FIRST)) == 4
    wrong = Call("light", {"room": ROOM, "level": LEVEL + 1})
    assert TASK.negative(FIRST, request, f"Here: {written(wrong)}") == written(wrong)
    loose = Call("light", {"lamp": f"{ROOM}.", "brightness": str(LEVEL)})
    for text in (written(LAMP), written(loose), "none", written(Call("oven", {}))):
        assert TASK.negative(FIRST, request, text) is None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("house:train=0", "house:train=0: use 1 to"),
        ("house:test=100000", "house:test=100000: use 1 to"),
        ("house:items=3", "no option 'items'"),
    ],
)
def test_options_are_checked(name, says):
    with pytest.raises(UsageError, match=says):
        get(name)


def test_there_is_nothing_to_read_items_from(tmp_path):
    with pytest.raises(UsageError, match="leave the source out"):
        TASK.load("train", str(tmp_path))
    with pytest.raises(UsageError, match="no split 'dev'"):
        TASK.load("dev")

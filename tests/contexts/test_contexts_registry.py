import pkgutil
import re
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from contexts.items import Hint, made, numbered, registered
from unisd.contexts import Context, ContextKind, Made, Words, get, kinds, known, register, registry
from unisd.contexts.others import ANOTHER
from unisd.errors import UniSDError, UsageError

OWN = {
    "gold": ("item", "{question}"),
    "induction": ("general", "How should I go about questions of the kind that I am going to ask you?"),
    "negative": ("item", None),
    "random": ("another", "{question}"),
    "retrieval": ("another", "{question}"),
}


@pytest.fixture(autouse=True)
def _own_table():
    with registered():
        yield


@pytest.fixture
def installed(monkeypatch):
    def install(**points):
        listed = [EntryPoint(name, value, "unisd.contexts") for name, value in points.items()]
        monkeypatch.setattr("unisd.registry.entry_points", lambda group: listed if group == "unisd.contexts" else [])

    monkeypatch.setitem(sys.modules, "hints", types.SimpleNamespace(Hint=Hint))
    return install


def own_kind(kind_name, **parts):
    return type("Own", (Hint,), {"name": kind_name, **parts})


def test_every_file_of_the_folder_is_a_kind():
    folder = Path(kinds.__file__).parent
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert files == sorted(OWN) == [name for name in known() if name in OWN]
    assert files == sorted(module.name for module in pkgutil.iter_modules(kinds.__path__))


@pytest.mark.parametrize("name", OWN)
def test_the_packages_own_kinds(name):
    kind, (about, asked) = get(name), OWN[name]
    assert isinstance(kind, ContextKind)
    assert type(kind).__module__ == f"unisd.contexts.kinds.{name}"
    assert type(kind).__name__ == name.title()
    assert (kind.name, kind.about) == (name, about)
    assert len(kind.summary) > 10
    assert "\n" not in kind.summary
    if asked is None:
        assert kind.words == "gold"
        return
    assert kind.words.asked == asked
    for template in (kind.words.after, kind.words.before):
        assert "{text}" in template
        assert ("{question}" in template) == (about == "another")
        assert "in your own way" in template
        assert template.endswith("in the same format.") == (about != "general")
    assert kind.words is ANOTHER or about != "another"


def test_the_two_places_of_a_context_are_told_apart():
    # After the question, the context speaks of "this" one or of the one at the top; before it, of the next.
    for name, after, before in (("gold", "this question", "the next question"), ("random", "at the top", "comes next")):
        words = get(name).words
        assert after in words.after
        assert before in words.before
        assert after not in words.before
        assert before not in words.after


def test_one_object_serves_all_who_ask():
    assert get("gold") is get("gold")
    register(Hint)
    assert get("hint") is get("hint")


def test_listing_imports_no_kind(installed, monkeypatch):
    def fail(name):
        raise AssertionError(name)

    registry.KINDS.entries["gold"] = "unisd.contexts.kinds.gold:Gold", ""
    installed(hint="hints:Hint")
    monkeypatch.setattr("unisd.registry.importlib.import_module", fail)
    assert known() == sorted([*OWN, "hint"])
    with pytest.raises(UniSDError, match=r"AssertionError: unisd\.contexts\.kinds\.gold"):
        get("gold")


@pytest.mark.parametrize("name", ["golden", "GOLD", "gold ", "glod"])
def test_a_name_nearly_right_is_answered_with_the_right_one(name):
    with pytest.raises(UsageError, match=f"no kind of context '{name}'; did you mean 'gold'"):
        get(name)


@pytest.mark.parametrize("name", ["zebra", ""])
def test_a_name_far_off_is_answered_with_all_names(name):
    register(Hint)
    with pytest.raises(UsageError, match="choose one of gold, hint, induction, negative, random, retrieval"):
        get(name)


def test_a_kind_of_ones_own_is_made_and_known_by_name():
    assert register(Hint) is Hint
    assert known() == sorted([*OWN, "hint"])
    assert isinstance(get("hint"), Hint)
    found = made("hint", numbered(2)).contexts
    assert found == [[Context("hint", f"Reasoning: thing {i} is made so")] for i in range(2)]


def test_a_kind_need_not_be_a_subclass():
    class Loose:
        name, summary, about, words = "loose", "one of ours", "general", Words("{text}", "{text}")

        def make(self, need, making):
            return Made([[Context("loose", "Think.")] for _ in making.examples])

    register(Loose)
    assert made("loose", numbered(1)).contexts == [[Context("loose", "Think.")]]


def test_the_newest_class_of_a_name_counts():
    register(Hint)
    newer = register(own_kind("hint", about="general"))
    assert type(get("hint")) is newer
    assert known().count("hint") == 1


@pytest.mark.parametrize("name", OWN)
def test_the_packages_own_names_are_not_for_others(name):
    before = get(name)
    with pytest.raises(UsageError, match=f"there is a kind of context '{name}' already"):
        register(own_kind(name))
    assert get(name) is before


@pytest.mark.parametrize("name", ["", " ", "two words", "line\n"])
def test_a_name_is_one_word(name):
    with pytest.raises(UsageError, match="one word without spaces"):
        register(own_kind(name))
    assert known() == sorted(OWN)


@pytest.mark.parametrize("part", ["name", "summary", "about", "words"])
def test_a_kind_that_lacks_a_part_is_told_so(part):
    parts = {"name": "half", "summary": "a half", "about": "item", "words": "gold"}
    del parts[part]
    name = parts.get("name", "")
    with pytest.raises(UsageError, match=f"kind of context '{name}': it lacks {part}; see unisd.contexts.ContextKind"):
        register(type("Half", (ContextKind,), parts))
    assert "half" not in known()


def test_what_is_no_kind_is_told_all_that_it_lacks():
    with pytest.raises(UsageError, match="it lacks name, summary, about, words, make"):
        register(dict)


def test_kinds_of_other_packages_are_found(installed):
    installed(hint="hints:Hint")
    assert known() == sorted([*OWN, "hint"])
    assert isinstance(get("hint"), Hint)
    assert get("hint") is get("hint")
    assert made("hint", numbered(1)).contexts == [[Context("hint", "Reasoning: thing 0 is made so")]]
    newer = register(own_kind("hint"))
    assert type(get("hint")) is newer


def test_other_packages_displace_no_name_of_ours(installed):
    registry.KINDS.entries["gold"] = "unisd.contexts.kinds.gold:Gold", ""  # as if nobody had asked for it yet
    installed(gold="hints:Hint")
    assert known() == sorted(OWN)
    assert get("gold").summary == "the item's own demonstration"


@pytest.mark.parametrize("value", ["no_such_module_of_mine:Hint", "hints:Missing"])
def test_code_of_other_packages_that_cannot_be_imported_is_named(installed, value):
    installed(broken=value)
    with pytest.raises(UniSDError, match=r"kind of context 'broken' cannot be loaded: .*; repair the package"):
        get("broken")
    with pytest.raises(UniSDError, match="cannot be loaded"):
        Context("broken", "a")


def test_another_package_must_call_a_kind_as_its_entry_point_does(installed):
    installed(tip="hints:Hint", nothing="builtins:dict")
    with pytest.raises(UsageError, match="kind of context 'tip': its class calls it 'hint'"):
        get("tip")
    with pytest.raises(UsageError, match="kind of context 'nothing': it lacks name"):
        get("nothing")


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"about": "itm"}, "about is 'itm'; use item, another or general"),
        ({"words": Words("x", "y")}, "give it Words with {text} in them"),
        ({"words": "nowhere"}, "or the name of another kind"),
        ({"words": "hollow"}, "or the name of another kind"),
    ],
)
def test_parts_that_could_show_nothing_are_refused(parts, fault):
    good = {"name": "hollow", "summary": "", "about": "item", "words": "gold"}
    with pytest.raises(UsageError, match=re.escape(fault)):
        register(type("Hollow", (ContextKind,), good | parts))

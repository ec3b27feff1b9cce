"""Tasks by name: cheap to list, imported when asked for, and wrong names answered with the nearest."""

import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest

from unisd.errors import UniSDError, UsageError
from unisd.tasks import Example, Grade, Task, get, names, register, registry, summary
from unisd.tasks.cos_e import CosE


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(registry.TASKS, "entries", dict(registry.TASKS.entries))


@pytest.fixture
def installed(monkeypatch):
    def install(**points: str) -> None:
        made = [EntryPoint(name, value, "unisd.tasks") for name, value in points.items()]
        monkeypatch.setattr("unisd.registry.entry_points", lambda group: made if group == "unisd.tasks" else [])

    return install


def test_the_built_in_tasks_are_tasks_under_their_own_names():
    assert "cos_e" in names()
    assert names() == sorted(names())
    for name in names():
        task = get(name)
        assert isinstance(task, Task)
        assert task.name == name
        assert summary(name)


def test_each_call_makes_a_task_of_its_own():
    assert isinstance(get("cos_e"), CosE)
    assert get("cos_e") is not get("cos_e")


@pytest.mark.parametrize("name", ["cose", "cos-e", "COS_E", "coss_e"])
def test_a_name_nearly_right_is_answered_with_the_right_one(name):
    for call in (get, summary):
        with pytest.raises(UsageError, match=f"no task '{name}'; did you mean 'cos_e'"):
            call(name)


def test_a_name_far_off_is_answered_with_all_names():
    with pytest.raises(UsageError, match=r"no task 'zebra'; choose one of .*cos_e"):
        get("zebra")
    with pytest.raises(UsageError):
        get("")


def test_listing_imports_no_task_and_nothing_heavy():
    code = (
        "import sys; from unisd.tasks import names, summary; [summary(name) for name in names()]; "
        "heavy = {'torch', 'transformers', 'datasets', 'unisd.tasks.cos_e'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_task_can_be_registered_by_class_by_path_by_function_and_ready_made(monkeypatch):
    register("mine", CosE, "a task of mine")
    register("theirs", "unisd.tasks.cos_e:CosE")
    register("made", lambda: CosE())
    assert all(isinstance(get(name), CosE) for name in ("mine", "theirs", "made"))
    register("ready", "tests_own_module:task")
    monkeypatch.setitem(sys.modules, "tests_own_module", types.SimpleNamespace(task=CosE()))
    assert get("ready") is sys.modules["tests_own_module"].task
    assert summary("mine") == "a task of mine"
    assert {"mine", "theirs", "made"} < set(names())


def test_a_taken_name_is_replaced_only_on_purpose():
    with pytest.raises(UsageError, match="there is a task 'cos_e' already"):
        register("cos_e", CosE)
    register("cos_e", lambda: CosE(), "mine", replace=True)
    assert summary("cos_e") == "mine"


@pytest.mark.parametrize("name", ["", " ", "two words", "line\n"])
def test_a_name_must_be_one_word(name):
    with pytest.raises(UsageError, match="one word"):
        register(name, CosE)


@pytest.mark.parametrize("path", ["unisd.tasks.cos_e", "unisd.tasks.cos_e:", ":CosE", ""])
def test_a_path_must_name_module_and_class(path):
    with pytest.raises(UsageError, match=r"'package\.module:Class' was expected"):
        register("mine", path)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("no_such_module_of_mine:Task", "ModuleNotFoundError"),
        ("unisd.tasks.cos_e:NoSuchTask", "AttributeError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_task_that_cannot_be_made_is_named(factory, message):
    register("mine", factory)
    with pytest.raises(UniSDError, match=f"task 'mine' cannot be loaded: {message}") as caught:
        get("mine")
    assert not isinstance(caught.value, UsageError)


def test_what_is_no_task_is_told_what_it_lacks():
    class Half:
        name = "half"
        splits = ("train",)
        max_new_tokens = 1

        def load(self, split, source=None):
            return []

    register("half", Half)
    with pytest.raises(UsageError, match="task 'half' is no task: it lacks grade, negative, negative_requests"):
        get("half")


def test_an_object_with_the_parts_of_a_task_gets_the_defaults_for_the_rest():
    class Own:
        name = "own"
        splits = ("train",)
        max_new_tokens = 7
        runs_programs = True

        def load(self, split, source=None):
            return [Example("1", "p", "q", "a", "d", {"subject": "art"})]

        def grade(self, example, text):
            return Grade(text == example.answer, text)

        def negative_requests(self, example):
            return []

        def negative(self, example, request, text):
            return text

    register("own", Own)
    task = get("own")
    assert isinstance(task, Task)
    (example,) = task.load("train")
    assert task.grade(example, "a").correct
    assert (task.name, task.max_new_tokens, task.metric, task.runs_programs) == ("own", 7, "accuracy", True)
    assert (task.gold(example), task.options(example), task.chance(example), task.group(example)) == ("d", [], 0, "art")
    assert task.negative(example, None, "wrong") == "wrong"


def test_a_task_needs_but_loading_and_grading_and_a_name_and_splits():
    class Nameless(CosE):
        def __getattribute__(self, part):
            if part == "name":
                raise AttributeError
            return super().__getattribute__(part)

    class Abstract(Task):
        name = "abstract"

    register("nameless", Nameless)
    register("abstract", Abstract)
    with pytest.raises(UsageError, match="task 'nameless' is no task: it lacks name; see"):
        get("nameless")
    with pytest.raises(UniSDError, match=r"task 'abstract' cannot be loaded: TypeError.*grade.*load"):
        get("abstract")


def test_entry_points_are_found_and_do_not_displace_names_of_ones_own(installed):
    installed(cos_e="no_such_module:Task", plugin="unisd.tasks.cos_e:CosE", broken="no_such_module:Task")
    assert {"cos_e", "plugin", "broken"} <= set(names())
    assert isinstance(get("plugin"), CosE)
    assert summary("plugin") == "from unisd.tasks.cos_e:CosE"
    assert isinstance(get("cos_e"), CosE)
    with pytest.raises(UniSDError, match="task 'broken' cannot be loaded"):
        get("broken")
    with pytest.raises(UsageError, match="there is a task 'plugin' already"):
        register("plugin", CosE)

"""A study file: what it may say, and what is refused in one line that names the place."""

import pytest

from unisd.errors import UsageError
from unisd.studies.settings import read_study


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sedes": [1]}, "sedes"),
        ({"tasks": {"cos_e": {"tset": 5}}}, r"tasks\.cos_e.*tset"),
        ({"arms": {"a": {"recipe": "cor"}}}, "recipe 'cor'.*core"),
        ({"arms": {"a": {"set": {"trainig": {}}}}}, "trainig"),
        ({"arms": {"a": {"recipes": "core"}}}, r"arms\.a"),
        ({"settings": {"cliping": {"cap": 1}}}, "cliping.*clipping"),
        ({"designs": ["one-at-time"]}, "one-at-time.*one-at-a-time"),
        ({"designs": [{"sweep": "clipping", "values": [1]}]}, r"group\.field"),
        ({"designs": [{"sweep": "clipping.cap", "values": []}]}, "values"),
        ({"designs": [3]}, "3"),
        ({"control": "cor"}, "recipe 'cor'"),
        ({"full": "nothing"}, "recipe 'nothing'"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seed 1 stands twice"),
        ({"seeds": ["one"]}, "seeds"),
        ({"settings": {"training": {"seed": 3}}}, r"settings\.training\.seed"),
        ({"models": []}, "models"),
        ({"tasks": {}}, "tasks"),
        ({"evaluate": {"at": "all"}}, "evaluate.*at"),
        ({"evaluate": {"max_new_tokens": 0}}, "max_new_tokens"),
        ({"select": {"values": []}}, "values"),
        ({"select": {"setting": "learning_rate", "values": [1]}}, r"group\.field"),
        ({"select": {"values": [0.1]}, "tasks": {"cos_e": {"source": "sample"}}}, "validation"),
        ({"price": -1}, "price"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_that_names_it(small, changes, said):
    with pytest.raises(UsageError, match=said) as refused:
        small(**changes)
    assert "\n" not in str(refused.value)
    assert "small.yaml" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "- a\n", "tasks: [", "name: x\nname: y\n", "tasks: 3\n", "tasks: {cos_e: 3}\n", "arms: {a: 3}\n"]
)
def test_a_file_that_is_none(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_study(path)
    assert "\n" not in str(refused.value)
    assert "study.yaml" in str(refused.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(UsageError, match=r"none\.yaml"):
        read_study(tmp_path / "none.yaml")


def test_the_file_gives_the_name(tmp_path):
    path = tmp_path / "first.yaml"
    path.write_text("tasks: {cos_e: }\ndesigns: [one-at-a-time]\n")
    study = read_study(path)
    assert study.name == "first"
    assert study.tasks["cos_e"].test is None

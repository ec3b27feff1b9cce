"""``unisd check``: of a registered task, of a YAML file, of rows; exit code 1 where something is surely wrong."""

import json
from pathlib import Path

import pytest

from unisd.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task" / "task.yaml"


@pytest.fixture
def check(model_folder, capsys):
    def run(*words):
        capsys.readouterr()
        code = main(["check", *map(str, words), "--model", model_folder])
        return code, capsys.readouterr()

    return run


@pytest.fixture
def task(tmp_path):
    def write(rows, more="", test=None):
        for name, split in (("train", rows), ("test", test or [{"q": "9 and 9?", "a": 18}])):
            (tmp_path / f"{name}.jsonl").write_text(
                "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in split)
            )
        page = "name: sums\ndata: {train: train.jsonl, test: test.jsonl}\nprompt: '{q}'\n"
        (tmp_path / "task.yaml").write_text(f"{page}answer: {{type: number, column: a}}\n{more}")
        return tmp_path / "task.yaml"

    return write


SUMS = [{"q": f"{n} and {n}?", "a": 2 * n} for n in range(1, 9)]


def test_the_example_and_a_registered_task_are_fine(check):
    code, said = check(EXAMPLE)
    assert code == 0
    assert said.out.count("the student sees") == 3
    assert "<|im_start|>user" in said.out
    assert "right answers" in said.out
    assert "10 of 10 (100.0%)" in said.out
    assert said.out.splitlines()[-1] == "nothing is surely wrong; 0 to look at"
    code, said = check("cos_e", "--source", "sample", "--split", "validation", "--items", "1")
    assert code == 0
    assert "cos_e: validation 150" in said.out


def test_json_holds_what_was_found(check):
    code, said = check(EXAMPLE, "--json", "--set", "contexts.layout=turn", "--set", "contexts.max_prompt_length=99")
    found = json.loads(said.out)["result"]
    assert (code, found["name"], found["layout"], found["errors"]) == (0, "shop_sums", "turn", 0)
    assert found["counts"] == {"train": 6, "test": 4}
    assert found["grading"]["empty"]["share"] == 0
    assert found["lengths"]["train"]["teacher"]["over"] == 6
    assert any("contexts.max_prompt_length" in finding["what"] for finding in found["findings"])


def test_all_rows_that_cannot_be_read_are_named(check, task):
    code, said = check(task([*SUMS, {"q": "x"}, "{oops", {"q": "y", "a": "many"}]))
    assert code == 1
    assert "ERROR   3 of train: rows cannot be read; repair or remove them" in said.out
    for line in (9, 10, 11):
        assert f"train.jsonl, line {line}: " in said.out
    code, said = check(task([*SUMS, "{oops"], "on_error: drop\n"))
    assert code == 0
    assert "warning 1 rows of train cannot be read and are dropped" in said.out


def test_what_is_surely_wrong_is_an_exit_code(check, task):
    code, said = check(task(SUMS, test=SUMS[:2]))
    assert code == 1
    assert (
        "ERROR   2 of 2 items of test stand in train, too; remove them there (test: test/1, test: test/2)" in said.out
    )
    assert said.out.splitlines()[-1] == "1 surely wrong, 0 to look at: mend the errors before anything is trained"
    assert check(task(SUMS, test=SUMS[:2]), "--quiet")[1].out.startswith("ERROR   2 of 2 items of test stand in train")
    code, said = check(task(SUMS, test=SUMS[:2]), "--json")
    answer = json.loads(said.out)
    assert (answer["exit_code"], answer["status"]) == (code, "failed") == (1, "failed")
    assert answer["message"] == "sums: 1 surely wrong; mend that before anything is trained"
    assert answer["result"]["findings"][0]["ids"] == ["test: test/1", "test: test/2"]


def test_a_file_of_rows(check, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "privileged_context": f"{n}!"}) + "\n" for n in range(5)))
    code, said = check(path)
    assert code == 0
    assert "rows 5" in said.out
    path.write_text(path.read_text() + '{"prompt": 3}\n')
    assert check(path)[0] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cose"], "did you mean 'cos_e'?"),
        (["nowhere.yaml"], "cannot read nowhere.yaml"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file"),
        ([str(EXAMPLE.parent / "train.jsonl")], "no column 'prompt' (it has "),
        ([str(EXAMPLE.parent / "train.jsonl"), "--split", "train"], "--split: "),
        ([str(EXAMPLE), "--split", "dev"], "no split 'dev'"),
        ([str(EXAMPLE), "--items", "-1"], "--items: -1 is too few"),
        ([str(EXAMPLE), "--set", "contexts.layot=turn"], "did you mean"),
    ],
)
def test_what_cannot_be_checked_is_said_in_one_line(refused, model_folder, words, said):
    assert said in refused("check", *words, "--model", model_folder)


def test_a_split_without_its_file_is_named(check, task, capsys):
    path = task(SUMS)
    (path.parent / "test.jsonl").unlink()
    code, said = check(path)
    assert code == 2
    assert "test.jsonl: no such file; check the path" in said.err
    (path.parent / "test.jsonl").write_text("")
    code, said = check(path)
    assert code == 2
    assert "the split 'test' has no rows" in said.err


def test_limits_and_layout_are_those_of_the_recipe_and_the_draw_is_the_seeds(check):
    code, said = check(EXAMPLE, "--recipe", "core", "--set", "contexts.max_prompt_length=77", "--seed", "7", "--json")
    found = json.loads(said.out)["result"]
    assert (code, found["lengths"]["train"]["student"]["limit"]) == (0, 77)
    other = json.loads(check(EXAMPLE, "--seed", "8", "--json")[1].out)["result"]
    assert [seen["id"] for seen in found["seen"]] != [seen["id"] for seen in other["seen"]]

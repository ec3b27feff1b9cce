"""What data sets come as: one list of rows of all of them, or one line."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pyarrow
import pytest
import torch

from unisd.errors import UsageError
from unisd.training import data
from unisd.training.data import evaluation_rows, training_rows

ROWS = [{"prompt": f"What is {i}?", "privileged_context": f"It is {i}.", "n": i} for i in range(3)]


class Indexed(torch.utils.data.Dataset):
    def __len__(self):
        return len(ROWS)

    def __getitem__(self, i):
        return ROWS[i]


class Streamed(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter(ROWS)


class Polars:
    columns = tuple(ROWS[0])

    def to_dicts(self):
        return ROWS

    def to_dict(self):
        raise AssertionError


def table():
    return datasets.Dataset.from_list(ROWS)


SIZED = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "Dataset": table,
    "Dataset shown as tensors": lambda: table().with_format("torch"),
    "DataFrame": lambda: pd.DataFrame(ROWS),
    "polars": Polars,
    "Arrow": lambda: pyarrow.Table.from_pylist(ROWS),
    "torch": Indexed,
    "Subset": lambda: torch.utils.data.Subset(Indexed(), [0, 1, 2]),
    "DatasetDict": lambda: datasets.DatasetDict(train=table(), validation=table()),
}
STREAMS = {
    "IterableDataset": lambda: table().to_iterable_dataset(),
    "torch stream": Streamed,
    "generator": lambda: (row for row in ROWS),
    "IterableDatasetDict": lambda: datasets.IterableDatasetDict(
        train=table().to_iterable_dataset(), test=table().to_iterable_dataset()
    ),
}


@pytest.mark.parametrize("name", [*SIZED, *STREAMS])
def test_rows_of_every_container(name, capsys):
    make = (SIZED | STREAMS)[name]
    assert [dict(row) for row in training_rows(make())] == ROWS
    said = capsys.readouterr().err
    assert said.count("a stream has no length, so its 3 rows were read and are held in memory") == (name in STREAMS)
    held_out = evaluation_rows(make())
    assert isinstance(held_out, list)
    assert [dict(row) for row in held_out] == ROWS


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "Path"])
def test_rows_of_files(tmp_path, ending, kind):
    path = tmp_path / f"rows.{ending}"
    frame = pd.DataFrame(ROWS)
    if ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        {"json": lambda: frame.to_json(path, orient="records"), "csv": lambda: frame.to_csv(path, index=False)}.get(
            ending, lambda: frame.to_parquet(path)
        )()
    assert [{**row, "n": int(row["n"])} for row in training_rows(kind(path))] == ROWS


def test_an_empty_cell_of_a_csv_file_is_none(tmp_path):
    pd.DataFrame([{"prompt": "a", "id": 1}, {"prompt": "b", "id": None}]).to_csv(tmp_path / "r.csv", index=False)
    assert training_rows(tmp_path / "r.csv") == [{"prompt": "a", "id": "1.0"}, {"prompt": "b", "id": None}]

    (tmp_path / "folder").mkdir()
    (tmp_path / "r.csv").rename(tmp_path / "folder" / "train.csv")
    assert training_rows(tmp_path / "folder")[1] == {"prompt": "b", "id": None}


def test_a_transform_of_the_users_makes_the_rows():
    shown = table().with_transform(lambda rows: {"prompt": [text.upper() for text in rows["prompt"]]})
    assert training_rows(shown) == [{"prompt": row["prompt"].upper()} for row in ROWS]
    assert [dict(row) for row in training_rows(table().with_format("pandas"))] == ROWS


def test_several_sets_by_name():
    assert evaluation_rows({"a": ROWS[:1], "b": table()}) == {"a": ROWS[:1], "b": ROWS}
    assert training_rows({"train": ROWS, "test": ROWS[:1]}) == ROWS


def test_of_a_dataset_dict_the_split_for_validation_is_measured_on():
    splits = datasets.DatasetDict(test=table(), train=table(), validation=table().select([0]))
    assert evaluation_rows(splits) == ROWS[:1]
    del splits["validation"]
    assert evaluation_rows(splits) == ROWS
    del splits["test"]
    with pytest.raises(UsageError, match=r"eval_dataset: it holds train and no split 'validation'; choose one"):
        evaluation_rows(splits)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (datasets.DatasetDict(mine=table()), "it holds mine and no split 'train'; choose one"),
        ({}, "it holds nothing and no split 'train'"),
        ({"prompt": ["a"], "privileged_context": ["b"]}, "datasets.Dataset.from_dict"),
        (ROWS[0], "a mapping is no list of rows; put rows into a list"),
        ({"train": {"prompt": ["a"]}}, "a mapping is no list of rows"),
        (5, "no data set, but int"),
        (b"rows.jsonl", "no data set, but bytes"),
        (Indexed, "a function was given; call it"),
        (lambda: ROWS, "a function was given; call it"),
        (torch.utils.data.DataLoader(ROWS), "a DataLoader was given; give its data set"),
        (pd.DataFrame([[1, 2]], columns=["prompt", "prompt"]), "two columns 'prompt'; rename"),
        ("nowhere.jsonl", "no such file; check the path"),
        ("owner/name/more", "no file with one of the endings|no such file"),
        ("~nobody-of-this-name/rows.jsonl", "no such file; check the path"),
        ("/", "it is a folder, and none called train .* lies in it; name a file in it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_data_set_is_said(given, said):
    with pytest.raises(UsageError, match=said) as caught:
        training_rows(given)
    assert str(caught.value).startswith("train_dataset: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {1: ROWS}, {"": ROWS}])
def test_sets_have_names(given):
    with pytest.raises(UsageError, match="eval_dataset: a mapping of names to data sets was expected"):
        evaluation_rows(given)


def test_a_fault_of_one_of_several_sets_is_named():
    with pytest.raises(UsageError, match=r"eval_dataset\['b'\]: no data set, but int"):
        evaluation_rows({"a": ROWS, "b": 5})


def test_a_stream_without_end_is_refused(monkeypatch):
    def endless():
        while True:
            yield ROWS[0]

    monkeypatch.setattr(data, "STREAMED", 10)
    with pytest.raises(UsageError, match=r"a stream of more than 10 rows is not held; give a part of it"):
        training_rows(endless())
    assert len(training_rows(iter(ROWS * 3))) == 9


WITHOUT_DATASETS = """
import json, sys
sys.modules["datasets"] = None  # as where it is not installed
import tiny
from unisd.training.data import evaluation_rows
from unisd.training.trainer import UniSDTrainer

folder = sys.argv[1]
with open(f"{folder}/rows.jsonl", "w") as file:
    file.writelines(json.dumps(row) + chr(10) for row in tiny.rows(4))
arguments = tiny.arguments(f"{folder}/run", max_steps=1)
model = tiny.lora(tiny.model())
trainer = UniSDTrainer(model, arguments, train_dataset=f"{folder}/rows.jsonl", processing_class=tiny.tokenizer())
trainer.train()
assert evaluation_rows({"a": tiny.rows(1)})["a"] == tiny.rows(1)
print("steps", trainer.state.global_step)
"""


def test_the_package_datasets_is_not_needed(tmp_path):
    """Not to import the trainer, to read files and lists, or to take a step."""
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WITHOUT_DATASETS, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["steps 1"], done.stderr[-2000:]


def test_lines_of_a_file_that_are_no_rows_are_dropped_if_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a"}\n{oops\n{"prompt": "b"}\n')
    for read in (training_rows, lambda *given, **more: evaluation_rows(*given, **more)):
        with pytest.raises(UsageError, match=r"_dataset: .*line 2: not JSON"):
            read(path)
        assert read(path, on_error="drop") == [{"prompt": "a"}, {"prompt": "b"}]
        assert "1 of 3 rows (33.3%) are DROPPED" in capsys.readouterr().err


def test_folders_and_sets_on_the_hub(tmp_path, monkeypatch):
    datasets.DatasetDict(train=table(), test=table().select([0])).save_to_disk(tmp_path / "saved")
    (tmp_path / "files").mkdir()
    pd.DataFrame(ROWS).to_parquet(tmp_path / "files" / "train-00000-of-00001.parquet")
    pd.DataFrame(ROWS[:1]).to_json(tmp_path / "files" / "dev.jsonl", orient="records", lines=True)
    monkeypatch.setattr("unisd.hub.unreachable", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: {"train": ROWS, "validation": ROWS[:1]})
    for name in (tmp_path / "saved", tmp_path / "files", "owner/name"):
        assert [dict(row) for row in training_rows(name)] == ROWS
        assert [dict(row) for row in evaluation_rows(name)] == ROWS[:1]
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, split: {"one": ROWS})
    with pytest.raises(UsageError, match=r"train_dataset: .* it holds one and no split 'train'"):
        training_rows("owner/name")

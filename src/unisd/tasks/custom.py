"""A task of one's own from a small YAML file; docs/custom_tasks.md shows every key."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from unisd.errors import UsageError
from unisd.tasks.base import Example, NegativeRequest, Task
from unisd.tasks.choice import ChoiceTask
from unisd.tasks.custom_rows import GIVEN_AS, example_of
from unisd.tasks.exact import TOLERANCE, ExactTask
from unisd.tasks.normalisers import NORMALISERS
from unisd.tasks.row_files import FILES, Bad, OnError, file_rows, has_rows, tell_bad
from unisd.tasks.sources import Place, Row, check_split, hub_rows
from unisd.tasks.templates import columns_of, filled, key, nearest, said
from unisd.tasks.turns import graded_part

_TEXTS = ("prompt", "system", "question", "id", "rationale", "demonstration", "worked")
"""Keys that hold a template, or the name of a column (``prompt`` and ``worked``: a template)."""
_KEYS = (
    {"name", "data", "prompt", "answer"},
    {*_TEXTS[1:], "ask_for_form", "max_new_tokens", "on_error"},
)
"""The keys of the file: those it must have, those it may have. Below, the keys of ``answer`` by its type."""
_ANSWER_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "choice": ({"type", "column"}, {"options", "given_as"}),
    "exact": ({"type", "column"}, {"normalise"}),
    "number": ({"type", "column"}, {"tolerance"}),
    "code": ({"type", "column", "tests"}, {"setup", "show_tests"}),
    "tools": ({"type", "column", "tools"}, {"format", "question"}),
}
_DATA_KEYS = {"hub": ({"hub"}, {"config", "split"}), "file": ({"file"}, {"split"})}
"""The keys of a split's place that is no file alone, by the one that it must have."""


def load_custom(path: str | Path) -> Task:
    """Return the task that a YAML file describes.

    Raises:
        UsageError: there is no such file, or something in it is not as docs/custom_tasks.md says (named).
    """
    return CustomTask(path)  # type: ignore[abstract]


class CustomTask(Task):
    """A task that a YAML file describes: where its rows lie, the prompt's template, and how answers are read.

    Each is made as a subclass of the family that its type of answer belongs to.

    Args:
        file: the YAML file; paths in it start at its folder.

    Raises:
        UsageError: there is no such file, or something in it is not as docs/custom_tasks.md says (named).
    """

    _described: dict[str, Any]

    def __new__(cls, file: str | Path) -> "CustomTask":
        """Make the task's class from the file."""
        described = _described(Path(file).expanduser())
        made: CustomTask = object.__new__(type(cls.__name__, (cls, _family(described["answer"]["type"])), {}))
        made._described = described
        return made

    def __init__(self, file: str | Path) -> None:
        self._file = Path(file).expanduser()
        described = self._described
        self._data: dict[str, Any] = described["data"]
        self.name: str = described["name"]
        # By their order in the file, but nobody should train on a test split for its place there.
        self.splits: Sequence[str] = tuple(sorted(self._data, key=lambda name: (name == "test") - (name == "train")))
        self.max_new_tokens: int = described.get("max_new_tokens", self.max_new_tokens)

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples of a split in the order of its rows.

        ``source`` is None for the places that the YAML file names, or another folder with files of the same names.
        Under ``on_error: drop`` rows that cannot be read are left out; a warning counts them, and a file names them.

        Raises:
            UsageError: no such split or source, a file that cannot be read, or a row that lacks a column or holds what
                cannot be asked or graded (file and line named).
            UniSDError: the hub cannot be reached.
        """
        bad: Bad | None = [] if self.drops else None
        examples = self.read(split, source, bad)
        if bad:
            tell_bad(bad, len(examples), f"{self.name}, {split}")
        if not examples:
            raise UsageError(f"{self.name}: the split '{split}' has no rows; put some into {self._data[split]}")
        return examples

    @property
    def drops(self) -> bool:
        """Whether rows that cannot be read are left out."""
        return bool(self._described.get("on_error") == "drop")

    def read(self, split: str, source: str | None, bad: Bad | None) -> list[Example]:
        """Return the examples of a split as :meth:`load` does, maybe none; ``bad`` gets the rows that cannot be read.

        Raises:
            UsageError: as there; for a row only where ``bad`` is None.
            UniSDError: the hub cannot be reached.
        """
        check_split(self, split)
        examples: dict[str, Example] = {}
        for row, place in self._rows(split, source, bad):
            try:
                example = self._example(row, f"{split}/{place.number}")
                if not example.id.strip():
                    raise UsageError("its id is empty; each row needs one of its own")
                if example.id in examples:
                    raise UsageError(f"the id {example.id} comes a second time; ids must be unique in a split")
            except UsageError as error:
                if bad is None:
                    raise UsageError(f"{place}: {error}") from error
                bad.append((place, str(error)))
                continue
            examples[example.id] = example
        return list(examples.values())

    def _rows(self, split: str, source: str | None, bad: Bad | None) -> list[tuple[Row, Place]]:
        where = self._data[split]
        if isinstance(where, Mapping) and "hub" in where:
            if source not in (None, "hub"):
                raise UsageError(f"{self.name}: '{split}' comes from the hub, not from {source}; leave out the source")
            return hub_rows(where["hub"], where.get("config"), where.get("split", split))
        folder = self._file.parent if source is None else Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(f"{self.name}: no such source: {source}; leave it out, or name a folder")
        name, within = (where["file"], where.get("split", split)) if isinstance(where, Mapping) else (where, split)
        return file_rows(folder / Path(name).expanduser(), (within,), bad)

    def _example(self, row: Row, numbered: str) -> Example:
        described = self._described
        item_id = key(row, described["id"]) if "id" in described else numbered
        example = example_of(row, item_id, described)
        if "demonstration" in described:
            example = dataclasses.replace(example, demonstration=said(row, described["demonstration"]))
        elif "worked" in described:
            rationale = said(row, described["rationale"], empty=True).strip() if "rationale" in described else ""
            example = dataclasses.replace(example, demonstration=self._worked(example, rationale, example.answer))
        else:
            return example
        if not self.runs_programs and not self.grade(example, graded_part(example.demonstration or "")).correct:
            raise UsageError(f"the demonstration does not end in the right answer ({example.answer}); correct it")
        return example

    def _worked(self, example: Example, rationale: str, answer: str) -> str:
        """Return an answer in the form that the file gives it."""
        letters = dict(zip(example.fields.get("letters", ()), example.fields.get("options", ()), strict=False))
        return filled(
            self._described["worked"],
            {"rationale": rationale, "answer": answer, "option": letters.get(answer, answer)},
        )

    def negative(self, example: Example, request: NegativeRequest, text: str) -> str | None:
        """Turn the model's text into a wrong demonstration, set like the right ones."""
        wrong = super().negative(example, request, text)
        if wrong is None or "worked" not in self._described:
            return wrong
        argument, _, answer = wrong.rpartition("Answer: ")
        return self._worked(example, argument.strip(), answer.strip())


# The file


def _described(file: Path) -> dict[str, Any]:
    """Return what the file says, checked."""
    try:
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}; check the path") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not YAML ({' '.join(str(error).split())}); see docs/custom_tasks.md") from error
    _check_keys(described, *_KEYS, f"{file}")
    answer = described["answer"]
    kind = answer.get("type") if isinstance(answer, dict) else answer
    if not isinstance(kind, str) or kind not in _ANSWER_KEYS:
        raise UsageError(f"{file}: the answer's type is {kind!r}; choose one of {', '.join(_ANSWER_KEYS)}")
    _check_keys(answer, *_ANSWER_KEYS[kind], f"{file}: answer")
    if kind in ("code", "tools") and (given := sorted({"rationale", "worked"} & described.keys())):
        raise UsageError(f"{file}: answers of type {kind} have no {given[0]}; remove it")
    _check_values(described, answer, str(file))
    _check_templates(described, str(file))
    for split, where in described["data"].items():
        if isinstance(where, dict):
            known = _DATA_KEYS["file" if "file" in where else "hub"]
            _check_keys(where, *known, f"{file}: data, {split}")
        elif not has_rows(str(where)) and not (file.parent / str(where)).is_dir():
            raise UsageError(
                f"{file}: data, {split}: {where!r} is no folder and no file with one of the endings {', '.join(FILES)}"
            )
    return dict(described)


def _check_templates(described: Mapping[str, Any], file: str) -> None:
    """Raise a UsageError where a template is none, or names nothing."""
    for name in _TEXTS:
        if "{" in described.get(name, "") or name in ("prompt", "worked"):
            columns = [column for _, column in columns_of(described.get(name, ""), f"{file}: {name}") if column]
            if name == "prompt" and not columns:
                raise UsageError(f"{file}: prompt names no column, so all items would be alike; write {{column}}")
            if name == "worked" and name in described and (wrong := {*columns} - {"rationale", "answer", "option"}):
                raise UsageError(f"{file}: worked: {wrong.pop()!r} is none of rationale, answer, option")
            if name == "worked" and name in described and not {"answer", "option"} & {*columns}:
                raise UsageError(f"{file}: worked: it shows no answer; write {{answer}} where it is to stand")
    if "worked" in described and "demonstration" in described:
        raise UsageError(f"{file}: worked and demonstration both say what an answer looks like; remove one")


def _check_values(described: Mapping[str, Any], answer: Mapping[str, Any], file: str) -> None:
    """Raise a UsageError where a value has not the type that its key asks for."""
    if not re.fullmatch(r"\w[\w.-]*", str(described["name"])):  # files and folders are called by it
        raise UsageError(
            f"{file}: the name {described['name']!r} must be letters, digits, '_', '-' and '.' alone, a letter or "
            "digit first"
        )
    if not isinstance(described["data"], dict) or not described["data"]:
        raise UsageError(f"{file}: data must name at least one split and its file")
    room = described.get("max_new_tokens", 1)
    if not isinstance(room, int) or isinstance(room, bool) or room < 1:
        raise UsageError(f"{file}: max_new_tokens is {room!r}; a whole number from 1 was expected")
    if not isinstance(answer.get("show_tests", True), bool):
        raise UsageError(f"{file}: answer: show_tests is {answer['show_tests']!r}; use true or false")
    if not isinstance(answer.get("tolerance", TOLERANCE), int | float):
        raise UsageError(f"{file}: answer: tolerance is {answer['tolerance']!r}; a number was expected")
    if described.get("on_error", "stop") not in get_args(OnError):
        raise UsageError(f"{file}: on_error is {described['on_error']!r}; choose one of {', '.join(get_args(OnError))}")
    ask = described.get("ask_for_form", True)
    if not isinstance(ask, bool) and not (isinstance(ask, str) and ask.strip()):
        raise UsageError(f"{file}: ask_for_form is {ask!r}; use true, false, or the words that ask for it")
    if answer.get("given_as", "auto") not in GIVEN_AS:
        raise UsageError(f"{file}: given_as is {answer['given_as']!r}; choose one of {', '.join(GIVEN_AS)}")
    if not isinstance(names := answer.get("normalise", []), list):
        raise UsageError(f"{file}: answer: normalise is {names!r}; a list of names was expected")
    for name in names:
        if str(name) not in NORMALISERS:
            raise UsageError(f"{file}: answer: normalise: there is no {name!r}; {nearest(str(name), NORMALISERS)}")
    texts = {name: described.get(name, "") for name in ("name", *_TEXTS)}
    texts |= {f"answer: {name}": answer.get(name, "") for name in ("column", "tests", "setup", "question")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{file}: {name} is {value!r}; a text was expected (put it in quotes)")


def _check_keys(found: object, required: set[str], allowed: set[str], where: str) -> None:
    """Raise a UsageError that names the nearest key, unless ``found`` has the required keys and no unknown one."""
    known = sorted(required | allowed)
    if not isinstance(found, dict):
        raise UsageError(f"{where}: keys were expected ({', '.join(known)}), not {type(found).__name__}")
    for name in found:
        if name not in known:
            raise UsageError(f"{where}: there is no key '{name}'; {nearest(str(name), known)}")
    if missing := sorted(required - found.keys()):
        raise UsageError(f"{where}: '{missing[0]}' is missing; see docs/custom_tasks.md")


def _family(kind: str) -> type[Task]:
    """Return the family of a type of answer; code and tools are imported only where they are asked for."""
    if kind == "code":
        from unisd.tasks.code import CodeTask

        return CodeTask
    if kind == "tools":
        from unisd.tasks.tools import ToolTask

        return ToolTask
    return ChoiceTask if kind == "choice" else ExactTask

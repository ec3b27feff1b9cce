"""A task of one's own from a small YAML file; docs/custom_tasks.md shows every key."""

import dataclasses
import difflib
import json
import re
import string
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unisd.errors import UsageError
from unisd.tasks.base import Example, Task
from unisd.tasks.cells import plain
from unisd.tasks.choice import ChoiceTask, choice_example, letters_for
from unisd.tasks.exact import TOLERANCE, ExactTask, exact_example
from unisd.tasks.sources import FILES, Place, Row, check_split, file_rows, has_rows, hub_rows

_KEYS = ({"name", "data", "prompt", "answer"}, {"id", "rationale", "demonstration", "max_new_tokens"})
"""The keys of the file: those it must have, those it may have. Below, the keys of ``answer`` by its type."""
_ANSWER_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "choice": ({"type", "column", "options", "given_as"}, set()),
    "exact": ({"type", "column"}, set()),
    "number": ({"type", "column"}, {"tolerance"}),
    "code": ({"type", "column", "tests"}, {"setup", "show_tests"}),
    "tools": ({"type", "column", "tools"}, {"format", "question"}),
}
_GIVEN_AS = ("letter", "text", "index", "number")


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
        self._prompt = str(described["prompt"])
        _columns_of(self._prompt, f"{self._file}: prompt")
        self._answer: dict[str, Any] = described["answer"]
        self._columns = {key: described[key] for key in ("id", "rationale", "demonstration") if key in described}
        self._data: dict[str, Any] = described["data"]
        self.name: str = described["name"]
        # By their order in the file, but nobody should train on a test split for its place there.
        self.splits: Sequence[str] = tuple(sorted(self._data, key=lambda name: (name == "test") - (name == "train")))
        self.max_new_tokens: int = described.get("max_new_tokens", self.max_new_tokens)

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples of a split in the order of its rows.

        ``source`` is None for the places that the YAML file names, or another folder with files of the same names.

        Raises:
            UsageError: no such split or source, a file that cannot be read, or a row that lacks a column or holds what
                cannot be asked or graded (file and line named).
            UniSDError: the hub cannot be reached.
        """
        check_split(self, split)
        examples: dict[str, Example] = {}
        for row, place in self._rows(split, source):
            try:
                example = self._example(row, f"{split}/{place.number}")
                if not example.id.strip():
                    raise UsageError("its id is empty; each row needs one of its own")
                if example.id in examples:
                    raise UsageError(f"the id {example.id} comes a second time; ids must be unique in a split")
            except UsageError as error:
                raise UsageError(f"{place}: {error}") from error
            examples[example.id] = example
        if not examples:
            raise UsageError(f"{self.name}: the split '{split}' has no rows; put some into {self._data[split]}")
        return list(examples.values())

    def _rows(self, split: str, source: str | None) -> list[tuple[Row, Place]]:
        where = self._data[split]
        if isinstance(where, Mapping):
            if source not in (None, "hub"):
                raise UsageError(f"{self.name}: '{split}' comes from the hub, not from {source}; leave out the source")
            return hub_rows(where["hub"], where.get("config"), where.get("split", split))
        folder = self._file.parent if source is None else Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(f"{self.name}: no such source: {source}; leave it out, or name a folder")
        return file_rows(folder / where)

    def _example(self, row: Row, numbered: str) -> Example:
        item_id = _text(row, self._columns["id"]) if "id" in self._columns else numbered
        rationale = _text(row, self._columns["rationale"], empty=True) if "rationale" in self._columns else ""
        build = {"choice": _choice, "code": _code, "tools": _tools}.get(self._answer["type"], _exact)
        example = build(item_id, _filled(self._prompt, row), row, self._answer, rationale)
        if "demonstration" not in self._columns:
            return example
        example = dataclasses.replace(example, demonstration=_text(row, self._columns["demonstration"]))
        if not self.runs_programs and not self.grade(example, example.demonstration or "").correct:
            raise UsageError(f"the demonstration does not end in the right answer ({example.answer}); correct it")
        return example


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
    if kind == "choice" and answer["given_as"] not in _GIVEN_AS:
        raise UsageError(f"{file}: given_as is {answer['given_as']!r}; choose one of {', '.join(_GIVEN_AS)}")
    if kind in ("code", "tools") and "rationale" in described:
        raise UsageError(f"{file}: answers of type {kind} have no rationale; remove it")
    _check_values(described, answer, str(file))
    for split, where in described["data"].items():
        if isinstance(where, dict):
            _check_keys(where, {"hub"}, {"config", "split"}, f"{file}: data, {split}")
        elif not has_rows(str(where)):
            raise UsageError(f"{file}: data, {split}: {where!r} is no file with one of the endings {', '.join(FILES)}")
    return dict(described)


def _check_values(described: Mapping[str, Any], answer: Mapping[str, Any], file: str) -> None:
    """Raise a UsageError where a value has not the type that its key asks for."""
    if not re.fullmatch(r"[\w.-]+", str(described["name"])):
        raise UsageError(f"{file}: the name {described['name']!r} must be letters, digits, '_', '-' and '.' alone")
    if not isinstance(described["data"], dict) or not described["data"]:
        raise UsageError(f"{file}: data must name at least one split and its file")
    room = described.get("max_new_tokens", 1)
    if not isinstance(room, int) or isinstance(room, bool) or room < 1:
        raise UsageError(f"{file}: max_new_tokens is {room!r}; a whole number from 1 was expected")
    if not isinstance(answer.get("show_tests", True), bool):
        raise UsageError(f"{file}: answer: show_tests is {answer['show_tests']!r}; use true or false")
    if not isinstance(answer.get("tolerance", TOLERANCE), int | float):
        raise UsageError(f"{file}: answer: tolerance is {answer['tolerance']!r}; a number was expected")
    texts = {key: described.get(key, "") for key in ("name", "prompt", "id", "rationale", "demonstration")}
    texts |= {f"answer: {key}": answer.get(key, "") for key in ("column", "tests", "setup", "question")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{file}: {key} is {value!r}; a text was expected (put it in quotes)")


def _check_keys(found: object, required: set[str], allowed: set[str], where: str) -> None:
    """Raise a UsageError that names the nearest key, unless ``found`` has the required keys and no unknown one."""
    known = sorted(required | allowed)
    if not isinstance(found, dict):
        raise UsageError(f"{where}: keys were expected ({', '.join(known)}), not {type(found).__name__}")
    for key in found:
        if key not in known:
            raise UsageError(f"{where}: there is no key '{key}'; {_nearest(str(key), known)}")
    if missing := sorted(required - found.keys()):
        raise UsageError(f"{where}: '{missing[0]}' is missing; see docs/custom_tasks.md")


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(known)}"


def _columns_of(template: str, where: str) -> list[tuple[str, str | None]]:
    """Return a template as pairs of literal text and the column that follows it."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"{where}: not a template ({error}); write {{column}}, and {{{{ for a brace") from error
    if any(spec or conversion for _, _, spec, conversion in parts) or any(name == "" for _, name, _, _ in parts):
        raise UsageError(f"{where}: write {{column}} with the column's name alone, and {{{{ for a brace")
    return [(literal, name) for literal, name, _, _ in parts]


def _family(kind: str) -> type[Task]:
    """Return the family of a type of answer; code and tools are imported only where they are asked for."""
    if kind == "code":
        from unisd.tasks.code import CodeTask

        return CodeTask
    if kind == "tools":
        from unisd.tasks.tools import ToolTask

        return ToolTask
    return ChoiceTask if kind == "choice" else ExactTask


# The rows


def _cell(row: Row, column: str) -> Any:
    if column not in row:
        raise UsageError(f"there is no column '{column}'; {_nearest(column, list(map(str, row)))}")
    try:
        return plain(row[column])
    except UsageError as error:
        raise UsageError(f"the column '{column}': {error}") from error


def _text(row: Row, column: str, empty: bool = False) -> str:
    """Return a cell as text; numbers are written as Python writes them."""
    value = _cell(row, column)
    if value is None and empty:
        return ""
    if not isinstance(value, str | int | float):
        raise UsageError(f"the column '{column}' holds {_kind(value)}; a text or a number was expected")
    return str(value)


def _list(row: Row, column: str) -> list[Any]:
    """Return a cell that holds a list, or its JSON text; another text is a list of one."""
    value = _cell(row, column)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    if not isinstance(value, list):
        raise UsageError(f"the column '{column}' holds {_kind(value)}; a list was expected")
    return value


def _texts(values: Sequence[Any], column: str) -> list[str]:
    """Return the values of a list as texts."""
    return [_text({column: value}, column) for value in values]


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def _filled(template: str, row: Row) -> str:
    parts = _columns_of(template, "prompt")
    return "".join(literal + (_text(row, name) if name is not None else "") for literal, name in parts)


# The types of answers


def _choice(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    options, labels = _options(row, answer["options"])
    given = _text(row, answer["column"]).strip()
    how = answer["given_as"]
    if how in ("index", "number"):
        labels = [str(place) for place in range(how == "number", len(options) + (how == "number"))]
    elif how == "text":
        labels = options
    found = [place for place, label in enumerate(labels) if label.strip().casefold() == given.casefold()]
    if how == "text" and len(found) != 1:  # options can differ by case alone
        found = [place for place, label in enumerate(labels) if label.strip() == given]
    if len(found) != 1:
        names = "none" if not found else "several"
        raise UsageError(f"the answer {given!r} names {names} of the options, as {how}: {', '.join(labels)[:200]}")
    return choice_example(item_id, question, options, found[0], rationale=rationale)


def _options(row: Row, where: Any) -> tuple[list[str], list[str]]:
    """Return the options' texts, and the letters or labels that an answer may name them by."""
    if isinstance(where, list):
        options = [_text(row, str(column)) for column in where]
    else:
        value = _cell(row, str(where))
        if isinstance(value, dict) and {"text", "label"} <= value.keys():  # as some sets on the hub have it
            options, labels = _list(value, "text"), _list(value, "label")
            if len(options) != len(labels):
                raise UsageError(f"the column '{where}' holds {len(options)} options and {len(labels)} labels")
            return _texts(options, str(where)), _texts(labels, str(where))
        options = _texts(_list(row, str(where)), str(where))
    return options, letters_for(len(options))


def _exact(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    value = _cell(row, answer["column"])
    accepted = _texts(value, answer["column"]) if isinstance(value, list) else [_text(row, answer["column"])]
    if answer["type"] == "exact":
        return exact_example(item_id, question, accepted, rationale=rationale)
    # A worked answer may stand before the number, behind "####", with its sums in "<<...>>" (as in GSM8K).
    accepted = [one.rpartition("####")[2] for one in accepted]
    reason = re.sub(r"<<[^<>]{0,400}>>", "", rationale.rpartition("####")[0] if "####" in rationale else rationale)
    tolerance = answer.get("tolerance", TOLERANCE)
    return exact_example(item_id, question, accepted, kind="number", rationale=reason, tolerance=tolerance)


def _code(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    from unisd.tasks.code import code_example

    return code_example(
        item_id,
        question,
        _text(row, answer["column"]),
        [str(test) for test in _list(row, answer["tests"])],
        setup=_text(row, answer["setup"], empty=True) if "setup" in answer else "",
        show_tests=answer.get("show_tests", True),
    )


def _tools(item_id: str, question: str, row: Row, answer: Mapping[str, Any], rationale: str) -> Example:
    from unisd.tasks.tools import Call, tool_example

    calls = []
    for call in _list(row, answer["column"]):
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or "arguments" not in call:
            raise UsageError(f"the column '{answer['column']}' must hold calls with 'name' and 'arguments'")
        arguments = call["arguments"]
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                arguments = None
        if not isinstance(arguments, dict):
            raise UsageError(f"the call of {call['name']}: its arguments must be an object, or the JSON text of one")
        calls.append(Call(call["name"], arguments))
    tools = answer["tools"] if isinstance(answer["tools"], list) else _list(row, answer["tools"])
    names = [tool["name"] if isinstance(tool, dict) and "name" in tool else str(tool) for tool in tools]
    asked = _text(row, answer["question"]) if "question" in answer else question
    return tool_example(item_id, question, asked, calls, names, answer.get("format", "react"))

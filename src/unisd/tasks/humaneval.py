"""HumanEval: Python functions to complete from a signature and a docstring (Chen et al., 2021); evaluation only."""

import ast
import textwrap
from collections.abc import Sequence

from unisd.errors import UsageError
from unisd.tasks.base import Example
from unisd.tasks.code import CodeTask
from unisd.tasks.code_reading import blocks, extract_code
from unisd.tasks.python_source import DEFINITIONS, defined, parse, stacked
from unisd.tasks.sources import (
    Place,
    Row,
    check_split,
    checked,
    first_file,
    hub_rows,
    identifier,
    json_lines,
    official_folder,
    reading,
)

HUB_ID = "openai/openai_humaneval"
_ASK = "Answer with one Python code block that holds the whole function with its imports, and write nothing else."


class HumanEval(CodeTask):
    """HumanEval as a Task, graded by pass@1: 164 items, for evaluation alone (no item has a demonstration).

    Sources: ``hub`` (the default), or a folder with the official ``HumanEval.jsonl`` or ``HumanEval.jsonl.gz``.
    An answer is run behind the prompt's imports and helper functions, so it may leave them out; an answer that is only
    the function's body completes the prompt.
    """

    name = "humaneval"
    splits: Sequence[str] = ("test",)

    def load(self, split: str, source: str | None = None) -> list[Example]:
        """Return the examples in the source's order; the sources are described at the class.

        Raises:
            UsageError: no such split or source, or a damaged file (named, with its line).
            UniSDError: the hub cannot be reached.
        """
        check_split(self, split)
        if source is None or source == "hub":
            rows = hub_rows(HUB_ID, None, split)
        else:
            folder = official_folder(self.name, source)
            rows = json_lines(first_file(self.name, folder, "HumanEval.jsonl", "HumanEval.jsonl.gz"))
        return checked([_example(row, place) for row, place in rows], self.name, source or "hub")

    def gold(self, example: Example) -> str | None:
        """Return the reference in the format that is asked for."""
        return f"```python\n{example.answer}\n```"

    def program(self, example: Example, text: str, cut: bool = False) -> str | None:
        """Return the program of an output behind the prompt's own imports and helpers; None if there is none."""
        name, stem = example.fields["name"], example.fields["stem"]
        program = extract_code(text, [name], cut)
        tree = parse(program) if program is not None else None
        if tree is None or not defined(tree, name):
            for block in blocks(text, cut):
                if (completed := _completed(stem, block, name)) is not None:
                    return completed
        if program is None:
            return None
        return stacked([example.fields["preamble"], program])


def _example(row: Row, place: Place) -> Example:
    with reading(place, "a HumanEval item"):
        stem, name = str(row["prompt"]), row["entry_point"]
        gold = f"{stem.strip()}\n{row['canonical_solution'].rstrip()}".strip()
        test = f"{row['test'].strip()}\n\ncheck({name})"
        if parse(test) is None:
            raise UsageError("its test is not Python")
        tree = parse(gold)
        if tree is None or not defined(tree, name):
            raise UsageError(f"prompt and solution do not define {name}")
        question = f"Complete this Python function:\n\n```python\n{stem.strip()}\n```"
        return Example(
            id=identifier(row["task_id"]),
            prompt=f"{question}\n\n{_ASK}",
            question=question,
            answer=gold,
            fields={
                "name": name,
                "tests": [test],
                "setup": "",
                "stem": stem,
                "preamble": _preamble(gold, tree, name),
            },
        )


def _preamble(gold: str, tree: ast.Module, name: str) -> str:
    """Return what stands before the wanted function: imports, constants and helpers."""
    line = next((node.lineno for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), 1)
    return "\n".join(gold.split("\n")[: line - 1]).strip()


def _completed(stem: str, body: str, name: str) -> str | None:
    """Return the prompt with ``body`` as its function's body, or None unless that is a whole function."""
    lines = body.strip("\n").split("\n")
    ends = next((n for n, line in enumerate(lines) if n and line[:1].strip() and lines[0][:1].isspace()), len(lines))
    plain = "\n".join(lines[:ends])
    # As it stands; set as a whole; or set but for the first line, whose blanks went with the prompt's last ones.
    for variant in (plain, textwrap.indent(textwrap.dedent(plain), "    "), "    " + plain.lstrip()):
        tree = parse(source := f"{stem.rstrip()}\n{variant}\n")
        last = tree.body[-1] if tree is not None else None
        if isinstance(last, ast.FunctionDef) and last.name == name:
            inner = [part for node in last.body if not isinstance(node, DEFINITIONS) for part in ast.walk(node)]
            if any(isinstance(part, ast.Return | ast.Yield | ast.YieldFrom) for part in inner):
                return source
    return None

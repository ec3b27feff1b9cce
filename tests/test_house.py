"""The house rules that no linter knows: short functions and files, and loops that name no mechanism."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from unisd.mechanisms import known

SOURCE = Path(__file__).resolve().parent.parent / "src" / "unisd"
FILES = sorted(SOURCE.rglob("*.py"))
LONGEST_FUNCTION, LONGEST_FILE = 70, 420
TRAINING = ["plan", "learn", "telemetry", "trainer", "run", "arguments", "runfile", "card"]
MECHANISMS = [name for name, mechanism in known().items() if mechanism.__module__.startswith("unisd.")]
LOOPS = [
    *(SOURCE / "training" / f"{name}.py" for name in TRAINING),
    *(SOURCE / "mechanisms" / f"{name}.py" for name in ("active", "registry", "base")),
    *sorted((SOURCE / "objective").glob("*.py")),
    SOURCE / "cli" / "list_command.py",
]
GENERAL = {"teacher"}
"""A mechanism's name that is a word of every loop, too: whoever says what the target is. Its settings are its own."""
SETTINGS = {"config", "args", "settings", "groups"}


def named(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Its lines, decorators and docstring included."""
    assert function.end_lineno is not None
    return function.end_lineno - min(part.lineno for part in (function, *function.decorator_list)) + 1


def test_functions_are_short():
    found = [
        f"{named(path)}: {function.name} has {length(function)} lines"
        for path in FILES
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if length(function) > LONGEST_FUNCTION
    ]
    assert found == []
    sample = "@wraps(\n    other\n)\ndef long():\n" + "    pass\n" * 3
    assert [length(function) for function in functions(ast.parse(sample))] == [7]


def test_files_are_short():
    counts = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: count for name, count in counts.items() if count > LONGEST_FILE} == {}
    assert len(counts) > 100


def last_name(node: ast.AST) -> str:
    """What a chain of names ends in: ``c`` of ``a.b.c``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of texts that are statements of their own: docstrings, and descriptions of fields."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def mechanisms_named(source: str) -> list[str]:
    """Return how a source names single mechanisms: by their settings, in texts, and by their modules.

    A general word counts only where it is read from settings, or stands before a field or a metric of its own.
    """
    tree, found = ast.parse(source), []
    texts = docstrings(tree)
    every = "|".join(map(re.escape, MECHANISMS))
    only = [name for name in MECHANISMS if name not in GENERAL]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in MECHANISMS:
            if node.attr in only or last_name(node.value) in SETTINGS:
                found.append(ast.unparse(node))
        elif (
            isinstance(node, ast.Attribute) and last_name(node.value) in MECHANISMS and node.attr in ("on", "settings")
        ):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in only:
            found.append(f"{node.arg}=")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            if node.value in only or re.search(rf"(?<![\w./])(?:{every})[./]\w", node.value):
                found.append(repr(node.value))
        elif isinstance(node, ast.Subscript) and last_name(node.value) in SETTINGS:
            if isinstance(node.slice, ast.Constant) and node.slice.value in MECHANISMS:
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [name for name in names if re.fullmatch(rf"unisd\.mechanisms\.(?:{'|'.join(only)})", name)]
    return found


@pytest.mark.parametrize("path", LOOPS, ids=named)
def test_loops_name_no_mechanism(path):
    assert mechanisms_named(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "config.contrast.weight",
        "self.config.contrast",
        "if settings.agreement.on: pass",
        "config.teacher.kind",
        "args.teacher",
        "teacher.on",
        "getattr(config, 'features')",
        "groups['clipping']",
        "groups['teacher']",
        "metrics['ema'] = values['agreement/mean']",
        "f'contrast.weight: {value}'",
        "raise UsageError('teacher.kind: unknown')",
        "UniSDConfig(contrast={})",
        "from unisd.mechanisms.contrast import Contrast",
        "from unisd.mechanisms import contrast",
    ],
)
def test_the_check_sees_a_mechanism(source):
    assert mechanisms_named(source)


@pytest.mark.parametrize(
    "source",
    [
        "self.teacher = mechanisms.teacher(model)",
        "plan(teacher=None)",
        "needs_teacher = 'teacher'",
        "from unisd.objective.clipping import clip",
        "from unisd.mechanisms.teacher import InitialTeacher",
        "def f():\n    '''As config.contrast does.'''",
        "raise UsageError('see docs/teacher.md')",
    ],
)
def test_the_check_lets_general_words_pass(source):
    assert mechanisms_named(source) == []


def test_sources_refer_to_what_a_reader_can_find():
    """The paper, or a page in docs/ that is there."""
    texts = {path: path.read_text(encoding="utf-8") for path in [*FILES, *SOURCE.rglob("*.yaml")]}
    assert [named(path) for path, text in texts.items() if re.search("METHOD|DESIGN", text)] == []
    pages = {(named(path), page) for path, text in texts.items() for page in re.findall(r"\bdocs/[\w/]+\.md\b", text)}
    assert [(name, page) for name, page in sorted(pages) if not (SOURCE.parent.parent / page).is_file()] == []

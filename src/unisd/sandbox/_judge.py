"""The judge: runs setup and tests, in a process of its own, and says which assertions held.

The names that tests take from the program are stand-ins (`_remote`) for what lives in the program's process; what comes
back is plain data (`_wire`). Some tests need to share a process with the program. `shared_process` tells them from what
is written in the tests, never from what a program does, and they run as the official harness runs them.
"""

import ast
import builtins
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, NoReturn

from _program import load, new_module  # type: ignore[import-not-found,unused-ignore]
from _remote import is_remote, kept_factory, remote_factory, special_methods  # type: ignore[import-not-found,unused-ignore]
from _wire import Wire, standard_base  # type: ignore[import-not-found,unused-ignore]

_ANSWER_BYTES = 1 << 26
_BUILTINS = frozenset(name for name in vars(builtins) if not name.startswith("_"))
# Modules that tests may import and still be kept apart: what they do does not reach the program's process.
_APART = frozenset(
    "__future__ abc array base64 binascii bisect calendar cmath collections contextlib copy dataclasses datetime decimal"
    " difflib enum fractions functools hashlib heapq html ipaddress itertools json math numbers numpy operator pathlib"
    " pprint pytest queue random re secrets statistics string struct sys textwrap time traceback typing types unicodedata"
    " unittest urllib uuid warnings zoneinfo".split()
)
# What of these modules, or of the language, does reach it.
_TOGETHER = frozenset(
    "mock patch redirect_stdout redirect_stderr seed setstate getcontext setcontext localcontext modules stdout stderr"
    " stdin settrace setprofile setrecursionlimit _getframe".split()
)
_TOGETHER_NAMES = frozenset("globals locals vars eval exec __import__ compile open input breakpoint Path".split())


class RejectedError(Exception):
    """The sources cannot be run; the message says why."""


class Sites(ast.NodeTransformer):
    """Has each assertion of a tree report to a function called ``name``; gathers their sources."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.sources: list[str] = []

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """``assert x`` becomes ``assert name(number, x)``."""
        number = ast.Constant(len(self.sources))
        self.sources.append(" ".join(ast.unparse(node.test).split()))
        node.test = ast.Call(ast.Name(self._name, ast.Load()), [number, node.test], [])
        return node


class Tests:
    """Setup and tests, parsed and ready to run.

    Raises:
        RejectedError: one of them is not Python.
    """

    def __init__(self, setup: str, tests: Sequence[str]) -> None:
        self.report = f"_{os.urandom(16).hex()}"
        sites = Sites(self.report)
        self.trees: list[ast.Module] = []
        self.codes: list[CodeType] = []
        self.ranges: list[range] = []
        for number, source in enumerate([setup, *tests]):
            first = len(sites.sources)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.trees.append(ast.parse(source))
                    tree = ast.fix_missing_locations(sites.visit(ast.parse(source)))
                    name = f"<test {number}>" if number else "<setup>"
                    self.codes.append(compile(tree, name, "exec", dont_inherit=True, optimize=0))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                where = f"test {number} of {len(tests)}" if number else "setup"
                raise RejectedError(f"{where}: {describe(error)}") from None
            self.ranges.append(range(first, len(sites.sources)))
        self.sites = sites.sources
        self.bound = set().union(*map(bound_names, self.trees[1:]))
        self.seen: set[int] = set()
        self.failed: list[tuple[int, str]] = []
        self.record: dict[str, Any] = {}

    def reporter(self) -> Callable[[int, Any], bool]:
        """Return the function that assertions report to."""

        def seen(site: int, value: Any) -> bool:
            self.seen.add(site)
            held = bool(value)
            if not held:
                name = self.record.get("foreign")
                self.failed.append((site, f" (an object of type {name} is no plain value)" if name else ""))
            self.record.pop("foreign", None)
            return held

        return seen

    def run(self, scope: dict[str, Any], before: Callable[[int], None]) -> str:
        """Run the tests; return why they are no pass, or "" if they are. ``before`` is told each one's number."""
        count = len(self.codes) - 1
        for number, code in enumerate(self.codes[1:], start=1):
            try:
                before(number)
                exec(code, scope)
            except BaseException as error:
                if not self.failed:
                    return f"test {number} of {count}: {describe(error)}"
            if self.failed:
                site, why = self.failed[0]
                return f"assertion {site + 1} of {len(self.sites)} failed{why}: {self.sites[site]}"
        for number, sites in enumerate(self.ranges[1:], start=1):
            if sites and self.seen.isdisjoint(sites):
                return f"test {number} of {count}: none of its assertions ran"
        return ""


def bound_names(tree: ast.AST) -> set[str]:
    """Return every name that a tree binds anywhere: assignments, arguments, definitions, imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
    return names


def loaded_names(tree: ast.AST) -> set[str]:
    """Return every name that a tree looks up."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def shared_process(trees: Sequence[ast.Module]) -> bool:
    """Whether tests must share a process with the program.

    So it is where they derive a class from one that they neither define nor import, await something, or use what reaches
    into the process: other modules than those of values, output and input, patching, seeds, frames, names by their text.
    """
    bound = set().union(*map(bound_names, trees))
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named = [name for alias in node.names for name in alias.name.split(".")]
                outside = any(alias.name.split(".")[0] not in _APART for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                named = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                outside = bool(node.level) or named[0] not in _APART
            else:
                named = [getattr(node, "attr", getattr(node, "id", ""))]
                outside = isinstance(node, ast.Name) and node.id in _TOGETHER_NAMES - bound
                outside |= isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
            if isinstance(node, ast.ClassDef):
                bases = set().union(*map(loaded_names, [*node.bases, *node.keywords]))
                outside = bool(bases - bound - _BUILTINS)
            if outside or not _TOGETHER.isdisjoint(named):
                return True
    return False


def describe(error: BaseException) -> str:
    """Return one line about an exception without calling any of its methods."""
    cls = type(error)
    if cls is MemoryError:
        return "out of memory"
    if cls is SystemExit:
        return "ended before its assertions ran (SystemExit)"
    first = error.args[0] if type(error.args) is tuple and error.args else ""
    text = repr(first) if cls is KeyError and type(first) in (str, int) else first if type(first) is str else ""
    line = f"line {error.lineno}: " if cls is SyntaxError and type(error.lineno) is int else ""  # type: ignore[attr-defined]
    return " ".join(f"{cls.__name__}: {line}{text}".split()).removesuffix(":")[:300]


End = Callable[..., NoReturn]


def judge(job: dict[str, Any], reading: int, writing: int, end: End) -> NoReturn:
    """Judge a program that answers over two pipes. ``end(kind, reason, separable)`` sends the verdict and ends."""
    wire = Wire(reading, writing, 0, _ANSWER_BYTES, lambda reason: end("trouble", reason or "the program has no process"))
    if (first := wire.receive()) != ["ready"]:
        end("trouble", str(first[-1]))
    wire.fatal = lambda reason: end("failed" if reason else "lost", reason)
    try:
        tests = Tests(job["setup"], job["tests"])
    except RejectedError as error:
        end("failed", str(error))
    if shared_process(tests.trees) or any(isinstance(node, ast.ClassDef) for node in ast.walk(tests.trees[0])):
        end("together")
    methods = special_methods(wire, tests.record)
    wire.remote, wire.kept = remote_factory(methods), kept_factory(wire, methods)
    wire.foreign, wire.operations = _lender(wire, end)
    wire.module, wire.derives = _module, False
    scope: dict[str, Any] = {"__name__": "tests", tests.report: tests.reporter()}
    try:
        exec(tests.codes[0], scope)
    except BaseException as error:
        end("failed", f"setup: {describe(error)}")
    of_setup = set(scope)
    try:
        wire.ask("load")
    except BaseException as error:
        end("failed", describe(error))
    loaded = set().union(*map(loaded_names, tests.trees[1:]))
    given = wire.ask("names", sorted(loaded))
    # A built-in name is the program's where the tests take nothing else from it: MBPP asks for functions called so.
    hidden = (_BUILTINS & set(given)) if set(given) - _BUILTINS - tests.bound else set()

    def before(number: int) -> None:
        wanted = loaded_names(tests.trees[number]) - of_setup - hidden - tests.bound
        scope.update(wire.ask("names", sorted(wanted)))

    scope.update({name: value for name, value in given.items() if name not in of_setup | hidden})
    try:
        reason = tests.run(scope, before)
    except BaseException as error:
        reason = f"the judge stopped: {describe(error)}"
    end("failed" if reason else "passed", reason, not tests.record.get("own"))


def _module(name: str) -> Any:
    """Import a module that the tests take from the program: the judge has its own."""
    if name.partition(".")[0] not in _APART:
        raise ValueError(f"no module for tests: {name}")
    return importlib.import_module(name)


def _lender(wire: Wire, end: End) -> tuple[Callable[[Any], list[Any]], dict[str, Callable[..., Any]]]:
    """Return what encodes objects of the tests, and what the program may do: call and iterate what was lent to it."""
    lent: dict[int, Any] = {}

    def lend(value: Any) -> list[Any]:
        cls = type(value)
        if issubclass(cls, BaseException):
            base = standard_base(cls) or Exception
            return ["x", f"builtins.{base.__name__}", *map(str, value.args)]
        if issubclass(cls, type) or not (callable(value) or hasattr(cls, "__next__")):
            if wire.serving or is_remote(value) or hasattr(value, "_unisd_remote"):
                raise TypeError(f"an object of type {cls.__name__} cannot be handed to the program")
            end("together")
        lent[id(value)] = value
        return wire.handle(value)

    def checked(value: Any) -> Any:
        if id(value) not in lent:
            raise TypeError("the tests did not hand this over")
        return value

    return lend, {
        "call": lambda value, *arguments, **keywords: checked(value)(*arguments, **keywords),
        "iter": lambda value: iter(checked(value)),
        "next": lambda value: next(checked(value)),
    }


def judge_together(job: dict[str, Any], end: End) -> NoReturn:
    """Run setup, program and tests in this process, in one name space, as the official harness does."""
    try:
        tests = Tests(job["setup"], job["tests"])
        module = new_module()
        scope = module.__dict__
        scope[tests.report] = tests.reporter()
        exec(tests.codes[0], scope)
        of_setup = {name: value for name, value in scope.items() if not name.startswith("__")}
        load(job["program"], module)
        scope.update(of_setup)
        reason = tests.run(scope, lambda number: None)
    except RejectedError as error:
        reason = str(error)
    except BaseException as error:
        reason = describe(error)
    sys.stdout = sys.stderr = None
    end("failed" if reason else "passed", reason, False)

"""The judge: runs setup and tests, in a process of its own, and says which assertions held.

The names that tests take from the program are stand-ins (`_remote`) for what lives in the program's process; what comes
back is plain data (`_wire`). Some tests need to share a process with the program. `shared_process` tells them from what
is written in the tests, never from what a program does, and they run as the official harness runs them.
"""

from __future__ import annotations

import ast
import builtins
import os
import warnings
from collections.abc import Callable, Sequence

from ._program import load, new_module
from ._remote import StandIns, is_stand_in
from ._wire import MODULES, Wire, standard_base, words

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any, NoReturn

    End = Callable[..., NoReturn]

_BUILTINS = frozenset(name for name in vars(builtins) if not name.startswith("_"))
# What of the modules that tests may import, and of the language, reaches into the process of the program.
_TOGETHER = words(
    "mock patch redirect_stdout redirect_stderr seed setstate getcontext setcontext localcontext modules stdout stderr"
    " stdin settrace setprofile setrecursionlimit _getframe"
)
_TOGETHER_NAMES = words("globals locals vars eval exec __import__ compile open input breakpoint Path")


class RejectedError(Exception):
    """A test is not Python; the message says which."""


class Tests(ast.NodeTransformer):
    """Setup and tests, ready to run; each assertion reports to ``seen``. RejectedError where one is not Python."""

    def __init__(self, setup: str, tests: Sequence[str]) -> None:
        self.name = f"_{os.urandom(16).hex()}"
        self.sites: list[str] = []
        self.trees, self.codes, self.ranges = [], [], []
        for number, source in enumerate([setup, *tests]):
            first = len(self.sites)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self.trees.append(ast.fix_missing_locations(self.visit(ast.parse(source))))
                    name = f"<test {number}>" if number else "<setup>"
                    self.codes.append(compile(self.trees[-1], name, "exec", dont_inherit=True, optimize=0))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                where = f"test {number} of {len(tests)}" if number else "setup"
                raise RejectedError(f"{where}: {describe(error)}") from None
            self.ranges.append(range(first, len(self.sites)))
        self.reached: set[int] = set()
        self.failed: list[str] = []
        self.record: dict[str, Any] = {}

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """``assert x`` becomes ``assert seen(number, x)``."""
        number = ast.Constant(len(self.sites))
        self.sites.append(" ".join(ast.unparse(node.test).split()))
        node.test = ast.Call(ast.Name(self.name, ast.Load()), [number, node.test], [])
        return node

    def seen(self, site: int, value: Any) -> bool:
        """Note whether an assertion held."""
        self.reached.add(site)
        held = bool(value)
        name = self.record.pop("foreign", None)
        if not held:
            why = f" (an object of type {name} is no plain value)" if name else ""
            self.failed.append(f"assertion {site + 1} of {len(self.sites)} failed{why}: {self.sites[site]}")
        return held

    def run(self, scope: dict[str, Any]) -> str:
        """Run the tests; return why they are no pass, or "" if they are."""
        count = len(self.codes) - 1
        for number, code in enumerate(self.codes[1:], start=1):
            try:
                exec(code, scope)
            except BaseException as error:
                return self.failed[0] if self.failed else f"test {number} of {count}: {describe(error)}"
            if self.failed:
                return self.failed[0]
        for number, sites in enumerate(self.ranges[1:], start=1):
            asked = [site for site in sites if self.sites[site] not in ("False", "0")]
            if asked and self.reached.isdisjoint(asked):
                return f"test {number} of {count}: none of its assertions ran"
        return ""


def names(trees: Sequence[ast.AST], loaded: bool) -> set[str]:
    """Return the names that trees look up, or those that they bind."""
    found: set[str | None] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, ast.Load) is loaded else set()
        elif isinstance(node, ast.alias) and not loaded:
            found.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs) and not loaded:
            found.add(node.name)
    return {name for name in found if name}


def shared_process(trees: Sequence[ast.Module]) -> bool:
    """Whether tests must share a process with the program: tests that reach into it.

    They derive a class from one that they neither define nor import, await something, or use output and input,
    patching, seeds, frames, names by their text, or other modules than those of values; or their setup defines classes.
    """
    bound = names(trees, loaded=False)
    if any(isinstance(node, ast.ClassDef) for node in ast.walk(trees[0])):
        return True
    for node in (node for tree in trees for node in ast.walk(tree)):
        outside = isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
        said = [getattr(node, "attr", getattr(node, "id", ""))]
        if isinstance(node, ast.Import | ast.ImportFrom):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            paths = [f"{package}{alias.name}".split(".") for alias in node.names]
            said = [word for path in paths for word in path]
            outside = any(path[0] not in MODULES for path in paths)
        elif isinstance(node, ast.ClassDef):
            outside = bool(names([*node.bases, *node.keywords], loaded=True) - bound - _BUILTINS)
        elif isinstance(node, ast.Name):
            outside = node.id in _TOGETHER_NAMES - bound
        if outside or not _TOGETHER.isdisjoint(said):
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


def judge(job: dict[str, Any], sources: Sequence[str], wire: Wire, end: End) -> NoReturn:
    """Judge a program that answers over a wire. ``end(reason, separable, together)`` sends the verdict and ends."""
    where, record = "", {"own": job["together"]}
    try:
        if job["together"]:  # the program's process judges itself, and says that all is well by a word it learns now
            word = os.urandom(16).hex()
            answer = wire.ask("together", word, sources)
            end("" if answer == word else str(answer))
        tests = Tests(job["setup"], sources)
        if shared_process(tests.trees):
            end("", together=True)
        record = tests.record
        wire.made = StandIns(wire, record).made
        wire.lend, wire.operations = _lender(wire, end)
        hidden: set[str] = set()

        class Scope(dict):  # type: ignore[type-arg]
            def __missing__(self, name: str) -> Any:
                if name in hidden or name[:2] == "__":
                    raise KeyError(name)
                return wire.ask("name", name)

        scope = Scope({"__name__": "tests", tests.name: tests.seen})
        where = "setup: "
        exec(tests.codes[0], scope)
        where = ""
        given = names(tests.trees[1:], loaded=True).intersection(wire.ask("load"))
        # A built-in name is the program's where the tests take nothing else from it: MBPP asks for functions called so.
        hidden |= _BUILTINS if given - _BUILTINS - names(tests.trees[1:], loaded=False) else set()
        reason = tests.run(scope)
    except BaseException as error:
        reason = str(error) if type(error) is RejectedError else where + describe(error)
    end(reason, separable=bool(reason) or not record.get("own"))


def _lender(wire: Wire, end: End) -> tuple[Callable[..., Any], dict[str, Callable[..., Any]]]:
    """Return what encodes objects of the tests, and what the program may do: call and iterate what was lent to it."""
    lent: dict[int, Any] = {}

    def lend(value: Any, encoded: Callable[[Any], Any]) -> Any:
        cls: Any = type(value)
        base: Any = standard_base(cls)
        if issubclass(cls, BaseException):
            own = is_stand_in(value) or base.__module__ != "builtins"
            return encoded((Exception if own else base)(*map(str, value.args)))
        if base is not None and is_stand_in(value):  # a copy that the tests made
            return encoded(base(value))
        if is_stand_in(value) or issubclass(cls, type) or not (callable(value) or hasattr(cls, "__next__")):
            if wire.serving or is_stand_in(value):
                raise TypeError(f"an object of type {cls.__name__} cannot be handed to the program")
            end("", together=True)
        lent[id(value)] = value
        return wire.handle(value)

    def checked(value: Any) -> Any:
        if id(value) not in lent:
            raise TypeError("the tests did not hand this over")
        return value

    return lend, {
        "call": lambda value, /, *arguments, **keywords: checked(value)(*arguments, **keywords),
        "iter": lambda value: iter(checked(value)),
        "next": lambda value: next(checked(value)),
    }


def together(job: dict[str, Any], sources: Sequence[str]) -> str:
    """Run setup, program and tests in this process, in one name space, as the official harness does."""
    try:
        tests = Tests(job["setup"], sources)
        module = new_module()
        scope = module.__dict__
        scope[tests.name] = tests.seen
        exec(tests.codes[0], scope)
        of_setup = {name: value for name, value in scope.items() if not name.startswith("__")}
        load(job["program"], module)
        scope.update(of_setup)
        return tests.run(scope)
    except BaseException as error:
        return str(error) if type(error) is RejectedError else describe(error)

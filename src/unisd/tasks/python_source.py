"""What a Python source binds, needs and means, found without running it."""

import ast
import builtins
import contextlib
import io
import re
import symtable
import threading
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from unisd.tasks.stance import comment_rejects

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
BUILTINS = frozenset(dir(builtins))
_WARNINGS = threading.Lock()  # warnings' filters belong to the process, and programs are graded in threads
# Calls that show or test what a program does; and calls that change nothing themselves.
_MAIN = re.compile(r"_*(?:main|(?:run_?)?(?:all_?)?test\w*|demo\w*)", re.IGNORECASE)
_SHOWS = frozenset(["print", "pprint", "input", "exit", "quit", "_exit", "help", "breakpoint"])
_TESTERS = frozenset(["doctest", "unittest", "pytest", "timeit"])
_PURE = frozenset(
    [
        *("abs", "all", "any", "bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min"),
        *("open", "range", "repr", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "type", "zip"),
    ]
)
_OF_BUILT_INS = frozenset(name for kind in (list, dict, set, str, io.TextIOWrapper) for name in dir(kind))


@dataclass(frozen=True)
class Program:
    """A source that parses, and which names it binds and needs."""

    source: str
    tree: ast.Module
    fenced: bool = True
    refused: bool = False
    """Whether its writer calls it wrong."""

    @cached_property
    def binds(self) -> set[str]:
        """The names that its module binds."""
        return bound(self.tree.body)

    @cached_property
    def defines(self) -> set[str]:
        """The names of the functions and classes among them."""
        return {node.name for node in self.tree.body if isinstance(node, DEFINITIONS)}

    @cached_property
    def needs(self) -> set[str]:
        """Names that it looks up at module level and that are not Python's own."""
        loose = {name for node in self.tree.body if not isinstance(node, DEFINITIONS) for name in _loaded(node)}
        return (loose | _looked_up(self)) - self.binds - BUILTINS


def parse(source: str) -> ast.Module | None:
    """Return the syntax tree of ``source``, or None where it is not Python, whatever it holds."""
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def defined(tree: ast.Module, name: str) -> bool:
    """Return whether a module defines ``name`` at its top level with more than an empty body."""
    definitions = [node for node in tree.body if isinstance(node, DEFINITIONS) and node.name == name]
    if definitions:
        return not _is_stub(definitions[-1])
    return name in bound(tree.body)


def without_examples(program: Program, names: Sequence[str], elsewhere: Iterable[str] = ()) -> str:
    """Return the source without what surely is a test or an example, and what only they use, all at module level.

    That is: assertions, what prints, reads input, ends the program or runs a test tool, calls of main and of tests,
    calls of the wanted functions ``names``, and what these alone need. Names in ``elsewhere`` come from other sources.
    """
    show = _Examples(program, names, elsewhere)
    kept: set[int] = set()
    dropped: list[range] = []
    for node in reversed(program.tree.body):
        place = range(_first_line(node), (node.end_lineno or node.lineno) + 1)
        if not isinstance(node, (*DEFINITIONS, *_IMPORTS)) and show.holds(node):
            dropped.append(place)
        else:
            kept.update(place)
            if not isinstance(node, DEFINITIONS):
                show.used |= _loaded(node)
    gone = {line for place in dropped if kept.isdisjoint(place) for line in place}
    lines = [line for number, line in enumerate(program.source.split("\n"), start=1) if number not in gone]
    source = "\n".join(lines).strip("\n") + "\n"
    return source if parse(source) is not None else program.source


def without_refused(program: Program, names: Sequence[str]) -> Program:
    """Return a program without those definitions of ``names`` that a comment above or in them calls wrong.

    Where there is no other, the whole program is refused.
    """
    lines = program.source.split("\n")
    places = []
    for node in program.tree.body:
        if isinstance(node, DEFINITIONS) and node.name in names:
            first = _first_line(node) - 1
            while first and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            places.append(range(first, node.end_lineno or node.lineno))
    bad = [place for place in places if any(map(comment_rejects, _comments(lines[place.start : place.stop])))]
    if not bad or len(bad) == len(places):
        return replace(program, refused=bool(bad))
    dropped = {line for place in bad for line in place}
    source = "\n".join(line for number, line in enumerate(lines) if number not in dropped)
    tree = parse(source)
    return program if tree is None else replace(program, source=source, tree=tree)


def _comments(lines: Sequence[str]) -> Iterator[str]:
    yield from (line[line.index("#") :] for line in lines if "#" in line)


class _Examples:
    """Tells which statements at module level do nothing for the definitions, which look up ``used``."""

    def __init__(self, program: Program, names: Sequence[str], elsewhere: Iterable[str]) -> None:
        body = program.tree.body
        imports = [node for node in body if isinstance(node, _IMPORTS)]
        self.names = frozenset(names)
        self.used = set(names) | _looked_up(program)
        self.modules = bound(imports)
        self.testers = set(_TESTERS)
        for line in imports:
            if isinstance(line, ast.ImportFrom) and (line.module or "").split(".")[0] in _TESTERS:
                self.testers |= bound([line])
        self.known = program.binds | BUILTINS | set(elsewhere)
        self.any_known = "*" in self.modules  # what a star brings is not seen
        functions = [node for node in body if isinstance(node, DEFINITIONS) and node.name not in names]
        self.readers = {node.name for node in functions if _reads(node)}
        self.methods = _OF_BUILT_INS - {
            part.name for node in body for part in ast.walk(node) if isinstance(part, DEFINITIONS)
        }
        self.typed: set[str] = set()  # variables whose values come from the input
        # Variables that the definitions look up, and those that may be parts of them, as in ``for row in TABLE``.
        self.shared = (self.used & program.binds) - program.defines - self.modules - self.names
        others: set[str] = set()
        for node in body:
            if not isinstance(node, DEFINITIONS) and not self.shared.isdisjoint(_loaded(node)):
                self.shared |= bound([node])
            if isinstance(node, (*DEFINITIONS, ast.Try)) or not self._is_typed(node):
                others |= bound([node])
            else:
                self.typed |= bound([node])
        self.typed -= others

    def _is_typed(self, node: ast.stmt) -> bool:
        return _reads(node) or not self.typed.isdisjoint(_loaded(node))

    def holds(self, node: ast.stmt) -> bool:
        """Return whether a statement surely is an example: it changes nothing that is used, nor calls what may."""
        if isinstance(node, ast.If) and "__name__" in _loaded(node.test):
            return True
        if isinstance(node, ast.Expr) and any(re.fullmatch("_*main", n) or n in self.readers for n in _loaded(node)):
            return True
        if not self.used.isdisjoint(bound([node])):
            return False
        if not isinstance(node, ast.Try) and self._is_typed(node):
            return True
        return all(self._is_quiet(part) for part in self._parts(node))

    def _parts(self, statement: ast.stmt) -> Iterator[ast.AST]:
        """Yield a statement and what is in it, but not what stands inside of an example."""
        parts: list[ast.AST] = [statement]
        while parts:
            part = parts.pop()
            yield part
            shows = isinstance(part, ast.Call) and not self._is_pure(part) and self._is_quiet(part)
            if not shows and not isinstance(part, (ast.Assert, ast.Raise, *DEFINITIONS)):
                parts.extend(ast.iter_child_nodes(part))

    def _is_pure(self, call: ast.Call) -> bool:
        """Return whether a call does no more than what stands in it does."""
        if isinstance(call.func, ast.Attribute):
            return call.func.attr in _OF_BUILT_INS and call.func.attr not in self.names
        return isinstance(call.func, ast.Name) and call.func.id in _PURE

    def _is_quiet(self, part: ast.AST) -> bool:
        """Return whether one part of a statement changes nothing that the definitions use."""
        if isinstance(part, ast.Subscript | ast.Attribute) and not isinstance(part.ctx, ast.Load):
            root = _root(part)
            return bool(root) and root not in self.used | self.shared | self.modules
        if not isinstance(part, ast.Call):
            return True
        if isinstance(part.func, ast.Name):
            name = part.func.id
            if name in self.names or name in _SHOWS or name in _PURE or name in self.testers or name in self.readers:
                return True
            return _MAIN.fullmatch(name) is not None or not (self.any_known or name in self.known)
        if not isinstance(part.func, ast.Attribute):
            return False
        root, method = _root(part.func), part.func.attr
        if root in self.modules and root not in self.testers:
            return method in ("exit", "_exit") or getattr(part.func.value, "attr", "") in ("stdout", "stderr")
        if root in self.testers or method in self.names:
            return True
        return root not in self.used | self.shared and method in self.methods


def _reads(node: ast.AST) -> bool:
    """Return whether a statement reads what a user types."""
    return any(
        (isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "input")
        or (isinstance(part, ast.Name) and part.id == "stdin")
        or (isinstance(part, ast.Attribute) and part.attr == "stdin")
        for part in ast.walk(node)
    )


def _root(node: ast.expr) -> str:
    """Return the name that an expression such as ``a.b[0].c`` starts from, or an empty text."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _is_stub(node: ast.stmt) -> bool:
    """Return whether a function has no body but imports, texts, ``pass``, ``...`` or NotImplementedError."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(
        isinstance(part, (ast.Pass, *_IMPORTS))
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in _loaded(part))
        for part in node.body
    )


def bound(body: Sequence[ast.stmt]) -> set[str]:
    """Return the names that statements bind, not counting what is local to the functions among them."""
    names: set[str] = set()
    for node in body:
        for part in [node] if isinstance(node, DEFINITIONS) else ast.walk(node):
            if isinstance(part, DEFINITIONS):
                names.add(part.name)
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
            elif isinstance(part, ast.alias):
                names.add((part.asname or part.name).split(".")[0])
    return names


def _loaded(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def _looked_up(program: Program) -> set[str]:
    """Return the module-level names that the definitions of a program look up, when made or when called."""
    definitions = [node for node in program.tree.body if isinstance(node, DEFINITIONS)]
    names: set[str] = set()
    for node in definitions:
        outer = [*node.decorator_list]
        outer += node.bases if isinstance(node, ast.ClassDef) else [d for d in (node.returns,) if d]
        names |= {name for part in outer for name in _loaded(part)}
        names |= _loaded(node.args) if not isinstance(node, ast.ClassDef) else set()
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = symtable.symtable(program.source, "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it parses, but it would not compile
        return names | {name for node in definitions for name in _loaded(node)}
    own = {node.name for node in definitions}
    tables = [child for child in table.get_children() if child.get_name() in own]
    while tables:
        table = tables.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables.extend(table.get_children())
    return names


def without_comments(source: str) -> str | None:
    """Return a source without comments and docstrings, or None where it cannot be read.

    A docstring stays where it is a body's only statement.
    """
    tree = parse(source)
    if tree is None:
        return None
    lines = source.split("\n")
    gone: set[int] = set()
    for node in ast.walk(tree):
        body = node.body if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else []
        if len(body) > 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            last = body[0].end_lineno or body[0].lineno
            if isinstance(body[0].value.value, str) and body[1].lineno > last:
                gone.update(range(body[0].lineno, last + 1))
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column].rstrip()
                if not lines[row - 1]:
                    gone.add(row)
    except (tokenize.TokenError, SyntaxError):
        return None
    bare = "\n".join(line for number, line in enumerate(lines, start=1) if number not in gone)
    bare = bare.strip("\n") + "\n"
    return bare if parse(bare) is not None else None


def renamed(source: str, old: str, new: str) -> str:
    """Return a source in which the variable, function or class ``old`` is called ``new``; attributes stay.

    SyntaxError or tokenize.TokenError where it is not Python.
    """
    lines = source.split("\n")
    places: list[tuple[int, int]] = []
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string == old and before != ".":
            places.append(token.start)
        before = token.string
    for row, column in reversed(places):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + new + line[column + len(old) :]
    return "\n".join(lines)


def tidied(source: str) -> str:
    """Return a source with LF line ends, spaces for tabs and no blanks at line ends, where that changes nothing."""
    source = source.replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"
    for size in (4, 8):
        lines = source.expandtabs(size).split("\n")
        tidy = "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"
        if same(source, tidy) or (parse(source) is None and parse(tidy) is not None):
            return tidy
    return source


def same(one: str, other: str) -> bool:
    """Return whether two sources have the same syntax tree; comments and layout aside."""
    first, second = parse(one), parse(other)
    try:
        return first is not None and second is not None and ast.dump(first) == ast.dump(second)
    except RecursionError:
        return False


def stacked(sources: Iterable[str]) -> str:
    """Return sources one behind the other, their ``from __future__`` imports first, where Python wants them."""
    future: dict[str, None] = {}
    parts: list[str] = []
    for source in sources:
        tree = parse(source) or ast.Module([], [])
        first = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        gone = {line for node in first for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
        others = [node for node in tree.body if node not in first]
        if any(not gone.isdisjoint((node.lineno, node.end_lineno)) for node in others):  # they share a line
            with contextlib.suppress(RecursionError):
                source = ast.unparse(ast.Module(others, []))
        elif gone:
            source = "\n".join(line for n, line in enumerate(source.split("\n"), start=1) if n not in gone)
        future |= dict.fromkeys(ast.unparse(node) for node in first)
        parts.append(source)
    return "\n\n".join(part for part in ["\n".join(future), *parts] if part.strip("\n"))


def called(sources: Sequence[str]) -> list[str]:
    """Return the names that sources call as functions, the outermost calls of each source first."""
    names: dict[str, None] = {}
    for source in sources:
        for node in ast.walk(parse(source) or ast.Module([], [])):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names.setdefault(node.func.id)
    return list(names)


def signatures(source: str, names: Sequence[str]) -> list[str]:
    """Return the first line of each definition of ``names`` at module level, a class's with its ``__init__``."""
    found = []
    for node in (parse(source) or ast.Module([], [])).body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            makers = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            found.append("\n".join([f"class {node.name}:", *(f"    {_head(maker)}" for maker in makers)]))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in names:
            found.append(_head(node))
    return found


def _head(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{word} {node.name}({ast.unparse(node.args)}){returns}:"

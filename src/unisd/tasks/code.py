"""The code family: prompts, demonstrations, grading by running, and wrong programs as negatives."""

import ast
import hashlib
import re
import tokenize
from collections.abc import Sequence
from typing import Any

from unisd.errors import UsageError
from unisd.sandbox import run_tests
from unisd.tasks.base import Example, Grade, NegativeRequest, Task
from unisd.tasks.code_reading import extract_code
from unisd.tasks.python_source import (
    BUILTINS,
    DEFINITIONS,
    bound,
    called,
    defined,
    parse,
    renamed,
    same,
    signatures,
    tidied,
    without_comments,
)

__all__ = ["CodeTask", "code_example", "demonstration", "extract_code", "prompt", "shape"]

ASK = "Answer with one Python code block that holds the whole program, and write nothing else."
BUGS = {
    "off-by-one": "an off-by-one error: a range, an index or a limit is wrong by one",
    "wrong operator": "a wrong operator: an arithmetic, comparison or logical operator is replaced by another one",
    "missing edge case": "a missing edge case: a special input, a condition or a last step is left out",
    "wrong return value": "a wrong return value: what is returned is not what was asked for, or not in that form",
}
"""The kinds of wrong programs, and how a request describes them."""

# What a wrong program may end with: a result that is not the right one, or an error on the way to it. A name or a
# module that is missing, input that is read, a limit that is reached: such a program is unfinished, not wrong.
_WRONG = frozenset(
    [
        *("AssertionError", "ArithmeticError", "AttributeError", "IndexError", "KeyError", "OverflowError"),
        *("RuntimeError", "StopIteration", "TypeError", "UnboundLocalError", "ValueError", "ZeroDivisionError"),
    ]
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_ERROR = re.compile(r"\b[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Iteration|Warning)\b")
_OTHER_SIGNATURE = re.compile(r"positional argument|required keyword|unexpected keyword|takes no arguments")
_BETRAYAL = re.compile(r"(?i)bug|wrong|incorrect|mistake|fault|flaw|off[-_ ]?by[-_ ]?one|should be|edge[-_ ]?case")


def prompt(question: str) -> str:
    """Return the student's user turn: the question, then the form of the answer."""
    return f"{question.strip()}\n\n{ASK}"


def demonstration(program: str) -> str:
    """Return a program as an answer in the format that the prompt asks for: one code block.

    Comments and docstrings go, so that a gold and a negative demonstration differ in what they do alone.
    """
    bare = without_comments(program)
    return f"```python\n{(program if bare is None else bare).strip()}\n```"


def code_example(
    item_id: str,
    text: str,
    reference: str,
    tests: Sequence[str],
    *,
    setup: str = "",
    show_tests: bool = True,
    **fields: Any,
) -> Example:
    """Build an Example whose answers define the function that ``tests`` call.

    Args:
        item_id: unique within the task.
        text: what is asked for.
        reference: a right solution. Where it names another function than the tests call, it is renamed.
        tests: statements with assertions, each run in the program's namespace after ``setup``.
        setup: statements that the tests need; it may use what the program defines.
        show_tests: whether the prompt shows setup and tests, or the signature alone.
        fields: kept beside ``name`` (of the function), ``tests`` and ``setup``.

    Raises:
        UsageError: the reference or a test is not Python, the text is empty, nothing is asserted, or no test uses a
            function that the reference could define.
    """
    reference, setup, tests = tidied(reference), setup.strip() and tidied(setup).strip(), [t.strip() for t in tests]
    for what, source in (("reference", reference), ("setup", setup), *(("test", test) for test in tests)):
        if parse(source) is None:
            raise UsageError(f"item {item_id}: its {what} is not Python: {' '.join(source.split())[:80]}")
    if not text.strip() or not tests:
        raise UsageError(f"item {item_id}: it has no text, or no tests")
    checks = [part for source in (*tests, setup) for part in ast.walk(_tree(source))]
    if not any(isinstance(part, ast.Assert | ast.Raise) for part in checks):
        raise UsageError(f"item {item_id}: its tests hold no assertion, so any program passes; write `assert ...`")
    name, reference = _wanted(item_id, reference, tests, setup)
    parts = [text.strip(), "The program must define:", *signatures(reference, [name, *called([*tests, setup])])]
    if show_tests:
        parts += ["It must pass these tests:", *([setup] if setup else []), "\n".join(tests)]
    question = "\n\n".join(parts)
    return Example(
        id=item_id,
        prompt=prompt(question),
        question=question,
        answer=reference,
        demonstration=demonstration(reference),
        fields={"name": name, "tests": tests, "setup": setup, **fields},
        shape=shape(reference),
    )


def _wanted(item_id: str, reference: str, tests: Sequence[str], setup: str) -> tuple[str, str]:
    """Return the name of the function that tests use, and a reference that defines it."""
    own, named = _free(tests, setup)
    for name in (*own, *named):
        if defined(_tree(reference), name):
            return name, reference
    definitions = re.findall(r"^(?:async[ ]+)?def[ ]+(\w+)", reference, re.MULTILINE)
    own = [name for name in own if name not in BUILTINS]
    if not own or not definitions:
        raise UsageError(f"item {item_id}: its tests call no function that its reference could define")
    try:
        return own[0], renamed(reference, definitions[-1], own[0])
    except (tokenize.TokenError, SyntaxError) as error:
        raise UsageError(f"item {item_id}: its reference is not Python ({error})") from error


def _free(tests: Sequence[str], setup: str) -> tuple[list[str], list[str]]:
    """Return the names that tests call, and the other ones that they look up (as in ``check(f)``), outermost first.

    What tests and setup bind themselves, arguments of their functions included, is not among them.
    """
    nodes = [node for source in (*tests, setup) for node in ast.walk(_tree(source))]
    given = bound([node for node in nodes if isinstance(node, ast.stmt)])
    given |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    statements = [node for source in tests for node in _tree(source).body]
    outer = [node for node in statements if not isinstance(node, DEFINITIONS)]
    module = bound([node for source in (*tests, setup) for node in _tree(source).body])
    named = [name for name in _looked_up(outer) if name not in module]
    named += [name for name in _looked_up(statements) if name not in given]
    return [name for name in called(tests) if name not in given], named


def _looked_up(statements: Sequence[ast.stmt]) -> list[str]:
    parts = [part for node in statements for part in ast.walk(node)]
    return [part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)]


def _tree(source: str) -> ast.Module:
    return parse(source) or ast.Module([], [])


class CodeTask(Task):
    """What every task graded by running programs shares; a task adds ``name``, ``splits`` and ``load``.

    Examples carry ``name`` (of the wanted function), ``tests`` and ``setup`` in their fields.
    """

    max_new_tokens = 1024
    metric = "pass@1"
    runs_programs = True

    def program(self, example: Example, text: str, cut: bool = False) -> str | None:
        """Return the program that an output holds, ready to be tested; None if there is none.

        ``cut`` says that the length limit ended the output.
        """
        return extract_code(text, [example.fields["name"]], cut)

    def grade(self, example: Example, text: str, cut: bool = False) -> Grade:
        """Run the program of one output against the tests; ``note`` says why it fails, or whether it had a say itself.

        No text makes it raise. ``cut`` says that the length limit ended it.

        Raises:
            UniSDError: this machine has no sandbox.
        """
        program = self.program(example, text, cut)
        if program is None:
            return Grade(correct=False, parsed=None, note="no Python program in the output")
        outcome = run_tests(program, _tests(example))
        note = _printable(outcome.reason)
        if outcome.passed and not outcome.separable:
            note = "not separable: the program's own types, or its process, had a say"
        return Grade(correct=outcome.passed, parsed=program, note=note)

    def negative_requests(self, example: Example) -> list[NegativeRequest]:
        """Return a request for each kind of bug; none for an item that has no demonstration."""
        if example.demonstration is None:
            return []
        return [
            NegativeRequest(
                f"{example.question}\n\nWrite this program with exactly one bug, {how}. It must run, look right at "
                f"first sight, and fail at least one test. Do not mention the bug, and write no comments.\n\n{ASK}",
                kind,
            )
            for kind, how in BUGS.items()
        ]

    def negative(self, example: Example, request: NegativeRequest, text: str) -> str | None:
        """Turn the model's program into a demonstration, or None unless it is wrong in a plausible way.

        It must define the wanted function, load without an error, and then fail a test by a wrong result or by an error
        on the way to one. A syntax error, a missing name or module, another signature, or a limit that is reached shows
        an unfinished program rather than a wrong one. None also where names or texts in it call it wrong; comments may,
        since a demonstration has none.

        Raises:
            UniSDError: this machine has no sandbox.
        """
        program = self.program(example, text)
        bare = program and without_comments(program)
        tree = parse(bare) if bare else None
        if example.demonstration is None or not bare or tree is None or not defined(tree, example.fields["name"]):
            return None
        said = {found.lower() for found in _BETRAYAL.findall(bare)}
        if said - {found.lower() for found in _BETRAYAL.findall(f"{example.question}\n{example.answer}")}:
            return None
        built = demonstration(bare)
        if same(bare, without_comments(example.answer) or example.answer) or built == example.demonstration:
            return None
        if not run_tests(bare, [f"assert callable({example.fields['name']})"]).passed:
            return None
        outcome = run_tests(bare, _tests(example))
        return built if not outcome.passed and _is_wrong(outcome.reason) else None


def _tests(example: Example) -> list[str]:
    # The setup may use what the program defines, so it comes behind it, with each test: none depends on another.
    setup = example.fields["setup"]
    return [f"{setup}\n{test}" if setup else test for test in example.fields["tests"]]


def _is_wrong(reason: str) -> bool:
    """Return whether a program failed as a wrong one does, going by the sandbox's reason."""
    if failed := re.match(r"assertion \d+ of \d+ failed(:?)", reason):
        # A remark before the colon: by a convention of the sandbox an object failed whose value may be right.
        return bool(failed[1])
    error = _ERROR.search(reason)
    return error is not None and error[0] in _WRONG and not _OTHER_SIGNATURE.search(reason)


def _printable(reason: str) -> str:
    return reason.encode("utf-8", "replace").decode("utf-8")


# Shapes


def shape(source: str) -> str:
    """Return a text that two programs share if they differ only in what they call things, comments and docstrings.

    Names of functions, classes, arguments and variables do not count, each in its own scope; those of attributes and
    methods do, and Python's own. It is a SHA-256 digest in hexadecimal.
    """
    tree = parse(source)
    try:
        text = source if tree is None else ast.dump(_Numbered(tree).visit(tree))
    except RecursionError:
        text = source
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Numbered(ast.NodeTransformer):
    """Numbers the names that a program gives, by their first occurrence; a second visit of a node changes nothing."""

    def __init__(self, tree: ast.Module) -> None:
        self.numbers: dict[tuple[ast.AST, str], str] = {}
        self.scopes: list[tuple[ast.AST, set[str]]] = []
        # Their arguments may be given by name.
        self.functions = {n.name: (n, _bindings(n)) for n in ast.walk(tree) if isinstance(n, _FUNCTIONS[:2])}

    def _number(self, scope: ast.AST, name: str) -> str:
        return self.numbers.setdefault((scope, name), f"${len(self.numbers)}")

    def _name(self, name: str) -> str:
        if name.startswith("$"):
            return name
        for depth, (scope, names) in enumerate(reversed(self.scopes)):
            if name in names and isinstance(scope, ast.ClassDef):
                if depth == 0:  # an attribute; the methods do not see it
                    return name
            elif name in names:
                return self._number(scope, name)
        return name

    def visit(self, node: ast.AST) -> ast.AST:
        """Number the names in a node, in the scopes that they belong to."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in self.functions:
            function, names = self.functions[node.func.id]
            for keyword in node.keywords:
                if keyword.arg in names:
                    keyword.arg = self._number(function, keyword.arg)
        if isinstance(node, ast.alias) and node.name != "*":
            node.asname = node.asname or node.name.split(".")[0]
        kept = {ast.keyword: ["arg"], ast.alias: ["name"]}.get(type(node), [])
        for field in ("id", "arg", "name", "asname", "rest"):
            if field not in kept and isinstance(value := getattr(node, field, None), str):
                setattr(node, field, self._name(value))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [self._name(name) for name in node.names]
        if not isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTIONS, *_COMPREHENSIONS)):
            return self.generic_visit(node)
        body = [] if isinstance(node, (ast.Lambda, *_COMPREHENSIONS)) else node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[: isinstance(body[0].value.value, str)]
        names = _bindings(node)
        for part in _outside(node):
            self.visit(part)
        self.scopes.append((node, names))
        self.generic_visit(node)
        self.scopes.pop()
        return node


def _outside(scope: ast.AST) -> list[ast.expr]:
    """Return the parts of a scope that are looked up outside of it."""
    if isinstance(scope, _COMPREHENSIONS):
        return [scope.generators[0].iter]
    if isinstance(scope, _FUNCTIONS):
        return [*scope.args.defaults, *(default for default in scope.args.kw_defaults if default)]
    return []


def _bindings(scope: ast.AST) -> set[str]:
    """Return the names that are local to a scope."""
    names: set[str] = set()
    outer: set[str] = set()
    parts = list(ast.iter_child_nodes(scope))
    if isinstance(scope, ast.Module):  # a function may make a global variable
        names.update(name for part in ast.walk(scope) if isinstance(part, ast.Global) for name in part.names)
    while parts:
        part = parts.pop()
        if isinstance(part, _COMPREHENSIONS):
            names |= {n.target.id for n in ast.walk(part) if isinstance(n, ast.NamedExpr)}
        elif isinstance(part, DEFINITIONS):
            names.add(part.name)
        elif isinstance(part, ast.Global | ast.Nonlocal):
            outer.update(part.names)
        elif isinstance(part, ast.alias):
            names.add((part.asname or part.name).split(".")[0])
        elif not isinstance(part, ast.Lambda):
            if isinstance(part, ast.arg):
                names.add(part.arg)
            elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
            elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
                names.add(part.name)
            elif isinstance(part, ast.MatchMapping) and part.rest:
                names.add(part.rest)
            parts.extend(ast.iter_child_nodes(part))
    return names - outer

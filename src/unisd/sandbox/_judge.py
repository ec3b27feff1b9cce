"""The judge inside the worker: runs setup, program and tests in one thread, and says which assertions held.

The launcher runs this file's code, after that of `_trust`, with a copy of the built-in names taken before anything
else ran, so no program can change what the functions here call. They hold no class, are no module that can be imported,
and never call a method of a program's object, so that no frame of theirs lies below code of the program's. The thread
that runs the program starts in bare ``exec``: walking its frames leads to the test at most, never here. What would lead
here, the interpreter reports to an audit hook, which ends the process: the garbage collector's lists, other threads'
frames, the code object of a test, a new code object for any function, tracing, and ctypes.
"""

import _operator
import _thread
import contextlib
import importlib
import sys
from collections.abc import Callable
from os import _exit, write
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unisd.sandbox._rewrite import bind, compile_quietly
    from unisd.sandbox._trust import (
        LEAVES,
        OWN,
        VALUE,
        Kind,
        Own,
        _members,
        _mro,
        differ,
        kind_check,
        known_types,
        type_check,
    )
else:
    from _rewrite import bind, compile_quietly  # the names of _trust are here already: see _runner

_ATTRIBUTE_EVENTS = ("object.__getattr__", "object.__setattr__", "object.__delattr__")
_IDENTITY = (_operator.is_, _operator.is_not)
_name = type.__dict__["__name__"].__get__
_exception_arguments = BaseException.__dict__["args"].__get__
_WHY = "a type of the program's own decides it"
_FATAL_EVENTS = frozenset(
    [
        "gc.get_objects",
        "gc.get_referrers",
        "gc.get_referents",
        "sys._current_frames",
        "sys._current_exceptions",
        "sys.addaudithook",
        "sys.settrace",
        "sys.setprofile",
        "sys.monitoring.register_callback",
        "code.__new__",
    ]
)


def preload(names: set[str]) -> None:
    """Import the modules that the sources name, so that all of their types are known before the program runs."""
    for name in sorted(names):
        with contextlib.suppress(BaseException):  # the program itself will see the error, or never import it
            importlib.import_module(name)


def checkers(own: Own, kind: Kind, record: dict[str, Any], unchanged: Callable[[], bool]) -> dict[str, Any]:
    """Return the functions that rewritten tests call, by the names that `_rewrite` gives them.

    ``record`` receives what they see: ``seen`` (numbers of the assertions that ran), ``failed`` (number of the first
    one that did not hold) and ``refused`` (whether a type that may not do so decided an operator). ``unchanged`` says
    whether the tests' helpers are still theirs.
    """

    def seen(site: int, held: bool) -> bool:
        record["seen"].add(site)
        if not held or record["refused"] or not unchanged():
            record["failed"].append(site)
        return held

    def plain(value: Any) -> Any:
        if type(value) not in LEAVES and own(type(value), ("__bool__", "__len__")):
            record["refused"].append(True)
        return value

    def pair(left: Any, right: Any) -> tuple[Any, Any, bool]:
        return left, right, differ(kind(left), kind(right))

    def member(item: Any, container: Any) -> tuple[Any, Any, bool, bool]:
        has = [cls for cls in _mro(type(container)) if "__contains__" in _members(cls)]
        inside = kind(item)
        return item, container, differ(inside, kind(container)), not has and inside == VALUE

    def element(value: Any) -> Any:
        if kind(value) != VALUE:
            record["refused"].append(True)
        return value

    def settle(mixed: bool, result: Any) -> Any:
        if mixed and kind(result) != OWN:
            record["refused"].append(True)
        return result

    def computed(mixed: bool, result: Any) -> Any:
        if mixed and kind(result) == VALUE:
            record["refused"].append(True)
        return result

    def pairs(operators: tuple[Any, ...], *values: Any) -> tuple[Any, Any, Any]:
        kinds = [kind(value) for value in values]
        for operator, left, right in zip(operators, kinds, kinds[1:], strict=False):
            if differ(left, right) and operator not in _IDENTITY:
                record["refused"].append(True)
        return operators, values, values[1:]

    table = {"seen": seen, "plain": plain, "pair": pair, "settle": settle, "pairs": pairs}
    table |= {"member": member, "element": element, "computed": computed}
    names = ["truth", "call", "contains", "is_", "is_not", "eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul"]
    names += ["matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and_", "or_", "xor"]
    return {**table, **{name: getattr(_operator, name) for name in names}}


def frozen_import(names: set[str], real: Callable[..., Any]) -> tuple[Callable[..., Any], dict[int, ModuleType]]:
    """Return an import function that hands out copies of ``names``, and the real modules by the id of their copy.

    Tests import through it: what a program does to ``math.isclose`` does not reach the copy.
    """
    copies: dict[str, ModuleType] = {}
    originals: dict[int, ModuleType] = {}
    for name in names:
        module = sys.modules.get(name)
        if type(module) is ModuleType and name != "sys":
            copy = ModuleType(name)
            copy.__dict__.update(module.__dict__)
            copies[name], originals[id(copy)] = copy, module

    def imported(name: str, scope: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        if level == 0 and name in copies and (wanted or "." not in name):
            return copies[name]
        return real(name, scope, local, wanted, level)

    return imported, originals


def describe(error: BaseException) -> str:
    """Return one line about an exception without calling any of its methods."""
    cls = type(error)
    if cls is MemoryError:
        return "out of memory"
    if cls is SystemExit:
        return "ended before its assertions ran (SystemExit)"
    arguments = _exception_arguments(error)
    first = arguments[0] if type(arguments) is tuple and arguments else ""
    text = repr(first) if cls is KeyError and type(first) in (str, int) else first if type(first) is str else ""
    line = f"line {error.lineno}: " if cls is SyntaxError and type(error.lineno) is int else ""  # type: ignore[attr-defined]
    return " ".join(f"{_name(cls)}: {line}{text}".split()).removesuffix(":")[:300]


def start_guard(hidden: tuple[dict[str, Any], ...], stop: Callable[[str], None]) -> None:
    """From now on, end the process (through ``stop``) when the program reaches for the judge or for ctypes.

    ``hidden`` are the global names of the tests and of what started them: their code holds the judge's functions.
    """

    def guard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _FATAL_EVENTS or event[:7] == "ctypes.":
            stop(f"used {event}, which the sandbox does not allow")
        elif event in _ATTRIBUTE_EVENTS and len(arguments) >= 2 and type(arguments[1]) is str:
            # A program can raise these events itself: nothing here may call its objects, or raise.
            owner, name = arguments[:2]
            if name == "__code__" and event == "object.__setattr__":
                stop("reached for the code of a function, which the sandbox does not allow")
            if name == "f_code" and type(owner) is FrameType:
                scope = owner.f_globals
            elif name in ("__code__", "__defaults__", "__kwdefaults__") and type(owner) is FunctionType:
                scope = owner.__globals__
            elif name in ("gi_code", "cr_code", "ag_code"):
                scope = hidden[0]
            else:
                return
            if any(scope is secret for secret in hidden):
                stop("reached for the code of its tests, which the sandbox does not allow")

    sys.addaudithook(guard)


def run_in_thread(code: CodeType, scope: dict[str, Any], done: Any) -> None:
    """Run ``code`` with a deep stack in a thread that starts in ``exec``, and wait for ``done`` (a held lock)."""
    _thread.stack_size(64 << 20)
    _thread.start_new_thread(exec, (code, scope))
    _thread.stack_size(0)
    done.acquire()


def write_and_end(handle: int, message: bytes) -> None:
    """Send the verdict and end at once: no exit handler, no waiting for threads."""
    write(handle, message)
    _exit(0)


_FRAME = "try:\n{body}except {error} as error:\n  {note}(error)\nfinally:\n  {release}()\n"
# Whether the end of a program waits for a thread is inherited from the one that starts it; from a main thread: yes.
_THREAD = "threading.current_thread()._daemonic = False"
_WAIT = """
for thread in threading.enumerate():
    if not thread.daemon and thread not in (threading.main_thread(), threading.current_thread()):
        thread.join()
"""


def judge(ready: dict[str, Any], stop: Callable[[str], None]) -> str:
    """Run setup, program and tests; return "" if every test ran to its end and held, else one line that says why not.

    Args:
        ready: ``program`` (code), ``codes`` (setup's and the tests' rewritten code, with markers), ``names`` (built-in
            names to bind), ``sites`` (source of each assertion), ``ranges`` (its numbers, for setup and each test),
            ``of_tests`` (modules that setup and tests import) and ``rebound`` (names that tests may give new values).
            It receives ``started`` just before the program runs.
        stop: ends the process with a reason.
    """
    own_builtins = dict(vars(sys.modules["builtins"]))
    importing, originals = frozen_import(ready["of_tests"], own_builtins["__import__"])
    own_builtins["__import__"] = importing
    test_scope: dict[str, Any] = {"__name__": "tests", "__builtins__": own_builtins}
    frame_scope: dict[str, Any] = {"__name__": "frame", "__builtins__": own_builtins}
    module = ModuleType("program")
    program_scope = module.__dict__
    program_scope["__builtins__"] = sys.modules["builtins"]
    sys.modules["program"] = sys.modules["__main__"] = module
    known: dict[int, tuple[type, dict[str, Any]]] = {}
    kinds_now: list[Kind] = []
    own = type_check(known, test_scope)

    def kind(value: Any) -> str:
        return kinds_now[0](value) if kinds_now else VALUE

    of_setup: dict[str, Any] = {}
    helpers: dict[str, Any] = {}
    record: dict[str, Any] = {"seen": set(), "failed": [], "refused": [], "phase": 0, "errors": [], "setup": False}

    def before_program() -> None:
        record["setup"] = True
        of_setup.update((name, value) for name, value in test_scope.items() if name[:2] != "__")
        program_scope.update((name, originals.get(id(value), value)) for name, value in of_setup.items())
        known.update(known_types())
        kinds_now.append(kind_check(own, known, test_scope))
        ready["started"] = True
        kinds = (FunctionType, ModuleType, type)
        rebound = ready["rebound"]
        helpers.update(
            (name, value) for name, value in of_setup.items() if type(value) in kinds and name not in rebound
        )
        start_guard((test_scope, frame_scope), stop)

    def after_program() -> None:
        test_scope.update((name, value) for name, value in program_scope.items() if name[:2] != "__")
        test_scope.update(of_setup)

    def unchanged() -> bool:
        return all(test_scope.get(name) is helper for name, helper in helpers.items())

    def next_phase() -> None:
        record["phase"] += 1

    table = checkers(own, kind, record, unchanged)
    table |= {name: own_builtins[name] for name in {*ready["names"], "all", "map", "exec", "BaseException"}}
    codes = [bind(code, table) for code in ready["codes"]]
    steps: list[tuple[Any, ...]] = [(exec, codes[0], test_scope), (before_program,), (next_phase,)]
    steps += [(exec, ready["program"], program_scope), (after_program,)]
    for code in codes[1:]:
        steps += [(next_phase,), (exec, code, test_scope)]
    steps = _waiting(steps, own_builtins)
    done = _thread.allocate_lock()
    done.acquire()
    run_in_thread(_frame_code(steps, record["errors"].append, done.release), frame_scope, done)
    if record["setup"] and "started" not in ready:
        raise record["errors"][0]  # neither setup's fault nor the program's
    return verdict(ready, record)


def _waiting(steps: list[tuple[Any, ...]], own_builtins: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return the steps with a wait for the program's threads at the end, where it can have any."""
    if "threading" not in sys.modules:
        return steps
    scope = {"__builtins__": own_builtins, "threading": sys.modules["threading"]}
    start, end = compile_quietly(_THREAD, "<start>"), compile_quietly(_WAIT, "<end>")
    return [(exec, start, scope), *steps, (exec, end, scope)]


def _frame_code(steps: list[tuple[Any, ...]], note: Any, release: Any) -> CodeType:
    """Return code that takes the steps (a function and its arguments each) in order, and keeps all in constants."""
    table: dict[str, Any] = {"note": note, "release": release, "BaseException": BaseException}
    body = ""
    for number, step in enumerate(steps):
        parts = []
        for place, value in enumerate(step):
            table[f"{number}.{place}"] = value
            parts.append(repr(f"\0unisd:{number}.{place}"))
        body += f"  {parts[0]}({', '.join(parts[1:])})\n"
    marks = {"error": "BaseException", "note": "note", "release": "release"}
    source = _FRAME.format(body=body, **{place: repr(f"\0unisd:{name}") for place, name in marks.items()})
    return bind(compile_quietly(source, "<judge>"), table)


def verdict(ready: dict[str, Any], record: dict[str, Any]) -> str:
    """Return why the record is no pass, or "" if it is one."""
    sites, phase, errors = ready["sites"], record["phase"], record["errors"]
    if record["failed"]:
        site = record["failed"][0]
        why = f" ({_WHY})" if record["refused"] else ""
        return f"assertion {site + 1} of {len(sites)} failed{why}: {sites[site]}"
    count = len(ready["codes"]) - 1
    where = "setup: " if phase == 0 else "" if phase == 1 else f"test {phase - 1} of {count}: "
    if errors:
        return where + describe(errors[0])
    if record["refused"]:
        return f"{where}{_WHY}"
    if phase != count + 1:
        return "ended before its assertions ran"
    for number, numbers in enumerate(ready["ranges"][1:], start=1):
        if numbers and not any(site in record["seen"] for site in numbers):
            return f"test {number} of {count}: none of its assertions ran"
    return ""

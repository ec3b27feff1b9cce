"""The process of the program: loads it, and does what the judge asks of it until the judge is done.

Nothing here has to be trusted. Whatever a program changes in this process, all that leaves it is plain data.
"""

from __future__ import annotations

import collections
import operator
import sys
import types
import warnings
from collections.abc import Mapping, Sequence, Set

from ._wire import Wire, standard_base

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any, NoReturn

_OPERATORS = (
    "eq ne lt le gt ge add sub mul matmul truediv floordiv mod pow lshift rshift and_ or_ xor"
    " getitem setitem delitem contains neg pos invert index"
)


def load(program: str, module: types.ModuleType, setup: str = "") -> Any:
    """Run sources in a module, without warnings and with no compiler options of this file."""
    for source in (setup, program):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, f"<{module.__name__}>", "exec", dont_inherit=True, optimize=0)
        exec(code, module.__dict__)


def new_module() -> types.ModuleType:
    """Return the module of the program, which it finds under the name that its classes get, and as the main one."""
    module = types.ModuleType("program")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["program"] = sys.modules["__main__"] = module
    return module


def serve(job: dict[str, Any], wire: Wire) -> NoReturn:
    """Answer the judge, to the end."""
    module = new_module()
    asked = {f"__{name}__": wire.asking(name) for name in ("call", "iter", "next")}
    wire.made = lambda name, base, own: type(name, (), {key: asked[key] for key in asked if key in own})
    kinds = (getattr, setattr, delattr, len, bool, iter, next, int, float, complex, str, repr, hash, format, abs, round)
    wire.operations |= {kind.__name__: kind for kind in kinds} | {
        **{name: getattr(operator, name) for name in _OPERATORS.split()},
        "call": lambda function, /, *arguments, **keywords: function(*arguments, **keywords),
        "instancecheck": lambda cls, value: isinstance(value, cls),
        "subclasscheck": lambda cls, other: issubclass(other, cls),
        "enter": lambda value: value.__enter__(),
        "exit": lambda value, *error: value.__exit__(*error),
        "load": lambda: load(job["program"], module, job["setup"]) or [*vars(module)],
        "name": lambda name: vars(module)[name],
        "number": _number,
        "plain": _plain,
    }
    while True:
        wire.serve(wire.receive())


def _number(value: Any) -> Any:
    """Return the number that an object says it is, None if it says none."""
    cls = type(value)
    for kind in (operator.index, float, complex, int):
        if hasattr(cls, f"__{kind.__name__}__"):
            return kind(value)
    return None


def _plain(value: Any) -> tuple[bool, Any]:
    """Return whether an object stands for a value of a standard type, and for which one."""
    if isinstance(value, type):
        return False, None
    if (number := _number(value)) is not None:
        return True, number
    if isinstance(value, collections.UserString):
        return True, str(value)
    for kind, made in ((Mapping, dict), (Set, set), (Sequence, list)):
        if isinstance(value, kind):
            return True, made(value)
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(value, name)]
    state = [*getattr(value, "__dict__", {}).values(), *(getattr(value, name) for name in slots)]
    kinds: list[Any] = [*map(type, state)]
    alone = len(state) == 1 and (state[0] is None or standard_base(kinds[0]) is not None)
    return alone, state[0] if alone else None

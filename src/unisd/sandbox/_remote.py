"""What stands in the tests for the program's objects.

A *remote* object stands for one that cannot be sent; what a test does with it is done in the program's process. With
two exceptions: a value that is expected must not enter that process, nor a type of the program's decide what it equals.
Before it is compared with a value of a standard type, the object is asked for the plain value that it stands for: the
number it converts to, what it contains, or its only attribute. That is compared here. Arithmetic with such a value is
done here, too, where the object converts to a number; elsewhere it must give another object of the program's, which can
be compared with the program's objects alone.

A *kept* object is a value of a standard type of which the program derived its own. It is the judge's own object and is
compared as its standard type compares; further attributes and methods are the program's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from ._wire import Wire

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any

_ALWAYS = ("delattr", "hash", "eq", "ne")  # even where the program's type has no such method
_OPEN = ("call", "getitem", "setitem", "delitem", "repr", "str", "delattr")  # of what arithmetic gave, too
_OTHERS = (
    "len bool next hash format iter float int complex index neg pos abs invert round contains enter exit"
    " instancecheck subclasscheck"
)
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMPUTED = "add sub mul matmul truediv floordiv mod pow lshift rshift and_ or_ xor"


def is_stand_in(value: Any) -> bool:
    """Whether a value is an object that stands for one of the program's, or the type of such objects."""
    cls = type(value)
    return hasattr(cls, "_unisd_base") or (issubclass(cls, type) and hasattr(value, "_unisd_base"))


def _is_remote(value: Any) -> bool:
    return getattr(type(value), "_unisd_base", None) is object


class StandIns:
    """Makes the types of stand-ins for one line.

    ``record`` receives ``own`` where objects of the program's were compared with each other, and ``foreign``, the name
    of a type of the program's that was compared with a standard one.
    """

    def __init__(self, wire: Wire, record: dict[str, Any]) -> None:
        self._wire, self._record = wire, record
        self._derived: set[int] = set()  # what arithmetic with a value of the tests' gave
        self._forwards = {f"__{name}__": self._forwarded(name) for name in (*_OPEN, *_OTHERS.split(), *_ALWAYS)}
        self._methods = self._forwards | {f"__{name}__": self._compared(name) for name in _COMPARED}
        for name in _COMPUTED.split():
            self._methods[f"__{name.rstrip('_')}__"] = self._computed(name, False)
            self._methods[f"__r{name.rstrip('_')}__"] = self._computed(name, True)

    def made(self, name: str, base: type, own: list[str]) -> type:
        """Make the type that stands for the program's type ``name``, derived from ``base`` with members ``own``."""
        remote = base is object
        asked = {"__doc__", "__class__"} if remote else {key for key in own if key[:2] != "__"}

        # What has no number is a copy that the tests made, or not complete yet.
        def get(this: Any, key: str) -> Any:
            if (key in asked or not hasattr(base, key)) and id(this) in self._wire.numbers:
                return self._wire.ask("getattr", this, key)
            return base.__getattribute__(this, key)

        def put(this: Any, key: str, value: Any) -> None:
            if key[:2] != "__" and id(this) in self._wire.numbers:
                self._wire.ask("setattr", this, key, value)
            else:
                base.__setattr__(this, key, value)

        methods = self._methods if remote else self._forwards
        always = [f"__{key}__" for key in _ALWAYS]
        wanted = {*own, *always} if remote else {*own}.difference(always)
        members: dict[str, Any] = {key: methods[key] for key in wanted if key in methods}
        members |= {"_unisd_base": base, "__getattribute__": get, "__setattr__": put}
        return type(str(name), (base,), members)

    def _refuse(self, value: Any) -> None:
        self._wire.fatal(f"the tests compute with an object of the program's own type {type(value).__name__}")

    def _forwarded(self, name: str) -> Callable[..., Any]:
        def method(this: Any, /, *arguments: Any, **keywords: Any) -> Any:
            if id(this) in self._derived and name not in _OPEN:
                self._refuse(this)
            return self._wire.ask(name, this, *arguments, **keywords)

        return method

    def _compared(self, name: str) -> Callable[..., Any]:
        def method(this: Any, other: Any) -> Any:
            if _is_remote(other):
                self._record["own"] = True
                return self._wire.ask(name, this, other)
            if other is None and name in ("eq", "ne"):
                return name == "ne"
            if id(this) in self._derived:
                self._refuse(this)
            stands, plain = self._wire.ask("plain", this)
            self._record["foreign"] = type(this).__name__
            stands = stands and not _is_remote(plain)
            if name in ("eq", "ne"):
                # Its own method is asked about the value that it gave itself, which tells it nothing.
                equal = stands and bool(plain == other) and bool(self._wire.ask("eq", this, plain))
                return equal is (name == "eq")
            if not stands:
                raise TypeError(f"an object of type {type(this).__name__} has no order among {type(other).__name__}")
            return getattr(operator, name)(plain, other)

        return method

    def _computed(self, name: str, swapped: bool) -> Callable[..., Any]:
        def method(this: Any, other: Any) -> Any:
            if id(this) in self._derived and not _is_remote(other):
                self._refuse(this)
            number = None if _is_remote(other) else self._wire.ask("number", this)
            if number is not None and not _is_remote(number):
                return getattr(operator, name)(*((other, number) if swapped else (number, other)))
            value = self._wire.ask(name, *((other, this) if swapped else (this, other)))
            if not _is_remote(other):
                if not _is_remote(value):
                    self._refuse(this)
                self._derived.add(id(value))
            return value

        return method

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

_ALWAYS = ("getattr", "setattr", "delattr", "hash", "eq", "ne")  # even where the program's type has no such method
_OPEN = ("getattr", "setattr", "delattr", "call", "getitem", "setitem", "delitem", "repr", "str")
_OTHERS = "len bool next hash format iter float int complex index neg pos abs invert round contains enter exit"
_FORWARDED = (*_OPEN, *_OTHERS.split(), "instancecheck", "subclasscheck")
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMPUTED = "add sub mul matmul truediv floordiv mod pow lshift rshift and_ or_ xor"


def is_stand_in(value: Any) -> bool:
    """Whether a value is an object that stands for one of the program's, or the type of such objects."""
    cls = type(value)
    return hasattr(cls, "_unisd_base") or (issubclass(cls, type) and hasattr(value, "_unisd_base"))


def _is_remote(value: Any) -> bool:
    return getattr(type(value), "_unisd_base", None) is object


def _attribute(get: Callable[..., Any], put: Callable[..., Any] | None, name: str) -> property:
    return property(lambda this: get(this, name), put and (lambda this, value: put(this, name, value)))


class StandIns:
    """Makes the types of stand-ins for one line.

    ``record`` receives ``own`` where objects of the program's were compared with each other, and ``foreign``, the name
    of a type of the program's that was compared with a standard one.
    """

    def __init__(self, wire: Wire, record: dict[str, Any]) -> None:
        self._wire, self._record = wire, record
        self._derived: set[int] = set()  # what arithmetic with a value of the tests' gave
        self._methods = {f"__{name}__": self._forwarded(name) for name in _FORWARDED}
        self._methods |= {f"__{name}__": self._compared(name) for name in _COMPARED}
        for name in _COMPUTED.split():
            self._methods[f"__{name.rstrip('_')}__"] = self._computed(name, False)
            self._methods[f"__r{name.rstrip('_')}__"] = self._computed(name, True)

    def made(self, name: str, base: type, own: list[str]) -> type:
        """Make the type that stands for the program's type ``name``, derived from ``base`` with members ``own``."""

        def get(this: Any, name: str) -> Any:
            if id(this) not in self._wire.numbers:  # a copy that the tests made
                raise AttributeError(f"{type(this).__name__!r} object has no attribute {name!r}")
            return self._methods["__getattr__"](this, name)

        def put(this: Any, name: str, value: Any) -> None:
            # Before it has a number, its constructor does.
            (self._methods["__setattr__"] if id(this) in self._wire.numbers else object.__setattr__)(this, name, value)

        members: dict[str, Any] = {"_unisd_base": base, "__getattr__": get}
        if base is object:
            always = [f"__{key}__" for key in _ALWAYS]
            members |= {key: self._methods[key] for key in (*own, *always) if key in self._methods}
            members |= {key: _attribute(get, None, key) for key in ("__doc__", "__class__")}
            return type(str(name), (), members)
        for key in own:
            if key[:2] != "__":
                members[key] = _attribute(get, put, key)
            elif key[2:-2] in _COMPARED:
                members |= {key: self._noted(name, getattr(base, key)), "__hash__": base.__hash__}
            elif key[2:-2] in _FORWARDED and key[2:-2] not in _ALWAYS:
                members[key] = self._methods[key]
        if not issubclass(base, BaseException):
            members["__setattr__"] = put
        return type(str(name), (base,), members)

    def _refuse(self, value: Any) -> None:
        self._wire.fatal(f"the tests compute with an object of the program's own type {type(value).__name__}")

    def _forwarded(self, name: str) -> Callable[..., Any]:
        def method(this: Any, *arguments: Any, **keywords: Any) -> Any:
            if id(this) in self._derived and name not in _OPEN:
                self._refuse(this)
            value = self._wire.ask(name, this, *arguments, **keywords)
            return iter(value) if name == "iter" and type(value) is list else value

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

    def _noted(self, name: str, compare: Callable[..., Any]) -> Callable[..., Any]:
        def method(this: Any, other: Any) -> Any:
            self._record["foreign"] = name
            return compare(this, other)

        return method

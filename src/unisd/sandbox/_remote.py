"""What stands in the tests for the program's objects.

A *remote* object stands for one that cannot be sent; what a test does with it is done in the program's process. Not so
comparisons and arithmetic with values of the tests: those must not enter that process, nor a type of the program's
decide what they equal. A *kept* object is a value of a standard type of which the program derived its own: the judge's
own object, with the program's further attributes and methods. `run` has the rules.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from ._wire import Wire, words

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any

_ALWAYS = ("delattr", "hash", "eq", "ne")  # even where the program's type has no such method
_OPEN = ("call", "getitem", "setitem", "delitem", "repr", "str", "delattr")  # of what arithmetic gave, too
_OTHERS = words(
    "len bool next hash format iter float int complex index neg pos abs invert round contains enter exit instancecheck"
    " subclasscheck"
)
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMPUTED = words("add sub mul matmul truediv floordiv mod pow lshift rshift and_ or_ xor")


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
        self._forwards = {f"__{name}__": self._method(name) for name in (*_OPEN, *_OTHERS, *_ALWAYS)}
        self._methods = self._forwards | {f"__{name}__": self._method(name) for name in _COMPARED}
        for name in _COMPUTED:
            self._methods[f"__{name.rstrip('_')}__"] = self._method(name)
            self._methods[f"__r{name.rstrip('_')}__"] = self._method(name, swapped=True)

    def made(self, name: str, base: Any, own: list[str]) -> type:
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
        if not remote:
            compared = [key for key in own if key[2:-2] in _COMPARED]
            members |= {key: self._noted(name, getattr(base, key)) for key in compared} | {"__hash__": base.__hash__}
        return type(str(name), (base,), members)

    def _method(self, name: str, swapped: bool = False) -> Callable[..., Any]:
        def method(this: Any, /, *arguments: Any, **keywords: Any) -> Any:
            paired = name in _COMPARED or name in _COMPUTED
            both = paired and _is_remote(arguments[0])
            if name in ("eq", "ne") and arguments[0] is None:
                return name == "ne"
            if id(this) in self._derived and name not in _OPEN and not both:
                self._refuse(this)
            if paired and not both:
                if name in _COMPARED:
                    return self._compare(name, this, arguments[0])
                return self._compute(name, this, arguments[0], swapped)
            if name in _COMPARED:
                self._record["own"] = True
            return self._wire.ask(name, *(arguments[0], this) if swapped else (this, *arguments), **keywords)

        return method

    def _compare(self, name: str, this: Any, other: Any) -> bool:
        stands, plain = self._wire.ask("plain", this)
        self._record["foreign"] = type(this).__name__
        stands = stands and not _is_remote(plain)
        if name in ("eq", "ne"):
            # Its own method is asked about the value that it gave itself, which tells it nothing.
            equal = stands and bool(plain == other) and bool(self._wire.ask("eq", this, plain))
            return equal is (name == "eq")
        if not stands:
            raise TypeError(f"an object of type {type(this).__name__} has no order among {type(other).__name__}")
        return bool(getattr(operator, name)(plain, other))

    def _compute(self, name: str, this: Any, other: Any, swapped: bool) -> Any:
        number = self._wire.ask("number", this)
        mine = this if number is None or _is_remote(number) else number
        pair = (other, mine) if swapped else (mine, other)
        if mine is not this:
            return getattr(operator, name)(*pair)
        value = self._wire.ask(name, *pair)
        if not _is_remote(value):
            self._refuse(this)
        self._derived.add(id(value))
        return value

    def _noted(self, name: str, compare: Callable[..., Any]) -> Callable[..., Any]:
        def method(this: Any, other: Any) -> Any:
            self._record["foreign"] = name
            return compare(this, other)

        return method

    def _refuse(self, value: Any) -> None:
        self._wire.fatal(f"the tests compute with an object of the program's own type {type(value).__name__}")

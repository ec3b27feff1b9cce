"""What stands in the tests for the program's objects.

A `remote` object is all that a test sees of an object that cannot be sent: what is done with it is done in the program's
process. With two exceptions, because a value that is expected would enter that process, or a type of the program's would
decide what such a value equals. Compared to a value of a standard type, the object is first asked for the plain value that
it stands for (the number it converts to, what it contains, or its only attribute), and that is compared here. Arithmetic
with such a value is done here, too, where the object says that it is a number; elsewhere its result must be another
object of the program's, which may then be compared with objects of the program's alone.

A `kept` object is a value of a standard type whose type the program derived from it: the judge's own object, compared as
that standard type compares; attributes and methods beyond it are the program's.
"""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from _wire import Wire  # type: ignore[import-not-found,unused-ignore]

# Special methods, with the operations that do them.
_FORWARDED = {
    **{name: name for name in ("len", "bool", "next", "hash", "repr", "str", "format", "getitem", "setitem", "delitem")},
    **{name: name for name in ("iter", "float", "int", "complex", "index", "neg", "pos", "abs", "invert", "round")},
    **{name: name for name in ("getattr", "setattr", "delattr", "contains", "call", "enter", "exit")},
    **{"instancecheck": "isinstance", "subclasscheck": "issubclass"},
}
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMPUTED = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and_", "or_", "xor")
_OPEN = {"getattr", "setattr", "delattr", "call", "getitem", "setitem", "delitem", "repr", "str"}


def special_methods(wire: Wire, record: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """Return the methods of remote objects by name.

    ``record`` receives ``own`` where objects of the program's were compared with each other, and ``foreign``, the name
    of a type that stands for no plain value and was compared with one.
    """
    derived: set[int] = set()  # what arithmetic with a value of the tests' gave

    def forwarded(name: str, done: str) -> Callable[..., Any]:
        def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
            if id(self) in derived and name not in _OPEN:
                refuse(self)
            value = wire.ask(done, self, *arguments, **keywords)
            if name == "iter" and type(value) is list:
                return iter(value)
            if done == "isinstance" or name == "contains":
                return bool(value)
            return value

        return method

    def refuse(value: Any) -> None:
        wire.fatal(f"the tests compute with an object of the program's own type {type(value).__name__}")

    def compared(name: str) -> Callable[..., Any]:
        def method(self: Any, other: Any) -> Any:
            if is_remote(other):
                record["own"] = True
                return wire.ask(name, self, other)
            if other is None and name in ("eq", "ne"):
                return name == "ne"
            if id(self) in derived:
                refuse(self)
            stands, plain = wire.ask("plain", self)
            if not stands or is_remote(plain):
                record["foreign"] = type(self).__name__
                if name in ("eq", "ne"):
                    return name == "ne"
                raise TypeError(f"an object of type {type(self).__name__} has no order among {type(other).__name__}")
            if name not in ("eq", "ne"):
                return getattr(operator, name)(plain, other)
            # Its own method is asked about the value that it gave itself, which tells it nothing.
            equal = bool(plain == other) and bool(wire.ask("eq", self, plain))
            record["foreign"] = type(self).__name__
            return equal is (name == "eq")

        return method

    def computed(name: str, swapped: bool) -> Callable[..., Any]:
        def method(self: Any, other: Any) -> Any:
            pair = (other, self) if swapped else (self, other)
            if is_remote(other):
                return wire.ask(name, *pair)
            if id(self) in derived:
                refuse(self)
            number = wire.ask("number", self)
            if number is not None and not is_remote(number):
                return getattr(operator, name)(*((other, number) if swapped else (number, other)))
            value = wire.ask(name, *pair)
            if not is_remote(value):
                refuse(self)
            derived.add(id(value))
            return value

        return method

    methods = {f"__{name}__": forwarded(name, done) for name, done in _FORWARDED.items()}
    methods |= {f"__{name}__": compared(name) for name in _COMPARED}
    for name in _COMPUTED:
        bare = name.rstrip("_")
        methods |= {f"__{bare}__": computed(name, False), f"__r{bare}__": computed(name, True)}
    return methods


def is_remote(value: Any) -> bool:
    """Whether a value stands for an object that stays in the program."""
    return getattr(type(value), "_unisd_remote", False) is True


def remote_factory(methods: dict[str, Callable[..., Any]]) -> Callable[[int, str, bool], Any]:
    """Return what makes remote objects from a number, the name of their type, and whether they can be called."""
    types: dict[tuple[str, bool], type] = {}

    def make(number: int, name: str, is_callable: bool) -> Any:
        if (name, is_callable) not in types:
            members: dict[str, Any] = {key: value for key, value in methods.items() if is_callable or key != "__call__"}
            members |= {"_unisd_remote": True, "__slots__": (), "__doc__": property(lambda s: s.__getattr__("__doc__"))}
            members["__class__"] = property(lambda s: s.__getattr__("__class__"))
            types[name, is_callable] = type(str(name), (), members)
        return types[name, is_callable]()

    return make


def kept_factory(wire: Wire, methods: dict[str, Callable[..., Any]]) -> Callable[[str, type, Iterable[str]], type]:
    """Return what makes a type for values of the type ``name``, which the program derived from ``base``."""
    never = {*(f"__{name}__" for name in (*_COMPARED, "hash", "getattr", "setattr")), "__class__"}

    def get(self: Any, name: str) -> Any:
        if id(self) not in wire.numbers:  # a copy that the tests made
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return methods["__getattr__"](self, name)

    def put(self: Any, name: str, value: Any) -> None:
        if id(self) in wire.numbers:
            methods["__setattr__"](self, name, value)
        else:  # its constructor does
            object.__setattr__(self, name, value)

    def attribute(name: str) -> property:
        return property(lambda self: get(self, name), lambda self, value: put(self, name, value))

    def make(name: str, base: type, own: Iterable[str]) -> type:
        members: dict[str, Any] = {key: attribute(key) for key in own if not key.startswith("__")}
        members |= {key: method for key, method in methods.items() if key in set(own) - never and key[2:-2] in _FORWARDED}
        members |= {"__getattr__": get, "_unisd_kept": True}
        if not issubclass(base, BaseException):
            members["__setattr__"] = put
        return type(str(name), (base,), members)

    return make

"""Which objects may take part in a comparison, decided from their types alone.

An object may equal everything although its own type says nothing of it: it stands for another object (a weak
reference's proxy), holds one (a fraction whose numerator is no number), or is meant to (``unittest.mock.ANY``). So
only types known to compare what they hold, with all that they hold, count as values here.

Runs as part of `_judge`, under the same rules: no class, and no call of a method of a program's object.
"""

import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    SimpleNamespace,
)
from typing import Any

LEAVES = frozenset({int, float, complex, bool, str, bytes, bytearray, range, type(None)})
VALUE, OWN, REFUSED = "", "\0own", "\0refused"
"""Kinds of objects: plain values, with operators that the program wrote, and never comparable. Any other kind is the
name of the library whose objects compare among themselves only."""

_HEAP_TYPE, _IMMUTABLE_TYPE = 1 << 9, 1 << 8
_mro = type.__dict__["__mro__"].__get__
_members = type.__dict__["__dict__"].__get__
_flags = type.__dict__["__flags__"].__get__
_module = type.__dict__["__module__"].__get__
_subclasses = type.__dict__["__subclasses__"]
# The special methods that can decide a comparison, a tolerance or a truth value.
_BINARY = ["add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift"]
_BINARY += ["and", "xor", "or"]
_BINARY += [f"r{name}" for name in _BINARY]
_COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge", "contains", "neg", "abs", "array_ufunc", "array_function", "array"]
_OTHERS = ["hash", "bool", "len", "round", "float", "int", "index", "getattribute", "array_wrap"]
_COMPARING = frozenset(f"__{name}__" for name in [*_BINARY, *_COMPARISONS])
DECIDING = _COMPARING | {f"__{name}__" for name in _OTHERS}

# Types of the standard library that compare what they hold. Those written in Python do so through their attributes.
_IN_C = {
    "collections": "deque OrderedDict defaultdict",
    "decimal": "Decimal",
    "datetime": "date datetime time timedelta timezone",
    "re": "Pattern",
    "array": "array",
    "enum": "Enum Flag EnumType",
}
_IN_PYTHON = {
    "collections": "Counter UserDict UserList UserString ChainMap",
    "fractions": "Fraction",
    "uuid": "UUID",
    "pathlib": "PurePath",
    "ipaddress": "_BaseAddress _BaseNetwork IPv4Address IPv4Network IPv6Address IPv6Network",
}
_HELD = ("data", "maps")  # attributes of these types that their classes do not declare
# Their types stand for anything, or for another object; so do those of Python itself that are not listed above.
_NEVER = frozenset({"weakref", "unittest", "mock", "pytest", "_pytest", "builtins", "types", "object"})
_WIDEST_TOLERANCE = 0.01

Known = dict[int, tuple[type, dict[str, Any]]]
Own = Callable[[type, Any], bool]
Kind = Callable[[Any], str]


def known_types() -> Known:
    """Return every changeable type that exists now, by id, with its members."""
    found: Known = {}
    pending: list[type] = [object]
    seen = {id(object)}
    while pending:
        cls = pending.pop()
        if _flags(cls) & _HEAP_TYPE:
            found[id(cls)] = (cls, dict(_members(cls)))
        for child in _subclasses(cls):
            if id(child) not in seen:
                seen.add(id(child))
                pending.append(child)
    return found


def _listed(table: dict[str, str]) -> list[type]:
    found = []
    for module, names in table.items():
        scope = vars(sys.modules[module]) if module in sys.modules else {}
        found += [scope[name] for name in names.split() if name in scope]
    return found


def _changed(cls: type, known: Known) -> bool:
    """Whether a function, property or number of a library's type is no longer the one that it was."""
    members = _members(cls)
    kinds = (FunctionType, property, classmethod, staticmethod, MemberDescriptorType, int, float, str)
    before = known[id(cls)][1].items()
    return any(type(old) in kinds and (name not in members or members[name] is not old) for name, old in before)


def type_check(known: Known, test_scope: dict[str, Any]) -> Own:
    """Return a function that says whether the program made, or changed, a method of a type that is among names."""

    def own(cls: type, names: Any) -> bool:
        for base in _mro(cls):
            flags = _flags(base)
            if not flags & _HEAP_TYPE or flags & _IMMUTABLE_TYPE:
                continue
            before = known[id(base)][1] if id(base) in known else {}
            members = _members(base)
            for name in names:
                if name not in members:
                    if name in before:
                        return True
                    continue
                method = members[name]
                if method is None or (name in before and before[name] is method):
                    continue
                if type(method) is FunctionType and method.__globals__ is test_scope:
                    continue
                return True
        return False

    return own


def _attributes(value: Any, cls: type) -> list[Any]:
    """Return what an object's slots and its dictionary hold."""
    found = []
    for base in _mro(cls):
        for name, member in [*_members(base).items()]:
            kind = type(member)
            if kind is MemberDescriptorType or (kind is GetSetDescriptorType and name == "__dict__"):
                try:
                    found.append(member.__get__(value, cls))
                except AttributeError:  # an empty slot
                    continue
    return found


def _readers() -> dict[type, Callable[[Any], Iterable[Any]]]:
    """Return, for types with contents of their own, a function that reads them without the help of the object."""
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values()), type({}.items()))
    readers: dict[type, Callable[[Any], Iterable[Any]]] = {kind: kind.__dict__["__iter__"] for kind in kinds}
    readers[dict] = lambda value: [*dict.keys(value), *dict.values(value)]
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"]
        holds_objects = numpy.dtype.__dict__["hasobject"].__get__
        for cls, source in ((numpy.ndarray, numpy.ndarray), (numpy.void, numpy.generic)):
            get_type, to_list = source.__dict__["dtype"].__get__, source.__dict__["tolist"]
            readers[cls] = functools.partial(_elements, get_type, to_list, holds_objects)
    return readers


def _elements(get_type: Any, to_list: Any, holds_objects: Any, value: Any) -> Iterable[Any]:
    return [to_list(value)] if holds_objects(get_type(value)) else ()


def _numpy_scalars() -> list[type]:
    found = [sys.modules["numpy"].generic] if "numpy" in sys.modules else []
    for cls in found:  # grows on the way
        found += _subclasses(cls)
    return found


def _is_narrow(value: Any, cls: type) -> bool:
    """Whether a value is a ``pytest.approx`` with tolerances so small that it equals next to nothing."""
    scopes = [part for part in _attributes(value, cls) if type(part) is dict]
    if len(scopes) != 1 or any(type(name) is not str for name in scopes[0]):
        return False
    scope = scopes[0]
    if {*scope} != {"expected", "rel", "abs", "nan_ok"}:
        return False
    return all(
        scope[name] is None or (type(scope[name]) in (int, float) and scope[name] <= _WIDEST_TOLERANCE)
        for name in ("rel", "abs")
    )


def _replaces(cls: type, last: type) -> bool:
    """Whether a type of the program's replaces an attribute that ``last``, or a type below it, compares with."""
    lower = [_members(base) for base in _mro(last)[:-1]]
    for base in _mro(cls):
        if base is last:
            return False
        for name in [*_members(base)]:
            if name[:2] == "__" or name == "_abc_impl":
                if name == "__getattr__":
                    return True
            elif name in _HELD or any(name in members for members in lower):
                return True
    return False


def _type_kinds(
    own: Own, known: Known, test_scope: dict[str, Any], with_contents: Iterable[type]
) -> Callable[[type], tuple[str, bool]]:
    """Return a function that gives the kind of a type's objects, and whether what they hold has a part in comparisons.

    ``with_contents`` are the types with contents of their own (see `_readers`).
    """
    builtin = [value for value in vars(sys.modules["builtins"]).values() if type(value) is type]
    in_python = {id(cls) for cls in _listed(_IN_PYTHON)}
    others = [*_numpy_scalars(), SimpleNamespace, MethodType, BuiltinFunctionType]
    trusted = in_python | {id(cls) for cls in [*builtin, *_listed(_IN_C), *with_contents, *others]}

    def of_type(cls: type) -> tuple[str, bool]:
        if own(cls, DECIDING):
            return OWN, True
        for base in _mro(cls):
            if base is object:
                break
            members = _members(base)
            if id(base) not in trusted and not any(members.get(name) is not None for name in _COMPARING):
                continue
            if any(id(other) in known and _changed(other, known) for other in _mro(base)):
                return OWN, True
            if id(base) in trusted:
                return (OWN if id(base) in in_python and _replaces(cls, base) else VALUE), True
            if any(type(members.get(n)) is FunctionType and members[n].__globals__ is test_scope for n in _COMPARING):
                return VALUE, False  # the tests' own class
            module = _module(base)
            root = module.split(".")[0] if type(module) is str else "object"
            return (REFUSED if root in _NEVER else root), True
        return VALUE, False  # equal to nothing but itself

    return of_type


def _parts_in(readers: dict[int, Callable[[Any], Iterable[Any]]], value: Any, cls: type) -> Iterable[Any]:
    """Return what an object holds, by the readers of types' contents by their ids."""
    found: list[Any] = []
    for base in _mro(cls):
        if base is type:
            return ()
        if id(base) in readers:
            if base is cls:
                return readers[id(base)](value)
            found += readers[id(base)](value)
            break
    return found + _attributes(value, cls)


def kind_check(own: Own, known: Known, test_scope: dict[str, Any]) -> Kind:
    """Return a function that says of which kind an object is, with everything inside it. Call before the program runs.

    A kind is one of the constants above, or a library's name.
    """
    readers = _readers()
    of_type = _type_kinds(own, known, test_scope, readers)
    by_id = {id(cls): reader for cls, reader in readers.items()}

    def kind(value: Any) -> str:
        if type(value) in LEAVES:
            return VALUE
        found = VALUE
        types: dict[int, tuple[str, bool]] = {}
        pending, seen = [value], {id(value): value}  # kept, so that no id is used twice
        while pending:
            item = pending.pop()
            cls = type(item)
            if id(cls) not in types:
                types[id(cls)] = of_type(cls)
            this, holds = types[id(cls)]
            if this == OWN:
                return OWN
            if this == REFUSED and id(cls) in known and _module(cls)[:8] == "_pytest." and _is_narrow(item, cls):
                this = VALUE
            if this != VALUE:
                found = this if found in (VALUE, this) else REFUSED
            for part in _parts_in(by_id, item, cls) if holds else ():
                if type(part) not in LEAVES and id(part) not in seen:
                    seen[id(part)] = part
                    pending.append(part)
        return found

    return kind


def differ(left: str, right: str) -> bool:
    """Whether objects of two kinds may not be compared."""
    return left != right or left == REFUSED

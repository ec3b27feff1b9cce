"""What passes between the judge and the program: plain data, in frames of JSON, over two pipes.

Both ends hold a `Wire`. A question names an operation, its arguments, and the contents of the containers in them; the
answer is a value or an exception, with the contents that those containers have by then, which go into the asker's own
objects. Containers are numbered, so that one that goes and comes back is the same object, cycles included. A value of a
standard type arrives as an object that the receiver made; whatever else one end holds stays there, and the other gets a
number for it. Nothing that arrives names code to run: the types that can be made are listed here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from importlib import import_module

TYPE_CHECKING = False  # importing typing would take a tenth of the launcher's start
if TYPE_CHECKING:
    from typing import Any

ATOMS = frozenset([type(None), bool, int, float, str])
MUTABLE = {kind.__name__: kind for kind in (list, dict, set, deque, Counter, OrderedDict, defaultdict, bytearray)}
_LONG_BITS = 1 << 13  # longer numbers would take long to write in decimal digits
_EXACT: dict[Any, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    str: str.__str__,
    tuple: lambda v: (*v,),
}
_TYPES = ("builtins", "collections", "datetime", "decimal", "fractions", "types", "json", "re", "pathlib", "uuid")


def _text(value: Any) -> list[Any]:
    return [str(value)]


def _clock(time: Any) -> list[Any]:
    return [time.hour, time.minute, time.second, time.microsecond, time.tzinfo]


# Standard types whose values do not change: what their constructor, or that of _MAKERS, makes them from.
VALUES: dict[str, Callable[[Any], list[Any]]] = {
    "builtins.complex": lambda z: [z.real, z.imag],
    "builtins.bytes": lambda b: [b.decode("latin-1"), "latin-1"],
    "builtins.range": lambda r: [r.start, r.stop, r.step],
    "builtins.slice": lambda s: [s.start, s.stop, s.step],
    "builtins.frozenset": lambda s: [tuple(s)],
    "fractions.Fraction": lambda q: [q.numerator, q.denominator],
    "datetime.datetime": lambda t: [t.year, t.month, t.day, *_clock(t)],
    "datetime.date": lambda t: [t.year, t.month, t.day],
    "datetime.time": _clock,
    "datetime.timedelta": lambda t: [t.days, t.seconds, t.microseconds],
    "datetime.timezone": lambda z: [z.utcoffset(None)],
    "re.Pattern": lambda p: [p.pattern, p.flags],
    "array.array": lambda a: [a.typecode, tuple(a)],
    "types.SimpleNamespace": lambda n: [tuple(vars(n).items())],
    "numpy.ndarray": lambda a: [tuple(a.ravel().tolist()), a.dtype.str, a.shape],
    "numpy.number": lambda n: [n.item(), n.dtype.str],
    "dict.keys": lambda view: [tuple(dict.fromkeys(view).items())],
    "dict.values": lambda view: [tuple(enumerate(view))],
    "dict.items": lambda view: [tuple(view)],
    **dict.fromkeys(["decimal.Decimal", "uuid.UUID", "pathlib.PosixPath", "pathlib.PurePosixPath"], _text),
    **{f"ipaddress.IPv{n}{kind}": _text for n in (4, 6) for kind in ("Address", "Network", "Interface")},
}
_MAKERS: dict[str, Callable[..., Any]] = {
    "re.Pattern": re.compile,
    "types.SimpleNamespace": lambda pairs: types.SimpleNamespace(**dict(pairs)),
    "numpy.ndarray": lambda values, kind, shape: import_module("numpy").array(values, kind).reshape(shape),
    "numpy.number": lambda value, kind: import_module("numpy").array(value, kind)[()],
    "dict.keys": lambda pairs: dict(pairs).keys(),
    "dict.values": lambda pairs: dict(pairs).values(),
    "dict.items": lambda pairs: dict(pairs).items(),
}
_keys: dict[type, str | None] = {type(getattr({}, name)()): f"dict.{name}" for name in ("keys", "values", "items")}
_bases: dict[type, type | None] = {}


def _key(cls: type) -> str | None:
    """Return the name by which the other end finds its own type of this kind; None for types that are not standard."""
    if cls not in _keys:
        number = cls.__module__ == "numpy" and issubclass(cls, sys.modules["numpy"].generic)
        _keys[cls] = "numpy.number" if number else None
        for module in dict.fromkeys([*_TYPES, *(key.partition(".")[0] for key in VALUES)]):
            members = vars(sys.modules[module]) if module in sys.modules else {}
            for name in [cls.__name__, *(members if module == "types" else ())]:
                if members.get(name) is cls and _keys[cls] is None:
                    _keys[cls] = f"{module}.{name}"
    return _keys[cls]


def _type(key: str) -> type:
    module, _, name = key.partition(".")
    found = getattr(import_module(module), name) if module in _TYPES or key in VALUES else None
    if not isinstance(found, type):
        raise ValueError(f"no standard type {key!r}")
    return found


def standard_base(cls: type) -> type | None:
    """Return the standard type that values of ``cls`` are sent as, None if they stay where they are."""

    def is_sent(base: type) -> bool:
        key = _key(base)
        return (
            base in _EXACT or base in MUTABLE.values() or key in VALUES or bool(key and issubclass(base, BaseException))
        )

    if cls not in _bases:
        _bases[cls] = next(filter(is_sent, cls.__mro__), None)
    return _bases[cls]


def _exception(cls: Any, arguments: Iterable[Any]) -> BaseException:
    if not issubclass(cls, BaseException):
        raise TypeError("no exception")
    try:
        return cls(*arguments)  # type: ignore[no-any-return]
    except Exception:
        error: BaseException = cls.__new__(cls)
        error.args = tuple(arguments)
        return error


class Wire:
    """One end of the line.

    Args:
        reading, writing: file descriptors.
        first: the first number for own objects: 0 at one end, 1 at the other.
        limit: bytes of the longest message to take.
        fatal: ends the process with a reason; called where the line breaks ("") or a message cannot be read.
    """

    def __init__(self, reading: int, writing: int, first: int, limit: int, fatal: Callable[[str], Any]):
        self._reading, self._writing, self._next, self._limit, self.fatal = reading, writing, first, limit, fatal
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self._types: dict[type, int] = {}
        self._made_types: dict[int, type] = {}
        self.operations: dict[str, Callable[..., Any]] = {}
        """What the other end may ask for."""
        self.remote: Callable[[str, bool], Any]
        """Makes what stands here for an object of the other end, from its type's name and whether it can be called."""
        self.kept: Callable[[str, type, Iterable[str]], type]
        """Makes the type for values whose type at the other end is derived from a standard one."""
        self.foreign: Callable[[Any], list[Any]] = self.handle
        """Encodes what is of no standard type."""
        self.module: Callable[[str], Any] = import_module
        self.derives = True
        """Whether values of types derived from standard ones are sent as values."""
        self.serving = 0
        """How many questions of the other end are being answered."""

    def _json(self, work: Callable[[], Any]) -> Any:
        digits = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return work()
        finally:
            sys.set_int_max_str_digits(digits)

    def send(self, message: Any) -> None:
        """Write a message."""
        text = self._json(lambda: json.dumps(message, separators=(",", ":"), check_circular=False))
        view = memoryview(f"{len(text):016x}{text}".encode("ascii"))
        try:
            while view:
                view = view[os.write(self._writing, view) :]
        except OSError:
            self.fatal("")

    def receive(self) -> Any:
        """Read a message: a list that begins with a text."""
        try:
            size = int(self._read(16), 16)
            if size > self._limit:
                self.fatal(f"answered more than {self._limit} bytes")
            data = self._read(size)
            message = self._json(lambda: json.loads(data))
            if type(message) is list and message and type(message[0]) is str:
                return message
        except MemoryError:
            self.fatal("out of memory")
        except (ValueError, RecursionError):
            pass
        return self.fatal("answered what cannot be read")

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(os.read(self._reading, min(size, 1 << 20)))
            size -= len(parts[-1])
            if not parts[-1]:
                self.fatal("")
        return b"".join(parts)

    def ask(self, operation: str, *arguments: Any, **keywords: Any) -> Any:
        """Have the other end do something; return its value or raise its exception. It may ask back meanwhile."""
        self.send([operation, *self.pack([*arguments, keywords])])
        while (message := self.receive())[0] not in ("value", "raise"):
            self.serve(message)
        value = self.unpack(message)[0]
        if message[0] == "value":
            return value
        raise value if isinstance(value, BaseException) else RuntimeError(str(value))

    def serve(self, message: Any) -> None:
        """Do what the other end asks for, and answer."""
        *arguments, keywords = self.unpack(message)
        changed = [self.objects[node[0]] for node in message[1]]
        self.serving += 1
        try:
            value = self.operations[message[0]](*arguments, **keywords)
            owner = getattr(arguments[0], "__self__", None) if message[0] == "call" else None
            if id(owner) in self.numbers:  # a method: what it belongs to may have changed, too
                changed.append(owner)
            answer = ["value", *self.pack([value, *changed])]
        except BaseException as error:
            try:
                answer = ["raise", *self.pack([error, *changed])]
            except BaseException:
                answer = ["raise", *self.pack([RuntimeError(type(error).__name__)])]
        self.serving -= 1
        self.send(answer)

    def keep(self, value: Any, number: int | None = None) -> int:
        """Number an object for good (both ends hold on to it)."""
        if number is None:
            if id(value) in self.numbers:
                return self.numbers[id(value)]
            number, self._next = self._next, self._next + 2
        self.objects[number] = value
        self.numbers[id(value)] = number
        return number

    def handle(self, value: Any) -> list[Any]:
        """Encode an object that stays here."""
        return ["h", self.keep(value), type(value).__name__, callable(value)]

    def pack(self, values: list[Any]) -> list[Any]:
        """Return the contents of all containers in ``values``, and the values."""
        nodes: list[Any] = []
        pending: dict[int, None] = {}

        def one(value: Any) -> Any:
            cls = type(value)
            if cls in ATOMS:
                return ["i", hex(value)] if cls is int and value.bit_length() > _LONG_BITS else value
            if cls is tuple:
                return ["t", *map(one, value)]
            base = standard_base(cls)
            known = id(value) in self.numbers
            if base is not None and base is not cls and not self.derives and not known:
                copied = hasattr(cls, "_unisd_kept") and not issubclass(cls, BaseException)
                return one(base(value)) if copied else self.foreign(value)  # type: ignore[call-arg]
            if base in MUTABLE.values():
                number = self.keep(value)
                pending.setdefault(number)
                return ["@", number]
            if known:
                return ["@", self.numbers[id(value)]]
            if isinstance(value, types.ModuleType | type):
                return named(value)
            if base is None:
                return self.foreign(value)
            return plain(value, base) if base is cls else ["k", self.keep(value), derived(cls), plain(value, base)]

        def named(value: Any) -> Any:
            if isinstance(value, types.ModuleType):
                return ["M", value.__name__]
            if _key(value) is not None:
                return ["T", _key(value)]
            return ["C", self.keep(value), derived(value)] if issubclass(value, BaseException) else self.foreign(value)

        def plain(value: Any, base: type) -> Any:
            if base in _EXACT:
                return one(_EXACT[base](value))
            if issubclass(base, BaseException):
                return ["x", _key(base), *map(one, value.args)]
            key = _key(base) or ""
            return ["v", key, *map(one, VALUES[key](value))]

        def derived(cls: type) -> list[Any]:
            base = standard_base(cls) or object
            own = {name for parent in cls.__mro__ if parent not in base.__mro__ for name in vars(parent)}
            return [self._types.setdefault(cls, len(self._types)), cls.__name__, _key(base), sorted(own)]

        def contents(value: Any) -> list[Any]:
            base: Any = standard_base(type(value))
            extra = one(value.default_factory) if base is defaultdict else value.maxlen if base is deque else None
            if issubclass(base, dict):
                parts: Any = [part for pair in base.items(value) for part in pair]
            else:
                parts = [value.decode("latin-1")] if base is bytearray else [*base.__iter__(value)]
            if not ATOMS.issuperset(map(type, parts)):
                parts = [*map(one, parts)]
            own = type(value) is not base and self.derives
            return [base.__name__, parts, extra, derived(type(value)) if own else None]

        encoded = [*map(one, values)]
        done: set[int] = set()
        while pending:
            number, _ = pending.popitem()
            if number not in done:
                done.add(number)
                nodes.append([number, *contents(self.objects[number])])
        return [nodes, encoded]

    def unpack(self, message: list[Any]) -> list[Any]:
        """Return the values of a message, after its contents have been put into the containers."""
        try:
            _, nodes, values = message
            for number, name, _, extra, kind in nodes:
                if number not in self.objects:
                    base = self._derived(kind) if kind else MUTABLE[name]
                    given = [[], extra] if name == "deque" else [self._one(extra)] if name == "defaultdict" else []
                    self.keep(base(*given), number)
            for number, name, parts, _, _ in nodes:
                self._fill(self.objects[number], MUTABLE[name], parts)
            if values:
                return [self._one(value) for value in values]
        except MemoryError:
            self.fatal("out of memory")
        except Exception as error:
            self.fatal(f"answered what cannot be read ({type(error).__name__})")
        return self.fatal("answered what cannot be read")  # type: ignore[no-any-return]

    def _fill(self, shell: Any, base: Any, parts: Any) -> None:
        if standard_base(type(shell)) != base:
            raise TypeError("another type")
        if list in set(map(type, parts)):
            parts = [*map(self._one, parts)]
        base.clear(shell)
        if issubclass(base, dict):
            for key, value in zip(parts[::2], parts[1::2], strict=True):
                base.__setitem__(shell, key, value)
        elif base is bytearray:
            shell[:] = parts[0].encode("latin-1")
        else:
            (base.update if base is set else base.extend)(shell, parts)

    def _one(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        tag, first, *parts = value if len(value) > 1 else [*value, None]
        if tag == "t":
            return tuple(map(self._one, value[1:]))
        if tag == "@":
            return self.objects[first]
        if tag == "i":
            return int(first, 16)
        if tag == "v" and first in VALUES:
            return (_MAKERS.get(first) or _type(first))(*map(self._one, parts))
        if tag == "x":
            return _exception(_type(first), [*map(self._one, parts)])
        if tag == "T":
            return _type(first)
        if tag == "M":
            return self.module(first)
        if tag not in ("h", "k", "C"):
            raise ValueError(f"no tag {tag!r}")
        if first not in self.objects:
            self.keep(self.remote(*parts) if tag == "h" else self._kept(*parts), first)
        return self.objects[first]

    def _kept(self, kind: list[Any], content: Any = None) -> Any:
        cls: Any = self._derived(kind)
        if content is None:
            return cls
        plain = self._one(content)
        if isinstance(plain, BaseException):
            return _exception(cls, plain.args)
        key = _key(type(plain))
        return cls.__new__(cls, *(VALUES[key](plain) if key in VALUES else [plain]))

    def _derived(self, kind: list[Any]) -> type:
        number, name, key, own = kind
        if number not in self._made_types:
            self._made_types[number] = self.kept(name, _type(key), own)
        return self._made_types[number]

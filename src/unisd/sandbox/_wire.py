"""What passes between the judge and the program: plain data, in frames of JSON, over two pipes.

Both ends hold a `Wire`. A call names an operation, its arguments, and the contents of the containers in them; the answer
is a value or an exception, with the contents that those containers have by then, which are put into the caller's own
objects. Lists, dictionaries, sets and their kin are numbered, so that one that goes and comes back is the same object,
cycles included. A value of a standard type arrives as an object that the receiver made. Whatever else one end holds stays
there, and the other gets a number for it. Nothing that arrives names code to run: the types that can be made are listed
here.
"""

import base64
import json
import os
import re
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

ATOMS = frozenset([type(None), bool, int, float, str])
_PLUS = {int: int.__pos__, float: float.__pos__, str: str.__str__, tuple: lambda v: tuple.__getitem__(v, slice(None))}
MUTABLE = {kind.__name__: kind for kind in (list, dict, set, deque, Counter, OrderedDict, defaultdict, bytearray)}
_LONG_BITS = 1 << 13  # longer numbers would take long to write in decimal digits
_MAPPINGS = (dict, Counter, OrderedDict, defaultdict)
_VIEWS: dict[type, Callable[[Any], dict[Any, Any]]] = {
    type({}.keys()): dict.fromkeys,
    type({}.values()): lambda view: dict(enumerate(view)),
    type({}.items()): dict,
}


def _clock(t: Any) -> list[Any]:
    return [t.hour, t.minute, t.second, t.microsecond, t.tzinfo]


def _text(value: Any) -> list[Any]:
    return [str(value)]


# Standard types without contents that change: what their constructor makes them from.
VALUES: dict[str, Callable[[Any], list[Any]]] = {
    "builtins.complex": lambda z: [z.real, z.imag],
    "builtins.bytes": lambda b: [b.decode("latin-1"), "latin-1"],
    "builtins.range": lambda r: [r.start, r.stop, r.step],
    "builtins.slice": lambda s: [s.start, s.stop, s.step],
    "builtins.frozenset": lambda s: [tuple(s)],
    "decimal.Decimal": _text,
    "fractions.Fraction": lambda q: [q.numerator, q.denominator],
    "datetime.datetime": lambda t: [t.year, t.month, t.day, *_clock(t)],
    "datetime.date": lambda t: [t.year, t.month, t.day],
    "datetime.time": _clock,
    "datetime.timedelta": lambda t: [t.days, t.seconds, t.microseconds],
    "datetime.timezone": lambda z: [z.utcoffset(None)],
    "zoneinfo.ZoneInfo": lambda z: [z.key],
    "re.Pattern": lambda p: [p.pattern, p.flags],
    "array.array": lambda a: [a.typecode, tuple(a)],
    "types.SimpleNamespace": lambda n: [tuple(vars(n).items())],
    "uuid.UUID": _text,
    **{f"pathlib.{kind}": _text for kind in ("PosixPath", "PurePosixPath")},
    **{f"ipaddress.IPv{n}{kind}": _text for n in (4, 6) for kind in ("Address", "Network", "Interface")},
}
_MAKERS: dict[str, Callable[..., Any]] = {
    "re.Pattern": re.compile,
    "types.SimpleNamespace": lambda pairs: types.SimpleNamespace(**dict(pairs)),
}
_TYPES = ("builtins", "collections", "datetime", "decimal", "fractions", "types", "json", "re", "pathlib", "uuid")
_keys: dict[type, str | None] = {}


def _type_key(cls: type) -> str | None:
    """Return the name of a standard type by which the other end finds its own."""
    if cls not in _keys:
        _keys[cls] = None
        for module in dict.fromkeys([*_TYPES, *(key.partition(".")[0] for key in VALUES)]):
            members = vars(sys.modules[module]) if module in sys.modules else {}
            names = [cls.__name__, *(members if module == "types" else ())]
            name = next((name for name in names if members.get(name) is cls), None)
            if name is not None:
                _keys[cls] = f"{module}.{name}"
                break
    return _keys[cls]


def _standard_type(key: str) -> type:
    module, _, name = key.partition(".")
    found = getattr(import_module(module), name) if module in _TYPES or key in VALUES else None
    if not isinstance(found, type):
        raise ValueError(f"no standard type {key!r}")
    return found


class Wire:
    """One end of the line.

    Args:
        reading, writing: file descriptors.
        first: the first number for own objects: 0 at one end, 1 at the other.
        limit: bytes of the longest message to take.
        fatal: ends the process with a reason; called where the line breaks or a message cannot be read.
    """

    def __init__(
        self, reading: int, writing: int, first: int, limit: int, fatal: Callable[..., Any], **operations: Any
    ):
        self._pipes = reading, writing
        self._next = first
        self._limit = limit
        self.fatal = fatal
        self.operations = operations
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self._types: dict[type, int] = {}
        self._made_types: dict[int, type] = {}
        self.remote: Callable[[int, str, bool], Any]
        """Makes what stands here for an object of the other end, from its number, its type's name, if it is callable."""
        self.kept: Callable[[str, type, Iterable[str]], type]
        """Makes the type for values whose type at the other end is derived from a standard one."""
        self.foreign: Callable[[Any], list[Any]] = self.handle
        """Encodes what is of no standard type."""
        self.module: Callable[[str], Any] = import_module
        """Finds a module."""
        self.derives = True
        """Whether values of types derived from standard ones are sent as values, with a number."""
        self.serving = 0
        """How many questions of the other end are being answered."""

    # ------------------------------------------------------------ messages

    def send(self, message: Any) -> None:
        """Write a message; its numbers may have any number of digits."""
        digits = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            data = json.dumps(message, separators=(",", ":"), check_circular=False).encode("ascii")
        finally:
            sys.set_int_max_str_digits(digits)
        view = memoryview(b"%016x" % len(data) + data)
        while view:
            view = view[os.write(self._pipes[1], view) :]

    def receive(self) -> Any:
        """Read a message."""
        try:
            size = int(self._read(16), 16)
        except ValueError:
            self.fatal("answered what cannot be read")
        if size > self._limit:
            self.fatal(f"answered more than {self._limit} bytes")
        data = self._read(size)
        digits = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            message = json.loads(data)
        except MemoryError:
            self.fatal("out of memory")
        except (ValueError, RecursionError) as error:
            self.fatal(f"answered what cannot be read ({type(error).__name__})")
        finally:
            sys.set_int_max_str_digits(digits)
        if type(message) is not list or not message or type(message[0]) is not str:
            self.fatal("answered what cannot be read")
        return message

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._pipes[0], min(size, 1 << 20))
            if not part:
                self.fatal("")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def ask(self, operation: str, *arguments: Any, **keywords: Any) -> Any:
        """Have the other end do something; return its value or raise its exception. It may ask back meanwhile."""
        self.send([operation, *self.pack([*arguments, keywords])])
        while True:
            message = self.receive()
            if message[0] not in ("value", "raise"):
                self.serve(message)
                continue
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
            operation = self.operations[message[0]]
            kind, value = "value", operation(*arguments, **keywords)
            owner = getattr(arguments[0], "__self__", None) if message[0] == "call" else None
            if id(owner) in self.numbers:  # a method: what it belongs to may have changed, too
                changed.append(owner)
            answer = self.pack([value, *changed])
        except BaseException as error:
            kind, value = "raise", error
            try:
                answer = self.pack([error, *changed])
            except BaseException:
                answer = self.pack([RuntimeError(type(error).__name__)])
        self.serving -= 1
        self.send([kind, *answer])

    # ------------------------------------------------------------ numbers

    def keep(self, value: Any, number: int | None = None) -> int:
        """Number an object for good (both ends hold on to it)."""
        if number is None:
            number, self._next = self._next, self._next + 2
        self.objects[number] = value
        self.numbers[id(value)] = number
        return number

    def handle(self, value: Any) -> list[Any]:
        """Encode an object that stays here."""
        cls = type(value)
        return ["h", self.keep(value), cls.__name__, callable(value)]

    # ------------------------------------------------------------ there

    def pack(self, values: list[Any]) -> list[Any]:
        """Return the contents of all containers in ``values``, and the values."""
        nodes: list[Any] = []
        pending: list[int] = []
        seen: set[int] = set()

        def container(value: Any, base: type) -> list[Any]:
            number = self.numbers.get(id(value))
            if number is None:
                number = self.keep(value)
            if number not in seen:
                seen.add(number)
                pending.append(number)
            return ["@", number]

        def one(value: Any) -> Any:
            cls = type(value)
            if cls in ATOMS:
                return ["i", hex(value)] if cls is int and value.bit_length() > _LONG_BITS else value
            if cls is tuple:
                return ["t", *map(one, value)]
            base = standard_base(cls)
            if base is not cls and base is not None and not self.derives and id(value) not in self.numbers:
                return self.foreign(value) if not hasattr(cls, "_unisd_kept") else one(plain_copy(value, base))
            if base is not None and base.__name__ in MUTABLE and base is MUTABLE[base.__name__]:
                return container(value, base)
            if id(value) in self.numbers:
                return ["@", self.numbers[id(value)]]
            if cls is types.ModuleType:
                return ["M", value.__name__]
            if cls in _VIEWS:
                return ["view", cls.__name__, one(_VIEWS[cls](value))]
            if isinstance(value, type):
                key = _type_key(value)
                if key is not None:
                    return ["T", key]
                if issubclass(value, BaseException):
                    return ["C", self.keep(value), *derived(value)]
                return self.foreign(value)
            if cls.__module__ == "numpy" and hasattr(value, "dtype") and (array := _array(value)):
                return [array[0], *(array[1:] if array[0] == "N" else map(one, array[1:]))]
            if base is None:
                return self.foreign(value)
            if base is cls:
                return plain(value, base)
            return ["k", self.keep(value), *derived(cls), plain(value, base)]

        def plain_copy(value: Any, base: Any) -> Any:
            if issubclass(base, BaseException):
                return _exception(base, value.args)
            return base(value) if base is not defaultdict else base(value.default_factory, value)

        def plain(value: Any, base: type) -> Any:
            if issubclass(base, BaseException):
                return ["x", _type_key(base), *map(one, BaseException.args.__get__(value))]  # type: ignore[attr-defined]
            if base in _PLUS:
                return one(_PLUS[base](value))
            key = _type_key(base) or ""
            return ["v", key, *map(one, VALUES[key](value))]

        def derived(cls: type) -> list[Any]:
            base = standard_base(cls) or object
            own = {name for parent in cls.__mro__[: cls.__mro__.index(base)] for name in vars(parent)}
            number = self._types.setdefault(cls, len(self._types))
            return [number, cls.__name__, _type_key(base), sorted(own)]

        def contents(value: Any) -> list[Any]:
            cls = type(value)
            base = standard_base(cls) or list
            kind = None if cls is base else derived(cls)
            extra: Any = None
            if base is bytearray:
                return [base.__name__, value.decode("latin-1"), extra, kind]
            if base in _MAPPINGS:
                parts = [part for pair in base.items(value) for part in pair]  # type: ignore[attr-defined]
                extra = one(value.default_factory) if base is defaultdict else None
            else:
                parts = list(base.__iter__(value))  # type: ignore[attr-defined]
                extra = value.maxlen if base is deque else None
            return [base.__name__, parts if ATOMS.issuperset(map(type, parts)) else [*map(one, parts)], extra, kind]

        encoded = [*map(one, values)]
        while pending:
            number = pending.pop()
            nodes.append([number, *contents(self.objects[number])])
        return [nodes, encoded]

    # ------------------------------------------------------------ and back

    def unpack(self, message: list[Any]) -> list[Any]:
        """Return the values of a message, after its contents have been put into the containers."""
        try:
            _, nodes, values = message
            if not values:
                raise ValueError("no value")
            for number, name, _, extra, kind in nodes:
                if number not in self.objects:
                    base = MUTABLE[name] if kind is None else self._derived(*kind)
                    factory = self._one(extra) if name == "defaultdict" else None
                    shell = base([], extra) if name == "deque" else base(factory) if factory is not None else base()
                    self.keep(shell, number)
            for number, name, parts, _, _ in nodes:
                self._fill(self.objects[number], MUTABLE[name], parts)
            return [self._one(value) for value in values]
        except MemoryError:
            return self.fatal("out of memory")
        except Exception as error:
            return self.fatal(f"answered what cannot be read ({type(error).__name__})")

    def _fill(self, shell: Any, base: Any, parts: Any) -> None:
        if standard_base(type(shell)) is not base:
            raise TypeError("another type")
        if base is bytearray:
            shell[:] = parts.encode("latin-1")
            return
        if list in set(map(type, parts)):
            parts = [*map(self._one, parts)]
        base.clear(shell)
        if base in _MAPPINGS:
            for key, value in zip(parts[::2], parts[1::2], strict=True):
                base.__setitem__(shell, key, value)
        else:
            (base.update if base is set else base.extend)(shell, parts)

    def _one(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        tag, *parts = value
        if tag == "@":
            return self.objects[parts[0]]
        if tag == "i":
            return int(parts[0], 16)
        if tag == "t":
            return tuple(map(self._one, parts))
        if tag == "v" and parts[0] in VALUES:
            return (_MAKERS.get(parts[0]) or _standard_type(parts[0]))(*map(self._one, parts[1:]))
        if tag == "T":
            return _standard_type(parts[0])
        if tag == "M":
            return self.module(parts[0])
        if tag == "view":
            return getattr(self._one(parts[1]), parts[0].removeprefix("dict_"))()
        if tag == "x":
            return _exception(_standard_type(parts[0]), [*map(self._one, parts[1:])])
        if tag == "C":
            self.keep(cls := self._derived(*parts[1:]), parts[0])
            return cls
        if tag in ("N", "n"):
            return _from_array(tag, *map(self._one, parts))
        if tag == "h":
            if parts[0] not in self.objects:
                self.keep(self.remote(*parts), parts[0])
            return self.objects[parts[0]]
        if tag == "k":
            number, content = parts[0], self._one(parts[5])
            cls = self._derived(*parts[1:5])
            made = (
                _exception(cls, content.args) if isinstance(content, BaseException) else cls.__new__(cls, *_made(content))  # type: ignore[call-overload]
            )
            self.keep(made, number)
            return made
        raise ValueError(f"no tag {tag!r}")

    def _derived(self, number: int, name: str, key: str, own: list[str]) -> type:
        if number not in self._made_types:
            self._made_types[number] = self.kept(name, _standard_type(key), own)
        return self._made_types[number]


def standard_base(cls: type) -> type | None:
    """Return the standard type that values of ``cls`` are sent as, None if they stay where they are."""
    if cls not in _bases:
        _bases[cls] = next(
            (
                base
                for base in cls.__mro__
                if base in _PLUS
                or base in MUTABLE.values()
                or (key := _type_key(base)) in VALUES
                or (key is not None and issubclass(base, BaseException))
            ),
            None,
        )
    return _bases[cls]


_bases: dict[type, type | None] = {bool: None}


def _made(content: Any) -> list[Any]:
    key = _type_key(type(content))
    return VALUES[key](content) if key in VALUES and key not in _MAKERS else [content]


def _exception(cls: type, arguments: Iterable[Any]) -> BaseException:
    if not issubclass(cls, BaseException):
        raise TypeError("no exception")
    try:
        return cls(*arguments)
    except Exception:
        error = cls.__new__(cls)
        error.args = tuple(arguments)
        return error


_ARRAY_KINDS = "biufcSUMm"


def _array(value: Any) -> list[Any] | None:
    """Return a NumPy array or number as plain data; None for one of a kind that stays where it is."""
    if value.dtype.kind == "O" and type(value).__name__ == "ndarray":
        return ["n", tuple(value.shape), tuple(value.ravel().tolist())]
    if value.dtype.kind not in _ARRAY_KINDS or type(value).__name__ == "matrix":
        return None
    scalar = type(value).__name__ != "ndarray"
    return ["N", value.dtype.str, base64.b64encode(value.tobytes()).decode(), scalar, *value.shape]


def _from_array(tag: str, first: Any, second: Any, scalar: bool = False, *shape: int) -> Any:
    numpy = import_module("numpy")
    if tag == "n":
        made = numpy.empty(len(second), dtype=object)
        made[:] = [*second]
        return made.reshape(first)
    kind = numpy.dtype(first)
    if kind.kind not in _ARRAY_KINDS:
        raise ValueError(f"no array of {first}")
    made = numpy.frombuffer(bytearray(base64.b64decode(second)), kind).reshape(shape)
    return made[()] if scalar else made

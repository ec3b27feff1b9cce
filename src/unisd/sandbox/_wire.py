"""What passes between the judge and the program: plain data, one line of JSON a message, over two pipes.

Both ends hold a `Wire`. A question names an operation, its arguments, and the contents of the containers in them; the
answer is a value or an exception, with the contents that those containers have by then, which go into the asker's own
objects. A value of a standard type arrives as an object that the receiver made; nothing that arrives names code to run,
for the types that can be made are listed here. Whatever else one end holds stays there. What is in a message:

* ``None``, a truth value, number or text: itself.
* ``[name, ...]``: a value of the type of that name, and what it is made from.
* ``[number]``: an object that both ends know by that number: containers have one, so that what goes and comes back is
  the same object, cycles included.
* ``[number, kind]``, ``[number, kind, value]``, ``[number, kind, []]``: an object of the sender's own, a value of a
  type that it derived from a standard one, or such a type. ``kind`` says what the receiver's stand-in is made from.
"""

from __future__ import annotations

import functools
import json
import os
import re
import select
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from importlib import import_module

TYPE_CHECKING = False  # importing typing would take a tenth of the judge's start
if TYPE_CHECKING:
    from typing import Any


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


ANSWER_BYTES = 1 << 26
"""Of the longest message that is taken."""
MODULES = words(
    "__future__ abc array base64 binascii bisect calendar cmath collections contextlib copy dataclasses datetime"
    " decimal difflib enum fractions functools hashlib heapq html ipaddress itertools json math numbers numpy"
    " operator pathlib pprint pytest queue random re secrets statistics string struct sys textwrap time traceback"
    " typing types unicodedata unittest urllib uuid warnings zoneinfo"
)
"""Modules that each end has for itself: what tests do with them does not reach the program's process."""
_ATOMS = frozenset([type(None), bool, int, float, str])
# The standard types whose values change, and what puts contents into one.
_MUTABLE: dict[Any, Callable[[Any, Any], Any]] = {
    **{kind: kind.extend for kind in (list, deque, bytearray)},
    **{kind: kind.update for kind in (set, dict, OrderedDict)},
    **dict.fromkeys([Counter, defaultdict], dict.update),
}
_LONG_BITS = 2000  # longer numbers may have more decimal digits than an interpreter is set to read


def _text(value: Any) -> list[Any]:
    return [str(value)]


def _clock(time: Any) -> list[Any]:
    return [time.hour, time.minute, time.second, time.microsecond, time.tzinfo]


# Standard types whose values do not change: what their constructor, or that of _MAKERS, makes them from.
_VALUES: dict[str, Callable[[Any], list[Any]]] = {
    "builtins.int": lambda n: [int.__format__(n, "x"), 16],
    "builtins.float": lambda x: [float.__pos__(x)],
    "builtins.str": lambda s: [str.__str__(s)],
    "builtins.complex": lambda z: [z.real, z.imag],
    "builtins.bytes": lambda b: [b.decode("latin-1"), "latin-1"],
    "builtins.tuple": list,
    "builtins.frozenset": list,
    "builtins.range": lambda r: [r.start, r.stop, r.step],
    "builtins.module": lambda m: [m.__name__],
    "builtins.slice": lambda s: [s.start, s.stop, s.step],
    "fractions.Fraction": lambda q: [q.numerator, q.denominator],
    "datetime.datetime": lambda t: [t.year, t.month, t.day, *_clock(t)],
    "datetime.date": lambda t: [t.year, t.month, t.day],
    "datetime.time": _clock,
    "datetime.timedelta": lambda t: [t.days, t.seconds, t.microseconds],
    "datetime.timezone": lambda z: [z.utcoffset(None)],
    "re.Pattern": lambda p: [p.pattern, p.flags],
    "array.array": lambda a: [a.typecode, tuple(a)],
    "types.SimpleNamespace": lambda n: list(vars(n).items()),
    "numpy.ndarray": lambda a: [tuple(a.ravel().tolist()), a.dtype.str, a.shape],
    "numpy.generic": lambda n: [n.item(), n.dtype.str],
    "builtins.dict_keys": list,
    "builtins.dict_values": list,
    "builtins.dict_items": list,
    **dict.fromkeys(["decimal.Decimal", "uuid.UUID", "pathlib.PosixPath", "pathlib.PurePosixPath"], _text),
    **{f"ipaddress.IPv{n}{kind}": _text for n in (4, 6) for kind in ("Address", "Network", "Interface")},
}
_MAKERS: dict[str, Callable[..., Any]] = {
    "builtins.module": lambda name: _module(name),
    "builtins.tuple": lambda *items: items,
    "builtins.frozenset": lambda *items: frozenset(items),
    "re.Pattern": re.compile,
    "types.SimpleNamespace": lambda *pairs: types.SimpleNamespace(**dict(pairs)),
    "numpy.ndarray": lambda values, kind, shape: import_module("numpy").array(values, kind).reshape(shape),
    "numpy.generic": lambda value, kind: import_module("numpy").array(value, kind)[()],
    "builtins.dict_keys": lambda *keys: dict.fromkeys(keys).keys(),
    "builtins.dict_values": lambda *values: dict(enumerate(values)).values(),
    "builtins.dict_items": lambda *items: dict(items).items(),
}
# Types that no module holds under their names.
_VIEWS = [type(getattr({}, name)()) for name in ("keys", "values", "items")]
_ANONYMOUS = {f"builtins.{cls.__name__}": cls for cls in (*vars(types).values(), *_VIEWS) if type(cls) is type}


def _module(name: str) -> Any:
    if name.partition(".")[0] not in MODULES:
        raise ValueError(f"no module for tests: {name}")
    return import_module(name)


def _type(name: str) -> Any:
    """Return the standard type of a name; None if it names none."""
    module, _, own = name.partition(".")
    if module not in MODULES | {"builtins"}:
        return None
    found = getattr(import_module(module), own, None) or _ANONYMOUS.get(name)
    return found if isinstance(found, type) else None


@functools.cache
def _name(cls: type) -> str:
    """Return the name by which the other end finds its own type of this kind; "" for types that are not standard."""
    module = cls.__module__.partition(".")[0]
    if module == "numpy" and issubclass(cls, import_module("numpy").generic):
        return "numpy.generic"
    name = f"{module}.{cls.__name__}"
    return name if _type(name) is cls else ""


@functools.cache
def standard_base(cls: type) -> Any:
    """Return the standard type that values of ``cls`` are sent as, None if they stay where they are."""
    for base in cls.__mro__:
        if base in _MUTABLE or _name(base) in _VALUES or (_name(base) and issubclass(base, BaseException)):
            return base
    return None


def _exception(cls: Any, arguments: list[Any]) -> BaseException:
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
        fatal: ends the process with a reason; called where the line breaks ("") or a message cannot be read.
    """

    def __init__(self, reading: int, writing: int, first: int, fatal: Callable[[str], Any]):
        self._reading, self._next, self.fatal = reading, first, fatal
        self._writing = open(writing, "w", encoding="ascii")  # noqa: SIM115 (open to the end)
        self.objects: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self._types: dict[str, Any] = {}
        self.operations: dict[str, Callable[..., Any]] = {}
        """What the other end may ask for."""
        self.made: Callable[[str, type, list[str]], Any]
        """Makes the type of what stands here for objects of the other end: from the type's name, the standard type that
        it is derived from (or `object`), and the names of its own members."""
        self.lend: Callable[[Any, Callable[[Any], Any]], Any] | None = None
        """At the judge's end, encodes what is of no standard type; its second argument encodes values."""
        self.waiting: Callable[[], Any] = lambda: None
        """Called now and then while the other end has not answered."""
        self.serving = 0
        """How many questions of the other end are being answered."""

    def send(self, message: Any) -> None:
        """Write a message."""
        text = json.dumps(message, separators=(",", ":"), check_circular=False)
        try:
            self._writing.write(f"{text}\n")
            self._writing.flush()
        except OSError:
            self.fatal("")

    def receive(self) -> Any:
        """Read a message: a list that begins with a text."""
        data = bytearray()
        try:
            while not data.endswith(b"\n"):
                if select.select([self._reading], [], [], 0.05)[0]:
                    data += os.read(self._reading, 1 << 20) or self.fatal("")
                self.waiting()
                if len(data) > ANSWER_BYTES:
                    self.fatal(f"answered more than {ANSWER_BYTES} bytes")
            message = json.loads(data)
            if type(message) is list and message and type(message[0]) is str:
                return message
        except MemoryError:
            self.fatal("out of memory")
        except (ValueError, RecursionError):
            pass
        return self.fatal("answered what cannot be read")

    def asking(self, operation: str) -> Callable[..., Any]:
        """Return a method that has the other end do something with what an object stands for."""
        return lambda this, /, *arguments, **keywords: self.ask(operation, this, *arguments, **keywords)

    def ask(self, operation: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Have the other end do something; return its value or raise its exception. It may ask back meanwhile."""
        self.send([operation, *self.pack([*arguments, keywords])])
        while (message := self.receive())[0] not in ("value", "raise"):
            self.serve(message)
        value = self.unpack(message)[0]
        if message[0] == "value":
            return value
        raise value if isinstance(value, BaseException) else RuntimeError("raised what is no exception")

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

    def _keep(self, value: Any, number: int | None = None) -> int:
        """Number an object for good (both ends hold on to it); a new one gets the next of this end's numbers."""
        if number is None:
            if id(value) in self.numbers:
                return self.numbers[id(value)]
            number, self._next = self._next, self._next + 2
        elif number % 2 == self._next % 2:
            raise ValueError("a number of this end's")
        self.objects[number] = value
        self.numbers[id(value)] = number
        return number

    def handle(self, value: Any) -> list[Any]:
        """Encode an object that stays here."""
        return [self._keep(value), self._kind(type(value))]

    def _kind(self, cls: type) -> list[Any]:
        base = standard_base(cls) or object
        own = {name for parent in cls.__mro__ if parent not in base.__mro__ for name in vars(parent)}
        seen = sorted(name for name in own if base is not object or name[:2] == "__")
        derived = (
            issubclass(cls, BaseException) and cls.__base__ is not base
        )  # what is to be caught by its parent's name
        return [cls.__name__, self._kind(cls.__base__) if derived else _name(base), seen]  # type: ignore[arg-type]

    def _own(self, value: Any, one: Callable[[Any], Any]) -> list[Any]:
        cls: Any = type(value)
        base = standard_base(cls)
        if issubclass(cls, type) and issubclass(value, BaseException):
            return [self._keep(value), self._kind(value), []]
        return self.handle(value) if base is None else [*self.handle(value), self._plain(value, base, one)]

    def _plain(self, value: Any, base: type, one: Callable[[Any], Any]) -> list[Any]:
        name = _name(base)
        return [name, *map(one, value.args if issubclass(base, BaseException) else _VALUES[name](value))]

    def pack(self, values: list[Any]) -> list[Any]:
        """Return the contents of all containers in ``values``, and the values."""
        pending: dict[int, Any] = {}

        def one(value: Any) -> Any:
            cls: Any = type(value)
            if cls in _ATOMS and (cls is not int or value.bit_length() <= _LONG_BITS):
                return value
            base, known = standard_base(cls), id(value) in self.numbers
            if base in _MUTABLE and (base is cls or known or not self.lend):
                number = self._keep(value)
                pending.setdefault(number, value)
                return [number]
            if known:
                return [self.numbers[id(value)]]
            if issubclass(cls, type):
                return ["builtins.type", _name(value)] if _name(value) else (self.lend or self._own)(value, one)
            return self._plain(value, cls, one) if base is cls else (self.lend or self._own)(value, one)

        def node(number: int, value: Any) -> list[Any]:
            cls: Any = type(value)
            base: Any = standard_base(cls)
            given = [value.default_factory] if base is defaultdict else [(), value.maxlen] if base is deque else []
            parts = base.items(value) if issubclass(base, dict) else base.__iter__(value)
            kind = None if cls is base else self._kind(cls)
            return [number, base.__name__, [*map(one, given)], kind, [*map(one, parts)]]

        encoded = [*map(one, values)]
        nodes: dict[int, Any] = {}
        while pending:
            number, value = pending.popitem()
            if number not in nodes:
                nodes[number] = node(number, value)
        return [[*nodes.values()], encoded]

    def unpack(self, message: list[Any]) -> list[Any]:
        """Return the values of a message, after its contents have been put into the containers."""
        try:
            _, nodes, values = message
            bases: dict[str, Any] = {base.__name__: base for base in _MUTABLE}
            for number, name, given, kind, _ in nodes:
                if number not in self.objects:
                    made = self._derived(kind) if kind else bases[name]
                    self._keep(made(*map(self._one, given)), number)
            for number, name, _, _, parts in nodes:
                shell, base = self.objects[number], bases[name]
                cls: Any = type(shell)
                if standard_base(cls) is not base:
                    raise TypeError("another type")
                base.clear(shell)
                _MUTABLE[base](shell, map(self._one, parts) if list in map(type, parts) else parts)
            if values:
                return [self._one(value) for value in values]
        except MemoryError:
            self.fatal("out of memory")
        except Exception as error:
            self.fatal(f"answered what cannot be read ({type(error).__name__})")
        return self.fatal("answered what cannot be read")  # type: ignore[no-any-return]

    def _one(self, value: Any) -> Any:
        if type(value) is not list:
            return value
        if type(value[0]) is str:
            return self._value(value[0], [*map(self._one, value[1:])])
        number, *made = value
        if number not in self.objects:
            self._keep(self._stand_in(*made), number)
        return self.objects[number]

    def _value(self, name: str, parts: list[Any]) -> Any:
        if name in _VALUES:
            return (_MAKERS.get(name) or _type(name))(*parts)
        found = _type(parts[0] if name == "builtins.type" else name)
        if found is None or (name != "builtins.type" and not issubclass(found, BaseException)):
            raise ValueError(f"no standard type {name!r}")
        return found if name == "builtins.type" else _exception(found, parts)

    def _stand_in(self, kind: list[Any], plain: Any = None) -> Any:
        cls = self._derived(kind)
        if not plain:
            return cls() if plain is None else cls
        name, parts = plain[0], [*map(self._one, plain[1:])]
        if name not in _VALUES:
            return _exception(cls, parts)
        value = self._value(name, parts)
        return value.view(cls) if name == "numpy.ndarray" else cls(value) if name in _MAKERS else cls(*parts)

    def _derived(self, kind: list[Any]) -> Any:
        if (key := repr(kind)) not in self._types:
            name, above, own = kind
            base = self._derived(above) if type(above) is list else _type(above)
            if type(above) is str and base is not object and standard_base(base) is not base:
                raise ValueError(f"no standard type {above!r}")
            self._types[key] = self.made(name, base, own)
        return self._types[key]

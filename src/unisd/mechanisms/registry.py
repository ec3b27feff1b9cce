"""Which mechanisms there are: every class of this package, the entry points of other packages, and registered ones.

A mechanism is the `Mechanism` subclass of a file in this package; or, in a package of one's own, an entry point of the
group ``unisd.mechanisms`` (``name = "package.module:Class"``); or it is given to `register`.
"""

import functools
import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Any

import unisd.mechanisms
from unisd.errors import UniSDError, UsageError
from unisd.mechanisms.base import Mechanism

ENTRY_POINTS = "unisd.mechanisms"
"""The entry point group in which other packages name their mechanisms."""

_REGISTERED: dict[str, type[Mechanism]] = {}


def register(mechanism: type[Mechanism]) -> type[Mechanism]:
    """Add a mechanism, under the name that it declares; serves as a decorator.

    Raises:
        UsageError: the name is taken, or something that a mechanism declares is lacking.
    """
    _checked(mechanism)
    if mechanism.name in known():
        raise UsageError(f"there is a mechanism '{mechanism.name}' already; choose another name")
    _REGISTERED[mechanism.name] = mechanism
    return mechanism


def known() -> dict[str, type[Mechanism]]:
    """Return all mechanisms by name, in alphabetical order.

    Raises:
        UniSDError: a mechanism of another package cannot be imported or is none.
    """
    found = _installed() | _built_in() | _REGISTERED
    return {name: found[name] for name in sorted(found)}


@functools.cache
def _built_in() -> dict[str, type[Mechanism]]:
    modules = [
        importlib.import_module(f"{unisd.mechanisms.__name__}.{found.name}")
        for found in pkgutil.iter_modules(unisd.mechanisms.__path__)
    ]
    classes = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Mechanism) and value.__module__ == module.__name__
    ]
    return {cls.name: cls for cls in classes if cls is not Mechanism}


@functools.cache
def _installed() -> dict[str, type[Mechanism]]:
    found = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            mechanism = _checked(point.load())
        except Exception as error:  # it is somebody else's code: say which mechanism it is
            raise UniSDError(f"mechanism '{point.name}' ({point.value}) cannot be loaded: {error}") from error
        found[mechanism.name] = mechanism
    return found


def _checked(mechanism: Any) -> type[Mechanism]:
    if not (isinstance(mechanism, type) and issubclass(mechanism, Mechanism)):
        raise UsageError(f"{mechanism!r} is no mechanism; derive it from unisd.mechanisms.Mechanism")
    for part in ("name", "Settings"):
        if not hasattr(mechanism, part):
            raise UsageError(f"mechanism {mechanism.__name__} declares no {part}; see unisd.mechanisms.Mechanism")
    if not hasattr(mechanism.Settings, "on"):
        raise UsageError(
            f"the settings of mechanism {mechanism.name} have no 'on'; add a property that says when it is"
        )
    return mechanism

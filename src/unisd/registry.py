"""Things known by name: the package's own, those registered at run time, and those of other packages.

Code is imported only when its thing is asked for. The package's own and the registered names come before entry points,
so that no installed package changes what a recipe means.
"""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

from unisd.errors import UniSDError, UsageError

T = TypeVar("T")


@dataclass
class Registry:
    """The names of one sort of things, each with its source and a line about it."""

    what: str
    """What the things are, in messages: ``task``."""
    group: str
    """The entry point group in which other packages name theirs."""
    entries: dict[str, tuple[Any, str]]
    """By name: ``package.module:Attribute`` or the object itself, and a summary."""

    def add(self, name: str, source: Any, summary: str = "", replace: bool = False) -> None:
        """Add a thing: ``package.module:Attribute``, imported when it is first asked for, or the object itself.

        Raises:
            UsageError: the name is empty, has spaces, or is taken and ``replace`` is not set.
        """
        if name.split() != [name]:
            raise UsageError(f"a {self.what}'s name is one word without spaces, not {name!r}")
        if isinstance(source, str) and not all(source.partition(":")):
            raise UsageError(f"{self.what} {name}: 'package.module:Class' was expected, not {source!r}")
        if not replace and name in self.known():
            raise UsageError(f"there is a {self.what} '{name}' already; choose another name, or set replace")
        self.entries[name] = source, summary

    def known(self) -> dict[str, tuple[Any, str]]:
        """Return everything by name, without importing any of it."""
        installed = {point.name: (point.value, f"from {point.value}") for point in entry_points(group=self.group)}
        return installed | self.entries

    def find(self, name: str) -> tuple[Any, str]:
        """Return a thing's source and summary.

        Raises:
            UsageError: no such name (the message gives the nearest).
        """
        known = self.known()
        if name not in known:
            near = difflib.get_close_matches(str(name).lower().replace("-", "_"), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(sorted(known))}"
            raise UsageError(f"there is no {self.what} '{name}'; {hint}")
        return known[name]

    def load(self, name: str, make: Callable[[Any], T]) -> T:
        """Return what ``make`` gives of the named thing, imported.

        Raises:
            UsageError: no such name, or ``make`` raises it.
            UniSDError: the code cannot be imported or fails.
        """
        source = self.find(name)[0]
        try:
            if isinstance(source, str):
                module, _, attribute = source.partition(":")
                source = getattr(importlib.import_module(module), attribute)
            return make(source)
        except UsageError:
            raise
        except Exception as error:  # it may be somebody else's code: say what it is
            cause = f"{type(error).__name__}: {error}"
            raise UniSDError(
                f"{self.what} '{name}' cannot be loaded: {cause}; repair the package it comes from"
            ) from error

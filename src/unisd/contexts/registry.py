"""Which kinds of context there are, by name; a kind's code is imported only when it is asked for.

A kind is one file in `unisd.contexts.kinds`; or, in a package of one's own, an entry point of the group
``unisd.contexts`` (``name = "package.module:Class"``); or a class under ``@register``.
"""

import pkgutil
from typing import TYPE_CHECKING, Any, TypeVar

from unisd.contexts import kinds
from unisd.errors import UsageError
from unisd.registry import Registry

if TYPE_CHECKING:
    from unisd.contexts.base import ContextKind

K = TypeVar("K", bound="type[ContextKind]")

_OWN = tuple(file.name for file in pkgutil.iter_modules(kinds.__path__))
KINDS = Registry(
    "kind of context",
    "unisd.contexts",
    {name: (f"{kinds.__name__}.{name}:{name.title().replace('_', '')}", "") for name in _OWN},
)


def known() -> list[str]:
    """Return the names of all kinds in alphabetical order, without importing any of them."""
    return sorted(KINDS.known())


def get(name: str) -> "ContextKind":
    """Return the kind ``name``; one object serves all who ask.

    Raises:
        UsageError: no such kind (the message names the nearest), or what is registered is no kind of context.
        UniSDError: its code cannot be imported or fails.
    """
    kind: Any = KINDS.entries.get(name, ("", ""))[0]
    if isinstance(kind, str):
        kind = KINDS.load(name, lambda source: _checked(source, name))
        KINDS.entries[name] = kind, kind.summary
    return kind  # type: ignore[no-any-return]


def register(kind: K) -> K:
    """Add a kind of one's own: a decorator of its class. The newest class of a name counts.

    Raises:
        UsageError: the class is no kind of context, or its name has spaces or is one of the package's own.
    """
    made = _checked(kind, getattr(kind, "name", ""))
    KINDS.add(made.name, made, made.summary, replace=made.name not in _OWN)
    return kind


def _checked(kind: Any, name: str) -> "ContextKind":
    lacking = [part for part in ("name", "summary", "about", "words", "make") if not hasattr(kind, part)]
    if lacking or kind.name != name:
        fault = f"it lacks {', '.join(lacking)}" if lacking else f"its class calls it '{kind.name}'"
        raise UsageError(f"kind of context '{name}': {fault}; see unisd.contexts.ContextKind")
    if kind.about not in ("item", "another", "general"):
        raise UsageError(f"kind of context '{name}': about is {kind.about!r}; use item, another or general")
    words = kind.words
    shown = words in KINDS.known() and words != name if isinstance(words, str) else _show_text(words)
    if not shown:
        raise UsageError(f"kind of context '{name}': give it Words with {{text}} in them, or the name of another kind")
    return kind() if isinstance(kind, type) else kind  # type: ignore[no-any-return]


def _show_text(words: Any) -> bool:
    return all("{text}" in str(getattr(words, template, "")) for template in ("after", "before"))

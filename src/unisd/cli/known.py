"""What there is, by name, told at once: nothing here imports torch as long as the package alone is asked.

Settings, mechanisms and kinds of context are classes whose import takes seconds, so what is said of them is written
beside this file (``python docs/make_settings.py``; a test keeps it as fresh as its source). What other packages, or
this process, have added is asked of the things themselves.
"""

import json
import sys
from collections.abc import Callable
from importlib import resources
from importlib.metadata import entry_points
from typing import Any

import yaml

Entry = dict[str, Any]
"""What is said of one thing: ``name``, ``summary``, and more by its sort."""

INDEX = "known.json"


def recipes() -> list[Entry]:
    """Return all recipes."""
    found = []
    for file in sorted(resources.files("unisd.recipes").iterdir(), key=lambda file: file.name):
        name, _, ending = file.name.partition(".")
        if ending == "yaml" and name[0] != "_" and name != "models":
            values = yaml.load(file.read_text(encoding="utf-8"), _LOADER)
            found.append({"name": name, "summary": str(values["description"])})
    return found


def models() -> list[Entry]:
    """Return the models that have a short name."""
    text = (resources.files("unisd.recipes") / "models.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.load(text, _LOADER)
    return [
        {"name": name, "summary": f"{preset['name']} ({preset['dtype']})", "hub": preset["name"]}
        for name, preset in found.items()
    ]


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def tasks() -> list[Entry]:
    """Return all tasks."""
    from unisd.tasks.registry import names, summary

    return [{"name": name, "summary": summary(name)} for name in names()]


def readers() -> list[Entry]:
    """Return the kinds of answers that are read and graded: what ``answer.type`` of a task of one's own may be."""
    return [{"name": name, "summary": about} for name, about in _READERS.items()]


_READERS = {
    "choice": "one option of several, by its letter or its text",
    "exact": "a text that must be the key's, up to case and spaces",
    "number": "a number, equal up to a tolerance, however it is written",
    "code": "a Python function, which is run against tests in the sandbox",
    "tools": "calls of documented tools, with their arguments",
}


def contexts() -> list[Entry]:
    """Return all kinds of context."""
    return _told("contexts", _contexts)


def mechanisms() -> list[Entry]:
    """Return all mechanisms."""
    return _told("mechanisms", _mechanisms)


def settings() -> list[Entry]:
    """Return all settings: ``type``, ``default`` and ``summary`` of each."""
    return _told("settings", _settings)


SORTS: dict[str, Callable[[], list[Entry]]] = {
    "recipes": recipes,
    "tasks": tasks,
    "models": models,
    "mechanisms": mechanisms,
    "contexts": contexts,
    "readers": readers,
    "settings": settings,
}
"""Whatever can be listed."""


def _told(sort: str, ask: Callable[[], list[Entry]]) -> list[Entry]:
    group = "unisd.contexts" if sort == "contexts" else "unisd.mechanisms"
    others = f"{group}.registry" in sys.modules or entry_points(group=group)
    return ask() if others else _index()[sort]


def _index() -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = json.loads((resources.files("unisd.cli") / INDEX).read_text(encoding="utf-8"))
    return found


def index_text() -> str:
    """Return what the index of this package's own classes has to hold, an entry a line."""
    parts = []
    for sort, ask in {"settings": _settings, "mechanisms": _mechanisms, "contexts": _contexts}.items():
        own = [json.dumps(entry, ensure_ascii=False) for entry in ask() if entry["package"] == "unisd"]
        parts.append(f'  "{sort}": [\n    ' + ",\n    ".join(own) + "\n  ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _contexts() -> list[Entry]:
    from unisd.contexts.registry import get, known

    kinds = {name: get(name) for name in known()}
    return [
        {"name": name, "summary": kind.summary, "package": type(kind).__module__.split(".")[0]}
        for name, kind in kinds.items()
    ]


def _mechanisms() -> list[Entry]:
    from unisd.mechanisms import known

    return [
        {"name": name, "summary": cls.summary, "package": cls.__module__.split(".")[0]} for name, cls in known().items()
    ]


def _settings() -> list[Entry]:
    from unisd.settings import documented
    from unisd.training.runfile import all_groups

    return [
        {
            "name": f"{group}.{field.name}",
            "type": field.kind,
            "default": field.default,
            "summary": field.meaning,
            "package": cls.__module__.split(".")[0],
        }
        for group, cls in all_groups().items()
        for field in documented(cls)
    ]

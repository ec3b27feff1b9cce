"""``unisd list``."""

import argparse
import json
from typing import Any

EXAMPLE = """example:
  unisd list recipes
  unisd list settings
  unisd list models --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=("recipes", "tasks", "models", "mechanisms", "settings"))
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="names alone")


def run(arguments: argparse.Namespace) -> int:
    """List."""
    found = _found(arguments.what)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        width = max(len(name) for name in found)
        for name, about in found.items():
            print(name if arguments.quiet else f"{name.ljust(width)}  {_line(about)}")
    return 0


def _line(about: Any) -> str:
    return about if isinstance(about, str) else "  ".join(str(part) for part in about.values() if part != "unisd")


def _found(what: str) -> dict[str, Any]:
    if what == "tasks":
        from unisd.tasks import names, summary

        return {name: summary(name) for name in names()}
    if what == "mechanisms":
        from unisd.mechanisms import known

        return {n: {"summary": cls.summary, "package": cls.__module__.split(".")[0]} for n, cls in known().items()}
    from unisd.training.runfile import all_groups, load_recipe, model_presets, recipe_names

    if what == "settings":
        from unisd.settings import documented

        fields = [(name, field) for name, cls in all_groups().items() for field in documented(cls)]
        return {f"{name}.{f.name}": {"default": f.default, "meaning": f.meaning} for name, f in fields}
    if what == "models":
        return {name: f"{preset['name']} ({preset['dtype']})" for name, preset in model_presets().items()}
    return {name: str(load_recipe(name).get("description", "")) for name in recipe_names()}

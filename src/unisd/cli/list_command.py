"""``unisd list``."""

import argparse
import json

EXAMPLE = """example:
  unisd list recipes
  unisd list models --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=("recipes", "tasks", "models"))
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--quiet", action="store_true", help="names alone")


def run(arguments: argparse.Namespace) -> int:
    """List."""
    found = _found(arguments.what)
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        width = max(len(name) for name in found)
        for name, text in found.items():
            print(name if arguments.quiet else f"{name.ljust(width)}  {text}")
    return 0


def _found(what: str) -> dict[str, str]:
    if what == "tasks":
        from unisd.tasks import names, summary

        return {name: summary(name) for name in names()}
    from unisd.training.settings import load_recipe, model_presets, recipe_names

    if what == "models":
        return {name: f"{preset['name']} ({preset['dtype']})" for name, preset in model_presets().items()}
    return {name: str(load_recipe(name).get("description", "")) for name in recipe_names()}

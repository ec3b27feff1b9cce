"""The page that is made from the parts' results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_parts import PARTS
from gpu_parts.report import FAILED, PASSED, SKIPPED

MARKS = {PASSED: "🟢 passed", FAILED: "🔴 failed", SKIPPED: "⚪ skipped"}
LONG = 12
"""Of more checks than this that hold, only the number is shown."""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results in a folder by part, in the parts' order."""
    files = {name: folder / f"{name}.json" for name in PARTS}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a page in Markdown: the machine, a line a part, then each part's failures and figures."""
    lines = ["# What the check on a device found", "", "Made by `make gpu-check` from the JSON files beside it.", ""]
    lines += ["| part | shows | result | checks that hold | seconds | on |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        good = sum(check["ok"] for check in result["checks"])
        held = f"{good} of {len(result['checks'])}"
        took = f"{result['seconds']:.0f} | {result['date']}"
        lines.append(f"| {name} | {PARTS[name]} | {MARKS[result['state']]} | {held} | {took} |")
    if missing := [name for name in PARTS if name not in results]:
        lines += ["", f"Not run: {', '.join(missing)}."]
    for where, names in _machines(results).items():
        lines += ["", f"{', '.join(names)}: {where}."]
    for name, result in results.items():
        lines += ["", f"## {name}: {MARKS[result['state']]}", "", *_details(result)]
    return "\n".join(lines) + "\n"


def _machines(results: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the parts by what they ran on, for parts may be run on another day."""
    found: dict[str, list[str]] = {}
    for name, result in results.items():
        machine = result["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in machine.get("versions", {}).items())
        card = machine.get("device", result["device"])
        if "memory_gib" in machine:
            card += f", {machine['memory_gib']} GiB, CUDA {machine.get('cuda')}"
        found.setdefault(f"{card}; {versions}" if versions else card, []).append(name)
    return found


def _details(result: Mapping[str, Any]) -> list[str]:
    if result["skipped"]:
        return [f"{result['skipped']}."]
    good = [check for check in result["checks"] if check["ok"]]
    bad = [check for check in result["checks"] if not check["ok"]]
    lines = [f"* 🔴 **{_cell(check['name'])}**: {_cell(check['detail']) or 'does not hold'}" for check in bad]
    if result["state"] == FAILED and not bad:
        lines.append("* 🔴 **it did not come to its end**")
    if len(good) > LONG:
        lines.append(f"* 🟢 {len(good)} checks hold")
    else:
        lines += [
            f"* 🟢 {_cell(check['name'])}" + f": {_cell(check['detail'])}" * bool(check["detail"]) for check in good
        ]
    if result["figures"]:
        lines += ["", "| measured | value |", "|---|---|"]
        lines += [f"| {_cell(f['name'])} | {f['value']:,.6g} {f['unit']} |" for f in result["figures"]]
    return lines


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")

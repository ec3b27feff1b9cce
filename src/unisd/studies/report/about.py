"""What a run was: mechanisms, what an audit found, settings, versions, seed, and the command that repeats it."""

import os
import shlex
from collections.abc import Mapping
from typing import Any

from unisd.studies.report.blocks import Block, Cell, Closed, Section, Table, Text, number
from unisd.studies.report.folder import Exam, Folder

_ABOUT = ("recipe", "description", "versions", "command", "started_in")


def mechanisms_section(folder: Folder) -> Section | None:
    """Return what each mechanism did; None where nothing is known of any."""
    found = folder.summary.get("mechanisms")
    if not isinstance(found, list):
        return None
    rows = [
        [str(m.get("mechanism")), "yes" if m.get("acts") else "no", str(m.get("evidence", "")),
         "" if m.get("acts") else str(m.get("remedy", ""))]
        for m in found
        if isinstance(m, Mapping)
    ]  # fmt: skip
    if not rows:
        return Section("mechanisms", "Mechanisms", [Text(["None is switched on."])])
    columns = ["mechanism", "acted?", "measured", "if it did not"]
    if all(row[1] == "yes" for row in rows):
        columns, rows = columns[:3], [row[:3] for row in rows]
    about = "A mechanism acts if it changed what was learned; the figure shows it."
    return Section("mechanisms", "Mechanisms", [Table("mechanisms", "", columns, rows)], about)


def audit_section(folder: Folder) -> Section | None:
    """Return what an audit measured beside answers."""
    audit, rows = folder.audit, []
    if not audit:
        return None
    for layout, found in _items(audit.get("divergence")):
        if isinstance(found, Mapping):
            said = [f"{name} {number(found.get(key))}" for key, name in _DISTANCE if _is_number(found.get(key))]
            rows.append([f"distance of teacher and student, layout {layout}", ", ".join(said)])
    agreement = audit.get("agreement")
    if isinstance(agreement, Mapping):
        a = {
            key: agreement.get(key)
            for key in ("probes", "items", "agreed", "right_where_agreed", "right_elsewhere", "auc")
        }
        rows.append([f"{a['probes']} retrieved contexts lead to one answer", f"on {a['agreed']} of {a['items']} items"])
        rows.append(["right where they do", f"{a['right_where_agreed']} of {a['agreed']}"])
        if _is_number(a["auc"]):
            rows.append(["their agreement tells right answers", f"AUC {a['auc']:.2f} (1: surely, 0.5: not at all)"])
    if _is_number(audit.get("misled")):
        rows.append(["wrong demonstrations mislead the teacher", f"on {audit['misled']} items"])
    rows += [[f"not to be had: {kind}", str(why)] for kind, why in _items(audit.get("unavailable"))]
    rows += [[f"dropped: {why}", str(count)] for why, count in _items(audit.get("dropped"))]
    return Section("audit", "What the contexts do", [Table("audit", "", ["", "measured"], rows)]) if rows else None


_DISTANCE = (("mean", "mean"), ("median", "median"), ("high", "95 % below"))


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(str(key), found) for key, found in value.items()] if isinstance(value, Mapping) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def about_section(folder: Folder) -> Section:
    """Return settings, versions, seed, and the command that repeats what was done."""
    config = folder.config
    blocks: list[Block] = []
    if facts := _facts(folder):
        blocks.append(Table("settings", "", ["setting", "value"], [[name, value] for name, value in facts]))
    lines = commands(folder)
    if lines:
        blocks += [Text(["The same again:"]), Text(lines, "code")]
    whole = [
        [f"{group}.{name}", _plain(value)]
        for group, values in _items(config)
        if group not in _ABOUT and isinstance(values, Mapping)
        for name, value in values.items()
    ]
    if whole:
        listed = Table("all-settings", "", ["setting", "value"], whole, main=False)
        blocks.append(Closed(f"All {len(whole)} settings", [listed]))
    return Section("about", "Settings and versions", blocks)


def _facts(folder: Folder) -> list[tuple[str, str | Cell]]:
    config = {name: dict(values) if isinstance(values, Mapping) else {} for name, values in folder.config.items()}
    task, model, lora, training = (config.get(name, {}) for name in ("task", "model", "lora", "training"))
    found: list[tuple[str, Any]] = []
    if folder.config:
        batch = training.get("per_device_train_batch_size", 0) or 0
        batch *= training.get("gradient_accumulation_steps", 1) or 1
        recipe = f"{folder.config.get('recipe')}: {folder.config.get('description', '')}".removesuffix(": ")
        found = [
            ("recipe", recipe),
            ("task", ", ".join(f"{k} {_plain(v)}" for k, v in task.items() if v is not None)),
            ("training items", folder.summary.get("items")),
            ("model", f"{model.get('name')}, {model.get('dtype')}"),
            (
                "adapter",
                f"LoRA r {lora.get('r')}, alpha {lora.get('alpha')}" if lora.get("enabled") else "none: all is trained",
            ),
            ("optimizer steps", folder.summary.get("steps", training.get("max_steps"))),
            ("completions a step and process", batch),
            ("learning rate", f"{training.get('learning_rate')}, {training.get('lr_scheduler_type')}"),
            ("seed", training.get("seed")),
        ]
    asked = next((a.summary.get("asked") for e in folder.exams for a in e.answers if a.summary.get("asked")), None)
    found += [(f"asked: {k.replace('_', ' ')}", v) for k, v in _items(asked) if v != _OPTIONS.get(k)]
    versions = folder.config.get("versions") or folder.audit.get("versions")
    found.append(("versions", ", ".join(f"{name} {value}" for name, value in _items(versions)) or None))
    return [(name, _plain(value)) for name, value in found if value is not None]


def _plain(value: Any) -> str:
    return (
        {True: "yes", False: "no", None: "not set"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )


def commands(folder: Folder) -> list[str]:
    """Return the commands that do the same again; their outputs go to other folders."""
    said = folder.config.get("command") or folder.audit.get("command")
    found = [shlex.join(map(str, said)) if isinstance(said, list) else str(said)] if said else []
    path = str(folder.path)
    if folder.kind == "train" and not found:
        found.append(shlex.join(["unisd", "train", os.path.join(path, "config.yaml"), "--output", f"{path}-again"]))
    if folder.kind == "demo" and not found:
        found.append(shlex.join(["unisd", "demo", "--output", f"{path}-again"]))
    return found + [shlex.join(words) for exam in folder.exams if (words := _evaluation(exam))]


def _evaluation(exam: Exam) -> list[str]:
    """Return the words of the command that asks an exam again."""
    asked = exam.answers[0].summary.get("asked")
    models = [str(a.summary["model"]) for a in exam.answers if a.summary.get("model")]
    if not isinstance(asked, dict) or not models:
        return []
    base = any(model.endswith(" (base)") for model in models)
    words = ["unisd", "evaluate", *(model for model in models if not model.endswith(" (base)"))]
    words += ["--task", str(exam.answers[0].summary.get("label"))]
    for name, value in asked.items():
        if name in _OPTIONS and value not in (None, _OPTIONS[name]):
            words += [f"--{name.replace('_', '-')}", str(value)]
    kept = next((k for a in exam.answers if isinstance(k := a.summary.get("retention"), dict) and k), None)
    if kept is None:
        return [*words, *["--base"] * base]
    instructed = kept.get("instructions")
    asked = instructed.get("asked") if isinstance(instructed, dict) else 0
    return [*words, "--retention", *(["--instructions", str(asked)] if asked is not None else [])]


_OPTIONS: dict[str, Any] = {
    "source": None, "split": None, "limit": None, "max_new_tokens": None, "samples": 1, "temperature": 0.0,
    "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": 42, "thoughts": "cut",
}  # fmt: skip
"""Options of ``unisd evaluate`` with their defaults."""

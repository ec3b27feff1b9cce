"""Whatever is set is read, or it is said that it is not."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from unisd.errors import UsageError
from unisd.settings import plain
from unisd.training.arguments import groups
from unisd.training.runfile import RunSettings, all_groups, assemble, recipe_names
from unisd.training.unread import unread, unread_of_run

ALIKE = {
    "rollout.batch_size": "speed",
    "rollout.log_completions_steps": "what is kept",
    "contrast.per_item": "what is written before training",
    "hint_gap.per_item": "what is written before training",
    "contexts.encoder": "what is drawn before training",
    "guard.on_collapse": "read once something shows",
    "contexts.words": "for kinds of one's own",
    "contexts.template_kwargs": "the template says whether it reads them",
}
"""What changes speed or place, or is read elsewhere than while training."""
OTHERS: dict[str, Any] = {
    "contexts.kind": "random",
    "contexts.layout": "system",
    "contexts.teacher_template_kwargs": {"enable_thinking": False},
    "clipping.cap": 3.0,
    "clipping.quantile": 0.5,
    "divergence.top_k": 5,
    "divergence.alpha": 0.3,
    "rollout.mix": 0.3,
    "rollout.top_p": 0.9,
    "trust_region.weight": 0.25,
    "reuse.cap": 3.0,
}


def another(setting: str, annotation: Any, now: Any) -> Any:
    """A value that is allowed, and not the present one."""
    if setting in OTHERS and OTHERS[setting] != now:
        return OTHERS[setting]
    choices = [choice for choice in get_args(annotation) if get_origin(annotation) is not None and choice != now]
    if isinstance(now, bool):
        return not now
    if isinstance(now, str):
        return next(choice for choice in choices if isinstance(choice, str))
    return now + 1 if isinstance(now, int) else (now or 1.0) / 2


def said_of(settings: RunSettings, folder: Path, recipe: str | None) -> list[str] | None:
    """What is said of a run before it begins; None where it is refused."""
    try:
        config = settings.config(folder)
    except UsageError:
        return None
    config.about = {"recipe": recipe}
    return [*unread(config), *config.mechanisms.inert(100), *unread_of_run(settings)]


def recorded(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the set that will hold each setting that is read, but by what copies, checks or describes settings."""
    read: set[str] = set()
    for group, cls in groups().items():
        fields = {field.name for field in dataclasses.fields(cls)}

        def look(self: Any, name: str, group: str = group, fields: set[str] = fields) -> Any:
            if name in fields:
                code = sys._getframe(1).f_code
                describes = code.co_filename.endswith(("dataclasses.py", "unread.py")) or "pydantic" in code.co_filename
                if not describes and code.co_name not in ("__post_init__", "_check_together"):
                    read.add(f"{group}.{name}")
            return object.__getattribute__(self, name)

        monkeypatch.setattr(cls, "__getattribute__", look)
    return read


def check_unread_are_said(recipe: str, read: set[str], folder: Path) -> None:
    """Change each setting that a recipe's run has not read: it is refused or said, or changes speed or place alone."""
    silent, settings = [], assemble(recipe)
    for group, cls in groups().items():
        for field in dataclasses.fields(cls):
            name = f"{group}.{field.name}"
            if name in read or name in ALIKE:
                continue
            values = settings.groups[group]
            other = values | {field.name: another(name, field.type, values[field.name])}
            changed = dataclasses.replace(settings, recipe=None, groups={**settings.groups, group: other})
            said = said_of(changed, folder, None)
            if said is not None and not any(name in line for line in said):
                silent.append(f"{name}={other[field.name]!r}")
    assert silent == []


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_sets_nothing_that_is_not_read(recipe, tmp_path):
    said = said_of(assemble(recipe), tmp_path, recipe)
    assert [line for line in said or () if "changes nothing" in line] == []


@pytest.mark.parametrize(
    ("recipe", "changes", "why"),
    [
        ("core", "contexts.count=7", "contexts.count: no mechanism that is on reads auxiliary contexts"),
        ("core", "contexts.kind=induction contexts.count=4", "contexts.kind, contexts.count: no mechanism"),
        ("core", "contexts.encoder=dense", "contexts.encoder: no context is retrieved"),
        ("unisd", "contexts.kind=random contexts.encoder=dense", "contexts.encoder: no context is retrieved"),
        ("core", "lora.start=merge", "lora.start: the model is no adapter"),
        ("core", "lora.enabled=false lora.r=3 lora.dropout=0.3", r"lora.r, lora.dropout: lora.enabled is false"),
        ("sft", "contexts.layout=system", "contexts.layout: there is no teacher to see a context"),
        ("ssd", "contexts.words={gold: {after: 'See {text}'}}", "contexts.words: there is no teacher"),
        ("core", "contexts.words={induction: {after: 'See {text}'}}", "contexts.words.induction: no context of the"),
        ("sft", "rollout.temperature=0.3 rollout.top_p=0.5", "rollout.top_p, rollout.temperature: with rollout.source"),
        ("sft", "divergence.temperature=0.3", "divergence.temperature: divergence.kind=cross_entropy is formed at"),
        ("match_representation", "divergence.kind=reverse_kl", "divergence.kind: another term is the whole loss"),
        (
            "agreement_sequence",
            "agreement.quantile=0.5 agreement.cap=2.0",
            "agreement.quantile: completions are weighed",
        ),
        ("agreement_sequence", "agreement.floor=0.5", "agreement.floor: completions are weighed as a whole"),
        ("core", "teacher.kind=live teacher.decay=0.5", "teacher.decay: the live teacher is no average"),
        ("core", "teacher.decay=0.5", "teacher.decay: teacher is off"),
        ("core", "rollout.thoughts=keep", "rollout.thoughts: no mechanism that is on reads grades"),
    ],
)
def test_what_nothing_reads_is_said(recipe, changes, why, tmp_path):
    import shlex

    parts = [changes] if "{" in changes else shlex.split(changes)
    found = said_of(assemble(recipe, overrides=parts), tmp_path, recipe)
    assert found is not None
    assert any(line.startswith(why) and "changes nothing" in line for line in found), found


@pytest.mark.parametrize(
    ("recipe", "change"),
    [
        ("unisd", "contexts.count=2"),
        ("unisd", "contexts.encoder=dense"),
        ("unisd", "contexts.words={induction: {after: 'See {text}'}}"),  # rows may bring some
        ("contrast", "contexts.words={gold: {after: 'See {text}'}}"),
        ("success", "rollout.thoughts=keep"),
        ("agreement_token", "agreement.floor=0.5"),
        ("core", "lora.r=3"),
        ("sft", "contexts.layout=turn"),  # as in the recipe
    ],
)
def test_what_is_read_is_not_said(recipe, change, tmp_path):
    assert said_of(assemble(recipe, overrides=[change]), tmp_path, recipe) == []


def test_the_declared_lists_name_settings():
    known = {f"{group}.{name}" for group, cls in all_groups().items() for name in plain(cls())}
    assert (ALIKE.keys() | OTHERS.keys()) - known == set()

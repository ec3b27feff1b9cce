"""Settings that were changed and that, as the others stand, nothing reads: each depends on a switch, which is named."""

from collections.abc import Iterator, Mapping
from typing import Any

from unisd import contexts
from unisd.models.load import is_adapter
from unisd.settings import plain
from unisd.training.arguments import UniSDConfig
from unisd.training.runfile import RunSettings, load_recipe

Reason = tuple[str, str]
"""A setting, ``group.field``, and why nothing reads it."""


def unread(config: UniSDConfig) -> list[str]:
    """Return a warning for what is set in the core's groups, otherwise than by default or by the recipe, and not read.

    What mechanisms do not read they say themselves (:meth:`unisd.mechanisms.Mechanism.unread`).
    """
    groups = {name: plain(getattr(config, name)) for name in ("divergence", "rollout", "contexts")}
    usual = {name: plain(type(getattr(config, name))()) for name in groups}
    return _said(
        groups, usual, config.about.get("recipe"), [*_of_loss(config), *_of_writing(config), *_of_contexts(config)]
    )


def unread_of_run(settings: RunSettings) -> list[str]:
    """Return a warning for what a run sets of its adapter and does not read."""
    lora = settings.lora
    found: list[Reason] = []
    new = ("r", "alpha", "dropout", "target_modules", "target_parameters")
    if not lora.enabled:
        found = [(f"lora.{name}", "lora.enabled is false, and no adapter is made") for name in new]
    elif lora.start == "continue" and is_adapter(settings.model.name):
        found = [("lora.target_parameters", "the adapter is trained on as it is")]
    if not is_adapter(settings.model.name):
        found.append(("lora.start", "the model is no adapter"))
    return _said({"lora": plain(lora)}, {"lora": plain(type(lora)())}, settings.recipe, found)


def _said(
    groups: Mapping[str, Mapping[str, Any]],
    usual: Mapping[str, Mapping[str, Any]],
    recipe: str | None,
    reasons: list[Reason],
) -> list[str]:
    chosen = load_recipe(recipe) if recipe else {}
    by_reason: dict[str, list[str]] = {}
    for setting, why in reasons:
        group, _, field = setting.partition(".")
        field = field.partition(".")[0]
        if groups[group][field] not in (usual[group][field], chosen.get(group, {}).get(field, usual[group][field])):
            by_reason.setdefault(why, []).append(setting)
    return [f"{', '.join(names)}: {why}, so this changes nothing; leave it out" for why, names in by_reason.items()]


def _of_loss(config: UniSDConfig) -> Iterator[Reason]:
    if config.mechanisms.replaces_divergence:
        # What else compares distributions is refused beside a term that is the whole loss.
        for name in ("kind", "alpha", "temperature"):
            yield f"divergence.{name}", "another term is the whole loss, and no divergence is formed"
    elif not config.needs_teacher:
        yield "divergence.temperature", f"divergence.kind={config.divergence.kind} is formed at temperature 1"


def _of_writing(config: UniSDConfig) -> Iterator[Reason]:
    if config.rollout.source == "gold":
        why = "with rollout.source=gold nothing is sampled"
        yield "rollout.top_p", why
        # The model may write contexts, at this temperature.
        if all(need.slot == "gold" for need in config.mechanisms.needs()):
            yield "rollout.temperature", why
    if not any(mechanism.needs_grades for mechanism in config.mechanisms):
        yield "rollout.thoughts", "no mechanism that is on reads grades"


def _of_contexts(config: UniSDConfig) -> Iterator[Reason]:
    needs = config.mechanisms.needs()
    if not needs:
        for name in ("layout", "words", "teacher_template_kwargs"):
            yield f"contexts.{name}", "there is no teacher to see a context"
    auxiliary = any(need.kind == config.contexts.kind for need in needs)
    if not auxiliary:
        for name in ("kind", "count"):
            yield f"contexts.{name}", "no mechanism that is on reads auxiliary contexts"
    if not auxiliary or config.contexts.kind != "retrieval":
        yield "contexts.encoder", "no context is retrieved"
    shown = {_with_words(need.kind) for need in needs}
    for kind in (config.contexts.words or {}) if needs else ():
        # Rows may bring auxiliary contexts of any kind that is not about the item.
        if kind not in shown and not (auxiliary and contexts.get(kind).about != "item"):
            yield f"contexts.words.{kind}", "no context of the kind is shown"


def _with_words(kind: str) -> str:
    """Return the kind whose words a kind is shown in."""
    words = contexts.get(kind).words
    return _with_words(words) if isinstance(words, str) else kind

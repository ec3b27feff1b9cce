"""Commands that ask for the same again, as a shell reads them."""

import json
import shlex
from pathlib import Path

from unisd.training.runfile import RunSettings


def evaluate_run(folder: Path) -> str:
    """Return the command that evaluates a run on what it learned; the run says the rest by itself."""
    return shlex.join(["unisd", "evaluate", str(folder)])


def evaluate_weights(settings: RunSettings, weights: str) -> str:
    """Return the command that asks weights which have left their run's folder in the same way.

    Args:
        settings: the run's.
        weights: where they lie, or a word that stands for it.
    """
    words = ["unisd", "evaluate", weights, "--task", settings.task.name]
    if settings.task.source is not None:
        words += ["--source", settings.task.source]
    rollout, contexts = (settings.groups.get(name, {}) for name in ("rollout", "contexts"))
    if room := rollout.get("max_completion_length"):
        words += ["--max-new-tokens", str(room)]
    if (thoughts := rollout.get("thoughts", "cut")) != "cut":
        words += ["--thoughts", thoughts]
    if template := contexts.get("template_kwargs"):
        words += ["--template-kwargs", json.dumps(template)]
    return shlex.join(words)

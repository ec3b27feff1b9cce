"""Whether a model still follows instructions whose constraints code can check, before and after it was adapted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.answers import Evaluation, Item, share
from unisd.evaluation.evaluate import drawn, evaluate
from unisd.evaluation.statistics import paired_difference
from unisd.rollout import CompletionStore, Sampler
from unisd.tasks.constraints import verdicts
from unisd.tasks.instructions import Instructions
from unisd.tasks.turns import Thoughts, graded_part


def instruction_following(
    sampler: Sampler,
    builder: PromptBuilder,
    count: int | None = None,
    store: CompletionStore | None = None,
    *,
    max_new_tokens: int | None = None,
    max_length: int | None = None,
    thoughts: Thoughts = "cut",
    progress: str | None = None,
) -> Evaluation:
    """Ask the bundled instructions (`unisd.tasks.instructions`), greedily, one reply each.

    Args:
        sampler: who answers.
        builder: how prompts are laid out.
        count: how many of them, drawn by a stable hash; None: all.
        store: keeps the completions; None: nothing is kept.
        max_new_tokens: room for a reply where it is more than the task's own; None: the task's own.
        max_length: tokens that the model can read, prompt and reply together.
        thoughts: what becomes of thoughts before replies are graded.
        progress: the progress bar's name; None shows none.

    Raises:
        UsageError: ``count`` is 0, or no prompt leaves room for a reply in what the model can read.
    """
    task = Instructions()
    examples, room = drawn(task.load("test"), count), max(task.max_new_tokens, max_new_tokens or 0)
    if max_length is not None:  # a model that reads little answers briefly
        longest = max((len(builder.student_ids(example.asked)) for example in examples), default=0)
        room = max(1, min(room, max_length - longest))
    return evaluate(
        task, examples, sampler, builder, room, progress=progress, store=store, max_length=max_length, thoughts=thoughts
    )


def instruction_change(before: Evaluation, after: Evaluation, thoughts: Thoughts = "cut") -> dict[str, Any]:
    """Compare two models' replies to the same instructions, prompt by prompt and by kind of constraint.

    Args:
        before: the base's replies.
        after: the adapted model's.
        thoughts: as the replies were graded.

    Returns:
        ``prompts``, how many were asked; ``all``, of prompts with all constraints followed; and ``kinds``, the same of
        the constraints of each kind, by its name. Each holds ``base`` and ``adapted`` (shares with Wilson's intervals),
        ``change`` (the paired difference with Newcombe's interval), ``gained`` and ``lost``; all intervals are of 95 %.

    Raises:
        UsageError: the instructions differ.
    """
    if before.by_example().keys() != after.by_example().keys():
        raise UsageError("cannot compare replies to different instructions: ask both models the same ones")
    kinds: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    whole: list[tuple[bool, bool]] = []
    replies = after.by_example()
    for key, (first, *_) in before.by_example().items():
        was, became = _followed(first, thoughts), _followed(replies[key][0], thoughts)
        whole.append((first.correct, replies[key][0].correct))
        for kind, held in was.items():
            kinds[kind].append((held, became[kind]))
    return {
        "prompts": len(whole),
        "all": _change(whole),
        "kinds": {kind: _change(kinds[kind]) for kind in sorted(kinds)},
    }


def _followed(item: Item, thoughts: Thoughts) -> dict[str, bool]:
    reply, constraints = graded_part(item.output, thoughts), item.fields["constraints"]
    return verdicts(reply, constraints, item.prompt, cut=not item.finished)


def _change(pairs: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    was, became = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "base": share(sum(was), len(was)),
        "adapted": share(sum(became), len(became)),
        "change": asdict(paired_difference(was, became)),
        "gained": sum(b and not a for a, b in pairs),
        "lost": sum(a and not b for a, b in pairs),
    }

"""Ask a model, grade what it says, and keep every answer."""

from collections.abc import Sequence

from unisd.contexts import Context, PromptBuilder
from unisd.errors import UniSDError, UsageError
from unisd.evaluation.answers import TOO_LONG, Evaluation, Item
from unisd.files import stable_integer
from unisd.rollout import Completion, CompletionStore, Request, Sampler, SamplingParams
from unisd.sandbox import require_protection
from unisd.tasks import Example, Grade, Task, grade_all
from unisd.tasks.parallel import UNGRADED
from unisd.tasks.turns import Thoughts


def evaluate(
    task: Task,
    examples: Sequence[Example],
    sampler: Sampler,
    builder: PromptBuilder,
    max_new_tokens: int | None = None,
    contexts: Sequence[Context] | None = None,
    progress: str | None = "evaluating",
    *,
    store: CompletionStore | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 42,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    max_length: int | None = None,
    thoughts: Thoughts = "cut",
) -> Evaluation:
    """Ask every example and grade the answers; greedily unless a temperature is given.

    Args:
        task: who grades.
        examples: what is asked.
        sampler: who answers.
        builder: how prompts are laid out.
        max_new_tokens: room for an answer; None takes the task's.
        contexts: one per example: ask as the teacher is asked. None: ask as the student is.
        progress: the progress bar's name; None shows none.
        store: keeps the completions, so that an evaluation that was killed goes on where it stopped.
        samples: answers per example; more than one need a temperature.
        temperature: 0 means greedy.
        top_p, top_k, min_p, repetition_penalty: as in `SamplingParams`; greedy answers know the penalty alone.
        seed: of the samples.
        max_length: tokens that the model can read; a prompt that leaves no room for an answer is not sent, nor cut:
            its item counts as unanswered.
        thoughts: whether what a reasoning model thinks is cut before its answer is graded, or kept in what is graded.

    Raises:
        UniSDError: answers are programs, and they cannot be run safely here; or the task's grader fails.
        UsageError: there is nothing to ask, or several greedy answers are asked for, which would be equal.
    """
    _check(task, examples, samples, temperature)
    room = max_new_tokens or task.max_new_tokens
    params = SamplingParams(room, temperature, top_p, seed, top_k, min_p, repetition_penalty)
    if contexts is None:
        prompts = [builder.student_ids(example.asked) for example in examples]
    else:
        prompts = [builder.teacher_ids(e.asked, context) for e, context in zip(examples, contexts, strict=True)]
    asked = [(example, number) for example in examples for number in range(samples)]
    requests = [
        Request(ids, ("evaluation", e.id, n)) for ids, e in zip(prompts, examples, strict=True) for n in range(samples)
    ]
    fits = _fits(task, requests, room, max_length)
    sent = [request for request, fit in zip(requests, fits, strict=True) if fit]
    answers = iter(
        sampler.sample(sent, params, progress) if store is None else store.completions(sampler, sent, params, progress)
    )
    written = [next(answers) if fit else Completion([], False) for fit in fits]
    # A thought that the prompt opens is shown from its start, so that it can be told from the answer.
    opened = [builder.opened(request.prompt_ids) for request in requests]
    texts = [mark + sampler.decode(done) for mark, done in zip(opened, written, strict=True)]
    ends, shown = [done.finished for done in written], progress and f"{progress}: grading"
    grades = _grades(task, [example for example, _ in asked], texts, ends, shown, thoughts)
    items = [
        _item(task, example, number, done, text, grade if fit else Grade(False, None, grade.scores, TOO_LONG))
        for (example, number), done, text, grade, fit in zip(asked, written, texts, grades, fits, strict=True)
    ]
    return Evaluation(task.name, task.metric, items)


def _check(task: Task, examples: Sequence[Example], samples: int, temperature: float) -> None:
    if not examples:
        raise UsageError(f"{task.name}: no items to evaluate; raise --limit or choose another split")
    if samples > 1 and temperature == 0:
        raise UsageError(f"samples: {samples} greedy answers would be equal; set a temperature above 0")
    if task.runs_programs:
        require_protection()  # now, not after hours of asking


def _fits(task: Task, requests: Sequence[Request], room: int, max_length: int | None) -> list[bool]:
    """Return whether each prompt leaves room for an answer; UsageError where none does."""
    fits = [max_length is None or len(request.prompt_ids) + room <= max_length for request in requests]
    if max_length is not None and not any(fits):
        rest = max_length - min(len(request.prompt_ids) for request in requests)
        raise UsageError(
            f"{task.name}: no prompt leaves room for {room} tokens in the {max_length} that the model reads; "
            f"use --max-new-tokens {max(rest, 0)} or fewer"
        )
    return fits


def _grades(
    task: Task,
    examples: Sequence[Example],
    texts: Sequence[str],
    finished: Sequence[bool],
    progress: str | None,
    thoughts: Thoughts,
) -> list[Grade]:
    """Grade all answers; UniSDError where the grader fails, since a figure must not count that as wrong answers."""
    grades = grade_all(task, examples, texts, progress, thoughts, finished)
    if failed := [grade.note for grade in grades if grade.note.startswith(UNGRADED)]:
        raise UniSDError(
            f"{task.name}: {len(failed)} of {len(grades)} answers were {failed[0]}; repair it and evaluate again"
        )
    return grades


def regrade(task: Task, evaluation: Evaluation, thoughts: Thoughts = "cut") -> Evaluation:
    """Grade answers that were kept, without asking again: after a grader was changed, for example.

    Raises:
        UsageError: the answers are another task's.
    """
    if evaluation.task != task.name:
        raise UsageError(f"the answers are of the task {evaluation.task}, not of {task.name}; name the right task")
    asked = [item for item in evaluation.items if item.note != TOO_LONG]
    texts, ends = [item.output for item in asked], [item.finished for item in asked]
    grades = iter(_grades(task, [item.example() for item in asked], texts, ends, None, thoughts))
    items = [item if item.note == TOO_LONG else item.graded(next(grades)) for item in evaluation.items]
    return Evaluation(evaluation.task, evaluation.metric, items)


def _item(task: Task, example: Example, number: int, done: Completion, text: str, grade: Grade) -> Item:
    return Item(
        id=example.id,
        sample=number,
        prompt=example.prompt,
        gold=example.answer,
        output=text,
        parsed=grade.parsed,
        correct=grade.correct,
        finished=done.finished,
        ids=list(done.ids),
        scores=dict(grade.scores),
        note=grade.note,
        question=example.question,
        demonstration=example.demonstration,
        group=task.group(example),
        fields=dict(example.fields),
        system=example.system,
    )


def drawn(examples: Sequence[Example], limit: int | None, seed: int = 42) -> list[Example]:
    """Return ``limit`` examples, drawn by a stable hash of their ids; a smaller limit gives a part of a larger one."""
    if limit is None or limit >= len(examples):
        return list(examples)
    return sorted(examples, key=lambda example: stable_integer(seed, "draw", example.id))[:limit]

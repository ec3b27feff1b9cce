"""The multiple-choice family: prompts, demonstrations, grading and negatives for questions with lettered options."""

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from unisd.errors import UsageError
from unisd.files import stable_integer
from unisd.tasks.base import Example, Grade, NegativeRequest, Task
from unisd.tasks.reading import ChoiceReader, extract_choice, words


def letters_for(count: int) -> list[str]:
    """Return the letters of ``count`` options, A first; UsageError unless there are 2 to 26."""
    if not 2 <= count <= len(ascii_uppercase):
        raise UsageError(f"a multiple-choice item needs 2 to 26 options, not {count}")
    return list(ascii_uppercase[:count])


def form(count: int) -> str:
    """Return the instruction on how to answer a question with ``count`` options."""
    blank = "X" if count < 24 else "?"  # it stands for the letter, so it must be none
    return (
        f'Reason in at most three short sentences, then end with a last line "Answer: {blank}", '
        f"where {blank} is the letter of your choice."
    )


def prompt(question: str, options: Sequence[str], context: str = "") -> str:
    """Return the student's user turn: question, context if any, lettered options (2 to 26), and the answer's form."""
    lettered = "\n".join(f"{letter}. {text}" for letter, text in zip(letters_for(len(options)), options, strict=True))
    parts = (question.strip(), context.strip(), lettered, form(len(options)))
    return "\n\n".join(part for part in parts if part)


def demonstration(rationale: str, letter: str) -> str:
    """Return a worked answer in the format that the prompt asks for; it ends with ``Answer: <letter>``.

    The rationale becomes one paragraph that starts and ends as a sentence does, so that a gold and a negative
    demonstration differ in what they say and not in how they are set. An empty one leaves the answer line alone.
    """
    text = " ".join(rationale.split())
    if text and text[-1].isalnum():
        text += "."
    if re.match(r"[a-z]{2,}(?=[\s,.;:!?'’-])", text):  # a plain word: "pH" and "mRNA" keep their spelling
        text = text[0].upper() + text[1:]
    return f"{text}\nAnswer: {letter}" if text else f"Answer: {letter}"


def shuffled_options(item_id: str, seed: int, options: Sequence[str], answer_index: int) -> tuple[list[str], int]:
    """Return the options in an order that depends only on item id and seed, and where the answer went.

    For benchmarks that put the answer first (GPQA). No other item changes the order, so that caches survive. ValueError
    where ``answer_index`` names no option.
    """
    order = sorted(range(len(options)), key=lambda i: stable_integer("options", item_id, seed, i))
    return [options[i] for i in order], order.index(answer_index)


def choice_example(
    item_id: str,
    question: str,
    options: Sequence[str],
    answer_index: int,
    *,
    rationale: str | None = None,
    context: str = "",
    **fields: Any,
) -> Example:
    """Build an Example whose options keep the given order.

    ``rationale`` says why the answer is right; None (unlike an empty text) means that the item is for evaluation only
    and has no demonstration. ``fields`` are kept beside ``options``, ``letters`` and ``context``.

    Raises:
        UsageError: fewer than 2 options or more than 26, an answer that names none, an empty question or option, or an
            option that is equal to the answer and would be graded as wrong.
    """
    letters = letters_for(len(options))
    if not 0 <= answer_index < len(options):
        raise UsageError(f"item {item_id}: answer {answer_index} names none of the {len(options)} options")
    if not question.strip() or not all(option.strip() for option in options):
        raise UsageError(f"item {item_id}: the question or one of its options is empty")
    said = [" ".join(option.split()) for option in options]
    if said.count(said[answer_index]) > 1:
        raise UsageError(f"item {item_id}: two options are equal to the answer, {said[answer_index]!r:.60}")
    return Example(
        id=item_id,
        prompt=prompt(question, options, context),
        question=question.strip(),
        answer=letters[answer_index],
        demonstration=None if rationale is None else demonstration(rationale, letters[answer_index]),
        fields={"options": list(options), "letters": letters, "context": context, **fields},
    )


def grade_choice(example: Example, text: str, cut: bool = False) -> Grade:
    """Grade one output by the letter that a person would read in it (`extract_choice`). Never raises.

    An echo of the prompt is no answer: its options and its lecture may hold letters in brackets. ``cut`` says that the
    length limit ended the output.
    """
    said = text.replace(example.prompt, "\n")
    parsed = extract_choice(said, example.fields["letters"], example.fields["options"], cut)
    return Grade(correct=parsed == example.answer, parsed=parsed)


def negative_requests(example: Example) -> list[NegativeRequest]:
    """Return four requests to argue for a wrong option, round-robin over the wrong ones in an order of the item's own.

    Fewer than four wrong options come back with the same prompt: give each request a random stream of its own. The
    prompt leaves the other options out, which small models copy instead of arguing.
    """
    texts = dict(zip(example.fields["letters"], example.fields["options"], strict=True))
    wrong = [letter for letter in texts if letter != example.answer]
    wrong.sort(key=lambda letter: stable_integer("negative", example.id, letter))
    requests = []
    for target in (wrong * 4)[:4]:
        ask = f'Argue in at most three short sentences that the answer is "{texts[target]}", '
        ask += f'then end with a last line "Answer: {target}".'
        parts = (example.question, example.fields.get("context", "").strip(), ask)
        requests.append(NegativeRequest("\n\n".join(part for part in parts if part), target))
    return requests


def negative(example: Example, request: NegativeRequest, text: str) -> str | None:
    """Turn the model's argument into a demonstration that ends with the wrong letter, or None if that is unsafe.

    What the model says of the answer itself (answer lines, echoes of question, request and options) is dropped, three
    sentences are kept, and the wrong letter's answer line is set below them. None where too little is left, where the
    text names another option as the answer or speaks of others alone, or where the whole does not read as the target.
    """
    key, target = example.answer, request.target
    reader = ChoiceReader(example.fields["letters"], example.fields["options"])
    if target == key or reader.read(text) == key:
        return None
    argument = reader.argument(text, target, asked=request.prompt)
    spoken_of = reader.spoken_of(argument)
    if len(words(argument)) < 3 or (spoken_of and target not in spoken_of):
        return None
    built = demonstration(argument, target)
    return built if reader.read(built) == target else None


class ChoiceTask(Task):
    """What every multiple-choice task shares; a task adds ``name``, ``splits`` and ``load``."""

    grade = staticmethod(grade_choice)
    negative_requests = staticmethod(negative_requests)
    negative = staticmethod(negative)

    def options(self, example: Example) -> list[str]:
        """Return the letters."""
        return list(example.fields["letters"])

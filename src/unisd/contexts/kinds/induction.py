"""General instructions that the model writes from a few solved items (arXiv 2605.06597, section 3)."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from unisd.contexts.base import Context, ContextKind, Made, Making, Need, Words
from unisd.contexts.draws import draws
from unisd.contexts.leakage import leaks, normalised, words
from unisd.errors import UniSDError, UsageError
from unisd.files import stable_integer
from unisd.rollout import SamplingParams
from unisd.tasks.base import Example

GROUP_SIZES = (3, 4, 5)  # solved items that an instruction is written from
MAX_POOL = 100  # instructions that are asked for, per task and model

_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]]*(?=\s|$)")
_CODE = re.compile(r"```|^\s*(?:def \w+\(|class \w+[:(]|import \w+|from \w+ import )", re.MULTILINE)
_REQUEST = (
    "Below are {number} problems of one kind, each with a good response.\n\n{items}\n\n"
    "Write one general instruction, of three to four sentences, that helps someone to solve new problems of this kind: "
    "what to look at, how to reason, how to check the result. "
    "Do not give any of the answers, write no code, and mention no detail of the problems above. "
    "Write the instruction only."
)
_SHOWN = (
    "Here is general guidance for questions of this kind:\n{text}\n\n"
    "After studying the guidance, solve the problem in your own way."
)


class Induction(ContextKind):
    """A pool of general instructions that the model writes from solved items; each item draws distinct ones.

    Each instruction comes from 3 to 5 items. It is cut after its last whole sentence, and dropped if nothing is left,
    if it holds code, states or copies a solution of one of its items, or repeats another. An item never draws one that
    was written from itself or that ``leaks`` its answer; it gets a shorter list where too few are left.

    Args:
        pool_size: instructions to ask for, 1 to 100.
    """

    name, summary, about = "induction", "general instructions that the model writes from a few solved items", "general"
    written = True
    words = Words(
        after=_SHOWN, before=_SHOWN, asked="How should I go about questions of the kind that I am going to ask you?"
    )

    def __init__(self, pool_size: int = MAX_POOL) -> None:
        self.pool_size = pool_size

    def make(self, need: Need, making: Making) -> Made:
        """Return up to ``need.count`` instructions for each example; those with a demonstration serve as solved ones.

        Raises:
            UsageError: the count or the pool's size is out of range, there are fewer than five solved items, or there
                is nobody to write.
            UniSDError: fewer instructions than ``need.count`` were fit for use.
        """
        if need.count < 1 or not need.count <= self.pool_size <= MAX_POOL:
            raise UsageError(
                f"induction needs 1 ≤ contexts per item ≤ pool ≤ {MAX_POOL}, not {need.count} and {self.pool_size}"
            )
        task, examples, dropped = making.task.name, making.examples, Counter[str]()
        groups = _groups(task, examples, self.pool_size, making.seed)
        solved = [[examples[index] for index in group] for group in groups]
        asked = [(_request(items), ("induction", task, number)) for number, items in enumerate(solved)]
        params = SamplingParams(max_new_tokens=256, temperature=0.7, seed=making.seed)
        pool: dict[str, tuple[Context, set[int]]] = {}
        texts = making.written(asked, params, "instructions")
        for group, items, text in zip(groups, solved, texts, strict=True):
            instruction = _whole_sentences(text or "")
            fault = Making.TOO_LONG if text is None else _fault(instruction, items)
            if fault is None and normalised(instruction) in pool:
                fault = "it repeats another instruction"
            if fault is None:
                pool[normalised(instruction)] = (Context(self.name, instruction), set(group))
            else:
                dropped[fault] += 1
        if len(pool) < need.count:
            raise UniSDError(
                f"only {len(pool)} of {len(groups)} instructions were fit for use and {need.count} are needed "
                f"({', '.join(f'{reason}: {number}' for reason, number in dropped.items())}); "
                "use another kind of context, or a larger model or pool"
            )
        kept, drawn = list(pool.values()), []
        for index, example in enumerate(examples):
            order = (kept[number] for number in draws(len(kept), "induction", making.seed, example.id))
            fit = (context for context, sources in order if index not in sources and not leaks(example, context))
            drawn.append(list(islice(fit, need.count)))
        return Made(drawn, dict(dropped))


def _groups(task_name: str, examples: Sequence[Example], number: int, seed: int) -> list[list[int]]:
    """Return ``number`` groups of 3 to 5 indices of solved examples."""
    solved = [index for index, example in enumerate(examples) if (example.demonstration or "").strip()]
    if len(solved) < max(GROUP_SIZES):
        raise UsageError(
            f"induction needs {max(GROUP_SIZES)} or more items with a demonstration, and there are {len(solved)}; "
            "use more training items or another kind of context"
        )
    groups = []
    for group in range(number):
        size = GROUP_SIZES[stable_integer("size", seed, task_name, group) % len(GROUP_SIZES)]
        drawn = draws(len(solved), "group", seed, task_name, group)
        groups.append([solved[index] for index in islice(drawn, size)])
    return groups


def _request(group: Sequence[Example]) -> str:
    items = "\n\n".join(
        f"Problem {number}:\n{example.question}\nResponse {number}:\n{example.demonstration}"
        for number, example in enumerate(group, start=1)
    )
    return _REQUEST.format(number=len(group), items=items)


def _whole_sentences(text: str) -> str:
    """Return ``text`` up to the end of its last whole sentence: the limit of tokens may have cut the next one."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else ""


def _fault(instruction: str, group: Sequence[Example]) -> str | None:
    """Return why an instruction cannot be used, or None."""
    if not words(instruction):
        return "it has no whole sentence"
    if _CODE.search(instruction):
        return "it holds code"
    context = Context("induction", instruction)
    for example in group:
        stated = rf"(?i:\banswers?\b)\W+(?i:is|are|was|:)?\W*{re.escape(example.answer.strip())}(?!\w)"
        if example.answer.strip() and re.search(stated, instruction):
            return "it states an answer"
        if leaks(example, context):
            return "it copies a solved item"
    return None

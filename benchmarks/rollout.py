"""Tokens a second that are written with the adapter on: unisd's sampler beside transformers' `generate`.

    python benchmarks/rollout.py                       # SmolLM2-135M, LoRA r 64, CoS-E prompts, batches 8 and 32
    python benchmarks/rollout.py --quick               # a tiny random model: to see that it runs
    python benchmarks/rollout.py --batches 8 --rounds 3 --output rollout.json

Both write on the same PEFT model in this process, in turn, from the same prompts: those nearest to `--prompt-tokens`.
Both sample at temperature 0.7 from the whole vocabulary and write exactly `--new-tokens` tokens: `generate` through
`min_new_tokens`, ours by having no end-of-turn token. Ours counts the merging and packing of the weights, which it does
at every call.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from common import (
    Job,
    adapter,
    interleaved,
    load,
    machine,
    parser,
    quick,
    ratio,
    ready_model,
    summary,
    targets_table,
    words,
    write,
)

from unisd.models import attach
from unisd.rollout import Request, SamplingParams, make_sampler

TEMPERATURE = 0.7
LIMIT = 0.55
"""The most that ours may take of stock `generate`'s time."""
# No model writes this id.
NO_TOKEN = -1


def ours(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], new_tokens: int) -> Callable[[], int]:
    """Return a function that writes all completions with unisd's sampler and gives the number of tokens."""
    sampler = make_sampler(model, tokenizer, batch_size=len(prompts))
    sampler.end_tokens = frozenset({NO_TOKEN})
    calls = iter(range(10**9))

    def write_all() -> int:
        call = next(calls)
        requests = [Request(ids, (call, number)) for number, ids in enumerate(prompts)]
        return sum(len(done.ids) for done in sampler.sample(requests, SamplingParams(new_tokens, TEMPERATURE)))

    return write_all


def stock(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], new_tokens: int) -> Callable[[], int]:
    """Return a function that does the same with transformers' `generate`, prompts padded on the left."""
    width = max(len(ids) for ids in prompts)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    rows = torch.tensor([[pad] * (width - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])

    def write_all() -> int:
        with torch.no_grad():
            written = model.generate(
                input_ids=rows,
                attention_mask=mask,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                pad_token_id=pad,
            )
        return int(written[:, width:].numel())

    return write_all


def timed(write_all: Callable[[], int], expected: int) -> Callable[[], dict[str, Any]]:
    def turn() -> dict[str, Any]:
        start = time.perf_counter()
        tokens = write_all()
        if tokens != expected:
            raise SystemExit(f"{tokens} tokens were written where {expected} were asked for")
        return {"seconds": time.perf_counter() - start}

    return turn


def compare(job: Job, model: Any, tokenizer: Any, prompts: list[list[int]], rounds: int) -> dict[str, Any]:
    """Return the figures of one batch size."""
    expected = len(prompts) * job.new_tokens
    writers = {"ours": ours, "generate": stock}
    turns = {name: timed(make(model, tokenizer, prompts, job.new_tokens), expected) for name, make in writers.items()}
    seconds = {name: [r["seconds"] for r in found] for name, found in interleaved(turns, rounds).items()}
    return {
        "batch": len(prompts),
        "prompt_tokens": summary([len(ids) for ids in prompts]),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "tokens_per_second": {name: summary([expected / s for s in values]) for name, values in seconds.items()},
        "of_generate": ratio(seconds["ours"], seconds["generate"]),
    }


def show_report(reports: list[dict[str, Any]], job: Job, with_targets: bool) -> None:
    from unisd.cli.tables import show, table

    rows = [
        (
            str(report["batch"]),
            words(report["prompt_tokens"], 0),
            words(report["tokens_per_second"]["ours"], 0),
            words(report["tokens_per_second"]["generate"], 0),
            words(report["of_generate"]),
        )
        for report in reports
    ]
    title = f"Tokens a second, median (lowest–highest): {job.model}, {job.new_tokens} new tokens forced on both sides"
    show(table(title, ("batch", "prompt tokens", "ours", "generate", "time, ours / generate"), rows))
    if with_targets:
        claims = [(f"batch {r['batch']}, ours / generate", r["of_generate"]["median"], LIMIT) for r in reports]
        show(targets_table(claims))


def main() -> None:
    made = parser(__doc__, rounds=5)
    made.add_argument("--model", default=Job.model, help="a model that unisd loads, or random (default: %(default)s)")
    made.add_argument("--batches", nargs="+", type=int, default=[8, 32], help="default: %(default)s")
    made.add_argument("--new-tokens", type=int, default=Job.new_tokens, help="default: %(default)s")
    made.add_argument("--prompt-tokens", type=int, default=104, help="default: %(default)s")
    options = made.parse_args()
    job = Job(model=options.model, new_tokens=options.new_tokens)
    if options.quick:
        job, options.rounds, options.batches = quick(job), min(options.rounds, 2), [2, 4]
    if options.threads:
        torch.set_num_threads(options.threads)
    # A deprecation inside transformers, nobody's business here.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    ready_model([job])
    loaded = load(job)
    model = attach(loaded.model, adapter(job)).eval()
    nearest = sorted(loaded.prepared, key=lambda row: abs(len(row.student_ids) - options.prompt_tokens))
    reports = []
    for batch in options.batches:
        prompts = [row.student_ids for row in nearest[:batch]]
        reports.append(compare(job, model, loaded.tokenizer, prompts, options.rounds))
    show_report(reports, job, with_targets=not options.quick)
    threads, about = torch.get_num_threads(), machine()
    print(f"{about['cpu']}, {threads} threads, {options.rounds} rounds, torch {about['versions']['torch']}")
    write(options.output, {"job": vars(job), "threads": threads, "results": reports}, options.quick)


if __name__ == "__main__":
    main()

"""What the side-by-side benchmarks share: contestants in processes of their own, figures, tables, the machine.

A contestant is a trainer that runs its own full training loop in a child process (its inside is in `step.py`) and waits
before each optimizer step until the parent asks for it. So contestants take turns step by step (A B A B …) with one
running at a time, a busy machine slows them alike, and ratios can be compared where times cannot.

Every contestant gets the same job: model, prompts in the same order, token ids of student and teacher, adapter, batch
and number of new tokens. No end-of-turn token ends a completion, so that all completions have the same length.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

HERE = Path(__file__).resolve().parent
PEER, PEER_CHECKPOINTED = "trl", "trl_checkpointed"
PHASES = ("sample", "score", "learn", "update")
"""sample: the student writes; score: the teacher reads, without gradient (with us also agreement weights); learn: the
student's forward and backward passes; update: the rest, such as clipping, the optimizer, the EMA teacher and metrics.
TRL builds its padded batches inside `learn`."""
SEED = 42


@dataclass(frozen=True)
class Job:
    """One contestant's work. Two jobs that differ in the contestant alone learn from the same token ids."""

    contestant: str = "core"
    """A recipe of unisd; `recipe:layout`, with its contexts in another layout; or TRL's SDFTTrainer: `trl`, or
    `trl_checkpointed` with its default gradient checkpointing."""
    model: str = "smollm2-135m"
    """What unisd loads by that name, with the CoS-E sample; or `random`: a random Llama with invented items."""
    batch: int = 8
    new_tokens: int = 48
    probes: int = 3
    items: int = 256
    rank: int = 64
    threads: int | None = None
    """None: as torch chooses."""
    clock: str = "wall"
    """wall; or cpu: the process's own time, for one thread on a busy machine."""
    phase_memory: bool = False
    """Measure each phase's peak; it resets the system's own peak counter, so it needs a process of its own."""
    vocabulary: int = 512
    hidden: int = 64
    layers: int = 2
    prompt_length: int = 100
    """Vocabulary and the following: of the random model and its items."""

    def of(self, contestant: str) -> "Job":
        """Return the same job for another contestant."""
        return dataclasses.replace(self, contestant=contestant)


def quick(job: Job) -> Job:
    """Return the job at a size that takes seconds: it shows that all runs, not how fast."""
    return dataclasses.replace(job, model="random", batch=4, new_tokens=8, probes=2, items=32, rank=8)


# -- model, data ---------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """A model without an adapter, its tokenizer and its training items."""

    model: Any
    tokenizer: Any
    rows: list[dict[str, Any]]
    """The public columns, every context included."""
    prepared: list[Any]
    """The same items as token ids."""


def load(job: Job) -> Loaded:
    """Load model and items; items that do not fit with all their contexts are left out for every contestant."""
    from unisd.contexts import Need, PromptBuilder, prepare_rows
    from unisd.models import load_model, load_tokenizer, max_positions

    if job.model == "random":
        model, tokenizer = _random_model(job)
        rows = _invented_rows(job)
    else:
        model, tokenizer = load_model(job.model, "float32"), load_tokenizer(job.model)
        rows = _cos_e_rows(job)
    core = settings(job, "core", "")
    prepared, _ = prepare_rows(
        rows,
        PromptBuilder(tokenizer, core.contexts.layout),
        core.contexts.max_prompt_length,
        job.new_tokens,
        max_positions(model),
        [
            Need("gold", "gold"),
            *([Need("auxiliary", "retrieval", job.probes)] if job.probes else []),
            Need("negative", "negative", required=False),
        ],
    )
    kept = {row.id for row in prepared}
    return Loaded(model, tokenizer, [row for row in rows if row["id"] in kept], prepared)


def adapter(job: Job) -> Any:
    """Return the LoRA configuration: all linear layers, alpha = 2 r, dropout 0.05."""
    from unisd.models import LoraSettings

    return LoraSettings(r=job.rank, alpha=2 * job.rank, dropout=0.05).peft_config()


def _random_model(job: Job) -> tuple[Any, Any]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sys.path.insert(0, str(HERE.parent / "tests"))
    tokenizer = importlib.import_module("tiny").tokenizer()
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=max(job.vocabulary, len(tokenizer)),
        hidden_size=job.hidden,
        intermediate_size=3 * job.hidden,
        num_hidden_layers=job.layers,
        num_attention_heads=job.hidden // 16,
        num_key_value_heads=job.hidden // 16,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def _invented_rows(job: Job) -> list[dict[str, Any]]:
    draw = random.Random(SEED)

    def text(length: int) -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=length))

    return [
        {
            "id": f"item-{i}",
            "prompt": text(job.prompt_length),
            "privileged_context": text(job.prompt_length // 2),
            "auxiliary_contexts": [text(job.prompt_length) for _ in range(job.probes)],
            "negative_context": text(job.prompt_length // 2),
        }
        for i in range(job.items)
    ]


def _cos_e_rows(job: Job) -> list[dict[str, Any]]:
    """CoS-E with retrieved probes. A negative is the next item's explanation with a wrong letter: no model need write
    it, and it has a negative's length."""
    from unisd.contexts import Context, Item, Making, Need, columns_of, make_contexts
    from unisd.tasks import get
    from unisd.tasks.choice import demonstration

    task = get("cos_e")
    examples = task.load("train", "sample")[: job.items]
    needs = [Need("gold", "gold")] + ([Need("auxiliary", "retrieval", job.probes)] if job.probes else [])
    items, _, _ = make_contexts(needs, Making(task, examples))
    rows = []
    for item, example, other in zip(items, examples, examples[1:] + examples[:1], strict=True):
        wrong = next(letter for letter in example.fields["letters"] if letter != example.answer)
        rationale = str(other.demonstration).rpartition("\n")[0]
        negative = Context("negative", demonstration(rationale, wrong))
        rows.append(columns_of(Item(item.id, item.prompt, None, {**item.contexts, "negative": [negative]})))
    return [{name: value for name, value in row.items() if name != "completion"} for row in rows]


# -- settings ----------------------------------------------------------------------------------------------------------


def shared_training(job: Job) -> dict[str, Any]:
    """What both trainers are told: the given order of items, full batches, nothing saved, logged or evaluated."""
    return {
        "per_device_train_batch_size": job.batch,
        "gradient_accumulation_steps": 1,
        "max_steps": 100_000,
        "dataloader_drop_last": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": SEED,
    }


def settings(job: Job, contestant: str, folder: str) -> Any:
    """Return the settings of a recipe, or of `recipe:layout` with its contexts in another layout."""
    from unisd.training.runfile import assemble

    recipe, _, layout = contestant.partition(":")
    given = {
        "training": shared_training(job) | {"train_sampling_strategy": "sequential"},
        "rollout": {"max_completion_length": job.new_tokens},
        "contexts": {"count": job.probes} | ({"layout": layout} if layout else {}),
    }
    return assemble(recipe, given=given).config(folder)


# -- the outside ---------------------------------------------------------------------------------------------------


class Contestant:
    """A trainer in a child process. Use as a context manager; at its end ``closing`` holds the peak memory.

    Raises:
        SystemExit: the child died; the last line that it wrote is the message.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.closing: dict[str, Any] = {}
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open for as long as the child lives
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "step.py"), "--contestant", json.dumps(dataclasses.asdict(job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | quiet,
        )
        self.opening = self._read()

    def __enter__(self) -> "Contestant":
        return self

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is None:
            self._process.stdin.close()  # type: ignore[union-attr]
            self.closing = self._read()
        else:
            self._process.kill()
        self._process.wait()
        self._errors.close()

    def step(self) -> dict[str, Any]:
        """Run one optimizer step; return its seconds, those of its phases, and the tokens that were written."""
        assert self._process.stdin
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        result = self._read()
        if result["tokens"] != self.job.batch * self.job.new_tokens:
            raise SystemExit(f"{self.job.contestant} wrote {result['tokens']} tokens: completions differ in length")
        return result

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines() or ["it said nothing"]
            raise SystemExit(f"contestant {self.job.contestant} failed: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def running(jobs: Sequence[Job]) -> Iterator[dict[str, Contestant]]:
    """Start the contestants one after the other and keep them all alive, waiting."""
    ready_model(jobs)
    with contextlib.ExitStack() as stack:
        yield {job.contestant: stack.enter_context(Contestant(job)) for job in jobs}


def ready_model(jobs: Sequence[Job]) -> None:
    """Have the default model converted before anyone is measured: it is done once a machine and takes memory."""
    from unisd.models.load import resolve

    for name in {job.model for job in jobs} - {"random"}:
        resolve(name)


def interleaved(turns: dict[str, Callable[[], dict[str, Any]]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let everyone run once a round, in turn; the first round warms up and does not count."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
    for count in range(rounds + 1):
        for name, turn in turns.items():
            result = turn()
            if count:
                results[name].append(result)
    return results


def has_peer() -> bool:
    """Return whether TRL is installed; the benchmarks alone use it."""
    return importlib.util.find_spec("trl") is not None


# -- figures -------------------------------------------------------------------------------------------------------


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Summarise the ratios round by round: a round's contestants ran next to each other, so theirs is the steadiest."""
    return summary([a / b for a, b in zip(ours, theirs, strict=True)])


def words(found: dict[str, float] | None, digits: int = 2) -> str:
    """Write a summary as ``median (lowest–highest)``, or the median alone where nothing varied."""
    if found is None:
        return "–"
    if found["lowest"] == found["highest"]:
        return f"{found['median']:.{digits}f}"
    return f"{found['median']:.{digits}f} ({found['lowest']:.{digits}f}–{found['highest']:.{digits}f})"


def machine() -> dict[str, Any]:
    """Describe what was measured on, without names of hosts or paths."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = {}
    for name in ("unisd", "torch", "transformers", "peft", "accelerate", "trl"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "cpu": cpu,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
    }


def targets_table(found: Sequence[tuple[str, float | None, float]]) -> Table:
    """Return a table of claims: what, the ratio that was measured, and the most that it may be."""
    from unisd.cli.tables import table

    rows = []
    for what, measured, limit in found:
        met = "not measured" if measured is None else "yes" if measured <= limit else "NO"
        rows.append((what, "–" if measured is None else f"{measured:.2f}", f"≤ {limit:.2f}", met))
    return table("Targets", ("ratio", "measured", "target", "met"), rows)


# -- command line --------------------------------------------------------------------------------------------------


def parser(text: str | None, rounds: int, counted: str = "measured rounds, after one that warms up") -> Any:
    """Return a parser with the options that all benchmarks share."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a tiny random model, in seconds: to see that it runs")
    made.add_argument("--rounds", type=int, default=rounds, help=f"{counted} (default: %(default)s)")
    made.add_argument("--threads", type=int, default=None, help="default: as torch chooses")
    made.add_argument("--output", type=Path, default=None, metavar="FILE", help="write the figures as JSON")
    return made


def write(path: Path | None, report: dict[str, Any], quick_form: bool) -> None:
    """Write the report with the machine's description, if a file is wanted."""
    from unisd.files import write_json

    if path is not None:
        write_json(path, {"machine": machine(), "quick": quick_form} | report)

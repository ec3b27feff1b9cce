"""The trainer: sample, score, weigh, learn, follow, as a ``transformers.Trainer``.

The optimizer step's whole accumulation window is planned at once (``get_batch_samples``), so normalisers and weights
are exact over the step however it is cut into micro-batches, rows or ranks.
"""

import gc
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from unisd.contexts import Need, PreparedRow, PromptBuilder, prepare_rows
from unisd.errors import UniSDError, UsageError
from unisd.fast.merged import return_free_memory
from unisd.files import named_write_errors, replacing_folder, write_json
from unisd.mechanisms import Acting, InitialTeacher, Mechanisms, Run
from unisd.models import attach, load_model, load_tokenizer, max_positions
from unisd.models.trust import trusted
from unisd.rollout import Completion, Sampler, make_sampler
from unisd.training.arguments import UniSDConfig
from unisd.training.checkpoints import (
    checkpoint_folder,
    last_complete,
    mark_complete,
    read_own_samples,
    write_own_samples,
)
from unisd.training.learn import Learner
from unisd.training.plan import GOLD, Grader, Plan, Planner, draw_own_samples
from unisd.training.progress import CalmProgress, warn
from unisd.training.ranks import Ranks
from unisd.training.speed import Work
from unisd.training.telemetry import METRICS_FILE, MetricsLog, peak_memory_bytes, step_metrics


def needed(args: UniSDConfig) -> list[Need]:
    """Return the contexts that training rows must have: the gold one, and what the mechanisms need."""
    return [*([Need(GOLD.slot, "gold")] if args.needs_teacher else []), *args.mechanisms.needs()]


class UniSDTrainer(Trainer):
    """Adapts a causal language model by unified self-distillation (docs/method.md).

    Args:
        model: a model, or the name of one (``smollm2-135m``, a folder, a hub id).
        args: settings; None takes the defaults.
        train_dataset: rows with ``prompt`` and ``privileged_context``; optional ``completion``,
            ``auxiliary_contexts``, ``negative_context``, ``id``. A ``datasets.Dataset`` or a list of dicts.
        eval_dataset: rows of the same kind; ``evaluate`` reports the loss on them.
        processing_class: the tokenizer; None loads the model's own.
        callbacks: transformers callbacks.
        peft_config: an adapter to train; None trains the model as it is given (all weights, or its own adapter).
        sampler: who writes the completions; None builds the one that ``args.rollout`` asks for.
        grader: (ids of rows, texts of completions) to grades in [0, 1]; for mechanisms that weigh verdicts.

    Raises:
        UsageError: settings and data that do not fit together, named in one line, before any training.
    """

    # The loss of a step is exact as it stands: it must not be divided by the accumulation steps again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | str,
        args: UniSDConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: Any = None,
        sampler: Sampler | None = None,
        grader: Grader | None = None,
    ) -> None:
        args = args or UniSDConfig(output_dir="unisd-run")
        name = model if isinstance(model, str) else str(getattr(getattr(model, "config", None), "_name_or_path", ""))
        model = load_model(model) if isinstance(model, str) else model
        trusted(model)
        processing_class = processing_class or load_tokenizer(name)
        if peft_config is not None:
            set_seed(args.seed)
            model = attach(model, peft_config)
        self._builder = PromptBuilder(processing_class, args.contexts.layout, args.contexts.words)
        self.dropped: dict[str, int] = {}
        self.mechanisms = Mechanisms(args)  # its own: mechanisms in use hold weights
        rows = self._prepare(train_dataset, args, model) if train_dataset is not None else None
        evaluated = self._prepare(eval_dataset, args, model) if eval_dataset is not None else None
        # Before the model is wrapped: a teacher that starts as the student, and a clean view of both.
        self.mechanisms.start(model, graded=grader is not None)
        self.teacher = self.mechanisms.teacher(model) if args.needs_teacher else None
        self._follow = _Follow(self.mechanisms)
        super().__init__(
            model=model,
            args=args,
            data_collator=list,
            train_dataset=rows,
            eval_dataset=evaluated,
            processing_class=processing_class,
            callbacks=[self._follow, *(callbacks or [])],
        )
        self._calm(args)
        self.ranks = Ranks(self.accelerator)
        self.sampler = sampler or make_sampler(self.model, processing_class, args.rollout.batch_size)
        self.planner = Planner(args, self.mechanisms, self.model, self.teacher, self.sampler, self.ranks, grader)
        accelerator = self.accelerator
        self.learner = Learner(args, self.mechanisms, self.ranks, accelerator.backward, accelerator.no_sync)
        self.metrics_log = MetricsLog(Path(args.output_dir) / METRICS_FILE)
        self._step_metrics: dict[str, float] = {}
        self._written_step = -1
        self._step_started = self._learned_at = time.perf_counter()
        self._work = Work(self.model)
        self._step_work: dict[str, int] = {}

    def _calm(self, args: UniSDConfig) -> None:
        """One progress bar in place of a printed dictionary a step."""
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if not args.disable_tqdm:
            self.add_callback(CalmProgress())
        if args.gradient_checkpointing and hasattr(self.model, "enable_input_require_grads"):
            self.model.enable_input_require_grads()

    def _prepare(self, dataset: Any, args: UniSDConfig, model: nn.Module) -> list[PreparedRow]:
        rows, report = prepare_rows(
            dataset,
            self._builder,
            max_prompt_length=args.contexts.max_prompt_length,
            max_completion_length=args.rollout.max_completion_length,
            max_positions=max_positions(model),
            needs=needed(args),
            completion_required=args.rollout.source in ("gold", "mix"),
        )
        self.dropped = dict(report.dropped + report.absent)
        if self.dropped:
            warn("; ".join(report.lines()))
        for mechanism in self.mechanisms:
            for need in mechanism.needs():
                if not any(row.contexts.get(need.slot) for row in rows):
                    raise UsageError(
                        f"{mechanism.name}: no row has a {need.slot}_context; "
                        f"add the column or switch {mechanism.name} off"
                    )
        return rows

    # -- training: sample, score, weigh ----------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; ``resume_from_checkpoint=True`` goes on from the last complete checkpoint and gives the same bits."""
        if resume_from_checkpoint is True:
            found = last_complete(checkpoint_folder(self.args.output_dir))
            if found is None:
                raise UsageError(f"{self.args.output_dir} holds no complete checkpoint; start without resuming")
            resume_from_checkpoint = str(found)
        steps = self.args.max_steps if self.args.max_steps > 0 else None
        for message in self.mechanisms.inert(steps):
            warn(message)
        if self.args.rollout.source == "own":
            self.planner.own_samples = self._own_samples(resume_from_checkpoint or None)
        result = super().train(resume_from_checkpoint=resume_from_checkpoint or None, **kwargs)
        if self.is_world_process_zero():
            for acting in self.acting():
                if not acting.acts:
                    warn(f"{acting.mechanism} did nothing in this run ({acting.evidence}); {acting.remedy}")
        return result

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], None]:
        """Plan the whole accumulation window; its last micro-batch carries the plan, the others are empty."""
        self._step_started = time.perf_counter()
        batches = []
        for _ in range(num_batches):
            batch = next(epoch_iterator, None)
            if batch is None:
                break
            batches.append(batch)
        if not batches:
            return [], None
        plan = self.planner.plan([row for batch in batches for row in batch], self.state.global_step)
        return [None] * (len(batches) - 1) + [plan], None

    def training_step(self, model: nn.Module, inputs: Plan | None, num_items_in_batch: Any = None) -> Tensor:
        """Learn the window's plan, rows cut by the token budget, however many micro-batches it was gathered from."""
        model.train()
        if inputs is None:
            return torch.zeros((), device=self.args.device)
        return_free_memory()
        with inputs.timing("learn"):
            loss = self.learner.learn(model, inputs)
        return_free_memory()
        self._learned_at = time.perf_counter()
        self._step_metrics = step_metrics(loss, inputs, self.mechanisms) | {
            f"time/{phase}": seconds for phase, seconds in inputs.seconds.items()
        }
        self._step_work = inputs.work
        return loss * self.ranks.count

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0: transformers' estimate reads a padded batch, which there is none of."""
        return 0

    # -- telemetry -------------------------------------------------------------------------------------------------

    def _maybe_log_save_evaluate(self, tr_loss: Tensor, grad_norm: Any, *args: Any, **kwargs: Any) -> None:
        if self.state.global_step != self._written_step and self._step_metrics:
            self._written_step = self.state.global_step
            self._finish_step(grad_norm, kwargs.get("learning_rate"))
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def _finish_step(self, grad_norm: Any, learning_rate: float | None) -> None:
        now = time.perf_counter()
        elapsed = now - self._step_started
        # What comes after learning: the optimizer, the scheduler, and whatever follows the student.
        self._step_metrics["time/update"] = now - self._learned_at
        phases = sum(value for name, value in self._step_metrics.items() if name.startswith("time/"))
        metrics = self._step_metrics
        metrics["grad_norm"] = float(grad_norm) if grad_norm is not None else 0.0
        metrics["learning_rate"] = float(learning_rate or 0.0)
        metrics |= self._follow.metrics
        metrics["time/other"] = elapsed - phases
        metrics["time/step"] = elapsed
        written = int(metrics.get("completions/tokens", 0)) // self.ranks.count
        metrics |= self._work.measures(self._step_work, written, elapsed)
        metrics["memory/peak_bytes"] = float(peak_memory_bytes())
        self._step_metrics = metrics
        if self.is_world_process_zero():
            self.metrics_log.append({"step": self.state.global_step, "epoch": self.state.epoch} | metrics)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Send the last step's metrics to the trackers, too."""
        if "loss" in logs:
            logs = self._step_metrics | logs
        super().log(logs, start_time)

    def acting(self) -> list[Acting]:
        """Return, for each mechanism that is on, whether it acted, from the run's ``metrics.jsonl``."""
        with self.metrics_log.path.open(encoding="utf-8") as file:
            run = Run([json.loads(line) for line in file])
        return [found for mechanism in self.mechanisms if (found := mechanism.acting(run)) is not None]

    # -- evaluation of the objective ---------------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the objective on held-out rows: fresh completions, the same loss, no gradient."""
        rows = self.eval_dataset if eval_dataset is None else self._prepare(eval_dataset, self.args, self.model)
        if not rows:
            raise UsageError("evaluate: no eval_dataset was given")
        size = self.args.per_device_eval_batch_size * self.ranks.count
        totals: dict[str, float] = {}
        for start in range(0, len(rows), size):
            shared = rows[start : start + size]
            own = shared[self.args.process_index :: self.ranks.count] or shared[:1]
            plan = self.planner.plan(own, "eval")
            with torch.no_grad():
                self.model.eval()
                loss = self.learner.learn(self.model, plan, with_gradient=False)
            for name, value in step_metrics(loss, plan, self.mechanisms).items():
                totals[name] = totals.get(name, 0.0) + value * len(shared) / len(rows)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in totals.items()}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoint_folder(super()._get_output_dir(trial)))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        try:
            with named_write_errors(folder):
                super()._save_checkpoint(model, trial)
                if self.args.should_save:
                    for mechanism in self.mechanisms:
                        mechanism.save(folder)
                    mark_complete(folder, self.state.global_step)
        except UniSDError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for mechanism in self.mechanisms:
            mechanism.load(Path(resume_from_checkpoint))

    def _own_samples(self, resuming: Any) -> dict[str, Completion]:
        path = Path(self.args.output_dir) / "own_samples.jsonl"
        if resuming and path.is_file():
            return read_own_samples(path)
        initial = self.teacher if self.teacher and self.teacher.kind == "initial" else InitialTeacher(self.model)
        rows: Sequence[PreparedRow] = self.train_dataset
        shown = None if self.args.disable_tqdm else "own samples"
        samples = draw_own_samples(self.args, rows, initial, self.sampler, shown)
        if self.is_world_process_zero():
            write_own_samples(path, samples)
        return samples

    def save_weights(self, folder: Path) -> None:
        """Save what was trained (adapter or whole model) with the tokenizer, loadable by PEFT or transformers."""
        first = self.is_world_process_zero()
        with replacing_folder(folder, owner=first) as temporary:
            self.save_model(str(temporary))
            if first:
                write_json(temporary / "unisd.json", {"settings": self.args.to_dict(), "steps": self.state.global_step})

    def leave_ranks(self) -> None:
        """Leave the group of processes; call it last, on every rank. With one process it does nothing.

        A rank that ends without it can abort or hang after its work.
        """
        if not torch.distributed.is_initialized():
            return
        # The data-parallel wrapper goes first. As the group's last holder it would destroy the group while it holds
        # the interpreter's lock, and wait there for gloo's threads, which need the lock to finish (PyTorch 2.13).
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        gc.collect()
        torch.distributed.destroy_process_group()


class _Follow(TrainerCallback):
    """Step 5: after the optimizer, the mechanisms follow, and at the start the log is opened."""

    def __init__(self, mechanisms: Mechanisms) -> None:
        self.mechanisms = mechanisms
        self.metrics: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            MetricsLog(Path(args.output_dir) / METRICS_FILE).start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.metrics = self.mechanisms.follow(state.global_step)

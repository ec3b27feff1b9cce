"""The trainer: sample, score, weigh, learn, follow, as a ``transformers.Trainer``.

The optimizer step's whole accumulation window is planned at once (``get_batch_samples``), so normalisers and weights
are exact over the step however it is cut into micro-batches, rows or ranks.
"""

import gc
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from unisd import __version__
from unisd.contexts import Later, PreparedRow, prepare_rows
from unisd.errors import UsageError, warn
from unisd.fast.merged import return_free_memory
from unisd.files import replacing_folder, write_json
from unisd.mechanisms import Acting, InitialTeacher, LiveTeacher, Mechanisms
from unisd.models import has_adapter, max_positions
from unisd.models.adapters import check_adapters
from unisd.models.default import silent_bars
from unisd.models.load import base_model
from unisd.models.origin import NOTE_FILE, without_places
from unisd.models.quantised import check_adapter_trains
from unisd.models.saved import check_saved, check_trainable, finish_adapter, moved_weights
from unisd.models.vocabulary import check_ids
from unisd.rollout import Sampler, make_sampler
from unisd.tasks.row_files import Bad, tell_bad
from unisd.training.arguments import UniSDConfig
from unisd.training.checks import GradientWatch, check_start
from unisd.training.completions import CompletionsLog
from unisd.training.guarded import Guarded
from unisd.training.interop import arguments_of, check_optimizer, check_parts, refuse, tokenizer_of
from unisd.training.learn import Learner
from unisd.training.plan import Grader, Plan, Planner, check_reader
from unisd.training.planning import fit_rows
from unisd.training.progress import CalmProgress
from unisd.training.ranks import Ranks
from unisd.training.resumable import Resumable, Stopping
from unisd.training.speed import Work
from unisd.training.student import adapted, in_words, student
from unisd.training.telemetry import METRICS_FILE, MetricsLog, acting, peak_memory_bytes, step_metrics
from unisd.training.trackers import name_runs
from unisd.training.unread import unread
from unisd.training.window import RepeatedWindows


class UniSDTrainer(Guarded, Resumable):
    """Adapts a causal language model by unified self-distillation (docs/method.md).

    Arguments stand in the order of transformers' trainer; those that have no meaning here are refused in one line.

    Args:
        model: a model, or the name of one (``smollm2-135m``, a folder, a hub id), which gets a LoRA adapter by
            ``args.lora`` (by default that of the recipes), unless that says ``{"enabled": False}``.
        args: settings; None takes the defaults. Of transformers' ``TrainingArguments`` every value is kept.
        data_collator: None; rows are joined by the trainer.
        train_dataset: rows with ``prompt`` and ``privileged_context``; optional ``completion``,
            ``auxiliary_contexts``, ``negative_context``, ``id``, ``chat_template_kwargs``, ``tools``. A
            ``datasets.Dataset``, a list of dicts, a table, a file, and more: see
            :func:`unisd.training.data.training_rows`.
        eval_dataset: rows of the same kind, or a mapping of names to such; ``evaluate`` reports the loss on them.
        processing_class: the tokenizer, or a processor that has one; None loads the model's own.
        model_init: makes the model, in place of ``model``.
        compute_loss_func: None; the loss is what ``args`` say.
        compute_metrics: None; the logits that it would read are never kept.
        callbacks: transformers callbacks.
        optimizers: an optimizer over the model's parameters and its schedule, either of which may be None.
        optimizer_cls_and_kwargs: an optimizer's class and its arguments, in place of ``args.optim``.
        preprocess_logits_for_metrics: None; logits are never kept.
        peft_config: a new adapter to train, in place of ``args.lora``; with neither, of a model that is given as an
            object that is trained which can be: all weights, or its adapter.
        sampler: who writes the completions; None builds the one that ``args.rollout`` asks for.
        grader: (ids of rows, texts of completions) to grades in [0, 1]; see :data:`unisd.training.plan.Grader`.
        later: makes contexts of the training rows, before the first step, for those rows that are drawn.

    Raises:
        UsageError: settings and data that do not fit together, named in one line, before any training.
    """

    # The loss of a step is exact as it stands: it must not be divided by the accumulation steps again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: nn.Module | str | None = None,
        args: UniSDConfig | TrainingArguments | None = None,
        data_collator: None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: None = None,
        compute_metrics: None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] | None = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: None = None,
        *,
        peft_config: Any = None,
        sampler: Sampler | None = None,
        grader: Grader | None = None,
        later: Later | None = None,
        **others: Any,
    ) -> None:
        processing_class = others.pop("tokenizer", None) if processing_class is None else processing_class
        unread = {"data_collator": data_collator, "compute_loss_func": compute_loss_func}
        unread |= {"compute_metrics": compute_metrics, "preprocess_logits_for_metrics": preprocess_logits_for_metrics}
        refuse(_ARGUMENTS, **unread, **others)
        optimizers = (None, None) if optimizers is None else optimizers
        check_parts(callbacks, optimizers, optimizer_cls_and_kwargs, peft_config, sampler, grader)
        args = arguments_of(args)
        if eval_dataset is None and (args.eval_strategy.value != "no" or args.eval_on_start):
            raise UsageError("training.eval_strategy: there is nothing to measure on; give an eval_dataset")
        model, name, peft_config = student(model, model_init, args, peft_config)
        self._tokenizer = tokenizer_of(processing_class, name)
        if peft_config is not None:
            model = adapted(model, peft_config, args.seed)
        check_adapters(model)
        if train_dataset is not None:
            check_trainable(model)
        check_adapter_trains(model, base_model(model), args.device)
        self._new_adapter = peft_config is not None
        self._moved = {} if peft_config is None else moved_weights(model)
        self._builder = args.contexts.builder(self._tokenizer)
        self.dropped: dict[str, int] = {}
        self.mechanisms = Mechanisms(args)  # its own: mechanisms in use hold weights
        rows = self._prepare_training(train_dataset, args, model, later) if train_dataset is not None else None
        evaluated = self._prepare_held_out(eval_dataset, args, model) if eval_dataset is not None else None
        # Before the model is wrapped: a teacher that starts as the student, and a clean view of both.
        self.mechanisms.start(model, graded=grader is not None)
        self.teacher = self.mechanisms.teacher(model) if args.has_teacher else None
        if args.rollout.source == "own":  # who writes, before and after training
            kept = self.teacher is not None and self.teacher.kind == "initial"
            self.initial = self.teacher if kept else InitialTeacher(model)
        check_optimizer(optimizers[0], model)
        self.completions_log = CompletionsLog(Path(args.output_dir), args.rollout.log_completions_steps)
        self._follow = _Follow(self.mechanisms, self.completions_log)
        super().__init__(
            model=model,
            args=args,
            data_collator=list,
            train_dataset=rows,
            eval_dataset=evaluated,
            processing_class=self._tokenizer if isinstance(processing_class, str | None) else processing_class,
            callbacks=[self._follow, *(callbacks or [])],
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self._calm(args)
        name_runs(self.callback_handler.callbacks)
        self._prepare_steps(args, sampler, grader)

    def _prepare_steps(self, args: UniSDConfig, sampler: Sampler | None, grader: Grader | None) -> None:
        """Make what plans, learns and describes a step."""
        check_reader(args, grader)
        self.ranks = Ranks(self.accelerator)
        self.stopping = Stopping(self.ranks)
        self.add_callback(self.stopping)
        check_start(self.model, self.teacher if isinstance(self.teacher, LiveTeacher) else None)
        self._watch = GradientWatch(self.ranks.sum)
        self._prepare_guards()
        self.sampler = sampler or make_sampler(self.model, self._tokenizer, args.rollout.batch_size)
        if not getattr(self.sampler, "end_tokens", True):
            warn("no token ends a completion, so each is written to its full length; set tokenizer.eos_token")
        self.planner = Planner(args, self.mechanisms, self.model, self.teacher, self.sampler, self.ranks, grader)
        accelerator = self.accelerator
        self.learner = Learner(args, self.mechanisms, self.ranks, accelerator.backward, accelerator.no_sync)
        self.metrics_log = MetricsLog(Path(args.output_dir) / METRICS_FILE)
        self._step_metrics: dict[str, float] = {}
        self._written_step = -1
        self._said_empty = False
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

    def _prepare(
        self, dataset: Any, args: UniSDConfig, model: nn.Module, waiting: Sequence[str] = (), check: bool = True
    ) -> list[PreparedRow]:
        """Return rows as token ids, without the slots that are filled later; what is left out is said."""
        bad: Bad | None = [] if args.contexts.on_error == "drop" else None
        rows, report = prepare_rows(
            dataset,
            self._builder,
            max_prompt_length=args.contexts.max_prompt_length,
            max_completion_length=args.rollout.max_completion_length,
            max_positions=max_positions(model),
            needs=[need for need in self.mechanisms.needs() if need.slot not in waiting],
            completion_required=args.rollout.source in ("gold", "mix"),
            bad=bad,
        )
        if bad:
            tell_bad(bad, report.rows, "rows of the data set")
        prompts = (ids for row in rows for part in row.contexts.values() for ids in part)
        own = (ids for row in rows for ids in (row.student_ids, row.completion_ids or []))
        check_ids(model, self._tokenizer, chain(own, prompts))
        self.dropped = dict(report.dropped + report.absent)
        if self.dropped:
            warn("; ".join(report.lines()))
        if check:
            self._check_slots(rows, waiting)
        return rows

    # -- training: sample, score, weigh ----------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """Train; ``resume_from_checkpoint=True`` goes on from the last whole checkpoint and gives the same bits.

        Raises:
            UsageError: another process writes into the folder; or no checkpoint is whole, or it is of another run.
            UniSDError: nothing was trained, or a step went wrong.
        """
        self.train_dataset = self._rows_to_train()
        self.make_ahead()
        with self._writing(resume_from_checkpoint) as checkpoint:
            return self._train(checkpoint, **kwargs)

    def _train(self, checkpoint: str | None, **kwargs: Any) -> Any:
        steps = self.args.max_steps if self.args.max_steps > 0 else None
        for message in [*unread(self.args), *self.mechanisms.inert(steps)]:
            warn(message)
        if self.is_world_process_zero() and not self.args.disable_tqdm:
            print(in_words(self.model, self._new_adapter), file=sys.stderr, flush=True)
        fit_rows(self, resume=checkpoint is not None)
        if self.planner.writer.once:
            self._draw_once(resuming=checkpoint is not None)
        self._watch.begin(self.model)
        result = super().train(resume_from_checkpoint=checkpoint, **kwargs)
        if self.stopping.reason:
            return result
        if checkpoint is None:  # else earlier steps may have learned
            self._watch.finish(self.model)
        if self.is_world_process_zero():
            for acting in self.acting():
                if not acting.acts:
                    warn(f"{acting.mechanism} did nothing in this run ({acting.evidence}); {acting.remedy}")
        return result

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Return the order of rows: each step's rows several times, where several steps use what one wrote."""
        if self.mechanisms.uses == 1:
            return super()._get_train_sampler(train_dataset)
        args = self.args
        return RepeatedWindows(
            len(self.train_dataset),
            window=self._train_batch_size * args.gradient_accumulation_steps * args.world_size,
            uses=self.mechanisms.uses,
            seed=None if args.train_sampling_strategy == "sequential" else (args.data_seed or args.seed),
            epoch=lambda: int(self.state.epoch or 0),
            drop_last=args.dataloader_drop_last,
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], None]:
        """Plan the whole accumulation window; its last micro-batch carries the plan, the others are empty."""
        if self.state.global_step >= self.state.max_steps:  # resumed at its end, where transformers would go beyond it
            self.control.should_training_stop = True
            return [], None
        self._step_started = time.perf_counter()
        batches = []
        for _ in range(num_batches):
            batch = next(epoch_iterator, None)
            if batch is None:
                break
            batches.append(batch)
        if not batches:
            return [], None
        lower = "lower rollout.batch_size, training.tokens_per_row"
        with self._memory_named("wrote or scored", lower):
            plan = self.planner.plan([row for batch in batches for row in batch], self.state.global_step)
        return [None] * (len(batches) - 1) + [plan], None

    def training_step(self, model: nn.Module, inputs: Plan | None, num_items_in_batch: Any = None) -> Tensor:
        """Learn the window's plan, rows cut by the token budget, however many micro-batches it was gathered from."""
        model.train()
        if inputs is None:
            return torch.zeros((), device=self.args.device)
        return_free_memory()
        lower = "lower training.tokens_per_row, or set training.gradient_checkpointing=true"
        with inputs.timing("learn"), self._memory_named("learned", lower):
            loss = self.learner.learn(model, inputs)
        return_free_memory()
        taken = self._takes(model, loss, inputs)
        if inputs.counted and taken:
            self._watch.look(self.model, self.learner.asks, self.state.global_step + 1)
        else:
            self._watch.pass_over()
        self._learned_at = time.perf_counter()
        self._step_metrics = {f"time/{phase}": seconds for phase, seconds in inputs.seconds.items()}
        if not taken:
            return torch.zeros((), device=self.args.device)
        self._step_metrics |= step_metrics(loss, inputs, self.mechanisms)
        self._step_work = inputs.work
        self._tell(inputs, self.state.global_step + 1)
        return loss * self.ranks.count

    def _tell(self, plan: Plan, step: int) -> None:
        """Keep what was written, where it is the step's turn; say once that a step had nothing to learn from."""
        if not plan.counted and not self._said_empty:
            self._said_empty = True
            warn(
                f"step {step} taught nothing (said once), as all completions were cut off (mask_truncated_completions) "
                "or no longer than divergence.skip_tokens; raise rollout.max_completion_length, or skip fewer tokens"
            )
        if self.completions_log.due(step):
            lines = [line for lines in self.ranks.objects(self._lines(plan, step)) for line in lines]
            if self.is_world_process_zero():
                self.completions_log.add(lines, step, self.callback_handler.callbacks)

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
        metrics |= {"skipped": 1.0} if self._left_out else {}
        metrics |= self._follow.metrics
        metrics["time/other"] = elapsed - phases
        metrics["time/step"] = elapsed
        written = int(metrics.get("completions/tokens", 0)) // self.ranks.count
        metrics |= self._work.measures(self._step_work, written, elapsed)
        metrics["memory/peak_bytes"] = float(peak_memory_bytes())
        self._step_metrics = metrics
        if self.is_world_process_zero():
            self.metrics_log.append({"step": self.state.global_step, "epoch": self.state.epoch} | metrics)
        self._guard(metrics)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Send the last step's metrics to the trackers, too."""
        if "loss" in logs:
            logs = self._step_metrics | logs
        super().log(logs, start_time)

    def acting(self) -> list[Acting]:
        """Return, for each mechanism that is on, whether it acted, from the run's ``metrics.jsonl``."""
        return acting(self.mechanisms, self.metrics_log.path)

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def save_weights(self, folder: str | Path) -> None:
        """Save what was trained (adapter or whole model) with the tokenizer, loadable by PEFT or transformers.

        Raises:
            UniSDError: what lies on the disk is not what was trained.
        """
        first, folder = self.is_world_process_zero(), Path(folder)
        with replacing_folder(folder, owner=first) as temporary:
            with silent_bars():
                self.save_model(str(temporary))
            if first:
                if has_adapter(self.model):
                    finish_adapter(self.model, temporary, self._moved)
                check_saved(self.model, temporary, moved=bool(self._moved))
                write_json(temporary / NOTE_FILE, {"unisd": __version__, "steps": self.state.global_step})
                without_places(temporary, keep=not (folder.parent / "config.yaml").is_file())

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


_ARGUMENTS = inspect.signature(UniSDTrainer.__init__).parameters


class _Follow(TrainerCallback):
    """Step 5: after the optimizer, the mechanisms follow, and at the start the log is opened."""

    def __init__(self, mechanisms: Mechanisms, completions_log: CompletionsLog) -> None:
        self.mechanisms = mechanisms
        self.completions_log = completions_log
        self.metrics: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            MetricsLog(Path(args.output_dir) / METRICS_FILE).start(state.global_step)
            self.completions_log.start(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.metrics = self.mechanisms.follow(state.global_step)

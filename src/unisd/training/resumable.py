"""The part of the trainer that keeps a run: its checkpoints, how it goes on from them, and how it is stopped."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from unisd.errors import UniSDError, UsageError, warn
from unisd.files import content_hash, named_write_errors, remove_partial
from unisd.models.default import silent_bars
from unisd.training.ahead import Ahead
from unisd.training.checkpoints import (
    MARK,
    checkpoint_folder,
    found_checkpoints,
    mark_complete,
    read_mark,
    retire,
    rotate,
    to_resume,
)
from unisd.training.identity import check_same, identity
from unisd.training.lock import at_rest, run_lock
from unisd.training.ranks import Ranks
from unisd.training.signals import STOP
from unisd.training.telemetry import METRICS_FILE, MetricsLog
from unisd.training.window import Window


class Resumable(Ahead):
    """Saves checkpoints that are whole and never lost, and goes on from those of the same run alone."""

    _identity: dict[str, Any] | None = None
    _saved: Path | None = None
    """The checkpoint that holds the run as it is: the last one that was written, or gone on from."""

    @contextlib.contextmanager
    def _writing(self, checkpoint: str | bool | None) -> Iterator[str | None]:
        """Be the only one that writes into the run's folder; yield the checkpoint to go on from.

        Raises:
            UsageError: another process writes there, no checkpoint verifies, or it is of another run.
        """
        folder = Path(self.args.output_dir)
        with contextlib.ExitStack() as held:

            def begin() -> Path | None:
                if not self._is_done(checkpoint):
                    held.enter_context(run_lock(folder))
                    remove_partial(folder)
                return self._to_resume(checkpoint)

            found = self.ranks.first(begin)
            if self.args.should_save:
                self._note_identity()
            self._saved = found
            yield None if found is None else str(found)

    def _is_done(self, given: str | bool | None) -> bool:
        """Return whether this run has taken all of its steps, and nothing is left to be written; and say so."""
        folder = Path(self.args.output_dir)
        marked = [path for _, path in found_checkpoints(checkpoint_folder(folder)) if (path / MARK).is_file()]
        if not given or not marked or not at_rest(folder):
            return False
        step = read_mark(marked[-1]).get("step")
        if (given is not True and Path(given) not in (marked[-1], folder)) or step != self.planned_steps():
            return False
        warn(f"{marked[-1]} is this run's last step ({step}): nothing is trained or written; for more, raise "
             "training.max_steps (or num_train_epochs)")  # fmt: skip
        return True

    def _note_identity(self) -> dict[str, Any]:
        """Return what the run is, taken once: before anything has moved."""
        if self._identity is None:
            optimizer: Any = self.optimizer_cls_and_kwargs or (self.optimizer and (type(self.optimizer), {}))
            named = f"{optimizer[0].__name__} {optimizer[1]}" if optimizer else ""
            waits = self._later.slots if self._later is not None else ()
            self._identity = identity(self.args, self.model, self._tokenizer, self.train_dataset, named, waits)
        return self._identity

    def _to_resume(self, given: str | bool | None) -> Path | None:
        found = to_resume(given, self.args.output_dir)
        if found is None:
            return None
        mark = read_mark(found)
        check_same(mark["identity"], self._note_identity() | self._identity_drawn(mark["step"]), found)
        if 0 < self.args.max_steps < mark["step"]:
            raise UsageError(
                f"training.max_steps is {self.args.max_steps}, and {found} is at step {mark['step']} already; raise it"
            )
        self._check_beside(mark)
        return found

    def _check_beside(self, mark: dict[str, Any]) -> None:
        """Compare files of the run that lie beside its checkpoints: what was drawn once, and what was measured."""
        for name, before in mark["beside"].items():
            path = Path(self.args.output_dir) / name
            if name == METRICS_FILE:
                log, step = MetricsLog(path), mark["step"]
                if path.parent == Path(self.args.output_dir) and log.hash(step) != before:
                    lost = log.missing(step)
                    what = f"the lines of steps {ranges(lost)} are lost" if lost else "lines have changed"
                    warn(f"{path}: {what}; the run goes on, and what is told of it at its end leaves them out")
            elif path.is_file() and content_hash(path) != before:
                warn(f"{path} is not what the run wrote; it is made again")
                path.unlink()

    # -- saving ------------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoint_folder(super()._get_output_dir(trial)))

    @contextlib.contextmanager
    def _without_rotation(self) -> Iterator[None]:
        """Keep transformers from removing checkpoints: it does so before a new one is complete, and by dates."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            yield
        finally:
            self.args.save_total_limit = limit

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        if folder == self._saved:
            return
        try:
            with named_write_errors(folder):
                if self.args.should_save:
                    retire(folder)  # of a course that was given up, or torn
                self.ranks.wait()
                with self._without_rotation(), silent_bars():
                    super()._save_checkpoint(model, trial)
                if self.planner.window is not None and self.state.global_step % self.mechanisms.uses:
                    self.planner.window.save(folder, self.ranks, self.args.should_save)
                self.ranks.wait()  # for the random states of all
                if self.args.should_save:
                    self._complete(folder)
        except UniSDError:
            if not (folder / MARK).is_file():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._saved = folder

    def _complete(self, folder: Path) -> None:
        for mechanism in self.mechanisms:
            mechanism.save(folder)
        self.planner.writer.mix.save(folder)
        if (arguments := folder / "training_args.bin").is_file():
            torch.save(self.args, arguments)  # with the limit that was set aside
        drawn = Path(self.args.output_dir) / f"{self.args.rollout.source}_samples.jsonl"
        beside = {drawn.name: content_hash(drawn)} if self.planner.writer.once and drawn.is_file() else {}
        if self.is_world_process_zero():
            beside[METRICS_FILE] = MetricsLog(Path(self.args.output_dir) / METRICS_FILE).hash(self.state.global_step)
        resumable = not self.args.save_only_model
        is_now = self._note_identity() | self._identity_drawn(self.state.global_step)
        mark_complete(folder, self.state.global_step, is_now, resumable, beside)
        self._rotate(folder)

    def _rotate(self, newest: Path) -> None:
        best = [Path(self.state.best_model_checkpoint)] if self.state.best_model_checkpoint else []
        rotate(newest.parent, newest, self.args.save_total_limit, best)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        with self._without_rotation():
            result = super()._finalize_training(*args, **kwargs)
        best = self.state.best_model_checkpoint
        if self.args.should_save and best is not None and self.args.save_total_limit == 1:
            self._rotate(Path(best))  # as transformers does: of one, it is the best that stays
        elif self.args.should_save and self._saved is not None:
            self._rotate(self._saved)  # what a run that was killed meanwhile left undone
        return result

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        rank, device = self.args.process_index, self.args.device
        self.planner.window = Window.load(Path(resume_from_checkpoint), rank, self.ranks, device)
        for mechanism in self.mechanisms:
            mechanism.load(Path(resume_from_checkpoint))
        self.planner.writer.mix.load(Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule: Any = self.lr_scheduler
        before = read_mark(Path(checkpoint)).get("identity", {}).get("length") if checkpoint else None
        length = self._note_identity()["length"] if before else None
        if before == length or not isinstance(schedule, LambdaLR):
            return
        # The optimizer came with the next rate of the old length: where that ended, 0. It is the new schedule's now.
        rates = [base * rate(schedule.last_epoch) for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas,
                 strict=True)]  # fmt: skip
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers as text: ``1–3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)


class Stopping(TrainerCallback):
    """Ends training after a step, saved, when a signal came or the time is up: after the same step on all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.reason = ""
        self._began = time.monotonic()
        self._longest = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to measure."""
        self.reason, self._began, self._longest = "", time.monotonic(), 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look whether the run is to end here."""
        now = time.monotonic()
        self._began, self._longest = now, max(self._longest, now - self._began)
        reason = STOP.reason(self._longest)
        if self.ranks.count > 1:
            asked = self.ranks.sum(torch.tensor([float(bool(reason))], device=args.device))
            reason = reason or ("another rank" if float(asked) else "")
        if reason and state.global_step < state.max_steps:
            self.reason = reason
            control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Do nothing more where an epoch was broken off."""
        if self.reason:
            control.should_save = control.should_evaluate = False

"""What the trainer does with rows that it does not learn from; and fixed samples, which all rows may need."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import PredictionOutput, speed_metrics

from unisd.contexts import PreparedRow
from unisd.errors import UsageError, warn_once
from unisd.mechanisms import Mechanisms, TeacherWeights
from unisd.settings import unknown
from unisd.training.arguments import UniSDConfig
from unisd.training.data import evaluation_rows, training_rows
from unisd.training.interop import OneLineErrors, padded
from unisd.training.learn import Learner
from unisd.training.plan import Planner
from unisd.training.ranks import Ranks
from unisd.training.telemetry import MetricsLog, step_metrics


def prepared(rows: Any) -> bool:
    """Return whether rows are token ids already."""
    return isinstance(rows, list) and all(isinstance(row, PreparedRow) for row in rows)


class HeldOut(OneLineErrors):
    """The part of `UniSDTrainer` that measures the objective on other rows than those of training."""

    planner: Planner
    learner: Learner
    mechanisms: Mechanisms
    ranks: Ranks
    metrics_log: MetricsLog
    teacher: TeacherWeights | None
    dropped: dict[str, int]
    """What was left out of the training rows, by reason."""
    initial: TeacherWeights | None = None
    """The model before training, where it writes the completions (``rollout.source`` own)."""

    def _prepare(
        self, dataset: Any, args: UniSDConfig, model: nn.Module, waiting: Sequence[str] = (), check: bool = True
    ) -> list[PreparedRow]:
        raise NotImplementedError

    def _prepare_held_out(self, dataset: Any, args: UniSDConfig, model: nn.Module, where: str = "eval_dataset") -> Any:
        """Return the rows of an evaluation set, or of several by name; ``where`` is what messages call it."""
        found = evaluation_rows(dataset, where, args.contexts.on_error)
        sets = found if isinstance(found, dict) else {"": found}
        found_sets: dict[str, list[PreparedRow]] = {}
        of_training = self.dropped
        for name, rows in sets.items():
            try:
                found_sets[name] = self._prepare(rows, args, model)
            except UsageError as error:
                raise UsageError(f"{where}{f'[{name!r}]' if name else ''}: {error}") from error
        self.dropped = of_training
        return found_sets if isinstance(found, dict) else found_sets[""]

    def _rows_to_train(self) -> list[PreparedRow]:
        """Return the training rows; those that came after the trainer was made are prepared now."""
        if self.train_dataset is None:
            raise UsageError("train: no train_dataset was given")
        given, batch = self.train_dataset, self.args.train_batch_size * self.args.world_size
        read = given if prepared(given) else training_rows(given, self.args.contexts.on_error)
        rows = list(given) if read is given else self._prepare(read, self.args, self.model)
        if self.args.dataloader_drop_last and len(rows) < batch and self.mechanisms.uses == 1:
            raise UsageError(f"training.dataloader_drop_last: {len(rows)} rows are no batch of {batch}; leave it out")
        return rows

    def _rows_to_measure(self) -> Any:
        """Return the own held-out rows, prepared as those of training are; or None."""
        own = self.eval_dataset
        sets = own.values() if isinstance(own, dict) else [own]
        return own if own is None or all(map(prepared, sets)) else self._prepare_held_out(own, self.args, self.model)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the objective on held-out rows: fresh completions, the same loss, no gradient.

        Trackers get it, and during training ``metrics.jsonl``: a line a set, after that of the step.

        Args:
            eval_dataset: rows; several sets by name, whose metrics are called ``eval_<name>_…``; the name of one of
                the trainer's own sets; or None for all of its own.
            ignore_keys: no meaning here.
            metric_key_prefix: what the names of metrics start with.

        Raises:
            UsageError: there are no rows, or they are not as training rows must be.
        """
        own = self.eval_dataset = self._rows_to_measure()
        if isinstance(own, dict) and isinstance(eval_dataset, str) and eval_dataset in own:
            rows = own[eval_dataset]
        elif eval_dataset is None:
            rows = own
        else:
            rows = self._prepare_held_out(eval_dataset, self.args, self.model)
        if not rows:
            raise UsageError("evaluate: no eval_dataset was given")
        sets = rows if isinstance(rows, dict) else {"": rows}
        metrics: dict[str, float] = {}
        for name, part in sets.items():
            found = self._measured(part, f"{metric_key_prefix}_{name}" if name else metric_key_prefix)[0]
            self.log(found)
            if self.is_in_train and self.is_world_process_zero():
                self.metrics_log.append({"step": self.state.global_step, "epoch": self.state.epoch} | found)
            self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
            metrics |= found
        return metrics

    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Return what the student writes for rows of the training kind, and the objective on such rows.

        Args:
            test_dataset: rows as :meth:`evaluate` takes them; of a ``DatasetDict`` the split for tests.
            ignore_keys: no meaning here.
            metric_key_prefix: what the names of metrics start with.

        Returns:
            ``predictions``: token ids of the student's completions, whoever writes those that it learns from,
            ``[rows, longest]`` int64, filled up with -100, for ``processing_class.decode`` (rows times
            ``rollout.num_generations`` where it samples several to learn from); ``label_ids``: the gold completions,
            where ``args`` make use of them, else None; ``metrics`` as :meth:`evaluate` names them.

        Raises:
            UsageError: rows that are not as training rows must be, several sets, or several processes.
        """
        if self.ranks.count > 1:
            raise UsageError("predict: it runs in one process; start it without a launcher, or use evaluate")
        rows = self._prepare_held_out(test_dataset, self.args, self.model, "test_dataset")
        if isinstance(rows, dict):
            raise UsageError("predict: one data set at a time; choose one of them")
        metrics, written = self._measured(rows, metric_key_prefix)
        if self.args.rollout.source != "student":
            written = [list(completion.ids) for completion in self.planner.writer.by_student(rows, "eval")]
        gold = [row.completion_ids for row in rows if row.completion_ids is not None]
        return PredictionOutput(padded(written), padded(gold) if len(gold) == len(rows) else None, metrics)

    def _measured(self, rows: Sequence[PreparedRow], prefix: str) -> tuple[dict[str, float], list[list[int]]]:
        """Return the metrics of rows, and what was written for this rank's."""
        start = time.time()
        writer = self.planner.writer
        # Whoever writes must be as it was before training: the initial model always is.
        initial = self.args.rollout.source == "own" or (self.teacher is not None and self.teacher.kind == "initial")
        fixed = initial or self.state.global_step == 0
        if writer.once and fixed:
            writer.draw(rows, self.initial)
        size = self.args.per_device_eval_batch_size * self.ranks.count
        totals: dict[str, float] = {}
        counts = Counter[str]()
        written: list[list[int]] = []
        for first in range(0, len(rows), size):
            shared = rows[first : first + size]
            own = shared[self.args.process_index :: self.ranks.count] or shared[:1]
            plan = self.planner.plan(own, "eval")
            written += [list(sequence.completion_ids) for sequence in plan.sequences]
            with torch.no_grad():
                self.model.eval()
                loss = self.learner.learn(self.model, plan, with_gradient=False)
            for name, value in step_metrics(loss, plan, self.mechanisms).items():
                # Rows of which nothing counts have no loss.
                if plan.counted or name != "loss":
                    totals[name] = totals.get(name, 0.0) + value * len(shared)
                    counts[name] += len(shared)
        speed = speed_metrics(prefix, start, num_samples=len(rows), num_steps=-(-len(rows) // size))
        means = {f"{prefix}_{name}": total / counts[name] for name, total in totals.items()}
        if not counts["loss"]:
            warn_once(
                f"{prefix}_loss: nothing of these rows counts (all completions were cut off, or are no longer than "
                "divergence.skip_tokens), so there is no loss; raise rollout.max_completion_length"
            )
        # No number: 0 would be the best loss that there is.
        return {f"{prefix}_loss": math.nan} | means | speed, written

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        try:
            return bool(super()._determine_best_metric(metrics, trial))
        except KeyError as error:
            asked, there = self.args.metric_for_best_model, [name.removeprefix("eval_") for name in metrics]
            raise UsageError(
                f"training.metric_for_best_model: {asked!r} is not measured; {unknown(asked, there)}"
            ) from error

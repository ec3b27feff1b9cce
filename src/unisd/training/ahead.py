"""The part of the trainer that knows which rows its steps will draw, and makes for them alone what takes time."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from torch import nn

from unisd.contexts import Context, Item, Later, Need, PreparedRow, PromptBuilder
from unisd.errors import UsageError, warn
from unisd.models import max_positions
from unisd.training.arguments import UniSDConfig
from unisd.training.data import training_rows
from unisd.training.heldout import HeldOut, prepared
from unisd.training.identity import contexts_of


class Ahead(HeldOut):
    """Makes the contexts that wait (`Later`) for the rows that the planned steps draw, before the first of them.

    The order of the rows is what the sampler says; nothing of it depends on what is made here.
    """

    _builder: PromptBuilder
    _later: Later | None = None
    _drawn: list[list[int]] | None = None
    """The rows of each step, on all ranks, as far as rows are new in them; None before it is asked for."""

    def _prepare_training(self, dataset: Any, args: UniSDConfig, model: nn.Module, later: Later | None) -> Any:
        """Return the rows of training, without the contexts that wait; those that may decide which rows stay do not."""
        rows: Any = training_rows(dataset, args.contexts.on_error)
        self._later = later
        if later is None:
            return self._prepare(rows, args, model)
        found = self._prepare(rows, args, model, later.slots)
        required = [need for need in later.needs if need.required]
        if required and not self._surely_fit(found, required, args, model):
            rows = later.made([item.id for item in later.items], required)
            later.needs = [need for need in later.needs if not need.required]
            later.items = rows
            found = self._prepare(rows, args, model, later.slots)
        if not later.needs:
            self._later = None
        return found

    def _rows_to_train(self) -> list[PreparedRow]:
        if not prepared(self.train_dataset):  # other rows than those that the trainer was made with
            self._later = None
        return super()._rows_to_train()

    def _surely_fit(self, rows: Sequence[PreparedRow], needs: Sequence[Need], args: UniSDConfig, model: Any) -> bool:
        """Return whether no context that waits can be too long, so that no row will be dropped for it.

        A context about another item shows what that item's gold prompt does, and its words.
        """
        golds = [len(ids) for row in rows for ids in row.contexts.get("gold", ())]
        if self.dropped or not golds:
            return False
        words = max(len(self._builder.teacher_ids("?", Context(need.kind, "?", "?"))) for need in needs)
        longest = max(len(row.student_ids) for row in rows) + max(golds) + words
        most = max_positions(model)
        room = args.contexts.max_prompt_length if most is None else most - args.rollout.max_completion_length
        return longest <= min(room, args.contexts.max_prompt_length)

    def _check_slots(self, rows: Sequence[PreparedRow], waiting: Sequence[str] = ()) -> None:
        """Check that every context that a mechanism reads is there for some row.

        Raises:
            UsageError: a mechanism would have nothing to read.
        """
        for mechanism in self.mechanisms:
            for need in mechanism.needs():
                if need.slot not in waiting and not any(row.contexts.get(need.slot) for row in rows):
                    kept = " that could be kept (see the warning)" if self.dropped else ""
                    raise UsageError(
                        f"{mechanism.name}: no row has a {need.slot}_context{kept}; "
                        f"add the column or switch {mechanism.name} off"
                    )

    # -- which rows are drawn ----------------------------------------------------------------------------------------

    def _windows(self) -> Iterator[list[list[int]]]:
        """Yield, for each epoch, the rows that this rank draws at each step, in order; without end."""
        loader = self.get_train_dataloader()
        self.accelerator._dataloaders.remove(loader)  # it is asked for its order alone
        epoch_now = self.state.epoch
        for epoch in count():
            self.state.epoch = epoch  # type: ignore[assignment]
            loader.set_epoch(epoch)  # type: ignore[attr-defined]
            batches = iter(loader.batch_sampler)  # type: ignore[arg-type]
            steps = []
            while window := list(islice(batches, self.args.gradient_accumulation_steps)):
                steps.append([row for batch in window for row in batch])
            self.state.epoch = epoch_now
            yield steps

    def planned_steps(self) -> int:
        """Return how many optimizer steps the run has."""
        args: UniSDConfig = self.args
        if args.max_steps > 0:
            return int(args.max_steps)
        loader = self.get_train_dataloader()
        self.accelerator._dataloaders.remove(loader)
        of_epoch = -(-len(loader) // args.gradient_accumulation_steps)
        epochs: float = args.num_train_epochs
        steps: int = math.ceil(epochs * max(1, of_epoch))
        return steps

    def planned(self, steps: int | None = None) -> list[list[int]]:
        """Return which rows each planned step draws, on all ranks, until all have been drawn; every rank must call it.

        Args:
            steps: how many are planned; None: as many as the run has.
        """
        rows, found, seen = len(self.train_dataset), list[list[int]](), set[int]()
        steps = steps or self.planned_steps()
        for own in self._windows():
            everyone = self.ranks.objects(own)
            found += [list(chain(*parts)) for parts in zip(*everyone, strict=True)]
            seen.update(chain(*found[-len(own) :]))
            if len(found) >= steps or len(seen) == rows or not own:
                break
        return found[:steps]

    def drawn_rows(self) -> list[PreparedRow]:
        """Return the rows that the planned steps draw, in the order of the training set."""
        return [self.train_dataset[i] for i in sorted(set(chain(*self.planned())))]

    # -- what is made for them ---------------------------------------------------------------------------------------

    def make_ahead(
        self, steps: int | None = None, limit: int | None = None, say: Callable[[str], object] | None = None
    ) -> list[Item]:
        """Make the contexts that wait, for the rows that are drawn; every rank must call it. What is there stays.

        Args:
            steps: of the first so many steps; None: of all that are planned.
            limit: of the first so many rows at most, in the order in which they are drawn; None: of all.
            say: called with a line before a model writes; None: nothing is said.

        Returns:
            The items that were made now.

        Raises:
            UsageError: contexts cannot be made from these items, or all rows are drawn and none has one that a
                mechanism reads.
            UniSDError: what was written cannot be kept.
        """
        made: list[Item] = []
        while self._later is not None:
            self._drawn = self.planned(steps)
            order = list(dict.fromkeys(chain(*self._drawn)))[:limit]
            lacking = sorted(i for i in order if not self._is_whole(self.train_dataset[i]))
            if not lacking:
                break
            if say is not None and (line := self._told(len(lacking))):
                say(line)
            fresh, unfit = self._fill(lacking)
            made += fresh
            if unfit:  # which of the others stay is not known either, and the order depends on it
                others = [i for i, row in enumerate(self.train_dataset) if not self._is_whole(row)]
                unfit |= self._fill([i for i in others if i not in unfit])[1]
                self.train_dataset[:] = [row for i, row in enumerate(self.train_dataset) if i not in unfit]
        if self._later is not None and steps is limit is None and all(map(self._is_whole, self.train_dataset)):
            self._check_slots(self.train_dataset)
        return made

    def _identity_drawn(self, step: int) -> dict[str, Any]:
        """Return what checkpoints keep of the contexts that waited: hashes of those that a step has reached."""
        if self._later is None or self._drawn is None:
            return {}
        reached = sorted(set(chain(*self._drawn[:step])))
        return {"drawn": contexts_of([self.train_dataset[i] for i in reached], self._later.slots)}

    def _draw_once(self, resuming: bool) -> None:
        """Draw the completions that are written once for the whole run, or read those of the run that is resumed."""
        path, writer = Path(self.args.output_dir) / f"{self.args.rollout.source}_samples.jsonl", self.planner.writer
        if resuming and path.is_file():
            writer.load(path)
        shown = None if self.args.disable_tqdm else f"{self.args.rollout.source} samples"
        held_out = self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset or []]
        rows = list(chain(self.drawn_rows(), *held_out))
        if writer.draw(rows, self.initial, shown, self.ranks.shared) and self.is_world_process_zero():
            writer.save(path)

    def _is_whole(self, row: PreparedRow) -> bool:
        return self._later is None or all(slot in row.contexts for slot in self._later.slots)

    def _told(self, items: int) -> str:
        assert self._later is not None
        texts = ", ".join(f"{name}: {most:,} texts at most" for name, most in self._later.writes(items).items())
        if not texts:
            return ""
        return (
            f"writing contexts for the {items:,} of {len(self.train_dataset):,} items that are drawn ({texts}; what is "
            "kept already is not written again); Ctrl-C stops, and keeps what was written"
        )

    def _fill(self, rows: Sequence[int]) -> tuple[list[Item], set[int]]:
        """Make the contexts of rows, in place; return the items, and which rows cannot stay."""
        assert self._later is not None
        place = {self.train_dataset[i].id: i for i in rows}
        self._later.making.sampler = self.sampler
        items = self._later.made(place)
        for note in self._later.notes:
            warn(note)
        dropped = self.dropped
        found = {row.id: row for row in self._prepare(items, self.args, self.model, check=False)}
        self.dropped = {name: dropped.get(name, 0) + self.dropped.get(name, 0) for name in {**dropped, **self.dropped}}
        for name, row in found.items():
            self.train_dataset[place[name]] = row
        return items, {i for name, i in place.items() if name not in found}

"""A resumable cache of what a model writes: nothing is lost in a kill, nothing is written twice."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as progress_bars

from unisd import fast
from unisd.errors import UniSDError
from unisd.files import cache_folder, fingerprint
from unisd.rollout.base import Completion, Request, Sampler, SamplingParams


@dataclass(frozen=True)
class CompletionStore:
    """An append-only JSONL file of completions, each under a hash of everything that it depends on.

    A kill may tear the last line: it is skipped when read, and its completion is written again. Several processes may
    append to the same file; what they write for the same key is equal, and the first entry counts.
    """

    path: Path
    """The JSONL file; it and its folder are made when something is first stored."""
    model: str
    """Fingerprint of the weights that write; part of every key, so that a checkpoint has its own completions."""
    batch_size: int = 32
    """Completions written between two saves: what a kill costs at most."""

    @classmethod
    def in_cache(cls, folder: str, name: str, model: str, batch_size: int = 32) -> "CompletionStore":
        """Return the store ``name`` (say, the task's) in ``folder`` of the user's cache.

        Fast paths may round otherwise than plain ones, and a token may fall otherwise: neither answers for the other.
        """
        model = model if fast.enabled() else f"{model}, plain"
        return cls(cache_folder() / folder / f"{name}.jsonl", model, batch_size)

    def key(self, request: Request, params: SamplingParams) -> str:
        """Return the key of a completion: a hash of model, prompt ids, random stream and sampling parameters."""
        return fingerprint(self.model, [int(token) for token in request.prompt_ids], list(request.key), params.plain())

    def completions(
        self, sampler: Sampler, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[Completion]:
        """Return one completion per request, in their order; only what the store lacks is written, batch by batch.

        Args:
            sampler: who writes; not called if nothing is missing.
            requests: prompt ids and the key of each random stream; equal ones are written once.
            params: how to decode.
            progress: label of a progress bar over what is missing; None shows none.

        Raises:
            UniSDError: the file cannot be read or written, or the sampler returns a wrong number of completions.
        """
        keys = [self.key(request, params) for request in requests]
        known = self._read(getattr(sampler, "vocabulary", None))
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        # Prompts of like length together: the sampler pads to the longest of a batch.
        todo = sorted(missing.items(), key=lambda item: len(item[1].prompt_ids))
        with _bar(len(todo), progress) as advance:
            for start in range(0, len(todo), self.batch_size):
                batch = todo[start : start + self.batch_size]
                written = sampler.sample([request for _, request in batch], params)
                if len(written) != len(batch):
                    raise UniSDError(f"the sampler wrote {len(written)} completions for {len(batch)} requests")
                fresh = {key: done for (key, _), done in zip(batch, written, strict=True)}
                self._append(fresh)
                known.update(fresh)
                advance(len(batch))
        return [known[key] for key in keys]

    def texts(
        self, sampler: Sampler, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[str]:
        """Return the text of each completion (see :meth:`completions`)."""
        return [sampler.decode(done) for done in self.completions(sampler, requests, params, progress)]

    def _read(self, vocabulary: int | None) -> dict[str, Completion]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UniSDError(f"cannot read {self.path}: {error.strerror}; check its permissions") from error
        known: dict[str, Completion] = {}
        for line in lines:
            try:
                entry = json.loads(line)
                done = Completion([int(i) for i in entry["ids"]], entry["finished"] is True)
            except (ValueError, TypeError, KeyError, OverflowError):  # torn by a kill, or not ours
                continue
            if all(0 <= i < (vocabulary or i + 1) for i in done.ids):  # else no model wrote it
                known.setdefault(str(entry["key"]), done)
        return known

    def _append(self, fresh: dict[str, Completion]) -> None:
        entries = ({"key": key, "ids": done.ids, "finished": done.finished} for key, done in fresh.items())
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell() > 0:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # keep a torn line apart from what follows
                        lines = "\n" + lines
                file.write(lines.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UniSDError(
                f"cannot write {self.path}: {error.strerror or error}; free space or choose another folder"
            ) from error


@contextlib.contextmanager
def _bar(total: int, label: str | None) -> Iterator[Callable[[int], object]]:
    """Yield what advances a progress bar: a silent one without a label, or where transformers' bars are off."""
    bar = progress_bars.tqdm(total=total, desc=label, disable=label is None or total == 0, unit="answer", leave=False)
    try:
        yield bar.update
    finally:
        bar.close()

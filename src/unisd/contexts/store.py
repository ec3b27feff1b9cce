"""A resumable cache of text that a model writes: nothing is lost in a kill, nothing is written twice."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as progress_bars

from unisd.errors import UniSDError
from unisd.files import cache_folder, fingerprint
from unisd.rollout.base import Request, Sampler, SamplingParams


@dataclass(frozen=True)
class TextStore:
    """An append-only JSONL file of model-written texts, each under a hash of everything that it depends on.

    A kill may tear the last line: it is skipped when read, and its text is written again. Several processes may append
    to the same file; what they write for the same key is equal, and the first entry counts.
    """

    path: Path
    """The JSONL file; it and its folder are made when the first text is stored."""
    model: str
    """Fingerprint of the weights and tokenizer that write; part of every key, so a checkpoint has its own texts."""
    batch_size: int = 32
    """Texts written between two saves: what a kill costs at most."""

    @classmethod
    def in_cache(cls, name: str, model: str) -> "TextStore":
        """Return the store ``name`` (say, the task's) in the user's cache folder."""
        return cls(cache_folder() / "contexts" / f"{name}.jsonl", model)

    def key(self, request: Request, params: SamplingParams) -> str:
        """Return the key of a text: a hash of model, prompt ids, random stream and sampling parameters."""
        return fingerprint(self.model, [int(token) for token in request.prompt_ids], list(request.key), params)

    def written(
        self, sampler: Sampler, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[str]:
        """Return one text per request, in their order; only what the store does not hold is written, batch by batch.

        Args:
            sampler: who writes; not called if nothing is missing.
            requests: prompt ids and the key of each random stream; equal ones are written once.
            params: how to decode.
            progress: label of a progress bar over the missing texts; None shows none.

        Raises:
            UniSDError: the file cannot be read or written, or the sampler returns a wrong number of completions.
        """
        keys = [self.key(request, params) for request in requests]
        texts = self._read()
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in texts}
        todo = list(missing.items())
        with _bar(len(todo), progress) as advance:
            for start in range(0, len(todo), self.batch_size):
                batch = todo[start : start + self.batch_size]
                completions = sampler.sample([request for _, request in batch], params)
                if len(completions) != len(batch):
                    raise UniSDError(f"the sampler wrote {len(completions)} completions for {len(batch)} requests")
                fresh = {key: sampler.decode(done) for (key, _), done in zip(batch, completions, strict=True)}
                self._append(fresh)
                texts.update(fresh)
                advance(len(batch))
        return [texts[key] for key in keys]

    def _read(self) -> dict[str, str]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UniSDError(f"cannot read {self.path}: {error.strerror}; check its permissions") from error
        texts: dict[str, str] = {}
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # torn by a kill
                continue
            if isinstance(entry, dict) and isinstance(entry.get("key"), str) and isinstance(entry.get("text"), str):
                texts.setdefault(entry["key"], entry["text"])
        return texts

    def _append(self, texts: dict[str, str]) -> None:
        lines = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items())
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
    bar = progress_bars.tqdm(total=total, desc=label, disable=label is None or total == 0, unit="text")
    try:
        yield bar.update
    finally:
        bar.close()

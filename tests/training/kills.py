"""Kills, at random instants and at file events, and damaged bytes: a run must end as if nothing had been.

``make test-kill`` runs all of it; ``test_kills.py`` a sample. Every run is forked from a process that has imported
everything, and is the command line's own: ``unisd train``, with ``--resume`` after a kill.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
sys.path.insert(0, str(Path(__file__).parent.parent))
import torch

import tiny
import unisd.evaluation
import unisd.training.run  # noqa: F401
from unisd.cli.main import main
from unisd.files import content_hash

torch.set_num_threads(1)
STEPS = 3
TIMEOUT = 120.0


@dataclass(frozen=True)
class Case:
    """A run that is tried."""

    adapter: bool
    limit: int
    ranks: int = 1

    def words(self, model: Path, output: Path) -> list[str]:
        """What is typed to start it."""
        recipe = "ema" if self.adapter else "core"
        values = {
            "training.max_steps": STEPS, "training.per_device_train_batch_size": 2 // self.ranks, "task.limit": 6,
            "rollout.max_completion_length": 4, "training.use_cpu": "true", "training.save_strategy": "steps",
            "training.save_steps": 1, "training.save_total_limit": self.limit,
            "lora.enabled": str(self.adapter).lower(),
            "contexts.max_prompt_length": 1500, "training.learning_rate": 0.01, "training.warmup_steps": 0,
        }  # fmt: skip
        if self.adapter:
            values |= {"lora.r": 2, "lora.dropout": 0.1}
        sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
        start = ["train", "--recipe", recipe, "--task", "cos_e", "--source", "sample", "--model", str(model)]
        return [*start, "--output", str(output), "--quiet", *sets]


CASES = [Case(adapter, limit) for adapter in (True, False) for limit in (2, 1)]
TWO_RANKS = [Case(adapter, limit, 2) for adapter in (True, False) for limit in (1, 2)]


class Events:
    """Counts what a process does to files in a folder, and lets it kill itself at one of them."""

    SEEN = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree")

    def __init__(self, folder: Path, die_at: int | None) -> None:
        self.folder, self.die_at, self.count = str(folder), die_at, 0
        self.names: list[str] = []
        self.synced: set[tuple[int, int]] = set()
        self.at_mark: list[str] = []
        fsync = os.fsync

        def watched(handle: int) -> None:
            fsync(handle)
            where = os.fstat(handle)
            self.synced.add((where.st_ino, where.st_mtime_ns))
            self._happened("fsync", os.readlink(f"/proc/self/fd/{handle}"))

        os.fsync = watched
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and (flags or 0) & (os.O_WRONLY | os.O_RDWR):
                self._happened("open", os.fsdecode(path))
        elif event in self.SEEN:
            if event == "os.rename" and str(args[1]).endswith("unisd_complete.json"):
                self._look(Path(args[1]).parent, str(args[0]))
            self._happened(event, os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else "")

    def _happened(self, event: str, path: str) -> None:
        if not os.path.abspath(path).startswith(self.folder):
            return
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
        self.names.append(f"{event} {os.path.relpath(path, self.folder)}")

    def _look(self, checkpoint: Path, mark: str) -> None:
        """A power cut now, or later, must find what the mark will speak of: note what is not on the disk."""
        self.at_mark.append(checkpoint.name)
        for path in (*checkpoint.rglob("*"), checkpoint, checkpoint.parent):
            now = path.stat()
            folder = path.is_dir()
            # The folder of the mark changed once more when the half-written mark was made; its names are older.
            synced = any(i == now.st_ino and (folder or m == now.st_mtime_ns) for i, m in self.synced)
            if not synced:
                self.at_mark.append(f"{checkpoint.name}: {path.name} is not on the disk")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(words: list[str], folder: Path, log: Path, rank: int = 0, ranks: int = 1, port: int = 0,
          die_at: int | None = None) -> int:  # fmt: skip
    """Fork a process that runs a command of ``unisd``; return its number."""
    gc.freeze()  # no child searches, again and again, what was imported once
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if ranks > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks),
                           "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
        events = Events(folder, die_at)
        code = main(words)
        if rank == 0:
            said = {"count": events.count, "names": events.names, "at_mark": events.at_mark}
            log.with_suffix(".events").write_text(json.dumps(said))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def run(words: list[str], folder: Path, log: Path, ranks: int = 1, die_at: int | None = None, victim: int = 0,
        after: float | None = None) -> int | None:  # fmt: skip
    """Run a command to its end or its death, as a launcher does with ranks; return its exit code, or None: stuck."""
    port = free_port() if ranks > 1 else 0
    living = {start(words, folder, log, rank, ranks, port, die_at if rank == victim else None): rank
              for rank in range(ranks)}  # fmt: skip
    began, codes, told = time.monotonic(), {}, None
    while living:
        number, status = os.waitpid(-1, os.WNOHANG)
        now = time.monotonic()
        if number in living:
            codes[living.pop(number)] = os.waitstatus_to_exitcode(status)
        elif after is not None and now - began > after:
            for pid, rank in living.items():
                if rank == victim:
                    os.kill(pid, signal.SIGKILL)
            after = None
        elif codes and any(codes.values()) and told is None:
            told = now
            for pid in living:  # a launcher ends the others
                os.kill(pid, signal.SIGTERM)
        elif told is not None and now - told > 3:
            for pid in living:
                os.kill(pid, signal.SIGKILL)
            told = now
        elif now - began > TIMEOUT:
            for pid in living:
                os.kill(pid, signal.SIGKILL)
            for pid in living:
                os.waitpid(pid, 0)
            return None
        else:
            time.sleep(0.005)
    return min(codes.values()) if min(codes.values()) < 0 else max(codes.values())


def ending(folder: Path) -> dict:
    """What a finished run leaves that an undisturbed one leaves, too."""
    weights = next(path for name in ("adapter", "model") if (path := folder / name).is_dir())
    timed = ("time/", "memory/", "speed/")
    try:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        lines = []
    return {
        "weights": {path.name: content_hash(path) for path in weights.glob("*.safetensors")},
        "metrics": [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines],
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
        "steps": len(lines),
        "left": sorted(str(p.relative_to(folder)) for p in folder.rglob("*")
                       if p.name.endswith(".partial") or p.name == "run.lock"),
    }  # fmt: skip


class Told(list):
    """Failures, each printed when it is found: a long series may be broken off."""

    def append(self, failure: str) -> None:
        print(failure, flush=True)
        super().append(failure)


class Trials:
    """A series of runs that are killed and resumed, beside one of each kind that is not."""

    def __init__(self, place: Path, seed: int = 0) -> None:
        self.place, self.random = place, random.Random(seed)
        self.model = place / "model"
        self.failures: list[str] = Told()
        self.kills: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.whole: dict[Case, tuple[dict, int, float]] = {}
        pid = os.fork()
        if not pid:  # in a child: threads that a model starts do not survive the next fork
            tiny.model().save_pretrained(self.model)
            tiny.tokenizer().save_pretrained(self.model)
            os._exit(0)
        os.waitpid(pid, 0)

    def undisturbed(self, case: Case) -> tuple[dict, int, float]:
        """What a case gives when nothing happens, how many file events it has, and its seconds."""
        if case not in self.whole:
            folder, log = self.place / "whole" / f"{case}", self.place / f"whole-{len(self.whole)}.log"
            began = time.monotonic()
            code = run(case.words(self.model, folder), folder, log, case.ranks)
            assert code == 0, log.read_text()[-3000:]
            events = json.loads(log.with_suffix(".events").read_text())
            assert [name for name in events["at_mark"] if name.startswith("checkpoint")] == [
                f"checkpoint-{step}" for step in range(1, STEPS + 1)
            ], events["at_mark"]  # the power cut: nothing was missing on the disk at any mark
            self.whole[case] = ending(folder), events["count"], time.monotonic() - began
        return self.whole[case]

    def kill(self, case: Case, at: int | float, number: int, again: bool = False) -> None:
        """Kill a run at a file event (a whole number) or after some seconds, resume it, and compare its end."""
        expected, _, _ = self.undisturbed(case)
        folder, log = self.place / f"run-{number}", self.place / f"run-{number}.log"
        words = case.words(self.model, folder)
        victim = number % case.ranks
        how = {"die_at": at} if isinstance(at, int) else {"after": at}
        code = run(words, folder, log, case.ranks, victim=victim if isinstance(at, float) else 0, **how)
        resumed = 0
        while code != 0 and resumed < 3:
            if code is None or code > 0:
                self.failures.append(f"{case} at {at}: exit code {code}: {log.read_text()[-1500:]}")
                return
            self.kills[f"{case}"] += 1
            resumed += 1
            there = folder.is_dir() and any(folder.iterdir())
            fresh = not (folder / "config.yaml").is_file() and (not there or self.random.random() < 0.5)
            more = [] if fresh else ["--resume"]
            once_more = {"die_at": self.random.randrange(60)} if again and resumed == 1 else {}
            code = run([*words, *more], folder, log, case.ranks, **once_more)
        if code != 0:
            self.failures.append(f"{case} at {at}: {code}: {log.read_text()[-1500:]}")
        elif (found := ending(folder)) != expected:
            parts = [name for name in expected if found[name] != expected[name]]
            self.failures.append(f"{case} at {at}: {', '.join(parts)} differ: {found} {log.read_text()[-1500:]}")
        shutil.rmtree(folder, ignore_errors=True)

    def kill_many(self, events: int, instants: int, cases: list[Case]) -> None:
        """Kill at file events spread over a whole run, and at random instants of it."""
        for number in range(events + instants):
            case = cases[number % len(cases)]
            _, count, seconds = self.undisturbed(case)
            if number < events:  # every one is met where there are enough kills
                share = (number // len(cases) + self.random.random()) / max(events / len(cases), 1)
                self.kill(case, int(share * count), number, again=number % 5 == 0)
            else:
                self.kill(case, self.random.uniform(0.1, seconds), number)

    def fuzz(self, tries: int) -> None:
        """Damage random bytes of a random file of a run's folder: it ends as it would have, or says one line."""
        case = Case(True, 2)
        expected, _, _ = self.undisturbed(case)
        source = self.place / "whole" / f"{case}"
        for number in range(tries):
            folder, log = self.place / "fuzzed" / str(number), self.place / f"fuzz-{number}.log"
            shutil.copytree(source, folder)
            unfinished = number % 3 > 0
            if unfinished:  # the last step and the end are still to come
                shutil.rmtree(folder / f"checkpoints/checkpoint-{STEPS}")
                shutil.rmtree(folder / "adapter")
                (folder / "finished.json").unlink()
            what = self.damage(folder)
            code = run(["train", "--output", str(folder), "--resume", "--quiet"], folder, log)
            lines = [line for line in log.read_text().splitlines() if line]
            errors = [line for line in lines if not line.startswith("warning: ")]
            if code == 0 and not errors:
                found = ending(folder)
                same = {name: found[name] == expected[name] for name in ("weights", "metrics", "steps")}
                ok = all(same.values()) or (bool(lines) and same["weights"])
                ok |= any("the learning rate is that of a run of the new length" in line for line in lines)
                self.said["went on, and said what was wrong" if lines else "went on"] += 1
            else:
                ok = code in (1, 2) and len(errors) == 1 and errors[0].startswith("unisd: ")
                self.said["one line"] += 1
            if not ok:
                self.failures.append(f"{what}: exit code {code}: {' | '.join(lines)[-1500:]}")
            shutil.rmtree(folder)
            log.unlink()

    def damage(self, folder: Path) -> str:
        """Change, cut or remove a part of a file; return what was done."""
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
        path = self.random.choice(files)
        data = bytearray(path.read_bytes())
        start, kind = (
            self.random.randrange(len(data)),
            self.random.choice(["change", "change", "cut", "remove", "zero", "lose"]),
        )
        end = min(len(data), start + self.random.choice([1, 8, 200]))
        if kind == "change":
            data[start:end] = self.random.randbytes(end - start)
        elif kind == "zero":
            data[start:end] = bytes(end - start)
        elif kind == "lose":
            path.unlink()
            return f"lose {path.relative_to(folder)}"
        elif kind == "cut":
            del data[start:]
        else:
            del data[start:end]
        path.write_bytes(data)
        return f"{kind} {path.relative_to(folder)} [{start}:{end}]"


def main_of_trials(arguments: list[str] | None = None) -> int:
    """Run what is asked for and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=130)
    parser.add_argument("--instants", type=int, default=40)
    parser.add_argument("--two-ranks", type=int, default=40, help="of which half are at file events")
    parser.add_argument("--fuzz", type=int, default=500)
    parser.add_argument("--cases", type=int, default=len(CASES), help="so many of LoRA and full, limit 1 and 2")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["UNISD_CACHE"] = str(place / "cache")
        trials = Trials(place, asked.seed)
        trials.kill_many(asked.events, asked.instants, CASES[: asked.cases])
        trials.kill_many(asked.two_ranks // 2, asked.two_ranks - asked.two_ranks // 2, TWO_RANKS)
        killed = trials.kills.total()
        broken = len(trials.failures)
        if asked.fuzz:
            trials.fuzz(asked.fuzz)
    print(json.dumps({"runs": asked.events + asked.instants + asked.two_ranks, "kills": killed, "other endings": broken,
                      "damaged": asked.fuzz, "neither recovered nor one line": len(trials.failures) - broken,
                      "after damage": trials.said, "seconds": round(time.monotonic() - began)}))  # fmt: skip
    return int(bool(trials.failures))


if __name__ == "__main__":
    sys.exit(main_of_trials())

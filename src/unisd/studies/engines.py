"""Where jobs run: on this machine, on a Slurm cluster (submitit), or on a Ray cluster. One interface, three engines.

Each runs a job in a process of its own by `run_job`; none keeps a queue, retries, or knows what a job does.
"""

import importlib.util
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from unisd.errors import UniSDError, UsageError
from unisd.studies.jobs import LOG_FILE, PARENT, RESULT_FILE

ENGINES = ("local", "slurm", "ray")
WORKER = (sys.executable, "-m", "unisd.studies.work")
"""The command that does the job of a folder."""


class Engine(Protocol):
    """Runs jobs, several at a time."""

    def run(self, folders: Sequence[Path]) -> Generator[tuple[Path, str]]:
        """Run the job of each folder; yield a folder as soon as its job has ended, with why it failed, or ""."""


def make_engine(name: str, workers: int | None, options: dict[str, Any] | None = None) -> Engine:
    """Return the engine of a name.

    Args:
        name: local, slurm or ray.
        workers: jobs at a time; None: one per accelerator, else one for every two cores (local), or as many as the
            cluster takes.
        options: for slurm what ``submitit`` gives to sbatch, for ray what ``ray.init`` takes.

    Raises:
        UsageError: there is no such engine, or what it needs is not installed.
    """
    if name == "local":
        return Local(workers)
    if name not in ENGINES:
        raise UsageError(f"--on {name}: choose one of {', '.join(ENGINES)}")
    package = {"slurm": "submitit", "ray": "ray"}[name]
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"--on {name}: {package} is not installed; pip install 'unisd[{name}]'")
    return Slurm(workers, options or {}) if name == "slurm" else Ray(workers, options or {})


def run_job(folder: str, environment: dict[str, str] | None = None, started: Any = None) -> str:
    """Run the job of a folder in a process of its own, its output in ``log.txt``; return why it failed, or ""."""
    place = Path(folder)
    failed = place / "failed"
    failed.unlink(missing_ok=True)
    with (place / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            [*WORKER, folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, PARENT: str(os.getpid()), **(environment or {})},
        )
        if started is not None:
            started(process)
        code = process.wait()
    if code == 0 and (place / RESULT_FILE).is_file():
        return ""
    why = _last_line(place / LOG_FILE) if code in (0, 1, 3) else _ending(code)
    if code not in (3, -signal.SIGTERM):  # it was stopped in order, or before it could listen
        failed.write_text(why, encoding="utf-8")
    return why


def _ending(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {code}"


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no word"]
    return f"{type(error).__name__}: {lines[-1].strip()[:300]}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no word"]
    return lines[-1].removeprefix("failed: ")[:300]


class Local:
    """Processes of this machine: one per accelerator, or several on a CPU with their threads bounded."""

    def __init__(self, workers: int | None = None) -> None:
        import torch

        devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = workers or devices or max(1, cores // 2)
        on_gpu = devices > 0 and torch.cuda.is_available()
        given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        visible = given or [str(number) for number in range(devices)]
        self._environments: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        for number in range(self.workers):
            threads = {"OMP_NUM_THREADS": str(max(1, cores // self.workers))}
            self._environments.put({"CUDA_VISIBLE_DEVICES": visible[number % devices]} if on_gpu else threads)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = threading.Event()

    def run(self, folders: Sequence[Path]) -> Generator[tuple[Path, str]]:
        """Run the jobs; where the caller stops early, those that run are told to stop in order and waited for."""
        with ThreadPoolExecutor(self.workers) as pool, closing(self._ended(pool, folders)) as ended:
            yield from ended

    def _ended(self, pool: ThreadPoolExecutor, folders: Sequence[Path]) -> Generator[tuple[Path, str]]:
        self._stopping.clear()
        futures: dict[Future[str], Path] = {pool.submit(self._one, str(folder)): folder for folder in folders}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            self._stopping.set()
            for future in futures:
                future.cancel()
            for process in list(self._running):
                with suppress(OSError):
                    process.terminate()

    def _one(self, folder: str) -> str:
        environment = self._environments.get()
        mine: list[subprocess.Popen[bytes]] = []

        def started(process: subprocess.Popen[bytes]) -> None:
            mine.append(process)
            self._running.add(process)
            if self._stopping.is_set():
                process.terminate()

        try:
            return "not started" if self._stopping.is_set() else run_job(folder, environment, started)
        finally:
            self._running.difference_update(mine)
            self._environments.put(environment)


_SLURM = {"timeout_min": 720, "gpus_per_node": 1, "cpus_per_task": 8}
"""What a job asks for where the options say nothing."""


class Slurm:
    """A Slurm cluster, by submitit: an array job; the folder of the study must be on a disk that all nodes share."""

    def __init__(self, workers: int | None, options: dict[str, Any]) -> None:
        self.workers, self.options = workers, options

    def run(self, folders: Sequence[Path]) -> Generator[tuple[Path, str]]:
        """Submit the jobs as one array and wait for them."""
        import submitit

        if not folders:
            return
        executor = submitit.AutoExecutor(folder=str(folders[0].parent.parent / "slurm"), cluster="slurm")
        executor.update_parameters(**_SLURM | {"slurm_array_parallelism": self.workers or 64} | self.options)
        jobs = executor.map_array(run_job, [str(folder.resolve()) for folder in folders])
        try:
            for job, folder in zip(jobs, folders, strict=True):
                try:
                    why = str(job.result())
                except Exception as error:  # submitit's own, of several kinds; its text ends with the job's last line
                    why = _told(error)
                yield folder, why
        finally:
            for job in jobs:
                if not job.done():
                    job.cancel(check=False)


class Ray:
    """A Ray cluster: the one that ``RAY_ADDRESS`` or an option ``address`` names, or one that is started here."""

    def __init__(self, workers: int | None, options: dict[str, Any]) -> None:
        self.workers, self.options = workers, options

    def run(self, folders: Sequence[Path]) -> Generator[tuple[Path, str]]:
        """Give the jobs to Ray and wait for them."""
        import ray

        options = dict(self.options)
        gpus = options.pop("num_gpus_per_job", None)
        cpus = options.pop("num_cpus_per_job", 1)
        try:
            ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False, **options)
        except Exception as error:
            raise UniSDError(f"--on ray: no cluster can be reached or started: {_told(error)}") from error
        try:
            gpus = (1 if ray.cluster_resources().get("GPU") else 0) if gpus is None else gpus
            remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_job)
            threads = {"OMP_NUM_THREADS": str(cpus)}
            waiting: dict[Any, Path] = {}
            left = list(folders)
            while left or waiting:
                while left and len(waiting) < (self.workers or len(folders)):
                    folder = left.pop(0)
                    waiting[remote.remote(str(folder.resolve()), threads)] = folder
                done, _ = ray.wait(list(waiting))
                for reference in done:
                    folder = waiting.pop(reference)
                    try:
                        why = str(ray.get(reference))
                    except Exception as error:
                        why = _told(error)
                    yield folder, why
        finally:
            ray.shutdown()

"""A trace of a few optimizer steps, for chrome://tracing or Perfetto."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from unisd.errors import warn
from unisd.files import replacing

TRACE_FILE = "profile.json"


class Profile(TrainerCallback):
    """Records ``steps`` optimizer steps after the first, which warms up, and writes ``profile.json``.

    Args:
        folder: the run's folder.
        steps: how many steps; one trace of a step takes some ten megabytes.
    """

    def __init__(self, folder: Path, steps: int = 1) -> None:
        self.folder = folder
        self.steps = steps
        self._recording: Any = None
        self._done = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start after the first step, stop after the last that is wanted."""
        if not state.is_world_process_zero:
            return
        if self._recording is not None:
            self._done += 1
            if self._done == self.steps:
                self._stop()
        elif self._done == 0:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._recording = torch.profiler.profile(activities=activities)
            self._recording.__enter__()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what there is where the run ends early."""
        if self._recording is not None:
            self._stop()

    def _stop(self) -> None:
        recording, self._recording = self._recording, None
        recording.__exit__(None, None, None)
        if self._done == 0:
            warn("--profile: the run ended with its first step, which is not recorded; train two steps or more")
            return
        with replacing(self.folder / TRACE_FILE) as path:
            recording.export_chrome_trace(str(path))

"""Trackers (wandb, trackio, TensorBoard, …): transformers' own callbacks, with a name and one line for what fails.

They get the metrics of ``metrics.jsonl`` as ``train/…``, those of an evaluation as ``eval/…``, and all settings.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from unisd.errors import UniSDError


def name_runs(callbacks: Iterable[TrainerCallback]) -> None:
    """Let every tracker among ``callbacks`` call a run without a name by its folder, and fail in one line."""
    for tracker, kind in INTEGRATION_TO_CALLBACK.items():
        for callback in callbacks:
            if type(callback) is kind:
                _guard(tracker, callback)


def _guard(tracker: str, callback: Any) -> None:
    begin = callback.on_train_begin

    def on_train_begin(args: Any, *others: Any, **kwargs: Any) -> Any:
        given = args.run_name
        args.run_name = given or Path(args.output_dir).resolve().name
        try:
            return begin(args, *others, **kwargs)
        except Exception as error:  # whatever the package says: there is no run to write to
            cause = " ".join(str(error).split())[:200] or type(error).__name__
            hint = ", or set WANDB_MODE=offline" if tracker == "wandb" else ""
            raise UniSDError(f"training.report_to: {tracker} did not start: {cause}; see to that{hint}") from error
        finally:
            args.run_name = given

    callback.on_train_begin = on_train_begin

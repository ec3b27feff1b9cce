"""What arguments of other trainers, and of earlier versions, are called here: for messages, and for a page."""

import functools
import re
from dataclasses import dataclass
from importlib import resources

import yaml

_OUTSIDE = ("task",)
"""Groups of a run file alone: in Python rows are given."""


@dataclass(frozen=True)
class ForeignArgument:
    """A row of a table: arguments that have the same meaning here."""

    names: tuple[str, ...]
    here: str
    """Settings or options in code marks (Markdown), or – where there are none."""
    remarks: str

    @property
    def settings(self) -> list[str]:
        """The settings that it is here, as ``group.field`` or ``group.field=value``."""
        return re.findall(r"`(\w+\.\w+(?:=[^`]+)?)`", self.here)


@functools.cache
def foreign_arguments() -> dict[str, list[ForeignArgument]]:
    """Return the tables of docs/coming_from.md by their headings, from ``foreign.yaml``."""
    text = (resources.files("unisd.training") / "foreign.yaml").read_text(encoding="utf-8")
    tables = yaml.safe_load(text)
    return {
        heading: [ForeignArgument(tuple(names), here, remarks) for names, here, remarks in rows]
        for heading, rows in tables.items()
    }


def foreign(name: str) -> ForeignArgument | None:
    """Return the first row about an argument, of those that have settings if there are any; else None."""
    rows = [row for table in foreign_arguments().values() for row in table if name in row.names]
    return next((row for row in rows if row.here != "–"), next(iter(rows), None))


def hint(name: str) -> str:
    """Return in a few words what an argument of another trainer, or a former one, is here; empty for others."""
    if name in _FORMER:
        return _FORMER[name]
    row = foreign(name)
    if row is None:
        return ""
    remarks = _plain(row.remarks).rstrip(".")
    if row.here == "–":
        return remarks[:1].lower() + remarks[1:] if remarks[1:2].islower() or remarks[1:2] == " " else remarks
    outside = any(setting.split(".")[0] in _OUTSIDE for setting in row.settings)
    where = " (of run files; in Python rows are given)" if outside else ""
    return f"it is {_plain(row.here)}{where}" + (f": {remarks}" if remarks else "")


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


_FORMER = {
    "evaluation_strategy": "it is eval_strategy now",
    "warmup_ratio": "give the share as warmup_steps: below 1 it is one",
    "no_cuda": "it is use_cpu now",
    "use_mps_device": "an accelerator is found by itself; leave it out",
    "use_ipex": "there is no such backend any more; leave it out",
    "jit_mode_eval": "models run as they are; leave it out",
    "generation_max_length": "it is rollout.max_completion_length",
    "generation_num_beams": "completions are sampled; see rollout",
    "logging_dir": "set the environment variable TENSORBOARD_LOGGING_DIR; without it, it is runs/ in the run's folder",
    "overwrite_output_dir": "a run's folder is never overwritten; choose another --output, or --resume",
    "per_gpu_train_batch_size": "it is per_device_train_batch_size now",
    "per_gpu_eval_batch_size": "it is per_device_eval_batch_size now",
    "adafactor": "write optim=adafactor",
    **dict.fromkeys(("fp16_backend", "half_precision_backend", "fp16_opt_level"), "there is one left; leave it out"),
    "include_tokens_per_second": "metrics.jsonl has speeds already; leave it out",
    "past_index": "it is for models of another kind; leave it out",
    "tpu_num_cores": "TPUs are not supported; leave it out",
    "save_safetensors": "weights are always saved as safetensors; leave it out",
    "quantization_config": "it is model.quantization of run files; in Python load the model with it",
    "peft_config": "give it to UniSDTrainer; in a run file it is the group lora",
}
"""Names of earlier versions of transformers, and what says the same here."""

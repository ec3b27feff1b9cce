"""A finished run on the hub: what is published of it, what is looked at before, and the upload.

Published are the weights, what is needed to load them, the tokenizer and the model card: files that are known by name.
Everything else of a run (settings with this machine's folders, answers, rows, checkpoints) stays, unless it is asked
for.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import safe_open

from unisd.errors import UniSDError, UsageError, warn
from unisd.evaluation.results import results_of
from unisd.files import write_text
from unisd.models.origin import without_places
from unisd.training.card import card_of
from unisd.training.run import finished

PUBLISHED = (
    "README.md", "adapter_config.json", "adapter_model.safetensors", "config.json", "generation_config.json",
    "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja",
    "additional_chat_templates/*.jinja", "unisd.json",
)  # fmt: skip
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt")
_SECRETS = {
    "a token of the hub": r"\bhf_[A-Za-z0-9]{20,}",
    "a key of a service": r"\b(?:sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{30,}|xox[abprs]-[\w-]{10,})",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/@\"']+@",
}
_SHORTEST_SECRET = 12
_SECRET_VARIABLE = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.:…<])(?:[A-Za-z]:\\+|~?/)(?:[\w.@+-]+[\\/]+)+[\w.@+-]+")


@dataclass
class Publication:
    """What is to be published of a run, copied into a folder of its own."""

    folder: Path
    files: list[str]
    """Paths in the folder, sorted."""
    left: list[str] = field(default_factory=list)
    """Files beside the weights that are not published, for nobody asked for them."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum((self.folder / name).stat().st_size for name in self.files)


@contextlib.contextmanager
def publication(run: str | Path, include: Sequence[str] = (), base: str | None = None) -> Iterator[Publication]:
    """Yield what is to be published of a finished run, checked, in a folder that goes afterwards.

    Args:
        run: its folder.
        include: further files of the run's folder that are asked for.
        base: what the base is called on the hub, where its own name does not say.

    Raises:
        UsageError: it is no finished run, a file that is asked for is not there, or something must not be published.
        UniSDError: a file is damaged.
    """
    run = Path(run)
    weights = _weights(run)
    with tempfile.TemporaryDirectory(prefix="unisd-push-") as name:
        folder = Path(name)
        there = sorted(path.relative_to(weights).as_posix() for path in weights.rglob("*") if path.is_file())
        for each in there:
            if _is_published(each):
                (folder / each).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(weights / each, folder / each)
        without_places(folder, base)  # runs of earlier versions hold some
        for each in include:
            if not (run / each).is_file() or not (run / each).resolve().is_relative_to(run.resolve()):
                raise UsageError(f"--include {each}: there is no such file in {run}; name it as seen from there")
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run / each, folder / each)
        write_text(folder / "README.md", card_of(run, results_of(run), base))
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for each in files:
            check_public(folder / each, each)
        yield Publication(folder, files, [each for each in there if not _is_published(each) and each not in files])


def _is_published(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PUBLISHED)


def _weights(run: Path) -> Path:
    """Return where the weights of a finished run lie, whole.

    Raises:
        UsageError: there is no run, it is not finished, or what it saved is damaged.
    """
    if not (run / "config.yaml").is_file():
        raise UsageError(f"push: {run} is no run (no config.yaml lies there); name the folder that unisd train wrote")
    file = run / "finished.json"
    if not file.is_file():
        raise UsageError(f"push: the run in {run} is not finished; go on with unisd train --output {run} --resume")
    if finished(run) is None:
        raise UsageError(
            f"push: the weights in {run} are not what the run saved (a file is missing or has changed); "
            f"make them again with unisd train --output {run} --resume"
        )
    return run / str(json.loads(file.read_text(encoding="utf-8"))["weights"])


def check_public(file: Path, name: str) -> None:
    """Refuse a file that holds a secret, or names a place of this machine.

    Args:
        file: where it lies.
        name: what it is called in the message.

    Raises:
        UsageError: with what was found, and where; a secret itself is not repeated.
    """
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            text = json.dumps(opened.metadata() or {})
    elif file.suffix == ".model":  # a tokenizer in sentencepiece's own form
        return
    else:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"push: {name} is not text, so nobody can tell what it holds; leave it out") from error
    patterns = dict(_SECRETS)
    for variable, value in os.environ.items():
        if _SECRET_VARIABLE.search(variable) and len(value) >= _SHORTEST_SECRET:
            patterns[f"the value of ${variable}"] = re.escape(value)
    # A vocabulary holds every kind of text, pieces of paths included.
    places = file.name not in _VOCABULARIES
    for number, line in enumerate(text.splitlines(), start=1):
        at = f"push: {name}, line {number}"
        if (secret := next((what for what, pattern in patterns.items() if re.search(pattern, line)), None)) is not None:
            raise UsageError(f"{at} holds what looks like {secret}; remove it there")
        if places and (place := _place(line)) is not None:
            raise UsageError(f"{at} names a place of this machine ({place}); remove it there")


def _place(line: str) -> str | None:
    """Return the first path in a line that begins with a folder of this machine, or as homes do elsewhere."""
    for found in _PATH.findall(line):
        first = re.split(r"[\\/]+", found)[1]
        if (
            found[0] in "~"
            or found[1:2] == ":"
            or first in ("home", "Users", "root", "mnt")
            or Path("/", first).exists()
        ):
            return str(found)
    return None


def push(
    found: Publication, to: str | None, run: str | Path, private: bool, update: bool, progress: bool = True
) -> str:
    """Upload to the hub, in one commit; return the address.

    Args:
        found: what is published.
        to: ``user/name``; None: the user's own name, and that of the run's folder.
        run: the run's folder.
        private: whether a new repository is private.
        update: whether one that is there already gets a new version.
        progress: show a bar.

    Raises:
        UniSDError: in one line: no token, no right to write there, no network, or the name is taken.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import LocalTokenNotFoundError

    # Not the endpoint that the client read when it was loaded: that of now.
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="unisd")
    with _told(api.endpoint, to):
        if get_token() is None:
            raise LocalTokenNotFoundError("no token")
        name = to or f"{api.whoami()['name']}/{_plain_name(Path(run))}"
        there = _found(api, name)
        if there is None:
            api.create_repo(name, private=private)
        elif there.siblings and {file.rfilename for file in there.siblings} != {".gitattributes"}:
            if not update:
                raise UsageError(f"--to {name}: it is there already; choose another name, or add --update to renew it")
            if private and not there.private:
                raise UsageError(f"--to {name}: it is there already, and public; make it private on the hub first")
        with contextlib.nullcontext() if progress else _without_bars():
            api.upload_folder(
                repo_id=name, folder_path=found.folder, commit_message=f"Weights and card of {Path(run).name}"
            )
    return f"{api.endpoint}/{name}"


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _plain_name(run: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+|[.]{2,}|-{2,}", "-", run.resolve().name).strip(".-")[:96]
    if not name:
        raise UsageError(f"push: {run} gives no name for a repository; say --to user/name")
    return name


def _found(api: Any, name: str) -> Any:
    """Return what the hub knows of a repository; None: there is none, as far as this user may know."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(name)
    except RepositoryNotFoundError:
        return None


@contextlib.contextmanager
def _told(endpoint: str, to: str | None) -> Iterator[None]:
    """Say in one line why nothing was published."""
    from huggingface_hub import errors

    where = f"--to {to}" if to else "push"
    try:
        yield
    except UniSDError:
        raise
    except errors.LocalTokenNotFoundError as error:
        raise UniSDError(f"{where}: no token for {endpoint}; log in with hf auth login, or set HF_TOKEN") from error
    except errors.OfflineModeIsEnabled as error:
        raise UniSDError(f"{where}: HF_HUB_OFFLINE is set, so the hub is not asked; unset it to publish") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{where}: no name for a repository; write user/name with letters, digits, - _ .") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise UniSDError(f"{where}: {_STATUS.get(status) or _cause(error)}") from error
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("http"):
            raise  # neither a socket's error nor one of the libraries that the client asks through
        raise UniSDError(f"{where}: {endpoint} cannot be reached ({_cause(error)}); check the network") from error


_STATUS = {
    401: "the hub does not know the token; log in with hf auth login, or set HF_TOKEN",
    403: "the token may not write there; use one with the right to write, or a name of your own",
    409: "the name is taken; choose another",
    413: "the hub finds a file too large",
    429: "the hub was asked too often; try again in some minutes",
}


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def announce(found: Publication) -> None:
    """Warn of what a reader would miss."""
    if found.left:
        warn(f"push: {', '.join(found.left[:5])} stay here; add --include to publish a file of the run")
    file = found.folder / "adapter_config.json"
    if file.is_file() and not json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path"):
        warn("push: the base has no name on the hub, and the adapter is nothing without it; name it with --base-model")

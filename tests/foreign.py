"""A mechanism as another package would write it."""

import contextlib

from unisd.mechanisms import Mechanism, register, registry
from unisd.settings import Field, group


@group
class PatienceSettings:
    """Waits."""

    strength: float = Field(default=0.0, ge=0)
    """How long; 0 switches the mechanism off."""

    @property
    def on(self):
        return self.strength > 0


class Patience(Mechanism):
    name = "patience"
    summary = "it waits"
    Settings = PatienceSettings
    formerly = {"rollout.calm": "strength", "calmness.level": "strength"}  # noqa: RUF012


@contextlib.contextmanager
def registered(name="patience"):
    """The mechanism is known, under this name, for a while."""
    register(type("Patience", (Patience,), {"name": name, "formerly": Patience.formerly if name == "patience" else {}}))
    try:
        yield
    finally:
        registry._REGISTERED.pop(name)

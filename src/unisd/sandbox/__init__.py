"""Running programs that nobody has read: in a process of their own, under limits, away from files and network."""

from unisd.sandbox.run import Limits, Outcome, Protection, protection, require_protection, run_tests

__all__ = ["Limits", "Outcome", "Protection", "protection", "require_protection", "run_tests"]

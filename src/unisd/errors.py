"""The two ways in which something can go wrong, as the command line tells them apart."""


class UniSDError(Exception):
    """Work failed. The message is one line: what, where, and what to do. Exit code 1."""


class UsageError(UniSDError):
    """Something wrong was asked for (a setting, a name, a file's content). Exit code 2."""

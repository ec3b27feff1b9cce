"""``unisd``: the entry point, its commands and exit codes.

0 done, 1 failed while working, 2 asked something wrong, 3 stopped by a signal or at the end of its time with what was
done kept, 128 + n ended at once by signal n, which came a second time; 141 whoever read the output has left.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import traceback
import warnings

from unisd import __version__
from unisd.cli.answer import Answer, only_the_answer, printed
from unisd.errors import Stopped, UniSDError, UsageError, heard
from unisd.training.signals import STOP, listening, seconds_of

COMMANDS = {
    "demo": "teach a small real model a small task, start to end, in minutes",
    "train": "adapt a model by a recipe",
    "evaluate": "ask models the questions of one or many tasks, grade the answers, compare",
    "check": "look at a task or at rows before anything is trained: what a model would see, and what is wrong",
    "audit": "measure before training what the teacher has to teach, in every layout and context",
    "report": "write the page of a run, an evaluation, an audit or a study",
    "study": "run many arms, tasks, models and seeds from one file, and say what differs and how sure that is",
    "prepare": "build the contexts of a run ahead",
    "push": "publish a finished run on the hub, with its model card",
    "list": "list recipes, tasks, models, mechanisms, contexts, readers or settings, or look for a word in them",
    "doctor": "check this machine and installation; the exit code is 1 where something must be mended",
}


_STOPPED = {
    "train": "what was saved is kept: run the command again (with --resume, where the folder holds the run)",
    "evaluate": "answers that were written are kept: the same command asks for the others alone",
    "audit": "answers that were written are kept: the same command asks for the others alone",
    "prepare": "contexts that were written are kept: the same command writes the others alone",
    "study": "finished jobs are kept, others as far as they got: the same command goes on",
    "push": "what was sent stays there: the same command with --update sends the rest",
    "demo": "start it again with another --output, or remove the folder",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser; a command's own module is imported only when it is called."""
    top = _Parser(
        prog="unisd",
        description="Adapt a language model by unified self-distillation: the model is its own teacher.",
        epilog="Start with: unisd demo",
    )
    top.add_argument("--version", action="version", version=f"unisd {__version__}")
    top.add_argument("--debug", action="store_true", help="show where an error comes from (unisd --debug COMMAND …)")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"unisd.cli.{name}_command")
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=module.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    # Before any library is loaded: their start-up chatter is not ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    # Idle threads spin briefly, then sleep: long spinning makes a busy machine many times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    for library in ("transformers", "peft", "torch", "accelerate"):
        warnings.filterwarnings("ignore", module=library)
    sys.stdout, sys.stderr = (stream or io.StringIO() for stream in (sys.stdout, sys.stderr))  # closed ones
    for stream in (sys.stdout, sys.stderr):  # a terminal's encoding may lack characters, and names of files be no text
        if getattr(stream, "errors", "") == "strict" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with listening():
        try:
            code = _run(arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # as `head` leaves when it has seen enough
            return _unheard(141)
        except OSError as error:
            print(f"unisd: standard output cannot be written: {error.strerror}", file=sys.stderr)
            return _unheard(1)


def _unheard(code: int) -> int:
    """Return ``code``; what could not be written goes nowhere, so that the interpreter's end is silent, too."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    command, debug, as_json = next((word for word in words if word in COMMANDS), ""), False, "--json" in words
    with heard() as warnings:
        try:
            chosen, strange = parser().parse_known_args(words)
            command, debug, as_json = chosen.command, chosen.debug, getattr(chosen, "json", False)
            if strange:
                raise UsageError(f"unrecognized arguments: {' '.join(strange)}; see unisd {command} --help")
            if getattr(chosen, "max_time", None) is not None:
                STOP.within(seconds_of(chosen.max_time))
            with only_the_answer(as_json):
                answer: Answer = chosen.run(chosen)
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if debug:
                traceback.print_exception(error)
            code, line = _told(error, command)
            print(f"unisd: {line}", file=sys.stderr)
            answer = Answer(code=code, message=line)
    if as_json:
        printed(command, answer, warnings)
    return answer.code


def _told(error: BaseException, command: str) -> tuple[int, str]:
    """Return the exit code of a command that ended so, and the one line that it leaves."""
    if isinstance(error, UniSDError):
        return 3 if isinstance(error, Stopped) else 2 if isinstance(error, UsageError) else 1, str(error)
    if isinstance(error, KeyboardInterrupt):
        why = f" by {error}" if str(error) else ""
        return 3, f"stopped{why}; {_STOPPED.get(command, 'run the command again')}"
    if isinstance(error, MemoryError):
        return 1, "out of memory; lower training.tokens_per_row or rollout.batch_size"
    if isinstance(error, OSError):
        what = ": ".join(filter(None, (error.strerror or str(error), error.filename)))
        return 1, f"{what}; free space or check the path"
    cause = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return 1, f"unexpected: {cause}; unisd --debug {command} … shows where, for a report"


if __name__ == "__main__":
    sys.exit(main())

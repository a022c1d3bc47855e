"""Turn whatever ends a command into one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from offramp.cli._words import in_flags
from offramp.errors import UserError, cut

__all__ = ["Outcome", "guarded"]

LONGEST = 2000  # characters of the line

# What the operating system refuses and the user can mend, and how.
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "fix the permissions"),
    errno.ENAMETOOLONG: "give a shorter name",
}


@dataclass
class Outcome:
    """The exit code with which a command ended."""

    code: int = 0


class _StopSignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised where the program is, as Ctrl-C is."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@contextlib.contextmanager
def guarded(command: str, *, debug: bool) -> Iterator[Outcome]:
    """Turn whatever ends the body into one line on stderr and an exit code: 2, 128 + n, or 1.

    Args:
        command: Begins the line, e.g. ``train``; settings in the message become its flags.
        debug: Print the traceback above the line.
    """
    outcome = Outcome()
    try:
        with _signals_raised():
            yield outcome
    except SystemExit as error:  # after --help
        outcome.code = error.code if isinstance(error.code, int) else 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        outcome.code, line = _explain(error)
        line = _one_line(in_flags(line, command))
        print(f"{' '.join(filter(None, ['offramp', command]))}: {line}", file=sys.stderr, flush=True)


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, KeyboardInterrupt):
        return 128 + getattr(error, "signum", signal.SIGINT), str(error) or "interrupted"
    if isinstance(error, UserError):
        return 2, str(error)
    from offramp.out_of_memory import ran_out_of_memory  # brings torch, which a good command may not need

    if ran_out_of_memory(error):
        return 2, "out of memory; use fewer or smaller samples, a smaller net, or a machine with more memory"
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        file = error.filename or "while writing"
        return 2, f"{error.strerror}: {file}; {_REMEDIES[error.errno]}"
    return 1, (
        f"internal error: {type(error).__name__}: {error} -- "
        "this is a fault of offramp's; please report it with what the same command and --debug print"
    )


def _one_line(text: str) -> str:
    """A message as one short line of characters that a terminal can show."""
    line = cut(" ".join(text.split()), LONGEST)
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """SIGTERM and SIGHUP raise, so that what is open gets closed; an ignored signal (nohup) stays so."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for signum in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # Windows has no SIGHUP
            if signal.getsignal(signum) == signal.SIG_DFL:
                handlers[signum] = signal.signal(signum, _raise)
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _raise(signum: int, frame: FrameType | None) -> NoReturn:
    raise _StopSignal(signum)

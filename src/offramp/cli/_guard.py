"""Turn whatever ends a command into one line on stderr and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from offramp.cli._warnings import warnings_told
from offramp.cli._words import in_flags
from offramp.errors import UserError
from offramp.output_paths import REMEDIES
from offramp.signals import STOP_SIGNALS

__all__ = ["Outcome", "guarded"]


@dataclass
class Outcome:
    """The exit code with which a command ended."""

    code: int = 0


class _StopSignal(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP, raised where the program is."""

    def __init__(self, signum: int) -> None:
        name = signal.Signals(signum).name
        super().__init__("interrupted" if signum == signal.SIGINT else f"stopped by {name}")
        self.signum = signum


@contextlib.contextmanager
def guarded(command: str, *, debug: bool, program: bool = False) -> Iterator[Outcome]:
    """Turn whatever ends the body into one line on stderr and an exit code: 2, 128 + n, or 1.

    Args:
        command: Begins the line, e.g. ``train``; settings in the message become its flags.
        debug: Print the traceback above the line.
        program: Whether the process is there for the command alone, and may end with it.
    """
    outcome = Outcome()
    name = " ".join(filter(None, ["offramp", command]))

    def tell(text: str) -> None:
        with contextlib.suppress(OSError):  # stderr may be a file on the disk that is full
            print(f"{name}: {_one_line(text)}", file=sys.stderr, flush=True)

    try:
        with _signals_raised(name if program else None), warnings_told(lambda text: tell(f"warning: {text}")):
            yield outcome
    except SystemExit as error:  # after --help
        outcome.code = error.code if isinstance(error.code, int) else 0
    except BaseException as error:
        if debug:
            traceback.print_exc()
        outcome.code, line = _explain(error)
        tell(in_flags(line, command))


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, KeyboardInterrupt):
        return 128 + getattr(error, "signum", signal.SIGINT), str(error) or "interrupted"
    if isinstance(error, UserError):
        return 2, str(error)
    from offramp.out_of_memory import ran_out_of_memory  # brings torch, which a good command may not need

    if ran_out_of_memory(error):
        return 2, "out of memory; use fewer or smaller samples, a smaller net, or a machine with more memory"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        file = error.filename or "while writing"
        return 2, f"{error.strerror}: {file}; {REMEDIES[error.errno]}"
    return 1, (
        f"internal error: {type(error).__name__}: {error} -- "
        "this is a fault of offramp's; please report it with what the same command and --debug print"
    )


def _one_line(text: str) -> str:
    """A message as one short line of characters that a terminal can show."""
    return str(UserError(" ".join(text.split())))


@contextlib.contextmanager
def _signals_raised(program: str | None) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise, so that what is open gets closed; an ignored one (nohup) stays so.

    Meanwhile a second Ctrl-C ends the process at once, and what else comes is ignored.

    Args:
        program: Name of the program, if the process is nothing else. It ends at once where a signal comes in
            an import: nothing is open yet, and an exception there can turn into any other. So it does where
            Python drops the exception, amid a ``__del__``: else it would go on, and hear of no other signal.
    """

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        for heard in handlers:
            signal.signal(heard, signal.SIG_DFL if heard == signal.SIGINT else signal.SIG_IGN)
        if program is not None and _importing(frame):
            os.write(2, f"{program}: {_StopSignal(signum)}\n".encode())
            os._exit(128 + signum)
        raise _StopSignal(signum)

    def unraisable(lost: sys.UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, _StopSignal):
            os.write(2, f"{program}: {lost.exc_value}\n".encode())
            os._exit(128 + lost.exc_value.signum)
        hook(lost)

    handlers: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    try:
        if program is not None:
            sys.unraisablehook = unraisable
        if threading.current_thread() is threading.main_thread():
            for signum in STOP_SIGNALS:
                if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
                    handlers[signum] = signal.signal(signum, stop)
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        sys.unraisablehook = hook


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
        frame = frame.f_back
    return frame is not None

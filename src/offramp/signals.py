"""Signals that stop a program, kept from processes that it starts; and the signal that one of these died."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["STOP_SIGNALS", "deaf_to_signals", "no_sigchld_handler"]

# Ctrl-C at a terminal, a scheduler or `kill`, and a terminal that closes; Windows has no SIGHUP.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextlib.contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Processes that start meanwhile never hear of SIGINT, SIGTERM and SIGHUP; this one does, afterwards.

    A terminal, systemd and schedulers send these to all processes of a run. A process inherits which signals
    it blocks, so that there is no moment at which a new one could die of them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with _handlers_held():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _handlers_held() -> Iterator[None]:
    """Python's handlers run afterwards: they run here, also where another thread takes a signal."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {signum: handler for signum in STOP_SIGNALS if callable(handler := signal.getsignal(signum))}
    for signum in handlers:
        signal.signal(signum, lambda signum, frame: came.append(signum))
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        for signum in came:
            signal.raise_signal(signum)  # as it is blocked here, it comes at the end


@contextlib.contextmanager
def no_sigchld_handler() -> Iterator[None]:
    """No handler runs when a child process ends, and the handler that is set afterwards is the one of before.

    torch sets one that raises for a dead worker of a ``DataLoader`` wherever this process happens to be, amid
    a step or a file; without it the loader says so where the next batch is asked for, within 5 seconds.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if in_main and hasattr(signal, "SIGCHLD") else None
    if before is None:  # where no handler can be set
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)

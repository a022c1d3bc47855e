"""Ctrl-C and SIGTERM, answered between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interruption", "Signals", "catch_signals"]


class Interruption(KeyboardInterrupt):
    """A signal stopped the training: after a checkpoint was written, or at once if it was the second one.

    Attributes:
        signum: The signal's number; a program that stops for it exits with 128 + signum.
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Signals:
    """Holds the number of the first signal that came, or 0."""

    received: int = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """The handler. A second signal does not wait for the step to end."""
        if self.received:
            raise Interruption(signum, "interrupted twice; the last checkpoint stands")
        self.received = signum


@contextlib.contextmanager
def catch_signals() -> Iterator[Signals]:
    """Note SIGINT and SIGTERM instead of dying of them, but ignore one that was ignored (nohup) before.

    Outside the main thread nothing can be caught.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    heeded = [
        signum for signum in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(signum) is not signal.SIG_IGN
    ]
    before = [signal.signal(signum, signals) for signum in heeded]
    try:
        yield signals
    finally:
        for signum, handler in zip(heeded, before, strict=True):
            signal.signal(signum, handler)

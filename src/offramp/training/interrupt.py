"""Ctrl-C, SIGTERM and SIGHUP, answered between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from offramp.data import WorkerDied
from offramp.errors import UserError
from offramp.signals import STOP_SIGNALS

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
        """The handler. A second Ctrl-C does not wait for the step to end.

        What else comes twice came in two ways: from a scheduler, which sends it to every process, and from
        torchrun or a sweep, which hands on what it gets.
        """
        if self.received and signum == signal.SIGINT:
            raise Interruption(signum, "interrupted twice; the last checkpoint stands")
        self.received = self.received or signum

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """What breaks meanwhile after a signal breaks because of it, since other processes got it too.

        Raises:
            Interruption: In place of any error but a UserError that has nothing to do with processes.
        """
        try:
            yield
        except Exception as error:
            other = isinstance(error, UserError) and not isinstance(error, WorkerDied)
            if other or not self.received:
                raise
            name = signal.Signals(self.received).name
            raise Interruption(self.received, f"stopped by {name}; the last checkpoint stands") from error


@contextlib.contextmanager
def catch_signals() -> Iterator[Signals]:
    """Note SIGINT, SIGTERM and SIGHUP instead of dying of them, but ignore what was ignored (nohup) before.

    Outside the main thread nothing can be caught.
    """
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    heeded = [signum for signum in STOP_SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
    before = [signal.signal(signum, signals) for signum in heeded]
    try:
        yield signals
    finally:
        for signum, handler in zip(heeded, before, strict=True):
            signal.signal(signum, handler)

"""Why one of several processes ended, told to the others, in which no more than a broken connection shows."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch.distributed as dist

from offramp.errors import UserError
from offramp.signals import STOP_SIGNALS

__all__ = ["named_if_one_ends", "wait_for_all"]

Given = ParamSpec("Given")
Result = TypeVar("Result")
distributed: Any = dist  # whose stores are not in its stubs
PATIENCE = 5.0  # seconds in which it shows that a process has died
UNTIL_SIGTERM = 2.0  # seconds in which torchrun notices it too
LOOK_EVERY = 0.05  # seconds
STOPS = tuple(signum.name for signum in STOP_SIGNALS)
# A SIGTERM after one of these in another process is from torchrun, which stops all when one has ended.
FIRST = tuple(name for name in STOPS if name != "SIGTERM")
_rounds = itertools.count()
_board: _Board | None = None


def named_if_one_ends(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorate a function so that what breaks in it because another process ended names that one and why.

    Under ``torchrun`` each process notes in its store, which outlives them, why it ends; one that was killed
    notes nothing and is missing. The decorated function raises a UserError if another process ended first.
    """

    @functools.wraps(function)
    def explained(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        global _board
        if _board is not None or (board := _joined()) is None:
            return function(*args, **kwargs)
        _board = board
        try:
            return _with_errors_explained(board, lambda: function(*args, **kwargs))
        except KeyboardInterrupt as stop:  # all processes often get the signal, and each says so
            name = signal.Signals(getattr(stop, "signum", signal.SIGINT)).name
            cause = board.cause(0, stops=() if name in FIRST else FIRST)
            board.leave(**{name: str(stop) or "interrupted"})
            if cause is None:
                raise
            raise UserError(cause) from stop
        finally:
            _board = None

    return explained


def _with_errors_explained(board: _Board, call: Callable[[], Result]) -> Result:
    """Call a function; an error in it that comes of another process's end is a UserError that names that one.

    A SIGTERM can come before it is held, and is what is raised then. Hence no context manager: an exception
    in the code that hands an error on to one would not reach it.
    """
    try:
        result = call()
    except UserError as error:
        board.leave(failed=str(error))
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        with _sigterm_held() as awaited:
            cause = board.cause(PATIENCE if _of_a_connection(error) else 0, stops=STOPS)
            board.leave(failed=f"{type(error).__name__}: {error}")
            if cause is not None:
                awaited()
        if cause is None:
            raise
        raise UserError(cause) from error
    board.leave()
    return result


def wait_for_all() -> None:
    """Come back when every process is here.

    Raises:
        UserError: One of them has ended before.
    """
    if _board is not None:
        _board.wait_for_all()


class _Board:
    """Notes of the processes of one training, in the store of the launcher.

    The keys: ``N/pid/RANK`` and ``N/here/RANK`` of a process that has started, and reached the others;
    ``N/left/RANK`` of one that ended in an orderly way; ``N/failed``, ``N/SIGINT`` and so on, which the first
    one writes that failed, or got the signal.
    """

    def __init__(self) -> None:
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*address, is_master=False, timeout=timedelta(seconds=60))
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = distributed.PrefixStore(f"offramp/{restarts}/{next(_rounds)}", store)
        self.store.set(f"pid/{self.rank}", f"{os.getpid()} {socket.gethostname()}")

    def leave(self, **why: str) -> None:
        """Note that this process ends, and why, under a key of what the others end of as well."""
        with contextlib.suppress(RuntimeError):  # the launcher has ended too
            for key, text in why.items():
                self.store.compare_set(key, "", f"process {self.rank} of {self.world} has ended: {text}")
            self.store.set(f"left/{self.rank}", "")

    def cause(self, patience: float, *, stops: tuple[str, ...] = ()) -> str | None:
        """Why another process ended; None if it does not show in so many seconds.

        Args:
            patience: Seconds.
            stops: Which signals to another process are a cause.
        """
        until = time.monotonic() + patience
        with contextlib.suppress(RuntimeError):
            while True:
                for key in ("failed", *stops):
                    if self.store.check([key]):
                        return str(self.store.get(key).decode())
                if (line := self._killed()) is not None:
                    self.store.compare_set("failed", "", line)
                elif time.monotonic() >= until:
                    return None
                else:
                    time.sleep(LOOK_EVERY)
        return None

    def _killed(self) -> str | None:
        """Which process of this machine is not there any more, though it has not said why."""
        for rank in range(self.world):
            if rank == self.rank or not self.store.check([f"pid/{rank}"]):
                continue
            pid, host = self.store.get(f"pid/{rank}").decode().split(" ", 1)
            if host == socket.gethostname() and _gone(int(pid)) and not self.store.check([f"left/{rank}"]):
                return (
                    f"process {rank} of {self.world} (pid {pid}) was killed, as where memory runs out; make "
                    "room and start all again: a run goes on from its last checkpoint by `resume=True`"
                )
        return None

    def wait_for_all(self) -> None:
        """Like :func:`wait_for_all`."""
        self.store.set(f"here/{self.rank}", "")
        while not all(self.store.check([f"here/{rank}"]) for rank in range(self.world)):
            if (cause := self.cause(LOOK_EVERY, stops=STOPS)) is not None:
                raise UserError(cause)


def _joined() -> _Board | None:
    """The board, if there are other processes and a store that outlives them."""
    several = (
        dist.is_available()
        and dist.is_torchelastic_launched()
        and int(os.environ.get("WORLD_SIZE", "1")) > 1
        and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    )
    try:
        return _Board() if several else None
    except RuntimeError:  # the store cannot be reached: errors stay as they are
        return None


def _of_a_connection(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("connect", "peer", "gloo", "nccl")
    )


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"  # not yet buried
    except ProcessLookupError:
        return True
    except OSError:  # no /proc
        return False


@contextlib.contextmanager
def _sigterm_held() -> Iterator[Callable[[], None]]:
    """Hold SIGTERM, which torchrun sends to the others when one has ended: it must not cut them short.

    Yields:
        A function that waits until it has come, for it could come afterwards else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: came.append(signum))
    until = time.monotonic() + UNTIL_SIGTERM

    def awaited() -> None:
        while not came and time.monotonic() < until:
            time.sleep(LOOK_EVERY)

    try:
        yield awaited
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

"""The thread that runs a net on requests."""

from __future__ import annotations

import atexit
import threading
import weakref
from typing import Any, Generic

from ._backlog import Backlog, Closed
from ._engine import Engine
from ._request import A, Request
from ._scheduler import Scheduler

__all__ = ["Forked", "Worker"]


class Forked(Closed):
    """The process was forked, and the thread that would answer is in the other one."""


class Worker(threading.Thread, Generic[A]):
    """Runs a net on the requests of a backlog.

    It ends once the backlog is closed and all requests are answered, and before the interpreter does.

    Args:
        engine: What runs the net, in its context.
        backlog: The requests.
        max_batch: As of the :class:`Scheduler`.
        max_wait: Likewise.
    """

    def __init__(self, engine: Engine[A], backlog: Backlog[A], *, max_batch: int, max_wait: float) -> None:
        super().__init__(name="offramp-router", daemon=True)
        self._backlog = backlog
        self._engine = engine
        self._scheduler = Scheduler(engine, max_batch=max_batch, max_wait=max_wait)
        _workers.add(self)

    def put(self, request: Request[A], block: bool) -> None:
        """Take a request; a call from the worker's own thread, in a callback, does not wait for room.

        Raises:
            queue.Full: There is no room, and it is not to wait.
            Closed: No more requests are taken.
            Forked: The thread is in another process.
        """
        if not self.is_alive() and not self._backlog.closed:
            raise Forked
        self._backlog.put(request, block=block and threading.current_thread() is not self)

    def run(self) -> None:
        """Answer requests until the backlog is closed and all are answered."""
        try:
            with self._engine.context():
                while self._go_on():
                    pass
        except BaseException as error:
            self._backlog.close()
            self._backlog.fail(error)
            raise

    def _go_on(self) -> bool:
        arrived = self._backlog.take(wait=self._scheduler.idle)
        if arrived is None:
            return False
        self._scheduler.admit(arrived)
        self._scheduler.turn()
        return True

    def close(self, *, cancel: bool = False) -> None:
        """Answer or cancel what waits, and end the thread."""
        if not self.is_alive():
            return
        self._backlog.close()
        if cancel:
            self._backlog.cancel()
        if threading.current_thread() is not self:
            self.join()


_workers: weakref.WeakSet[Worker[Any]] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """End the threads of routers that were not closed before the interpreter goes."""
    for worker in [*_workers]:
        worker.close()

"""The thread that runs a net on requests."""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from typing import Any

import torch

from offramp.errors import UserError
from offramp.exits._backlog import Backlog
from offramp.exits._inference import InferenceNet
from offramp.exits._request import Request
from offramp.exits._scheduler import Scheduler

__all__ = ["Worker"]


class Worker(threading.Thread):
    """Runs a net on the requests of a backlog, under the autocast that it was made under.

    It ends once the backlog is closed and all requests are answered, and before the interpreter does.

    Args:
        net: The net.
        backlog: The requests.
        max_batch: As of the :class:`~offramp.exits._scheduler.Scheduler`.
        max_wait: Likewise.
    """

    def __init__(self, net: InferenceNet, backlog: Backlog, *, max_batch: int, max_wait: float) -> None:
        super().__init__(name="offramp-router", daemon=True)
        self._backlog = backlog
        self._scheduler = Scheduler(net, max_batch=max_batch, max_wait=max_wait)
        kind = net.device.type
        self._autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        _workers.add(self)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """What the net runs under: autocast belongs to a thread, and is taken over from the maker's."""
        return torch.autocast(*self._autocast)

    def put(self, request: Request, block: bool) -> None:
        """Take a request; the thread itself, in a callback, does not wait for room that it would make."""
        if not self.is_alive() and not self._backlog.closed:
            raise UserError(
                "the router's thread is not in this process, which was forked; make the router after the fork"
            )
        self._backlog.put(request, block=block and threading.current_thread() is not self)

    def run(self) -> None:
        """Answer requests until the backlog is closed and all are answered."""
        try:
            with self.autocast(), torch.inference_mode():
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


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """End the threads of routers that were not closed before the interpreter goes."""
    for worker in [*_workers]:
        worker.close()

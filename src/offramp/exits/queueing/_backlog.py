"""The requests that wait for an answer, of which there is room for a bounded number."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from concurrent.futures import Future, InvalidStateError
from typing import Generic

from ._request import A, PendingAnswer, Request

__all__ = ["Backlog", "Closed"]


class Closed(Exception):
    """No more requests are taken."""


class Backlog(Generic[A]):
    """Takes requests from many threads and gives them to one.

    A request takes its room until its future is done, however that comes about.

    Args:
        capacity: How many requests may wait for an answer at a time.

    Attributes:
        closed: Whether it takes no more requests.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # Reentrant: the garbage collector may close the backlog in the midst of a call of ours.
        lock = threading.RLock()
        self._arrival, self._room = threading.Condition(lock), threading.Condition(lock)
        self._arrived: list[Request[A]] = []
        self._waiting: set[PendingAnswer[A]] = set()
        self.closed = False

    def put(self, request: Request[A], *, block: bool) -> None:
        """Take a request.

        Args:
            request: The request; while it waits for room its time runs.
            block: Wait for room.

        Raises:
            queue.Full: There is no room, and it is not to wait.
            Closed: The backlog is closed.
        """
        with self._room:
            if block:
                left = min(request.deadline - time.monotonic(), threading.TIMEOUT_MAX)
                self._room.wait_for(lambda: self.closed or self._has_room, left)
            if self.closed:
                raise Closed
            if not self._has_room:
                if block:
                    return request.expire()
                raise queue.Full(f"{self._capacity} requests wait for an answer already")
            self._waiting.add(request.future)
            request.future.add_done_callback(self._make_room)
            self._arrived.append(request)
            self._arrival.notify()

    @property
    def waiting(self) -> int:
        """How many requests wait for an answer."""
        return len(self._waiting)

    @property
    def _has_room(self) -> bool:
        return len(self._waiting) < self._capacity

    def _make_room(self, future: Future[A]) -> None:
        with self._room:
            self._waiting.discard(future)
            self._room.notify()

    def take(self, *, wait: bool) -> list[Request[A]] | None:
        """The requests that have come since the last call, in order.

        Args:
            wait: Wait for one if there is none.

        Returns:
            They; None, if it was to wait, once the backlog is closed and empty.
        """
        with self._arrival:
            if wait:
                self._arrival.wait_for(lambda: self._arrived or self.closed)
            arrived, self._arrived = self._arrived, []
            return None if wait and not arrived else arrived

    def close(self) -> None:
        """Take no more requests."""
        with self._room:
            self.closed = True
            self._arrival.notify_all()
            self._room.notify_all()

    def cancel(self) -> None:
        """Cancel all requests that wait."""
        for future in self._snapshot():
            future.cancel()

    def fail(self, error: BaseException) -> None:
        """Give all requests that wait an error."""
        for future in self._snapshot():
            with contextlib.suppress(InvalidStateError):  # one that was cancelled meanwhile
                future.set_exception(error)

    def _snapshot(self) -> list[PendingAnswer[A]]:
        with self._room:
            return [*self._waiting]

"""A request: one sample on its way through a net, and the future that its answer goes to."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["A", "Kind", "PendingAnswer", "Request"]

A = TypeVar("A")  # an answer


class Kind:
    """What samples have in common that can be stacked: an object for each combination of shapes and dtypes.

    Args:
        form: How the arrays of the input are held, if the engine has a use for it.
        counted: Whether the samples are of the size for which the net's operations are counted.
    """

    def __init__(self, form: Any = None, *, counted: bool = True) -> None:
        self.form, self.counted = form, counted


class PendingAnswer(Future[A]):
    """The future of an answer; it can be cancelled until the answer is there.

    It holds no array, so that who keeps it keeps no features alive.

    Attributes:
        settled: Whether an answer, an error or a cancellation is there; unlike ``done()`` it takes no lock.
    """

    settled = False

    def __init__(self) -> None:
        super().__init__()
        self.add_done_callback(_settle)

    def add_done_callback(self, fn: Callable[[Future[A]], object]) -> None:
        """Call a function with the future once that is done; its errors, SystemExit too, are logged."""
        super().add_done_callback(partial(_call, fn))


def _call(callback: Callable[[Future[A]], object], future: Future[A]) -> None:
    """Call it, and let nothing out but what the future logs: SystemExit would end the worker's thread."""
    try:
        callback(future)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"a callback of a request raised {error!r}") from error


def _settle(future: Future[A]) -> None:
    assert isinstance(future, PendingAnswer)
    future.settled = True
    if future.cancelled():
        future.set_running_or_notify_cancel()  # or concurrent.futures.wait would not count it as done


@dataclass(eq=False, slots=True)
class Request(Generic[A]):
    """One sample and what was asked for it.

    Attributes:
        inputs: The arrays of the input, without a batch axis.
        kind: What it can be stacked with.
        last: The place, from 0, of the step behind which it leaves in any case.
        threshold: Its own, in place of the policy's; None: the policy's.
        timeout: Seconds from the call on after which it is given up.
        deadline: When that is, by the clock of the scheduler.
        future: Where the answer goes.
        flow: What it and others carry from the last step to the next, as the engine gave it; None before the
            first.
        row: Its row there.
        since: Since when it waits for its next step.
    """

    inputs: list[Any]
    kind: Kind
    last: int
    threshold: float | None = None
    timeout: float = math.inf
    deadline: float = math.inf
    future: PendingAnswer[A] = field(default_factory=PendingAnswer)
    flow: Any = None
    row: int = 0
    since: float = 0.0

    def gone(self, now: float) -> bool:
        """Whether nobody waits for the answer any more; a request whose time is over gets its error here."""
        if now >= self.deadline and not self.future.settled:
            self.expire()
        if self.future.settled:
            self._release()
        return self.future.settled

    def expire(self) -> None:
        """Say that the time is over."""
        self.fail(TimeoutError(f"no answer within {self.timeout:g} seconds"))

    def answer(self, answer: A) -> None:
        """Give the answer, unless the request has been cancelled."""
        self._release()
        try:
            self.future.set_result(answer)
        except InvalidStateError:
            assert self.future.cancelled()

    def fail(self, error: BaseException) -> None:
        """Give an error in place of the answer, unless the request has been cancelled."""
        self._release()
        traceback.clear_frames(error.__traceback__)
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            assert self.future.cancelled()

    def _release(self) -> None:
        """Let go of all arrays, since a traceback may hold the request for long."""
        self.inputs, self.flow = [], None

"""Which requests run together next: batches that are filled up anew before every step of a net."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple

from ._engine import Engine
from ._request import A, Kind, Request

__all__ = ["Scheduler"]


class _Place(NamedTuple):
    """Where requests wait: before which step, from 0, and of which kind they are."""

    step: int
    kind: Kind


class Scheduler(Generic[A]):
    """Runs a net on requests, one step of one batch at a time (dynamic rebatching).

    Before every step there is a buffer of requests for each kind of input; those that leave at an exit make
    room for others that wait there, as in DREX (Liu et al., arXiv 2512.15705).

    It is not safe for threads; it has none, and reads no clock but the one that it was given.

    Args:
        engine: What runs the net.
        max_batch: How many samples run together at most.
        max_wait: How many seconds a request waits at most while full batches go first.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        engine: Engine[A],
        *,
        max_batch: int,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._max_batch, self._max_wait = max_batch, max_wait
        self._clock = clock
        self._buffers: dict[_Place, list[Request[A]]] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is left to run."""
        return not self._buffers

    def admit(self, requests: Iterable[Request[A]]) -> None:
        """Let requests wait before the first step."""
        now = self._clock()
        for request in requests:
            request.since = now
            self._buffers.setdefault(_Place(0, request.kind), []).append(request)

    def turn(self) -> None:
        """Drop requests that were cancelled or are too late, then run one step on one batch of the others.

        A request that raises raises alone: the others of its batch run again without it.
        """
        now = self._clock()
        self._drop(now)
        if self._buffers:
            place = self._next(now)
            buffer = self._buffers.pop(place)
            if later := buffer[self._max_batch :]:
                self._buffers[place] = later
            self._run(place, buffer[: self._max_batch])

    def _drop(self, now: float) -> None:
        for place, buffer in [*self._buffers.items()]:
            staying = [request for request in buffer if not request.gone(now)]
            if staying:
                self._buffers[place] = staying
            else:
                del self._buffers[place]

    def _next(self, now: float) -> _Place:
        """The deepest buffer; where some are full, the deepest of these and of those that waited too long.

        So the first to finish go first while there is room, and under load all batches are full. Nobody
        starves: a deeper buffer fills only when a shallower one runs.
        """
        places = [*self._buffers]
        if any(len(buffer) >= self._max_batch for buffer in self._buffers.values()):
            places = [place for place, buffer in self._buffers.items() if self._ready(buffer, now)]
        return max(places, key=lambda place: (place.step, -self._buffers[place][0].since))

    def _ready(self, buffer: list[Request[A]], now: float) -> bool:
        return len(buffer) >= self._max_batch or now - buffer[0].since >= self._max_wait

    def _run(self, place: _Place, requests: list[Request[A]], *, anew: bool = False) -> None:
        try:
            passed = self._engine.run(place.step, requests, anew=anew)
        except BaseException as error:
            # As thread pools do: what a net raises, SystemExit too, belongs to the future, not to the thread.
            if len(requests) == 1:
                return requests[0].fail(error)
        else:
            self._pass_on(place, [requests[row] for row in passed.staying], passed.flow)
            return self._answer(requests, passed.answers)
        half = len(requests) // 2
        for part in (requests[:half], requests[half:]):
            now = self._clock()
            if left := [request for request in part if not request.gone(now)]:
                self._run(place, left, anew=True)

    def _pass_on(self, place: _Place, requests: Sequence[Request[A]], flow: Any) -> None:
        """Let requests wait before the next step."""
        now = self._clock()
        for row, request in enumerate(requests):
            request.flow, request.row, request.since = flow, row, now
        if requests:
            self._buffers.setdefault(place._replace(step=place.step + 1), []).extend(requests)

    def _answer(self, requests: Sequence[Request[A]], answers: Sequence[A | Exception | None]) -> None:
        """Answer those that leave."""
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Exception):
                request.fail(answer)
            elif answer is not None:
                request.answer(answer)

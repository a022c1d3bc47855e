"""What the server has done, in the text format that Prometheus reads (version 0.0.4)."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Measured", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds


class Metrics:
    """Counts of one server; for one thread, that of the event loop.

    Args:
        exits: The numbers of the exits at which samples may leave.
        queue: Tells how many requests wait for their answer.

    Attributes:
        exits: How many samples left at each exit.
        responses: How many responses there were by path and status.
        rejected: How many requests were turned away, by what there was no room for.
        dropped: How many connections were ended, by the reason.
    """

    def __init__(self, exits: Iterable[int], queue: Callable[[], int]) -> None:
        self.exits = Counter(dict.fromkeys(exits, 0))
        self.responses: Counter[tuple[str, int]] = Counter()
        self.rejected = Counter(queue=0, bodies=0)
        self.dropped = Counter(slow=0, unread=0, crowded=0, malformed=0)
        self._queue = queue
        self._latencies = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def latency(self, seconds: float) -> None:
        """Note how long a prediction took, from the request's head to the answer."""
        self._latencies[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def text(self) -> str:
        """All figures, as Prometheus reads them."""
        return "".join(line + "\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _counts("exits", "Samples that left, by exit.", "exit", self.exits)
        yield from _header("offramp_responses_total", "counter", "Responses, by path and status.")
        for (path, code), count in self.responses.items():
            yield f'offramp_responses_total{{path="{path}",code="{code}"}} {count}'
        yield from _header("offramp_errors_total", "counter", "Responses of which the server is the cause.")
        yield f"offramp_errors_total {sum(n for (_, code), n in self.responses.items() if code >= 500)}"
        yield from _counts("rejected", "Requests without room, by what was full.", "reason", self.rejected)
        yield from _counts("dropped", "Connections that the server ended.", "reason", self.dropped)
        yield from _header("offramp_queue_length", "gauge", "Requests that wait for an answer.")
        yield f"offramp_queue_length {self._queue()}"
        name = "offramp_latency_seconds"
        yield from _header(name, "histogram", "Seconds from a prediction's request to its answer.")
        for edge, count in zip((*map(str, BUCKETS), "+Inf"), accumulate(self._latencies), strict=True):
            yield f'{name}_bucket{{le="{edge}"}} {count}'
        yield f"{name}_sum {self._seconds}"
        yield f"{name}_count {sum(self._latencies)}"


def _header(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"


def _counts(what: str, words: str, label: str, counts: Mapping[Any, int]) -> Iterator[str]:
    name = f"offramp_{what}_total"
    yield from _header(name, "counter", words)
    for value, count in counts.items():
        yield f'{name}{{{label}="{value}"}} {count}'


class Measured:
    """An ASGI application around another one that counts its responses.

    Args:
        app: The other one.
        metrics: Where they are counted.
        paths: The paths that are counted by name; all others are "other", so that no client makes up names.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Iterable[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note the status of what comes back; an exception will become a 500."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.monotonic(), 500

        async def note(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.responses[path, status] += 1
            if path == "/predict" and status == 200:
                self._metrics.latency(time.monotonic() - began)

"""Connections that wait for no client for ever: not for its request, and not for it to read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection"]


class Connection(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with an end to its patience.

    A client has a bounded time to send a request, from its first byte (of the connection's first request:
    from the connection) to its last, and is told when that is over. It has as long to read, whenever what is
    written to it piles up.

    Args:
        patience: Seconds for either.
        most: How many connections there may be; further ones are refused.
        stopping: Tells whether the server is to stop, and takes no more connections.
    """

    def __init__(
        self, *args: Any, patience: float, most: int, stopping: Callable[[], bool], **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self._patience, self._most, self._stopping = patience, most, stopping
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: tuple[Callable[[], None] | None, int] = (None, 0)  # what happens when it runs out
        self._heads, self._latest = 0, self.cycle  # how many requests have begun to be answered, and the last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the client's time."""
        super().connection_made(transport)
        if self._stopping():
            transport.close()
        elif len(self.connections) > self._most:
            self._note("crowded")
            self._refuse(503, "too many connections; try again in a second")
        self._watch(fresh=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the client's time."""
        super().connection_lost(exc)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the connection is at its end."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def eof_received(self) -> None:
        """Tell a client that ends in the midst of a request; the connection ends then."""
        if self._in_request:
            self.send_400_response("the request is cut off")

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; behind a response that has begun, which it would spoil, just end."""
        self._note("malformed")
        self._refuse(400, msg)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection."""
        super().timeout_keep_alive_handler()
        self._watch()

    def shutdown(self) -> None:
        """End the connection once it has answered."""
        super().shutdown()
        self._watch()

    def pause_writing(self) -> None:
        """Start the time to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """End the time to read."""
        super().resume_writing()
        self._watch()

    def _watch(self, *, fresh: bool = False) -> None:
        """See what the client has to do next, and give it its time for that."""
        if self.cycle is not self._latest:
            self._heads, self._latest = self._heads + 1, self.cycle
        if self not in self.connections:  # it is lost; a response may be complete behind that
            self._wait_for(None)
        elif self.transport.is_closing() or self.flow.write_paused:
            self._wait_for(self._give_up)
        elif self._in_request or fresh:
            self._wait_for(self._too_slow, self._heads + (self.conn.their_state is h11.IDLE))
        else:
            self._wait_for(None)

    @property
    def _in_request(self) -> bool:
        """Whether a part of a request is there, and a part not yet."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def _wait_for(self, late: Callable[[], None] | None, request: int = 0) -> None:
        """Call it when the client's time is over; what goes on for a request already goes on."""
        if (late, request) == self._awaited:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._awaited = late, request
        self._timer = self.loop.call_later(self._patience, late) if late else None

    def _too_slow(self) -> None:
        self._note("slow")
        if self._in_request:
            self._refuse(408, f"the request took more than {self._patience:g} seconds")
        self.transport.close()
        self._watch()

    def _give_up(self) -> None:
        self._note("unread")
        self.transport.abort()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer in the application's place and end the connection, which the application learns."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": reason}).encode()
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            head = h11.Response(status_code=status, headers=[*headers, ("connection", "close")])
            for_head = self.conn.our_state is h11.SEND_RESPONSE and self.cycle.scope["method"] == "HEAD"
            for event in (head, h11.Data(data=b"" if for_head else body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _note(self, reason: str) -> None:
        if (metrics := self.app_state.get("metrics")) is not None:
            metrics.dropped[reason] += 1

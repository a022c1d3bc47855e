"""What bounds the server's memory: bytes of bodies that are being read, and requests that wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

__all__ = ["Bodies", "Places", "too_many"]


def too_many(what: str) -> HTTPException:
    """The refusal of a request for which there is no room now."""
    return HTTPException(429, f"{what}; try again in a second", {"Retry-After": "1"})


class Places:
    """A bounded number of places for requests that wait for their answer.

    Args:
        capacity: How many there are.
        rejected: Where requests are counted that found none, under ``queue``.

    Attributes:
        taken: How many are taken.
    """

    def __init__(self, capacity: int, rejected: Counter[str]) -> None:
        self._capacity, self._rejected = capacity, rejected
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            HTTPException: 429, all are taken.
        """
        if self.taken >= self._capacity:
            self._rejected["queue"] += 1
            raise too_many(f"{self._capacity} requests wait for an answer already")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Bodies:
    """Reads the bodies of requests, of which a bounded number of bytes is held at a time.

    Bytes count as they come, so a client that announces much and sends little takes room from nobody.

    Args:
        largest: Bytes of one body at most.
        together: Bytes of all bodies at most.
        rejected: Where requests are counted that found no room, under ``bodies``.

    Attributes:
        held: The bytes that are held now.
    """

    def __init__(self, largest: int, together: int, rejected: Counter[str]) -> None:
        self._largest, self._together, self._rejected = largest, together, rejected
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """Hold the body of a request.

        Raises:
            HTTPException: 413, it is too large; 429, those of others take all the room; 499, the client went
                away before its end.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > self._largest:
            raise self._too_large()
        body = bytearray()
        try:
            try:
                async for piece in request.stream():
                    self._take(body, piece)
            except ClientDisconnect:
                raise HTTPException(499, "the client went away") from None
            yield body
        finally:
            self.held -= len(body)

    def _take(self, body: bytearray, piece: bytes) -> None:
        if len(body) + len(piece) > self._largest:
            raise self._too_large()
        if self.held + len(piece) > self._together:
            self._rejected["bodies"] += 1
            raise too_many("too many large requests at a time")
        body += piece
        self.held += len(piece)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"a request may have {self._largest} bytes")

"""A small asynchronous HTTP client: one connection that is kept, as light as a load of thousands needs it."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HttpClient"]


class HttpClient:
    """One client of a server.

    Args:
        url: The server's.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, kind: str = "image/png") -> tuple[int, Any]:
        """Send a body; the status and the JSON of the response.

        Raises:
            OSError: The connection ended before the response did (also as ``EOFError``), or there is none.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\n"
        length = f"Content-Length: {len(body)}\r\n\r\n"
        if self._streams is None or self._streams[0].at_eof():  # an idle connection that the server ended
            self._streams = await asyncio.open_connection(self._address.hostname, self._address.port)
        reader, writer = self._streams
        writer.write((head + length).encode() + body)
        await writer.drain()
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in fields if line)
        told = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(status.split()[1]), json.loads(told)

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

"""A server in a thread of the test's own process, and clients that speak to it byte by byte."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from offramp_runtime.server import Server
from PIL import Image

PATIENCE = 60  # seconds, of the tests' own clients, for a machine that is busy with other tests


@contextmanager
def running(model: Any, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server that runs until the end of the block."""
    server = Server(model, port=0, **settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            yield client
    finally:
        server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"


def png(image: np.ndarray) -> bytes:
    """The PNG file of an image ``[3, H, W]``."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def connect(client: httpx.Client, *, buffer: int | None = None) -> socket.socket:
    """A plain connection to the client's server, with a small buffer for what it does not read."""
    url = urlsplit(str(client.base_url))
    plain = socket.socket()
    plain.settimeout(PATIENCE)
    if buffer is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    plain.connect((url.hostname, url.port))
    return plain


def head(path: str, length: int | None = None, kind: str = "image/png", method: str = "POST") -> bytes:
    """The head of a request with a body of so many bytes."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Type: {kind}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def everything(plain: socket.socket) -> bytes:
    """All bytes until the server ends the connection."""
    parts = []
    try:
        while part := plain.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def one_response(plain: socket.socket) -> tuple[int, Any]:
    """The status and the JSON of the next response."""
    file = plain.makefile("rb")
    status = int(file.readline().split()[1])
    length = 0
    while (line := file.readline().strip()) != b"":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    body = file.read(length)
    return status, json.loads(body) if body.startswith(b"{") else body


def metric(client: httpx.Client, line: str) -> float:
    """The value of one line of the metrics."""
    (found,) = [each for each in client.get("/metrics").text.splitlines() if each.rpartition(" ")[0] == line]
    return float(found.rpartition(" ")[2])


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)

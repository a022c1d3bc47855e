"""Send a server spoilt requests, and see that it serves the others.

Each input is a request that was right once: its bytes are flipped, cut, doubled and moved, its JSON holds
junk, its image is damaged, it comes in pieces or ends half way. Beside them, others send whole requests. The
server must answer each of those rightly, the spoilt ones with an error of the client's or not at all, log no
failure, and end with nothing in its queue.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import offramp_runtime
from _http_client import HttpClient
from running import head, png, running
from tiny_bundles import SIZE, ImageNet, write_bundle

TOGETHER = 128  # connections at a time
LONG = 0.5  # seconds that a client waits for the response to what may be no whole request, before it ends it
WHOLE = 8  # one of so many inputs is whole
ALLOWED = {200, 204, 400, 404, 405, 408, 413, 415, 429, 503, 504}
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
JUNK = [None, True, False, 0, -1, 0.5, 1e308, 10**400, "", "0.5", "A" * 50, "\ud800", [], [[]], [1, [2]], {},
        {"images": [1]}, [None], ["a"], [256], [[[0] * SIZE] * SIZE] * 3,
        [[[0.5] * SIZE] * SIZE] * 3]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "CONNECT", "TRACE", "get", "P\x00ST"]
PATHS = [
    "/",
    "/predict",
    "/walk",
    "/model",
    "/healthz",
    "/metrics",
    "/predict/",
    "//",
    "*",
    "/%00",
    "http://a/",
]


def spoilt(draw: random.Random) -> bytes:
    """One input."""
    kind = draw.choice([_junk_json, _bad_image, _other_head, _whole_json])
    request = kind(draw)
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        request = _mutated(draw, request)
    return request


def _mutated(draw: random.Random, data: bytes) -> bytes:
    at, other = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    change = draw.randrange(6)
    if change == 0:
        return data[:at]
    if change == 1:
        return data[:at] + data[other:]
    if change == 2:
        return data[:at] + draw.randbytes(draw.randrange(1, 20)) + data[at:]
    if change == 3:
        return data[:other] + data[at:]
    if change == 4:
        return data[:at] + draw.choice([b"\r\n", b"\r\n\r\n", b": ", b"\0", b",", b"["]) + data[at:]
    flipped = bytearray(data or b"x")
    flipped[min(at, len(flipped) - 1)] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def _image(draw: random.Random) -> bytes:
    height, width = draw.randrange(1, 12), draw.randrange(1, 12)
    return png(np.frombuffer(draw.randbytes(3 * height * width), np.uint8).reshape(3, height, width))


def _bad_image(draw: random.Random) -> bytes:
    body = _image(draw)
    for _ in range(draw.randrange(4)):
        body = _mutated(draw, body)
    kind = draw.choice(["image/png", "image/jpeg", "application/octet-stream", "image/x\t"])
    return head(draw.choice(["/predict", "/walk"]), len(body), kind) + body


def _json(fields: Any) -> bytes:
    body = json.dumps(fields).encode()
    return head("/predict", len(body), "application/json") + body


def _whole_json(draw: random.Random) -> bytes:
    return _json({"image": base64.b64encode(_image(draw)).decode(), "threshold": draw.random()})


def _junk_json(draw: random.Random) -> bytes:
    names = ["image", "input", "threshold", "budget", "timeout", "probabilities", "what"]
    fields = {name: draw.choice(JUNK) for name in draw.sample(names, draw.randrange(4))}
    return _json(draw.choice([fields, fields, draw.choice(JUNK), [fields]]))


def _other_head(draw: random.Random) -> bytes:
    lengths = ["5", "0", "-1", "99999999999999999999", "1e3", "5, 5", ""]
    lines = [f"{draw.choice(METHODS)} {draw.choice(PATHS)} HTTP/{draw.choice(['1.1', '1.0', '2.0', '0.9'])}"]
    lines += draw.sample(
        ["Host: a", "Connection: close", "Connection: upgrade", "Upgrade: websocket", "Expect: 100-continue",
         "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Encoding: gzip",
         "Cookie: " + "a" * 5000,
         "Content-Type: application/json", f"Content-Length: {draw.choice(lengths)}"],
        draw.randrange(8),
    )  # fmt: skip
    body = draw.choice([b"", b"5\r\nabcde\r\n0\r\n\r\n", b"hello", b"{}"])
    return "\r\n".join([*lines, "", ""]).encode() + body


class Fuzz:
    """Sends inputs and judges what comes back.

    Args:
        url: The server's.
        known: Whole images, each with the prediction and the exit that are right for it.
        seed: Of the inputs.
    """

    def __init__(self, url: str, known: list[tuple[bytes, int, int]], seed: int) -> None:
        self._url, self._known, self._draw = url, known, random.Random(seed)
        self._address = httpx.URL(url)
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []

    async def run(self, inputs: int) -> None:
        """Send so many inputs, some of them whole, many at a time."""
        left = iter(range(inputs))

        async def work() -> None:
            for number in left:
                await (self._whole() if number % WHOLE == 0 else self._spoilt())

        await asyncio.gather(*(work() for _ in range(TOGETHER)))

    async def _whole(self) -> None:
        image, *wanted = self._draw.choice(self._known)
        client = HttpClient(self._url)
        status, answer = await client.post("/predict", image)
        client.close()
        if status != 200 or [answer["prediction"], answer["exit"]] != wanted:
            self.faults.append(f"a whole request got {status} {answer}, not {wanted}")

    async def _spoilt(self) -> None:
        request, pieces = spoilt(self._draw), self._draw.choice([1, 1, 1, 3])
        stays = self._draw.choice([0, LONG, LONG, LONG])
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        try:
            size = -(-len(request) // pieces) or 1
            for start in range(0, len(request), size):
                writer.write(request[start : start + size])
                await writer.drain()
            if stays:
                self._judge(request, await self._response(reader, writer, stays))
        except ConnectionError:  # it was refused before it had come
            self.statuses[0] += 1
        finally:
            writer.close()

    async def _response(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
    ) -> bytes:
        try:
            return await asyncio.wait_for(reader.read(65536), seconds)
        except asyncio.TimeoutError:  # it is no whole request, and is told so, or takes long, and is given up
            writer.write_eof()
            return await reader.read(65536)

    def _judge(self, request: bytes, response: bytes) -> None:
        found = STATUS.match(response)
        status = int(found[1]) if found else 0
        self.statuses[status] += 1
        if (response and not found) or (status and status not in ALLOWED and status != 100):
            self.faults.append(f"{request!r} got {response[:200]!r}")


def fuzz(inputs: int, seed: int, folder: Path) -> Counter[int]:
    """Start a server, send it so many inputs, and see that all is well.

    Args:
        inputs: How many.
        seed: Of the inputs.
        folder: Where a bundle is written.

    Returns:
        How many responses of each status spoilt requests got, 0 for none at all.

    Raises:
        AssertionError: Something is not.
    """
    log: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: log.append(handler.format(record))  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        model = offramp_runtime.load(write_bundle(folder, ImageNet()), threads=1)
        known = _known(model)
        with running(model, max_body=100_000) as client:
            run = Fuzz(str(client.base_url), known, seed)
            asyncio.run(run.run(inputs))
            assert not run.faults, run.faults[:3]
            assert client.get("/healthz").status_code == 200
            assert "offramp_queue_length 0" in client.get("/metrics").text.splitlines()
    finally:
        logging.getLogger().removeHandler(handler)
    assert not log, "\n".join(log[:3])
    return run.statuses


def _known(model: offramp_runtime.Model) -> list[tuple[bytes, int, int]]:
    """Images that leave at every exit, and where they do."""
    draw = random.Random(0)
    files = [_image(draw) for _ in range(64)]
    answer = model.predict(np.stack([model.image_of(file) for file in files]))
    assert {*answer.exit} == {1, 2, 3}
    return [*zip(files, answer.prediction.tolist(), answer.exit.tolist(), strict=True)]

"""What the paths of the application do: one model, one stream of requests into it."""

from __future__ import annotations

import asyncio
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from offramp_runtime import InputError, Model, SampleAnswer, StreamClosed
from offramp_runtime._errors import shown
from offramp_runtime._fields import is_whole
from offramp_runtime.server._admission import Bodies, Places, too_many
from offramp_runtime.server._asked import Asked, read
from offramp_runtime.server._metrics import Metrics
from offramp_runtime.server._walk import told, walk

__all__ = ["Service"]

BODIES = 16  # how many of the largest bodies there is room for
READERS = min(8, max(2, os.cpu_count() or 1))  # threads that decode bodies
SMALL = 2**24  # pixels of an image, that of any telephone; larger ones are decoded one at a time
WALKS = 16  # that wait at a time
T = TypeVar("T")


class Service:
    """Answers requests for a model; a context manager that has answered all when it ends.

    Args:
        model: The model.
        max_batch: As of :func:`~offramp_runtime.server.app`, as are the others.
        max_wait: Likewise.
        capacity: Likewise.
        max_body: Likewise.

    Attributes:
        metrics: What has been done.
    """

    def __init__(
        self, model: Model, *, max_batch: int, max_wait: float, capacity: int, max_body: int
    ) -> None:
        if not is_whole(max_body):
            raise InputError(f"max_body is {shown(max_body)}, must be a whole number of bytes, at least 1")
        self._model = model
        self._open = partial(model.stream, max_batch=max_batch, max_wait=max_wait, capacity=capacity)
        self._open().close()  # settings out of their range are refused here, and graphs are loaded
        exits = [each.exit for each in model.exits]
        self.metrics = Metrics(exits, lambda: self._queue.taken)
        self._queue = Places(capacity, self.metrics.rejected)
        self._walks = Places(WALKS, self.metrics.rejected)
        self._bodies = Bodies(max_body, BODIES * max_body, self.metrics.rejected)

    def __enter__(self) -> None:
        self._stack = ExitStack()
        self._stream = self._stack.enter_context(self._open())
        self._readers = self._stack.enter_context(ThreadPoolExecutor(READERS, "offramp-reader"))
        self._large = self._stack.enter_context(ThreadPoolExecutor(1, "offramp-large-images"))
        self._walker = self._stack.enter_context(ThreadPoolExecutor(1, "offramp-walker"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def predict(self, request: Request) -> Response:
        """Answer for one sample, through the stream."""
        began = time.monotonic()
        with ExitStack() as held:
            asked = await self._asked(request, self._queue, held)
            future = self._submit(asked, began)
            answer = await _result(request, future, asked)
        self.metrics.exits[answer.exit] += 1
        fields = told(self._model, answer)
        if asked.probabilities:
            fields["probabilities"] = answer.probabilities.tolist()
        return JSONResponse(fields)

    async def walk(self, request: Request) -> Response:
        """Answer for one sample, with what every exit on its way says."""
        with ExitStack() as held:
            asked = await self._asked(request, self._walks, held)
            return JSONResponse(await _in_thread(self._walker, partial(walk, self._model, asked)))

    async def model_card(self, request: Request) -> Response:
        """What the model reads, and what it says."""
        model = self._model
        return JSONResponse(
            {
                "classes": model.classes,
                "inputs": [{"name": i.name, "dtype": i.dtype, "shape": i.shape} for i in model.inputs],
                "image": model.image and model.image._asdict(),
                "exits": [{"exit": each.exit, "cost": each.cost} for each in model.exits],
            }
        )

    async def health(self, request: Request) -> Response:
        """Whether requests are answered."""
        if self._stream.closed:  # its thread is at its end
            raise HTTPException(503, "the model runs no more; start the server anew")
        return JSONResponse({"status": "ok"})

    async def _asked(self, request: Request, places: Places, held: ExitStack) -> Asked:
        """What a request asks; it holds a place from then on, and no longer its body."""
        async with self._bodies.read(request) as body:
            held.enter_context(places.one())
            query = request.query_params.multi_items()
            asked = partial(read, self._model, request.headers, query, body)
            try:
                return await _in_thread(self._readers, partial(asked, max_pixels=SMALL))
            except InputError:  # the image is too large to let others wait for it, or bad
                return await _in_thread(self._large, asked)

    def _submit(self, asked: Asked, began: float) -> Future[SampleAnswer]:
        timeout = asked.timeout
        if timeout is not None and timeout > 0:
            timeout -= time.monotonic() - began
            if timeout <= 0:
                raise _late(asked)
        try:
            return self._stream.submit(
                asked.sample, threshold=asked.threshold, budget=asked.budget, timeout=timeout, block=False
            )
        except queue.Full as error:
            raise too_many(str(error)) from None
        except StreamClosed:
            raise HTTPException(503, "the server is at its end") from None


async def _result(request: Request, future: Future[SampleAnswer], asked: Asked) -> SampleAnswer:
    """The answer, unless the client goes away; then nothing more is computed for it."""
    answer, gone = asyncio.wrap_future(future), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the client went away")
        return answer.result()
    except (asyncio.TimeoutError, TimeoutError):
        raise _late(asked) from None
    finally:
        answer.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Wait until the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _late(asked: Asked) -> HTTPException:
    return HTTPException(504, f"no answer within {asked.timeout:g} seconds")


async def _in_thread(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)

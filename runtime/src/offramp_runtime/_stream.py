"""Single samples that come at any time, run in batches that are filled up behind every exit."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import numpy as np

from offramp_runtime._answers import SampleAnswer
from offramp_runtime._engine import OnnxEngine
from offramp_runtime._errors import InputError, StreamClosed, shown
from offramp_runtime._fields import is_number, is_whole
from offramp_runtime._inputs import sample_of
from offramp_runtime._manifest import Input
from offramp_runtime._queueing import Backlog, Closed, Forked, Kind, Request, Worker
from offramp_runtime._stages import Stage
from offramp_runtime._thresholds import as_confidence

__all__ = ["Stream"]


class Stream:
    """Runs a model on single samples that come from any number of threads.

    One thread of the stream's own runs the stages. Samples that leave make room in the next stage's batch,
    which samples of other batches take that wait there (dynamic rebatching: DREX, Liu et al.,
    arXiv 2512.15705). What fails, fails alone. :meth:`Model.stream` makes one::

        with model.stream() as stream:
            futures = [stream.submit(image, timeout=0.5) for image in images]
            answers = [future.result() for future in futures]

    Args:
        inputs: What the model reads.
        stages: Its stages.
        max_batch: How many samples run together at most.
        max_wait: How many seconds a sample waits at most, behind each exit, while full batches go before it.
        capacity: How many samples may wait for their answer at a time.

    Raises:
        InputError: A setting out of its range.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        stages: Sequence[Stage],
        *,
        max_batch: int,
        max_wait: float,
        capacity: int,
    ) -> None:
        for name, value in (("max_batch", max_batch), ("capacity", capacity)):
            if not is_whole(value):
                raise InputError(f"{name} is {shown(value)}, must be a whole number of at least 1")
        if not is_number(max_wait) or max_wait < 0:
            raise InputError(f"max_wait is {shown(max_wait)}, must be a number of seconds, 0 or more")
        self._inputs, self._stages = inputs, stages
        # a kind goes with its last request, or a client could fill the memory with shapes
        self._kinds: weakref.WeakValueDictionary[object, Kind] = weakref.WeakValueDictionary()
        self._backlog: Backlog[SampleAnswer] = Backlog(capacity)
        self._worker = Worker(OnnxEngine(stages), self._backlog, max_batch=max_batch, max_wait=max_wait)
        self._worker.start()
        weakref.finalize(self, self._backlog.close)  # the thread ends with the stream

    @property
    def waiting(self) -> int:
        """How many samples wait for their answer."""
        return self._backlog.waiting

    @property
    def closed(self) -> bool:
        """Whether it takes no more samples."""
        return self._backlog.closed

    def submit(
        self,
        x: Any,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        timeout: float | None = None,
        block: bool = True,
    ) -> Future[SampleAnswer]:
        """Hand in one sample.

        The future raises ``TimeoutError`` where there was no answer in time, and ``InputError`` where the
        network cannot run on the sample; ``cancel()`` works until the answer is there. Its callbacks run in
        the stream's thread, and should be quick. With asyncio: ``asyncio.wrap_future(future)``.

        Args:
            x: What the model reads, without the batch axis: an array, or several by name. It is read later,
                so do not write to it.
            threshold: Leave where the confidence reaches this, in place of the policy's thresholds.
            budget: Operations that the sample may take; it leaves at the last exit that they suffice for, if
                not before.
            timeout: Give up after so many seconds. What runs by then runs to the next exit.
            block: Wait while as many samples wait for their answer as may.

        Raises:
            InputError: Not a sample of this model, or an option out of its range.
            queue.Full: There is no room, and it is not to wait (in a callback it never does).
            StreamClosed: The stream is closed, or the process was forked since it was made.
        """
        for name, value in (("threshold", threshold), ("timeout", timeout)):
            if value is not None and not is_number(value):
                raise InputError(f"{name} is {shown(value)}, must be a number; leave it out for none")
        if timeout is not None and timeout <= 0:
            raise InputError(f"timeout is {shown(timeout)}, must be a number of seconds above 0")
        arrays = sample_of(self._inputs, x)
        own = None if threshold is None else as_confidence(threshold)
        request: Request[SampleAnswer] = Request(arrays, self._kind(arrays), self._last(budget), own)
        if timeout is not None:
            request.timeout, request.deadline = timeout, time.monotonic() + float(timeout)
        try:
            self._worker.put(request, block)
        except Forked:
            raise StreamClosed("the process was forked since the stream was made; make one here") from None
        except Closed:
            raise StreamClosed("the stream is closed; make another one") from None
        return request.future

    def close(self, *, cancel: bool = False) -> None:
        """Take no more samples, answer those that wait, and end the stream's thread.

        Args:
            cancel: Cancel those that wait instead.
        """
        self._worker.close(cancel=cancel)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def _kind(self, arrays: Sequence[np.ndarray]) -> Kind:
        """What a sample can be stacked with: those of the same shapes."""
        return self._kinds.setdefault((*(array.shape for array in arrays),), Kind())

    def _last(self, budget: float | None) -> int:
        """The place of the last stage that a budget suffices for."""
        if budget is None:
            return len(self._stages) - 1
        costs = [stage.cost for stage in self._stages if stage.cost is not None]
        if len(costs) < len(self._stages):
            raise InputError("the bundle does not tell what its exits cost; give a threshold, not a budget")
        if not is_number(budget) or float(budget) < costs[0]:
            raise InputError(
                f"budget is {shown(budget)}, must be a number of operations of at least {costs[0]}, the cost "
                f"of exit {self._stages[0].exit}"
            )
        return sum(cost <= float(budget) for cost in costs) - 1

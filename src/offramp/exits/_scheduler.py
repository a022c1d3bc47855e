"""Which requests run together next: batches that are filled up anew before every step of a net."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.exits._inference import InferenceNet, Step
from offramp.exits._request import Kind, Request, SampleAnswer
from offramp.exits._rows import Flow
from offramp.exits.confidence import Reading

__all__ = ["Scheduler"]


class _Place(NamedTuple):
    """Where requests wait: before which step, from 0, and of which kind they are."""

    step: int
    kind: Kind


class _Verdict(NamedTuple):
    """What an exit says about one sample, and whether it leaves there."""

    confidence: float
    prediction: int
    leaves: bool


class Scheduler:
    """Runs a net on requests, one step of one batch at a time (dynamic rebatching).

    Before every step there is a buffer of requests for each kind of input; those that leave at an exit make
    room for others that wait there, as in DREX (Liu et al., arXiv 2512.15705).

    It is not safe for threads; it has none, and reads no clock but the one that it was given.

    Args:
        net: The net.
        max_batch: How many samples run together at most.
        max_wait: How many seconds a request waits at most while full batches go first.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        net: InferenceNet,
        *,
        max_batch: int,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._net, self._steps = net, net.steps
        self._max_batch, self._max_wait = max_batch, max_wait
        self._clock = clock
        self._buffers: dict[_Place, list[Request]] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing is left to run."""
        return not self._buffers

    def admit(self, requests: Iterable[Request]) -> None:
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

    def _ready(self, buffer: list[Request], now: float) -> bool:
        return len(buffer) >= self._max_batch or now - buffer[0].since >= self._max_wait

    def _run(self, place: _Place, requests: list[Request], *, anew: bool = False) -> None:
        try:
            flow, verdicts = self._read(place, requests, anew)
        except BaseException as error:
            # As thread pools do: what a net raises, SystemExit too, belongs to the future, not to the thread.
            if len(requests) == 1:
                return requests[0].fail(error)
        else:
            return self._hand_on(place, requests, flow, verdicts)
        half = len(requests) // 2
        for part in (requests[:half], requests[half:]):
            now = self._clock()
            if staying := [request for request in part if not request.gone(now)]:
                self._run(place, staying, anew=True)

    def _read(self, place: _Place, requests: Sequence[Request], anew: bool) -> tuple[Flow, list[_Verdict]]:
        """Run a step, read the exit that it ends with, and take out those that leave.

        Args:
            place: Before which step the requests wait.
            requests: The requests.
            anew: Start from their inputs: a step that failed may have written to its feature.
        """
        *before, step = self._steps[: place.step + 1]
        if anew or not before:
            flow = self._stack(place.kind, requests)
            for earlier in before:
                flow, _ = earlier.run(flow, len(requests))
        else:
            flow = self._gather(before[-1].batched, requests)
        flow, reading = step.run(flow, len(requests))
        confidence = reading.confidence
        columns = (confidence, reading.prediction, _leaves(step, reading, requests))
        # the one synchronisation with a GPU
        table = torch.stack([column.to(confidence.dtype) for column in columns]).tolist()
        verdicts = [
            _Verdict(confidence, int(prediction), bool(leaves) or place.step >= request.last)
            for request, confidence, prediction, leaves in zip(requests, *table, strict=True)
        ]
        staying = [row for row, verdict in enumerate(verdicts) if not verdict.leaves]
        if 0 < len(staying) < len(requests):
            flow = flow.take(self._rows(staying), step.batched)
        return flow, verdicts

    def _stack(self, kind: Kind, requests: Sequence[Request]) -> Flow:
        columns = zip(*(request.inputs for request in requests), strict=True)
        leaves = [self._moved(torch.stack(column)) for column in columns]
        return self._net.enter(pytree.tree_unflatten(leaves, kind.form), len(requests))

    def _gather(self, batched: Sequence[bool], requests: Sequence[Request]) -> Flow:
        """Lay out the samples of requests, which come from different batches, as one."""
        flows = []
        for _, group in itertools.groupby(requests, key=lambda request: id(request.flow)):
            members = [*group]
            flow = members[0].flow
            assert flow is not None
            if len(members) < flow.samples(batched):
                flow = flow.take(self._rows([member.row for member in members]), batched)
            flows.append(flow)
        return self._net.fill(Flow.join(flows, batched), len(requests), batched)

    def _rows(self, rows: Sequence[int]) -> Tensor:
        return self._moved(torch.tensor(rows))

    def _moved(self, tensor: Tensor) -> Tensor:
        """A Tensor on the net's device, without a wait for that."""
        return tensor.to(self._net.device, non_blocking=True)

    def _hand_on(
        self, place: _Place, requests: Sequence[Request], flow: Flow, verdicts: Sequence[_Verdict]
    ) -> None:
        """Let those that stay, whose flow it is, wait before the next step; answer the others."""
        step, now = self._steps[place.step], self._clock()
        pairs = [*zip(requests, verdicts, strict=True)]
        staying = [request for request, verdict in pairs if not verdict.leaves]
        for row, request in enumerate(staying):
            request.flow, request.row, request.since = flow, row, now
        if staying:
            self._buffers.setdefault(place._replace(step=place.step + 1), []).extend(staying)
        for request, verdict in pairs:
            if verdict.leaves:
                _answer(request, step, verdict)


def _leaves(step: Step, reading: Reading, requests: Sequence[Request]) -> Tensor:
    """Which samples leave by the policy's thresholds or, where they have one, by their own: bool ``[n]``."""
    leaves = step.gate.leaves(reading)
    if all(request.threshold is None for request in requests):
        return leaves
    own = [math.nan if request.threshold is None else request.threshold for request in requests]
    thresholds = reading.confidence.new_tensor(own)
    return torch.where(thresholds.isnan(), leaves, reading.confidence >= thresholds)


def _answer(request: Request, step: Step, verdict: _Verdict) -> None:
    if math.isnan(verdict.confidence):
        request.fail(
            UserError(
                f"the logits of exit {step.gate.exit} are not numbers; "
                "look for NaN or infinity in the input and the weights"
            )
        )
    else:
        request.answer(SampleAnswer(verdict.prediction, step.gate.exit, verdict.confidence, step.cost))

"""The engine that runs a net's steps on batches of requests, in torch."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.exits._inference import InferenceNet, Step
from offramp.exits.confidence import Reading
from offramp.exits.queueing import BatchResult, Request
from offramp.exits.rows import Flow, Rows, stack

__all__ = ["SampleAnswer", "TorchEngine"]


class SampleAnswer(NamedTuple):
    """What a router says about one sample.

    Attributes:
        prediction: The class.
        exit: The number of the exit at which the sample left, from 1.
        confidence: How sure that was, by the policy's confidence.
        cost: The operations that the sample took, in the net's counting convention; None where the net's
            operations are unknown.
    """

    prediction: int
    exit: int
    confidence: float
    cost: int | None


class TorchEngine:
    """Runs a net on requests, under the autocast that it was made under.

    Args:
        net: The net.
    """

    def __init__(self, net: InferenceNet) -> None:
        self._net = net
        kind = net.device.type
        self._autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The autocast: it belongs to a thread, and is taken over from the maker's."""
        return torch.autocast(*self._autocast)

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """Context manager for the thread that runs steps, such as inference mode."""
        with self.autocast(), torch.inference_mode():
            yield

    def run(
        self, number: int, requests: Sequence[Request[SampleAnswer]], *, anew: bool = False
    ) -> BatchResult[SampleAnswer]:
        """Run a step, read the exit that it ends with, and take out the samples that leave.

        Args:
            number: Which step, from 0.
            requests: The requests, of one kind, that wait before it.
            anew: Start from their inputs: a step that failed may have written to its feature.
        """
        *before, step = self._net.steps[: number + 1]
        if anew or not before:
            flow = _stacked(self._net, requests)
            for earlier in before:
                flow, _ = earlier.run(flow, len(requests))
        else:
            flow = _gathered(self._net, before[-1].batched, requests)
        if self._net.reads_numbers(len(requests)):
            flow, decisions = _decide_single(step, flow, requests[0])
        else:
            flow, decisions = _decide(step, flow, requests)
        leaves = [
            decision.leaves or number >= request.last
            for request, decision in zip(requests, decisions, strict=True)
        ]
        answers = [
            _answer(step, request, decision) if left else None
            for request, left, decision in zip(requests, leaves, decisions, strict=True)
        ]
        staying = Rows.staying(leaves)
        if 0 < len(staying.places) < len(requests):
            flow = flow.take(staying, step.batched, step.movable)
        return BatchResult(answers, staying.places, flow)


class _Decision(NamedTuple):
    """What an exit says of a request's sample, and whether it leaves by that."""

    confidence: float
    prediction: int
    leaves: bool


def _decide(step: Step, flow: Flow, requests: Sequence[Request[Any]]) -> tuple[Flow, list[_Decision]]:
    """Run a step on a batch, and read the exit that it ends with."""
    flow, reading = step.run(flow, len(requests))
    columns = (reading.confidence, reading.prediction, _leaves(step, reading, requests))
    # the one synchronisation with a GPU
    table = torch.stack([column.to(reading.confidence.dtype) for column in columns]).tolist()
    return flow, [_Decision(c, int(p), bool(leaves)) for c, p, leaves in zip(*table, strict=True)]


def _decide_single(step: Step, flow: Flow, request: Request[Any]) -> tuple[Flow, list[_Decision]]:
    """Run a step on one sample, and read the exit that it ends with as numbers."""
    x, logits, handed = step.forward(flow.x, flow.handed)
    reading, leaves = step.gate.decide_single(logits, flow.state, request.threshold)
    flow = Flow(x, handed if step.read_on else None, reading.state)
    return flow, [_Decision(reading.confidence, reading.prediction, leaves)]


def _answer(step: Step, request: Request[SampleAnswer], decision: _Decision) -> SampleAnswer | UserError:
    """The answer to a request that leaves behind a step."""
    exit, (confidence, prediction, _) = step.gate.exit, decision
    if math.isnan(confidence):
        return UserError(
            f"the logits of exit {exit} are not numbers; "
            "look for NaN or infinity in the input and the weights"
        )
    return SampleAnswer(prediction, exit, confidence, step.cost if request.kind.counted else None)


def _stacked(net: InferenceNet, requests: Sequence[Request[Any]]) -> Flow:
    """The inputs of requests as one."""
    columns = zip(*(request.inputs for request in requests), strict=True)
    leaves = [_sent(net, stack(column)) for column in columns]
    return net.enter(pytree.tree_unflatten(leaves, requests[0].kind.form), len(requests))


def _gathered(net: InferenceNet, batched: Sequence[bool], requests: Sequence[Request[Any]]) -> Flow:
    """What requests of different batches carry, as one."""
    flows = []
    for _, group in itertools.groupby(requests, key=lambda request: id(request.flow)):
        members = [*group]
        flow = members[0].flow
        assert flow is not None
        if len(members) < flow.samples(batched):
            flow = flow.take(Rows([member.row for member in members]), batched)
        flows.append(flow)
    return net.fill(Flow.join(flows, batched), len(requests), batched)


def _leaves(step: Step, reading: Reading, requests: Sequence[Request[Any]]) -> Tensor:
    """Which samples leave by the policy's thresholds or, where they have one, by their own: bool ``[n]``."""
    leaves = step.gate.leaves(reading)
    if all(request.threshold is None for request in requests):
        return leaves
    own = [math.nan if request.threshold is None else request.threshold for request in requests]
    thresholds = reading.confidence.new_tensor(own)
    return torch.where(thresholds.isnan(), leaves, reading.confidence >= thresholds)


def _sent(net: InferenceNet, tensor: Tensor) -> Tensor:
    """A Tensor on the net's device, without a wait for that."""
    return tensor.to(net.device, non_blocking=True)

"""A batch of requests on its way through one step of a net."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.exits._inference import InferenceNet, Step
from offramp.exits._request import Request
from offramp.exits._rows import Flow, Rows, stack
from offramp.exits.confidence import Reading

__all__ = ["BatchResult", "Verdict", "run_batch"]


class Verdict(NamedTuple):
    """What an exit says about one sample, and whether it leaves there."""

    confidence: float
    prediction: int
    leaves: bool


class BatchResult(NamedTuple):
    """What became of a batch.

    Attributes:
        verdicts: One for each request.
        staying: The places of those that stay, in the order in which their samples lie now.
        flow: What these carry on.
    """

    verdicts: list[Verdict]
    staying: Sequence[int]
    flow: Flow


def run_batch(
    net: InferenceNet, number: int, requests: Sequence[Request], *, anew: bool = False
) -> BatchResult:
    """Run a step, read the exit that it ends with, and take out the samples that leave.

    Args:
        net: The net.
        number: Which step, from 0.
        requests: The requests, of one kind, that wait before it.
        anew: Start from their inputs: a step that failed may have written to its feature.
    """
    *before, step = net.steps[: number + 1]
    if anew or not before:
        flow = _stacked(net, requests)
        for earlier in before:
            flow, _ = earlier.run(flow, len(requests))
    else:
        flow = _gathered(net, before[-1].batched, requests)
    flow, reading = step.run(flow, len(requests))
    columns = (reading.confidence, reading.prediction, _leaves(step, reading, requests))
    # the one synchronisation with a GPU
    table = torch.stack([column.to(reading.confidence.dtype) for column in columns]).tolist()
    verdicts = [
        Verdict(confidence, int(prediction), bool(leaves) or number >= request.last)
        for request, confidence, prediction, leaves in zip(requests, *table, strict=True)
    ]
    staying = Rows.staying([verdict.leaves for verdict in verdicts])
    if 0 < len(staying.places) < len(requests):
        flow = flow.take(staying, step.batched, step.movable)
    return BatchResult(verdicts, staying.places, flow)


def _stacked(net: InferenceNet, requests: Sequence[Request]) -> Flow:
    """The inputs of requests as one."""
    columns = zip(*(request.inputs for request in requests), strict=True)
    leaves = [_sent(net, stack(column)) for column in columns]
    return net.enter(pytree.tree_unflatten(leaves, requests[0].kind.form), len(requests))


def _gathered(net: InferenceNet, batched: Sequence[bool], requests: Sequence[Request]) -> Flow:
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


def _leaves(step: Step, reading: Reading, requests: Sequence[Request]) -> Tensor:
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

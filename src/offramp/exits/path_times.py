"""What a sample takes that leaves at an exit, in seconds on this machine: every part is timed alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from offramp.exits._inference import InferenceNet, Step
from offramp.exits.calibration.published import NOBODY
from offramp.exits.policy import Policy
from offramp.exits.rows import Flow, Rows
from offramp.exits.segments import heads_needed, path
from offramp.nets import MultiExitNet
from offramp.nets.exits import handed_on, reads_previous

__all__ = ["Clock", "PathTimes", "median_times"]

Clock = Callable[[Sequence[Callable[[], object]]], Sequence[float]]  # functions -> seconds of each
WARM_UP, FEWEST, MOST = 3, 10, 200  # rounds
ENOUGH = 3.0  # seconds for all rounds together, if there are as many as FEWEST


def median_times(parts: Sequence[Callable[[], object]]) -> list[float]:
    """The median time of each part, in rounds of all parts, so that what slows one down slows them all."""
    for _ in range(WARM_UP):
        _round(parts)
    begin = time.perf_counter()
    rounds: list[list[float]] = []
    while len(rounds) < FEWEST or (len(rounds) < MOST and time.perf_counter() - begin < ENOUGH):
        rounds.append(_round(parts))
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _round(parts: Sequence[Callable[[], object]]) -> list[float]:
    times = []
    for part in parts:
        _wait()
        begin = time.perf_counter()
        part()
        _wait()
        times.append(time.perf_counter() - begin)
    return times


def _wait() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class PathTimes:
    """Seconds of every part of a net, and of every way through it.

    The time of a head has all in it that is done for an exit's sake: the head, its confidence, the decision,
    and laying out anew the half of the batch that stays.

    Args:
        net: The net, which runs as the router runs it.
        reading: Says how confidences are read.
        batch_size: Samples in a batch.
        clock: Times functions, each of which runs a part once.

    Attributes:
        stages: Seconds of each of the K stages, for one sample.
        heads: Seconds of each of the K heads.
    """

    def __init__(
        self, net: MultiExitNet, reading: Policy, batch_size: int = 1, *, clock: Clock = median_times
    ) -> None:
        every = replace(reading, thresholds=(NOBODY,) * (net.num_exits - 1))
        with torch.inference_mode():
            stages, heads = _parts(InferenceNet(net, every), net.sample(batch_size), batch_size)
            seconds = clock([*stages, *heads])
        each = [value / batch_size for value in seconds]
        self.stages, self.heads = each[: len(stages)], each[len(stages) :]
        self._modules = [*net.heads]

    def of(self, evaluated: Collection[int]) -> list[float]:
        """The time up to each evaluated exit, for one sample, all heads on the way that run included."""
        return path(self.stages, self.heads, heads_needed(self._modules, evaluated), evaluated)

    @property
    def static(self) -> float:
        """The time of the backbone: all stages and the last head."""
        return self.of([len(self.stages)])[-1]


def _parts(
    net: InferenceNet, x: Any, samples: int
) -> tuple[list[Callable[[], object]], list[Callable[[], object]]]:
    """What runs each stage, and what runs each head with all that it brings."""
    stages: list[Callable[[], object]] = []
    heads: list[Callable[[], object]] = []
    flow, staying = Flow(x), range(samples // 2)
    for step in net.steps:
        stage = step.segment.stages[0]
        stages.append(_call(stage, flow.x))
        trunk = stage(flow.x)
        if net.reads_numbers(samples):
            heads.append(_exit_of_single(step, trunk, flow))
        else:
            heads.append(_exit(step, trunk, flow, staying))
        flow, _ = step.run(flow, samples)
    return stages, heads


def _call(module: Callable[..., Any], *inputs: Any) -> Callable[[], object]:
    return lambda: module(*inputs)


def _head(step: Step, trunk: Any, before: Flow) -> Callable[[], tuple[Tensor, Tensor]]:
    """What runs the head of an exit: its logits, and what it hands on."""
    head = step.segment.heads[0]
    inputs = [trunk, before.handed] if reads_previous(head) else [trunk]
    return lambda: handed_on(head(*inputs))


def _exit_of_single(step: Step, trunk: Any, before: Flow) -> Callable[[], object]:
    """What is done at an exit for one sample, behind its stage."""
    head = _head(step, trunk, before)
    return lambda: step.gate.decide_single(head()[0], before.state)


def _exit(step: Step, trunk: Any, before: Flow, staying: Sequence[int]) -> Callable[[], object]:
    """What is done at an exit for a batch, behind its stage."""
    head = _head(step, trunk, before)

    def run() -> None:
        logits, handed = head()
        reading = step.gate.read(logits, before.state)
        if step.gate.last:
            return
        step.gate.leaving(reading)
        if staying:
            Flow(trunk, handed, reading.state).take(Rows(staying), step.batched)

    return run

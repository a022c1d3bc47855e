"""A net made ready for inference by a policy: a copy in steps, each with a gate at which samples leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.errors import UserError, shown
from offramp.exits._compiled import bucket, compiled, filled
from offramp.exits._gate import Gate
from offramp.exits.confidence import Reading
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.exits.preparing import prepared
from offramp.exits.rows import Flow, Rows, memory
from offramp.exits.segments import Segment
from offramp.memory import keep_freed_memory
from offramp.nets import MultiExitNet

__all__ = ["InferenceNet", "Step"]


class Step(NamedTuple):
    """What runs from one gate to the next.

    Attributes:
        segment: The stages, and the head of the last.
        forward: Runs them, as :meth:`Segment.forward <offramp.exits.segments.Segment.forward>` does.
        gate: The gate behind them.
        batched: Which leaves of the feature behind them have a row for each sample.
        movable: Which of these may be written over where they are not the input's, since no module has them.
        read_on: Whether the next head reads what that of this exit hands on.
        cost: Operations of a sample that leaves here, from the input on; None where unknown.
    """

    segment: Segment
    forward: Callable[[Any, Tensor | None], tuple[Any, Tensor, Tensor]]
    gate: Gate
    batched: list[bool]
    movable: list[bool]
    read_on: bool
    cost: int | None

    def run(self, flow: Flow, samples: int) -> tuple[Flow, Reading]:
        """Run the segment, and read the exit that it ends with.

        Args:
            flow: Of these samples first, and perhaps copies that fill the batch up.
            samples: How many.
        """
        x, logits, handed = self.forward(flow.x, flow.handed)
        reading = self.gate.read(logits, flow.state)
        flow = Flow(x, handed if self.read_on else None, reading.state)
        if samples < len(logits):
            reading = Reading(reading.confidence[:samples], reading.prediction[:samples])
        return flow, reading


class InferenceNet:
    """A copy of a net, in steps.

    Args:
        net: The net, which stays as it is; later changes of it do not reach the copy.
        policy: When samples leave.
        compile: Compile each segment, for a few batch sizes.

    Attributes:
        steps: One for each evaluated exit.
        device: Where the copy is.

    Raises:
        UserError: The policy is for another net, or the net is none whose stages and heads can be run apart.
    """

    def __init__(self, net: MultiExitNet, policy: Policy, *, compile: bool = False) -> None:
        if not isinstance(policy, Policy):
            raise UserError(
                f"policy is {shown(policy)}, must be a Policy; give what calibrate returns, or "
                "Policy.open(path)"
            )
        policy.check(net)
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))
        if self.device.type == "cpu":
            keep_freed_memory()
        parts = prepared(net, policy, eager=not compile)
        read_on = [*(part.segment.reads_previous for part in parts[1:]), False]
        self.steps = [
            Step(
                segment=part.segment,
                forward=compiled(part.segment) if compile else part.segment.function(),
                gate=Gate(policy, part.segment.exit, self.device),
                batched=part.batched,
                movable=part.movable,
                read_on=on,
                cost=cost,
            )
            for part, on, cost in zip(parts, read_on, _costs(net, policy), strict=True)
        ]
        self._compiled = compile

    def reads_numbers(self, samples: int) -> bool:
        """Whether exits are better read as numbers: those of one sample, on a CPU.

        There a function of torch between two steps takes as long for one sample as for a batch, and longer
        than alone, since a step fills the caches.
        """
        return samples == 1 and self.device.type == "cpu"

    def enter(self, x: Any, samples: int) -> Flow:
        """Begin with an input that has been checked."""
        if not self._compiled:
            return Flow(x)
        # copied also where the batch is full: compiled code for Tensors made in inference mode is no code for
        # others, so that each batch size would be compiled for both
        return Flow(x).take(filled(range(samples)), [True] * len(pytree.tree_leaves(x)))

    def fill(self, flow: Flow, samples: int, batched: Sequence[bool]) -> Flow:
        """Fill samples up to a batch size that the net runs."""
        if bucket(samples) == samples or not self._compiled:
            return flow
        return flow.take(filled(range(samples)), batched)

    def take(self, flow: Flow, rows: Rows, step: Step, given: Any) -> Flow:
        """Keep some of the samples behind a step.

        Args:
            flow: All of them.
            rows: Which.
            step: The step.
            given: The input, which is not written over: whether a feature is a view of it may depend on its
                layout, as where a stage begins with ``x.contiguous()``.
        """
        if self._compiled:
            return flow.take(filled(rows.places), step.batched)
        ours = any(step.movable) and not memory(flow.x) & memory(given)
        return flow.take(rows, step.batched, step.movable if ours else None)


def _costs(net: MultiExitNet, policy: Policy) -> list[int] | list[None]:
    try:
        return PathCosts(net).of(policy.evaluated)
    except UserError:
        return [None] * len(policy.evaluated)

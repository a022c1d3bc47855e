"""A net made ready for inference by a policy: a copy in steps, each with a gate at which samples leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.copying import deep_copy
from offramp.errors import UserError
from offramp.exits._compiled import bucket, compiled, filled
from offramp.exits._folding import close, fold
from offramp.exits._gate import Gate
from offramp.exits._rows import Flow, batched_leaves, has_blocks
from offramp.exits._segments import Segment, segments
from offramp.exits.confidence import Reading
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.memory import keep_freed_memory
from offramp.nets import MultiExitNet

__all__ = ["InferenceNet", "Step"]


class Step(NamedTuple):
    """What runs from one gate to the next.

    Attributes:
        segment: The stages, and the head of the last.
        gate: The gate behind them.
        batched: Which leaves of the feature behind them have a row for each sample.
        movable: Which of these may be written over, since they are nobody else's.
        read_on: Whether the next head reads the logits of this exit.
        cost: Operations of a sample that leaves here, from the input on; None where unknown.
    """

    segment: Callable[[Any, Tensor | None], tuple[Any, Tensor]]
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
        x, logits = self.segment(flow.x, flow.logits)
        reading = self.gate.read(logits, flow.state)
        flow = Flow(x, logits if self.read_on else None, reading.state)
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
        UserError: The policy is for another net, or the samples of a batch do not stay apart.
    """

    def __init__(self, net: MultiExitNet, policy: Policy, *, compile: bool = False) -> None:
        if not isinstance(policy, Policy):
            raise UserError(
                f"policy is {policy!r}, must be a Policy; give what calibrate returns, or Policy.open(path)"
            )
        policy.check(net)
        stages, heads = deep_copy((net.stages, net.heads))
        for module in (*stages, *heads):
            module.eval().requires_grad_(False)
        parts = segments([*stages], [*heads], policy.evaluated)
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))
        if self.device.type == "cpu":
            keep_freed_memory()
        batched, movable = _prepared(parts, net.sample(3), eager=not compile)
        run = [compiled(part) for part in parts] if compile else parts
        gates = [Gate(policy, part.exit, self.device) for part in parts]
        read_on = [*(part.reads_previous for part in parts[1:]), False]
        self.steps = [*map(Step, run, gates, batched, movable, read_on, _costs(net, policy))]
        self._compiled = compile

    def enter(self, x: Any, samples: int) -> Flow:
        """Begin with an input that has been checked."""
        return self.fill(Flow(x), samples, [True] * len(pytree.tree_leaves(x)))

    def fill(self, flow: Flow, samples: int, batched: Sequence[bool]) -> Flow:
        """Fill samples up to a batch size that the net runs."""
        if bucket(samples) == samples or not self._compiled:
            return flow
        return flow.take(filled(torch.arange(samples, device=self.device)), batched)

    def take(self, flow: Flow, rows: Tensor, moved: list[int], step: Step) -> Flow:
        """Keep some of the samples behind a step; some of them are moved to other places than they had."""
        if self._compiled:
            return flow.take(filled(rows), step.batched)
        return flow.take(rows, step.batched, step.movable, rows.new_tensor(moved))


@torch.inference_mode()
def _prepared(parts: Sequence[Segment], x: Any, *, eager: bool) -> tuple[list[list[bool]], list[list[bool]]]:
    """Fold the segments, and see whether samples stay apart in them.

    Args:
        parts: The segments.
        x: An input of three samples.
        eager: They will run as they are, and not be compiled.

    Returns:
        For each segment, which leaves of the feature behind it have a row for each sample; and which of these
        may be written over.
    """
    few, many = Flow(pytree.tree_map_only(Tensor, lambda leaf: leaf[:2], x)), Flow(x)
    rows, movable = [], []
    for part in parts:
        fold(part, few.x, few.logits, eager=eager)
        few, many = (Flow(*part(flow.x, flow.logits)) for flow in (few, many))
        batched = batched_leaves([few.x, many.x], [2, 3])
        a, b = few.logits, many.logits
        if a is None or b is None or (len(a), len(b)) != (2, 3) or not any(batched):
            raise UserError(
                f"exit {part.exit} gives logits {_shape(a)} for 2 samples and {_shape(b)} for 3: the first "
                "axis of feature and logits is not the batch; permute them at the end of the stage"
            )
        if not close(a, b[:2]):
            raise UserError(
                f"the logits of exit {part.exit} for a sample depend on the other samples of its batch, in "
                "eval mode too; build norm layers with track_running_stats=True, attention and recurrent "
                "layers with batch_first=True"
            )
        rows.append(batched)
        others = _memory([x, *(t for each in parts for t in (*each.parameters(), *each.buffers()))])
        leaves = zip(batched, pytree.tree_leaves(many.x), strict=True)
        movable.append(
            [eager and has and has_blocks(leaf) and not _memory(leaf) & others for has, leaf in leaves]
        )
    return rows, movable


def _memory(tensors: Any) -> set[int]:
    """Where the memory of Tensors begins."""
    leaves = [leaf for leaf in pytree.tree_leaves(tensors) if isinstance(leaf, Tensor)]
    return {leaf.untyped_storage().data_ptr() for leaf in leaves if leaf.layout == torch.strided}


def _shape(logits: Tensor | None) -> list[int] | None:
    return None if logits is None else [*logits.shape]


def _costs(net: MultiExitNet, policy: Policy) -> list[int] | list[None]:
    try:
        return PathCosts(net).of(policy.evaluated)
    except UserError:
        return [None] * len(policy.evaluated)

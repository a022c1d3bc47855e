"""A net made ready for inference by a policy: a copy in steps, each with a gate at which samples leave."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.exits._compiled import compiled, filled
from offramp.exits._folding import fold
from offramp.exits._gate import Gate
from offramp.exits._rows import Flow, batched_leaves
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
        cost: Operations of a sample that leaves here, from the input on; None where unknown.
    """

    segment: Callable[[Any, Tensor | None], tuple[Any, Tensor]]
    gate: Gate
    batched: list[bool]
    cost: int | None

    def run(self, flow: Flow, samples: int) -> tuple[Flow, Reading]:
        """Run the segment, and read the exit that it ends with.

        Args:
            flow: Of these samples first, and perhaps copies that fill the batch up.
            samples: How many.
        """
        x, logits = self.segment(flow.x, flow.logits)
        reading = self.gate.read(logits, flow.state)
        flow = Flow(x, logits, reading.state)
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
        policy.check(net)
        stages, heads = copy.deepcopy((net.stages, net.heads))
        for module in (*stages, *heads):
            module.eval().requires_grad_(False)
        parts = segments([*stages], [*heads], policy.evaluated)
        self._samples = [net.sample(n) for n in (2, 3)]
        self._sizes_vary = net.example is not None
        self.device = next((p.device for p in net.parameters()), torch.device("cpu"))
        if self.device.type == "cpu":
            keep_freed_memory()
        gates = [Gate(policy, part.exit, self.device) for part in parts]
        batched = self._prepared(parts)
        run = [compiled(part) for part in parts] if compile else parts
        self._filled = filled if compile else lambda rows: rows
        self.steps = [*map(Step, run, gates, batched, _costs(net, policy))]

    def enter(self, x: Any, samples: int) -> Flow:
        """Begin with an input that has been checked."""
        rows = torch.arange(samples, device=self.device)
        more = self._filled(rows)
        flow = Flow(x)
        return flow if len(more) == samples else flow.take(more, [True] * len(pytree.tree_leaves(x)))

    def take(self, flow: Flow, rows: Tensor, step: Step) -> Flow:
        """Keep some of the samples behind a step."""
        return flow.take(self._filled(rows), step.batched)

    @torch.inference_mode()
    def _prepared(self, parts: list[Segment]) -> list[list[bool]]:
        """Fold the segments; which leaves of the features behind them have a row for each sample."""
        sizes = (2, 3)
        flows: list[tuple[Any, Any]] = [(sample, None) for sample in self._samples]
        batched = []
        for part in parts:
            fold(part, *flows[0])
            flows = [part(x, logits) for x, logits in flows]
            batched.append(batched_leaves([x for x, _ in flows], sizes))
            shapes = [[*logits.shape] for _, logits in flows]
            if [shape[0] for shape in shapes] != [*sizes] or not any(batched[-1]):
                raise UserError(
                    f"exit {part.exit} gives logits {shapes[0]} for 2 samples and {shapes[1]} for 3: the "
                    "first axis of feature and logits is not the batch; permute them at the end of the stage"
                )
        return batched

    def check(self, x: Any) -> int:
        """Check that an input is like those of the net.

        Returns:
            How many samples it holds.

        Raises:
            UserError: It holds none, or is of another form, shape, dtype or device.
        """
        ours = self._samples[0]
        if _form(x) != _form(ours):
            raise UserError(f"the net reads {_form(ours)}, got {_form(x)}")
        leaves, given = pytree.tree_leaves(ours), pytree.tree_leaves(x)
        for like, each in zip(leaves, given, strict=True):
            self._check_tensor(like, each)
        if len({len(each) for each in given}) > 1:
            raise UserError(f"the inputs have {[len(each) for each in given]} samples; give as many of each")
        return len(given[0])

    def _check_tensor(self, like: Tensor, x: Tensor) -> None:
        shape, ours = tuple(x.shape), tuple(like.shape)
        fits = x.ndim == like.ndim if self._sizes_vary else shape[1:] == ours[1:]
        if not fits:
            sizes = ", ".join(["N", *map(str, ours[1:])])
            raise UserError(f"the net reads inputs [{sizes}], got {[*shape]}")
        if not len(x):
            raise UserError("there are no samples in the batch; give one or more")
        kinds = {x.is_floating_point(), like.is_floating_point()}
        cast = kinds == {True} and torch.is_autocast_enabled(x.device.type)
        if x.dtype != like.dtype and kinds != {False} and not cast:
            raise UserError(f"the net reads {like.dtype}, the inputs are {x.dtype}; give x.to({like.dtype})")
        if x.device != like.device:
            raise UserError(f"the net is on {like.device}, the inputs on {x.device}; move one of them")


def _form(x: Any) -> str:
    """In words, what holds which Tensors."""
    if isinstance(x, Tensor):
        return "a Tensor"
    if isinstance(x, Mapping) and all(isinstance(value, Tensor) for value in x.values()):
        return f"a dict of Tensors {', '.join(sorted(map(repr, x)))}"
    if isinstance(x, (tuple, list)) and all(isinstance(value, Tensor) for value in x):
        return f"a {type(x).__name__} of {len(x)} Tensors"
    return f"a {type(x).__name__}"


def _costs(net: MultiExitNet, policy: Policy) -> list[int] | list[None]:
    try:
        return PathCosts(net).of(policy.evaluated)
    except UserError:
        return [None] * len(policy.evaluated)

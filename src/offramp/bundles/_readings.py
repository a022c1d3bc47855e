"""How the logits of exits are read, as ONNX models: torch's own readings, traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from onnx import ModelProto
from torch import Tensor, nn

from offramp.bundles._parts import Value, traced
from offramp.exits.policy import Policy
from offramp.tasks.task import wide

__all__ = ["ExitReading", "readings_of"]


class ExitReading(NamedTuple):
    """The reading of an exit.

    Attributes:
        exit: The exit's number, from 1.
        model: Reads logits, and the state that the evaluated exit before has left, if it leaves one; gives
            probabilities, confidences, and the state for the next.
        reads_state: Whether there is one before.
        state: The state for the next exit; None: there is none.
    """

    exit: int
    model: ModelProto
    reads_state: bool
    state: Value | None


def readings_of(policy: Policy, logits: Sequence[Tensor]) -> list[ExitReading]:
    """The readings of the exits that a policy evaluates, in order.

    Args:
        policy: The policy.
        logits: Of three samples at all K exits, ``[3, classes]``.
    """
    found: list[ExitReading] = []
    alike: dict[float, ModelProto] = {}  # by temperature: readings without a state differ in nothing else
    state: Tensor | None = None
    for exit in policy.evaluated:
        module = _Reader(policy, exit)
        tensors = [logits[exit - 1], *([] if state is None else [state])]
        with torch.no_grad():
            after = module(*tensors)[2:]
        temperature, stateless = policy.temperatures[exit - 1], state is None and not after
        model = alike.get(temperature) if stateless else None
        if model is None:
            model = traced(module, tensors, [*map(_per_sample, tensors)], f"the confidence at exit {exit}")
        if stateless:
            alike[temperature] = model
        reads_state, state = state is not None, after[0] if after else None
        found.append(ExitReading(exit, model, reads_state, None if state is None else _per_sample(state)))
    return found


def _per_sample(tensor: Tensor) -> Value:
    return Value("state", str(tensor.dtype).removeprefix("torch."), ("batch", *tensor.shape[1:]))


class _Reader(nn.Module):
    """Probabilities, confidences and the state behind an exit, of its logits and the state before it."""

    def __init__(self, policy: Policy, exit: int) -> None:
        super().__init__()
        self._rule, self._exit = policy.rule, exit
        self._temperature, self._last = policy.temperatures[exit - 1], exit == policy.num_exits

    def forward(self, logits: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        if self._temperature != 1:
            logits = logits / self._temperature
        reading = self._rule.read(self._exit, logits, state)
        probabilities = self._rule.probabilities(self._exit, logits, reading.state)
        left = [] if self._last or reading.state is None else [reading.state]
        return (wide(probabilities), reading.confidence, *left)

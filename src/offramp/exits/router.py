"""The router: runs a net whose samples leave at the first exit that is sure of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offramp.errors import UserError
from offramp.exits._inference import InferenceNet, Step
from offramp.exits._rows import Flow
from offramp.exits.confidence import Reading
from offramp.exits.policy import Policy
from offramp.nets import MultiExitNet

__all__ = ["Answer", "Router"]


class Answer(NamedTuple):
    """What a router says about N samples, in the order in which they came.

    Attributes:
        prediction: The classes, int64 ``[N]``.
        exit: The numbers of the exits at which the samples left, from 1, int64 ``[N]``.
        confidence: How sure these were, by the policy's confidence, ``[N]``.
        cost: The operations that each sample took, in the net's counting convention, int64 ``[N]``; None
            where the net's operations are unknown.
    """

    prediction: Tensor
    exit: Tensor
    confidence: Tensor
    cost: Tensor | None


class Router:
    """Runs a net on batches whose samples leave at different exits.

    Behind each exit the samples that leave are taken out, and the others go on without them. What no policy
    asks of the net is not run: the head of an exit that is not evaluated, and all that follows the last
    survivor. The net is copied, and made ready for inference: it runs in eval mode, with its batch norms
    folded into convolutions; later changes of the net do not reach the router.

    On a CPU the process keeps freed memory from then on (:mod:`offramp.memory`).

    Args:
        net: The net, in its dtype, memory format and on its device.
        policy: When samples leave.

    Raises:
        UserError: The policy is for another net, or samples of the net do not stay apart.
    """

    def __init__(self, net: MultiExitNet, policy: Policy) -> None:
        self.policy = policy
        self._net = InferenceNet(net, policy)

    @torch.inference_mode()
    def __call__(self, x: Any) -> Answer:
        """Predict the class of every sample, each at the exit that its confidence lets it leave at.

        Args:
            x: What the net reads: ``[N, *input_size]``, or named Tensors with N rows each.

        Raises:
            UserError: Not an input of this net, or one with NaN in it.
        """
        flow, left = Flow(x), _Left(self._net.check(x), self._net.device)
        rows = torch.arange(left.samples, device=self._net.device)
        for step in self._net.steps:
            flow, reading = step.run(flow)
            leaves = step.gate.leaves(reading)
            gone = len(rows) if step.gate.last else int(leaves.sum())  # the one synchronisation with a GPU
            if not gone:
                continue
            if gone == len(rows):
                left.add(step, reading, rows)
                break
            order = leaves.to(torch.uint8).argsort(stable=True)
            staying, going = order[:-gone], order[-gone:]
            left.add(step, reading, rows, going)
            flow, rows = flow.take(staying, step.batched), rows[staying]
        return left.answer()


class _Part(NamedTuple):
    """Samples that left at the same exit: that exit's step, their places, predictions and confidences."""

    step: Step
    rows: Tensor
    prediction: Tensor
    confidence: Tensor


class _Left:
    """The samples that have left, exit by exit."""

    def __init__(self, samples: int, device: torch.device) -> None:
        self.samples, self.device = samples, device
        self._parts: list[_Part] = []

    def add(self, step: Step, reading: Reading, rows: Tensor, going: Tensor | None = None) -> None:
        """Note samples that leave.

        Args:
            step: Behind which.
            reading: What its exit says about all that were there.
            rows: The places of these in the batch that came in.
            going: Which of them leave; None: all.
        """
        confidence, prediction = reading.confidence, reading.prediction
        if going is not None:
            confidence, prediction, rows = confidence[going], prediction[going], rows[going]
        self._parts.append(_Part(step, rows, prediction, confidence))

    def answer(self) -> Answer:
        """What was noted, in the order in which the samples came.

        Raises:
            UserError: A confidence is not a number.
        """
        rows = torch.cat([part.rows for part in self._parts])

        def column(of: Callable[[_Part], Tensor]) -> Tensor:
            values = torch.cat([of(part) for part in self._parts])
            return values if len(self._parts) == 1 else torch.empty_like(values).index_copy_(0, rows, values)

        confidence = column(lambda part: part.confidence)
        if (broken := confidence.isnan()).any():
            raise UserError(
                f"the logits of sample {int(broken.int().argmax())} are not numbers; "
                "look for NaN or infinity in the inputs and the weights"
            )
        unknown = any(part.step.cost is None for part in self._parts)
        return Answer(
            prediction=column(lambda part: part.prediction),
            exit=column(lambda part: torch.full_like(part.rows, part.step.gate.exit)),
            confidence=confidence,
            cost=None if unknown else column(lambda part: torch.full_like(part.rows, part.step.cost or 0)),
        )

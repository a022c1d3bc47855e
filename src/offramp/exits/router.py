"""The router: runs a net whose samples leave at the first exit that is sure of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offramp.checks import is_number
from offramp.errors import UserError
from offramp.exits._inference import InferenceNet, Step
from offramp.exits._inputs import Inputs
from offramp.exits._pace import Pace
from offramp.exits._rows import Parting
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
            where the net's operations are unknown, or were counted for inputs of another size, as of texts.
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
        compile: Compile each part between two exits by ``torch.compile``, once for each of a few batch sizes
            (1, 2, 3, 4, 6, 8, 12, 16, ...), to which batches are filled up with copies of their last sample.

    Raises:
        UserError: The policy is for another net; or the net's stages and heads, run one after another, do not
            give what the net gives, or mix up the samples of a batch.
    """

    def __init__(self, net: MultiExitNet, policy: Policy, *, compile: bool = False) -> None:
        self.policy = policy
        self._net = InferenceNet(net, policy, compile=compile)
        self._inputs = Inputs(net)
        self._pace = Pace([step.cost for step in self._net.steps])

    def __call__(self, x: Any) -> Answer:
        """Predict the class of every sample, each at the first exit that is sure of it.

        Args:
            x: What the net reads: ``[N, *input_size]``, or named Tensors with N rows each.

        Raises:
            UserError: Not an input of this net, or one that gives logits which are not numbers.
        """
        return self._route(x, math.inf)

    def anytime(self, x: Any, deadline: float) -> Answer:
        """Predict the class of every sample by a deadline.

        Samples leave as the policy says. Before each further exit the time that it takes is estimated, from
        calls so far; where it does not fit, those that are left get the answer of the exit they are at. The
        first exit always answers. Estimates follow the machine: no promise holds on one that is shared.

        Args:
            x: As for a call.
            deadline: Seconds from now.

        Raises:
            UserError: As for a call, or the deadline is no time.
        """
        if not is_number(deadline) or deadline < 0:
            raise UserError(f"deadline is {deadline!r}, must be a number of seconds from now, 0 or more")
        return self._route(x, _now() + deadline)

    @torch.inference_mode()
    def _route(self, x: Any, end: float) -> Answer:
        start = _now()
        (x, samples, counted), steps = self._inputs.read(x), self._net.steps
        flow, left = self._net.enter(x, samples), _Departures()
        rows = torch.arange(samples, device=self._net.device)
        for number, step in enumerate(steps):
            flow, reading = step.run(flow, len(rows))
            if step.gate.last:
                left.add(step, reading, rows)
                answer = left.answer(counted=counted)
                self._pace.note(number, len(rows), _now() - start)
                return answer
            leaves = step.gate.leaves(reading).tolist()  # the one synchronisation with a GPU
            staying = leaves.count(False)
            now = _now()
            self._pace.note(number, len(rows), now - start)
            start = now
            if not staying or now + self._pace.expect(number + 1, staying) > end:
                left.add(step, reading, rows)
                break
            if staying < len(rows):
                stay, leave, moved = Parting.of(leaves)
                left.add(step, reading, rows, rows.new_tensor(leave))
                places = rows.new_tensor(stay)
                flow, rows = self._net.take(flow, places, moved, step), rows[places]
        return left.answer(counted=counted)


def _now() -> float:
    return time.perf_counter()


class _Part(NamedTuple):
    """Samples that left at the same exit: that exit's step, their places, predictions and confidences."""

    step: Step
    rows: Tensor
    prediction: Tensor
    confidence: Tensor


class _Departures:
    """The samples that have left, exit by exit."""

    def __init__(self) -> None:
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

    def answer(self, *, counted: bool) -> Answer:
        """What was noted, in the order in which the samples came.

        Args:
            counted: Whether the samples are of the size for which operations were counted.

        Raises:
            UserError: A confidence is not a number.
        """
        places = _joined([part.rows for part in self._parts])

        def column(of: Callable[[_Part], Tensor]) -> Tensor:
            values = _joined([of(part) for part in self._parts])
            return (
                values if len(self._parts) == 1 else torch.empty_like(values).index_copy_(0, places, values)
            )

        confidence = column(lambda part: part.confidence)
        if (broken := confidence.isnan()).any():
            raise UserError(
                f"the logits of sample {int(broken.int().argmax())} are not numbers; "
                "look for NaN or infinity in the inputs and the weights"
            )
        unknown = not counted or any(part.step.cost is None for part in self._parts)
        return Answer(
            prediction=column(lambda part: part.prediction),
            exit=column(lambda part: torch.full_like(part.rows, part.step.gate.exit)),
            confidence=confidence,
            cost=None if unknown else column(lambda part: torch.full_like(part.rows, part.step.cost or 0)),
        )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)

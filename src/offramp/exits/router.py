"""The router: runs a net whose samples leave at the first exit that is sure of them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from offramp.checks import flag, is_number
from offramp.errors import UserError, shown
from offramp.exits._inference import InferenceNet, Step
from offramp.exits._inputs import Inputs
from offramp.exits.confidence import Reading
from offramp.exits.policy import Policy
from offramp.exits.queueing import Pace
from offramp.exits.rows import Flow, Rows, sent
from offramp.nets import MultiExitNet

__all__ = ["Answer", "Router"]

_now = time.perf_counter


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
        flag("compile", compile)
        self.policy = policy
        self._net = InferenceNet(net, policy, compile=compile)
        self._inputs = Inputs(net)
        costs = [step.cost for step in self._net.steps]
        self._pace, self._counted = Pace(costs), None not in costs

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
            raise UserError(f"deadline is {shown(deadline)}, must be a number of seconds from now, 0 or more")
        return self._route(x, _now() + deadline)

    @torch.inference_mode()
    def _route(self, x: Any, end: float) -> Answer:
        start = _now()
        (x, samples, counted), steps = self._inputs.read(x), self._net.steps
        counted &= self._counted
        if self._net.reads_numbers(samples):
            return self._route_single(self._net.enter(x, 1), start, end, counted=counted)
        flow, departures = self._net.enter(x, samples), _Departures(samples)
        present = samples
        for number, step in enumerate(steps):
            flow, reading = step.run(flow, present)
            leaves = step.gate.leaving(reading)  # the one wait for a GPU, but for the answer's own
            now = _now()
            self._pace.note(number, present, now - start)
            start, staying = now, leaves.count(False)
            if staying and end < math.inf and now + self._pace.expect(number + 1, staying) > end:
                leaves, staying = [True] * present, 0
            departures.note(number, reading, leaves)
            if not staying:
                break
            if staying < present:
                rows = Rows.staying(leaves)
                flow, present = self._net.take(flow, rows, step, x), staying
                departures.go_on(rows)
        return departures.answer(steps, counted=counted)

    def _route_single(self, flow: Flow, start: float, end: float, *, counted: bool) -> Answer:
        """Route one sample, of which exits say numbers and not Tensors."""
        x, handed, state = flow
        for number, step in enumerate(self._net.steps):
            x, logits, handed = step.forward(x, handed)
            reading, leaves = step.gate.decide_single(logits, state)
            state = reading.state
            now = _now()
            self._pace.note(number, 1, now - start)
            start = now
            if leaves:
                break
            if end < math.inf and now + self._pace.expect(number + 1, 1) > end:
                break
        if math.isnan(reading.confidence):
            raise _no_numbers(0)
        confidence = torch.full((1,), reading.confidence, dtype=reading.dtype)
        prediction, exit = torch.full((1,), reading.prediction), torch.full((1,), step.gate.exit)
        cost = torch.full((1,), step.cost) if counted and step.cost is not None else None
        return Answer(prediction, exit, confidence, cost)


class _Departures:
    """The samples that have left, and what their exits said.

    Kept in lists until the end: between two steps of a net every function of torch is slow on a CPU, whose
    caches hold features then.

    Args:
        samples: How many came in.
    """

    def __init__(self, samples: int) -> None:
        self._places: Sequence[int] = range(samples)  # of those that are there, in the batch that came in
        self._steps, self._rows = [0] * samples, [0] * samples  # by place: where among all readings
        self._readings: list[Reading] = []
        self._read = 0

    def note(self, number: int, reading: Reading, leaves: Sequence[bool]) -> None:
        """Note what an exit says.

        Args:
            number: Which step it ends.
            reading: What it says about the samples that are there.
            leaves: Which of these leave.
        """
        for row, (place, gone) in enumerate(zip(self._places, leaves, strict=True), start=self._read):
            if gone:
                self._steps[place], self._rows[place] = number, row
        self._readings.append(reading)
        self._read += len(leaves)

    def go_on(self, rows: Rows) -> None:
        """Go on with some of the samples that were there."""
        self._places = [self._places[row] for row in rows.places]

    def answer(self, steps: Sequence[Step], *, counted: bool) -> Answer:
        """What was noted, in the order in which the samples came.

        Args:
            steps: The net's.
            counted: Whether the operations were counted, for samples of this size.

        Raises:
            UserError: A confidence is not a number.
        """
        confidence, prediction, _ = self._readings[-1]
        if len(prediction) == len(self._rows):  # all have left together
            step = steps[self._steps[0]]
            exits = torch.full_like(prediction, step.gate.exit)
            costs = None if step.cost is None else torch.full_like(prediction, step.cost)
        else:
            at = [steps[number] for number in self._steps]
            told = [self._rows, [step.gate.exit for step in at], [step.cost or 0 for step in at]]
            rows, exits, costs = sent(told, prediction.device)
            confidence = torch.cat([reading.confidence for reading in self._readings])[rows]
            prediction = torch.cat([reading.prediction for reading in self._readings])[rows]
        broken = [*map(math.isnan, confidence.tolist())]  # in place of the wait at the last exit
        if True in broken:
            raise _no_numbers(broken.index(True))
        return Answer(prediction, exits, confidence, costs if counted else None)


def _no_numbers(sample: int) -> UserError:
    return UserError(
        f"the logits of sample {sample} are not numbers; "
        "look for NaN or infinity in the inputs and the weights"
    )

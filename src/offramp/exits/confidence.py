"""Confidence: how sure an exit is of its prediction, by which a sample leaves or goes on."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from offramp.checks import is_number
from offramp.errors import UserError
from offramp.tasks.task import wide

__all__ = [
    "CONFIDENCES",
    "Confidence",
    "Ensemble",
    "Entropy",
    "Margin",
    "MaxSoftmax",
    "Patience",
    "Reading",
    "SingleReading",
]

MANY = 100  # classes up to which probabilities are quicker read as numbers than as a Tensor


class Reading(NamedTuple):
    """What one exit says about n samples.

    Attributes:
        confidence: ``[n]``; higher is surer.
        prediction: The predicted classes, int64 ``[n]``.
        state: What the next evaluated exit needs to know of these samples, ``[n, ...]``; None: nothing.
    """

    confidence: Tensor
    prediction: Tensor
    state: Tensor | None = None


class SingleReading(NamedTuple):
    """What one exit says about one sample, as numbers.

    Attributes:
        confidence: How sure it is; higher is surer.
        prediction: The predicted class.
        dtype: The precision of the confidence.
        state: What the next evaluated exit needs to know of the sample, ``[1, ...]``; None: nothing.
    """

    confidence: float
    prediction: int
    dtype: torch.dtype
    state: Tensor | None = None


class Confidence(ABC):
    """How an exit's logits become a confidence and a prediction.

    Exits are read in order, shallow to deep; an exit that is not evaluated is passed over, as if the net did
    not have it. What is kept from exit to exit is one Tensor with a row for each sample, so that samples can
    leave between them.
    """

    @abstractmethod
    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:
        """Read an exit.

        Args:
            exit: Its number, from 1.
            logits: ``[n, classes]``, divided by the exit's temperature.
            state: What the evaluated exit before has left for these samples; None at the first.
        """

    def read_single(self, exit: int, logits: Tensor, state: Tensor | None) -> SingleReading:
        """Read an exit for one sample: the numbers that :meth:`read` gives.

        Args:
            exit: Its number, from 1.
            logits: ``[1, classes]``, divided by the exit's temperature.
            state: What the evaluated exit before has left for the sample; None at the first.
        """
        confidence, prediction, state = self.read(exit, logits, state)
        return SingleReading(confidence.item(), int(prediction.item()), confidence.dtype, state)

    def probabilities(self, exit: int, logits: Tensor, state: Tensor | None) -> Tensor:
        """The probabilities of all classes at an exit, ``[n, classes]``; the prediction has the largest.

        Args:
            exit: Its number, from 1.
            logits: ``[n, classes]``, divided by the exit's temperature.
            state: What the reading of this exit has left.
        """
        return wide(logits).softmax(-1)


@dataclass(frozen=True)
class MaxSoftmax(Confidence):
    """The probability of the predicted class, from 1/classes to 1."""

    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:  # noqa: D102
        probability, prediction = wide(logits).softmax(-1).max(-1)
        return Reading(probability, prediction)

    def read_single(self, exit: int, logits: Tensor, state: Tensor | None) -> SingleReading:  # noqa: D102
        if logits.shape[-1] > MANY:
            return super().read_single(exit, logits, state)
        probabilities = wide(logits).softmax(-1)
        (numbers,) = probabilities.tolist()
        largest = max(numbers)  # NaN, as all of them are then
        return SingleReading(largest, numbers.index(largest), probabilities.dtype)


@dataclass(frozen=True)
class Margin(Confidence):
    """The probability of the predicted class less that of the runner-up, from 0 to 1."""

    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:  # noqa: D102
        top = wide(logits).softmax(-1).topk(2)
        return Reading(top.values[:, 0] - top.values[:, 1], top.indices[:, 0])


@dataclass(frozen=True)
class Entropy(Confidence):
    """One less the entropy of the probabilities over its largest value, log(classes): from 0 to 1."""

    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:  # noqa: D102
        logs = wide(logits).log_softmax(-1)
        entropy = torch.special.entr(logs.exp()).sum(-1)
        return Reading(1 - entropy / math.log(logits.shape[-1]), logs.argmax(-1))


@dataclass(frozen=True)
class Patience(Confidence):
    """How many exits in a row, this one the last, predict the same class: from 1 up.

    The patience t of PABEE (Zhou et al., NeurIPS 2020: leave once t exits have agreed with the one before) is
    a threshold of t + 1.
    """

    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:  # noqa: D102
        prediction = logits.argmax(-1)
        agreeing = torch.ones_like(prediction)
        if state is not None:
            agreeing += torch.where(prediction == state[:, 0], state[:, 1], 0)
        confidence = torch.where(logits.isnan().any(-1), torch.nan, agreeing.float())
        return Reading(confidence, prediction, torch.stack([prediction, agreeing], 1))


@dataclass(frozen=True)
class Ensemble(Confidence):
    """The probability of the class that the exits so far predict together, by a weighted geometric mean.

    Zero Time Waste (Wołczyk et al., NeurIPS 2021, Eq 2): exit k gives q_k = b_k prod_{j <= k} p_j^{w_kj} / Z,
    over the exits j that are evaluated, and predicts the class of largest q_k.

    Attributes:
        weights: K rows of K numbers w_kj; those with j > k have no use.
        log_bias: K rows of numbers log b_k, one for each class.
    """

    weights: Sequence[Sequence[float]]
    log_bias: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        for name in ("weights", "log_bias"):
            rows = getattr(self, name)
            if not _is_table(rows):
                raise UserError(
                    f"the {name} of an ensemble must be rows of equally many numbers; calibrate again"
                )
            object.__setattr__(self, name, tuple(map(tuple, rows)))
        size = len(self.weights)
        if len(self.weights[0]) != size or len(self.log_bias) != size:
            raise UserError(
                "an ensemble has K rows of K weights, and K rows of log-biases with one for each class"
            )

    def read(self, exit: int, logits: Tensor, state: Tensor | None) -> Reading:
        """Read an exit; the state is log p_j of all K exits, ``[n, K, classes]``, 0 for those not read."""
        logs = wide(logits).log_softmax(-1)
        state = (
            logs.new_zeros(len(logs), len(self.weights), logs.shape[-1]) if state is None else state.clone()
        )
        state[:, exit - 1] = logs
        probability, prediction = self.probabilities(exit, logits, state).max(-1)
        return Reading(probability, prediction, state)

    def probabilities(self, exit: int, logits: Tensor, state: Tensor | None) -> Tensor:  # noqa: D102
        assert state is not None  # a reading leaves one
        weights = state.new_tensor(self.weights[exit - 1][:exit])
        joint = (weights[:, None] * state[:, :exit]).sum(1) + state.new_tensor(self.log_bias[exit - 1])
        return joint.softmax(-1)


def _is_table(rows: object) -> bool:
    """Whether these are rows of equally many finite numbers, at least one."""
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, (list, tuple)) for row in rows):
        return False
    sizes = {len(row) for row in rows}
    return len(sizes) == 1 and 0 not in sizes and all(map(is_number, itertools.chain(*rows)))


CONFIDENCES: dict[str, type[Confidence]] = {
    "max-softmax": MaxSoftmax,
    "margin": Margin,
    "entropy": Entropy,
    "patience": Patience,
    "ensemble": Ensemble,
}

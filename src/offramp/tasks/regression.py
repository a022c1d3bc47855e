"""Regression: numbers for every sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from offramp.checks import choice, number
from offramp.tasks._numbers import known_numbers, mean_of_known
from offramp.tasks.task import Task

__all__ = ["Regression"]

_PENALTIES = ("smooth_l1", "mse")


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """V numbers for every sample: smooth L1 or mean squared error, measured by the mean absolute error.

    Outputs and targets are ``[N, V]``; a target that is not finite is unknown. The loss of a step is the mean
    over all known numbers of its batch. Metrics: ``mae``, the mean of |y' - y|, and ``rmse``, the root of the
    mean of its square, over all known numbers.

    Attributes:
        target: Key of the numbers among a batch's targets.
        penalty: ``"smooth_l1"`` (Girshick, "Fast R-CNN", ICCV 2015, Eq 3), which outliers move less, or
            ``"mse"``.
        beta: Distance at which smooth L1 turns from squared to absolute.

    Raises:
        UserError: A value out of its range.
    """

    primary = "mae"
    better = "lower"
    target: str = "values"
    penalty: str = "smooth_l1"
    beta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self, "penalty", _PENALTIES)
        number(self, "beta", "above 0", lambda v: v > 0)

    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        values, truth, known = self._read(output, target)
        truth = truth.to(values)
        if self.penalty == "mse":
            terms = F.mse_loss(values, truth, reduction="none")
        else:
            terms = F.smooth_l1_loss(values, truth, beta=self.beta, reduction="none")
        return mean_of_known(terms, known)

    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """``[3]``: the sums of absolute and squared errors, known numbers."""
        values, truth, known = self._read(output, target)
        error = torch.where(known, values.double() - truth.double(), 0)
        return torch.stack([error.abs().sum(), error.square().sum(), known.sum().double()])

    def metrics(self, counts: Tensor) -> dict[str, float]:
        """``mae`` and ``rmse``, in the unit of the targets."""
        absolute, squared = (counts[:2] / counts[2]).tolist()  # 0 / 0: not a number
        return {"mae": absolute, "rmse": squared**0.5}

    def _read(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return known_numbers(self.target, output, target, "numbers (not a number: unknown)")

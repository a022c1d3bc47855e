"""Distillation of the last exit into the others by their divergence, at a constant temperature.

The loss of IMTA (Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019), with which
the DR-MGF paper (arXiv 2305.19844, Table 5) trains MSDNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from offramp.checks import choice, number
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import check_soft_targets, divergence, soft_targets

__all__ = ["DivergenceDistillation"]


@dataclass(frozen=True, kw_only=True)
class DivergenceDistillation(Objective):
    """Each exit but the last learns mostly what the last one says.

    The published loss, with p^T the probabilities at temperature T and the teacher p_K without gradient, is

        CE_K + sum_{k<K} [ (1 - gamma) CE_k + gamma T^2 KL(p_K^T || p_k^T) ].

    Loss k holds the k-th term of the sum, loss K holds CE_K.

    ``reduction`` says what KL is. ``batchmean``, the default, is the formula: summed over the classes,
    averaged over the batch. ``mean`` is the published code: the default of PyTorch's KLDivLoss averages over
    the classes too, so that with C classes distillation weighs C times less than the formula says, and with
    the values below little is left of the losses of all exits but the last.

    Attributes:
        alpha: gamma, the share of the soft targets, in [0, 1].
        temperature: T.
        reduction: ``"batchmean"`` or ``"mean"``.

    Raises:
        UserError: A value out of its range.
    """

    whole_batch = ""
    alpha: float = 0.9
    temperature: float = 3.0
    reduction: str = "batchmean"

    def __post_init__(self) -> None:
        super().__post_init__()
        number(self, "alpha", "from 0 to 1", lambda v: 0 <= v <= 1)
        number(self, "temperature", "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)
        choice(self, "reduction", ("batchmean", "mean"))

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        check_soft_targets(net.outputs.values())  # type: ignore[operator]
        return self

    def __call__(self, step: Step) -> list[Tensor]:  # noqa: D102
        targets = soft_targets(step.outputs[-1], self.temperature)
        hard = [step.loss(k) for k in step.present]
        soft = [divergence(z, targets, self.temperature, self.reduction) for z in step.outputs[:-1]]
        soft = [step.mean(of_samples) for of_samples in soft]  # of all processes
        weight = self.alpha * self.temperature**2
        return [*((1 - self.alpha) * a + weight * b for a, b in zip(hard, soft, strict=False)), hard[-1]]

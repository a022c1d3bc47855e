"""Base of the objectives: options, and the losses of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from offramp.methods.objectives.factors import Factors, check_factors
from offramp.methods.objectives.step import Step

__all__ = ["Objective"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Turns a step into one loss for each output with a target. A subclass's fields are the method's options.

    Attributes:
        needs: What a step must bring beside the outputs: ``"features"``.
        one_by_one: Whether each loss reads its own output alone, so that outputs may be of different samples.
        reads_epochs: What in it depends on how many epochs there will be.
        bilevel: Whether it learns weights by the bilevel loop: what it binds to is a
            :class:`~offramp.methods._learner.Learner`.
        weights: Fixed factors of the K losses: one per output in order, or by the outputs' names, e.g.
            ``{"normals": 10}``; 1 where none is given.

    Raises:
        UserError: A weight is negative or not a number.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    one_by_one: ClassVar[bool] = False
    reads_epochs: ClassVar[tuple[str, ...]] = ()
    bilevel: ClassVar[bool] = False
    weights: Factors | None = None

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        bounds = "a factor of 0 or more per output, not all 0, e.g. [1, 1, 2] or {depth: 2}"
        weights = check_factors(self, "weights", bounds, lambda factors: min(factors) >= 0 < max(factors))
        object.__setattr__(self, "weights", weights)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:
        """Bind the objective to the net that is trained.

        An objective that learns or remembers returns an ``nn.Module``: its parameters are trained with the
        net's, its state goes into the checkpoints, and neither is part of the trained net.

        Args:
            net: The net.
            seed: Seed of the run, for what the objective draws by itself.

        Raises:
            UserError: The net lacks what the objective needs.
        """
        return self

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches; empty where the losses are means over samples."""
        return f"{type(self).__name__} does not say that its losses are means over samples"

    def __call__(self, step: Step) -> list[Tensor]:
        """Losses of a step: a scalar in float32 or wider for each output that has a target."""
        raise NotImplementedError

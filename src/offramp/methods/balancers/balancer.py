"""Base of all balancers: a frozen set of options that weighs K losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from offramp.methods.objectives.step import Step
from offramp.methods.passes import Passes

__all__ = ["Balancer"]


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """Turns K losses into K weighted losses. The fields of a subclass are the method's options.

    It stands between objective and combiner. A weight acts on all that its loss reaches, heads and other
    parameters of one owner included, where the weights of a row combiner act on shared parameters alone.

    Attributes:
        needs: What a step must bring beside the outputs: ``"features"``, ``"trunk"``; ``"epoch"``, the number
            of whole epochs done; ``"graph"``, one that several backward passes can go through.
        reads_epochs: What of it depends on how many epochs there will be.
        looks_back: Whether it wants the losses of a batch once more after the optimiser's step. What it binds
            to has a method ``look_back(losses, step)``, and is called only where all of the batch is there.
        bilevel: Whether it learns weights by the bilevel loop: what it binds to is a
            :class:`~offramp.methods._learner.Learner`.
        passes: What it adds to a step, in passes of joint training.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reads_epochs: ClassVar[tuple[str, ...]] = ()
    looks_back: ClassVar[bool] = False
    bilevel: ClassVar[bool] = False
    passes: ClassVar[Passes] = Passes(0, 0)

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step], list[Tensor]]:
        """Bind the balancer to the net that is trained.

        A balancer that learns or remembers returns an ``nn.Module``. Its parameters are trained with the
        net's by the gradient of the weighted losses' sum, averaged over processes; its attribute
        ``optimizer_settings``, if it has one, says in which of ``lr`` (peak learning rate) and
        ``weight_decay`` they differ from the recipe's. Its state goes into the checkpoints; what a batch
        changes belongs in buffers, which a trial pass over a part of the batch puts back.

        Args:
            net: The net.
            seed: The run's, for what the balancer draws by itself; equal on all processes.

        Raises:
            UserError: The net lacks what the balancer needs.
        """
        return self

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches; empty where weighted losses are linear in the losses.

        What a batch changes must then wait for its last micro-batch (:attr:`Step.more`).
        """
        return f"{type(self).__name__} does not say that it can weigh the losses of micro-batches"

    def __call__(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """Weigh the losses one by one, in their order.

        Fixed factors of the losses, an objective's ``weights``, come on top of what this returns.

        Args:
            losses: One scalar for each output that has a target (:attr:`Step.present`), in that order,
                without fixed factors, in float32 or wider. One that has the factor 0 is not among them.
            step: The step they come from.
        """
        raise NotImplementedError

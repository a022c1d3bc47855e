"""Base of all combiners: a frozen set of options that turns K losses into gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from offramp.methods.combiners.backward import Backward
from offramp.methods.objectives.step import Step
from offramp.methods.passes import Passes

__all__ = ["Combiner"]


@dataclass(frozen=True, kw_only=True)
class Combiner:
    """Turns K losses into gradients. The fields of a subclass are the method's options.

    Attributes:
        needs: What it works on: ``"losses"``, the ``"gramian"`` of their gradients, or these ``"rows"``
            themselves; ``"trunk"`` if it wants the features between the stages, and ``"junctions"`` if it
            cannot do without those at the forks; ``"factors"`` if it is called with ``factors``, output ->
            what its loss has been multiplied by.
        reads_epochs: What of it depends on how many epochs there will be.
        own_optimizer: The recipe's optimisers that it can make one of its own from; none: any takes its
            steps. What it binds to has a method ``optimizer(optimizer, clip)``, which returns the one that
            takes the steps and clips the gradients.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    reads_epochs: ClassVar[tuple[str, ...]] = ()
    own_optimizer: ClassVar[tuple[str, ...]] = ()

    @property
    def passes(self) -> Passes:
        """Cost of a step in passes of joint training, assuming evenly spaced outputs."""
        return Passes()

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Sequence[Tensor], Step, Backward], None]:
        """Bind the combiner to the net that is trained.

        A combiner that remembers returns an ``nn.Module``, whose state goes into the checkpoints.

        Args:
            net: The net.
            seed: The run's, for what the combiner draws by itself; equal on all processes.

        Raises:
            UserError: The net lacks what the combiner needs.
        """
        return self

    @property
    def whole_batch(self) -> str:
        """Why no batch can be cut into micro-batches; empty where their gradients add up to the batch's."""
        return f"{type(self).__name__} does not say that it waits for a batch's last micro-batch"

    def __call__(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Add a gradient to ``.grad`` of every parameter.

        Of a batch that is cut (:attr:`Step.more`) all of it is there after the last micro-batch, as if the
        losses of all of them had been summed first. Processes are averaged over only then.

        Args:
            losses: One scalar for each output that has a target (:attr:`Step.present`), in that order. An
                output that is absent has no row; what only absent outputs own gets no gradient.
            step: The step they come from.
            backward: How to get gradients.
        """
        raise NotImplementedError

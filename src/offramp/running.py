"""A method at work on one net."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from offramp.balancers import Equal
from offramp.combiners import Backward
from offramp.errors import UserError
from offramp.grammar import Method
from offramp.nets import Net
from offramp.objectives import Step

__all__ = ["Running"]


class Running(nn.Module):
    """A method at work on one net: what its parts learn and remember is in here.

    Args:
        method: Which.
        net: The net, prepared by the method.
        seed: The run's, for what the method draws by itself.

    Raises:
        UserError: The net lacks what the method needs, or has another number of exits than there are weights.
    """

    def __init__(self, method: Method, net: Net, seed: int = 0) -> None:
        super().__init__()
        self.needs = method.needs
        self.weights = method.objective.weights
        if self.weights is not None and len(self.weights) != net.num_exits:
            raise UserError(
                f"weights are {len(self.weights)}, exits {net.num_exits}; give one weight per exit"
            )
        self.objective = method.objective.start(net, seed)
        self.balancer = method.balancer.start(net, seed)
        self.combiner = method.combiner.start(net, seed)

    def losses(self, step: Step) -> list[Tensor]:
        """The K losses of a step."""
        losses = self.objective(step)
        return self._times_weights(losses, step)

    def combine(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Fill the gradients; those of what objective and balancer learn are of the weighted losses' sum.

        The losses of a micro-batch count for its share of the batch, so that those of all of them add up.
        """
        weighted = self.balanced(losses, step)
        if step.share < 1:
            weighted = [step.share * loss for loss in weighted]
        self.combiner(weighted, step, backward)

    def balanced(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """The K losses as the combiner gets them, weighted by the balancer and by fixed factors."""
        if self.weights is None or isinstance(self.balancer, Equal):
            return self.balancer(losses, step)
        weights = [self.weights[k] for k in step.present]
        plain = [loss / weight if weight else loss for weight, loss in zip(weights, losses, strict=True)]
        return self._times_weights(self.balancer(plain, step), step)

    def _times_weights(self, losses: list[Tensor], step: Step) -> list[Tensor]:
        if self.weights is None:
            return losses
        # a loss without weight reaches nothing: gradients of zeros would let decay and momentum move a head
        return [
            self.weights[k] * (loss if self.weights[k] else loss.detach())
            for k, loss in zip(step.present, losses, strict=True)
        ]

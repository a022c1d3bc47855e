"""A method bound to a net: a batch -> a step, its losses, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from offramp.data.batch import Batch
from offramp.distributed.collectives import mean_all
from offramp.forks import rotations_of
from offramp.methods._learner import Learner
from offramp.methods.balancers import Balancer, Equal
from offramp.methods.by_parts import ForwardByParts
from offramp.methods.combiners import Backward, Combiner
from offramp.methods.combiners.jacobian import run_with_lasting_graph
from offramp.methods.objectives import Objective, Step
from offramp.methods.objectives.factors import factors_of
from offramp.modes import buffers_kept
from offramp.nets import MultiExitNet, MultiTaskNet
from offramp.tasks import Task

__all__ = ["BoundMethod", "MethodParts"]


class MethodParts(Protocol):
    """The parts of a method that work on a step, as :class:`~offramp.methods.Method` has them."""

    @property
    def name(self) -> str:
        """What messages call the method."""

    @property
    def objective(self) -> Objective:
        """A step -> K losses."""

    @property
    def balancer(self) -> Balancer:
        """K losses -> K weighted losses."""

    @property
    def combiner(self) -> Combiner:
        """K losses -> gradients."""

    @property
    def needs(self) -> frozenset[str]:
        """What the parts need: ``losses``, ``gramian`` or ``rows``; and more that a step may bring."""

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """Which parts or options depend on the number of epochs."""

    @property
    def whole_batch(self) -> list[str]:
        """Why no batch can be cut into micro-batches."""


class BoundMethod(nn.Module):
    """A method at work on one net, for a loop that goes through :meth:`step` to :meth:`combine`.

    Its parameters are what the method learns beside the net (log variances, adapters), for the optimiser to
    train too; its state is what the method remembers from step to step. The net is in neither.

    Args:
        method: The method.
        net: The net, its forks in place.
        seed: Of what the method draws by itself.

    Attributes:
        net: The net.

    Raises:
        UserError: The net lacks what the method needs, or has other outputs than there are weights.
    """

    def __init__(self, method: MethodParts, net: nn.Module, seed: int = 0) -> None:
        super().__init__()
        outputs: Mapping[str, Task] = net.outputs  # type: ignore[assignment]
        self.method, self.needs = method, method.needs
        weights = method.objective.weights
        self.weights = None if weights is None else factors_of(weights, outputs, "weights")
        self._net = (net,)  # in a tuple, since it is no part of this module
        self._forward = (ForwardByParts(net),)
        self.objective = method.objective.bind(net, seed)
        self.balancer = method.balancer.bind(net, seed)
        self.combiner = method.combiner.bind(net, seed)
        self.rotations: Any = nn.ModuleList(rotations_of(net))

    @property
    def net(self) -> nn.Module:
        """The net that the method trains."""
        return self._net[0]

    @property
    def learner(self) -> Learner:
        """The part whose weights of losses a bilevel loop trains."""
        part = self.balancer if self.method.balancer.bilevel else self.objective
        return cast(Learner, part)

    def step(
        self,
        batch: Batch,
        model: Callable[..., Any],
        tasks: Sequence[Task],
        *,
        reach: set[str],
        share: float = 1.0,
        how: Mapping[str, Any] | None = None,
        **when: Any,
    ) -> Step:
        """One forward pass, or one for each data set of a :class:`~offramp.data.JointBatch`.

        Args:
            batch: The samples.
            model: What to call in the net's stead.
            tasks: The task of each output.
            reach: What the pass can keep beside the outputs: ``features`` and ``trunk``.
            share: Share of the whole batch that these samples are.
            how: Keywords of the model.
            when: Further attributes of the :class:`~offramp.methods.objectives.Step`.
        """
        net, how = self.net, how or {}
        keeping = (MultiExitNet, MultiTaskNet) if "junctions" in self.needs else MultiExitNet
        keep = bool(self.needs & reach) and isinstance(net, keeping)

        def forward_part(samples: Batch) -> tuple[Sequence[Tensor], Any, Any]:
            if keep:
                return model(samples.inputs, keep=True, **how)  # type: ignore[no-any-return]
            return model(samples.inputs, **how), None, None

        def forward() -> tuple[Sequence[Tensor], Any, Any]:
            return self._forward[0](batch, tasks, forward_part)

        one_pass = "losses" in self.needs and "graph" not in self.needs
        outputs, features, trunk = forward() if one_pass else run_with_lasting_graph(forward, net)

        def part(fraction: float) -> tuple[list[Tensor], Step]:
            with buffers_kept(net), buffers_kept(self):
                alone = {key: value for key, value in when.items() if key not in ("whole", "more")}
                step = self.step(
                    batch.portion(fraction), model, tasks, reach=reach, how=how, **alone, trial=True
                )
                return self.balanced(self.losses_of(step), step), step

        return Step(
            net,
            outputs,
            tasks,
            batch.targets,
            features=features,
            trunk=trunk if "trunk" in reach else None,
            part=part,
            share=share,
            **when,
        )

    def losses_of(self, step: Step) -> list[Tensor]:
        """The losses of a step, times their fixed weights; none where no output has a target."""
        return self._times_weights(self.objective(step), step) if step.present else []

    def combine(self, losses: Sequence[Tensor], step: Step, backward: Backward) -> None:
        """Fill the gradients; those of what objective and balancer learn are of the weighted losses' sum.

        Rotations at forks learn by an optimiser of their own, and take a step.

        The losses of a micro-batch count for its share of the batch, so that those of all of them add up.
        """
        weighted = self.balanced(losses, step)
        also = {"factors": self._factors(losses, weighted, step)} if "factors" in self.needs else {}
        if step.share < 1:
            weighted = [step.share * loss for loss in weighted]
        for rotations in self.rotations:
            rotations.expect(backward.scale * step.processes)
        self.combiner(weighted, step, backward, **also)
        for rotations in self.rotations:
            rotations.learn()
        if not step.more:
            mean_all(p.grad for p in self.parameters())  # not in the model that averages its gradients

    def optimizer(self, optimizer: torch.optim.Optimizer, clip: float = 0.0) -> torch.optim.Optimizer:
        """Make what takes the steps: the optimiser itself, unless the combiner brings one of its own.

        Args:
            optimizer: Over the parameters of the net and of this module; it has taken no step.
            clip: Largest norm of a gradient, for an optimiser of the combiner's own, which clips each
                loss's; 0 leaves it alone. Who keeps the optimiser clips the whole gradient before its steps.

        Raises:
            UserError: The combiner cannot make one of it.
        """
        if not self.brings_optimizer:
            return optimizer
        made: torch.optim.Optimizer = self.combiner.optimizer(optimizer, clip)  # type: ignore[attr-defined]
        return made

    @property
    def brings_optimizer(self) -> bool:
        """Whether the combiner brings an optimiser of its own."""
        return bool(self.method.combiner.own_optimizer)

    def drop_unfinished(self) -> None:
        """Forget the rows of micro-batches that others of their batch will not follow."""
        if (jacobian := getattr(self.combiner, "jacobian", None)) is not None:
            jacobian.drop_unfinished()

    def balanced(self, losses: Sequence[Tensor], step: Step) -> list[Tensor]:
        """The K losses as the combiner gets them, weighted by the balancer and by fixed factors."""
        if self.weights is None or isinstance(self.balancer, Equal):
            return self.balancer(losses, step)
        heard, plain = self._heard(losses, step)
        weighted = iter(self.balancer(plain, heard) if plain else [])
        # a loss without weight is 0 already
        every = [
            next(weighted) if k in heard.present else loss
            for k, loss in zip(step.present, losses, strict=True)
        ]
        return self._times_weights(every, step)

    @property
    def looks_back(self) -> bool:
        """Whether the balancer wants the losses of a batch once more after the optimiser's step."""
        return self.method.balancer.looks_back

    def look_back(self, step: Step) -> None:
        """Show the balancer the losses of a batch as they are after the optimiser's step.

        Args:
            step: A pass over the same batch, with the draws of the first one.
        """
        if step.present:
            heard, plain = self._heard(self.losses_of(step), step)
            if plain:
                self.balancer.look_back(plain, heard)  # type: ignore[attr-defined]

    def _heard(self, losses: Sequence[Tensor], step: Step) -> tuple[Step, list[Tensor]]:
        """What a balancer hears of: the step without outputs whose fixed weight is 0, and plain losses."""
        if self.weights is None:
            return step, list(losses)
        weights = [self.weights[k] for k in step.present]
        heard = step.of([k for k, weight in zip(step.present, weights, strict=True) if weight])
        return heard, [loss / weight for weight, loss in zip(weights, losses, strict=True) if weight]

    def _factors(self, losses: Sequence[Tensor], weighted: Sequence[Tensor], step: Step) -> dict[int, float]:
        """What each output's plain loss has been multiplied by: its fixed weight, and the balancer's."""
        fixed = {k: 1.0 if self.weights is None else self.weights[k] for k in step.present}
        if isinstance(self.balancer, Equal):
            return fixed
        pairs = {
            k: (loss, result)
            for k, loss, result in zip(step.present, losses, weighted, strict=True)
            if loss.requires_grad and fixed[k]
        }
        slopes = [torch.autograd.grad(result, loss, retain_graph=True)[0] for loss, result in pairs.values()]
        balanced = torch.stack(slopes).tolist() if slopes else []
        return fixed | {k: slope * fixed[k] for k, slope in zip(pairs, balanced, strict=True)}

    def _times_weights(self, losses: list[Tensor], step: Step) -> list[Tensor]:
        if self.weights is None:
            return losses
        # a loss without weight reaches nothing: gradients of zeros would let decay and momentum move a head
        return [
            self.weights[k] * (loss if self.weights[k] else loss.detach())
            for k, loss in zip(step.present, losses, strict=True)
        ]

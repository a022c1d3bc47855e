"""The beginning of a period: what is trained in it, with an optimiser and a schedule from the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from offramp.data.batch import Batch
from offramp.methods import Method
from offramp.methods.bound import BoundMethod
from offramp.methods.loops import LoopContext
from offramp.methods.regimes import Period
from offramp.nets import Net
from offramp.nets.branch import Branch
from offramp.recipes.milestones import scaled
from offramp.recipes.recipe import Recipe
from offramp.tasks import Task
from offramp.training._freezing import Freezing
from offramp.training._groups import grouped
from offramp.training._optimizer import build_optimizer
from offramp.training._placement import model_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

__all__ = ["context_of", "method_of", "recipe_of"]


class Batches(Protocol):
    """Batches for a loop to look at, as :class:`~offramp.training._feed.Feed` has them."""

    def few(self, number: int, count: int) -> Iterator[Batch]:
        """A few training batches, a pure function of a number."""

    def outer(self, number: int) -> Iterator[Batch]:
        """Batches for a bilevel loop, without end, from a number on."""


def method_of(period: Period, method: Method) -> Method:
    """The method as it works in a period: joint training where a single exit has a loss."""
    return method if period.output is None else method.plain


def recipe_of(period: Period, recipe: Recipe) -> Recipe:
    """The recipe of a period: the schedule of the whole training in fewer epochs, at its learning rate."""
    if period.epochs == recipe.epochs and period.lr_factor == 1:
        return recipe
    milestones = scaled(recipe.milestones, recipe.epochs, period.epochs)
    multistep = recipe.schedule == "multistep"
    return dataclasses.replace(
        recipe,
        epochs=period.epochs,
        lr=period.lr_factor * recipe.lr,
        milestones=milestones if multistep else recipe.milestones,
        schedule="constant" if multistep and not milestones else recipe.schedule,
    )


def context_of(
    net: Net,
    period: Period,
    method: Method,
    recipe: Recipe,
    tasks: Mapping[str, Task],
    feed: Batches,
    fabric: Fabric,
    freezing: Freezing,
) -> LoopContext:
    """Freeze what the period does not train, bind the method, and gather the means to train.

    Args:
        net: The whole net, in its place.
        period: The period.
        method: As :func:`method_of` gives it.
        recipe: As :func:`recipe_of` gives it.
        tasks: The task of each of the net's outputs.
        feed: The batches beside those of the steps.
        fabric: Device, precision, processes.
        freezing: Freezes parts of the net.
    """
    if period.begin is not None:
        period.begin()
    whole = net
    if period.output is not None:
        name = [*tasks][period.output]
        net, tasks = Branch(net, period.output), {name: tasks[name]}  # type: ignore[arg-type]
    if period.trained is not None or isinstance(net, Branch):
        freezing.all_but([net] if period.trained is None else period.trained)
    else:
        freezing.undo()
    # DistributedDataParallel waits for the gradient of all that is trained, also of a task that is absent
    every_time = len({task.target for task in tasks.values()}) == 1
    one_pass = "losses" in method.needs and "graph" not in method.needs
    plain_backward = one_pass and not method.loop.own_backward and every_time
    bound = BoundMethod(method, net, recipe.seed).to(fabric.device)

    def optimizer(parameters: Iterable[Any]) -> _FabricOptimizer:
        groups = grouped(parameters, recipe, whole, bound)
        taking_steps = bound.optimizer(build_optimizer(groups, recipe), recipe.clip)
        return cast("_FabricOptimizer", fabric.setup_optimizers(taking_steps))

    return LoopContext(
        model=model_of(net, recipe, fabric, plain_backward=plain_backward),
        net=net,
        bound=bound,
        fabric=fabric,
        optimizer=optimizer,
        batches=feed.few,
        outer=feed.outer,
        epochs=recipe.epochs,
        seed=recipe.seed,
        compiled=recipe.compile,
        tasks=[*tasks.values()],
        clip=recipe.clip,
        accumulate=recipe.accumulate,
    )

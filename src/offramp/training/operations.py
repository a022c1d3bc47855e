"""What a method's training costs in operations, counted while a copy of the net is trained a little."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch

from offramp.copying import deep_copy
from offramp.counting import cost
from offramp.data.batch import Batch
from offramp.flops import Tally, without_formula
from offramp.methods import Method
from offramp.methods.combiners.row_combiner import RowCombiner
from offramp.methods.loops import LoopContext, Progress
from offramp.methods.regimes import Period
from offramp.nets import Net
from offramp.nets.sample import sample_of
from offramp.recipes.recipe import Recipe
from offramp.training._freezing import Freezing
from offramp.training._modes import in_training_mode
from offramp.training._period import context_of, method_of
from offramp.training._rehearsal import rehearse
from offramp.unchanged import unchanged

__all__ = ["Operations", "training_operations"]

EPOCHS = 5040  # which so many periods share out evenly
RECIPE = Recipe(epochs=2, schedule="constant", channels_last=False)
PROGRESS = Progress(epoch=1, fraction=0.5, lr=RECIPE.lr)  # not the first epoch, in which some loops do more
UNEVEN = "a training step: its operations do not grow evenly with the batch, as where layers run at random"


@dataclass(frozen=True)
class Operations:
    """Multiply-accumulates of convolutions and matrix products, forward and backward.

    Attributes:
        macs: For each training image of an epoch, in all parts of the epoch; None if some are unknown.
        once: What comes on top once an epoch, however long, for each image of a batch.
        unknown: Why some are unknown.
    """

    macs: int | None
    once: int = 0
    unknown: tuple[str, ...] = ()


def training_operations(net: Net, method: Method) -> Operations:
    """Count what a method's training computes for each image, as the method really does it.

    A copy of the net is trained for an epoch with one batch in each part, for batches of three sizes, and so
    in each period of a regime. What one more image adds counts, times the part's share of the images and the
    period's of the epochs. What a batch of any size costs does not
    count: inner products of gradients, solvers, the optimiser. Nor do norms, activations and pooling.

    Args:
        net: The net; it is left as it was.
        method: The method with its options.

    Raises:
        UserError: The method cannot train this net.
    """
    unknown = (*cost(net).unknown, *method.loop.reads_data)
    if unknown:
        return Operations(None, unknown=unknown)
    part = Fraction(_row_combiner(method).part).limit_denominator(100).denominator  # the part of it is whole
    size = part * method.loop.parts
    with unchanged(net):
        epochs = [_mean_epoch(net, method, times * size) for times in (2, 3, 4)]
    if epochs[0].hiding:
        return Operations(None, unknown=(f"a training step: {without_formula(epochs[0].hiding)}",))
    grown = [(b.steps - a.steps, b.once - a.once) for a, b in itertools.pairwise(epochs)]
    if grown[0] != grown[1]:
        return Operations(None, unknown=(UNEVEN,))
    steps, once = grown[0]
    return Operations(round(steps / size), round(once / size))


@dataclass
class _Epoch:
    steps: Fraction  # operations of a step in every part, times the part's share of the images
    once: Fraction  # operations before and after the steps of the parts
    hiding: list[str]  # operators that cannot be counted


def _mean_epoch(net: Net, method: Method, images: int) -> _Epoch:
    """An epoch of one batch in each part, on a copy of the net: the mean over the periods of the training."""
    mean = _Epoch(Fraction(0), Fraction(0), [])
    trained = method.prepare(deep_copy(net).cpu())
    with in_training_mode(trained), Freezing(trained) as freezing:
        for period in method.regime.periods(EPOCHS, trained):
            epoch = _epoch(trained, period, method_of(period, method), images, freezing)
            share = Fraction(period.epochs, EPOCHS)
            mean.steps += share * epoch.steps
            mean.once += share * epoch.once
            mean.hiding += epoch.hiding
    return mean


def _epoch(net: Net, period: Period, method: Method, images: int, freezing: Freezing) -> _Epoch:
    """An epoch of a period with one batch in each part."""
    every = max(_row_combiner(method).every, method.loop.every)  # of so many the first alone finds weights
    tally = Tally()
    total = _Epoch(Fraction(0), Fraction(0), tally.hiding)
    with torch.enable_grad():
        context = _bench(net, period, method, images, freezing)
        rehearse(context, images, PROGRESS, "count with more images")
        loop = method.loop.bind(context)
        for name in ("weigh", "aggregate"):  # a combiner's algebra with the gradients
            if hasattr(context.bound.combiner, name):
                own = getattr(context.bound.combiner, name)
                setattr(context.bound.combiner, name, tally.aside()(own))
        for rotations in context.bound.rotations:
            rotations.learn = tally.aside()(rotations.learn)
        with tally.at_work():
            for index, part in enumerate(loop.phases):
                marks = [tally.macs]
                loop.begin(index, PROGRESS)
                for _ in range(1 if every == 1 else 2):
                    marks.append(tally.macs)
                    loop.step(index, next(context.batches(0, 1)), PROGRESS)
                marks.append(tally.macs)
                loop.end(index, PROGRESS)
                begun, first, *later = (b - a for a, b in itertools.pairwise(marks))
                total.once += begun + tally.macs - marks[-1]
                total.steps += Fraction(part.share) * (first + (every - 1) * sum(later)) / every
    return total


def _bench(net: Net, period: Period, method: Method, images: int, freezing: Freezing) -> LoopContext:
    from lightning_fabric import Fabric

    inputs = sample_of(net, images)
    with torch.no_grad(), unchanged(net):
        outputs = zip(net.outputs.values(), net(inputs), strict=True)
        batch = Batch(inputs, {task.target: task.example_target(output) for task, output in outputs})
    fabric = Fabric(accelerator="cpu", devices=1)
    optimizer = next(iter(method.combiner.own_optimizer), RECIPE.optimizer)
    recipe = RECIPE.replace(optimizer=optimizer)
    return context_of(net, period, method, recipe, net.outputs, _Same(batch), fabric, freezing)


@dataclass(frozen=True)
class _Same:
    """One batch, over and over."""

    batch: Batch

    def few(self, number: int, count: int) -> Iterator[Batch]:
        return itertools.repeat(self.batch, count)

    def outer(self, number: int) -> Iterator[Batch]:
        return itertools.repeat(self.batch)


def _row_combiner(method: Method) -> RowCombiner:
    """The combiner, or one that finds weights at every step from whole batches."""
    return method.combiner if isinstance(method.combiner, RowCombiner) else RowCombiner()

"""The metrics of the last epochs of a training: each measured once after it, on the test set, and averaged.

Sun et al., "DR-MGF", arXiv:2305.19844, report the mean of the last 10 epochs, and choose none of them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from offramp.copying import values_kept
from offramp.nets import Net
from offramp.recipes import Recipe
from offramp.runs.kept_epochs import KeptEpochs
from offramp.runs.result import LastEpochs, Result
from offramp.say import say
from offramp.tasks.evaluation import Metrics

__all__ = ["EndOfTraining", "with_last_epochs"]

PUBLISHED = 10  # of nets with dense outputs, as published


def with_last_epochs(recipe: Recipe, net: Net) -> Recipe:
    """The recipe with its number of last epochs decided: by default 10 of nets with dense outputs, else 0."""
    if recipe.last_epochs is not None:
        return recipe
    dense = any(task.dense for task in net.outputs.values())
    return recipe.replace(last_epochs=PUBLISHED if dense else 0)


class EndOfTraining:
    """The last epochs of a training, as many as its recipe says or has.

    Args:
        recipe: With its `last_epochs` decided.
        kept: Keeps their weights.
    """

    def __init__(self, recipe: Recipe, kept: KeptEpochs) -> None:
        self.epochs = range(max(recipe.epochs - (recipe.last_epochs or 0), 0) + 1, recipe.epochs + 1)
        self.kept = kept
        self._metrics: dict[int, Metrics] = {}

    def keep(self, epoch: int, net: Net) -> None:
        """Keep the weights after an epoch (from 1), if it is one of the last.

        Raises:
            UserError: The disk is full or not writable.
        """
        if epoch in self.epochs:
            self.kept.save(epoch, net)

    def measure(self, net: Net, evaluate: Callable[[], Metrics]) -> None:
        """Measure the net with the weights of all these epochs but the very last; it gets its own back."""
        if not self.epochs:
            return
        self._metrics = self.kept.metrics()
        there = {*self.kept.epochs} - self._metrics.keys()
        own = [values_kept(tensor) for tensor in itertools.chain(net.parameters(), net.buffers())]
        try:
            for epoch in self.epochs[:-1]:
                if epoch in there:
                    self.kept.load(epoch, net)
                    self._metrics[epoch] = evaluate()
        finally:
            for put_back in own:
                put_back()

    def conclude(self, result: Result) -> Result:
        """The result of the final epoch with the mean of the last ones, whose metrics are kept on disk.

        Raises:
            UserError: The disk is full or not writable.
        """
        if not self.epochs:
            return result
        self._metrics[self.epochs[-1]] = result.metrics
        found = {epoch: self._metrics[epoch] for epoch in self.epochs if epoch in self._metrics}
        if lost := [epoch for epoch in self.epochs if epoch not in found]:
            say(f"the mean of the last epochs is without {lost}: their weights are no longer there")
        self.kept.check_alike(found, result.metrics)
        self.kept.save_metrics(found)
        return dataclasses.replace(result, last_epochs=LastEpochs((*found,), _mean([*found.values()])))


def _mean(metrics: Sequence[Metrics]) -> Metrics:
    outputs = {name: _means([each.outputs[name] for each in metrics]) for name in metrics[0].outputs}
    ensembles = [each.ensemble for each in metrics if each.ensemble is not None]
    return Metrics(outputs, _means(ensembles) if ensembles else None)


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in values) for name in values[0]}

"""One graph of a whole net, in which samples leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto

from offramp.bundles._graph import Graph
from offramp.bundles._joined import JoinedNet

__all__ = ["whole_graph"]

# Branches within one another: readers give up at 100 messages of a file within one another, and each takes 3.
DEEPEST = 24


def whole_graph(net: JoinedNet, compacted: Sequence[bool] = ()) -> ModelProto:
    """One graph, in which samples that leave are taken out and the others go on.

    It reads the inputs and ``thresholds``, and gives ``probabilities``, ``exit`` and ``confidence``, in the
    order of the samples. What follows an exit at which samples are taken out is a branch, which runs if any
    sample stays; of many exits only each second or third has one, and samples that leave at the others run
    along to it.

    Args:
        net: The net.
        compacted: Whether samples are taken out of the batch at each evaluated exit but the last, or run
            along to the next; empty: at all of them.
    """
    graph = Graph("offramp")
    values = net.entered(graph)
    thresholds = graph.input("thresholds", np.float32, net.thresholds)
    count = graph.node("Squeeze", graph.node("Shape", net.inputs[0].name, start=0, end=1))
    samples = _counted(graph, count)
    inner = len(net.steps) - 1
    every = max(1, math.ceil(inner / DEEPEST))
    branches = [place % every == every - 1 for place in range(inner)]
    compacted = [*map(all, zip(branches, compacted or branches, strict=True))]
    whole = _WholeGraph(net, compacted, thresholds, count, samples)
    answers = whole.add(graph, _Batch(samples, values), [])
    whole.declare(graph, answers, ("probabilities", "exit", "confidence"))
    return graph.model()


class _Batch(NamedTuple):
    """The rows of a batch on their way from one step to the next.

    Attributes:
        samples: Of each row the number of its sample.
        values: What the next step reads.
        left: Whether each row's sample has left; empty: none has.
    """

    samples: str
    values: Sequence[str]
    left: str = ""


class _Evaluation(NamedTuple):
    """The readings of one exit: of each row the answer, and the number of the row's sample."""

    probabilities: str
    exits: str
    confidence: str
    samples: str


@dataclass(frozen=True)
class _WholeGraph:
    """The builder of the graph, with what all its branches read.

    Attributes:
        net: The net.
        compacted: At which exits but the last samples are taken out, before a branch of all that follows.
        thresholds: Of the exits.
        count: How many samples there are.
        samples: Their numbers.
    """

    net: JoinedNet
    compacted: Sequence[bool]
    thresholds: str
    count: str
    samples: str

    def add(self, graph: Graph, batch: _Batch, before: Sequence[_Evaluation]) -> Sequence[str]:
        """Add a step and all that follow it.

        Args:
            graph: What they are added to.
            batch: What the step reads.
            before: What the exits before have said.

        Returns:
            The answers to all samples: probabilities, exits and confidences.
        """
        place = len(before)
        step = self.net.steps[place]
        probabilities, confidence, values = step.run(graph, batch.values)
        exits = graph.node("Expand", graph.constant(np.int64(step.exit)), graph.node("Shape", batch.samples))
        samples = batch.samples
        if batch.left:  # what is said of these does not count: they go under a number that no sample has
            samples = graph.node("Where", batch.left, self.count, samples)
        said = [*before, _Evaluation(probabilities, exits, confidence, samples)]
        if step is self.net.steps[-1]:
            return self._answers(graph, said)
        leaves = graph.node("GreaterOrEqual", confidence, self._threshold(graph, place, probabilities))
        if batch.left:
            leaves = graph.node("Or", batch.left, leaves)
        along = _Batch(batch.samples, values, leaves)
        return (self._add_branch if self.compacted[place] else self.add)(graph, along, said)

    def _add_branch(self, graph: Graph, batch: _Batch, said: Sequence[_Evaluation]) -> Sequence[str]:
        """Take out the samples that leave, and add all that follows the exit, in a branch of its own.

        Args:
            graph: What it is added to.
            batch: What the step up to the exit carries on, of all samples that came to it.
            said: What the exits so far have said.

        Returns:
            As of :meth:`add`.
        """
        step = self.net.steps[len(said) - 1]
        # ONNX Runtime gathers rows on all of its threads, and compresses on one.
        stay = graph.node("NonZero", graph.node("Not", batch.left))
        rows = graph.node("Squeeze", stay, graph.constant(np.zeros(1, np.int64)))
        some_stay = graph.node("Cast", graph.node("Size", rows), to=TensorProto.BOOL)
        on, over = graph.branch(f"after exit {step.exit}"), graph.branch(f"ended at exit {step.exit}")
        kept = [
            on.node("Gather", name, rows, axis=0) if value.batched else name
            for name, value in zip(batch.values, step.carries, strict=True)
        ]
        batch = _Batch(on.node("Gather", batch.samples, rows, axis=0), kept)
        for branch, answers in ((on, self.add(on, batch, said)), (over, self._answers(over, said))):
            self.declare(branch, answers, [f"graph/{branch.name}/{number}" for number in range(3)])
        return graph.either(some_stay, on, over)

    def declare(self, graph: Graph, answers: Sequence[str], names: Sequence[str]) -> None:
        """Declare the answers to all samples as a graph's outputs."""
        kinds: Any = (np.float32, [self.net.classes]), (np.int64, []), (np.float32, [])
        for name, answer, (dtype, shape) in zip(names, answers, kinds, strict=True):
            graph.output(name, answer, dtype, ["batch", *shape])

    def _answers(self, graph: Graph, said: Sequence[_Evaluation]) -> Sequence[str]:
        """Add the choice of each sample's answer: that of the last exit that it came to."""
        if len(said) == 1:
            return said[0][:3]
        *columns, samples = (graph.node("Concat", *each, axis=0) for each in zip(*said, strict=True))
        places = _counted(graph, graph.node("Size", samples))
        slots = self.samples
        if not all(self.compacted):
            slots = _counted(graph, graph.node("Add", self.count, graph.constant(np.int64(1))))
        # Later exits say what they say at higher places; the first says it of sample i at place i.
        last = graph.node("ScatterElements", slots, samples, places, axis=0, reduction="max")
        if slots != self.samples:
            last = graph.node("Gather", last, self.samples, axis=0)
        return [graph.node("Gather", column, last, axis=0) for column in columns]

    def _threshold(self, graph: Graph, place: int, probabilities: str) -> str:
        """The threshold of an exit, or of each sample there."""
        threshold = graph.node("Gather", self.thresholds, graph.constant(np.int64(place)))
        if len(self.net.thresholds) == 1:
            return threshold
        return graph.node("Gather", threshold, graph.node("ArgMax", probabilities, axis=1, keepdims=0))


def _counted(graph: Graph, count: str) -> str:
    """The numbers from 0 up to a count."""
    return graph.node("Range", graph.constant(np.int64(0)), count, graph.constant(np.int64(1)))

"""The parts of a net joined to steps, from one evaluated exit to the next, and the graph of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from onnx import ModelProto

from offramp.bundles._graph import Graph
from offramp.bundles._parts import NetPart, Value
from offramp.bundles._readings import ExitReading, readings_of
from offramp.exits.policy import Policy

__all__ = ["JoinedNet", "ModelInput"]


class ModelInput(NamedTuple):
    """An input of an exported net.

    Attributes:
        name: Its name.
        dtype: Of numpy.
        shape: Of one sample; an axis of any size is a name.
        scale: What the levels 0 ... 255 of each channel are multiplied with; empty: nothing is done to them.
        shift: What is added then.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()


class JoinedNet:
    """The parts of a net, and a policy that says at which of their exits samples may leave.

    Thresholds are no part of a graph: who runs it gives them.

    Args:
        inputs: What the net reads.
        parts: All of its stages.
        policy: Which exits are evaluated, and how their logits are read.

    Attributes:
        inputs: What the net reads.
        steps: What runs up to each evaluated exit.
        classes: How many classes there are.
    """

    def __init__(self, inputs: Sequence[ModelInput], parts: Sequence[NetPart], policy: Policy) -> None:
        self.inputs, self._policy = inputs, policy
        self.classes = parts[-1].logits.shape[-1]
        readings = readings_of(policy, [part.logits for part in parts])
        starts = [0, *policy.evaluated]
        self.steps = [
            Step(parts[start : reading.exit], reading)
            for start, reading in zip(starts, readings, strict=False)
        ]

    @property
    def thresholds(self) -> list[int]:
        """The shape of the thresholds: for each evaluated exit but the last, and class if any has such."""
        per_class = any(isinstance(each, tuple) for each in self._policy.thresholds)
        return [len(self.steps) - 1, *([self.classes] if per_class else [])]

    def stage(self, place: int) -> ModelProto:
        """The graph of one step, which gives ``probabilities``, ``confidence`` and what it carries on.

        Args:
            place: Which step, from 0.
        """
        step, graph = self.steps[place], Graph(f"offramp-exit-{self.steps[place].exit}")
        if place:
            reads = self.steps[place - 1].carries
            values = [graph.input(value.name, value.dtype, value.shape) for value in reads]
        else:
            values = self.entered(graph)
        probabilities, confidence, carried = step.run(graph, values)
        graph.output("probabilities", probabilities, np.float32, ["batch", self.classes])
        graph.output("confidence", confidence, np.float32, ["batch"])
        for name, value in zip(carried, step.carries, strict=True):
            graph.output(value.name, name, value.dtype, value.shape)
        return graph.model()

    def logits(self) -> ModelProto:
        """A graph that gives the logits of every step's exit, for all samples."""
        graph = Graph("offramp-logits")
        values = self.entered(graph)
        for step in self.steps:
            logits, values = step.pass_through(graph, values)
            graph.output(f"logits{step.exit}", logits, np.float32, ["batch", self.classes])
        return graph.model()

    def entered(self, graph: Graph) -> list[str]:
        """Declare the net's inputs, and normalise those that are levels.

        Args:
            graph: What they are added to.

        Returns:
            What the first step reads.
        """
        values = []
        for each in self.inputs:
            value = graph.input(each.name, each.dtype, ["batch", *each.shape])
            if each.scale:
                levels = graph.node("Cast", value, to=1)
                scale, shift = (
                    graph.constant(np.asarray(numbers, np.float32)[:, None, None])
                    for numbers in (each.scale, each.shift)
                )
                value = graph.node("Add", graph.node("Mul", levels, scale), shift)
            values.append(value)
        return values


class Step(NamedTuple):
    """What runs from one evaluated exit to the next.

    Attributes:
        parts: The stages.
        reading: How the exit that they end with is read.
    """

    parts: Sequence[NetPart]
    reading: ExitReading

    @property
    def exit(self) -> int:
        """The number of the exit that it ends with."""
        return self.reading.exit

    @property
    def carries(self) -> list[Value]:
        """What goes on to the next step, named by exit and place; nothing from the last."""
        state = [] if self.reading.state is None else [self.reading.state]
        values = enumerate([*self.parts[-1].carries, *state])
        return [value._replace(name=f"exit{self.exit}_{place}") for place, value in values]

    def run(self, graph: Graph, values: Sequence[str]) -> tuple[str, str, list[str]]:
        """Add it to a graph: probabilities, confidences, and what it carries on."""
        features = len(values) - self.reading.reads_state
        logits, carried = self.pass_through(graph, values[:features])
        probabilities, confidence, *state = graph.part(self.reading.model, [logits, *values[features:]])
        return probabilities, confidence, [*carried, *state]

    def pass_through(self, graph: Graph, values: Sequence[str]) -> tuple[str, list[str]]:
        """Add its stages alone to a graph: logits, and what they carry on."""
        logits, features = "", [*values]
        for part in self.parts:
            logits, *features = graph.part(part.model, features)
        return logits, features

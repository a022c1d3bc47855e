"""The stages of a net, one graph from each exit to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from offramp_runtime._graph import Graph
from offramp_runtime._leaving import leaves
from offramp_runtime._manifest import Bundle

__all__ = ["Passage", "Stage", "make_stages"]


class Passage(NamedTuple):
    """What n samples have behind a stage.

    Attributes:
        probabilities: Of the classes, float32 ``[n, classes]``.
        prediction: The likeliest class, int64 ``[n]``.
        confidence: How sure that is, by the bundle's measure, float32 ``[n]``.
        carried: What the next stage reads.
    """

    probabilities: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    carried: list[np.ndarray]


class Stage(NamedTuple):
    """A stage that can be run.

    Attributes:
        graph: Its graph.
        reads: The names of what that reads, in order.
        batched: Which of the arrays behind it have a row for each sample.
        exit: The number of the exit that it ends with.
        cost: Operations of a sample that leaves there; None: unknown.
        threshold: The policy's, a number or one for each class; None at the last exit.
    """

    graph: Graph
    reads: tuple[str, ...]
    batched: tuple[bool, ...]
    exit: int
    cost: int | None
    threshold: np.ndarray | None

    def run(self, arrays: Sequence[np.ndarray], samples: int) -> Passage:
        """Run the stage on what the one before it has left, or on the input.

        Args:
            arrays: In the order in which it reads them.
            samples: How many samples they hold.

        Raises:
            InputError: It cannot run on that.
        """
        feed = dict(zip(self.reads, arrays, strict=True))
        probabilities, confidence, *carried = self.graph.run(feed, samples)
        return Passage(probabilities, probabilities.argmax(-1), confidence, carried)

    def leaving(self, passage: Passage) -> np.ndarray:
        """Which samples leave by the policy: bool ``[n]``."""
        if self.threshold is None:
            return np.ones(len(passage.confidence), bool)
        found: np.ndarray = leaves(passage.confidence, passage.prediction, self.threshold)
        return found

    def limit(self, prediction: int) -> float | None:
        """The policy's threshold for a prediction; None at the last exit."""
        if self.threshold is None:
            return None
        return float(self.threshold[prediction] if self.threshold.ndim else self.threshold)

    def rows(self, carried: Sequence[np.ndarray], rows: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The rows of some samples of what is behind the stage."""
        return [array[rows] if has else array for array, has in zip(carried, self.batched, strict=True)]


def make_stages(bundle: Bundle, threads: int | None) -> list[Stage]:
    """Load the graphs of all stages.

    Raises:
        BundleError: One cannot be loaded.
    """
    stages, reads = [], tuple(entry.name for entry in bundle.inputs)
    for place, exit in enumerate(bundle.exits):
        names = tuple(each.name for each in exit.carried)
        outputs = ["probabilities", "confidence", *names]
        stages.append(
            Stage(
                graph=Graph(bundle.folder / exit.graph, outputs, len(bundle.classes), threads),
                reads=reads,
                batched=tuple(each.batched for each in exit.carried),
                exit=exit.exit,
                cost=exit.cost,
                threshold=bundle.thresholds[place] if place < len(bundle.thresholds) else None,
            )
        )
        reads = names
    return stages

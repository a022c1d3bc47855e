"""The base class of tasks: what one output of a network predicts, its loss and its metrics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from offramp.checks import of_kind

__all__ = ["Better", "Task", "percent", "wide"]

Better: TypeAlias = Literal["higher", "lower"]


class Task(ABC):
    """What one output of a network predicts, its loss and its metrics.

    A task of your own is a subclass with the attributes and the three methods below; see
    :class:`~offramp.tasks.Boxes` for one. A frozen dataclass is a good form, since a task holds options and
    no state.

    Attributes:
        target: Key of a batch's targets under which this task finds its own.
        primary: Name of the metric that stands for the output in tables.
        better: Whether a ``"higher"`` or a ``"lower"`` value of it is better.
        dense: Whether every pixel has a prediction and a target of its own.
        together: Over how many consecutive samples a metric averages first. An evaluation keeps them in one
            batch.
    """

    target: str
    primary: ClassVar[str]
    better: ClassVar[Better]
    dense: ClassVar[bool] = False
    together: int = 1

    def __post_init__(self) -> None:
        """Check the options of a task that is a dataclass.

        Raises:
            UserError: The key of its target is no text.
        """
        of_kind("target", self.target, str, "the key of a target, e.g. 'label'")

    @property
    def compared(self) -> Mapping[str, Better]:
        """The metrics that Delta-m compares, and which way each is better: by default the primary one."""
        return {self.primary: self.better}

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of every sample, and how much the sample counts.

        The loss of a step is sum(weights * values) / sum(weights), over all samples of all processes.

        Args:
            output: What the network's output gives, ``[N, ...]``.
            target: What it should be, ``[N, ...]``.

        Returns:
            Values ``[N]``, in float32 or wider, and weights ``[N]``, of any type: 1, or for example the
            number of a sample's valid pixels; 0 for a sample without a target. They do not depend on the
            output's values.
        """

    @abstractmethod
    def counts(self, output: Tensor, target: Tensor) -> Tensor:
        """Sums over the samples of a batch from which :meth:`metrics` follow.

        Returns:
            ``[M]``, integers or float64; they add up over batches and over processes.
        """

    @abstractmethod
    def metrics(self, counts: Tensor) -> dict[str, float]:
        """The metrics by name, of everything that has been counted.

        Args:
            counts: ``[M]`` on the CPU, the sum of what :meth:`counts` returned.
        """

    def example_target(self, output: Tensor) -> Tensor:
        """A target that fits an output, where its values do not matter: by default zeros like the output."""
        return torch.zeros_like(output)

    def ensemble(self, outputs: Sequence[Tensor]) -> Tensor:
        """One prediction out of those of several outputs that have this task: by default their mean."""
        return torch.stack([wide(output) for output in outputs]).mean(0)


def wide(tensor: Tensor) -> Tensor:
    """Convert a Tensor to float32, unless it is wider already."""
    return tensor.float() if tensor.itemsize < 4 else tensor


def percent(part: float, whole: float) -> float:
    """A part of a whole in percent; of nothing, not a number."""
    return 100 * part / whole if whole else math.nan

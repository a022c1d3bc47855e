"""Types of what papers printed, kept apart from anything counted, trained or timed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["Curve", "Similarities", "StepTime", "Table", "TaskTable"]


@dataclass(frozen=True)
class Table:
    """A published table of accuracies.

    Attributes:
        source: Paper and table number.
        net: Our name of the network, a key of :data:`offramp.nets.NETS`.
        data: What it was trained and tested on.
        columns: Headings of the accuracies: the exits, shallow to deep, then averages.
        top1: Method -> accuracies in percent, one per column.
        params: Parameters of each exit as printed, in ``params_unit``.
        flops: Operations of each exit as printed, in ``flops_unit``.
        cost_remark: Why ``params`` and ``flops`` cannot be counted again; empty if they can, exactly.
        inferred: Method -> how its row is printed, where that it is this method is inferred, and from what.
    """

    source: str
    net: str
    data: str
    columns: tuple[str, ...]
    top1: Mapping[str, tuple[float, ...]]
    params: tuple[float, ...]
    params_unit: float
    flops: tuple[float, ...]
    flops_unit: float
    cost_remark: str = ""
    inferred: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    label: str = "published"


@dataclass(frozen=True)
class TaskTable:
    """A published table of several metrics of several tasks.

    Attributes:
        source: Paper and table number.
        data: What was trained and tested on.
        columns: Names of the metrics as printed.
        metrics: Our names of them.
        higher: For each metric whether a higher value is better.
        rows: Label as printed -> its values, one per column.
        params: Label as printed -> parameters as a multiple of one task's network; rounded as printed.
        baseline: Label of the row that the others are compared with.
        delta_m: Label as printed -> mean relative loss to the baseline in percent, over the columns; lower is
            better.
        remark: What else is known of the numbers.
    """

    source: str
    data: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    higher: tuple[bool, ...]
    rows: Mapping[str, tuple[float, ...]]
    params: Mapping[str, float]
    baseline: str
    delta_m: Mapping[str, float]
    remark: str = ""
    label: str = "published"


@dataclass(frozen=True)
class Curve:
    """A published curve of accuracy against mean cost, as samples leave early.

    Attributes:
        source: Paper and figure number.
        net: Our name of the network, a key of :data:`offramp.nets.NETS`.
        data: What it was trained and tested on.
        points: Method -> (operations of a sample on average, in ``flops_unit``; accuracy in percent), by
            rising cost.
        flops: Operations of each exit as printed, with all earlier heads, in ``flops_unit``.
        flops_unit: What operations are counted in.
        remark: What else is known of the numbers.
    """

    source: str
    net: str
    data: str
    points: Mapping[str, tuple[tuple[float, float], ...]]
    flops: tuple[float, ...]
    flops_unit: float
    remark: str = ""
    label: str = "published"


@dataclass(frozen=True)
class Similarities:
    """Published cosines of what the exits of a network have learned to prefer.

    Attributes:
        source: Paper and figure number.
        net: Our name of the network.
        data: What it was trained on.
        cosines: Two exits, from 1 -> the cosine of their learned importance.
        remark: What else is known of the numbers.
    """

    source: str
    net: str
    data: str
    cosines: Mapping[tuple[int, int], float]
    remark: str = ""
    label: str = "published"


@dataclass(frozen=True)
class StepTime:
    """A published duration of a training step.

    Attributes:
        net: Our name of the network.
        device: Where it ran.
        batch: Images per step.
        method: Our name of the method, with the options that differ from its defaults.
        forward: Seconds of the forward pass.
        backward: Seconds of the backward pass.
        fps: Images per second of the whole step.
        data: Seconds to wait for and copy the batch, if known.
        other: Seconds of loss, zero_grad and optimiser, if known.
    """

    net: str
    device: str
    batch: int
    method: str
    forward: float
    backward: float
    fps: float
    data: float | None = None
    other: float | None = None
    label: str = "published"

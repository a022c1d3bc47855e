"""What a paper printed, kept apart from anything counted, trained or timed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["StepTime", "Table"]


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

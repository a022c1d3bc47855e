"""What each part of a net costs: the operations of its stages and heads, as they run on one sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from offramp.counting._meter import Meter
from offramp.counting.conventions import Convention
from offramp.errors import UserError
from offramp.nets.exits import Part, exits
from offramp.nets.multi_task import MultiTaskNet
from offramp.unchanged import unchanged

__all__ = ["Run", "dry_run", "taking", "total", "walked"]


class Run(NamedTuple):
    """What the parts of a net cost.

    Attributes:
        stages: Operations of each stage, with the fork behind it; None where unknown.
        heads: Operations of each head.
        unknown: Which modules have operations that cannot be counted, and why.
    """

    stages: list[int | None]
    heads: list[int | None]
    unknown: list[str]


def dry_run(
    stages: Sequence[nn.Module],
    forks: Sequence[nn.Module],
    heads: Sequence[nn.Module],
    sample: Any,
    rule: Convention,
    root: str = "",
) -> Run:
    """Count the operations of every part on one sample; ``root`` begins the names of what is unknown."""
    parts = {"stages": stages, "forks": forks, "heads": heads}
    with unchanged(*stages, *forks, *heads), torch.no_grad():
        net = nn.ModuleDict({name: nn.ModuleList(modules) for name, modules in parts.items()}).eval()
        names = {m: name.replace("stages.0", root, 1) if root else name for name, m in net.named_modules()}
        meter = Meter(rule, names)
        run = Run([], [], meter.unknown)
        counts: list[int | None] = []  # since the exit before

        def counted(part: Part, module: nn.Module, *inputs: Any) -> Any:
            output = module(*inputs)
            counts.append(meter.read(module))
            return output

        with meter.at_work(), taking(sample):
            for _ in exits(stages, forks, heads, sample, counted):
                *stage, head = counts
                run.stages.append(total(stage))
                run.heads.append(head)
                counts.clear()
    return run


def walked(net: MultiTaskNet, sample: Any, rule: Convention) -> Run:
    """Count the operations of every part of a net of several tasks on one sample."""
    counts: dict[str, list[int | None]] = {"stage": [], "fork": [], "head": []}
    with unchanged(net), torch.no_grad():
        meter = Meter(rule, {module: name or "net" for name, module in net.eval().named_modules()})

        def counted(part: Part, module: nn.Module, *inputs: Any) -> Any:
            output = module(*inputs)
            counts[part].append(meter.read(module))
            return output

        with meter.at_work(), taking(sample):
            net.walk(sample, counted)
    stages = [total(pair) for pair in zip(counts["stage"], counts["fork"], strict=True)]
    return Run(stages, counts["head"], meter.unknown)


@contextmanager
def taking(sample: Any) -> Iterator[None]:
    """Turn a net's error over one sample into a line.

    Raises:
        UserError: In place of a RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        size = f" of size {tuple(sample.shape[1:])}" if isinstance(sample, Tensor) else ""
        raise UserError(f"the net cannot take one sample{size}: {reason}") from error


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of some counts; None if one of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None

"""What each output of a net costs whose forward pass is one piece, without stages."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from offramp.counting._dataflow import Dataflow
from offramp.counting._meter import Meter
from offramp.counting.conventions import Convention
from offramp.flops import memory_of
from offramp.nets.net import Net
from offramp.unchanged import unchanged

__all__ = ["OnePiece", "one_piece", "unknown_piece"]


class OnePiece(NamedTuple):
    """Costs of a forward pass and of its outputs.

    Attributes:
        params: For each output, the parameters that it alone needs.
        flops: For each output, the operations for one sample that it alone needs; None if some are unknown.
        whole: Operations of the whole forward pass for one sample.
        unknown: Which parts of the net have operations that cannot be counted, and why.
    """

    params: list[int]
    flops: list[int | None]
    whole: int | None
    unknown: list[str]


def one_piece(net: Net, sample: Any, rule: Convention) -> OnePiece:
    """Run a net on one sample and find what each output needs of it, as if the others were not asked for.

    Unknown are outputs that read a part of what an operator gives that blends results of different work.
    A parameter counts for an output if the output is made from it, or if its loss reaches it.

    Args:
        net: The net; it is left as it was.
        sample: Its input.
        rule: What counts.
    """
    owned = net.owners()
    with unchanged(net), torch.no_grad():
        net.eval()
        meter = Meter(rule, {module: name or "net" for name, module in net.named_modules()})
        with meter.at_work():
            with Dataflow(lambda: meter.operations) as flow:
                outputs = net(sample)
            whole = meter.read(net)
            found = [flow.behind(output) for output in outputs]
        params = [
            sum(
                p.numel()
                for name, p in net.named_parameters()
                if memory_of(p) in memory or k in owned.get(name, ())
            )
            for k, (_, memory, _) in enumerate(found)
        ]
    flops = [None if whole is None or parts else operations for operations, _, parts in found]
    unknown = [
        f"output {k}: which work is behind the part that it reads of what {', '.join(sorted(parts))} gives "
        "cannot be told; take the part before"
        for k, (*_, parts) in enumerate(found)
        if parts
    ]
    return OnePiece(params, flops, whole, [*meter.unknown, *unknown])


def unknown_piece(net: Net, reason: str) -> OnePiece:
    """What is known of a net that cannot be run: the parameters that each output's loss reaches."""
    owned, parameters = net.owners(), dict(net.named_parameters())
    params = [
        sum(parameters[name].numel() for name, outputs in owned.items() if k in outputs)
        for k in range(len(net.outputs))
    ]
    return OnePiece(params, [None] * len(params), None, [f"{type(net).__name__}: {reason}"])

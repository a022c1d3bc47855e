"""Cut a backbone along the graph that torch.fx makes of its forward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from offramp.errors import UserError
from offramp.nets.attaching._dry_run import DryRun
from offramp.nets.attaching._final import as_head, final_nodes
from offramp.nets.attaching._parts import Parts, feature_of
from offramp.nets.attaching._split_graph import split_graph
from offramp.nets.attaching._trace import Trace, TraceFailure, trace_backbone
from offramp.unchanged import unchanged

__all__ = ["by_graph"]


def by_graph(backbone: nn.Module, at: Sequence[str], sample: Any) -> Parts | None:
    """Stages that are graphs; None if torch.fx cannot make them, or a cut module returns no Tensor.

    Args:
        backbone: What is cut.
        at: The modules to cut after.
        sample: An input for it.

    Raises:
        UserError: A cut module runs never or twice, or at another time, or returns what no head can read.
    """
    if not isinstance(sample, Tensor):
        return None
    try:
        trace = trace_backbone(backbone, at)
        if not isinstance(trace.result, fx.Node):
            return None
        _check_order(trace, backbone)
        with unchanged(backbone), torch.no_grad():
            backbone.train()  # where in-place layers (dropout) do write in place
            run = DryRun(trace)
            run.run(sample)
        if not all(isinstance(run.env[cut], Tensor) for cut in trace.cuts):
            return None
        outputs = [
            feature_of(f"module '{name}'", run.env[cut])
            for name, cut in zip(trace.names, trace.cuts, strict=True)
        ]
        tail = final_nodes(trace)
        stages = split_graph(trace, run, tail)
    except TraceFailure:
        return None
    carry = [isinstance(stage.graph.output_node().args[0], tuple) for stage in stages[:-1]]
    return Parts(stages, outputs, carry, as_head(trace, tail))


def _check_order(trace: Trace, backbone: nn.Module) -> None:
    order = {node: position for position, node in enumerate(trace.graph.nodes)}
    for (earlier, cut), (later, next_cut) in pairwise(zip(trace.names, trace.cuts, strict=True)):
        if cut is next_cut:
            raise UserError(f"'{earlier}' and '{later}' return the same Tensor; keep one of them in at")
        if order[next_cut] < order[cut]:
            place = dict(zip(trace.names, trace.cuts, strict=True))
            ran = sorted(place, key=lambda name: order[place[name]])
            raise UserError(f"'{later}' runs before '{earlier}'; give them as they run: at={ran}")
    for name, cut in zip(trace.names, trace.cuts, strict=True):
        if cut is trace.result:
            raise UserError(
                f"module '{name}' returns the output of {type(backbone).__name__}, which is the last exit "
                f"anyway; leave '{name}' out of at"
            )

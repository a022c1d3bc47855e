"""The end of a traced backbone that becomes the last head: its last layer, and what follows it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx, nn

from offramp.nets.attaching._dry_run import CALLS
from offramp.nets.attaching._trace import Trace, is_layer
from offramp.nets.attaching._tracer import IsTraining

__all__ = ["as_head", "final_nodes"]


def final_nodes(trace: Trace) -> list[fx.Node]:
    """The nodes of the last layer and of all that follows, in the order they run; none, if that is no head.

    The last layer is the Linear after which nothing has parameters, or else what returns the output. It is a
    head if it runs once, each node behind it reads nothing but the one before, and the last stage has more to
    do than that.
    """
    tail = [trace.result]
    while not _has_parameters(trace, tail[0]) and len(read := _reads(trace, tail[0])) == 1:
        tail.insert(0, read[0])
    if not isinstance(_module(trace, tail[0]), nn.Linear):
        tail = [trace.result]
    layer, order = _module(trace, tail[0]), list(trace.graph.nodes)
    ran = [node for node in order if node.op in CALLS and _reads(trace, node)]
    once = [node.target for node in ran if node.op == tail[0].op].count(tail[0].target) == 1
    alone = all(list(node.args[:1]) == _reads(trace, node) and len(node.users) == 1 for node in tail)
    if layer is None or not is_layer(layer) or len(tail[0].args) + len(tail[0].kwargs) != 1:
        return []
    if not once or not alone or ran[-len(tail) :] != tail:
        return []
    stage_is_empty = order.index(_reads(trace, tail[0])[0]) <= order.index(trace.cuts[-1])
    return [] if stage_is_empty else tail


def as_head(trace: Trace, tail: Sequence[fx.Node]) -> nn.Module:
    """The nodes as a module: the last layer, or an nn.Sequential of it and what follows."""
    parts = [_module(trace, node) or _as_module(trace, node) for node in tail]
    parts = parts[:1] + [part for part in parts[1:] if not isinstance(part, nn.Identity)]
    return nn.Sequential(*parts) if len(parts) > 1 else parts[0] if parts else nn.Identity()


def _as_module(trace: Trace, node: fx.Node) -> nn.Module:
    graph = fx.Graph()
    x = graph.placeholder("x")
    read = _reads(trace, node)
    graph.output(graph.node_copy(node, lambda n: x if n in read else graph.node_copy(n)))
    return fx.GraphModule(dict(trace.parts), graph, class_name="Function")


def _reads(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """What a node reads, apart from modes."""
    return [read for read in node.all_input_nodes if not isinstance(_module(trace, read), IsTraining)]


def _module(trace: Trace, node: fx.Node) -> nn.Module | None:
    return trace.parts[str(node.target)] if node.op == "call_module" else None


def _has_parameters(trace: Trace, node: fx.Node) -> bool:
    module = _module(trace, node)
    return module is not None and any(True for _ in module.parameters())

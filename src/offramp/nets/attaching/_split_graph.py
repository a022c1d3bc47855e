"""Cut a traced backbone into stages, each a module that hands the next one everything it still needs."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor, fx
from torch.fx.node import Argument

from offramp.nets.attaching._dry_run import CALLS, DryRun
from offramp.nets.attaching._trace import Trace, TraceFailure

__all__ = ["split_graph"]

_PLAIN = (int, float, complex, str, type(None), slice, torch.dtype, torch.device, torch.layout)


def split_graph(trace: Trace, run: DryRun, tail: Sequence[fx.Node]) -> list[fx.GraphModule]:
    """Cut ``trace`` after each of its cuts; the stages in a row do what the backbone does, all but ``tail``.

    A stage runs what the backbone runs between two cuts, in the same order. Its feature is the cut
    module's output, or, if a later stage reads other Tensors too, the tuple of those Tensors and, last, that
    output. Sizes and other plain values are not carried but computed again from the Tensor they come from,
    and parameters are fetched again. What a stage writes to in place it copies first, because the head
    before it reads the same memory.

    Args:
        trace: The backbone, cuts in the order they run.
        run: A finished dry run of ``trace``.
        tail: The nodes that are left to the last head: the last stage returns what the first of them reads.
            Without any the last stage returns the backbone's output.

    Raises:
        TraceFailure: A value that is neither a Tensor nor plain, such as a list of Tensors, crosses a cut.
    """
    _unpack_where_made(trace.graph, run)
    end = tail[0].all_input_nodes[0] if tail else trace.result
    order = {node: position for position, node in enumerate(trace.graph.nodes)}
    stops = [order[cut] for cut in trace.cuts]
    stage_of = {node: bisect_left(stops, position) for node, position in order.items()}
    bodies: list[list[fx.Node]] = [[] for _ in range(len(stops) + 1)]
    for node in trace.graph.nodes:
        if node.op in CALLS and node not in tail:
            bodies[stage_of[node]].append(node)

    # Backwards, for each cut: the Tensors made before it and read after it.
    features: list[tuple[fx.Node, ...]] = [()] * len(stops)
    read_later = _tensors_behind(end, run)
    for k in reversed(range(len(stops))):
        for node in bodies[k + 1]:
            read_later |= {t for read in node.all_input_nodes for t in _tensors_behind(read, run)}
        cut = trace.cuts[k]
        carried = {node for node in read_later if stage_of[node] <= k and node is not cut}
        for node in carried:
            if not isinstance(run.env[node], Tensor):
                raise TraceFailure
        features[k] = (*sorted(carried, key=order.__getitem__), cut)

    placeholder = next(iter(trace.graph.nodes))
    incoming = [(placeholder,), *features]
    outgoing = [*features, (end,)]
    stages = []
    for k, body in enumerate(bodies):
        written = {n for n in incoming[k] if k > 0 and run.writes(n, since=k - 1, until=k)}
        graph = _stage_graph(body, incoming[k], outgoing[k], written, run)
        stages.append(fx.GraphModule(dict(trace.parts), graph, class_name="Stage"))
    return stages


def _stage_graph(
    body: Sequence[fx.Node],
    incoming: Sequence[fx.Node],
    outgoing: Sequence[fx.Node],
    written: set[fx.Node],
    run: DryRun,
) -> fx.Graph:
    graph = fx.Graph()
    feature = graph.placeholder("feature")
    here: dict[fx.Node, fx.Node] = {incoming[0]: feature}
    if len(incoming) > 1:
        here = {n: graph.call_function(operator.getitem, (feature, i)) for i, n in enumerate(incoming)}
    for node in incoming:
        if node in written:
            here[node] = graph.call_method("clone", (here[node],))

    def copy(node: fx.Node) -> fx.Node:
        if node not in here:  # of this stage, or a parameter or a size that is fetched again
            here[node] = graph.node_copy(node, copy)
        return here[node]

    for node in body:
        copy(node)
    results: tuple[Argument, ...] = tuple(copy(node) for node in outgoing)
    graph.output(results if len(results) > 1 else results[0])
    for node in reversed(body):  # sizes that only later stages read
        if _is_plain(run.env[node]) and run.env[node] is not None and not here[node].users:
            graph.erase_node(here[node])
    return graph


def _tensors_behind(node: fx.Node, run: DryRun) -> set[fx.Node]:
    """The Tensors from which a later stage can have ``node``: itself, or what a plain value comes from."""
    if node.op == "get_attr":
        return set()
    if isinstance(run.env[node], Tensor):
        return {node}
    if _is_plain(run.env[node]):
        return {t for read in node.all_input_nodes for t in _tensors_behind(read, run)}
    return {node}


def _unpack_where_made(graph: fx.Graph, run: DryRun) -> None:
    """Take the items of a tuple right after it is made, so that Tensors cross a cut and not the tuple."""
    for node in list(graph.nodes):
        if not isinstance(run.env.get(node), Tensor) and not _is_plain(run.env.get(node)):
            for reader in reversed(list(node.users)):  # each goes right behind the node
                if reader.target is operator.getitem and reader.all_input_nodes == [node]:
                    node.append(reader)


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)

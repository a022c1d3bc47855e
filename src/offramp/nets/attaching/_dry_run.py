"""Run a traced backbone once and keep what its nodes return."""

from __future__ import annotations

from torch import Tensor, fx
from torch.fx.node import map_aggregate

from offramp.nets.attaching._trace import Trace, TraceFailure

__all__ = ["CALLS", "DryRun"]

CALLS = ("call_function", "call_method", "call_module")  # what runs, of the kinds of nodes


class DryRun(fx.Interpreter):
    """Runs a traced backbone once and keeps every node's value (``env``).

    ``versions[k]`` holds, by id, how often each Tensor had been written to when cut k was reached, and
    ``versions[-1]`` at the end; torch counts writes per memory, so views of a Tensor count with it.
    """

    def __init__(self, trace: Trace) -> None:
        super().__init__(fx.GraphModule(dict(trace.parts), trace.graph), garbage_collect_values=False)
        self.marks = {*trace.cuts, trace.graph.output_node()}
        self.versions: list[dict[int, int]] = []

    def run_node(self, n: fx.Node) -> object:
        try:
            value = super().run_node(n)
        except Exception as error:  # whatever the backbone's code raises, e.g. for a list that it writes to
            if n.op not in CALLS:
                raise
            raise TraceFailure from error
        if n in self.marks:
            counts: dict[int, int] = {}

            def count(item: object) -> None:
                if isinstance(item, Tensor):
                    counts[id(item)] = item._version

            map_aggregate([*self.env.values(), value], count)
            self.versions.append(counts)
        return value

    def writes(self, node: fx.Node, *, since: int, until: int) -> bool:
        """Whether the value of ``node`` was written to in place between two cuts."""
        key = id(self.env[node])
        return self.versions[since][key] != self.versions[until][key]

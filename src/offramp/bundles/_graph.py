"""An ONNX graph put together from parts, in which equal weights are one."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

__all__ = ["OPSET", "Graph", "drop_unread", "graphs_within"]

OPSET = 20
IR = 10  # version of the file format, which runtimes of two years ago read


class Graph:
    """A graph under construction; values are known by their names.

    Args:
        name: The graph's name.
        around: The graph that it is a branch of. A branch reads the values of the graphs around it, and its
            weights are theirs.
    """

    def __init__(self, name: str, around: Graph | None = None) -> None:
        self.name = name
        self._nodes: list[NodeProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._weights: dict[str, TensorProto] = {} if around is None else around._weights
        self._opsets: dict[str, int] = {"": OPSET} if around is None else around._opsets
        self._numbers: Iterator[int] = itertools.count() if around is None else around._numbers

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """Declare an input; a free axis is a name."""
        self._inputs.append(_declared(name, dtype, shape))
        return name

    def output(self, name: str, value: str, dtype: Any, shape: Sequence[int | str]) -> None:
        """Declare an output, by the value that it gives."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(_declared(name, dtype, shape))

    def constant(self, value: Any) -> str:
        """A value that never changes."""
        return self._kept(numpy_helper.from_array(np.asarray(value)))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator of ONNX with one output."""
        output = f"graph/{operator}_{next(self._numbers)}"  # as no input is called
        self._nodes.append(helper.make_node(operator, [*inputs], [output], **attributes))
        return output

    def branch(self, name: str) -> Graph:
        """A graph within this one, for :meth:`either`."""
        return Graph(name, self)

    def either(self, condition: str, then: Graph, otherwise: Graph) -> list[str]:
        """Add one of two branches, by a condition that is known when the graph runs.

        Args:
            condition: A boolean.
            then: What runs if it is true.
            otherwise: What runs if not, with as many outputs.

        Returns:
            The outputs of the branch that has run.
        """
        outputs = [f"graph/If_{next(self._numbers)}" for _ in then._outputs]
        branches = {"then_branch": then._branch(), "else_branch": otherwise._branch()}
        self._nodes.append(helper.make_node("If", [condition], outputs, **branches))
        return outputs

    def part(self, model: ModelProto, inputs: Sequence[str]) -> list[str]:
        """Add a whole model.

        Args:
            model: The model, without functions of its own.
            inputs: What it reads, in the order of its inputs.

        Returns:
            Its outputs.
        """
        prefix = f"part{next(self._numbers)}/"
        graph = model.graph
        names = {each.name: given for each, given in zip(graph.input, inputs, strict=True)}
        names |= {each.name: self._kept(each) for each in graph.initializer}
        self._opsets |= {each.domain: each.version for each in model.opset_import}
        self._nodes += [_renamed(node, names, prefix) for node in graph.node]
        return [names.get(each.name, prefix + each.name) for each in graph.output]

    def model(self) -> ModelProto:
        """The finished model, without what no output needs."""
        graph = helper.make_graph(self._needed(), self.name, self._inputs, self._outputs)
        self._declare_weights(graph, frozenset())
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="offramp")

    def _branch(self) -> GraphProto:
        return helper.make_graph(self._needed(), self.name, [], self._outputs)

    def _declare_weights(self, graph: GraphProto, around: frozenset[str]) -> None:
        """Declare each weight in the outermost graph that reads it: runtimes lay out only a graph's own.

        Args:
            graph: The graph.
            around: What is declared around it.
        """
        reads = {name for node in graph.node for name in node.input}
        own = [name for name in self._weights if name in reads - around]
        graph.initializer.extend(self._weights[name] for name in own)
        for node in graph.node:
            for inner in _subgraphs(node):
                self._declare_weights(inner, around.union(own))

    def _needed(self) -> list[NodeProto]:
        """The nodes that outputs need."""
        wanted = {each.name for each in self._outputs}
        nodes = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted |= _read_by(node)
        return nodes[::-1]

    def _kept(self, weight: TensorProto) -> str:
        """The name of a weight, which tells its content: equal weights have one name, in every graph."""
        array = numpy_helper.to_array(weight)
        digest = hashlib.sha256(f"{weight.data_type}{array.shape}".encode() + array.tobytes())
        name = f"weight_{digest.hexdigest()[:20]}"
        if name not in self._weights:
            self._weights[name] = copy = TensorProto()
            copy.CopyFrom(weight)
            copy.name = name
        return name


def graphs_within(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph, and the branches and bodies of its nodes."""
    yield graph
    for node in graph.node:
        for inner in _subgraphs(node):
            yield from graphs_within(inner)


def drop_unread(graph: GraphProto) -> None:
    """Remove the weights of a graph that neither its nodes read, nor what is within these."""
    read = {each.name for each in graph.output}.union(*map(_read_by, graph.node))
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in read:
            del graph.initializer[place]


def _renamed(node: NodeProto, names: Mapping[str, str], prefix: str) -> NodeProto:
    """A copy of a node of a part, whose values get names of their own in the whole."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = node.name and prefix + node.name
    copy.ClearField("metadata_props")  # the stack of calls that torch saw
    copy.ClearField("doc_string")
    for values in (copy.input, copy.output):
        values[:] = [names.get(name, prefix + name) if name else name for name in values]
    for graph in _subgraphs(copy):
        own = {**names, **{each.name: prefix + each.name for each in (*graph.input, *graph.initializer)}}
        for each in (*graph.input, *graph.output, *graph.initializer):
            each.name = own.get(each.name, prefix + each.name)
        inner = [_renamed(each, own, prefix) for each in graph.node]
        del graph.node[:]
        graph.node.extend(inner)
    return copy


def _read_by(node: NodeProto) -> set[str]:
    """The values that a node reads, also within its branches."""
    inner = [each for graph in _subgraphs(node) for each in (*graph.node,)]
    outputs = {each.name for graph in _subgraphs(node) for each in graph.output}
    return {*node.input, *outputs}.union(*map(_read_by, inner))


def _subgraphs(node: NodeProto) -> list[GraphProto]:
    """The branches and bodies of a node, as ``If`` and ``Loop`` have them."""
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.HasField("g") else attribute.graphs)
    ]


def _declared(name: str, dtype: Any, shape: Sequence[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [*shape])

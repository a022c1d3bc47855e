"""An ONNX graph put together from parts, in which equal weights are one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

__all__ = ["OPSET", "Graph"]

OPSET = 20
IR = 10  # version of the file format, which runtimes of two years ago read


class Graph:
    """A graph under construction; values are known by their names.

    Args:
        name: The graph's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._opsets: dict[str, int] = {"": OPSET}
        self._parts = 0

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
        output = f"graph/{operator}_{len(self._nodes)}"  # as no input is called
        self._nodes.append(helper.make_node(operator, [*inputs], [output], **attributes))
        return output

    def part(self, model: ModelProto, inputs: Sequence[str]) -> list[str]:
        """Add a whole model.

        Args:
            model: The model, without functions of its own.
            inputs: What it reads, in the order of its inputs.

        Returns:
            Its outputs.
        """
        prefix = f"part{self._parts}/"
        self._parts += 1
        graph = model.graph
        names = {each.name: given for each, given in zip(graph.input, inputs, strict=True)}
        names |= {each.name: self._kept(each) for each in graph.initializer}
        self._opsets |= {each.domain: each.version for each in model.opset_import}
        self._nodes += [_renamed(node, names, prefix) for node in graph.node]
        return [names.get(each.name, prefix + each.name) for each in graph.output]

    def model(self) -> ModelProto:
        """The finished model, without what no output needs."""
        nodes, weights = self._needed()
        graph = helper.make_graph(nodes, self._name, self._inputs, self._outputs, weights)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="offramp")

    def _needed(self) -> tuple[list[NodeProto], list[TensorProto]]:
        wanted = {each.name for each in self._outputs}
        nodes = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                nodes.append(node)
                wanted |= _read_by(node)
        return nodes[::-1], [weight for name, weight in self._weights.items() if name in wanted]

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

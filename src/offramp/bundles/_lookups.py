"""Lookups in tables of embeddings, which refuse negative numbers in a graph as they do in torch."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["refuse_negative"]

ZERO, BEYOND = "lookups/zero", "lookups/beyond"


def refuse_negative(model: ModelProto) -> None:
    """Make negative rows of embeddings an error when the model runs; ONNX counts them from the end.

    Args:
        model: The model, as torch exports it, which is written to.
    """
    graph = model.graph
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Gather" and node.name.startswith("node_embedding"):
            rows, negative, checked = (f"{node.output[0]}/{part}" for part in ("rows", "negative", "checked"))
            nodes += [
                helper.make_node("Cast", [node.input[1]], [rows], name=rows, to=TensorProto.INT64),
                helper.make_node("Less", [rows, ZERO], [negative], name=negative),
                helper.make_node("Where", [negative, BEYOND, rows], [checked], name=checked),
            ]
            node.input[1] = checked
        nodes.append(node)
    if len(nodes) > len(graph.node):
        for name, value in ((ZERO, 0), (BEYOND, np.iinfo(np.int64).max)):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), name))
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)

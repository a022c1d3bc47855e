"""Means over whole feature maps as pools, which ONNX Runtime computes in the layout of its convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from offramp.bundles._graph import drop_unread

__all__ = ["PoolsAsMeans", "with_global_pools"]


class PoolsAsMeans(TorchFunctionMode):
    """A context in which adaptive pools to a map of one pixel are means.

    Torch traces a mean as one operator, and such a pool as ten, with a strided view among them.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is F.adaptive_avg_pool2d:
            return _adaptive_pool(*args, **kwargs or {})
        return function(*args, **kwargs or {})


def _adaptive_pool(input: Tensor, output_size: Any) -> Tensor:
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    return F.adaptive_avg_pool2d(input, output_size)


def with_global_pools(model: ModelProto) -> ModelProto:
    """Replace means over the last two of four axes by ``GlobalAveragePool``, in place; gives the model.

    Means of other floats than float32 stay: ONNX Runtime has pools of no others.
    """
    graph = model.graph
    maps = {
        each.name
        for each in (*graph.input, *graph.value_info, *graph.output)
        if each.type.tensor_type.elem_type == TensorProto.FLOAT and len(each.type.tensor_type.shape.dim) == 4
    }
    axes = {each.name: each for each in graph.initializer}
    nodes: list[NodeProto] = []
    for node in graph.node:
        over_map = (
            node.op_type == "ReduceMean"
            and node.input[0] in maps
            and len(node.input) == 2
            and node.input[1] in axes
            and sorted(axis % 4 for axis in numpy_helper.to_array(axes[node.input[1]]).ravel()) == [2, 3]
        )
        nodes += _pool(node) if over_map else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread(graph)
    return model


def _pool(node: NodeProto) -> list[NodeProto]:
    """The nodes of a pool that gives what a node of a mean over maps gives."""
    keeps = all(each.i for each in node.attribute if each.name == "keepdims")
    pooled = node.output[0] if keeps else f"{node.output[0]}/pooled"
    pool = helper.make_node("GlobalAveragePool", node.input[:1], [pooled], name=node.name)
    return [pool] if keeps else [pool, helper.make_node("Flatten", [pooled], node.output, axis=1)]

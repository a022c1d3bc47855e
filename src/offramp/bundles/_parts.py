"""The parts of a net as ONNX models: each stage with its head, traced by torch with free batch axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.attention import plain_layers
from offramp.bundles._graph import OPSET
from offramp.bundles._lookups import refuse_negative
from offramp.bundles._pooling import PoolsAsMeans, with_global_pools
from offramp.bundles._quiet import quiet
from offramp.copying import deep_copy
from offramp.errors import UserError, error_text
from offramp.exits.policy import Policy
from offramp.exits.preparing import prepared
from offramp.exits.rows import Flow
from offramp.exits.segments import Segment
from offramp.nets import MultiExitNet

__all__ = ["NetPart", "OfOneSize", "Value", "free_axes", "parts_of", "traced"]


class Value(NamedTuple):
    """A Tensor that goes into a part of the net, or out of it.

    Attributes:
        name: Its name.
        dtype: Of numpy.
        shape: With the batch axis, if it has one. An axis of any size is a name: ``"batch"`` for that of the
            samples; axes of one name are of one size.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def batched(self) -> bool:
        """Whether it has a row for each sample."""
        return self.shape[:1] == ("batch",)


class NetPart(NamedTuple):
    """A stage and its head.

    Attributes:
        exit: The exit's number, from 1.
        model: Reads what the stage before carries on, or the net's inputs; gives the logits, and what it
            carries on.
        reads: What it reads.
        carries: What it carries on to the next stage.
        logits: An example, on which readings are traced.
    """

    exit: int
    model: ModelProto
    reads: list[Value]
    carries: list[Value]
    logits: Tensor


def parts_of(net: MultiExitNet) -> list[NetPart]:
    """The stages of a net, folded for inference, each with its head.

    Args:
        net: The net, which stays as it is.

    Raises:
        UserError: The net is none whose stages and heads can be run apart, or ONNX lacks what one does.
    """
    net = deep_copy(net).to("cpu", torch.float32).eval()
    everywhere = Policy((1.0,) * (net.num_exits - 1))
    segments = [part.segment for part in prepared(net, everywhere, eager=False)]
    few, many = (Flow(x) for x in (_fewer(net), net.sample(3)))
    parts = []
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        hands_on = following is not None and following.reads_previous
        module = _Traceable(segment, many, hands_on=hands_on, last=following is None).eval()
        reads, tensors = _values(few, many), _tensors(many)
        model = traced(module, tensors, reads, f"exit {segment.exit}")
        (few, _), (many, logits) = (_run(segment, flow, hands_on=hands_on) for flow in (few, many))
        carries = [] if following is None else _values(few, many)
        parts.append(NetPart(segment.exit, model, reads, carries, logits))
    return parts


def traced(module: nn.Module, tensors: Sequence[Tensor], reads: Sequence[Value], what: str) -> ModelProto:
    """A module as an ONNX model.

    Args:
        module: Takes Tensors and gives Tensors.
        tensors: An example, of three samples.
        reads: What they are.
        what: What a message calls it.

    Raises:
        UserError: Torch cannot trace it, or ONNX lacks one of its operators.
    """
    try:
        with quiet(), PoolsAsMeans(), plain_layers():  # else torch's last try hides what is wrong
            program = torch.onnx.export(
                OfOneSize(module, reads),
                (*tensors,),
                dynamo=True,
                dynamic_shapes=((*free_axes(reads),),),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # of torch.export, of the converter, or of the net
        raise UserError(
            f"{what} cannot be exported: {error_text(error.__cause__ or error)}; write it with operators "
            "that ONNX has, x.shape[0] in place of len(x), and no Python branches on values"
        ) from error
    assert program is not None
    model: ModelProto = program.model_proto
    refuse_negative(model)
    return with_global_pools(model)


def free_axes(reads: Sequence[Value]) -> list[dict[int, Any]]:
    """Which axes of each Tensor are free, as ``torch.export`` is told."""
    return [
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(value.shape) if isinstance(size, str)}
        for value in reads
    ]


class OfOneSize(nn.Module):
    """A module of whose inputs the tracer is told which axes are of one size, such as the batch's.

    Args:
        module: The module.
        reads: What it reads.
    """

    def __init__(self, module: nn.Module, reads: Sequence[Value]) -> None:
        super().__init__()
        self.module = module
        self._reads = reads

    def forward(self, *inputs: Any) -> Any:
        sizes: dict[str, int] = {}
        for value, tensor in zip(self._reads, pytree.tree_leaves(inputs), strict=True):
            for name, size in zip(value.shape, tensor.shape, strict=True):
                if isinstance(name, str):
                    torch._check(sizes.setdefault(name, size) == size)
        return self.module(*inputs)


class _Traceable(nn.Module):
    """A stage and its head, as a function of Tensors alone.

    Args:
        segment: The stage and its head.
        flow: What it reads; what is no Tensor there stays as it is.
        hands_on: Whether the next head wants what this one hands on.
        last: Whether nothing follows, so that the feature is of no use.
    """

    def __init__(self, segment: Segment, flow: Flow, *, hands_on: bool, last: bool) -> None:
        super().__init__()
        self.segment, self._hands_on, self._last = segment, hands_on, last
        leaves, self._form = pytree.tree_flatten(flow.x)
        self._constants = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._reads_previous = flow.handed is not None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        *given, previous = tensors if self._reads_previous else (*tensors, None)
        following = iter(given)
        leaves = [next(following) if constant is None else constant for constant in self._constants]
        x, logits, handed = self.segment(pytree.tree_unflatten(leaves, self._form), previous)
        return (logits, *([] if self._last else _tensors(Flow(x, handed if self._hands_on else None))))


@torch.no_grad()
def _run(segment: Segment, flow: Flow, *, hands_on: bool) -> tuple[Flow, Tensor]:
    x, logits, handed = segment(flow.x, flow.handed)
    return Flow(x, handed if hands_on else None), logits


def _tensors(flow: Flow) -> list[Tensor]:
    """The Tensors of a flow, in order."""
    leaves = [leaf for leaf in pytree.tree_leaves(flow.x) if isinstance(leaf, Tensor)]
    return leaves if flow.handed is None else [*leaves, flow.handed]


def _values(few: Flow, many: Flow) -> list[Value]:
    """What the Tensors of a flow are: an axis whose size differs is free.

    Args:
        few: Two samples, of fewer tokens where the net reads any number of them.
        many: Three.
    """
    values = []
    for place, (a, b) in enumerate(zip(_tensors(few), _tensors(many), strict=True)):
        shape = [
            size if fewer == size else f"size{size}" for fewer, size in zip(a.shape, b.shape, strict=True)
        ]
        if shape and (len(a), len(b)) == (2, 3):
            shape[0] = "batch"
        values.append(Value(f"x{place}", str(b.dtype).removeprefix("torch."), (*shape,)))
    return values


@torch.no_grad()
def _fewer(net: MultiExitNet) -> Any:
    """Two samples; of half as many tokens where the net reads named inputs, and runs on such."""
    x = net.sample(2)
    if not isinstance(x, Mapping):
        return x
    lengths = {value.shape[1] for value in x.values() if value.ndim > 1}
    if len(lengths) != 1 or (half := lengths.pop() // 2) == 0:
        return x
    shorter = {name: value[:, :half] if value.ndim > 1 else value for name, value in x.items()}
    try:
        net(shorter)
    except Exception:  # of the net: what it reads has that many columns, or channels
        return x
    return shorter

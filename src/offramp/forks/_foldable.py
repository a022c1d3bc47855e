"""The layers of a head that read a feature, if a rotation of its channels can be folded into them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from offramp.errors import UserError
from offramp.forks._rotations import rotation_of, turned
from offramp.forks.scales import scales_of, with_scales

__all__ = ["Fold", "folds_of"]

# layers that multiply channels, and the axis of their weight along which those lie that they read
_LAYERS = {"linear": 1} | {f"conv{d}d": 1 for d in (1, 2, 3)} | {f"conv_transpose{d}d": 0 for d in (1, 2, 3)}
# what a rotation of the channels never minds, so that no message need name it
_HARMLESS = {
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "dropout", "flatten", "getitem", "interpolate", "mean", "movedim", "permute", "reshape",
    "transpose", "view",
}  # fmt: skip
_CLOSE = 0.01  # of the largest value; bfloat16 rounds by up to 0.004


@dataclass(frozen=True)
class Fold:
    """A weight that takes over the rotation of what its layer reads.

    Attributes:
        weight: The weight.
        axis: Its axis along which the channels lie, alone or with positions.
        shape: How that axis is made of channels and positions: ``(C, P)`` or ``(P, C)``.
        channels: Which of the two are the channels.
    """

    weight: nn.Parameter
    axis: int
    shape: tuple[int, int]
    channels: int

    @torch.no_grad()
    def __call__(self, rotation: Tensor) -> None:
        """Multiply the weight by a rotation ``[m, m]``, W -> W R, as if it read what R has turned."""
        apart = self.weight.double().unflatten(self.axis, self.shape)
        folded = turned(apart, rotation.double().mT, self.axis + self.channels)
        self.weight.copy_(folded.flatten(self.axis, self.axis + 1))


def folds_of(head: nn.Module, name: str, inputs: tuple[Any, ...], scale: int, axis: int) -> list[Fold]:
    """The layers of a head into which a rotation of the feature can be folded, so that nothing else reads it.

    The head runs twice, on values drawn at random and on the same values under a rotation. Every Tensor is
    followed up to the layers that read it; they must read the rotation of what they have read before. No
    other Tensor may have a part in that: a norm layer, say, is the identity only as long as it is new.

    Args:
        head: The head, in evaluation mode.
        name: What messages call it.
        inputs: What it is called with; the feature comes first.
        scale: Which Tensor of the feature is rotated.
        axis: The axis of that Tensor's channels.

    Raises:
        UserError: Something else reads the feature, or a layer whose weight has other uses.
    """
    feature, *previous = inputs
    scales = [*scales_of(feature)]
    like = scales[scale]
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(like.shape, generator=draws).to(like)
    rotation = rotation_of(torch.randn(2 * like.shape[axis : axis + 1], generator=draws)).to(like)
    runs = []
    for x in (values, turned(values, rotation, axis)):
        scales[scale] = x
        with _Follower(x) as follower:
            outputs = head(with_scales(feature, scales), *previous)
        runs.append(follower)
        if not follower.calls or follower.mixed or follower.has(outputs):
            raise UserError(_told(head, name, runs))
    plain, rotated = (run.calls for run in runs)
    folds = [_fold(a, b, rotation) for a, b in zip(plain, rotated, strict=False) if a.weight is b.weight]
    found = [fold for fold in folds if fold is not None]
    if len(found) < max(len(plain), len(rotated)):
        raise UserError(_told(head, name, runs))
    if any(id(fold.weight) in runs[0].elsewhere for fold in found):
        raise UserError(
            f"rotograd folds a rotation into the layer of {name} that reads the feature, and that layer's "
            "weight has other uses in the head; give the head a layer of its own for the feature"
        )
    return [*{id(fold.weight): fold for fold in found}.values()]


def _told(head: nn.Module, name: str, runs: Iterable[_Follower]) -> str:
    met = [operation for run in runs for operation in run.operations]
    others = [*dict.fromkeys(each for each in met if each not in _HARMLESS)] or [*dict.fromkeys(met)]
    what = f"does {', '.join(others[:3])} with it first" if others else "hands it on as it is"
    return (
        "rotograd rotates what each head reads, which a convolution or linear layer can take over in the "
        f"end, and {name} ({type(head).__name__}) {what}; put a 1x1 convolution or a linear layer in front "
        "of that head, or take another method, e.g. gradnorm"
    )


@dataclass(frozen=True)
class _Call:
    """A layer's call: its weight, the axis of the channels in it, and what it has read."""

    weight: nn.Parameter
    axis: int
    read: Tensor


class _Follower(TorchFunctionMode):
    """Follows what is made of a Tensor up to the layers that multiply its channels.

    Attributes:
        calls: Of these layers, in order.
        operations: Names of what else was done with it.
        mixed: Whether another Tensor had a part in one of these.
        elsewhere: Ids of Tensors that anything else has read.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.operations: list[str] = []
        self.mixed = False
        self.elsewhere: set[int] = set()
        self._made = {id(x): x}  # the Tensors are kept, so that their ids stay their own

    def has(self, values: Any) -> bool:
        """Whether some of these values are made of the Tensor past all layers."""
        return any(id(leaf) in self._made for leaf in tree_leaves(values))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        read = {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        if (call := self._call(func, args, kwargs)) is not None:
            self.calls.append(call)
            self.elsewhere |= read - {id(call.weight)}
            return result
        self.elsewhere |= read
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if read & self._made.keys() and tensors:
            self.operations.append(getattr(func, "__name__", "").strip("_"))
            self.mixed = self.mixed or not read <= self._made.keys()
            self._made |= {id(leaf): leaf for leaf in tensors}
        return result

    def _call(self, func: Any, args: Any, kwargs: Any) -> _Call | None:
        """The call of a layer that reads what is made of the Tensor, and whose weight is as it is kept."""
        axis = _LAYERS.get(getattr(func, "__name__", ""))
        if axis is None:
            return None
        named = dict(zip(("input", "weight"), args, strict=False)) | kwargs
        x, weight = named["input"], named["weight"]
        groups = named.get("groups", args[6] if len(args) > 6 else 1)
        fits = isinstance(weight, nn.Parameter) and groups == 1
        return _Call(weight, axis, x) if fits and id(x) in self._made else None


def _fold(plain: _Call, rotated: _Call, rotation: Tensor) -> Fold | None:
    """How a layer's weight takes the rotation over; None if it has not read the rotation of what it read."""
    weight, axis, channels = plain.weight, plain.axis, len(rotation)
    at = plain.read.dim() - 1 if weight.dim() == 2 else 1  # where the layer has its channels
    positions, rest = divmod(weight.shape[axis], channels)
    if rest or rotated.read.shape != plain.read.shape or plain.read.shape[at] != weight.shape[axis]:
        return None
    for place, shape in enumerate(((channels, positions), (positions, channels))):
        expected = turned(plain.read.unflatten(at, shape), rotation, at + place).flatten(at, at + 1)
        if (rotated.read - expected).abs().max() <= _CLOSE * expected.abs().max():
            return Fold(weight, axis, shape, place)
    return None

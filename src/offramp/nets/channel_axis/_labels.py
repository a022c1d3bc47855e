"""Follow the channel axes of Tensors, and the axes of features, through functions of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from offramp.nets.channel_axis._moves import Axes, indexed_axes, moved_axes, reshaped_axes

__all__ = ["Label", "Labels"]


def _names(line: str) -> frozenset[str]:
    return frozenset(line.split())


# By the name of the function. The channel axis of layers that read and write it: 1, or the last one.
_CHANNELS_FIRST = _names(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d "
    "batch_norm instance_norm group_norm"
)
_CHANNELS_LAST = _names("linear addmm lstm gru rnn_tanh rnn_relu multi_head_attention_forward")
# What they read has its channels in axis 1, unless layers say another.
_POOLS = frozenset(
    f"{kind}{d}d{and_indices}"
    for kind in ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool", "max_unpool")
    for d in (1, 2, 3)
    for and_indices in ("", "_with_indices")
) | _names("interpolate pixel_shuffle")
# Each axis of what these return is the same axis of what they read.
_KEEP = _names(
    "add radd iadd sub rsub isub mul rmul imul div rdiv truediv rtruediv itruediv neg abs exp log sqrt rsqrt "
    "square pow rpow clamp clamp_min clamp_max minimum maximum where lerp addcmul addcdiv masked_fill "
    "relu relu6 gelu silu mish elu selu celu leaky_relu prelu rrelu hardtanh hardswish hardsigmoid sigmoid "
    "logsigmoid tanh softplus softsign threshold erf sin cos "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout "
    "cat concat concatenate chunk split tensor_split narrow pad roll flip index_select "
    "clone contiguous detach to type type_as float double half bfloat16 cpu cuda expand expand_as cumsum"
)
# Each axis of what these return is one of what they read, whatever the sizes are, or none.
_MOVE = _names("permute transpose movedim moveaxis swapaxes swapdims t mean sum amax amin")
_RESHAPE = _names("flatten view reshape view_as reshape_as squeeze unsqueeze unflatten")


@dataclass
class Label:
    """Where the axes of a Tensor come from, and which one holds its channels.

    Attributes:
        channels: The axis of its channels.
        sources: For Tensor i of the feature of exit k that it is made of, which of its axes each axis is.
        learned: Whether a parameter has had a part in it.
    """

    channels: int | None = None
    sources: dict[tuple[int, int], Axes] = field(default_factory=dict)
    learned: bool = False

    def moved(self, origin: Axes) -> Label:
        """The label of a Tensor whose axis a is axis ``origin[a]`` of this one."""
        channels = (
            origin.index(self.channels) if self.channels in origin and self.channels is not None else None
        )
        sources = {
            key: tuple(None if axis is None or axis >= len(axes) else axes[axis] for axis in origin)
            for key, axes in self.sources.items()
        }
        return Label(channels, sources)


class Labels(TorchFunctionMode):
    """Gives every Tensor a label while functions of torch run.

    Attributes:
        channel_axes: For Tensor i of feature k, under ``(k, i)``, the axes that layers have used as its
            channels'.
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[int, tuple[Tensor, Label]] = {}  # the Tensor is kept, so that its id stays its own
        self.channel_axes: dict[tuple[int, int], set[int]] = {}

    def enter(self, k: int, feature: Sequence[Any]) -> None:
        """Follow the axes of feature k from here on."""
        for i, tensor in enumerate(feature):
            if isinstance(tensor, Tensor):
                with torch._C.DisableTorchFunction():
                    before = self.of(tensor)
                    known = before.channels
                    axes = tuple(range(tensor.ndim))
                self.channel_axes[k, i] = set() if known is None else {known}
                self.labels[id(tensor)] = tensor, replace(before, sources={**before.sources, (k, i): axes})

    def of(self, tensor: Tensor) -> Label:
        """The label of a Tensor; an empty one if nothing is known of it."""
        return self.labels[id(tensor)][1] if id(tensor) in self.labels else Label()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        operands = [*_tensors((args, kwargs))]
        learned = not name.startswith(("detach", "new_")) and any(
            isinstance(t, nn.Parameter) or self.of(t).learned for t in operands
        )
        read = [t for t in operands if id(t) in self.labels]
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            label = self._after(name, func, args, kwargs, read, tensor)
            label.learned = learned
            self.labels[id(tensor)] = tensor, label
        return result

    def _after(self, name: str, func: Any, args: Any, kwargs: Any, read: list[Tensor], out: Tensor) -> Label:
        source = next(iter(_tensors((args, kwargs))), None)
        if source is None or out.ndim == 0:
            return Label()
        if name == "embedding":
            return Label(out.ndim - 1)
        if (axis := _channel_axis(name, source, args, kwargs)) is not None:
            for tensor in read if name == "multi_head_attention_forward" else [source]:
                self._note(self.of(tensor), axis if tensor.ndim == source.ndim else tensor.ndim - 1)
            return Label(axis if axis == 1 and name in _CHANNELS_FIRST else out.ndim - 1)
        if name in _POOLS and out.ndim == source.ndim:
            label = self.of(source)
            return Label(1 if label.channels is None else label.channels, label.sources)
        if name in _KEEP:
            return _merged([(t.ndim, self.of(t)) for t in read], out.ndim)
        if id(source) not in self.labels:
            return Label()
        if name in _MOVE and (origin := moved_axes(func, args, kwargs, source)) is not None:
            return self.of(source).moved(origin)
        if name in _RESHAPE:
            return self.of(source).moved(reshaped_axes(source.shape, out.shape))
        if name == "getitem" and (origin := indexed_axes(args[1], source.ndim)) is not None:
            return self.of(source).moved(origin)
        return Label()

    def _note(self, label: Label, axis: int) -> None:
        for key, axes in label.sources.items():
            if axis < len(axes) and (own := axes[axis]) is not None:
                self.channel_axes[key].add(own)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _channel_axis(name: str, data: Tensor, args: Any, kwargs: Any) -> int | None:
    """The axis of ``data`` over which this function multiplies or normalises channels, if it does."""
    if name in _CHANNELS_FIRST:
        return 1 if data.ndim > 1 else None
    if name in ("layer_norm", "rms_norm"):
        shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
        return data.ndim - 1 if len(shape) == 1 else None
    if name in ("matmul", "rmatmul", "mm"):
        return data.ndim - 1 if isinstance(args[-1], nn.Parameter) and args[-1].ndim == 2 else None
    return data.ndim - 1 if name in _CHANNELS_LAST else None


def _merged(labels: Sequence[tuple[int, Label]], ndim: int) -> Label:
    """The label of an elementwise result; Tensors of fewer axes are broadcast from the right."""
    aligned = [label.moved(tuple(_from_right(a, ndim, own) for a in range(ndim))) for own, label in labels]
    known = {label.channels for label in aligned} - {None}
    sources: dict[tuple[int, int], Axes] = {}
    for label in aligned:
        for key, axes in label.sources.items():
            sources[key] = axes if sources.setdefault(key, axes) == axes else (None,) * ndim
    return Label(known.pop() if len(known) == 1 else None, sources)


def _from_right(axis: int, ndim: int, own: int) -> int | None:
    return axis - (ndim - own) if axis >= ndim - own else None

"""Which axis of a feature holds its channels, told by the layers that write it and those that read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from offramp.errors import UserError
from offramp.unchanged import unchanged

__all__ = ["Axes", "ChannelAxis", "channel_axes", "given_for", "look"]

Axes = tuple[int | None, ...]
ChannelAxis = int | Mapping[int, int]

# By the name of the function. The channel axis of layers that read and write it: 1, or the last one.
_CHANNELS_FIRST = {f"{kind}{d}d" for kind in ("conv", "conv_transpose") for d in (1, 2, 3)}
_CHANNELS_FIRST |= {"batch_norm", "instance_norm", "group_norm"}
_CHANNELS_LAST = {"linear", "layer_norm", "rms_norm", "addmm", "lstm", "gru", "rnn_tanh", "rnn_relu"}
_CHANNELS_LAST |= {"multi_head_attention_forward"}
_POOLS = {f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for d in (1, 2, 3)}
_POOLS |= {"boolean_dispatch", "interpolate", "pixel_shuffle"}
# Each axis of what these return is the same axis of what they read.
_KEEP = set(
    [
        "add",
        "radd",
        "iadd",
        "sub",
        "rsub",
        "isub",
        "mul",
        "rmul",
        "imul",
        "div",
        "rdiv",
        "truediv",
        "rtruediv",
        "itruediv",
        "neg",
        "abs",
        "exp",
        "log",
        "sqrt",
        "rsqrt",
        "square",
        "pow",
        "rpow",
        "clamp",
        "clamp_min",
        "clamp_max",
        "minimum",
        "maximum",
        "where",
        "lerp",
        "addcmul",
        "addcdiv",
        "masked_fill",
        "relu",
        "relu6",
        "gelu",
        "silu",
        "mish",
        "elu",
        "selu",
        "celu",
        "leaky_relu",
        "prelu",
        "rrelu",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "logsigmoid",
        "tanh",
        "softplus",
        "softsign",
        "threshold",
        "erf",
        "sin",
        "cos",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alpha_dropout",
        "feature_alpha_dropout",
        "cat",
        "concat",
        "concatenate",
        "chunk",
        "split",
        "tensor_split",
        "narrow",
        "pad",
        "roll",
        "flip",
        "index_select",
        "clone",
        "contiguous",
        "detach",
        "to",
        "type",
        "type_as",
        "float",
        "double",
        "half",
        "bfloat16",
        "cpu",
        "cuda",
        "requires_grad",
        "expand",
        "expand_as",
        "view_as_real",
        "alias",
        "cumsum",
        "copy",
    ]
)
# Each axis of what these return is one of what they read, whatever the sizes are, or none.
_MOVE = set(
    [
        "permute",
        "transpose",
        "movedim",
        "moveaxis",
        "swapaxes",
        "swapdims",
        "t",
        "mean",
        "sum",
        "amax",
        "amin",
    ]
)
_RESHAPE = set(["flatten", "view", "reshape", "view_as", "reshape_as", "squeeze", "unsqueeze", "unflatten"])


@dataclass(frozen=True)
class Seen:
    """What a look has seen of one Tensor that a stage returns.

    Attributes:
        shape: Its shape.
        told: The axes that layers read or write as that of the channels.
        floats: Whether it holds floats.
        learned: Whether a parameter has had a part in it, so that gradients can flow through it.
    """

    shape: tuple[int, ...]
    told: frozenset[int]
    floats: bool
    learned: bool

    def axis(self, exit: int, given: int | None, *, main: bool = True) -> int:
        """The channel axis: what the user says of a main Tensor, what layers tell, or what the user says.

        Raises:
            UserError: The layers do not tell, or not the same, and ``given`` is None; or there is no such axis.
        """
        certain = {1} if len(self.shape) == 2 else self.told
        if len(certain) == 1 and (given is None or not main or len(self.shape) == 2):
            return next(iter(certain))
        if given is None:
            why = f"layers read or write axes {sorted(self.told)}" if self.told else "no layer tells"
            raise UserError(
                f"which axis of the feature of exit {exit}, {[*self.shape]}, holds its channels is not "
                f"certain ({why}); say it by `channel_axis=`, an axis for all exits or such as {{{exit}: 1}}"
            )
        axis = given if given >= 0 else given + len(self.shape)
        if not 0 < axis < len(self.shape):
            raise UserError(
                f"channel_axis={given} is no channel axis of the feature of exit {exit}, {[*self.shape]}; "
                f"give one from 1 to {len(self.shape) - 1}"
            )
        return axis


def look(stages: Sequence[nn.Module], heads: Sequence[nn.Module], sample: Any) -> list[tuple[Seen, ...]]:
    """Run stages and heads once and see what reads and writes each Tensor between the stages.

    A convolution or batch norm has its channels in axis 1, a linear layer or layer norm in the last one; what
    comes from or goes to such a layer through elementwise functions, poolings and moved axes has them there
    too. Everything is left as it was.

    Args:
        stages: K modules in a row.
        heads: What reads the features too: K-1 modules, or none.
        sample: An input of the first stage.

    Returns:
        For exits 1 to K-1, the Tensors of the feature.
    """
    labels = _Labels()
    features: list[Sequence[Any]] = []
    with unchanged(*stages, *heads), torch.no_grad(), _no_fused_attention():
        for module in (*stages, *heads):
            module.eval()
        x = sample
        with labels:
            for k, stage in enumerate(stages[:-1]):
                x = stage(x)
                features.append(x if isinstance(x, (tuple, list)) else (x,))
                labels.enter(k, features[-1])
                if k < len(heads):
                    heads[k](x)
            stages[-1](x)
    return [
        tuple(
            Seen(tuple(t.shape), frozenset(labels.told[k, i]), t.is_floating_point(), labels.of(t).learned)
            for i, t in enumerate(feature)
        )
        for k, feature in enumerate(features)
    ]


def channel_axes(features: Sequence[Sequence[Seen]], given: ChannelAxis | None = None) -> list[Axes]:
    """The channel axis of every Tensor of the features, positive.

    Args:
        features: What a :func:`look` has seen.
        given: What counts where that is not certain: one axis for all exits, or a mapping from exit (from 1).

    Returns:
        A tuple for each exit, with None for a Tensor that no gradient flows through, or that has no axis but
        the batch's.

    Raises:
        UserError: An axis is neither certain nor given, or given and not there.
    """
    _check_given(given, len(features))
    return [
        tuple(
            seen.axis(exit, given_for(given, exit), main=seen is feature[-1])
            if seen.floats
            and len(seen.shape) > 1
            and (seen is feature[-1] or seen.learned or len(seen.told) == 1)
            else None
            for seen in feature
        )
        for exit, feature in enumerate(features, start=1)
    ]


def given_for(given: ChannelAxis | None, exit: int) -> int | None:
    """What the user says about an exit (from 1)."""
    return given.get(exit) if isinstance(given, Mapping) else given


def _check_given(given: ChannelAxis | None, exits: int) -> None:
    numbers = [*given, *given.values()] if isinstance(given, Mapping) else [given]
    if given is not None and not all(type(number) is int for number in numbers):
        raise UserError(f"channel_axis={given!r} is neither an integer nor a mapping from exit to integer")
    if isinstance(given, Mapping) and (strange := [exit for exit in given if not 1 <= exit <= exits]):
        raise UserError(f"channel_axis= names exit {strange[0]}, but those to name are exits 1 to {exits}")


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    """Transformer layers of torch do not become one operator, whose layers could not be seen."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass
class _Label:
    """What is known of a Tensor.

    Attributes:
        channels: The axis of its channels.
        sources: For Tensor i of the feature of exit k that it is made of, which of its axes each axis is.
        learned: Whether a parameter has had a part in it.
    """

    channels: int | None = None
    sources: dict[tuple[int, int], Axes] = field(default_factory=dict)
    learned: bool = False

    def moved(self, origin: Axes) -> _Label:
        """The label of a Tensor whose axis a is axis ``origin[a]`` of this one."""
        channels = (
            origin.index(self.channels) if self.channels in origin and self.channels is not None else None
        )
        sources = {
            key: tuple(None if axis is None or axis >= len(axes) else axes[axis] for axis in origin)
            for key, axes in self.sources.items()
        }
        return _Label(channels, sources)


class _Labels(TorchFunctionMode):
    """Labels Tensors while functions of torch run; ``told[k, i]``: the channel axes of Tensor i of feature k."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[int, tuple[Tensor, _Label]] = {}  # the Tensor is kept, so that its id stays its own
        self.told: dict[tuple[int, int], set[int]] = {}

    def enter(self, k: int, feature: Sequence[Any]) -> None:
        """From here on, what is made of ``feature`` tells about it."""
        for i, tensor in enumerate(feature):
            if isinstance(tensor, Tensor):
                with torch._C.DisableTorchFunction():
                    before = self.of(tensor)
                    known = before.channels
                    axes = tuple(range(tensor.ndim))
                self.told[k, i] = set() if known is None else {known}
                self.labels[id(tensor)] = tensor, replace(before, sources={**before.sources, (k, i): axes})

    def of(self, tensor: Tensor) -> _Label:
        """What is known of a Tensor."""
        return self.labels[id(tensor)][1] if id(tensor) in self.labels else _Label()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [*_tensors((args, kwargs))]
        learned = any(isinstance(t, nn.Parameter) or self.of(t).learned for t in operands)
        read = [t for t in operands if id(t) in self.labels]
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        for tensor in _tensors(result):
            label = self._after(name, func, args, kwargs, read, tensor)
            label.learned = learned
            self.labels[id(tensor)] = tensor, label
        return result

    def _after(self, name: str, func: Any, args: Any, kwargs: Any, read: list[Tensor], out: Tensor) -> _Label:
        first = next(iter(_tensors((args, kwargs))), None)
        if first is None or out.ndim == 0:
            return _Label()
        if name == "embedding":
            return _Label(out.ndim - 1)
        if (axis := _channel_axis(name, first, args, kwargs)) is not None:
            for tensor in read if name == "multi_head_attention_forward" else [first]:
                self._tell(self.of(tensor), axis if tensor.ndim == first.ndim else tensor.ndim - 1)
            return _Label(axis if axis == 1 and name in _CHANNELS_FIRST else out.ndim - 1)
        if name in _POOLS and out.ndim == first.ndim:
            label = self.of(first)
            return _Label(1 if label.channels is None else label.channels, label.sources)
        if name in _KEEP:
            return _merged([(t.ndim, self.of(t)) for t in read], out.ndim)
        if id(first) not in self.labels:
            return _Label()
        if name in _MOVE and (origin := _moved_axes(func, args, kwargs, first)) is not None:
            return self.of(first).moved(origin)
        if name in _RESHAPE:
            return self.of(first).moved(_reshaped_axes(first.shape, out.shape))
        if name == "getitem" and (origin := _indexed_axes(args[1], first.ndim)) is not None:
            return self.of(first).moved(origin)
        return _Label()

    def _tell(self, label: _Label, axis: int) -> None:
        for key, axes in label.sources.items():
            if axis < len(axes) and (told := axes[axis]) is not None:
                self.told[key].add(told)


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


def _merged(labels: Sequence[tuple[int, _Label]], ndim: int) -> _Label:
    """The label of an elementwise result; Tensors of fewer axes are broadcast from the right."""
    aligned = [label.moved(tuple(_from_right(a, ndim, own) for a in range(ndim))) for own, label in labels]
    known = {label.channels for label in aligned} - {None}
    sources: dict[tuple[int, int], Axes] = {}
    for label in aligned:
        for key, axes in label.sources.items():
            sources[key] = axes if sources.setdefault(key, axes) == axes else (None,) * ndim
    return _Label(known.pop() if len(known) == 1 else None, sources)


def _from_right(axis: int, ndim: int, own: int) -> int | None:
    return axis - (ndim - own) if axis >= ndim - own else None


def _moved_axes(func: Any, args: Any, kwargs: Any, data: Tensor) -> Axes | None:
    """Where each axis of the result comes from, seen on a Tensor whose sizes are different primes."""
    primes = [n for n in range(2, 60) if all(n % d for d in range(2, math.isqrt(n) + 1))][: data.ndim]
    probe = torch.empty(primes, device="meta")
    result = func(probe, *args[1:], **kwargs) if args else None
    if not isinstance(result, Tensor):
        return None
    return tuple(primes.index(size) if size in primes else None for size in result.shape)


def _reshaped_axes(before: Sequence[int], after: Sequence[int]) -> Axes:
    """Where each axis of a reshaped Tensor comes from; None where axes were merged or split."""
    sources = [(axis, size) for axis, size in enumerate(before) if size != 1]
    origin: list[int | None] = [None] * len(after)
    ahead = behind = 1  # products of the sizes passed so far
    position = 0
    for axis, size in enumerate(after):
        if size == 1:
            continue
        aligned = ahead == behind and position < len(sources)
        if aligned and sources[position][1] == size:
            origin[axis] = sources[position][0]
        ahead *= size
        while behind < ahead and position < len(sources):
            behind *= sources[position][1]
            position += 1
    return tuple(origin)


def _indexed_axes(index: Any, ndim: int) -> Axes | None:
    """Where each axis of an indexed Tensor comes from; None for an index by Tensors or lists."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return None
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    origin: list[int | None] = []
    axis = 0
    for part in parts:
        if part is Ellipsis:
            origin += range(axis, axis + ndim - taken)
            axis += ndim - taken
        elif part is None:
            origin.append(None)
        else:
            if isinstance(part, slice):
                origin.append(axis)
            axis += 1
    return tuple(origin)

"""A net's weights as safetensors: no pickle, hence no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from offramp.copying import unexpanded
from offramp.errors import UserError
from offramp.runs.files import RESTORE, read_bytes

__all__ = ["check_values_of", "load_weights", "not_finite", "put_weights", "weights_bytes"]


def weights_bytes(net: nn.Module) -> bytes:
    """The net's state_dict in the safetensors format."""
    state = net.state_dict()
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    )


def load_weights(net: nn.Module, path: Path) -> None:
    """Read a safetensors file into the net.

    Raises:
        UserError: The file cannot be read, is cut short, no safetensors file, or of another network.
    """
    data = read_bytes(path)
    try:
        weights = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch lacks
        raise UserError(f"{path} is cut short or no safetensors file ({error}); {RESTORE}") from None
    _check_same_net(net.state_dict(), weights, path)
    check_values_of(net, weights, path, RESTORE)
    put_weights(net, weights)


def check_values_of(net: nn.Module, weights: Mapping[str, Tensor], path: Path, remedy: str) -> None:
    """Check that weights are numbers that they can be.

    Args:
        net: The net that they are for.
        weights: Values of its tensors by name.
        path: Where they were read.
        remedy: What to do about others.

    Raises:
        UserError: One is not finite, or a variance below 0.
    """
    if bad := not_finite(net, weights):
        raise UserError(f"{path}: {bad} is not finite, as after a training that went astray; {remedy}")
    for name, tensor in weights.items():
        if name.endswith(("running_var", "num_batches_tracked")) and bool((tensor < 0).any()):
            raise UserError(f"{path}: {name} is below 0; {remedy}")


def put_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Write checked weights into a net; tensors that they lack stay as they are."""
    for buffer in net.buffers():
        if unexpanded(buffer) is not buffer:  # expanded: torch would not write to it
            buffer.data = buffer.data.contiguous()
    net.load_state_dict(weights, strict=False)


def not_finite(net: nn.Module, values: Mapping[str, Tensor] | None = None) -> str | None:
    """Name the first parameter or running statistic with a NaN or an infinity; None if none has.

    Other buffers may have some: a mask of a user's own, for one.

    Args:
        net: The net.
        values: Values of its tensors by name; by default its own.
    """
    named: list[tuple[str, Tensor]] = [*net.named_parameters()]
    named += [(name, b) for name, b in net.named_buffers() if name.endswith(("running_mean", "running_var"))]
    if values is not None:
        named = [(name, values[name]) for name, _ in named if name in values]
    found = [tensor for _, tensor in named]
    finite = torch.stack([tensor.isfinite().all() for tensor in found]).tolist() if found else []
    return next((name for (name, _), fine in zip(named, finite, strict=True) if not fine), None)


def _check_same_net(expected: Mapping[str, Tensor], stored: Mapping[str, Tensor], path: Path) -> None:
    for name in (*expected, *stored):
        in_net, in_file = (_kind(tensors.get(name)) for tensors in (expected, stored))
        if in_net != in_file:
            raise UserError(
                f"{path} is of another network: {name} is {in_file} in the file and {in_net} in the net; "
                "build the net with the arguments it was trained with, and cast it afterwards"
            )


def _kind(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    dtype = "" if tensor.dtype == torch.float32 else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return f"{tuple(tensor.shape)}{dtype}"

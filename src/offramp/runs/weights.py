"""A net's weights as safetensors: no pickle, hence no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from offramp.copying import places
from offramp.errors import UserError
from offramp.runs.files import RESTORE, read_errors

__all__ = ["load_weights", "weights_bytes"]


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
    with read_errors(path):
        data = path.read_bytes()
    try:
        weights = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch lacks
        raise UserError(f"{path} is cut short or no safetensors file ({error}); {RESTORE}") from None
    _check_same_net(net.state_dict(), weights, path)
    for buffer in net.buffers():
        if places(buffer) is not buffer:  # expanded: torch would not write to it
            buffer.data = buffer.data.contiguous()
    net.load_state_dict(weights)


def _check_same_net(expected: Mapping[str, Tensor], stored: Mapping[str, Tensor], path: Path) -> None:
    for name in (*expected, *stored):
        net_shape = tuple(expected[name].shape) if name in expected else "nothing"
        file_shape = tuple(stored[name].shape) if name in stored else "nothing"
        if net_shape != file_shape:
            raise UserError(
                f"{path} is of another network: {name} is {file_shape} in the file and "
                f"{net_shape} in the net; build the net with the arguments it was trained with"
            )

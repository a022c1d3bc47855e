"""Which parts of a net DR-MGF's fusion scales: kernels, rows of a matrix, channels of a norm layer."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from offramp.methods.loops.staged._importance import CONVOLUTIONS

__all__ = ["scaled_units"]


def scaled_units(net: nn.Module, shared: Collection[str], *, affine: bool) -> dict[str, torch.Size]:
    """Leading part of each shared parameter's shape over which the fusion's scales differ.

    Of a convolution one for each kernel, of anything else one for each element. A bias beside a weight of
    more axes has none.

    Args:
        net: The net.
        shared: Names of the parameters that several outputs own.
        affine: Whether weights and biases of norm layers, which have one axis, have scales.
    """
    kernels = _kernels(net)
    return {
        name: parameter.shape[:2] if name in kernels else parameter.shape
        for name, parameter in net.named_parameters()
        if name in shared and not _is_bias(net, name) and (affine or parameter.dim() != 1)
    }


def _kernels(net: nn.Module) -> set[str]:
    """Names of the weights that consist of kernels: those of convolutions."""
    return {
        f"{path}.weight" if path else "weight"
        for path, module in net.named_modules()
        if isinstance(module, CONVOLUTIONS)
    }


def _is_bias(net: nn.Module, name: str) -> bool:
    """Whether a parameter is added to what a weight of more axes gives: the bias of no norm layer."""
    path, _, last = name.rpartition(".")
    weight = getattr(net.get_submodule(path), "weight", None)
    return last == "bias" and isinstance(weight, Tensor) and weight.dim() > 1

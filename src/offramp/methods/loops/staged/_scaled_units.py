"""Which parts of a net have weights of their own in a fusion: kernels, or elements of what has none."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from offramp.methods.loops.staged._importance import CONVOLUTIONS

__all__ = ["connections", "scaled_units"]


def connections(net: nn.Module, shared: Collection[str]) -> dict[str, torch.Size]:
    """Leading part of each shared parameter's shape: of a convolution one for each kernel, else all of it."""
    kernels = _kernels(net)
    return {
        name: parameter.shape[:2] if name in kernels else parameter.shape
        for name, parameter in net.named_parameters()
        if name in shared
    }


def scaled_units(net: nn.Module, shared: Collection[str], *, affine: bool) -> dict[str, torch.Size]:
    """Leading part of each shared parameter's shape over which DR-MGF's scales differ.

    That of its connections; a bias beside a weight of more axes has none.

    Args:
        net: The net.
        shared: Names of the parameters that several outputs own.
        affine: Whether weights and biases of norm layers, which have one axis, have scales.
    """
    return {
        name: unit
        for name, unit in connections(net, shared).items()
        if not _is_bias(net, name) and (affine or net.get_parameter(name).dim() != 1)
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

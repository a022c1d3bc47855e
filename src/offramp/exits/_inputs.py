"""Inputs that a net cannot read, or that hold no samples, are refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.errors import UserError, an_object, shown
from offramp.nets import MultiExitNet
from offramp.nets.named_inputs import named_inputs

__all__ = ["Input", "Inputs"]


class Input(NamedTuple):
    """An input that a net can read.

    Attributes:
        x: The input, with named Tensors in the order of the net's example.
        samples: How many samples it holds.
        counted: Whether these are of the size for which the net's operations are counted.
    """

    x: Any
    samples: int
    counted: bool


class Inputs:
    """What the inputs of a net are like.

    Args:
        net: The net, on the device and in the dtype in which it will run.
    """

    def __init__(self, net: MultiExitNet) -> None:
        like = net.sample(1)
        self._form = _form(like)
        self._leaves = pytree.tree_leaves(like)
        self._kind = _kind(like) if isinstance(like, Tensor) else None
        self._example = net.example  # where there is one, as of texts, sizes may vary

    def read(self, x: Any) -> Input:
        """Read an input as those of the net.

        Raises:
            UserError: It holds none, or is of another form, shape, dtype or device.
        """
        if isinstance(x, Tensor) and _kind(x) == self._kind and (samples := len(x)):  # as it mostly is
            return Input(x, samples, counted=True)
        x = named_inputs(x, self._example)
        if _form(x) != self._form:
            raise UserError(f"the net reads {self._form}, got {_form(x)}")
        leaves = [x] if isinstance(x, Tensor) else pytree.tree_leaves(x)
        for like, leaf in zip(self._leaves, leaves, strict=True):
            self._check(like, leaf)
        if len({len(leaf) for leaf in leaves}) > 1:
            raise UserError(f"the inputs have {[len(leaf) for leaf in leaves]} samples; give as many of each")
        counted = all(
            like.shape[1:] == leaf.shape[1:] for like, leaf in zip(self._leaves, leaves, strict=True)
        )
        return Input(x, len(leaves[0]), counted)

    def _check(self, like: Tensor, x: Tensor) -> None:
        fits = x.ndim == like.ndim if self._example is not None else x.shape[1:] == like.shape[1:]
        if not fits or not x.ndim:
            sizes = ", ".join(["N", *map(str, like.shape[1:])])
            if x.shape == like.shape[1:]:
                raise UserError(f"the net reads batches [{sizes}], got one sample {[*x.shape]}; give x[None]")
            raise UserError(
                f"the net reads inputs [{sizes}], got {[*x.shape]}; give inputs of that shape, or set "
                "net.input_size to the shape of yours"
            )
        if not len(x):
            raise UserError("there are no samples in the batch; give one or more")
        floats = x.is_floating_point(), like.is_floating_point()
        cast = all(floats) and torch.is_autocast_enabled(x.device.type)
        if x.dtype != like.dtype and any(floats) and not cast:
            raise UserError(f"the net reads {like.dtype}, the inputs are {x.dtype}; give x.to({like.dtype})")
        if x.device != like.device:
            raise UserError(f"the net is on {like.device}, the inputs on {x.device}; move one of them")


def _kind(x: Tensor) -> tuple[Any, ...]:
    """Shape of a sample, dtype and device."""
    return x.shape[1:], x.dtype, x.device


def _form(x: Any) -> str:
    """In words, what holds which Tensors."""
    if isinstance(x, Tensor):
        return "a Tensor"
    if isinstance(x, Mapping) and all(isinstance(value, Tensor) for value in x.values()):
        return f"a dict of Tensors {', '.join(sorted(map(shown, x)))}"
    if isinstance(x, (tuple, list)) and all(isinstance(value, Tensor) for value in x):
        return f"{an_object(x)} of {len(x)} Tensors"
    return an_object(x)

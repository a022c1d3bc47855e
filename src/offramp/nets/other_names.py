"""Names that the weights of a net have elsewhere: in the network that it was made of."""

from __future__ import annotations

from itertools import chain

from torch import nn

__all__ = ["names_in"]


def names_in(net: nn.Module, origin: nn.Module) -> dict[str, tuple[str, ...]]:
    """For each parameter and buffer of a net its names in the network whose own it is; none of new ones.

    Args:
        net: The net.
        origin: The network that it was made of, with which it shares its tensors.
    """
    elsewhere: dict[int, list[str]] = {}
    for name, tensor in _named(origin):
        elsewhere.setdefault(id(tensor), []).append(name)
    return {name: tuple(elsewhere[id(t)]) for name, t in _named(net) if id(t) in elsewhere}


def _named(net: nn.Module) -> chain[tuple[str, object]]:
    """All parameters and buffers, shared ones under each of their names."""
    return chain(net.named_parameters(remove_duplicate=False), net.named_buffers(remove_duplicate=False))

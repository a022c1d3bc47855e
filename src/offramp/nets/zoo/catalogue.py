"""The catalogue of the zoo: its networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offramp.checks import word_of
from offramp.nets import zoo
from offramp.nets.net import Net

__all__ = ["NETS", "build_named", "create", "named"]

NETS: dict[str, Callable[..., Net]] = {name: getattr(zoo, name) for name in zoo.__all__}


def named(name: str) -> Callable[..., Net]:
    """The function that builds the named network.

    Raises:
        UserError: No such network.
    """
    return NETS[word_of("net", name, NETS, "network")]


def create(name: str, **kwargs: Any) -> Net:
    """Build the named network.

    Args:
        name: A key of :data:`NETS`.
        **kwargs: The builder's arguments, e.g. ``num_classes``.

    Raises:
        UserError: No such network or argument, or a size below 1.
    """
    return build_named(name, kwargs)


def build_named(name: str, arguments: Mapping[str, Any], input_size: Sequence[int] | None = None) -> Net:
    """Build the named network for inputs of some shape.

    Args:
        name: A key of :data:`NETS`.
        arguments: The builder's.
        input_size: Shape of one input without the batch axis; by default the network's own.

    Raises:
        UserError: No such network or argument, or a size below 1.
    """
    net = named(name)(**arguments)
    if input_size is not None:
        net.input_size = tuple(input_size)
    return net

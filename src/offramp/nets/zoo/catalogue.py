"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offramp.errors import UserError, guess
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.zoo.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.zoo.resnet import resnet18
from offramp.nets.zoo.resnet_sdn import resnet_sdn
from offramp.nets.zoo.vgg import vgg7, vgg16
from offramp.nets.zoo.vgg_sdn import vgg_sdn
from offramp.nets.zoo.wideresnet_sdn import wideresnet_sdn

__all__ = ["NETS", "build_named", "create", "named"]

NETS: dict[str, Callable[..., MultiExitNet]] = {
    build.__name__: build
    for build in (
        vgg7,
        vgg16,
        resnet18,
        msdnet_cifar,
        msdnet_imagenet,
        vgg_sdn,
        resnet_sdn,
        wideresnet_sdn,
    )
}


def named(name: str) -> Callable[..., MultiExitNet]:
    """The function that builds the named network.

    Raises:
        UserError: No such network.
    """
    if name not in NETS:
        raise UserError(f"no network {name!r}{guess(name, NETS)}; there are: {', '.join(NETS)}")
    return NETS[name]


def create(name: str, **kwargs: Any) -> MultiExitNet:
    """Build the named network.

    Args:
        name: A key of :data:`NETS`.
        **kwargs: The builder's arguments, e.g. ``num_classes``.

    Raises:
        UserError: No such network or argument, or a size below 1.
    """
    return build_named(name, kwargs)


def build_named(
    name: str, arguments: Mapping[str, Any], input_size: Sequence[int] | None = None
) -> MultiExitNet:
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

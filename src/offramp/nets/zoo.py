"""The networks by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from offramp.errors import UserError
from offramp.nets.msdnet import msdnet_cifar, msdnet_imagenet
from offramp.nets.multi_exit import MultiExitNet
from offramp.nets.resnet import resnet18
from offramp.nets.vgg import vgg7, vgg16

__all__ = ["NETS", "create"]

NETS: dict[str, Callable[..., MultiExitNet]] = {
    builder.__name__: builder for builder in (vgg7, vgg16, resnet18, msdnet_cifar, msdnet_imagenet)
}


def create(name: str, **kwargs: Any) -> MultiExitNet:
    """Build the named network and note in ``net.spec`` how, so that a run can build it again.

    Args:
        name: A key of :data:`NETS`.
        **kwargs: The builder's arguments, e.g. ``num_classes``.

    Raises:
        UserError: No such network or argument, or a size below 1.
    """
    if name not in NETS:
        raise UserError(f"no network {name!r}{_guess(name, NETS)}; there are: {', '.join(NETS)}")
    known = inspect.signature(NETS[name]).parameters
    for key, value in kwargs.items():
        if key not in known:
            raise UserError(f"{name} has no argument {key!r}{_guess(key, known)}; it has: {', '.join(known)}")
        if isinstance(known[key].default, int) and (type(value) is not int or value < 1):
            raise UserError(f"{name} needs a whole number of at least 1 for {key}, got {value!r}")
    net = NETS[name](**kwargs)
    net.spec = {"net": name, **kwargs}
    return net


def _guess(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""

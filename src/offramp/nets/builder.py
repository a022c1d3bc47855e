"""What every function of the zoo does besides building: it checks its arguments and notes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec

from offramp.errors import UserError, guess
from offramp.nets.multi_exit import MultiExitNet

__all__ = ["builder"]

P = ParamSpec("P")


def builder(build: Callable[P, MultiExitNet]) -> Callable[P, MultiExitNet]:
    """Make a function note in ``net.spec`` how it built a net, so that a run can build it again.

    The note is ``{"net": name, **arguments}``, with the arguments that were given. An argument whose
    default is a whole number is a size.

    Raises:
        UserError: (the function) No such argument, or a size below 1.
    """
    name = build.__name__
    signature = inspect.signature(build)
    known = signature.parameters

    @functools.wraps(build)
    def noted(*args: P.args, **kwargs: P.kwargs) -> MultiExitNet:
        for key in kwargs:
            if key not in known:
                raise UserError(
                    f"{name} has no argument {key!r}{guess(key, known)}; it has: {', '.join(known)}"
                )
        given = signature.bind(*args, **kwargs).arguments
        for key, value in given.items():
            if isinstance(known[key].default, int) and (type(value) is not int or value < 1):
                raise UserError(f"{name} needs a whole number of at least 1 for {key}, got {value!r}")
        net = build(*args, **kwargs)
        net.spec = {"net": name, **given}
        return net

    return noted

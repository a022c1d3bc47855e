"""The decorator of the zoo's functions: it checks their arguments and notes them in ``net.spec``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from offramp.errors import UserError, guess, shown
from offramp.nets.net import Net

__all__ = ["builder", "completed"]

# Arguments that a builder has got since records were first written, and what one that lacks it means.
_BEFORE: dict[str, dict[str, object]] = {"resnet_sdn": {"head_reads": "relu"}}

P = ParamSpec("P")
Built = TypeVar("Built", bound=Net)


def builder(build: Callable[P, Built]) -> Callable[P, Built]:
    """Make a function note in ``net.spec`` how it built a net, so that a run can build it again.

    The note is ``{"net": name, **arguments}``, with the arguments that were given, and those that old
    notes lack (:func:`completed`). An argument whose default is a whole number is a size.

    Raises:
        UserError: (the function) No such argument, or a size below 1.
    """
    name = build.__name__
    signature = inspect.signature(build)
    known = signature.parameters

    @functools.wraps(build)
    def noted(*args: P.args, **kwargs: P.kwargs) -> Built:
        for key in kwargs:
            if key not in known:
                raise UserError(
                    f"{name} has no argument {shown(key)}{guess(key, known)}; it has: {', '.join(known)}"
                )
        given = signature.bind(*args, **kwargs).arguments
        for key, value in given.items():
            if isinstance(known[key].default, int) and (type(value) is not int or value < 1):
                raise UserError(f"{name} needs a whole number of at least 1 for {key}, got {shown(value)}")
        net = build(*args, **kwargs)
        since = {key: known[key].default for key in _BEFORE.get(name, ())}
        net.spec = {"net": name, **given, **{key: given.get(key, value) for key, value in since.items()}}
        return net

    return noted


def completed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Complete an old ``net.spec`` with the arguments that it lacks, as the library built then."""
    return {**spec, **{key: spec.get(key, old) for key, old in _BEFORE.get(spec["net"], {}).items()}}

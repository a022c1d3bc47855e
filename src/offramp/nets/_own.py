"""A network of a user's own, by the place of its code: ``my_module:build`` or ``path/to/file.py:build``.

At the place stands a function that returns a :class:`~offramp.nets.Net`, such as a MultiExitNet, or such a
net. Its code runs when a user gives the place, and only then: what a file names is never imported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from offramp.copying import deep_copy
from offramp.errors import UserError, an_object, guess, shown
from offramp.nets._imported import blamed, find
from offramp.nets.net import Net, check_net

__all__ = ["PLACE", "build_own", "check_own"]

PLACE = re.compile(r"(?P<module>.+?\.py|[\w.]+):[^\W\d]\w*(?=:|$)", re.DOTALL)  # arguments may follow


def check_own(place: str, arguments: Mapping[str, Any]) -> None:
    """Check that the code at a place can be imported, and that its net or function takes the arguments.

    Raises:
        UserError: It cannot be imported, or has no such thing.
    """
    _arguments(place, _find(place), arguments, num_classes=2)


def build_own(
    place: str,
    arguments: Mapping[str, Any],
    num_classes: int | None = None,
    input_size: Sequence[int] | None = None,
) -> Net:
    """Build or copy the net at a place in a user's code; ``net.spec`` notes the place and the arguments.

    Args:
        place: A module, or a file that ends in ``.py``; a colon; the name of a function in it, or of a net,
            of which a copy is taken.
        arguments: Of the function.
        num_classes: One more of them, if the function takes it and they do not have it.
        input_size: Shape of one input without the batch axis; by default what the code says.

    Raises:
        UserError: The code cannot be imported, or fails (the line names file and line); it takes other
            arguments; or what it makes is no Net.
    """
    made = _find(place)
    given = _arguments(place, made, arguments, num_classes)
    with blamed(place.rpartition(":")[0], f"cannot build {place}"):
        net: Net = made(**given) if _is_function(made) else deep_copy(made)
    check_net(net, f"what {place} gives")
    net.spec = {"net": place, **given}
    if input_size is not None:
        net.input_size = tuple(input_size)
    return net


def _find(place: str) -> Any:
    module, _, attribute = place.rpartition(":")
    made = find(module, attribute)
    if not callable(made):  # as nets are too
        raise UserError(
            f"{place} is {an_object(made)}, no net and no function; "
            "name a net with several outputs, or a function that returns one"
        )
    return made


def _is_function(made: Any) -> bool:
    return callable(made) and not isinstance(made, nn.Module)


def _arguments(
    place: str, made: Any, arguments: Mapping[str, Any], num_classes: int | None = None
) -> dict[str, Any]:
    """The keyword arguments for a function; none for a net.

    Raises:
        UserError: It takes no such argument, or needs another one.
    """
    if not _is_function(made):
        if arguments:
            raise UserError(
                f"{place} is no function and takes no arguments; leave out {', '.join(arguments)}"
            )
        return {}
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # of some that are written in C
        raise UserError(
            f"{place} does not say what arguments it takes; name a function of your own"
        ) from None
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    given = dict(arguments)
    if num_classes is not None and "num_classes" in named:
        given.setdefault("num_classes", num_classes)
    for key in given:
        if key not in named and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            known = f"it has: {', '.join(named)}" if named else "it has none"
            raise UserError(f"{place} has no argument {shown(key)}{guess(key, named)}; {known}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in given:
            raise UserError(f"{place} needs a value for its argument {shown(key)}; write {place}:{key}=...")
    return given

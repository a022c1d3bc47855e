"""A reproduction at a fraction of its size: a narrower network, fewer images, fewer epochs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from fractions import Fraction

from offramp.errors import UserError, shown
from offramp.methods import Method
from offramp.nets import NETS
from offramp.nets.text import build, parse_net, word

__all__ = ["narrower", "parse_scale", "scaled"]

SCALE = re.compile(r"\d{1,9}/\d{1,9}|\d?\.?\d{1,20}", re.ASCII)  # also of a float; 1e999999999 has no end
WIDTHS = ("width", "growth", "channels")  # the arguments of the zoo's networks that say how wide they are


def parse_scale(value: object) -> Fraction:
    """``"1/16"``, ``0.25`` or ``1`` -> the fraction.

    Raises:
        UserError: No number above 0 and up to 1.
    """
    try:
        scale = Fraction(str(value)) if SCALE.fullmatch(str(value)) else Fraction(0)
    except ZeroDivisionError:
        scale = Fraction(0)
    if not 0 < scale <= 1:
        raise UserError(f"scale is {shown(value)}, must be a fraction above 0 and up to 1, e.g. 1/16")
    return scale


def scaled(number: int, scale: Fraction) -> int:
    """A number of the published size at a scale: rounded, and at least 1."""
    return max(1, round(number * scale))


def narrower(net: str, scale: Fraction, methods: Iterable[Method]) -> str:
    """A network at a fraction of its width: the nearest that can be built, and that all methods can train.

    Args:
        net: The network at its published width, as one word.
        scale: The fraction; 1 leaves it as it is.
        methods: Those that train it. DFS, for one, needs channels enough for both of its parts.

    Raises:
        UserError: None up to the published width will do.
    """
    if scale == 1:
        return net
    name, arguments = parse_net(net)
    known = inspect.signature(NETS[name]).parameters
    full = {key: arguments.get(key, known[key].default) for key in WIDTHS if key in known}
    forked = [method for method in methods if method.forks]
    for wider in range(max(full.values())):
        widths = {key: min(size, scaled(size, scale) + wider) for key, size in full.items()}
        text = word({"net": name, **arguments, **widths})
        try:
            build(text)
            for method in forked:
                method.prepare(build(text))
            break
        except UserError:
            if widths == full:
                raise
    return text

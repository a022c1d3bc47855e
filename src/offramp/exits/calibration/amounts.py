"""Budgets and latencies as a user writes them: ``"170M"``, ``"3ms"``, ``"50%"``."""

from __future__ import annotations

import re

from offramp.checks import is_number
from offramp.errors import UserError, shown

__all__ = ["operations", "seconds"]

OPERATIONS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
AMOUNT = re.compile(r"\s*([0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+)\s*([^\d\s]*)\s*")


def operations(budget: object, static: float) -> float:
    """The operations per sample that a budget allows.

    Args:
        budget: A number of operations, such with a unit as in ``"170M"`` or ``"1.2G"``, or a share of the
            static network as in ``"50%"``.
        static: Operations of the static network.

    Raises:
        UserError: It is none of these.
    """
    if is_number(budget) and budget > 0:  # type: ignore[operator]
        return float(budget)  # type: ignore[arg-type]
    found = _amount(budget, OPERATIONS, static)
    if found is None:
        raise UserError(
            f"budget={shown(budget)} must be operations per sample above 0, e.g. '170M', '1.2G' or 170e6, "
            "or a share of the static network, e.g. '50%'"
        )
    return found


def seconds(latency: object, static: float) -> float:
    """The seconds per sample that a latency allows.

    Args:
        latency: A time with its unit as in ``"3ms"``, or a share of the static network's as in ``"50%"``.
        static: Seconds of the static network.

    Raises:
        UserError: It is none of these.
    """
    found = _amount(latency, SECONDS, static)
    if found is None:
        raise UserError(
            f"latency={shown(latency)} must be a time per sample with its unit, e.g. '3ms' or '200us', "
            "or a share of the static network's, e.g. '50%'"
        )
    return found


def _amount(text: object, units: dict[str, float], whole: float) -> float | None:
    match = AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    amount = float(match[1])
    # in this order 100% is the whole itself
    value = amount / 100 * whole if match[2] == "%" else amount * units.get(match[2], 0.0)
    return value if is_number(value) and value else None  # "1e999" is infinite, "1e-999" zero

"""The thresholds at which samples leave: the policy's, and others in their place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offramp_runtime._errors import BundleError, InputError, shown
from offramp_runtime._fields import is_number, parsed
from offramp_runtime._folder import read_file
from offramp_runtime._leaving import threshold_rows

__all__ = ["as_confidence", "other_thresholds", "read_thresholds"]

FILE = "policy.json"
LARGEST = 2**26  # bytes: a policy with a fitted ensemble for 20,000 classes


def read_thresholds(folder: Path, exits: Sequence[int], classes: int, confidence: str) -> np.ndarray:
    """Read the thresholds of a bundle's policy.

    Args:
        folder: The bundle.
        exits: The numbers of its exits.
        classes: How many classes it tells apart.
        confidence: The measure that the thresholds are on.

    Returns:
        Of all exits but the last, float32 ``[m]``, or ``[m, classes]`` where one is for each class apart.

    Raises:
        BundleError: The file holds no policy, or that of another net.
    """
    policy = parsed(read_file(folder, FILE, LARGEST), FILE)
    given = policy.get("thresholds")
    if not isinstance(given, list) or not all(map(_is_threshold, given)):
        raise policy.wrong("thresholds", "a list of numbers, lists of numbers, and nulls")
    if {len(each) for each in given if isinstance(each, list)} - {classes}:
        raise policy.wrong("thresholds", f"for {classes} classes where they are lists")
    evaluated = [number for number, each in enumerate(given, start=1) if each is not None]
    if [*evaluated, len(given) + 1] != [*exits]:
        raise BundleError(f"{FILE} and manifest.json have different exits; export the bundle again")
    if policy.text("confidence") != confidence:
        raise policy.wrong("confidence", f"that of manifest.json, {confidence}")
    return threshold_rows({"thresholds": given})


def other_thresholds(given: Any, default: np.ndarray) -> np.ndarray:
    """Thresholds that a caller gives in place of the policy's, in the form in which the graph reads them.

    Args:
        given: A number, one for each exit but the last, or for these one for each class; None: the policy's.
        default: The policy's.

    Raises:
        InputError: They are something else, or NaN.
    """
    if given is None:
        return default
    try:
        read = np.asarray(given)
        with np.errstate(over="ignore"):
            values = read.astype(np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"thresholds are {shown(given)}, must be numbers") from None
    if read.dtype.kind in "bSU" or np.isnan(values).any():  # numpy takes True and "1" for numbers
        raise InputError(f"thresholds are {shown(given)}, must be numbers")
    if values.ndim == 1 and default.ndim == 2:
        values = values[:, None]
    if values.ndim and len(values) != len(default):
        raise InputError(f"there are thresholds for {len(values)} exits, must be {len(default)}")
    try:
        return np.ascontiguousarray(np.broadcast_to(values, default.shape))
    except ValueError:
        raise InputError(
            f"thresholds are of shape {[*values.shape]}, must be a number or of shape {[*default.shape]}"
        ) from None


def as_confidence(threshold: float) -> float:
    """A threshold as precise as the confidences that are compared with it; infinite beyond all of them."""
    with np.errstate(over="ignore"):
        return float(np.float32(threshold))


def _is_threshold(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return value is None or (bool(values) and all(map(is_number, values)))

"""Which samples leave at an exit, by plain arithmetic that numpy and torch share.

The runtime that serves exported nets carries this file, so it imports numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["leaves", "threshold_rows"]


def threshold_rows(policy: Mapping[str, Any]) -> np.ndarray:
    """The thresholds of the exits at which samples may leave early, as one array.

    Args:
        policy: The fields of a policy, as its JSON file has them.

    Returns:
        float32 ``[m]`` for m evaluated exits before the last, in order; ``[m, classes]`` where one of them
        has a threshold for each class.
    """
    rows = [threshold for threshold in policy["thresholds"] if threshold is not None]
    sizes = {len(row) for row in rows if isinstance(row, Sequence)}
    with np.errstate(over="ignore"):  # one that no confidence reaches may be any number
        if not sizes:
            return np.asarray(rows, np.float32)
        classes = max(sizes)
        return np.asarray([np.broadcast_to(np.asarray(row, np.float32), (classes,)) for row in rows])


def leaves(confidence: Any, prediction: Any, threshold: Any) -> Any:
    """Which of n samples leave: bool ``[n]``. A confidence that is no number never does.

    Args:
        confidence: ``[n]``.
        prediction: The predicted classes, int64 ``[n]``.
        threshold: A number, or one for each class.
    """
    return confidence >= (threshold[prediction] if getattr(threshold, "ndim", 0) else threshold)

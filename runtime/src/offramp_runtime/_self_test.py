"""Whether the graphs of a bundle say the same: the one of all exits, and those of the stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from offramp_runtime._errors import BundleError, InputError
from offramp_runtime._manifest import Input
from offramp_runtime._model import Model
from offramp_runtime._stages import Stage

__all__ = ["difference"]

SAMPLES = 5
FREE = 8  # the length of an axis that may have any
MOST = 1e-4  # between probabilities


def difference(model: Model, stages: Sequence[Stage]) -> float:
    """The largest difference between what two graphs say about random samples at the same exit.

    Args:
        model: The model.
        stages: Its stages.

    Raises:
        BundleError: It is more than rounding makes.
        InputError: The graphs cannot run on such samples.
    """
    draws = np.random.default_rng(0)
    batch = {entry.name: _random(draws, entry) for entry in model.inputs}
    arrays, worst, inner = [*batch.values()], 0.0, len(stages) - 1
    for place, stage in enumerate(stages):
        passage = stage.run(arrays, SAMPLES)
        # nobody leaves before this exit, all leave here
        limits = [math.inf if before < place else -math.inf for before in range(inner)]
        whole = model.predict(batch, thresholds=limits)
        apart = np.abs(whole.probabilities - passage.probabilities).max()
        if not apart <= MOST or {*whole.exit.tolist()} != {stage.exit}:
            raise BundleError(
                f"the graphs disagree at exit {stage.exit}, by {apart:.2g}; export the bundle again"
            )
        worst, arrays = max(worst, float(apart)), passage.carried
    return worst


def _random(draws: np.random.Generator, entry: Input) -> np.ndarray:
    shape = (SAMPLES, *(FREE if size is None else size for size in entry.shape))
    kind = np.dtype(entry.dtype)
    most = 256 if kind == np.uint8 else 2  # other whole numbers are places in a table, or a mask
    try:
        drawn = draws.standard_normal(shape) if kind.kind == "f" else draws.integers(0, most, shape)
        return drawn.astype(kind)
    except (MemoryError, ValueError):  # the latter of more than any array has
        raise InputError(f"samples of shape {[*shape]} do not fit into the memory") from None

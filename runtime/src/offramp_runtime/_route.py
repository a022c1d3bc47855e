"""A batch on its way through the stages, some of whose samples leave behind each."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from offramp_runtime._queueing import Pace
from offramp_runtime._stages import Stage

__all__ = ["Departures", "route"]


class Departures:
    """What the exits have said about the samples that left there, in the order in which these came.

    Args:
        samples: How many came.
        classes: How many classes there are.
    """

    def __init__(self, samples: int, classes: int) -> None:
        self.probabilities = np.empty((samples, classes), np.float32)
        self.exit = np.empty(samples, np.int64)
        self.confidence = np.empty(samples, np.float32)


def route(
    stages: Sequence[Stage], inputs: Sequence[np.ndarray], classes: int, end: float, pace: Pace
) -> Departures:
    """Run a batch stage by stage, until all its samples have left or the time is over.

    Before each further stage the time that it takes is estimated; where it does not fit, the samples that are
    left leave where they are. The first stage always runs.

    Args:
        stages: The stages.
        inputs: The arrays of the batch.
        classes: How many classes there are.
        end: When it is to be done, by :func:`time.perf_counter`.
        pace: What is known of the time that stages take, which is kept up.

    Raises:
        InputError: A stage cannot run on it.
    """
    arrays, start = [*inputs], time.perf_counter()
    places = np.arange(len(arrays[0]))  # of the samples that are there, in the batch that came
    found = Departures(len(places), classes)
    for number, stage in enumerate(stages):
        passage = stage.run(arrays, len(places))
        leaving = stage.leaving(passage)
        now = time.perf_counter()
        pace.note(number, len(places), now - start)
        start, staying = now, np.flatnonzero(~leaving)
        if len(staying) and end < math.inf and now + pace.expect(number + 1, len(staying)) > end:
            leaving, staying = np.ones_like(leaving), staying[:0]
        gone = places[leaving]
        found.probabilities[gone] = passage.probabilities[leaving]
        found.confidence[gone] = passage.confidence[leaving]
        found.exit[gone] = stage.exit
        if not len(staying):
            break
        arrays = passage.carried
        if len(staying) < len(places):
            arrays, places = stage.rows(arrays, staying), places[staying]
    return found

"""How long a step of the net takes, as far as has been seen."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Pace"]

SHARE = 0.2  # of a new time in the mean that follows the machine
MARGIN = 1.2  # a step may take longer than the mean
LATEST = 1000  # steps to learn from, of those since the last estimate
LASTS = 60.0  # seconds for which a time counts: a step that took too long for all deadlines is tried again


class _Seen(NamedTuple):
    """How long a step has taken with some number of samples, and when it last ran with these."""

    seconds: float
    when: float


class Pace:
    """Learns how long each step takes, by the number of samples; any number of threads may use it.

    Args:
        costs: Operations of a sample up to each step; None: unknown.
        clock: Tells the seconds.
    """

    def __init__(self, costs: Sequence[int | None], clock: Callable[[], float] = time.monotonic) -> None:
        known = [cost for cost in costs if cost is not None]
        upto = known if len(known) == len(costs) else list(range(1, len(costs) + 1))
        self._work = [b - a for a, b in zip([0, *upto], upto, strict=False)]
        self._clock = clock
        self._seen: list[dict[int, _Seen]] = [{} for _ in costs]
        self._noted: deque[tuple[int, int, float, float]] = deque(maxlen=LATEST)
        self._lock = threading.Lock()

    def note(self, step: int, samples: int, seconds: float) -> None:
        """Note what a step has taken; it is learnt when an estimate is asked for, as few callers do."""
        self._noted.append((step, samples, seconds, self._clock()))

    def expect(self, step: int, samples: int) -> float:
        """Seconds that a step is likely to take at most.

        Of a step that has not run with so many samples within the last minute, the time with the next larger
        number, or in proportion to one with fewer; of one that has not run at all since, in proportion to the
        operations of the step before.
        """
        with self._lock:
            while self._noted:
                self._learn(*self._noted.popleft())
            return self._expect(step, samples)

    def _expect(self, step: int, samples: int) -> float:
        seen = self._recent(step, self._clock())
        larger = [n for n in seen if n >= samples]
        if larger:
            return MARGIN * seen[min(larger)].seconds
        if seen:
            most = max(seen)
            return MARGIN * seen[most].seconds * samples / most
        if step == 0:
            return 0.0
        return self._expect(step - 1, samples) * self._work[step] / max(self._work[step - 1], 1)

    def _learn(self, step: int, samples: int, seconds: float, when: float) -> None:
        seen = self._recent(step, when)
        if samples in seen:
            seconds = max(seconds, (1 - SHARE) * seen[samples].seconds + SHARE * seconds)
        seen[samples] = _Seen(seconds, when)

    def _recent(self, step: int, now: float) -> dict[int, _Seen]:
        """The times of a step that count, by the number of samples."""
        seen = self._seen[step]
        for samples in [n for n, known in seen.items() if known.when < now - LASTS]:
            del seen[samples]
        return seen

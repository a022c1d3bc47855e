"""How long a step of the net takes, as far as has been seen."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence

__all__ = ["Pace"]

SHARE = 0.2  # of a new time in the mean that follows the machine
MARGIN = 1.2  # a step may take longer than the mean
LATEST = 1000  # steps to learn from, of those since the last estimate


class Pace:
    """The time of every step by the number of samples, learnt as steps run; for any number of threads.

    Args:
        costs: Operations of a sample up to each step; None: unknown.
    """

    def __init__(self, costs: Sequence[int | None]) -> None:
        known = [cost for cost in costs if cost is not None]
        upto = known if len(known) == len(costs) else list(range(1, len(costs) + 1))
        self._work = [b - a for a, b in zip([0, *upto], upto, strict=False)]
        self._seconds: list[dict[int, float]] = [defaultdict(float) for _ in costs]
        self._noted: deque[tuple[int, int, float]] = deque(maxlen=LATEST)
        self._lock = threading.Lock()

    def note(self, step: int, samples: int, seconds: float) -> None:
        """Note what a step has taken; it is learnt when an estimate is asked for, as few callers do."""
        self._noted.append((step, samples, seconds))

    def expect(self, step: int, samples: int) -> float:
        """Seconds that a step is likely to take at most.

        Of a step that has not run with so many samples, the time with the next larger number, or in
        proportion to one with fewer; of one that has not run at all, in proportion to the operations of the
        step before.
        """
        with self._lock:
            while self._noted:
                self._learn(*self._noted.popleft())
            return self._expect(step, samples)

    def _expect(self, step: int, samples: int) -> float:
        seen = self._seconds[step]
        larger = [n for n in seen if n >= samples]
        if larger:
            return MARGIN * seen[min(larger)]
        if seen:
            most = max(seen)
            return MARGIN * seen[most] * samples / most
        if step == 0:
            return 0.0
        return self._expect(step - 1, samples) * self._work[step] / max(self._work[step - 1], 1)

    def _learn(self, step: int, samples: int, seconds: float) -> None:
        seen = self._seconds[step]
        seen[samples] = max(seconds, (1 - SHARE) * seen[samples] + SHARE * seconds)

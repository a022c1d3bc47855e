"""How several data sets share the steps of an epoch: how many samples or batches each gives, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from offramp.checks import choice, count_of, of_kind
from offramp.errors import shown

__all__ = ["EPOCHS_OF", "ORDERS", "Streams", "batches_given"]

ORDERS = ("together", "in-turn")
EPOCHS_OF = ("longest", "shortest")


@dataclass(frozen=True)
class Streams:
    """How training batches are drawn from several data sets.

    Each set is an endless stream: all its full batches in a random order, then all of them in a new one. The
    stream goes on from epoch to epoch, so that every set is seen evenly however long an epoch is.

    Attributes:
        order: ``"together"``: each step has samples of every set, side by side, in their proportions;
            ``"in-turn"``: each step has a batch of one set, and the sets' batches are spread evenly over the
            epoch, in their proportions.
        epoch_of: The set that an epoch sees exactly once: the ``"longest"`` or the ``"shortest"``, counted
            in steps, proportions taken into account.
        proportions: Name of a set -> its share, a whole number; 1 where it is not named.

    Raises:
        UserError: There is no such order or epoch, or a share is no whole number of at least 1.
    """

    order: str = "together"
    epoch_of: str = "longest"
    proportions: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choice(self, "order", ORDERS)
        choice(self, "epoch_of", EPOCHS_OF)
        of_kind("proportions", self.proportions, Mapping, "a mapping from names of sets to whole numbers")
        for name, share in self.proportions.items():
            count_of(f"proportions: that of {shown(name)}", share)

    def sizes(self, names: Sequence[str], batch_size: int) -> dict[str, int]:
        """How many samples of each set a step has where it has any.

        Together these make up the batch: shares are rounded down, and what is left goes to those that lost
        most, the first ones if they are equal.
        """
        if self.order == "in-turn":
            return dict.fromkeys(names, batch_size)
        whole = sum(map(self._share, names))
        exact = {name: Fraction(batch_size * self._share(name), whole) for name in names}
        sizes = {name: floor(size) for name, size in exact.items()}
        by_loss = sorted(names, key=lambda name: sizes[name] - exact[name])
        for name in by_loss[: batch_size - sum(sizes.values())]:
            sizes[name] += 1
        return sizes

    def counts(self, available: Mapping[str, int]) -> dict[str, int]:
        """How many batches each set gives in an epoch.

        Args:
            available: How many full batches each set has.
        """
        choose = max if self.epoch_of == "longest" else min
        if self.order == "together":
            return dict.fromkeys(available, choose(available.values()))
        rounds = choose(Fraction(count, self._share(name)) for name, count in available.items())
        return {name: max(1, floor(rounds * self._share(name) + Fraction(1, 2))) for name in available}

    def shares(self, lengths: Mapping[str, int], batch_size: int) -> dict[str, float]:
        """The share of an epoch's samples that comes from each set.

        Args:
            lengths: How many samples each set has.
            batch_size: Samples per step.
        """
        sizes = self.sizes([*lengths], batch_size)
        counts = self.counts({name: length // sizes[name] for name, length in lengths.items()})
        total = sum(counts[name] * sizes[name] for name in lengths)
        return {name: counts[name] * sizes[name] / total for name in lengths}

    def plan(self, counts: Mapping[str, int]) -> list[tuple[str, ...]]:
        """The sets of each step of an epoch, of which each gives so many batches."""
        if self.order == "together":
            return [tuple(counts)] * min(counts.values())
        places = [
            (Fraction(2 * i + 1, 2 * count), rank, name)  # the middles of equal stretches of the epoch
            for rank, (name, count) in enumerate(counts.items())
            for i in range(count)
        ]
        return [(name,) for _, _, name in sorted(places)]

    def _share(self, name: str) -> int:
        return self.proportions.get(name, 1)


def batches_given(plan: Sequence[Sequence[str]]) -> Counter[str]:
    """How many batches each set gives in some steps."""
    return Counter(name for names in plan for name in names)

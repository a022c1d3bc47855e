"""Settings of a diagnosis: its topics, and how closely they are measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from offramp.analysis.filters import Unit
from offramp.checks import choice, described, number, whole
from offramp.errors import UserError, guess, shown

__all__ = ["TOPICS", "Settings", "SplitName"]

SplitName = Literal["val", "test"]
TOPICS = ("conflict", "filters", "importance", "routes", "convergence")


@dataclass(frozen=True)
class Settings:
    """The settings of :func:`~offramp.analysis.diagnose`.

    Attributes:
        what: Which of :data:`TOPICS`.
        batches: How many training batches, of the run's own size. Correlations over few say little.
        step: Length of the trial steps for the gain; None: the last epoch's learning rate, at least 0.001.
        unit: What a filter is, for all that is measured by gradients; learned routes are by kernel.
        ratio: How many times as much as any other output an output must need a filter that is its own: 1 in
            the paper, 1.1 in the published code.
        split: The images for the pruning matrices. The paper takes the test set, which here is for final
            evaluations.

    Raises:
        UserError: A value out of range.
    """

    what: Collection[str] = TOPICS
    batches: int = 200
    step: float | None = None
    unit: Unit = "out_channel"
    ratio: float = 1.0
    split: SplitName = "val"

    def __post_init__(self) -> None:
        if isinstance(self.what, str) or not isinstance(self.what, Collection):
            raise UserError(f"what is {described(self.what)}, must be a list of some of: {', '.join(TOPICS)}")
        for topic in self.what:
            if topic not in TOPICS:
                raise UserError(
                    f"there is no {shown(topic)} to diagnose{guess(topic, TOPICS)}; there are: "
                    f"{', '.join(TOPICS)}"
                )
        if not self.what:
            raise UserError(f"nothing to diagnose; give some of: {', '.join(TOPICS)}")
        whole(self, "batches", 1)
        choice(self, "unit", get_args(Unit))
        choice(self, "split", get_args(SplitName))
        if self.step is not None:
            number(self, "step", "above 0", lambda length: length > 0)
        number(self, "ratio", "of 1 or more", lambda ratio: ratio >= 1)

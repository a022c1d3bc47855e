"""``offramp budget``: accuracy against mean cost, for finished runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.cli._new_file import new_picture

__all__ = ["BudgetCommand"]


@dataclass(frozen=True)
class BudgetCommand:
    """Show the accuracy of finished runs of one net at each budget of operations, if images leave early.

    Thresholds are fitted on the validation images, 40 times, by the algorithm of the published curves;
    accuracy and mean FLOPs are those of the test images. Beside them stand each exit by itself, the oracle,
    by which each image leaves at the first exit that is right, and the static network, without inner heads.
    Runs of one method that differ in their seed only count as one: mean and spread.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp budget runs/dfs
  offramp budget runs/joint/seed-* runs/dfs/seed-* --out budget.png
  offramp budget runs/msdnet --published dfs-fig3 --json"""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """folders that `offramp train` wrote"""
    out: str | None = None
    """picture to draw, accuracy against published and executed FLOPs: .png, .svg or .pdf, and no file yet"""
    best: bool = False
    """fit the best thresholds for each of the 40 budgets too, as `offramp calibrate` does"""
    published: str | None = None
    """curve of a paper to show beside, where net and data are the same: dfs-fig3"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Compute the curves, and draw the picture if one is asked for."""
        from offramp.reports.budget import budget
        from offramp.reports.plot_budget import plot_budget
        from offramp.say import say

        picture = new_picture(self.out, "--out")
        net = net_of(self.runs, self.net)
        found = budget(self.runs, net=net, best=self.best, published=self.published, tell=say)
        if picture is not None:
            plot_budget(found, picture)
        return Answer({**found.to_dict(), "picture": self.out}, found.table())

"""``offramp compare``: finished runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._new_file import new_picture

__all__ = ["CompareCommand"]


@dataclass(frozen=True)
class CompareCommand:
    """Put finished runs side by side: a table, paired differences to joint training, a picture.

    Runs of one method that differ in their seed only count as one: mean and spread. The difference is
    taken seed by seed, over the seeds that both methods have run, with its 95 % t interval. Without a run
    of joint training the differences are to the first run's method.

    Of a net with several tasks the tasks stand where exits do, with Delta-m, the mean relative loss to the
    baseline; nets with the same tasks can be compared, too.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp compare runs/joint runs/dfs
  offramp compare runs/*/seed-* --out picture.png
  offramp compare runs/*/seed-* --pick-lr
  offramp compare --published dfs-table2 runs/joint runs/dfs
  offramp compare runs/tasks/* --metrics compared --baseline separate
  offramp compare runs/tasks/* --baseline runs/depth runs/normals"""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """folders that `offramp train` wrote"""
    out: str | None = None
    """picture to draw, metrics against FLOPs and the differences: .png, .svg or .pdf, and no file yet"""
    pick_lr: bool = False
    """of a method's runs at several learning rates, take those that are best on the validation images"""
    published: str | None = None
    """table of a paper to show beside, labelled as published: dfs-table2; a wrong name lists them all"""
    baseline: tuple[str, ...] = ()
    """what differences are to: a label of the table, or folders of runs; also of networks of one task each"""
    metrics: Literal["primary", "compared", "all"] = "primary"
    """of several tasks: the metric that stands for each, those that Delta-m is the mean of, or all"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Compare the runs, and draw the picture if one is asked for."""
        from offramp.reports import compare, plot

        picture = new_picture(self.out, "--out")
        comparison = compare(
            self.runs,
            pick_lr=self.pick_lr,
            published=self.published,
            baseline=self.baseline,
            metrics=self.metrics,
        )
        if picture is not None:
            plot(comparison, picture)
        return Answer({**comparison.to_dict(), "picture": self.out}, comparison.table())

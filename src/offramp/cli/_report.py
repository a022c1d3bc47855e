"""``offramp report``: runs as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.nets import Net

__all__ = ["ReportCommand", "full_page"]

BATCHES = 20  # that tell where the outputs conflict


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Write one HTML page about runs of one net on one data set, which needs no other file and no network.

    The runs' table with paired differences, the curves of the training, a slider that moves the thresholds
    by which samples leave early, the pictures that leave first and last at each exit, the conflict between
    the outputs, and the cost of each stage. Runs that are not finished are shown as far as they are.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp report runs/joint runs/dfs --out report.html
  offramp report runs/*/seed-* --out report.html --quick
  offramp train --data digits --net vgg7:width=8 --method dfs --out runs/dfs --report r.html"""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """folders that `offramp train` wrote"""
    out: str
    """page to write; a report that is there is replaced, any other file is not"""
    quick: bool = False
    """only what the folders hold: tables, and curves of the training; no net runs"""
    no_times: bool = False
    """leave out the times of the ways through the net: equal runs then give equal pages, byte for byte"""
    batches: int = BATCHES
    """training batches to measure the conflict on; 0 leaves it out"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Measure what the page shows, and write it."""
        from offramp.reports.html import check_page, report, write_page

        if self.batches < 0:
            raise UserError(f"--batches is {self.batches}, must be 0 or more")
        out = check_page(self.out)
        net = None if self.quick else net_of(self.runs, self.net)
        if self.quick:
            page = report(self.runs, quick=True)
        else:
            page = full_page(self.runs, net, times=not self.no_times, batches=self.batches)
        write_page(out, page)
        return Answer({"runs": [*self.runs], "report": self.out}, f"report: {out}")


def full_page(
    runs: Sequence[str | Path], net: Net | None = None, *, times: bool = True, batches: int = BATCHES
) -> str:
    """The page about runs, with all that can be measured of them.

    Args:
        runs: Their folders.
        net: As for :func:`offramp.reports.html.report`.
        times: As there.
        batches: To measure the conflict on; 0 leaves it out.
    """
    from offramp.analysis import Settings, diagnose
    from offramp.reports.html import report
    from offramp.say import say

    def diagnosed(folders: Sequence[Path]) -> dict[str, Any]:
        settings = Settings(("conflict",), batches)
        return diagnose(folders, settings, net=net, tell=say).to_dict()

    return report(runs, net=net, times=times, diagnose=diagnosed if batches else None, tell=say)

"""What finished runs say: tables, paired differences and pictures, read from run folders."""

from offramp.reports.compare import compare
from offramp.reports.groups import Comparison, Group
from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.reports.plot import plot
from offramp.reports.runs import RunRecord, read_run
from offramp.reports.table import aligned, count, result_table

__all__ = [
    "Comparison",
    "Difference",
    "Group",
    "RunRecord",
    "Spread",
    "aligned",
    "compare",
    "count",
    "paired_difference",
    "plot",
    "read_run",
    "result_table",
    "spread",
]

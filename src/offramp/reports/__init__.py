"""Reports on finished runs: tables, paired differences and pictures, read from run folders."""

from offramp.reports.beside import Beside, beside_published
from offramp.reports.comparison import Comparison, compare
from offramp.reports.groups import Group
from offramp.reports.paired import Difference, Spread, paired_difference, spread
from offramp.reports.plot import plot
from offramp.reports.runs import RunRecord, read_run
from offramp.reports.search import RateResult
from offramp.reports.write import check_report_folder, write_report
from offramp.runs.table import result_table
from offramp.text_table import aligned, count, signed

__all__ = [
    "Beside",
    "Comparison",
    "Difference",
    "Group",
    "RateResult",
    "RunRecord",
    "Spread",
    "aligned",
    "beside_published",
    "check_report_folder",
    "compare",
    "count",
    "paired_difference",
    "plot",
    "read_run",
    "result_table",
    "signed",
    "spread",
    "write_report",
]

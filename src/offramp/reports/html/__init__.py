"""Runs as one HTML page that needs nothing else: tables, charts, a slider for the thresholds, pictures."""

from offramp.reports.html.report import report, report_of_training
from offramp.reports.html.writing import check_page, write_page

__all__ = ["check_page", "report", "report_of_training", "write_page"]

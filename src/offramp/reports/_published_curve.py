"""Whether a published curve is of the net and the data of a run."""

from __future__ import annotations

import re

from offramp.papers.published import Curve
from offramp.reports.runs import RunRecord

__all__ = ["unlike"]


def unlike(curve: Curve, run: RunRecord) -> str | None:
    """Why a published curve does not belong beside a run's; None if it does.

    Args:
        curve: The published one.
        run: Its net is the same if it has the name, and exits that cost what the paper prints.
    """
    setting = f"it is of {curve.net} on {curve.data}, and these runs are of {run.net} on {run.data}"
    if run.net.partition(":")[0] != curve.net or _plain(run.data) != _plain(curve.data):
        return setting
    flops = [output.flops for output in run.result.outputs.values()]
    printed = [f"{each:.2f}" for each in curve.flops]
    if [f"{(each or 0) / curve.flops_unit:.2f}" for each in flops] != printed:
        return f"{setting}, whose exits cost other operations than the published ones"
    return None


def _plain(name: str) -> str:
    """A data set's name without case and marks, as ``cifar100``."""
    return re.sub(r"[\W_]", "", name.lower())

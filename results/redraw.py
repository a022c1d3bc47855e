"""Draw the picture of a comparison again from its numbers: ``python results/redraw.py results/dfs``.

The runs behind the tables are not kept; ``comparison.json`` holds what each of them has reached.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from offramp.reports import Comparison, Group, RunRecord, plot
from offramp.runs.result import Result


def comparison(folder: Path) -> Comparison:
    """What ``comparison.json`` says: accuracies and costs, without recipes and times."""
    net, _, _ = (folder / "comparison.txt").read_text(encoding="utf-8").partition(" on ")
    document = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    runs = iter(document["runs"])  # group by group, seed by seed
    groups = [
        Group(group["label"], tuple(_record(net, next(runs)) for _ in group["seeds"]))
        for group in document["groups"]
    ]
    return Comparison(tuple(groups), tuple(document["notes"]))


def _record(net: str, run: dict[str, Any]) -> RunRecord:
    result = Result.from_json(run)
    folder, method, data, seed = Path(run["folder"]), run["method"], run["data"], run["seed"]
    return RunRecord(folder, net, method, {}, data, seed, {}, result=result, epochs=())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(plot(comparison(Path(name)), Path(name) / "comparison.png"))

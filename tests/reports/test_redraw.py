"""The pictures under results/ can be drawn again from the numbers that are kept there."""

import json
import runpy
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/comparison.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_numbers_of_the_picture_are_those_of_the_file(folder):
    found = runpy.run_path(str(RESULTS / "redraw.py"))["comparison"](folder)
    kept = json.loads((folder / "comparison.json").read_text())
    assert (folder / "comparison.txt").read_text().startswith(found.title)
    assert [(group.label, group.seeds) for group in found.groups] == [
        (group["label"], group["seeds"]) for group in kept["groups"]
    ]
    differences = {one["label"]: one for one in kept["differences"]}
    for group in found.groups[1:]:
        theirs = differences[group.label]
        if "exits" not in theirs:  # of several tasks
            assert group.minus(found.groups[0])["delta_m"].mean == pytest.approx(theirs["delta_m"]["mean"])
            continue
        *exits, average, ensemble = group.minus(found.groups[0]).values()
        means = [one["top1"]["mean"] for one in theirs["exits"]]
        assert [one.mean for one in exits] == pytest.approx(means)
        assert average.mean == pytest.approx(theirs["average_top1"]["mean"])
        assert ensemble.mean == pytest.approx(theirs["ensemble_top1"]["mean"])


def test_there_are_results():
    assert {folder.name for folder in FOLDERS} >= {"dfs", "methods", "dr-mgf", "multi-task"}

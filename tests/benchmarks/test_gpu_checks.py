"""What ``make gpu`` checks, and how it tells what failed; as far as that needs no GPU."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from offramp.nets import NETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_gradients_of_every_network_are_checked_once_with_targets_of_its_tasks():
    from _gpu import CHECKS
    from _gpu.finding import Where

    where = Where("cpu", small=False)
    exits = {case.removesuffix(" joint") for case in CHECKS["nets"](where) if case.endswith(" joint")}
    dense = {case.removesuffix(" gradient") for case in CHECKS["several"](where) if "gradient" in case}
    assert sorted([*exits, *dense]) == sorted(NETS)
    for name in ("segnet", "segnet_split"):
        found = CHECKS["several"](where)[f"{name} gradient"]()
        assert all(finding.passed for finding in found.values())


def test_the_notice_of_the_debug_mode_is_no_wait(monkeypatch):
    from _gpu.leaving import host_waits

    modes = []

    def turned(mode):
        if not modes:  # what torch says once, when the mode is first set
            warnings.warn(
                "Synchronization debug mode is a prototype feature and does not yet detect all "
                "synchronizing operations",
                stacklevel=2,
            )
        modes.append(mode)

    def run():
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", turned)
    assert host_waits(run) == 3
    assert modes == ["warn", "default"]


def test_a_table_tells_why_each_case_of_a_part_failed(tmp_path):
    from _gpu.tables import tables

    cases = {
        "good": {"passed": True, "seconds": 1.0, "distance": [0.1, 0.2]},
        "far": {"passed": False, "seconds": 1.0, "distance": [0.5, 0.2], "loss": [0.0, 0.1]},
        "lost": {"passed": False, "seconds": 1.0, "distance": [float("nan"), 0.2]},
        "broken": {"passed": False, "seconds": 1.0, "error": "ValueError: no", "trace": "..."},
    }
    machine = {"gpu": None, "cores": 2, "processor": "p", "torch": "2", "python": "3"}
    record = {"error": "exit code 1", "partial": {"machine": machine, "cases": cases}}
    (tmp_path / "nets.failed.json").write_text(json.dumps(record))
    *_, said = tables(tmp_path).partition("## Not done\n\n")
    assert said.splitlines() == [
        "- nets: exit code 1",
        "  - far: distance 0.5, at most 0.2",
        "  - lost: distance nan, at most 0.2",
        "  - broken: ValueError: no",
    ]

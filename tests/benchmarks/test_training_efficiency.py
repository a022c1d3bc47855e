"""The benchmark of a step's phases: a row for each method, which trains what that method trains."""

import json
from pathlib import Path

import pytest
import torch

from offramp import open_data

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORDS = ["--width=4", "--batches=16", "--betas=0.5", "--iterations=4", "--turn=2", "--release-memory"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for setting in ("deterministic", "benchmark"):
        monkeypatch.setattr(torch.backends.cudnn, setting, getattr(torch.backends.cudnn, setting))
    import training_efficiency

    return training_efficiency


def test_joint_training_byot_and_dfs_have_a_row_of_all_phases(benchmark, tmp_path):
    benchmark.main([*WORDS, f"--out={tmp_path / 'found.json'}"])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [(row["method"], row["beta"]) for row in rows] == [("joint", None), ("byot", None), ("dfs", 0.5)]
    for row in rows:
        assert row["iterations"] == 3  # the first is discarded
        seconds = [row[phase] for phase in benchmark.PHASES]
        assert min(seconds) > 0
        assert row["fps"] == pytest.approx(row["batch"] / sum(seconds))
        assert row["fps_over_joint"] == pytest.approx(row["fps"] / rows[0]["fps"])


def test_each_method_trains_what_is_its_own(benchmark):
    """BYOT its layers beside the net; DFS the heads as joint training does, and the stages otherwise."""
    args, data = benchmark.parsed(WORDS), open_data("digits")
    methods = [("joint", None), ("byot", None), ("dfs", 0.5)]
    timers = [benchmark.timer(args, data, 16, *each) for each in methods]
    for timer in timers:
        timer.step()
    joint, byot, dfs = (timer.bound for timer in timers)
    layers = [*byot.parameters()]
    assert len(layers) == 10  # weight and bias of the layers of five exits
    assert all(p.grad.any() for p in layers)
    assert not [*joint.parameters(), *dfs.parameters()]
    # the first step starts from the same weights and images
    for ours, theirs in zip(joint.net.heads.parameters(), dfs.net.heads.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    first = [next(bound.net.stages.parameters()).grad for bound in (joint, dfs)]
    assert not torch.allclose(*first)

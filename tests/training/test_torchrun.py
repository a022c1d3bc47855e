"""Two processes that share every batch train as one does."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import run_by_torchrun
from safetensors.torch import load_file
from tiny_dense import dense_data, dense_net
from tiny_runs import for_method, rows, tiny_data, tiny_net
from torchrun_job import (
    ACCUMULATED,
    DECODERS,
    DENSE,
    LONG,
    METHODS,
    ONCE,
    PARTIAL,
    RECIPE,
    SHORT,
    SHORT_OF_MEMORY,
    STOPPED,
)
from two_targets import on_one_rank, two_decoders, two_heads, two_targets

from offramp import Run, fit

JOB = Path(__file__).with_name("torchrun_job.py")


@pytest.fixture(scope="module")
def out(made_once):
    return made_once("torchrun", lambda out: (out / "stderr").write_text(run_by_torchrun(JOB, out)))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(out, tmp_path, method):
    assert_as_one(out / method, method, for_method(RECIPE, method), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("method", ACCUMULATED)
def test_two_processes_that_cut_their_halves_train_as_one_with_whole_batches(out, tmp_path, method):
    assert_as_one(out / f"accumulated-{method}", method, RECIPE, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("method", SHORT_OF_MEMORY)
def test_two_processes_of_which_one_is_short_of_memory_agree_on_micro_batches(out, tmp_path, method):
    """They train as one process does with whole batches, to rounding."""
    net = tiny_net(norm=False, dropout=0.0)
    fit(net, tiny_data(), method, ONCE, tmp_path / "run", quiet=True)
    folder = out / f"short-{method}"
    shared = load_file(folder / "weights.safetensors")
    torch.testing.assert_close(shared, dict(net.state_dict()), rtol=1e-4, atol=1e-6)
    assert json.loads((folder / "result.json").read_text())["micro_batches"] == 2
    assert "out of memory with 4 samples at a time" in (out / "stderr").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", DECODERS)
def test_two_processes_train_a_trunk_with_two_decoders_as_one(out, tmp_path, method):
    data = two_targets(lack=0.3)
    assert_as_one(out / f"decoders-{method}", method, RECIPE, tmp_path / "run", two_decoders, data)


def assert_as_one(folder, method, recipe, alone, build=None, data=None):
    """A run of two processes is what one process makes of it."""
    build, data = build or partial(tiny_net, norm=False, dropout=0.0), data or tiny_data()
    net = build()
    run = fit(net, data, method, recipe, alone, quiet=True)
    shared = load_file(folder / "weights.safetensors")
    torch.testing.assert_close(shared, dict(net.state_dict()), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(rows(alone), rows(folder), strict=True):
        for key, value in ours.items():
            assert float(theirs[key]) == pytest.approx(float(value), rel=1e-4), key
    shared, result = (flat(asdict(each)) for each in (Run.open(folder, build()).result, run.result))
    assert shared.keys() == result.keys()
    for path, value in result.items():
        assert shared[path] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), path


def flat(value, path=""):
    """What a nested value holds, by the path to it."""
    if not isinstance(value, (dict, list, tuple)):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {at: each for key, held in items for at, each in flat(held, f"{path}/{key}").items()}


@pytest.mark.slow
def test_two_processes_measure_maps_as_one(out, tmp_path):
    """Pairs of images stay in one process, and both measure the weights that one of them has kept."""
    run = fit(dense_net(plain=True), dense_data(), "pcgrad", DENSE, tmp_path / "run", quiet=True)
    shared = Run.open(out / "dense", dense_net(plain=True)).result
    assert shared.last_epochs.epochs == run.result.last_epochs.epochs == (2, 3)
    for name, output in run.result.outputs.items():
        assert shared.outputs[name].metrics == pytest.approx(output.metrics, rel=1e-3), name
        last = run.result.last_epochs.metrics.outputs[name]
        assert shared.last_epochs.metrics.outputs[name] == pytest.approx(last, rel=1e-3), name
    assert not (out / "dense" / "last_epochs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", PARTIAL)
def test_targets_on_one_rank_train_as_in_one_process(out, tmp_path, method):
    """One process never sees a box, and both a batch without any; they know it of each other."""
    folder, net = out / f"partial-{method}", two_heads()
    run = fit(net, on_one_rank(8), method, ONCE, tmp_path / "run", quiet=True)
    torch.testing.assert_close(
        load_file(folder / "weights.safetensors"), dict(net.state_dict()), rtol=1e-4, atol=1e-6
    )
    for ours, theirs in zip(rows(tmp_path / "run"), rows(folder), strict=True):
        for key, value in ours.items():
            assert float(theirs[key]) == pytest.approx(float(value), rel=1e-4), key
    again = Run.open(folder, two_heads()).result.outputs
    assert again["box"].value == pytest.approx(run.result.outputs["box"].value, abs=1e-3)


@pytest.mark.slow
def test_two_processes_extend_a_run_as_one(out, tmp_path):
    assert_as_one(out / "extended", "dfs", LONG, tmp_path / "long")
    assert_as_one(out / "extended" / "epochs-2", "dfs", SHORT, tmp_path / "short")


@pytest.mark.slow
@pytest.mark.parametrize("method", STOPPED)
def test_a_signal_to_one_stops_both_and_the_run_resumes_bit_for_bit(out, method):
    assert [(out / f"stopped-{method}-{rank}").read_text() for rank in (0, 1)] == ["15", "15"]
    folders = [out / f"{name}-{method}" for name in ("alone", "stopped")]
    assert rows(folders[0]) == rows(folders[1])
    alone, stopped = (load_file(folder / "weights.safetensors") for folder in folders)
    torch.testing.assert_close(stopped, alone, rtol=0, atol=0)


@pytest.mark.slow
def test_a_head_that_no_loss_reaches_is_one_line(out):
    for rank in (0, 1):
        line = (out / f"unreached-{rank}").read_text()
        assert line.startswith("no loss reaches ['heads.0.3.weight', 'heads.0.3.bias'], for whose gradients")
        assert "train in one process" in line
    assert not (out / "unreached").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "says"), [("locked", "has a writer: process"), ("begun", "has begun a run in")]
)
def test_all_processes_hear_that_the_folder_has_another_writer(out, case, says):
    lines = [(out / f"{case}-{rank}").read_text() for rank in (0, 1)]
    assert all(says in line for line in lines)


@pytest.mark.slow
def test_only_one_process_reports(out):
    assert (out / "stderr").read_text().count("epoch 1/3") == 1

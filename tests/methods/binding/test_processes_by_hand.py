"""Two processes with half of each batch take the steps of one with all of it, wrapped for it or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from binding_cases import assert_same
from processes_by_hand import LACKING, NAMES, PRESENT, gradients, joined_batch, trained

JOB = Path(__file__).with_name("processes_by_hand.py")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("processes")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launcher, JOB, out], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "byot"])
def test_several_processes_compute_what_one_does(out, name, wrapped):
    expected = trained(name, wrapped=False)
    for rank in range(2):
        found = torch.load(out / f"{name}-{wrapped}-{rank}.pt", weights_only=True)
        assert_same(found, expected, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_several_processes_stay_equal(out, wrapped):
    """Self-distillation compares norms over the batch of each process, so that one process differs."""
    one, other = (torch.load(out / f"byot-{wrapped}-{rank}.pt", weights_only=True) for rank in range(2))
    assert_same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", LACKING)
def test_processes_whose_batches_lack_other_targets_compute_what_one_does_with_all_samples(out, name, cut):
    """Batches of other sizes, labels that lack and classes that count differently; a step has no target."""
    expected = gradients(name, map(joined_batch, range(len(PRESENT))), cut=False)
    assert all(gradient is None for gradient in expected[2])
    for rank in range(2):
        found = torch.load(out / f"{name}-cut-{cut}-{rank}.pt", weights_only=True)
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(mine, theirs, 1e-9)

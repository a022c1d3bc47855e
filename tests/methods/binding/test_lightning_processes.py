"""Under Lightning's data parallelism two processes take the steps of one with whole batches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from binding_cases import assert_same
from lightning_processes import NAMES, trained

JOB = Path(__file__).with_name("lightning_processes.py")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_of_lightning_train_as_one(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, JOB, tmp_path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        expected = trained(lightning, name, rank=0, world=1)
        for rank in range(2):
            assert_same(torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True), expected, 1e-9)

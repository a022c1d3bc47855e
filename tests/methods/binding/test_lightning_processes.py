"""Under Lightning's data parallelism two processes take the steps of one with whole batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from binding_cases import assert_same
from lightning_processes import NAMES, trained
from processes import run_in_processes

JOB = Path(__file__).with_name("lightning_processes.py")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_of_lightning_train_as_one(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning")
    run_in_processes(JOB, tmp_path)
    for name in NAMES:
        expected = trained(lightning, name, rank=0, world=1)
        for rank in range(2):
            assert_same(torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True), expected, 1e-9)

"""Under Lightning's data parallelism two processes take the steps of one with whole batches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from binding_cases import assert_same
from lightning_processes import NAMES, trained
from processes import QUICK_START, run_by_torchrun

JOB = Path(__file__).with_name("lightning_processes.py")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_of_lightning_train_as_one(tmp_path, monkeypatch):
    lightning = pytest.importorskip("pytorch_lightning")
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(p for p in paths if p != QUICK_START)
    )  # it needs torchmetrics
    run_by_torchrun(JOB, tmp_path)
    for name in NAMES:
        expected = trained(lightning, name, rank=0, world=1)
        for rank in range(2):
            assert_same(torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True), expected, 1e-9)

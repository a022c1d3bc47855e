"""Stages shared out over processes, and a fusion whose batches are shared: what one process computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from context_cases import bench, run_epoch, tiny_net
from processes import run_in_processes
from processes_job import METHODS

JOB = Path(__file__).with_name("processes_job.py")
COUNTS = (2, 3)  # three stages: one each and one together, or one each


@pytest.fixture(scope="module", params=COUNTS)
def out(request, made_once):
    return made_once(f"loops-of-{request.param}", lambda out: run_in_processes(JOB, out, request.param))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_several_processes_compute_what_one_does(out, name):
    net = tiny_net()
    work = bench(net, name)
    for epoch in range(2):
        run_epoch(work, epoch, 4)
    shared = torch.load(out / f"{name}.pt", weights_only=True)
    torch.testing.assert_close(shared, dict(net.state_dict()), rtol=0, atol=1e-9)

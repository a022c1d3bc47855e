"""Sweeps on a local Ray of two nodes, which are lost while they train."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
import yaml
from safetensors.torch import load_file

from offramp.cli import main
from offramp.sweeps._trials import trials
from offramp.sweeps.file import read_sweep

EPOCHS = 12
PLAN = {
    "data": "digits", "net": "vgg7:width=4", "seeds": [0], "methods": ["joint", "dfs"], "epochs": EPOCHS,
    "batch_size": 16, "train_limit": 160, "test_limit": 50,
}  # fmt: skip
PATIENCE = 250  # seconds, for a machine that is busy with other tests
MEMORY = 80_000_000  # bytes that a node's object store has, near the least


def write(folder, **changes):
    """A sweep into the folder ``out`` beside its file."""
    folder.mkdir(exist_ok=True)
    (folder / "sweep.yaml").write_text(yaml.safe_dump({**PLAN, "out": str(folder / "out"), **changes}))
    return folder / "sweep.yaml"


@pytest.fixture(scope="module")
def cluster():
    """Two nodes with room for one run each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    yield cluster
    cluster.shutdown()


@contextmanager
def started(path, *words):
    """A sweep that has begun; it is dead in the end, also where the test fails."""
    words = [sys.executable, "-m", "offramp", "sweep", path, *words]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition, process):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def log(folder, method):
    path = folder / "out" / "logs" / f"{method}-seed-0.log"
    return path.read_text() if path.exists() else ""


def trainers(folder):
    """Process -> its parent, the Ray worker, of the trainings below a folder."""
    listed = subprocess.run(
        ["ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines() if "sweeps._leashed" in line]
    return {int(pid): int(parent) for pid, parent, words in rows if str(folder) in words}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_node_is_lost_goes_on_at_another_and_ends_the_same(cluster, tmp_path):
    with started(write(tmp_path), "--ray", cluster.address, "--json") as process:
        wait_for(lambda: all("epoch 3/" in log(tmp_path, method) for method in ("joint", "dfs")), process)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out)["failed"] == []
    assert "on a Ray cluster with nodes: 2; for each run CPUs: 1, GPUs: 0, threads: 1" in err
    assert len([line for line in err.splitlines() if line.endswith("goes on from its last checkpoint")]) == 1
    began = [log(tmp_path, method).count(f"epoch 1/{EPOCHS} ") for method in ("joint", "dfs")]
    assert began == [1, 1]  # neither began anew

    plan = read_sweep(write(tmp_path / "local"))
    for run in trials(plan, [1]):
        assert main(run.job(plan).words[3:]) == 0
        here, there = (
            load_file(folder / run.name / "weights.safetensors") for folder in (plan.out, tmp_path / "out")
        )
        assert all(torch.equal(here[name], tensor) for name, tensor in there.items())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_worker_takes_its_training_along_and_ctrl_c_stops_at_a_checkpoint(cluster, tmp_path):
    with started(write(tmp_path, methods=["joint"], epochs=500), "--ray", cluster.address) as process:
        wait_for(lambda: "epoch 2/" in log(tmp_path, "joint"), process)
        ((trainer, worker),) = trainers(tmp_path).items()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: trainer not in trainers(tmp_path), process)
        before = log(tmp_path, "joint").count("\n")
        wait_for(lambda: "epoch " in "".join(log(tmp_path, "joint").splitlines()[before:]), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    told = [line for line in err.splitlines() if line.startswith("joint/seed-0: ")]
    assert told[0].startswith("joint/seed-0: its worker was lost: ")
    assert told[0].endswith("it goes on from its last checkpoint")
    assert err.splitlines()[-2] == "stopping the runs at their next checkpoint; Ctrl-C again kills"
    assert err.splitlines()[-1].startswith("offramp sweep: stopped by SIGINT; 0 of 1 runs are finished")
    assert log(tmp_path, "joint").splitlines()[-1].startswith("offramp train: stopped by SIGTERM")
    assert log(tmp_path, "joint").count("epoch 1/500 ") == 1  # nothing was done twice
    assert list((tmp_path / "out" / "joint" / "seed-0" / "checkpoint").iterdir())
    assert not trainers(tmp_path)

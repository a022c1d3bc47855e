"""Several processes of a test's own, started by torchrun, or forked as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

TESTS = Path(__file__).parent
QUICK_START = str(TESTS / "quick_start")  # on the path of processes that tests start
PATIENCE = 240  # seconds, for a machine that is busy with other tests


def fork_server() -> ForkServerContext:
    """The server that forks processes which have torch and Fabric imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["lightning_fabric", "tensorboard.summary.writer.record_writer", "offramp.training"]
    )
    return context


def run_in_processes(job: Path, out: Path, count: int = 2) -> None:
    """Run ``job OUT`` in several processes that find one another as those of torchrun do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(rank) for rank in range(count)]
        processes = [
            fork_server().Process(target=_run, args=(job, out, log, rank, count, port))
            for rank, log in enumerate(logs)
        ]
        for process in processes:
            process.start()
        until = time.monotonic() + PATIENCE
        while any(process.is_alive() for process in processes):
            if any(process.exitcode for process in processes) or time.monotonic() > until:
                for process in processes:
                    process.kill()
            processes[0].join(0.05)
        told = "\n".join(log.read_text() for log in logs if log.exists())
        assert [process.exitcode for process in processes] == [0] * count, told


def _run(job: Path, out: Path, log: Path, rank: int, count: int, port: int) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    places = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "GROUP_RANK": 0,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
    }
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
    os.environ |= {name: str(value) for name, value in (places | address).items()}
    sys.argv = [str(job), str(out)]
    sys.path.insert(0, str(job.parent))
    runpy.run_path(str(job), run_name="__main__")


def run_by_torchrun(job: Path, out: Path, count: int = 2) -> str:
    """Run ``job OUT`` by torchrun itself, which takes longer to start; what the processes said on stderr."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    done = subprocess.run(
        [*launcher, job, out],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr

"""Jobs on a Ray cluster: each on one of its workers, and once more where a worker is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from offramp.errors import UserError, shown
from offramp.say import say
from offramp.sweeps import _ray_worker
from offramp.sweeps._jobs import LOOK_EVERY, Job, JobResult
from offramp.training.interrupt import Interruption, catch_signals

__all__ = ["Share", "import_ray", "run_on_ray"]

CONNECT_PATIENCE = 10.0  # seconds
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # how a gRPC client begins
SETTINGS = b"\x04"  # the kind of frame with which a gRPC server does
LOCK_PATIENCE = 120.0  # seconds: NFS gives back what a lost machine had locked after 90 of them


@dataclass(frozen=True)
class Share:
    """What a run has of its node.

    Attributes:
        cpus: CPUs, as Ray counts them.
        gpus: GPUs; None: one if the cluster has any. A run sees no others.
        threads: With how many torch computes.
    """

    cpus: float
    gpus: float | None
    threads: int


def import_ray() -> ModuleType:
    """The package ``ray``.

    Raises:
        UserError: It is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("a sweep on Ray needs ray: pip install 'offramp[ray]'") from error
    return ray


def run_on_ray(
    jobs: Sequence[Job],
    address: str,
    share: Share,
    *,
    lock: Path,
    on_end: Callable[[JobResult], None],
    tell: Callable[[str], None],
) -> None:
    """Run all jobs, as many at a time as the cluster has room for.

    One whose worker is lost starts once more, on whichever node has room; if that one is lost too, it has
    failed. At the first SIGINT, SIGTERM or SIGHUP no more jobs start and the running ones get a SIGTERM; a
    second Ctrl-C kills them. They end with this process, however it ends.

    Args:
        jobs: What to run: commands of offramp, named as their folders within the sweep's.
        address: Of the cluster; empty: the one that ``RAY_ADDRESS`` names or that runs here, or a new one.
        share: What each has of its node.
        lock: The file that locks the sweep's folder, which every node must see.
        on_end: Called for each job that ended, but for those that a signal to this process ended.
        tell: Says a line to the user.

    Raises:
        UserError: No cluster can be reached.
        Interruption: A signal came, and no job is running any more.
    """
    ray = import_ray()
    with catch_signals() as signals, _cluster(ray, address):
        start = _starter(ray, share, lock, tell)
        running = {start(job, 0.0): job for job in jobs}
        lost: set[str] = set()
        try:
            while running and not signals.received:
                for ended in ray.wait([*running], timeout=LOOK_EVERY)[0]:
                    job = running.pop(ended)
                    try:
                        on_end(_result(ray, ended, job))
                    except _WorkerLost as loss:
                        if job.name in lost:
                            reason = f"its worker was lost twice: {loss}"
                            on_end(JobResult(job, -signal.SIGKILL, 0.0, reason))
                            continue
                        lost.add(job.name)
                        tell(f"{job.name}: its worker was lost: {loss}; it goes on from its last checkpoint")
                        running[start(job, LOCK_PATIENCE)] = job
            if running:
                _stop(ray, running, on_end)
        except BaseException:  # a second signal, most often
            for task in running:
                ray.cancel(task, force=True)
            raise
    if signals.received:
        raise Interruption(signals.received, f"stopped by {signal.Signals(signals.received).name}")


@contextlib.contextmanager
def _cluster(ray: ModuleType, address: str) -> Iterator[None]:
    """A connection to the cluster, ended afterwards unless it was there before."""
    if ray.is_initialized():
        yield
        return
    answer = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        where = f" at {shown(address)}" if address else ""
        raise UserError(f"no Ray cluster answers{where}: {why}") from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, answer)  # Ray has set one of its own, which exits at once
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """See that Ray is at the address, if it is a host and a port: Ray itself tries for a quarter of an hour.

    Raises:
        OSError: It is not.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_PATIENCE) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        connection.sendall(HTTP2)
        if connection.recv(9)[3:4] != SETTINGS:
            raise OSError("what answers there is not Ray")


def _starter(
    ray: ModuleType, share: Share, lock: Path, tell: Callable[[str], None]
) -> Callable[[Job, float], Any]:
    """What hands a job to the cluster, to start when its folder is free within so many seconds."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = share.gpus
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0
    each = f"CPUs: {share.cpus:g}, GPUs: {gpus:g}"
    tell(f"on a Ray cluster with nodes: {len(nodes)}; for each run {each}, threads: {share.threads}")
    if not any(node.get("CPU", 0) >= share.cpus and node.get("GPU", 0) >= gpus for node in nodes):
        tell(f"no node has {each}; the runs wait until one comes, and Ctrl-C ends the waiting")
    ray.cloudpickle.register_pickle_by_value(_ray_worker)
    task = ray.remote(num_cpus=share.cpus, num_gpus=gpus, max_retries=0)(_ray_worker.run_here)
    mark = lock.read_bytes()

    def start(job: Job, patience: float) -> Any:
        folder = lock.parent / job.name
        words = ["-m", "offramp.sweeps._leashed", str(folder), str(patience), *job.words[3:]]
        paths = (str(Path.cwd()), str(job.log.absolute()))
        return task.options(name=job.name).remote(words, *paths, share.threads, str(lock.absolute()), mark)

    return start


def _result(ray: ModuleType, task: Any, job: Job) -> JobResult:
    """How a job has ended.

    Raises:
        _WorkerLost: It has not, as its worker, or the whole node, is gone.
    """
    try:
        return JobResult(job, *ray.get(task))
    except ray.exceptions.RayTaskError as error:  # raised by what the worker does
        return JobResult(job, 1, 0.0, str(error).strip().split("\n")[-1])
    except ray.exceptions.RayError as error:
        raise _WorkerLost(str(error).strip().split("\n")[0]) from None


class _WorkerLost(Exception):
    """The worker of a job is gone; says why, in a line of Ray's."""


def _stop(ray: ModuleType, running: dict[Any, Job], on_end: Callable[[JobResult], None]) -> None:
    say("stopping the runs at their next checkpoint; Ctrl-C again kills")
    for task in running:
        ray.cancel(task)
    while running:
        for ended in ray.wait([*running], timeout=LOOK_EVERY)[0]:
            job = running.pop(ended)
            with contextlib.suppress(_WorkerLost):
                result = _result(ray, ended, job)
                if result.code == 0:  # it was about to end anyway
                    on_end(result)

"""Commands run side by side, each a process of its own, stopped in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from offramp.errors import UserError
from offramp.runs.files import disk_errors
from offramp.say import say
from offramp.signals import STOP_SIGNALS
from offramp.training.interrupt import Interruption, catch_signals

__all__ = ["Job", "JobResult", "run_jobs"]

LOOK_EVERY = 0.1  # seconds


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        name: Its name in messages.
        words: Program and arguments.
        log: File to which it writes what it has to say, after what an earlier attempt wrote.
    """

    name: str
    words: Sequence[str]
    log: Path


@dataclass(frozen=True)
class JobResult:
    """Outcome of a job that ran to its end, or died.

    Attributes:
        job: The job.
        code: Its exit code; -n if signal n killed it.
        seconds: How long it took.
        reason: Why it failed, where that is not the last line of its log.
    """

    job: Job
    code: int
    seconds: float
    reason: str | None = None

    @property
    def last_line(self) -> str:
        """The last line of its log, which says why it failed."""
        try:
            lines = self.job.log.read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:  # somebody has moved it
            return "what it said is no longer there"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def run_jobs(
    jobs: Sequence[Job],
    at_once: int,
    *,
    threads: int = 1,
    on_end: Callable[[JobResult], None],
    inherit: Sequence[int] = (),
) -> None:
    """Run all jobs, in their order, so many at a time; one that fails does not keep the others from running.

    One whose log cannot be written has failed without having run.

    At the first SIGINT, SIGTERM or SIGHUP no more jobs start and the running ones get a SIGTERM, which a
    training run answers with a checkpoint; a second Ctrl-C kills them. Each is a session of its own, so that
    a terminal's Ctrl-C reaches this process only.

    Args:
        jobs: What to run.
        at_once: How many at a time.
        threads: With how many torch computes in each.
        on_end: Called for each job that ended, but for those that a signal to this process ended.
        inherit: File descriptors that the jobs keep open.

    Raises:
        Interruption: A signal came, and no job is running any more.
    """
    waiting = deque(jobs)
    running: dict[subprocess.Popen[bytes], tuple[Job, float]] = {}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with catch_signals() as signals:
        try:
            try:
                while (waiting or running) and not signals.received:
                    while waiting and len(running) < at_once and not signals.received:
                        job = waiting.popleft()
                        try:
                            running[_start(job, environment, inherit)] = (job, time.monotonic())
                        except UserError as error:
                            on_end(JobResult(job, 2, 0.0, str(error)))
                    time.sleep(LOOK_EVERY)
                    for process in [process for process in running if process.poll() is not None]:
                        job, began = running.pop(process)
                        if not (signals.received and _by_signal(process.returncode)):
                            on_end(JobResult(job, process.returncode, time.monotonic() - began))
            finally:
                _stop(running)
        except BaseException:  # a second signal, most often
            for process in running:
                process.kill()
            for process in running:
                process.wait()
            raise
    if signals.received:
        raise Interruption(signals.received, f"stopped by {signal.Signals(signals.received).name}")


def _by_signal(code: int) -> bool:
    """Whether a job ended by a signal that asks it to stop, as one to all processes of the sweep does."""
    return code in {code for signum in STOP_SIGNALS for code in (-signum, 128 + signum)}


def _start(job: Job, environment: dict[str, str], inherit: Sequence[int]) -> subprocess.Popen[bytes]:
    with disk_errors(job.log, "start the sweep again"):
        log = job.log.open("ab")
    with log:
        return subprocess.Popen(
            job.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=tuple(inherit),
            start_new_session=True,
        )


def _stop(running: dict[subprocess.Popen[bytes], tuple[Job, float]]) -> None:
    if running:
        names = ", ".join(job.name for job, _ in running.values())
        say(f"stopping {names} at the next checkpoint; Ctrl-C again kills")
    for process in running:
        process.terminate()
    for process in running:
        process.wait()

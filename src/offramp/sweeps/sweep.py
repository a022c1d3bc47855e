"""A sweep: methods x seeds x learning rates under one recipe, several runs at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from offramp.checks import count_of, of_kind
from offramp.cores import cores
from offramp.errors import UserError
from offramp.runs.files import ANEW, disk_errors
from offramp.runs.lock import Lock
from offramp.say import say
from offramp.sweeps._jobs import JobResult, run_jobs
from offramp.sweeps._ray_jobs import Share, import_ray, run_on_ray
from offramp.sweeps._threads import settled_threads
from offramp.sweeps._trials import check_trials, trials
from offramp.sweeps.file import Sweep
from offramp.training.interrupt import Interruption

__all__ = ["Failure", "SweepResult", "sweep"]


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        name: Name of the run.
        reason: One line.
        log: File with all that it said.
        users: Whether it was the user's mistake, or the machine's limit, and not a fault of offramp's.
    """

    name: str
    reason: str
    log: Path
    users: bool


@dataclass(frozen=True)
class SweepResult:
    """Outcome of a sweep: its finished and its failed runs.

    Attributes:
        finished: Folders of the finished runs, also of earlier attempts.
        failures: The other runs.
        folders: Label of each entry -> those of its runs that are finished.
    """

    finished: tuple[Path, ...]
    failures: tuple[Failure, ...]
    folders: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def error(self) -> Exception | None:
        """What to raise for the failures, if there are any: a UserError if none is a fault of offramp's."""
        if not self.failures:
            return None
        failure, runs = self.failures[0], len(self.failures) + len(self.finished)
        names = ", ".join(failed.name for failed in self.failures)
        text = f"{len(self.failures)} of {runs} runs failed: {names}; {failure.name}: {failure.reason}"
        repeated = all(ANEW in failed.reason for failed in self.failures)  # the same settings end there again
        again = "would end there again" if repeated else "tries again what failed"
        text += f" (log: {failure.log}); the same command {again}"
        return UserError(text) if all(failed.users for failed in self.failures) else RuntimeError(text)


def sweep(
    plan: Sweep,
    *,
    jobs: int | None = None,
    ray: str | None = None,
    factors: Sequence[Fraction] = (Fraction(1),),
    quiet: bool = False,
) -> SweepResult:
    """Train every method with every seed, and with every factor of the learning rate.

    Finished runs are not run again, interrupted ones go on from their last checkpoint, and where there are
    more epochs now, runs are extended as :func:`offramp.fit` does. Everything is checked before the first run
    starts. :func:`offramp.reports.compare` makes a table of the runs; with
    ``pick_lr=True`` it picks each method's learning rate.

    Args:
        plan: From :func:`offramp.sweeps.file.read_sweep`.
        jobs: Number of runs at a time, each a process of its own with ``plan.threads`` threads: the weights
            do not depend on it. None: 1, or on a Ray cluster as many as it has room for.
        ray: Address of a Ray cluster that runs them, each with ``plan.cpus`` and ``plan.gpus``; empty: the
            one that ``RAY_ADDRESS`` names or that runs here, or one that is started for the purpose. All its
            nodes must see the current folder and ``plan.out`` under the same paths. None: this machine.
        factors: Of the learning rate.
        quiet: Say nothing while it runs.

    Raises:
        UserError: A mistake that is found before the first run starts.
        Interruption: SIGINT, SIGTERM or SIGHUP came, and the runs were stopped; the same sweep goes on.
    """
    of_kind("plan", plan, Sweep, "a Sweep, which offramp.sweeps.read_sweep gives")
    _check_place(jobs, ray)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("a sweep starts its own processes; start it without torchrun")
    runs = trials(plan, factors)
    check_trials(plan, runs)
    failures: list[Failure] = []
    unfinished = [run for run in runs if not run.finished]
    done = len(runs) - len(unfinished)

    def tell(text: str) -> None:
        if not quiet:
            say(text)

    def on_end(result: JobResult) -> None:
        nonlocal done
        if result.code == 0:
            done += 1
            tell(f"{result.job.name}: {result.seconds:.0f} s; {done} of {len(runs)} runs are finished")
        else:
            failures.append(_failure(result))
            tell(f"{result.job.name}: failed: {failures[-1].reason}")

    with disk_errors(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    with Lock(plan.out) as lock:  # which the runs of a sweep that is killed hold as long as they go on
        threads = settled_threads(plan.out, plan.threads)
        here = f"; {jobs or 1} at a time, threads for each: {threads} (this machine has cores: {cores()})"
        tell(f"{len(runs)} runs, {done} finished{here if ray is None else ''}")
        with disk_errors(plan.out / "logs"):
            (plan.out / "logs").mkdir(exist_ok=True)
        try:
            commands = [run.job(plan) for run in unfinished]
            if ray is None:
                run_jobs(commands, jobs or 1, threads=threads, on_end=on_end, inherit=lock.share())
            elif commands:
                share = Share(threads if plan.cpus is None else plan.cpus, plan.gpus, threads)
                run_on_ray(commands, ray, share, lock=lock.path, on_end=on_end, tell=tell)
        except Interruption as stop:
            raise Interruption(
                stop.signum, f"{stop}; {done} of {len(runs)} runs are finished; the same command goes on"
            ) from None
    finished = [run for run in runs if run.finished]
    folders = {
        entry.label: tuple(run.folder for run in finished if run.entry is entry) for entry in plan.entries
    }
    return SweepResult(tuple(run.folder for run in finished), tuple(failures), folders)


def _check_place(jobs: int | None, ray: str | None) -> None:
    """Check what says where the runs are to be, and how many at a time.

    Raises:
        UserError: It is none, or both a number and a cluster are given, or ray is not installed.
    """
    if jobs is not None:
        count_of("jobs", jobs)
    if ray is None:
        return
    of_kind("ray", ray, str, "a cluster's address, e.g. 'ray://head:10001', or empty")
    if jobs is not None:
        raise UserError(
            "jobs is for this machine; on a Ray cluster cpus and gpus decide how many runs fit at a time, so "
            "leave jobs out"
        )
    import_ray()


def _failure(result: JobResult) -> Failure:
    if result.reason is not None:
        reason = result.reason
    elif result.code < 0:
        name = signal.Signals(-result.code).name
        reason = f"killed by {name}; if memory ran out, run fewer at a time"
    else:
        reason = result.last_line.removeprefix("offramp train: ")
    return Failure(
        result.job.name, reason, result.job.log, users=result.code == 2 or not 0 <= result.code <= 128
    )

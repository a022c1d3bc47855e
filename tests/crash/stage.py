"""Where runs of one subject are attacked: its undisturbed run, folders for others, and random moments."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from pathlib import Path
from random import Random

from tests.crash.comparing import difference
from tests.crash.processes import Process, start
from tests.crash.subjects import Subject

__all__ = ["Missed", "Stage"]


class Missed(Exception):
    """The run had ended before the attack came; nothing was tried."""


class Stage:
    """A subject with its undisturbed run.

    Args:
        subject: What is trained.
        folder: For the runs.
        draw: Where the moments come from.

    Attributes:
        reference: Folder of the undisturbed run.
        starting: Seconds from the start of its interpreter to the run's record.
        training: Seconds from the record to the end.
    """

    def __init__(self, subject: Subject, folder: Path, draw: Random) -> None:
        self.subject, self.folder, self.draw = subject, folder, draw
        self._numbers = itertools.count()
        self.reference = folder / "reference"
        folder.mkdir(parents=True)
        begun = time.monotonic()
        process = self.train(self.reference, fresh=True)
        self.await_record(process, self.reference)
        recorded = time.monotonic()
        _completed(process)
        self.starting, self.training = recorded - begun, time.monotonic() - recorded

    def new(self) -> Path:
        """A folder for another run."""
        return self.folder / f"run-{next(self._numbers)}"

    def train(self, run: Path, *more: str, fresh: bool = False) -> Process:
        """Begin the training, or go on with it."""
        log = self.folder / f"{run.name}-{next(self._numbers)}.log"
        return start([*self.subject.words, "--resume", *more, "--out", str(run)], log, fresh=fresh)

    def await_record(self, process: Process, run: Path) -> None:
        """Wait until a run has its record."""
        while not (run / "run.json").exists() and process.code is None:
            time.sleep(0.002)

    def await_moment(self, process: Process, run: Path) -> None:
        """Wait until a random moment of the training.

        Raises:
            Missed: The process has ended before.
        """
        self.await_record(process, run)
        time.sleep(self.draw.uniform(0, self.training))
        if process.code is not None:
            process.ended()
            raise Missed

    def wrong_at_the_end(self, run: Path) -> str | None:
        """Let a run go on to its end, and say what is wrong then."""
        ended = self.train(run).ended()
        return f"does not go on: {ended}" if ended.code else difference(run, self.reference)

    def of_seed_1(self) -> Path:
        """The undisturbed run of another seed, trained once."""
        run = self.folder / "reference-of-seed-1"
        if not run.exists():
            _completed(self.train(run, "--seed", "1"))
        return run

    def stopped(self) -> Path:
        """A run that was stopped in the midst of its training, once."""
        run = self.folder / "stopped"
        while not (run / "checkpoint").exists() or (run / "result.json").exists():
            shutil.rmtree(run, ignore_errors=True)
            process = self.train(run)
            self.await_record(process, run)
            time.sleep(self.training / 3)
            if process.code is None:
                os.kill(process.pid, signal.SIGTERM)
            process.ended()
        return run


def _completed(process: Process) -> None:
    """An undisturbed training must end well, else there is nothing to compare with."""
    ended = process.ended()
    if ended.code:
        raise RuntimeError(f"an undisturbed training ended otherwise: {ended}")

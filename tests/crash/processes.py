"""Commands in processes of their own session, to be killed there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Ended", "Process", "start"]

PATIENCE = 300  # seconds that a process may take; a tiny training takes two
# what a training imports; a forked process has it already
IMPORTED = (
    "offramp.cli._train", "offramp.cli._evaluate", "offramp.training", "offramp.reports",
    "offramp.data.rooms", "lightning_fabric", "tensorboard.summary.writer.record_writer",
    "PIL.Image", "torch.utils.data",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Its exit code, negative after a signal.
        told: All that it printed to stderr.
    """

    code: int
    told: str

    @property
    def clean(self) -> bool:
        """Whether it ended as a program should, with no more than a line to say."""
        return "Traceback" not in self.told and "internal error" not in self.told

    def __str__(self) -> str:
        """The exit code, and the last line of what it printed."""
        return f"exit code {self.code}: {self.told.strip().rpartition(chr(10))[2][:300]}"


class Process:
    """A process, the leader of its group, whose stderr goes to a file."""

    def __init__(self, pid: int, log: Path, wait: Callable[[], int | None]) -> None:
        self.pid, self._log, self._wait = pid, log, wait

    @property
    def code(self) -> int | None:
        """Its exit code, negative after a signal; None while it runs."""
        return self._wait()

    def ended(self) -> Ended:
        """Wait for its end.

        Raises:
            TimeoutError: It does not end; it is killed.
        """
        until = time.monotonic() + PATIENCE
        while (code := self.code) is None:
            if time.monotonic() > until:
                os.killpg(self.pid, 9)
                raise TimeoutError(f"still running after {PATIENCE} s; its stderr is in {self._log}")
            time.sleep(0.005)
        return Ended(code, self._log.read_text(errors="replace"))


def start(words: Sequence[str], log: Path, *, fresh: bool = False) -> Process:
    """Run an offramp command.

    Args:
        words: What stands after ``offramp``.
        log: File for its stderr.
        fresh: In a new interpreter, which has everything to import; else in a fork of this process.
    """
    if fresh:
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "offramp", *words],
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        return Process(process.pid, log, process.poll)
    for name in IMPORTED:
        __import__(name)
    pid = os.fork()
    if not pid:
        _become(words, log)
    return Process(pid, log, _waiting(pid))


def _become(words: Sequence[str], log: Path) -> None:
    """The forked process from here on: a command, and nothing of its parent's."""
    code = 70
    try:
        os.setsid()
        for file, number in ((os.devnull, 1), (log, 2)):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
        from offramp.cli import main

        code = main(words)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _waiting(pid: int) -> Callable[[], int | None]:
    """A function that asks for the exit code of a forked process."""
    found: list[int] = []

    def wait() -> int | None:
        if not found:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found.append(os.waitstatus_to_exitcode(status))
        return found[0] if found else None

    return wait

"""What a Ray worker does for a sweep: it starts one training, waits for it, and stops it when asked to.

Ray gets the function by value, so that a worker, which only waits, imports neither offramp nor torch.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["run_here"]

LOOK_EVERY = 0.1  # seconds


def run_here(
    words: list[str], cwd: str, log: str, threads: int, lock: str, mark: bytes
) -> tuple[int, float, str | None]:
    """Run Python with these words until it ends; KeyboardInterrupt, Ray's way to cancel, sends it a SIGTERM.

    Its standard input is a pipe that this process holds and nobody writes to: when the worker is gone,
    however that came, the pipe ends, and with it what :mod:`offramp.sweeps._leashed` runs.

    Args:
        words: Arguments of the Python that the worker runs under.
        cwd: Folder to which the paths among them are relative.
        log: File to which it writes what it has to say, after what an earlier attempt wrote.
        threads: With how many torch computes.
        lock: The file that locks the sweep's folder.
        mark: What it holds, which no other folder's does.

    Returns:
        Its exit code (-n if signal n killed it), the seconds that it took, and why it could not start.
    """
    began = time.monotonic()
    out = Path(lock).parent
    if not (Path(lock).is_file() and Path(lock).read_bytes() == mark and Path(cwd).is_dir()):
        missing = cwd if not Path(cwd).is_dir() else out
        return (
            2,
            0.0,
            f"{missing} on {platform.node()} is not the folder that it is where the sweep was started",
        )
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (
        open(log, "ab") as told,
        subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=told,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        try:
            code = _ended(process)
        except KeyboardInterrupt:
            process.terminate()
            code = _ended(process)
    return code, time.monotonic() - began, None


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code, waited for in steps, between which the worker hears of a cancellation."""
    while (code := process.poll()) is None:
        time.sleep(LOOK_EVERY)
    return code
